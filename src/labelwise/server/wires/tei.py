"""``POST /predict`` as text-embeddings-inference has it, for its clients.

There two strings in a list are one pair, not two texts, so it cannot share a path with the other
routes. A single text has a flat answer, a list of texts a nested one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from labelwise.engine.tokenizer.tokenizer import Direction, Tokenization
from labelwise.errors import BadInput
from labelwise.models.parameters import read_truncation
from labelwise.server.wires.json_bodies import decode
from labelwise.server.wires.wire import ANSWERS, Wire, encode
from labelwise.serving.classification import ClassifyRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labelwise.engine.tokenizer.tokenizer import Text

_Strings = Annotated[list[str], Meta(min_length=1, max_length=2)]  # a text, or a pair
_Texts = Annotated[list[_Strings], Meta(min_length=1)]
# The type below cannot tell the two kinds of lists apart, as the schema can: `_texts` does.
_INPUTS = {"oneOf": [msgspec.json.schema(kind) for kind in (str, _Strings, _Texts)]}

# What to send instead of what came, by where it was found.
_ADVICE = {
    "inputs": "inputs must be a string, a list of one or two strings, or a list of such lists",
    "raw_scores": "raw_scores must be true or false",
    "truncate": "truncate must be true, false or null",
    "truncation_direction": "truncation_direction must be Left or Right",
}
_DIRECTIONS: dict[str | None, Direction | None] = {None: None, "Left": "left", "Right": "right"}


class PredictQuery(msgspec.Struct):
    """Texts to classify, in the form of text-embeddings-inference."""

    inputs: Annotated[
        str | Annotated[list[str | _Strings], Meta(min_length=1)],
        Meta(extra_json_schema=_INPUTS),
    ]
    raw_scores: bool = False
    truncate: bool | None = None
    truncation_direction: Annotated[
        Literal["Left", "Right"] | None,
        Meta(description="The end that a long text loses. Default: the model's own."),
    ] = None


def read(body: bytes, _: Mapping[str, str], max_texts: int) -> ClassifyRequest:
    """The request that *body* makes, of *max_texts* texts at most.

    Raises:
        BadInput: It makes none.
        TooLarge: It has far more values than so many texts need.
    """
    query: PredictQuery = decode(body, PredictQuery, max_texts, _ADVICE)
    texts, single = _texts(query)
    return ClassifyRequest(
        texts,
        flat=single,
        function="none" if query.raw_scores else None,
        tokenization=Tokenization(
            read_truncation(query.truncate), direction=_DIRECTIONS[query.truncation_direction]
        ),
        fewer_scores="set top_k to {} or less on the path /",
    )


def _texts(query: PredictQuery) -> tuple[list[Text], bool]:
    """The texts of *query*, and whether they are a single one.

    Raises:
        BadInput: They are strings, but more than a pair has, or have lists among them.
    """
    inputs = query.inputs
    if isinstance(inputs, str):
        return [inputs], True
    strings = [item for item in inputs if isinstance(item, str)]
    if len(strings) == len(inputs) <= 2:
        return [_text(strings)], True
    if strings:
        raise BadInput(
            "on /predict a list of strings is one text or one pair; several texts are lists of "
            'their own: [["first"], ["second"]]'
        )
    return [_text(item) for item in inputs], False


def _text(strings: Sequence[str]) -> Text:
    """One string, or two, as a text or a pair."""
    return strings[0] if len(strings) == 1 else (strings[0], strings[1])


WIRE = Wire(
    name="predict",
    summary="The same as text-embeddings-inference has it: a list of two strings is a pair.",
    read=read,
    write=encode,
    body={"application/json": PredictQuery},
    answer=ANSWERS,
)
