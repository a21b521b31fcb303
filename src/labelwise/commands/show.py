"""``labelwise show``: all that is known of a model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from labelwise.commands.group import verbose
from labelwise.commands.printers import bytes_text, prepare_output, print_facts, print_json

if TYPE_CHECKING:
    from labelwise.models.described import Description

_MOST_LABELS = 20  # that are shown
_INT8 = {
    True: "may be used, says compare-int8",
    False: "changes too many labels, says compare-int8",
    None: "not compared with fp32",
}


@click.command(short_help="Show what is known of a model.")
@click.argument("model", metavar="MODEL")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: an object with all labels.")
@verbose
def show(model: str, as_json: bool) -> None:  # noqa: FBT001
    """Show what is known of MODEL: the embedded one, a folder, or a Hub id in the cache."""
    from labelwise.models import cached, described  # noqa: PLC0415 - heavy, and --help must be quick

    prepare_output()
    found = described.describe(cached.find(model))
    if as_json:
        print_json(asdict(found))
    else:
        print_facts(_facts(found))


def _facts(found: Description) -> dict[str, str | None]:
    """The facts of *found*, in words."""
    count = sum(found.parameters.values())
    types = ", ".join(found.parameters)
    tokens = found.max_tokens
    return {
        "id": found.id,
        "commit": found.revision,
        "folder": found.folder,
        "type": found.model_type,
        "parameters": f"{count:,}, stored as {types}" if count else None,
        "labels": _labels(found),
        "scores": found.function,
        "reads": f"{tokens:,} tokens of a text" if tokens else None,
        "tokenizer": found.tokenizer,
        "licence": found.license,
        "languages": ", ".join(found.languages) or None,
        "library": found.library,
        "size": None if found.size is None else bytes_text(found.size),
        "int8": None if found.problem else _INT8[found.int8],
        "cannot run": found.problem,
    }


def _labels(found: Description) -> str | None:
    if found.labels is None:
        return None
    shown = ", ".join(found.labels[:_MOST_LABELS])
    more = len(found.labels) - _MOST_LABELS
    return f"{shown} and {more:,} more" if more > 0 else shown
