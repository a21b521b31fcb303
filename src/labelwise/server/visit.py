"""What becomes known of one request on its way, for those who count and log requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from labelwise.core.catalogue import Entry
    from labelwise.core.inference import Found
    from labelwise.core.scores import Score

UNKNOWN = "unknown"  # stands for all ids of models that are not served


@dataclass(slots=True)
class Visit:
    """One request and what became of it. No text of it is kept, and no header but its id."""

    method: str
    request_id: str
    started: float = field(default_factory=perf_counter)
    route: str = "none"  # the handler; none where there is none for that path and method
    model: str = ""  # an id of the catalogue, or UNKNOWN; empty where the request names no model
    entry: Entry | None = None
    found: Found | None = None  # with the scores, where texts are answered
    scores: Sequence[Sequence[Score]] = ()
    refusal: str = ""  # a word for why it was refused
    status: int | None = None  # of the answer; None where the caller left before there was one
    seconds: float = 0.0  # from the head of the request to the head of the answer

    def end(self, status: int | None) -> None:
        """Note that the answer begins, or that the caller has left."""
        self.status = status
        self.seconds = perf_counter() - self.started


def visit_of(request: Request) -> Visit:
    """The visit that *request* is."""
    visit: Visit = request.scope["state"]["visit"]
    return visit
