"""Everything that commands print: labels and scores, lists and facts, as JSON or as a table."""

from __future__ import annotations

import json
import sys
from io import TextIOWrapper
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Literal, Self

import click

from labelwise.errors import BadInput, escaped, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labelwise.classifier import Scores

_GAP = 3  # between two columns of a table
_LEAST_TEXT = 8
_LEAST_BAR = 5
_UNITS = ("B", "kB", "MB", "GB", "TB")
_PERIODS = {"year": 31_557_600, "month": 2_629_800, "day": 86_400, "hour": 3600, "minute": 60}
_WAIT = 0.2  # seconds between two lines about progress
_COMMIT = 7  # characters of a commit that are shown


def prepare_output() -> None:
    """Let the standard streams replace each character that they lack.

    Raises:
        BadInput: Standard output is closed.
    """
    if sys.stdout is None:
        raise BadInput("standard output is closed; there is nowhere to print to")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def shows_progress() -> bool:
    """Whether somebody sees how far a command is."""
    return sys.stderr is not None and sys.stderr.isatty()


class JsonPrinter:
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
        """Print *results*."""
        for scores in results:
            line = escaped(json.dumps(scores, ensure_ascii=False))
            click.echo(f"{self._before}{line}", nl=False)
            self._before = ",\n "


class TablePrinter:
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
        """Print *texts* with their *results*, which may have any of *labels*."""
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


def print_json(value: Any) -> None:
    """Print one JSON value."""
    click.echo(escaped(json.dumps(value, ensure_ascii=False, indent=2)))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], right: str = "") -> None:
    """Print *rows* under a *header*, each on one line; the column *right* is aligned to the right.

    Where the terminal is too narrow, the last column is cut; where that is not enough, it is left
    out. The first always stays.
    """
    from rich import box  # noqa: PLC0415 - as above
    from rich.cells import cell_len  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console()
    lines = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(header, *lines, strict=True)]
    while len(widths) > 1 and _total(widths) - max(widths[-1] - _LEAST_TEXT, 0) > console.width:
        widths.pop()
    widths[-1] = max(min(widths[-1], widths[-1] + console.width - _total(widths)), 1)
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for name, width in zip(header, widths, strict=False):
        justify: Literal["left", "right"] = "right" if name == right else "left"
        table.add_column(name, justify=justify, width=width, no_wrap=True)
    for line in lines:
        table.add_row(*map(Text, line[: len(widths)]))
    console.print(table)


def _total(widths: Sequence[int]) -> int:
    """The width of a table with columns of these *widths*."""
    return sum(widths) + _GAP * (len(widths) - 1)


def print_facts(facts: Mapping[str, str | None]) -> None:
    """Print *facts* by their names, those that are known; none is cut."""
    from rich.console import Console  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, _GAP, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if value is not None:
            table.add_row(name, Text(one_line(value)))
    Console().print(table)


def bytes_text(count: int) -> str:
    """A *count* of bytes, for people."""
    value, unit = float(count), 0
    while value >= 999.95 and unit < len(_UNITS) - 1:  # which is shown as 1000.0
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def ago(moment: float | None) -> str:
    """The time since *moment*, in seconds since 1970, for people; empty for None."""
    if moment is None:
        return ""
    passed = time() - moment
    for name, seconds in _PERIODS.items():
        count = int(passed // seconds)
        if count > 0:
            return f"{count} {name}{'s' * (count > 1)} ago"
    return "just now"


def short(commit: str | None) -> str:
    """The beginning of a *commit*; empty for None."""
    return (commit or "")[:_COMMIT]


class FileProgress:
    """A line on a terminal that says how much of a file was read; for small ones it says nothing.

    No cursor is hidden and no thread runs, so a stop may come at any time.
    """

    def __init__(self) -> None:
        self._shows = shows_progress()
        self._next = monotonic() + _WAIT

    def __call__(self, name: str, read: int, size: int) -> None:
        """Say that *read* of *size* bytes of the file *name* were read."""
        if self._shows and monotonic() >= self._next:
            self._next = monotonic() + _WAIT
            share = f"{min(read / size, 1):4.0%}" if size else ""
            click.echo(f"\r\x1b[K{share} of {one_line(name):.60}", err=True, nl=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows:
            click.echo("\r\x1b[K", err=True, nl=False)
