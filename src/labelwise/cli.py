"""The command line. A mistake of the user ends in one line on standard error and exit code 2."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager
from dataclasses import asdict
from errno import EPIPE
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labelwise import __version__
from labelwise.errors import BadInput, LabelwiseError, one_line
from labelwise.options import EPILOG, with_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labelwise.classifier import Scores
    from labelwise.core.model import Dtype
    from labelwise.settings import Settings

_BYTES_AT_ONCE = 65_536
_BAR_WIDTH = 20
_BETWEEN = 17  # the score, and the space between four columns
_LEAST_TEXT = 16


class _Group(click.Group):
    """A group whose commands end every mistake of the user in one line and exit code 2."""

    def main(self, *args: Any, **extra: Any) -> Any:
        try:
            return super().main(*args, **extra)
        except OSError:  # not even the line of an error can be written
            sys.exit(2)
        finally:
            _discard_what_cannot_be_written()

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        with _ending_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _ending_in_one_line():
            return super().invoke(ctx)


@contextmanager
def _ending_in_one_line() -> Iterator[None]:
    """Errors of Labelwise and of click become click errors that print one line, without usage."""
    try:
        yield
    except LabelwiseError as error:
        raise click.UsageError(str(error)) from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        raise click.UsageError(one_line(error.format_message())) from error
    except MemoryError as error:
        raise click.UsageError("there is not enough memory") from error
    except OSError as error:
        if error.errno == EPIPE:  # the reader has seen enough; click ends quietly
            raise
        raise click.UsageError(f"the output cannot be written: {error.strerror}") from error


def _discard_what_cannot_be_written() -> None:
    """Empty the standard streams, or the interpreter tries again at its end and complains."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.option("-v", "--verbose", is_flag=True, help="Say on standard error what is loaded.")
def main(verbose: bool) -> None:  # noqa: FBT001 - click passes flags by name
    """Text classification on your own machine."""
    if verbose:
        log = logging.getLogger("labelwise")
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler())


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
@click.option(
    "--dtype",
    type=click.Choice(["float32", "int8"]),
    default="float32",
    help="What to compute in; int8 only what `labelwise quantize` found good.  [default: float32]",
)
@click.option("--force", is_flag=True, help="Compute in int8 whatever is known of it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of labels for each text.")
def classify(  # noqa: PLR0913, PLR0917 - one for each option
    texts: tuple[str, ...],
    model: str | None,
    top_k: int | None,
    function_to_apply: str | None,
    dtype: Dtype,
    force: bool,  # noqa: FBT001 - click passes flags by name
    as_json: bool,  # noqa: FBT001
) -> None:
    """Print labels and scores for each TEXT, or for each line of standard input."""
    from labelwise.classifier import Classifier  # noqa: PLC0415 - heavy, and --help must be quick

    if sys.stdout is None:
        raise BadInput("standard output is closed; there is nowhere to print to")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack a character of the text
    shows = sys.stderr is not None and sys.stderr.isatty()
    classifier = Classifier(model, dtype=dtype, progress=shows)
    if dtype == "int8" and not force:
        from labelwise.core import agreement  # noqa: PLC0415 - not needed for fp32

        agreement.check(classifier.model.location, model or classifier.model.location.id)
    printer = _JsonPrinter() if as_json else _TablePrinter(classifier.model.labels, len(texts))
    truncated = count = 0
    for some in [list(texts)] if texts else _lines():
        results = classifier(some, top_k=top_k, function_to_apply=function_to_apply)
        printer.show(some, results)
        truncated += sum(result.truncated for result in results)
        count += len(results)
    printer.close()
    if truncated:
        click.echo(
            f"{truncated} of {count} texts were longer than the {classifier.model.tokenizer.limit} "
            "ids that the model reads; the rest of each was left out.",
            err=True,
        )


@main.command(short_help="Serve models over HTTP.", epilog=EPILOG)
@with_settings
def serve(settings: Settings) -> None:
    """Serve each MODEL to Hugging Face clients: a folder, ID=FOLDER, or a Hub id."""
    from labelwise.server.run import serve as run  # noqa: PLC0415 - heavy, as above

    run(settings)


@main.command(short_help="Compare int8 with fp32 for a model.")
@click.argument("model")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="File of texts, as above."
)
@click.option("--text", metavar="COLUMN", help="Column of the texts.  [default: the obvious one]")
@click.option("--label", metavar="COLUMN", help="Column of the right labels, names or numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def quantize(
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
    from labelwise.quantize import quantize as run  # noqa: PLC0415 - heavy, as above

    run(model, data, text=text, label=label, as_json=as_json)


def _lines() -> Iterator[list[str]]:
    """The lines of standard input as they arrive: those of each piece that can be read at once."""
    if sys.stdin is None:
        raise BadInput("there is no text and no standard input to read texts from")
    if sys.stdin.isatty():
        click.echo("Reading texts from standard input, one a line; Ctrl-D ends.", err=True)
    read, number, rest = sys.stdin.buffer.read1, 0, b""  # type: ignore[union-attr]
    while piece := read(_BYTES_AT_ONCE):
        *whole, rest = (rest + piece).split(b"\n")
        if whole:
            yield [_decoded(line, number + n) for n, line in enumerate(whole, 1)]
        number += len(whole)
    if rest:
        yield [_decoded(rest, number + 1)]


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode().rstrip("\r")
    except UnicodeDecodeError:
        raise BadInput(f"line {number} of standard input is not UTF-8") from None


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
    """A table with a bar for each score; where there is not just one text, it stands before them.

    *texts* is how many there are; 0 where nobody knows, and then all columns have fixed widths.
    """

    def __init__(self, labels: Sequence[str], texts: int) -> None:
        from rich.console import Console  # noqa: PLC0415 - not needed for JSON

        self._texts = texts
        self._console = Console()
        self._bar = "█" if self._console.encoding.startswith("utf") else "#"
        self._header = True
        self._widest = max(len(one_line(label)) for label in labels)
        room = self._console.width - self._widest - _BAR_WIDTH - _BETWEEN
        self._room = max(room, _LEAST_TEXT)

    def show(self, texts: list[str], results: list[Scores]) -> None:
        from rich import box  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, show_header=self._header)
        if self._texts != 1:
            table.add_column("text", width=None if self._texts else self._room, no_wrap=True)
        table.add_column("label", min_width=self._widest, no_wrap=True)
        table.add_column("score", justify="right", min_width=7, no_wrap=True)
        table.add_column("", width=_BAR_WIDTH, no_wrap=True)
        for text, scores in zip(texts, results, strict=True):
            shown = Text(one_line(text))
            shown.truncate(self._room, overflow="ellipsis")
            for score in scores:
                bar = self._bar * round(_BAR_WIDTH * min(max(score.score, 0), 1))
                row: list[Text | str] = [Text(one_line(score.label)), f"{score.score:.4f}", bar]
                table.add_row(*([shown, *row] if self._texts != 1 else row))
                shown = Text()
        self._console.print(table)
        self._header = False

    def close(self) -> None:
        """Nothing is left to print."""
