"""``POST /predict`` as text-embeddings-inference has it, for its clients.

There two strings in a list are one pair, not two texts, so it cannot share a path with Hugging
Face's routes. A single text has a flat answer, a list of texts a nested one. Errors have a type,
statuses of their own, and times are milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import msgspec
from msgspec import UNSET, Meta

from labelwise.engine.tokenizer.tokenizer import Direction, Tokenization
from labelwise.errors import (
    BadInput,
    BadModel,
    BodyTooLarge,
    DeadlineExceeded,
    EmptyInput,
    EngineFailed,
    InternalError,
    LabelwiseError,
    MalformedBody,
    ModelNotFound,
    Overloaded,
)
from labelwise.models.parameters import read_truncation
from labelwise.server.wires.json_bodies import decode
from labelwise.server.wires.wire import ANSWERS, Failure, Time, Wire, encode
from labelwise.serving.classification import ClassifyRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labelwise.engine.tokenizer.tokenizer import Text

FEWER_SCORES = "set top_k to {} or less on the path /"

# A text, or a pair; not both texts of a pair are empty.
_NOT_EMPTY = Meta(extra_json_schema={"contains": {"type": "string", "minLength": 1}})
_Strings = Annotated[list[str], Meta(min_length=1, max_length=2), _NOT_EMPTY]
_Texts = Annotated[list[_Strings], Meta(min_length=1)]
_String = Annotated[str, Meta(min_length=1)]
# The type below cannot tell the two kinds of lists apart, as the schema can: `_texts` does.
_INPUTS = {"oneOf": [msgspec.json.schema(kind) for kind in (_String, _Strings, _Texts)]}

# What to send instead of what came, by where it was found.
ADVICE = {
    "inputs": "inputs must be a string, a list of one or two strings, or a list of such lists",
    "raw_scores": "raw_scores must be true or false",
    "truncate": "truncate must be true, false or null",
    "truncation_direction": "truncation_direction must be Left or Right",
}
_DIRECTIONS: dict[str | None, Direction | None] = {
    None: None,
    "Left": "left",
    "left": "left",
    "Right": "right",
    "right": "right",
}

ErrorType = Literal["Backend", "Empty", "Overloaded", "Tokenizer", "Unhealthy", "Validation"]
# The status and the type of each kind of error; all others have their own status.
_REFUSALS: dict[type, tuple[int, ErrorType]] = {
    MalformedBody: (400, "Validation"),
    EmptyInput: (400, "Empty"),
    BodyTooLarge: (413, "Validation"),
    BadInput: (422, "Validation"),
    ModelNotFound: (404, "Validation"),
    BadModel: (424, "Backend"),
    EngineFailed: (424, "Backend"),
    Overloaded: (429, "Overloaded"),
    InternalError: (500, "Backend"),
    DeadlineExceeded: (504, "Overloaded"),
}


class PredictFailure(Failure, kw_only=True):
    """The reason why there is no answer, and its type, as text-embeddings-inference names it."""

    error_type: ErrorType

    @classmethod
    def of(cls, error: LabelwiseError) -> Self:
        """The body of an answer that tells *error*."""
        kind = _refusal(type(error))[1]
        return cls(str(error), error.advice or UNSET, error_type=kind)

    @classmethod
    def status(cls, kind: type[LabelwiseError]) -> int:
        """The status of answers that tell an error of this *kind*."""
        return _refusal(kind)[0]


def _refusal(kind: type[LabelwiseError]) -> tuple[int, ErrorType]:
    found = (_REFUSALS[one] for one in kind.__mro__ if one in _REFUSALS)
    return next(found, (kind.status, "Validation"))


class PredictQuery(msgspec.Struct):
    """Texts to classify, in the form of text-embeddings-inference."""

    inputs: Annotated[
        str | Annotated[list[str | _Strings], Meta(min_length=1)],
        Meta(extra_json_schema=_INPUTS),
    ]
    raw_scores: bool = False
    truncate: bool | None = None
    truncation_direction: Annotated[
        Literal["Left", "Right", "left", "right"] | None,
        Meta(description="The end that a long text loses. Default: the model's own."),
    ] = None

    @property
    def function(self) -> Literal["none"] | None:
        """The function from logits to scores; the model's own where None."""
        return "none" if self.raw_scores else None

    @property
    def tokenization(self) -> Tokenization:
        """The way in which texts become tokens."""
        direction = _DIRECTIONS[self.truncation_direction]
        return Tokenization(read_truncation(self.truncate), direction=direction)

    def texts(self) -> tuple[list[Text], bool]:
        """The texts, and whether they are a single one.

        Raises:
            EmptyInput: One of them is empty.
            BadInput: They are strings, but more than a pair has, or have lists among them.
        """
        inputs = self.inputs
        if isinstance(inputs, str):
            return [_text([inputs])], True
        strings = [item for item in inputs if isinstance(item, str)]
        if len(strings) == len(inputs) <= 2:
            return [_text(strings)], True
        if strings:
            raise BadInput(
                "here a list of strings is one text or one pair; several texts are lists of "
                'their own: [["first"], ["second"]]'
            )
        return [_text(item) for item in inputs], False


def _text(strings: Sequence[str]) -> Text:
    """One string, or two, as a text or a pair."""
    if not any(strings):
        raise EmptyInput("inputs holds an empty text; leave it out")
    return strings[0] if len(strings) == 1 else (strings[0], strings[1])


def read(body: bytes, _: Mapping[str, str], max_texts: int) -> ClassifyRequest:
    """The request that *body* makes, of *max_texts* texts at most.

    Raises:
        BadInput: It makes none.
        TooLarge: It has far more values than *max_texts* texts need.
    """
    query: PredictQuery = decode(body, PredictQuery, max_texts, ADVICE)
    texts, single = query.texts()
    return ClassifyRequest(
        texts,
        flat=single,
        function=query.function,
        tokenization=query.tokenization,
        fewer_scores=FEWER_SCORES,
    )


def _milliseconds(seconds: float) -> str:
    return str(int(seconds * 1_000))


_TOTAL = "Milliseconds from the whole request to the answer."
TIMES = (
    Time("x-compute-time", _TOTAL, lambda _, seconds: _milliseconds(seconds)),
    Time("x-total-time", _TOTAL, lambda _, seconds: _milliseconds(seconds)),
    Time(
        "x-tokenization-time",
        "Milliseconds until the texts were tokens.",
        lambda result, _: _milliseconds(result.stages.tokenization),
    ),
    Time(
        "x-queue-time",
        "Milliseconds from there until the first of them ran.",
        lambda result, _: _milliseconds(result.stages.queue),
    ),
    Time(
        "x-inference-time",
        "Milliseconds from there to the end of the last.",
        lambda result, _: _milliseconds(result.stages.inference),
    ),
)

WIRE = Wire(
    name="predict",
    summary="The same as text-embeddings-inference has it: a list of two strings is a pair.",
    read=read,
    write=encode,
    body={"application/json": PredictQuery},
    example={"inputs": "I like you. I love you"},
    answer=ANSWERS,
    json_only=True,
    failure=PredictFailure,
    times=TIMES,
)
