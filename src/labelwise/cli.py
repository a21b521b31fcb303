"""The command line. A mistake of the user ends in one line on standard error and exit code 2."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import contextmanager
from dataclasses import asdict
from io import TextIOWrapper
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from labelwise import __version__
from labelwise.errors import BadInput, LabelwiseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from labelwise.classifier import Scores

_TEXTS_AT_ONCE = 1024
_BAR_WIDTH = 20
_BETWEEN = 18  # the score, and the space around four columns
_LEAST_TEXT = 16


class _Group(click.Group):
    """A group whose commands end every mistake of the user in one line and exit code 2."""

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line():
            return super().invoke(ctx)


@contextmanager
def _one_line() -> Iterator[None]:
    """Errors of Labelwise and of click become click errors that print one line, without usage."""
    try:
        yield
    except LabelwiseError as error:
        raise click.UsageError(str(error)) from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise click.UsageError(error.format_message()) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Say on standard error what is loaded.")
def main(verbose: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Text classification on your own machine."""
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


@main.command(short_help="Print labels and scores for texts.")
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of labels for each text.")
def classify(
    texts: tuple[str, ...],
    model: str | None,
    top_k: int | None,
    function_to_apply: str | None,
    as_json: bool,  # noqa: FBT001
) -> None:
    """Print labels and scores for each TEXT, or for each line of standard input."""
    from labelwise.classifier import Classifier  # noqa: PLC0415 - heavy, and --help must be quick

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack a character of the text
    classifier = Classifier(model, progress=sys.stderr.isatty())
    printer = _JsonPrinter() if as_json else _TablePrinter(by_text=len(texts) != 1)
    truncated = count = 0
    for window in _windows(texts or _lines(), _TEXTS_AT_ONCE):
        results = classifier(window, top_k=top_k, function_to_apply=function_to_apply)
        printer.show(window, results)
        truncated += sum(result.truncated for result in results)
        count += len(results)
    printer.close()
    if truncated:
        click.echo(
            f"{truncated} of {count} texts were longer than the {classifier.model.tokenizer.limit} "
            "ids that the model reads; the rest of each was left out.",
            err=True,
        )


def _lines() -> Iterator[str]:
    """The lines of standard input, without their ends."""
    if sys.stdin.isatty():
        click.echo("Reading texts from standard input, one a line; Ctrl-D ends.", err=True)
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise BadInput(f"line {number} of standard input is not UTF-8") from None


def _windows(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """*texts* in lists of at most *size*, so that any number of them fits in memory."""
    rest = iter(texts)
    while window := list(islice(rest, size)):
        yield window


class _JsonPrinter:
    """One JSON list, a line for each text: the labels and scores as the server sends them."""

    def __init__(self) -> None:
        self._before = "["

    def show(self, _: list[str], results: list[Scores]) -> None:
        for scores in results:
            line = json.dumps([asdict(score) for score in scores], ensure_ascii=False)
            click.echo(f"{self._before}{line}", nl=False)
            self._before = ",\n "

    def close(self) -> None:
        click.echo("[]" if self._before == "[" else "]")


class _TablePrinter:
    """A table with a bar for each score; with *by_text*, the text stands before its labels."""

    def __init__(self, *, by_text: bool) -> None:
        from rich.console import Console  # noqa: PLC0415 - not needed for JSON

        self._by_text = by_text
        self._console = Console()
        self._bar = "█" if self._console.encoding.startswith("utf") else "#"
        self._header = True

    def show(self, texts: list[str], results: list[Scores]) -> None:
        from rich import box  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=box.SIMPLE, pad_edge=False, show_header=self._header)
        for column in ("text", "label")[not self._by_text :]:
            table.add_column(column, no_wrap=True)
        table.add_column("score", justify="right", no_wrap=True)
        table.add_column("", width=_BAR_WIDTH, no_wrap=True)
        widest = max(len(score.label) for scores in results for score in scores)
        room = max(self._console.width - widest - _BAR_WIDTH - _BETWEEN, _LEAST_TEXT)
        for text, scores in zip(texts, results, strict=True):
            shown = Text(" ".join(text.split()))
            shown.truncate(room, overflow="ellipsis")
            for score in scores:
                bar = self._bar * round(_BAR_WIDTH * min(max(score.score, 0), 1))
                row: list[Text | str] = [Text(score.label), f"{score.score:.4f}", bar]
                table.add_row(*([shown, *row] if self._by_text else row))
                shown = Text()
        self._console.print(table)
        self._header = False

    def close(self) -> None:
        """Nothing is left to print."""
