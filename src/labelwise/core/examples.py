"""The texts of a file, with their labels where it has them: lines, TSV, CSV or JSON Lines."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelwise.engine.nesting import check_depth
from labelwise.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TextIO

Row = dict[str, Any]
_TEXT_COLUMNS = ("text", "sentence", "inputs")  # what a column of texts is usually called


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts, and the cell of the column of labels for each, where one was asked for."""

    texts: list[str]
    labels: list[str] | None
    column: str | None  # that the texts are from; None where a line is a text
    source: str  # the file, for errors
    lines: list[int]  # where each text stands in it

    def classes(self, names: Sequence[str], *, several: bool) -> list[frozenset[int]] | None:
        """The classes that are right for each text; None where there are no labels.

        A cell is the name or the number of one of *names*; with *several*, any number of them
        between commas. All cells are names, or all are numbers, whatever the names look like.

        Raises:
            BadInput: A cell is neither; the message names its line.
        """
        if self.labels is None:
            return None
        cells = [
            [part.strip() for part in cell.split(",") if part.strip()]
            if several
            else [cell.strip()]
            for cell in self.labels
        ]
        by_name = {name.casefold(): number for number, name in enumerate(names)}
        by_number = {str(number): number for number in range(len(names))}
        folded = [[part.casefold() for part in parts] for parts in cells]
        known = by_number if _all_in(by_number, cells) and not _all_in(by_name, folded) else by_name
        for parts, line in zip(folded, self.lines, strict=True):
            if not all(part in known for part in parts):
                raise BadInput(
                    f"line {line} of {self.source}: the label is none of the model's, which are "
                    f"{_listed(names)}, or 0 to {len(names) - 1}"
                )
        return [frozenset(known[part] for part in parts) for parts in folded]


def read(path: Path, text: str | None = None, label: str | None = None) -> Examples:
    """The examples in *path*; its suffix says what it is.

    *text* is the column of the texts: where None, the only one, or the one that is called as such
    columns usually are. *label* is the column of the labels.

    Raises:
        BadInput: The file cannot be used; the message says why and what to do.
    """
    parse = _FORMATS.get(path.suffix.lower())
    if parse is None:
        raise BadInput(f"{path} is of no known kind; name it {_listed(list(_FORMATS), 'or')}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows, lines = parse(file)
    except OSError as reason:
        raise BadInput(f"{path} cannot be read: {reason.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8") from None
    except _BadLineError as reason:
        raise BadInput(f"line {reason.args[0]} of {path} {reason.args[1]}") from None
    if not rows:
        raise BadInput(f"{path} holds no texts")
    if parse is _lines:
        if text or label:
            raise BadInput(f"{path} has no columns, for each line is a text; leave out the columns")
        return Examples([row[""] for row in rows], None, None, str(path), lines)
    chosen = text or _guess(path, rows[0])
    numbered = list(zip(rows, lines, strict=True))
    texts = [_text(path, row, chosen, line) for row, line in numbered]
    labels = [_label(path, row, label, line) for row, line in numbered] if label else None
    return Examples(texts, labels, chosen, str(path), lines)


class _BadLineError(Exception):
    """The number of a line that cannot be read, and what is wrong with it."""


def _lines(file: TextIO) -> tuple[list[Row], list[int]]:
    rows = [{"": line.rstrip("\r\n")} for line in file]
    return rows, list(range(1, len(rows) + 1))


def _csv(file: TextIO) -> tuple[list[Row], list[int]]:
    return _table(csv.DictReader(file, strict=True))


def _tsv(file: TextIO) -> tuple[list[Row], list[int]]:
    """Tab-separated values: a quotation mark is a character like any other."""
    return _table(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def _table(reader: csv.DictReader[str]) -> tuple[list[Row], list[int]]:
    """The rows below the first, which names the columns."""
    rows, lines = [], []
    try:
        for row in reader:
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as reason:
        raise _BadLineError(reader.reader.line_num, f"cannot be read: {reason}") from None
    return rows, lines


def _json_lines(file: TextIO) -> tuple[list[Row], list[int]]:
    rows, lines = [], []
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            check_depth(line.encode())
            row = json.loads(line)
        except ValueError:
            raise _BadLineError(number, "is not valid JSON") from None
        if not isinstance(row, dict):
            raise _BadLineError(number, "is not a JSON object")
        rows.append(row)
        lines.append(number)
    return rows, lines


_FORMATS: dict[str, Callable[[TextIO], tuple[list[Row], list[int]]]] = {
    ".txt": _lines,
    ".tsv": _tsv,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}


def _guess(path: Path, row: Row) -> str:
    """The column of the texts, where that is obvious."""
    usual = [column for column in row if column in _TEXT_COLUMNS]
    found = list(row) if len(row) == 1 else usual
    if len(found) != 1:
        raise BadInput(
            f"choose the column of the texts in {path}: --text {_listed(list(row), 'or')}"
        )
    return found[0]


def _text(path: Path, row: Row, column: str, line: int) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise _no_cell("text", path, row, column, line)
    return value


def _label(path: Path, row: Row, column: str, line: int) -> str:
    """The cell of a label; JSON may have a number there, or a list of several."""
    value = row.get(column)
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int) and not isinstance(part, bool) for part in parts):
        raise _no_cell("label", path, row, column, line)
    return ",".join(map(str, parts))


def _no_cell(what: str, path: Path, row: Row, column: str, line: int) -> BadInput:
    columns = [name for name in row if name is not None]  # None: what a row has beyond its columns
    return BadInput(
        f"line {line} of {path} has no {what} in a column {column!r:.80}; "
        f"its columns are {_listed(columns)}"
    )


def _all_in(known: dict[str, int], cells: Sequence[Sequence[str]]) -> bool:
    return all(part in known for parts in cells for part in parts)


def _listed(names: Sequence[str], joint: str = "and") -> str:
    """Some *names* for an error: the first few, and how many more there are."""
    shown = [f"{name:.40}" for name in names[:8]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return f"{', '.join(shown[:-1])} {joint} {shown[-1]}" if len(shown) > 1 else "".join(shown)
