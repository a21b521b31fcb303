"""``labelwise ls``: the models that are here."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from labelwise.commands.group import verbose
from labelwise.commands.printers import (
    ago,
    bytes_text,
    prepare_output,
    print_json,
    print_table,
    short,
)
from labelwise.errors import one_line

if TYPE_CHECKING:
    from labelwise.models.cached import Here

_MOST_LABELS = 20  # that may have room


@click.command("ls", short_help="List the models that are here.")
@click.option("-q", "--quiet", is_flag=True, help="Print ids alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of models.")
@verbose
def list_models(quiet: bool, as_json: bool) -> None:  # noqa: FBT001
    """List the models that can be run at once: the embedded one, and those in the Hub's cache."""
    from labelwise.models import cached  # noqa: PLC0415 - heavy, and --help must be quick

    prepare_output()
    models, others = cached.models()
    if as_json:
        print_json([_facts(model) for model in models])
    elif quiet:
        for model in models:
            click.echo(one_line(model.name))
    else:
        header = ("id", "commit", "size", "last used", "type", "labels")
        print_table(header, [_row(model) for model in models], right="size")
        if others:
            click.echo(_others(others), err=True)


def _row(model: Here) -> tuple[str, ...]:
    commit = model.location.revision
    name = model.name.replace(commit, short(commit)) if commit else model.name
    labels = ", ".join(model.labels[:_MOST_LABELS])
    size, used = bytes_text(model.size), ago(model.used)
    return name, short(commit), size, used, model.model_type, labels


def _facts(model: Here) -> dict[str, Any]:
    used = None if model.used is None else datetime.fromtimestamp(model.used, UTC)
    return {
        "name": model.name,
        "id": model.location.id,
        "revision": model.location.revision,
        "refs": model.refs,
        "folder": str(model.location.folder),
        "model_type": model.model_type,
        "labels": model.labels,
        "size": model.size,
        "last_used": used and used.isoformat(timespec="seconds"),
    }


def _others(count: int) -> str:
    if count == 1:
        return "1 other in the cache is no classifier that Labelwise runs, or not complete."
    return f"{count} others in the cache are no classifiers that Labelwise runs, or not complete."
