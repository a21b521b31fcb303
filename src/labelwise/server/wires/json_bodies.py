"""JSON bodies: bytes to values of a type, with errors that say what to send instead."""

from __future__ import annotations

import codecs
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from labelwise.engine.nesting import TooManyValues, check_depth
from labelwise.errors import BadInput, MalformedBody, TooLarge
from labelwise.models.parameters import read_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

_AROUND = {"parameters", "instances"}  # fields that have others in them
_MORE_VALUES = 10_000  # than the texts of pairs: parameters, and what is ignored
_NAME = re.compile(r"[A-Za-z_]\w{0,39}", re.ASCII)
_BLOCK_BYTES = 2**16  # that are repaired at once: meanwhile no other thread runs
_BACKSLASH = b"\xff\xff"  # an escaped one, in bytes that UTF-8 does not have
_FIRST = rb"\\u[dD][89abAB][0-9a-fA-F]{2}"  # half of a surrogate pair
_SECOND = rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_FIRST_HALF = re.compile(_FIRST)
# Half of a pair without the other, where every backslash begins an escape.
_HALF = re.compile(rb"%b(?!%b)|%b(?<!%b%b)" % (_FIRST, _SECOND, _SECOND, _FIRST, _SECOND))
# What msgspec says: what is wrong, which may quote a text, and where.
_REASON = re.compile(r"(.*?)(?: - at `\$([\w.\[\]]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_TYPES = re.compile(r"Expected `[\w| ]+`, got `([\w| ]+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)


def decode(body: bytes, into: Any, max_texts: int, advice: Mapping[str, str]) -> Any:
    """*body*, which is JSON, as a value of the type *into*, which may use `Whole`.

    Half of a surrogate pair, which is no character, is read as U+FFFD.

    Args:
        body: What came.
        into: A type that msgspec knows.
        max_texts: How many texts a request may have. Far more values are not made into objects.
        advice: What to send instead, by the name of the field that is wrong; the first stands for
            the whole body.

    Raises:
        MalformedBody: It is not JSON in UTF-8.
        BadInput: It is not such a value.
        TooLarge: It has far too many values.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    as_text(body)  # the decoder does not look at what it skips
    try:
        check_depth(body, max_values=2 * max_texts + _MORE_VALUES)
    except TooManyValues:
        raise TooLarge(
            f"the body has many more values than {max_texts} texts; send {max_texts} at most"
        ) from None
    except ValueError:
        raise MalformedBody("the body is JSON that is nested too deeply") from None
    try:
        try:
            return decoder(into).decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return decoder(into).decode(_repaired(body))
    except msgspec.ValidationError as reason:
        raise BadInput(_explained(str(reason), advice)) from None
    except msgspec.DecodeError:
        raise _malformed(body) from None


class Whole(int):
    """A whole number from 1. In JSON, 1.0 is one as well."""


def schema_of(kind: type) -> dict[str, Any]:
    """The JSON schema of `Whole`, for msgspec."""
    if kind is Whole:
        return {"type": "integer", "minimum": 1}
    raise NotImplementedError


def _hook(kind: type, value: Any) -> Any:
    """*value* as a `Whole`, for msgspec."""
    if kind is Whole:
        return Whole(read_whole(value, "not a whole number from 1"))
    raise NotImplementedError


@cache
def decoder(into: Any) -> msgspec.json.Decoder[Any]:
    """The decoder of JSON for the type *into*."""
    return msgspec.json.Decoder(into, dec_hook=_hook)


def shown(name: str) -> str:
    """The *name* of a parameter, if it is a name: what else stands there is not repeated."""
    return name if _NAME.fullmatch(name) else "(not a name)"


def as_text(body: bytes) -> str:
    """*body* as text.

    Raises:
        MalformedBody: It is not UTF-8.
    """
    try:
        return body.decode()
    except UnicodeDecodeError as reason:
        raise MalformedBody(
            str(reason)
        ) from None  # names a byte and its place, as the contract asks


def _repaired(body: bytes) -> bytes:
    """*body*, which is JSON in UTF-8, with U+FFFD for every half of a surrogate pair."""
    marked = body.replace(rb"\\", _BACKSLASH)
    blocks, start = [], 0
    while start < len(marked):
        end = _cut(marked, start + _BLOCK_BYTES)
        blocks.append(_HALF.sub(rb"\\ufffd", marked[start:end]))
        start = end
    return b"".join(blocks).replace(_BACKSLASH, rb"\\")


def _cut(marked: bytes, end: int) -> int:
    """*end*, or the place a little before it that is inside no escape and no pair of them."""
    escape = marked.rfind(b"\\", end - 5, end)
    if escape >= 0 and end < len(marked):
        end = escape
    return end - 6 if _FIRST_HALF.match(marked, end - 6) else end


def _malformed(body: bytes) -> MalformedBody:
    """The reason why *body* is not JSON, and its place. Python's own reader counts characters."""
    try:
        # Numbers are not looked at: there may be more digits than Python wants to read.
        json.loads(body.decode(), parse_int=str, parse_float=str, parse_constant=_refuse_constant)
        said = "it cannot be read"
    except json.JSONDecodeError as reason:
        said = f"{reason.msg.removesuffix(' at')} at character {reason.pos}"
    except BadInput as reason:
        said = str(reason)
    return MalformedBody(
        f"the body is not valid JSON: {said}; a text that begins with a brace, a bracket or a "
        "quotation mark must be sent as JSON"
    )


def _refuse_constant(name: str) -> None:
    raise BadInput(f"{name} is no value of JSON")


def _explained(reason: str, advice: Mapping[str, str]) -> str:
    """The mistake, and what to send instead. The value that came is left out: it may be text."""
    what, path = _REASON.fullmatch(reason).groups("")  # type: ignore[union-attr]  # any text does
    if what == "Object missing required field `inputs`":
        return 'inputs is missing; send {"inputs": "your text"}'
    if unknown := _UNKNOWN.fullmatch(what):
        name = unknown[1]
        return advice.get(name) or f"inputs: an object has text and text_pair, not {shown(name)}"
    missing = _MISSING.fullmatch(what)
    if missing and missing[1] in advice:
        return f"{missing[1]} is missing; {advice[missing[1]]}"
    types = _TYPES.fullmatch(what)
    came = f"; got {types[1]}" if types else ""
    names = [name for name in advice if re.search(rf"\b{name}\b", path)]
    names = names or [next(iter(advice))]
    place = next((name for name in names if name not in _AROUND), names[0])
    if "length" in what and place == "inputs":
        return "inputs holds an empty list, or a list that is no pair of two strings"
    return advice[place] + came
