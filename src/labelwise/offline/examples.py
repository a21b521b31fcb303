"""The texts of a file, with their labels where it has them: lines, TSV, CSV or JSON Lines."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from typing import TYPE_CHECKING, Any

from labelwise.engine.files import check_content, without_mark
from labelwise.engine.nesting import check_depth
from labelwise.errors import BadFile, BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TextIO

Row = dict[str, Any]
Cell = str | list[str]  # of a column of labels; a list is one of JSON
_TEXT_COLUMNS = ("text", "sentence", "inputs")  # what a column of texts is usually called
_MAX_WORDS = 3  # in the name of a column that nobody vouches for


@dataclass(frozen=True, slots=True)
class Examples:
    """Texts, and the cell of the column of labels for each, where one was asked for."""

    texts: list[str]
    labels: list[Cell] | None  # the cell of each text, where a column of labels was asked for
    column: str | None  # that the texts are from; None where a line is a text
    source: str  # the file, for errors
    lines: list[int]  # where each text stands in it

    def classes(self, names: Sequence[str], *, several: bool) -> list[frozenset[int]] | None:
        """The classes that are right for each text; None where there are no labels.

        A cell is the name or the number of one of *names*; with *several*, any number of them
        between commas. All cells are names, or all are numbers, whatever the names look like.
        A name may be written in another case, where only one name can be meant.

        Raises:
            BadInput: A cell is neither; the message names its line.
        """
        if self.labels is None:
            return None
        numbers = {str(number): [number] for number in range(len(names))}
        readings = [
            [
                [_meant(part, *known) for part in _parts(cell, *known, several=several)]
                for cell in self.labels
            ]
            for known in (_called(names), (numbers, numbers))
        ]
        found = min(readings, key=lambda cells: sum(not _is_clear(cell) for cell in cells))
        for cell, meant, line in zip(self.labels, found, self.lines, strict=True):
            if not _is_clear(meant):
                raise BadInput(f"line {line} of {self.source}: {_unclear(cell, meant, names)}")
        return [frozenset(number for [number] in meant) for meant in found]


Known = dict[str, list[int]]  # the classes that are called so


def _called(names: Sequence[str]) -> tuple[Known, Known]:
    """The classes by their *names*: exactly, and in any case."""
    exact: Known = {}
    folded: Known = {}
    for number, name in enumerate(names):
        exact.setdefault(name.strip(), []).append(number)
        folded.setdefault(name.strip().casefold(), []).append(number)
    return exact, folded


def _meant(label: str, exact: Known, folded: Known) -> list[int]:
    """The classes that *label* may stand for: the one that is called so, or all but for case."""
    return exact.get(label.strip()) or folded.get(label.strip().casefold()) or []


def _parts(cell: Cell, exact: Known, folded: Known, *, several: bool) -> list[str]:
    """The labels of a *cell*: all of it, or with *several* what is between its commas."""
    if isinstance(cell, list):
        return cell if several else [",".join(cell)]
    if not several or _meant(cell, exact, folded):
        return [cell]
    return [part for part in cell.split(",") if part.strip()]


def _is_clear(meant: list[list[int]]) -> bool:
    return all(len(classes) == 1 for classes in meant)


def _unclear(cell: Cell, meant: list[list[int]], names: Sequence[str]) -> str:
    """The fault of a *cell*, which is not shown: it may be of the column of the texts."""
    several = next((classes for classes in meant if len(classes) > 1), None)
    if several:
        return f"the label may be {_listed([names[n] for n in several], 'or')}; write one of them"
    folded = {name.casefold(): name for name in names}
    parts = cell if isinstance(cell, list) else [cell, *cell.split(",")]
    near = [
        name for part in parts for name in get_close_matches(part.strip().casefold(), folded, 1)
    ]
    return (
        f"the label is none of the model's, which are {_listed(names)}, or 0 to {len(names) - 1}"
        + (f"; did you mean {folded[near[0]]}?" if near else "")
    )


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
        raw = path.read_bytes()
        check_content(path, raw)
        content = without_mark(raw, str(path)).decode()
        rows, lines = parse(StringIO(content, newline=""))
    except OSError as reason:
        raise BadInput(f"{path} cannot be read: {reason.strerror}") from None
    except BadFile as reason:
        raise BadInput(str(reason)) from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8") from None
    except _BadLineError as reason:
        raise BadInput(f"line {reason.args[0]} of {path} {reason.args[1]}") from None
    if not rows:
        below = " below its first line, which names the columns" if content.strip() else ""
        raise BadInput(f"{path} holds no texts{below}")
    if parse is _lines:
        if text or label:
            raise BadInput(f"{path} has no columns, for each line is a text; leave out the columns")
        return Examples([row[""] for row in rows], None, None, str(path), lines)
    if path.suffix.lower() not in _OBJECTS:
        _check_header(path, list(rows[0]), text, label)
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
            if None in row:  # where the reader puts what has no column
                names = len(reader.fieldnames or ())
                raise _BadLineError(
                    reader.line_num,
                    f"has {names + len(row[None])} cells, but the first line names {names} "
                    "columns; put quotation marks around a text with a separator in it",
                )
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


def _check_header(
    path: Path, names: Sequence[str | None], text: str | None, label: str | None
) -> None:
    """Insist that the first line of a table names the columns that are asked for, or could.

    Where no column of texts is asked for or usual, no name may be one that no column has: empty,
    a number, or longer than a few words. So a row of data does not pass for names.
    """
    missing = [asked for asked in (text, label) if asked and asked not in names]
    found = [name for name in names if name is not None]  # None: what a row has beyond them
    if missing:
        raise BadInput(
            f"{path} has no column {missing[0]!r:.80}; its first line names {_listed(found)}"
        )
    if text or not set(found).isdisjoint(_TEXT_COLUMNS):
        return
    if any(
        not name.strip() or _is_number(name) or len(name.split()) > _MAX_WORDS for name in found
    ):
        raise BadInput(
            f"the first line of {path} must name the columns, and looks like data; "
            "write names above it, as in text,label, or choose the column with --text"
        )


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


_OBJECTS = (".jsonl", ".ndjson")  # whose keys have names
_FORMATS: dict[str, Callable[[TextIO], tuple[list[Row], list[int]]]] = {
    ".txt": _lines,
    ".tsv": _tsv,
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
}
SUFFIXES = tuple(_FORMATS)


def _guess(path: Path, row: Row) -> str:
    """The column of the texts, where that is obvious."""
    usual = [column for column in row if column in _TEXT_COLUMNS]
    found = list(row) if len(row) == 1 else usual
    if len(found) != 1:
        columns = _listed([name for name in row if name is not None], "or")
        above = (
            "" if path.suffix.lower() in _OBJECTS else "; if these are data, write names above them"
        )
        raise BadInput(f"choose the column of the texts in {path}: --text {columns}{above}")
    return found[0]


def _text(path: Path, row: Row, column: str, line: int) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise _no_cell("text", path, row, column, line)
    return value


def _label(path: Path, row: Row, column: str, line: int) -> Cell:
    """The cell of a label; JSON may have a number there, or a list of several."""
    value = row.get(column)
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int) and not isinstance(part, bool) for part in parts):
        raise _no_cell("label", path, row, column, line)
    return [str(part) for part in parts] if isinstance(value, list) else str(value)


def _no_cell(what: str, path: Path, row: Row, column: str, line: int) -> BadInput:
    columns = [name for name in row if name is not None]  # None: what a row has beyond its columns
    return BadInput(
        f"line {line} of {path} has no {what} in a column {column!r:.80}; "
        f"its columns are {_listed(columns)}"
    )


def _listed(names: Sequence[str], joint: str = "and") -> str:
    """Some *names* for an error: the first few, and how many more there are."""
    shown = [f"{name:.40}" for name in names[:8]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return f"{', '.join(shown[:-1])} {joint} {shown[-1]}" if len(shown) > 1 else "".join(shown)
