"""The command `labelwise`."""

from __future__ import annotations

import click

from labelwise import __version__, stops
from labelwise.commands.classify import classify
from labelwise.commands.compare_int8 import compare_int8
from labelwise.commands.group import Group, verbose
from labelwise.commands.ls import list_models
from labelwise.commands.pull import pull
from labelwise.commands.rm import rm
from labelwise.commands.serve import serve
from labelwise.commands.show import show
from labelwise.commands.verify import verify


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@verbose
def main() -> None:
    """Text classification on your own machine."""
    stops.on_stop(stops.stop)


for _command in (classify, serve, pull, list_models, show, verify, rm, compare_int8):
    main.add_command(_command)
