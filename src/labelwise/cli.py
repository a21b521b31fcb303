"""The command line. A mistake of the user ends in one line on standard error and exit code 2."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from errno import EPIPE
from io import TextIOWrapper
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Self

import click

from labelwise import __version__, stops
from labelwise.engine.files import without_mark
from labelwise.errors import BadInput, LabelwiseError, escaped, lacks_memory, one_line
from labelwise.options import CONFIG_READ, EPILOG, with_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labelwise.classifier import Classifier, Scores
    from labelwise.core.model import Dtype
    from labelwise.settings import Settings

_BYTES_AT_ONCE = 65_536
_LINES_AT_ONCE = 256  # enough to fill batches; the answers to more would come late
_GAP = 3  # between two columns of a table
_LEAST_TEXT = 8
_LEAST_BAR = 5
_NO_MEMORY = (
    "there is too little memory; free some, allow this process more, or take a smaller model"
)
_LEAST_MEMORY = 300_000_000  # bytes of addresses; 400 MB are needed on a single processor


class _Group(click.Group):
    """A group whose commands end every mistake of the user in one line and exit code 2."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = click.utils.make_str(args[0])
        if name not in self.commands and not name.startswith("-"):
            near = get_close_matches(name, self.commands, 1)
            next_step = f"did you mean {near[0]}?" if near else f"see {ctx.command_path} --help"
            raise BadInput(f"there is no command {name!r:.80}; {next_step}")
        return super().resolve_command(ctx, args)

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
            _check_memory()
            return super().invoke(ctx)


@contextmanager
def _ending_in_one_line() -> Iterator[None]:
    """Errors of Labelwise and of click become click errors that print one line, without usage."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except Exception as error:
        said = _in_one_line(error)
        if said is None:
            raise
        raise click.UsageError(said) from error


def _in_one_line(error: Exception) -> str | None:
    """The line to print for *error*; none for what click ends by itself, or nobody expects."""
    if lacks_memory(error):
        return _NO_MEMORY
    if isinstance(error, LabelwiseError):
        return str(error)
    if isinstance(error, click.UsageError):
        return one_line(_said(error))
    if isinstance(error, OSError) and error.errno != EPIPE:  # the reader has seen enough
        return f"the output cannot be written: {error.strerror}"
    return None


def _check_memory() -> None:
    """Refuse to start where libraries would end the process while they are loaded.

    Raises:
        MemoryError: There is no room for them.
    """
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if 0 <= allowed < _LEAST_MEMORY:
        raise MemoryError


def _discard_what_cannot_be_written() -> None:
    """Empty the standard streams, or the interpreter tries again at its end and complains."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _said(error: click.UsageError) -> str:
    """The message of *error*; of an option that there is not, in our words."""
    if not isinstance(error, click.NoSuchOption):
        return error.format_message()
    next_step = "what is no option, but begins with -, stands after --"
    hidden = "--access-token"  # which would be refused
    near = [name for name in error.possibilities or () if name != hidden]
    if near:
        next_step = f"did you mean {near[0]}?"
    return f"there is no option {error.option_name!r}; {next_step}"


def _say_more(_: click.Context, __: click.Parameter, verbose: bool) -> None:  # noqa: FBT001
    log = logging.getLogger("labelwise")
    if verbose and not log.handlers:
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler())


_verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_say_more,
    help="Say on standard error what is loaded.",
)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@_verbose
def main() -> None:
    """Text classification on your own machine."""
    stops.on_stop(stops.stop)


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
@_verbose
def classify(  # noqa: PLR0913, PLR0917 - one for each option
    texts: tuple[str, ...],
    model: str | None,
    top_k: int | None,
    function_to_apply: str | None,
    dtype: Dtype,
    force: bool,  # noqa: FBT001 - click passes flags by name
    as_json: bool,  # noqa: FBT001
) -> None:
    """Print labels and scores for each TEXT, or for each line of standard input (also: -).

    The name of a file is no text: labelwise classify < FILE.
    """
    if sys.stdout is None:
        raise BadInput("standard output is closed; there is nowhere to print to")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may lack a character of the text
    given = _given(texts)
    truncated = count = 0
    printer = _JsonPrinter() if as_json else _TablePrinter(len(given))
    with stops.last_words(printer.close), printer:
        classifier = _loaded(model, dtype, force=force)
        for some in [given] if given else _lines():
            results = classifier(some, top_k=top_k, function_to_apply=function_to_apply)
            with stops.whole():
                printer.show(some, results, classifier.model.labels)
            truncated += sum(result.truncated for result in results)
            count += len(results)
    if truncated:
        click.echo(
            f"{truncated} of {count} texts were longer than the {classifier.model.tokenizer.limit} "
            "ids that the model reads; the rest of each was left out.",
            err=True,
        )


@main.command(short_help="Serve models over HTTP.", epilog=EPILOG)
@_verbose
@with_settings
def serve(settings: Settings) -> None:
    """Serve each MODEL to Hugging Face clients: a folder, ID=FOLDER, or a Hub id."""
    from labelwise.server.run import serve as run  # noqa: PLC0415 - heavy, as above

    run(settings, click.get_current_context().meta.get(CONFIG_READ))


@main.command(short_help="Compare int8 with fp32 for a model.")
@click.argument("model")
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="File of texts, as above."
)
@click.option("--text", metavar="COLUMN", help="Column of the texts.  [default: the obvious one]")
@click.option("--label", metavar="COLUMN", help="Column of the right labels, names or numbers.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@_verbose
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


def _loaded(model: str | None, dtype: Dtype, *, force: bool) -> Classifier:
    """The classifier; in int8 only where that was found good, or with *force*."""
    from labelwise.classifier import Classifier  # noqa: PLC0415 - heavy, and --help must be quick

    shows = sys.stderr is not None and sys.stderr.isatty()
    classifier = Classifier(model, dtype=dtype, progress=shows)
    if dtype == "int8" and not force:
        from labelwise.core import agreement  # noqa: PLC0415 - not needed for fp32

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
    from labelwise.core.examples import SUFFIXES  # noqa: PLC0415 - not needed by other commands

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
    """The texts of *lines*, which come after so many *before*; then the error of the first that is
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


class _JsonPrinter:
    """One JSON list, a line for each text: the labels and scores as the server sends them.

    However it ends, what is printed can be parsed.
    """

    def __init__(self) -> None:
        self._before = "["
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        begun = self._before != "["
        if kind is None or (begun and not issubclass(kind, OSError)):  # the output is fine
            self.close()

    def close(self) -> None:
        """End the list, once."""
        if not self._closed:
            self._closed = True
            click.echo("]" if self._before != "[" else "[]")

    def show(self, _: list[str], results: list[Scores], __: Sequence[str]) -> None:
        for scores in results:
            line = escaped(json.dumps(scores, ensure_ascii=False))
            click.echo(f"{self._before}{line}", nl=False)
            self._before = ",\n "


class _TablePrinter:
    """A table with a bar for each score; where there is not just one text, it stands before them.

    *texts* is how many there are; 0 where nobody knows, and then columns have fixed widths.
    """

    def __init__(self, texts: int) -> None:
        from rich.console import Console  # noqa: PLC0415 - not needed for JSON

        self._texts = texts
        self._console = Console()
        self._header = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is left to print."""

    def show(self, texts: list[str], results: list[Scores], labels: Sequence[str]) -> None:
        from rich import box  # noqa: PLC0415
        from rich.cells import cell_len  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        values = [[f"{score.score:7.4f}" for score in scores] for scores in results]
        text, label, bar = _widths(
            self._console.width - max(len(value) for row in values for value in row),
            max(cell_len(one_line(label)) for label in [*labels, "label"]),
            with_text=self._texts != 1,
        )
        full = "█" if self._console.encoding.startswith("utf") else "#"
        table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False, show_header=self._header)
        if text:
            table.add_column("text", width=None if self._texts else text, no_wrap=True)
        table.add_column("label", width=label, no_wrap=True)
        table.add_column("score", justify="right", no_wrap=True)
        if bar:
            table.add_column("", width=bar, no_wrap=True)
        for each, scores, row in zip(texts, results, values, strict=True):
            shown = Text(one_line(each))
            shown.truncate(text, overflow="ellipsis")
            for score, value in zip(scores, row, strict=True):
                filled = full * round(bar * min(max(score.score, 0), 1))
                cells = [shown, Text(one_line(score.label)), Text(value), Text(filled)]
                table.add_row(*cells[not text : None if bar else -1])
                shown = Text()
        self._console.print(table)
        self._header = False


def _widths(room: int, label: int, *, with_text: bool) -> tuple[int, int, int]:
    """The widths of text, *label* and bar in *room* columns, the score's not counted; 0 is none.

    Labels are cut last, and bars left out first.
    """
    room -= _GAP
    least = _LEAST_TEXT + _GAP if with_text else 0
    label = max(min(label, room - least), 1)
    left = room - label - _GAP
    if not with_text:
        return 0, label, left if left >= _LEAST_BAR else 0
    bar = (left - _GAP) // 3
    if bar < _LEAST_BAR:
        return max(left, 1), label, 0
    return left - _GAP - bar, label, bar
