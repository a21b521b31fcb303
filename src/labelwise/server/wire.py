"""The bodies of Hugging Face's text-classification call: bytes to a query.

The types here decode requests, and the same types are the schemas of ``/openapi.json``.
"""

from __future__ import annotations

import codecs
import json
import re
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from labelwise.core.parameters import ADVICE, read_truncation
from labelwise.core.scores import Function, answers
from labelwise.engine.nesting import TooManyValues, check_depth
from labelwise.engine.text import Text, Truncation, characters
from labelwise.errors import BadInput, TooLarge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labelwise.core.cache import Row
    from labelwise.core.scores import Score


class Pair(msgspec.Struct):
    """A text, with a second one where the model compares two."""

    text: str
    text_pair: str | None = None


class Parameters(msgspec.Struct):
    """How to classify. A parameter that is null or absent has its default."""

    function_to_apply: Annotated[
        Function | None,
        Meta(description="From logits to scores. Default: the model's own function."),
    ] = None
    top_k: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Limits the answer to so many labels, the best. Default: all."),
    ] = None
    truncation: Annotated[
        bool | Truncation | None,
        Meta(
            description="What a text that is longer than the model reads loses: its end (true, the "
            "default), that of one text of a pair, or nothing: then the request is refused."
        ),
    ] = None
    max_length: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Fewer ids than the model reads."),
    ] = None

    @property
    def cut(self) -> Truncation:
        """The truncation, by its name."""
        return read_truncation(self.truncation)


Item = str | Pair | Annotated[list[str], Meta(min_length=2, max_length=2)]
Items = Annotated[list[Item], Meta(min_length=1)]


class Query(msgspec.Struct):
    """Texts to classify: one, or a list; each a string or a pair."""

    inputs: Annotated[
        str | Pair | Items,
        Meta(description="A text, a pair of texts, or a list of them."),
    ]
    parameters: Parameters | None = None
    options: Annotated[
        msgspec.Raw | UnsetType,  # nothing of it is made into objects, whatever it is
        Meta(description="use_cache: false computes the answer anew; all else is ignored."),
    ] = UNSET

    @property
    def fresh(self) -> bool:
        """Whether the answer is to be computed even if it is known."""
        if self.options is UNSET:
            return False
        try:
            return bytes(_decoder(_Options).decode(self.options).use_cache) == b"false"
        except msgspec.DecodeError:
            return False

    @property
    def texts(self) -> list[Text]:
        """All texts, in the order of their answers."""
        items = self.inputs if isinstance(self.inputs, list) else [self.inputs]
        return [_text(item) for item in items]

    @property
    def is_single(self) -> bool:
        """Whether the inputs are one text, not a list."""
        return not isinstance(self.inputs, list)


class _Options(msgspec.Struct):
    """What is read of the options."""

    use_cache: msgspec.Raw = msgspec.Raw(b"true")


class _Names(msgspec.Struct):
    """The names of the parameters that came, known or not."""

    parameters: dict[str, msgspec.Raw] | UnsetType | None = UNSET


_MORE_VALUES = 10_000  # than the texts of pairs: parameters, and what is ignored
SCORE_BYTES = 60  # of JSON for a label and its score, or so
MOST_SCORES = 100_000  # of an answer: some 6 MB of JSON, and a tenth of a second to make
MOST_LOGITS = 10_000_000  # of a request: 40 MB

_Body = Query | str | Items
_KNOWN = frozenset(Parameters.__struct_fields__)
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
_TYPES = re.compile(r"Expected `[\w| ]+`, got `([\w| ]+)`")

# What to send instead of what came, by where it was found.
_ADVICE = {
    "inputs": "inputs must be a string, an object with text and text_pair, or a list of them",
    **ADVICE,
    "parameters": "parameters must be an object",
}


def read_query(body: bytes, most_texts: int) -> tuple[Query, list[str]]:
    """What *body* asks for, and the names of its parameters that are not known.

    A body that begins with a brace, a bracket or a quotation mark is JSON; any other is the text.

    Raises:
        BadInput: It is neither JSON nor text in UTF-8, or not a query.
        TooLarge: It has far more values than *most_texts* need.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise BadInput('the body is empty; send {"inputs": "your text"}')
    if body.lstrip()[:1] not in b'{["':
        return Query(_decoded(body)), []
    query = decode(body, _Body, most_texts)
    if not isinstance(query, Query):
        return Query(query), []
    names = None if query.parameters is None else decode(body, _Names, most_texts).parameters
    return query, [name for name in names or () if name not in _KNOWN]


def decode(body: bytes, into: Any, most_texts: int, advice: Mapping[str, str] = _ADVICE) -> Any:
    """*body*, which is JSON, as a value of the type *into*.

    Half of a surrogate pair, which is no character, is read as U+FFFD.

    Args:
        body: What came.
        into: A type that msgspec knows.
        most_texts: How many texts a request may have. Far more values are not made into objects.
        advice: What to send instead, by the name of the field that is wrong.

    Raises:
        BadInput: It is not JSON in UTF-8, or not such a value.
        TooLarge: It has far too many values.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    _decoded(body)  # the decoder does not look at what it skips
    try:
        check_depth(body, most_values=2 * most_texts + _MORE_VALUES)
    except TooManyValues:
        raise TooLarge(
            f"the body has many more values than {most_texts} texts; send {most_texts} at most"
        ) from None
    except ValueError:
        raise BadInput("the body is JSON that is nested too deeply") from None
    try:
        try:
            return _decoder(into).decode(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return _decoder(into).decode(_repaired(body))
    except msgspec.ValidationError as reason:
        raise BadInput(_explained(str(reason), advice)) from None
    except msgspec.DecodeError:
        raise _malformed(body) from None


_decoder = cache(msgspec.json.Decoder)


def check_size(texts: list[Text], *, most_texts: int, most_characters: int) -> int:
    """How many characters *texts* have.

    Raises:
        TooLarge: There are too many texts, or too many characters.
    """
    if len(texts) > most_texts:
        raise TooLarge(f"{len(texts)} texts in one request; send {most_texts} at most")
    length = characters(texts)
    if length > most_characters:
        raise TooLarge(f"{length} characters in one request; send {most_characters} at most")
    return length


def check_answer(texts: int, labels: int, top_k: int | None, where: str = "") -> int:
    """How many scores so many *texts* get, of so many *labels*, or the *top_k* best of them.

    *where* says on which path there is a top_k, for those of one that has none.

    Raises:
        TooLarge: They are more than one answer may have.
    """
    if texts > 1 and texts * labels > MOST_LOGITS:
        raise TooLarge(
            f"{texts} texts in one request to a model of {labels} labels; "
            f"send {max(MOST_LOGITS // labels, 1)} at most"
        )
    most = MOST_SCORES // texts  # of one text
    if min(labels, top_k or labels) > most:
        fewer = f"set top_k to {most} or less{where}" if most else ""
        advice = ", or ".join(filter(None, (fewer, "send fewer texts" if texts > 1 else "")))
        raise TooLarge(
            f"{texts} texts with {min(labels, top_k or labels)} labels each are more than the "
            f"{MOST_SCORES} scores of one answer; {advice}"
        )
    return texts * min(labels, top_k or labels)


def write_answer(
    rows: Sequence[Row],
    function: Function,
    labels: Sequence[str],
    top_k: int | None,
    *,
    is_flat: bool,
) -> tuple[list[list[Score]], msgspec.Raw]:
    """The scores of each of *rows*, and as JSON; those of the only one where that *is_flat*."""
    scores = answers([row.logits for row in rows], function, labels, top_k)
    return scores, msgspec.Raw(msgspec.json.encode(scores[0] if is_flat else scores))


def shown(name: str) -> str:
    """The *name* of a parameter, if it is a name: what else stands there is not repeated."""
    return name if _NAME.fullmatch(name) else "(not a name)"


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as reason:
        raise BadInput(str(reason)) from None  # names a byte and its place, as the contract asks


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


def _malformed(body: bytes) -> BadInput:
    """The reason why *body* is not JSON, and its place. Python's own reader counts characters."""
    try:
        # Numbers are not looked at: there may be more digits than Python wants to read.
        json.loads(body.decode(), parse_int=str, parse_float=str, parse_constant=_refuse_constant)
        said = "it cannot be read"
    except json.JSONDecodeError as reason:
        said = f"{reason.msg.removesuffix(' at')} at character {reason.pos}"
    except BadInput as reason:
        said = str(reason)
    return BadInput(
        f"the body is not valid JSON: {said}; a text that begins with a brace, a bracket or a "
        "quotation mark must be sent as JSON"
    )


def _refuse_constant(name: str) -> None:
    raise BadInput(f"{name} is no value of JSON")


def _explained(reason: str, advice: Mapping[str, str]) -> str:
    """What is wrong and what to send instead. The value that came is left out: it may be text."""
    what, path = _REASON.fullmatch(reason).groups("")  # type: ignore[union-attr]  # any text does
    if what == "Object missing required field `inputs`":
        return 'inputs is missing; send {"inputs": "your text"}'
    types = _TYPES.fullmatch(what)
    came = f"; got {types[1]}" if types else ""
    names = [name for name in advice if re.search(rf"\b{name}\b", path)]
    place = next((name for name in names if name != "parameters"), *names[:1] or ["inputs"])
    if "length" in what and place == "inputs":
        return "inputs holds an empty list, or a list that is no pair of two strings"
    return advice[place] + came


def _text(item: Item) -> Text:
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        return (item[0], item[1])
    return item.text if item.text_pair is None else (item.text, item.text_pair)
