"""``labelwise pull``: models of the Hub into its cache."""

from __future__ import annotations

import sys
from typing import Any

import click

from labelwise.commands.group import do_each, verbose
from labelwise.commands.printers import (
    bytes_text,
    prepare_output,
    print_json,
    short,
    shows_progress,
)
from labelwise.errors import BadInput, one_line


@click.command(short_help="Fetch models from the Hub.")
@click.argument("models", metavar="MODEL[@REVISION]...", nargs=-1, required=True)
@click.option("-q", "--quiet", is_flag=True, help="Print ids alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of what is there now.")
@verbose
def pull(models: tuple[str, ...], quiet: bool, as_json: bool) -> None:  # noqa: FBT001
    """Fetch each MODEL, an id on the Hub, into the Hub's cache: only the files that are read.

    What is there already is not fetched again.
    """
    prepare_output()
    fetched: list[dict[str, Any]] = []

    def act(model: str) -> None:
        fetched.append(_fetch(model))
        if not as_json:
            click.echo(one_line(fetched[-1]["id"] if quiet else _line(fetched[-1])))

    well = do_each(models, act)
    if as_json:
        print_json(fetched)
    if not well:
        sys.exit(2)


def _fetch(model: str) -> dict[str, Any]:
    """Fetch *model*, and say what was done."""
    from labelwise.models import cached, locate  # noqa: PLC0415 - heavy, and --help must be quick

    location = locate.local(model)
    if location is None:
        before = cached.snapshots(locate.parsed(model)[0])
        location = locate.fetch(model, progress=shows_progress())
        new = not before.issuperset(location.folder.iterdir())
    elif location.id == locate.EMBEDDED:
        new = False
    else:
        raise BadInput(f"{model!r:.200} is a folder here; there is nothing to fetch")
    return {
        "id": location.id,
        "revision": location.revision,
        "size": cached.size(location),
        "fetched": new,
    }


def _line(done: dict[str, Any]) -> str:
    """A line about what was done."""
    where = f"{done['id']} at {short(done['revision'])}" if done["revision"] else done["id"]
    state = "is here now" if done["fetched"] else "was here already"
    return f"{where} {state}, {bytes_text(done['size'])}"
