"""Inputs of a classifier -> texts.

Columns of pandas, polars, pyarrow and datasets are known by what they do: none is imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, Protocol, cast

from labelwise.errors import BadInput

if TYPE_CHECKING:
    from labelwise.engine.tokenizer.tokenizer import Text

_KEYS = {"text", "text_pair"}
_TAKEN = (
    "a classifier takes a string, a pair as a tuple of two or as "
    "{'text': ..., 'text_pair': ...}, or many of them in a list or another iterable"
)


class Collection(Sized, Iterable[object], Protocol):
    """Texts that can be counted: a list, a set, an array, a column."""


def read_inputs(inputs: object) -> Text | list[Text] | Iterator[Text]:
    """One text, or many: a list of what has a length, and else an iterator, as it may never end.

    A text is a string; a pair is a tuple of two, or a mapping with ``text`` and ``text_pair``.
    `Tokenizer.encode` has the last word on whether all of them are strings.

    Raises:
        BadInput: *inputs* are neither; an iterator raises it where it comes to what is no text.
    """
    inputs = _plain(inputs)
    if isinstance(inputs, str | tuple | Mapping):
        return _text(inputs, 1)
    texts = (_text(item, number) for number, item in enumerate(_many(inputs), start=1))
    return list(texts) if isinstance(inputs, Sized) else texts


def _many(inputs: Any) -> Iterator[object]:
    """The items of *inputs*.

    Raises:
        BadInput: They have none, or others than texts.
    """
    if isinstance(inputs, bytes | bytearray | memoryview):
        raise BadInput(f"{_TAKEN}; this is {_kind(inputs)}: decode it")
    if hasattr(inputs, "readline"):
        raise BadInput(
            f"{_TAKEN}; this is an open file: give its lines, (line.rstrip('\\n') for line in file)"
        )
    if len(getattr(inputs, "shape", ())) > 1:
        raise BadInput(f"{_TAKEN}; this is a table, {_kind(inputs)}: give one column of it")
    # Data sets of torch have a length and items by number, and no iterator.
    if isinstance(inputs, Iterable) or {"__len__", "__getitem__"} <= set(dir(inputs)):
        return iter(inputs)
    raise BadInput(f"{_TAKEN}; this is {_kind(inputs)}")


def _text(item: object, number: int) -> Text:
    item = _plain(item)
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping):
        return _from_mapping(item, number)
    if isinstance(item, tuple):
        if len(item) != 2:
            raise BadInput(
                f"text {number} is a tuple of {len(item)}; a tuple is a pair of two strings, "
                "and many texts are a list"
            )
        return cast("Text", tuple(map(_plain, item)))
    if _is_missing(item):
        raise BadInput(
            f"text {number} is missing, {item!r}; leave it out, or put an empty string in its place"
        )
    if isinstance(item, list):
        raise BadInput(
            f"text {number} is a list; a pair is a tuple of two strings, or "
            "{'text': ..., 'text_pair': ...}"
        )
    return cast("Text", item)


def _from_mapping(item: Mapping[Any, Any], number: int) -> Text:
    if "text" not in item or not item.keys() <= _KEYS:
        raise BadInput(
            f"text {number} is a {_kind(item)} with other keys than 'text' and 'text_pair'; "
            "of rows with more columns give the one that has the texts"
        )
    text, pair = _plain(item["text"]), _plain(item.get("text_pair"))
    if not isinstance(text, str):  # many texts under one key are not one text
        raise BadInput(f"text {number}: 'text' must be a string, not {_kind(text)}")
    return text if pair is None else cast("Text", (text, pair))


def _plain(value: Any) -> object:
    """*value*; a scalar of pyarrow or of NumPy as Python's own."""
    if isinstance(value, str):
        return value
    if hasattr(value, "as_py"):
        return value.as_py()
    return value.item() if getattr(value, "shape", None) == () else value


def _is_missing(item: object) -> bool:
    """Whether *item* is how a column says that there is no value."""
    if isinstance(item, float):
        return math.isnan(item)
    return item is None or type(item).__name__ in {"NAType", "NaTType"}


def _kind(value: object) -> str:
    return type(value).__name__
