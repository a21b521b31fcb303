"""Labels and scores as JSON or as a table."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Self

import click

from labelwise.errors import escaped, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labelwise.classifier import Scores

_GAP = 3  # between two columns of a table
_LEAST_TEXT = 8
_LEAST_BAR = 5


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
