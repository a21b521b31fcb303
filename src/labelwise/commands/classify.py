"""``labelwise classify``: labels and scores for texts, or for each line of standard input."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

import click

from labelwise import stops
from labelwise.commands.group import verbose
from labelwise.commands.printers import JsonPrinter, TablePrinter, prepare_output, shows_progress
from labelwise.engine.files import without_mark
from labelwise.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labelwise.classifier import Classifier
    from labelwise.engine.backend import Dtype

_BYTES_AT_ONCE = 65_536
_LINES_AT_ONCE = 256  # enough to fill batches; the answers to more would come late


@click.command(short_help="Print labels and scores for texts.")
@click.argument("texts", metavar="[TEXT]...", nargs=-1)
@click.option(
    "-m",
    "--model",
    help="A folder, or a Hub id ORG/NAME[@REVISION].  [default: the embedded model]",
)
@click.option(
    "-k", "--top-k", type=click.IntRange(min=1), help="Labels for each text.  [default: all]"
)
@click.option(
    "-f",
    "--function-to-apply",
    type=click.Choice(["softmax", "sigmoid", "none"], case_sensitive=False),
    help="From logits to scores.  [default: the model's own]",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    help="What to compute in; int8 needs a good report of compare-int8.  [default: float32]",
)
@click.option(
    "--allow-unverified-int8",
    is_flag=True,
    help="Compute in int8 also without a good report of compare-int8.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of labels for each text.")
@verbose
def classify(  # noqa: PLR0913, PLR0917 - one for each option
    texts: tuple[str, ...],
    model: str | None,
    top_k: int | None,
    function_to_apply: str | None,
    dtype: Dtype,
    allow_unverified_int8: bool,  # noqa: FBT001 - click passes flags by name
    as_json: bool,  # noqa: FBT001
) -> None:
    """Print labels and scores for each TEXT, or for each line of standard input (also: -).

    The name of a file is no text: labelwise classify < FILE.
    """
    prepare_output()
    given = _given(texts)
    truncated = count = 0
    printer = JsonPrinter() if as_json else TablePrinter(len(given))
    with stops.last_words(printer.close), printer:
        classifier = _loaded(model, dtype, allow_unverified_int8=allow_unverified_int8)
        for some in [given] if given else _lines():
            results = classifier(some, top_k=top_k, function_to_apply=function_to_apply)
            with stops.whole():
                printer.show(some, results, classifier.model.labels)
            truncated += sum(result.truncated for result in results)
            count += len(results)
    if truncated:
        click.echo(
            f"{truncated} of {count} texts were longer than the {classifier.model.tokenizer.limit} "
            "tokens that the model reads; the rest of each was left out.",
            err=True,
        )


def _loaded(model: str | None, dtype: Dtype, *, allow_unverified_int8: bool) -> Classifier:
    """The classifier; in int8 only where that was found good, or with *allow_unverified_int8*."""
    from labelwise.classifier import Classifier  # noqa: PLC0415 - heavy, and --help must be quick

    classifier = Classifier(model, dtype=dtype, progress=shows_progress())
    if dtype == "int8" and not allow_unverified_int8:
        from labelwise.models import agreement  # noqa: PLC0415 - not needed for fp32

        agreement.check(classifier.model.location, model or classifier.model.location.id)
    return classifier


def _given(texts: Sequence[str]) -> list[str]:
    """The *texts* of the command line; none where standard input has them.

    Raises:
        BadInput: One is the name of a file or a folder, or looks like the name of a file.
    """
    if list(texts) == ["-"]:
        return []
    for text in texts:
        name = quote(text)
        if text == "-":
            raise BadInput("- stands for standard input; give it alone, or leave it out")
        if os.path.isdir(text):  # noqa: PTH112 - says no to whatever is no path
            raise BadInput(
                f"{name} is a folder, not a text; a folder with a model is given as --model {name}"
            )
        if os.path.exists(text):  # noqa: PTH110 - as above
            raise BadInput(
                f"{name} is a file, not a text; to classify each of its lines: labelwise classify "
                f"< {name}; if the name is the text: echo {name} | labelwise classify"
            )
        if _looks_like_a_file(text):
            raise BadInput(
                f"there is no file {name}; if that is a text: echo {name} | labelwise classify"
            )
    return list(texts)


def _looks_like_a_file(text: str) -> bool:
    from labelwise.offline.examples import SUFFIXES  # noqa: PLC0415 - not needed by other commands

    alone = len(text.split()) == 1 and "://" not in text
    return alone and Path(text).suffix.lower() in SUFFIXES


def _lines() -> Iterator[list[str]]:
    """The lines of standard input as they arrive, a few at a time, up to one that is no text."""
    if sys.stdin is None:
        raise BadInput("there is no text and no standard input to read texts from")
    if sys.stdin.isatty():
        click.echo("Reading texts from standard input, one a line; Ctrl-D ends.", err=True)
    read, number, rest = sys.stdin.buffer.read1, 0, b""  # type: ignore[union-attr]
    while piece := read(_BYTES_AT_ONCE):
        *whole, rest = (rest + piece).split(b"\n")
        for begin in range(0, len(whole), _LINES_AT_ONCE):
            yield from _decoded(whole[begin : begin + _LINES_AT_ONCE], number + begin)
        number += len(whole)
    if rest:
        yield from _decoded([rest], number)


def _decoded(lines: Sequence[bytes], before: int) -> Iterator[list[str]]:
    """The texts of *lines*, which come after *before*; then the error of the first that is
    none.
    """
    texts: list[str] = []
    for number, line in enumerate(lines, before + 1):
        try:
            line = without_mark(line, "standard input") if number == 1 else line  # noqa: PLW2901
            texts.append(line.decode().rstrip("\r"))
        except UnicodeDecodeError:
            if texts:
                yield texts
            raise BadInput(
                f"line {number} of standard input is not UTF-8; make UTF-8 of it, as iconv does"
            ) from None
    yield texts
