"""``labelwise serve``: models over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from labelwise.commands.group import verbose
from labelwise.options import CONFIG_READ, EPILOG, with_settings

if TYPE_CHECKING:
    from labelwise.settings import Settings


@click.command(short_help="Serve models over HTTP.", epilog=EPILOG)
@verbose
@with_settings
def serve(settings: Settings) -> None:
    """Serve each MODEL to Hugging Face clients: a folder, ID=FOLDER, or a Hub id."""
    from labelwise.server.run import serve as run  # noqa: PLC0415 - heavy, and --help must be quick

    run(settings, click.get_current_context().meta.get(CONFIG_READ))
