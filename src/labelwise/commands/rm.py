"""``labelwise rm``: models out of the Hub's cache."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from labelwise import stops
from labelwise.commands.group import do_each, verbose
from labelwise.commands.printers import bytes_text, prepare_output, print_json
from labelwise.errors import BadInput, one_line

if TYPE_CHECKING:
    from labelwise.models.cached import Removal


@click.command(short_help="Remove models from the Hub's cache.")
@click.argument("models", metavar="MODEL[@REVISION]...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of what was removed.")
@verbose
def rm(models: tuple[str, ...], yes: bool, quiet: bool, as_json: bool) -> None:  # noqa: FBT001
    """Remove each MODEL from the Hub's cache, with all its revisions unless one is named.

    Folders of yours and the embedded model are left alone.
    """
    from labelwise.models import cached  # noqa: PLC0415 - heavy, and --help must be quick

    prepare_output()
    planned: list[Removal] = []
    removed: list[Removal] = []

    def act(removal: Removal) -> None:
        with stops.whole():
            cached.remove(removal)
        removed.append(removal)
        if not as_json:
            click.echo(one_line(removal.name if quiet else f"removed {_line(removal)}"))

    well = do_each(models, lambda model: planned.append(cached.removal(model)))
    if planned and not yes:
        _ask(planned)
    by_name = {removal.name: removal for removal in planned}
    well &= do_each(by_name, lambda name: act(by_name[name]))
    if as_json:
        print_json([_facts(removal) for removal in removed])
    if not well:
        sys.exit(2)


def _ask(planned: list[Removal]) -> None:
    """Go on where the user agrees.

    Raises:
        BadInput: There is no user to ask.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise BadInput("nobody can be asked here whether to remove that; insist with --yes")
    for removal in planned:
        click.echo(one_line(_line(removal)), err=True)
    total = bytes_text(sum(removal.freed for removal in planned))
    agreed = False
    with suppress(click.Abort):  # the end of the input is a no
        agreed = click.confirm(f"Remove that, and free {total}?", err=True)
    if not agreed:
        sys.exit(2)


def _line(removal: Removal) -> str:
    commits = len(removal.revisions)
    of = f"{commits} revision{'s' * (commits != 1)}"
    return f"{removal.name}: {of}, {bytes_text(removal.freed)}"


def _facts(removal: Removal) -> dict[str, object]:
    return {
        "name": removal.name,
        "id": removal.id,
        "revisions": removal.revisions,
        "freed": removal.freed,
    }
