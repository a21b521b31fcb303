"""Hugging Face's text-classification call: its bodies, its parameters, its answers.

The types here decode requests, and the same types are the schemas of ``/openapi.json``.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from labelwise.engine.tokenizer.tokenizer import Text, Tokenization, Truncation
from labelwise.errors import BadInput
from labelwise.models.parameters import ADVICE, read_truncation
from labelwise.models.scores import Function
from labelwise.server.wires.json_bodies import as_text, decode, decoder, shown
from labelwise.server.wires.wire import ANSWERS, Wire, encode
from labelwise.serving.classification import ClassifyRequest

if TYPE_CHECKING:
    from collections.abc import Mapping


class Pair(msgspec.Struct):
    """A text, with a second one where the model compares two."""

    text: str
    text_pair: str | None = None


class Parameters(msgspec.Struct):
    """Parameters of a classification. A parameter that is null or absent has its default."""

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
        Meta(description="Fewer tokens than the model reads."),
    ] = None

    @property
    def tokenization(self) -> Tokenization:
        """The way in which texts become tokens."""
        return Tokenization(read_truncation(self.truncation), max_length=self.max_length)


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
    def bypass_cache(self) -> bool:
        """Whether the answer is to be computed even if it is known."""
        if self.options is UNSET:
            return False
        try:
            return bytes(decoder(_Options).decode(self.options).use_cache) == b"false"
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
    """The one option that counts."""

    use_cache: msgspec.Raw = msgspec.Raw(b"true")


class _Names(msgspec.Struct):
    """The names of the parameters that came, known or not."""

    parameters: dict[str, msgspec.Raw] | UnsetType | None = UNSET


_Body = Query | str | Items
_KNOWN = frozenset(Parameters.__struct_fields__)

# What to send instead of what came, by where it was found.
_ADVICE = {
    "inputs": "inputs must be a string, an object with text and text_pair, or a list of them",
    **ADVICE,
    "parameters": "parameters must be an object",
}


def read(body: bytes, query: Mapping[str, str], max_texts: int) -> ClassifyRequest:
    """The request that *body* and the *query* of its URL make, of *max_texts* texts at most.

    Raises:
        BadInput: They make none.
        TooLarge: The body has far more values than so many texts need.
    """
    flat = query.get("flat", "false")
    if flat not in {"true", "false"}:
        raise BadInput("the query parameter flat must be true or false")
    asked, unknown = read_query(body, max_texts)
    parameters = asked.parameters or Parameters()
    return ClassifyRequest(
        asked.texts,
        flat=flat == "true" and asked.is_single,
        function=parameters.function_to_apply,
        top_k=parameters.top_k,
        tokenization=parameters.tokenization,
        bypass_cache=asked.bypass_cache,
        warnings=[f"parameters; {shown(name)} is unknown and was ignored" for name in unknown[:10]],
    )


def read_query(body: bytes, max_texts: int) -> tuple[Query, list[str]]:
    """The query in *body*, and the names of its parameters that are not known.

    A body that begins with a brace, a bracket or a quotation mark is JSON; any other is the text.

    Raises:
        BadInput: It is neither JSON nor text in UTF-8, or not a query.
        TooLarge: It has far more values than *max_texts* need.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    if not body.strip():
        raise BadInput('the body is empty; send {"inputs": "your text"}')
    if body.lstrip()[:1] not in b'{["':
        return Query(as_text(body)), []
    query = decode(body, _Body, max_texts, _ADVICE)
    if not isinstance(query, Query):
        return Query(query), []
    names = (
        None if query.parameters is None else decode(body, _Names, max_texts, _ADVICE).parameters
    )
    return query, [name for name in names or () if name not in _KNOWN]


def _text(item: Item) -> Text:
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        return (item[0], item[1])
    return item.text if item.text_pair is None else (item.text, item.text_pair)


# A text that may come bare: behind its blanks something begins that is no JSON.
_BARE = r"""^[ \t-\r]*[^ \t-\r{\["\ufeff]"""
_NO_JSON_TEXT = {
    "type": ["number", "boolean", "null"],
    "description": "Read as text, digit by digit.",
}

WIRE = Wire(
    name="classify",
    summary="Labels and scores for the texts of a request, best first.",
    read=read,
    write=encode,
    body={
        "application/json": (Query, str, Items, _NO_JSON_TEXT),
        "text/plain": {"type": "string", "pattern": _BARE},
    },
    example={"inputs": "I like you. I love you", "parameters": {"top_k": 1}},
    answer=ANSWERS,
    parameters=[
        {
            "name": "flat",
            "in": "query",
            "description": "Answer a single text with a flat list, as the published page has it.",
            "schema": {"type": "boolean", "default": False},
        }
    ],
)
