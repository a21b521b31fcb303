"""The state of the server, which handlers share."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from labelwise.models.files import Hasher
from labelwise.server.access import OneAccessToken
from labelwise.server.caller import Bodies
from labelwise.server.observe.logs import log_failure, log_request
from labelwise.server.observe.metrics import Metrics
from labelwise.server.observe.record import UNKNOWN, record_of
from labelwise.serving.aside import Aside
from labelwise.serving.batcher import Batcher
from labelwise.serving.cache import Cache
from labelwise.serving.classification import Classification
from labelwise.serving.inference import Inference

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.applications import Starlette
    from starlette.requests import Request

    from labelwise.server.access import Access
    from labelwise.server.endpoint import Route
    from labelwise.server.observe.record import RequestRecord
    from labelwise.serving.catalogue import Catalogue, Entry
    from labelwise.settings import Settings


# Pieces of files that are read at once. All that are read while the event loop is busy are sent
# together afterwards, and whoever comes new waits for that: so they are few.
_PIECES_AT_ONCE = 2


class Server:
    """The models, the queue, the rules of access, the settings and the metrics of one server."""

    def __init__(self, catalogue: Catalogue, settings: Settings, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._unlogged = {route.name for route in routes if route.probe and not settings.log_probes}
        self.catalogue = catalogue
        self.settings = settings
        self.access: Access = OneAccessToken(settings.read_access_token())
        self.bodies = Bodies(settings.max_body_bytes)
        self.aside = Aside()
        self.hasher = Hasher()
        self.reading = asyncio.Semaphore(_PIECES_AT_ONCE)
        self.metrics = Metrics(routes)
        self.draining = False
        self.batcher = Batcher(
            catalogue.first.model.backend,
            max_texts=settings.max_waiting_texts,
            max_seconds=settings.max_waiting_seconds,
            observe=self.metrics.ran,
        )
        for entry in catalogue:
            self.metrics.add(entry)
            self.batcher.add(entry.model)
        cache = Cache(settings.cache_bytes) if settings.cache_bytes else None
        self.metrics.watch(self.batcher, cache)
        self.inference = Inference(self.batcher, cache, self.metrics.encoded)
        self.classification = Classification(
            self.inference,
            self.aside,
            max_texts=settings.max_texts,
            max_characters=settings.max_characters,
        )

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncIterator[None]:
        """Run the engine inside, and end it afterwards."""
        asyncio.get_running_loop().set_exception_handler(log_failure)
        self.batcher.start()
        yield
        await self.batcher.close()
        self.inference.close()
        self.aside.close()
        self.hasher.close()

    def find(self, request: Request) -> Entry:
        """The model that *request* names in its path; the first one where it names none.

        Raises:
            ModelNotFound: There is none of that name; the advice names some that there are.
        """
        record, name = record_of(request), request.path_params.get("model")
        record.model = UNKNOWN
        if name is None:
            entry = self.catalogue.first
        else:
            entry = self.catalogue.find(name, record.caller.sees)
        record.entry, record.model = entry, entry.id
        return entry

    def models(self, request: Request) -> list[Entry]:
        """The models that the caller of *request* sees, in their order."""
        return [entry for entry in self.catalogue if record_of(request).caller.sees(entry)]

    def unhealthy_reason(self) -> str:
        """The reason why no request would be answered; empty where they are."""
        if self.draining:
            return "the server is ending"
        if not self.batcher.is_alive():
            return "the engine does not run; see the server's log"
        return ""

    def report(self, record: RequestRecord) -> None:
        """Count a request that has its outcome, and log it if the settings say so."""
        self.metrics.count(record)
        if self.settings.log_requests and record.route not in self._unlogged:
            log_request(record)

    def refuse_work(self) -> None:
        """Refuse new work from now on; what is admitted is finished."""
        self.draining = True
        self.bodies.refuse_incomplete()


def attach(app: Starlette, server: Server) -> None:
    """Make *server* the one that handlers of *app* find."""
    app.state.server = server


def server_of(request: Request) -> Server:
    """The server that *request* came to."""
    return server_in(request.app)


def server_in(app: Starlette) -> Server:
    """The server whose application is *app*."""
    server: Server = app.state.server
    return server
