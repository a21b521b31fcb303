"""The record of one request, for those who count and log requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from labelwise.server.access import ANYBODY

if TYPE_CHECKING:
    from starlette.requests import Request

    from labelwise.server.access import Identity
    from labelwise.serving.catalogue import Entry
    from labelwise.serving.classification import ClassifyResult

NO_ROUTE = "none"  # stands for all paths and methods that have no route
UNKNOWN = "unknown"  # stands for all ids of models that are not served


@dataclass(slots=True)
class RequestRecord:
    """One request and its outcome. It keeps no text of the request, and no header but its id."""

    method: str
    request_id: str
    client: str = ""  # the address that the request came from
    started: float = field(default_factory=perf_counter)
    route: str = NO_ROUTE
    caller: Identity = ANYBODY
    model: str = ""  # an id of the catalogue, or UNKNOWN; empty where the request names no model
    entry: Entry | None = None
    result: ClassifyResult | None = None  # where texts are answered
    refusal: str = ""  # a word for the reason of a refusal
    status: int | None = None  # of the answer; None where the caller left before there was one
    seconds: float = 0.0  # from the head of the request to the head of the answer

    def finish(self, status: int | None) -> None:
        """Note that the answer begins, or that the caller has left."""
        self.status = status
        self.seconds = perf_counter() - self.started


def record_of(request: Request) -> RequestRecord:
    """The record of *request*."""
    record: RequestRecord = request.scope["state"]["record"]
    return record
