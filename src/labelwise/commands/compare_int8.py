"""``labelwise compare-int8``: what a model answers in int8 and in fp32."""

from __future__ import annotations

from pathlib import Path

import click

from labelwise.commands.group import verbose


@click.command(short_help="Compare int8 with fp32 for a model.")
@click.argument("model")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="File of texts, as above."
)
@click.option("--text", metavar="COLUMN", help="Column of the texts.  [default: the obvious one]")
@click.option("--label", metavar="COLUMN", help="Column of the right labels, names or numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@verbose
def compare_int8(
    model: str,
    data: Path,
    text: str | None,
    label: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Compare what MODEL, a folder or a Hub id, answers in int8 and in fp32, and keep a report.

    The file of texts is .txt, a text a line; .tsv or .csv with names of columns in its first line;
    or .jsonl, an object a line. `serve` and `classify` take --dtype int8 where the report is good.
    """
    from labelwise.offline.compare_int8 import compare  # noqa: PLC0415 - heavy, and --help must be quick

    compare(model, data, text=text, label=label, as_json=as_json)
