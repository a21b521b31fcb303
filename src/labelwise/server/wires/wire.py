"""A wire: how requests for a classification come, and how their answers go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from labelwise.serving.classification import ClassifyRequest, ClassifyResult


class Score(msgspec.Struct):
    """A label and how strongly it applies."""

    label: str
    score: float


ANSWERS = {"application/json": (list[list[Score]], list[Score])}

Read = Callable[[bytes, Mapping[str, str], int], ClassifyRequest]
Write = Callable[[ClassifyRequest, ClassifyResult], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """Two functions, and what OpenAPI says of the bodies that they read and write.

    *read* makes a `ClassifyRequest` of a body, the query of its URL and the most texts that it may
    have; it raises `BadInput` for all else. *write* makes the body of an answer. Both may run in a
    thread aside.
    """

    name: str  # the route in metrics and logs
    summary: str
    read: Read
    write: Write
    body: Mapping[str, Any]  # see `Route`
    answer: Mapping[str, Any]  # the first media type is the one that is answered
    example: Any = None
    parameters: Sequence[Mapping[str, Any]] = ()

    @property
    def media_type(self) -> str:
        """The media type of answers."""
        return next(iter(self.answer))


def encode(request: ClassifyRequest, result: ClassifyResult) -> bytes:
    """The scores of *result* as JSON: a list for each text, or the only one if that is *flat*."""
    return msgspec.json.encode(result.scores[0] if request.flat else result.scores)
