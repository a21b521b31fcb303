"""A wire: how requests for a classification come, and how their answers go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
from msgspec import UNSET, UnsetType

from labelwise.serving.classification import ClassifyRequest, ClassifyResult

if TYPE_CHECKING:
    from labelwise.errors import LabelwiseError


class Score(msgspec.Struct):
    """A label and how strongly it applies."""

    label: str
    score: float


class Failure(msgspec.Struct):
    """The reason why there is no answer, and what to do next, in one line.

    Where `error` is in the words of Hugging Face's service, `message` is the next step.
    """

    error: str
    message: str | UnsetType = UNSET

    @classmethod
    def of(cls, error: LabelwiseError) -> Self:
        """The body of an answer that tells *error*."""
        return cls(str(error), error.advice or UNSET)

    @classmethod
    def status(cls, kind: type[LabelwiseError]) -> int:
        """The status of answers that tell an error of this *kind*."""
        return kind.status


class Time(NamedTuple):
    """A header that tells how long an answer took, or a part of that."""

    name: str
    description: str
    write: Callable[[ClassifyResult, float], str]  # of the seconds from the request to the answer


ANSWERS = {"application/json": (list[list[Score]], list[Score])}

SECONDS = (
    Time(
        "x-compute-time",
        "Seconds from the whole request to the answer.",
        lambda _, seconds: f"{seconds:.3f}",
    ),
)

Read = Callable[[bytes, Mapping[str, str], int], ClassifyRequest]
Write = Callable[[ClassifyRequest, ClassifyResult], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """Two functions, and the descriptions of the bodies that they read and write, for OpenAPI.

    *read* makes a `ClassifyRequest` of a body, the query of its URL and the most texts that it may
    have; it raises `BadInput` for all else. *write* makes the body of an answer. Both may run in a
    thread aside. The other fields have defaults, which are Hugging Face's.
    """

    name: str  # the route in metrics and logs
    summary: str
    read: Read
    write: Write
    body: Mapping[str, Any]  # see `Route`
    answer: Mapping[str, Any]  # the first media type is the one that is answered
    example: Any = None
    parameters: Sequence[Mapping[str, Any]] = ()
    json_only: bool = False  # bodies of another content type than application/json are refused
    failure: type[Failure] = Failure  # the form of errors, and their statuses
    times: Sequence[Time] = SECONDS

    @property
    def media_type(self) -> str:
        """The media type of answers."""
        return next(iter(self.answer))


def encode(request: ClassifyRequest, result: ClassifyResult) -> bytes:
    """The scores of *result* as JSON: a list for each text, or the only one if that is *flat*."""
    return msgspec.json.encode(result.scores[0] if request.flat else result.scores)
