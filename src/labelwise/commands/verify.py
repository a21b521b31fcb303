"""``labelwise verify``: the files of models against their hashes."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from labelwise.commands.group import do_each, verbose
from labelwise.commands.printers import FileProgress, prepare_output, print_json, short
from labelwise.errors import one_line

if TYPE_CHECKING:
    from labelwise.models.verified import Checked, Verification

_SOURCES = {
    "hub": "the hashes that the Hub has",
    "cache": "the names of the blobs in the Hub's cache",
    "package": "the hashes that come with Labelwise",
}
_STATES = {
    "missing": "is missing: its link leads nowhere",
    "outside": "is a link to a place outside the cache",
    "unreadable": "cannot be read, or is no regular file",
    "extra": "is no file of that commit",
}


@click.command(short_help="Compare files of models with their hashes.")
@click.argument("models", metavar="MODEL[@REVISION]...", nargs=-1, required=True)
@click.option(
    "--offline",
    is_flag=True,
    help="Do not ask the Hub: compare with the names of the blobs, which are their hashes.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list with all files.")
@verbose
def verify(models: tuple[str, ...], offline: bool, as_json: bool) -> None:  # noqa: FBT001
    """Compare the files of each MODEL with the hashes that the Hub has of them.

    MODEL is a Hub id in the cache, or the embedded model. The exit code is 1 where a file differs.
    """
    from labelwise.models import cached, verified  # noqa: PLC0415 - heavy, and --help must be quick

    prepare_output()
    results: list[Verification] = []

    def act(model: str) -> None:
        location = cached.find(model)
        with FileProgress() as progress:
            results.append(verified.verify(location, offline=offline, done=progress))
        if not as_json:
            _print(results[-1])

    well = do_each(models, act)
    if as_json:
        print_json([asdict(result) for result in results])
    if any(result.bad for result in results):
        sys.exit(1)
    if not well:
        sys.exit(2)


def _print(result: Verification) -> None:
    """A line for each file that is not as it should be, and one for the model."""
    where = f"{result.id} at {short(result.revision)}" if result.revision else result.id
    for file in result.bad:
        click.echo(one_line(f"{where}: {file.name} {_said(file)}"))
    unknown = sum(file.state == "unchecked" for file in result.files)
    good = len(result.files) - len(result.bad) - unknown
    also = f"; without a hash there: {unknown}" if unknown else ""
    click.echo(
        one_line(
            f"{where}: {good} of {len(result.files)} files are right, by "
            f"{_SOURCES[result.source]}{also}"
        )
    )


def _said(file: Checked) -> str:
    if file.state == "differs":
        return f"differs: its hash is {file.found}, not {file.expected}"
    return _STATES[file.state]
