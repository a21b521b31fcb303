"""The server: its routes, and what each answers. A request reads from `classify` down."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route

from labelwise import __version__
from labelwise.core.batcher import Batcher
from labelwise.core.cache import Cache
from labelwise.core.inference import Inference
from labelwise.errors import BadInput
from labelwise.server import hub, tei
from labelwise.server.access import Access
from labelwise.server.caller import Aside, Bodies, held_bytes, read_timeout, within
from labelwise.server.front import Door, Front, error_response, header_value, json_response
from labelwise.server.logs import log_failure, log_request
from labelwise.server.metrics import Metrics
from labelwise.server.openapi import describe
from labelwise.server.visit import UNKNOWN, visit_of
from labelwise.server.wire import (
    SCORE_BYTES,
    Parameters,
    check_answer,
    check_size,
    read_query,
    shown,
    write_answer,
)
from labelwise.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from starlette.requests import Request

    from labelwise.core.cache import Row
    from labelwise.core.catalogue import Catalogue, Entry
    from labelwise.server.front import Endpoint
    from labelwise.server.visit import Visit
    from labelwise.settings import Settings


class Server:
    """What the handlers share: the models, the queue, who may ask, and the settings."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self.catalogue = catalogue
        self.settings = settings
        self.access = Access(settings.read_access_token())
        self.bodies = Bodies(settings.max_body_bytes)
        self.aside = Aside()
        self.metrics = Metrics()
        self.ending = False
        self.batcher = Batcher(
            catalogue.first.model.streams,
            most_texts=settings.max_waiting_texts,
            most_seconds=settings.max_waiting_seconds,
            observe=self.metrics.ran,
        )
        for entry in catalogue:
            self.metrics.add(entry)
            self.batcher.add(entry.model)
        cache = Cache(settings.cache_bytes) if settings.cache_bytes else None
        self.metrics.watch(self.batcher, cache)
        self.inference = Inference(self.batcher, cache, self.metrics.encoded)

    @asynccontextmanager
    async def running(self, _: Starlette) -> AsyncIterator[None]:
        """The engine works inside; afterwards it has ended."""
        asyncio.get_running_loop().set_exception_handler(log_failure)
        self.batcher.start()
        yield
        await self.batcher.close()
        self.inference.close()
        self.aside.close()

    def find(self, request: Request) -> Entry:
        """The model that *request* names in its path; the first one where it names none.

        Raises:
            ModelNotFound: There is none of that name.
        """
        visit, name = visit_of(request), request.path_params.get("model")
        visit.model = UNKNOWN
        visit.entry = entry = self.catalogue.first if name is None else self.catalogue.find(name)
        visit.model = entry.id
        return entry

    def ailment(self) -> str:
        """Why no request would be answered; nothing where they are."""
        if self.ending:
            return "the server is ending"
        if not self.batcher.is_alive():
            return "the engine does not run; see the server's log"
        return ""

    def report(self, visit: Visit) -> None:
        """Count a request that has its outcome, and log it where that is wanted."""
        self.metrics.count(visit)
        if self.settings.log_requests:
            log_request(visit)

    def end(self) -> None:
        """Refuse new work from now on; what is admitted is finished."""
        self.ending = True
        self.bodies.end()


def create_app(catalogue: Catalogue, settings: Settings) -> Starlette:
    """The ASGI application that serves *catalogue*."""
    server = Server(catalogue, settings)
    hosts = settings.allowed_host if is_loopback(settings.host) else None
    overload = server.batcher.overload
    front = Middleware(Front, hosts=hosts, overload=overload, report=server.report)
    app = Starlette(
        routes=_routes(server.access),
        middleware=[front],
        exception_handlers={HTTPException: _http_error},
        lifespan=server.running,
    )
    app.router.redirect_slashes = False
    app.state.server = server
    return app


async def classify(request: Request) -> Response:
    """Labels and scores for the texts of a request, best first."""
    server: Server = request.app.state.server
    entry = server.find(request)
    seconds = read_timeout(request, server.settings.request_timeout)
    flat = _read_flag(request, "flat")
    body = await server.bodies.read(request)

    started, settings = perf_counter(), server.settings
    async with within(request, seconds):
        with server.bodies.hold(len(body)):
            reading = partial(read_query, body, settings.max_texts)
            query, unknown = await server.aside.run(len(body), reading)
            del body, reading
        texts, parameters = query.texts, query.parameters or Parameters()
        characters = check_size(
            texts, most_texts=settings.max_texts, most_characters=settings.max_characters
        )
        count = check_answer(len(texts), len(entry.model.labels), parameters.top_k)
        is_flat = flat and query.is_single
        with server.bodies.hold(held_bytes(texts)):
            rows = server.inference.rows(
                entry,
                texts,
                seconds,
                truncation=parameters.cut,
                max_length=parameters.max_length,
                fresh=query.fresh or request.headers.get("x-use-cache") in {"false", "0"},
            )
            del query, texts  # they are let go as soon as they are ids
            found = await rows
        function = parameters.function_to_apply or entry.model.function
        writing = partial(
            write_answer,
            found.rows,
            function,
            entry.model.labels,
            parameters.top_k,
            is_flat=is_flat,
        )
        scores, content = await server.aside.run(count * SCORE_BYTES, writing)
    visit = visit_of(request)
    visit.found, visit.scores = found, scores

    headers = {
        "x-compute-type": "cache" if found.cached else "cpu",
        "x-compute-characters": str(characters),
        "x-compute-tokens": str(sum(row.length for row in found.rows)),
        "x-compute-time": f"{perf_counter() - started:.3f}",
        "x-inference-id": uuid4().hex,
        "x-sha": entry.sha,
    }
    response = json_response(content, headers=headers)
    for warning in _warnings(found.rows, unknown, entry):
        response.headers.append("x-hf-warning", header_value(warning))
    return response


def _warnings(rows: Sequence[Row], unknown: list[str], entry: Entry) -> list[str]:
    """What the caller should know of a good answer, as the Hub's client reads it."""
    warnings = [f"parameters; {shown(name)} is unknown and was ignored" for name in unknown[:10]]
    cut = [row.length for row in rows if row.truncated]
    if cut:
        warnings.append(
            f"truncation; {len(cut)} of {len(rows)} texts were longer than {max(cut)} ids and were "
            f"cut; {entry.id} reads {entry.model.tokenizer.limit}"
        )
    return warnings


def _read_flag(request: Request, name: str) -> bool:
    given = request.query_params.get(name, "false")
    if given not in {"true", "false"}:
        raise BadInput(f"the query parameter {name} must be true or false")
    return given == "true"


async def health(request: Request) -> Response:
    """Whether a request would be answered: 200, or 503."""
    server: Server = request.app.state.server
    error = server.ailment()
    return json_response({"error": error}, 503) if error else json_response({"status": "ok"})


async def ready(request: Request) -> Response:
    """Whether a request would be taken now, and not refused because there are too many."""
    server: Server = request.app.state.server
    error = server.ailment()
    if not error and server.batcher.overload():
        error = "the server is busy: no text may wait now; try again in a second"
    return json_response({"error": error}, 503) if error else json_response({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Counts and times of this server, for Prometheus."""
    server: Server = request.app.state.server
    accept = request.headers.get("accept", "")
    content, kind = await asyncio.to_thread(server.metrics.written, accept)  # takes milliseconds
    return Response(content, headers={"content-type": kind})


async def info(request: Request) -> Response:
    """What is served, and within which limits."""
    server: Server = request.app.state.server
    entry, settings = server.catalogue.first, server.settings
    labels = dict(enumerate(entry.model.labels))
    return json_response(
        {
            "model_id": entry.id,
            "model_sha": entry.sha,
            "model_dtype": entry.model.dtype,
            "model_type": {
                "classifier": {
                    "id2label": {str(number): label for number, label in labels.items()},
                    "label2id": {label: number for number, label in labels.items()},
                }
            },
            "max_input_length": entry.model.tokenizer.limit,
            "max_client_batch_size": settings.max_texts,
            "max_characters": settings.max_characters,
            "max_body_bytes": settings.max_body_bytes,
            "max_waiting_texts": settings.max_waiting_texts,
            "models": [model.id for model in server.catalogue],
            "version": __version__,
        }
    )


async def openapi(_: Request) -> Response:
    """The routes and bodies of this server, as OpenAPI."""
    return json_response(describe())


async def _http_error(_: Request, error: Exception) -> Response:
    return error_response(error)


_INFERENCE = {"POST": classify}

# What pages of other sites may ask: inference, and what the Hub's clients look up before it.
SHARED: dict[str, Mapping[str, Endpoint]] = {
    "/": {"POST": classify, "GET": info},
    "/hf-inference/models/{model:path}/pipeline/text-classification": _INFERENCE,
    "/hf-inference/models/{model:path}": _INFERENCE,
    "/models/{model:path}": _INFERENCE,
    "/pipeline/text-classification/{model:path}": _INFERENCE,
    "/api/inference-proxy/hf-inference/models/{model:path}": _INFERENCE,
    "/predict": {"POST": tei.predict},
    "/api/models": {"GET": hub.list_models},
    "/api/models/{model:path}/revision/{revision}": {"GET": hub.show_model},
    "/api/models/{model:path}": {"GET": hub.show_model},
    "/api/tasks": {"GET": hub.list_tasks},
    "/api/whoami-v2": {"GET": hub.who_am_i},
}
OWN: dict[str, Mapping[str, Endpoint]] = {
    "/health": {"GET": health},
    "/ready": {"GET": ready},
    "/metrics": {"GET": metrics},
    "/info": {"GET": info},
    "/openapi.json": {"GET": openapi},
}
# What needs no access token; all other paths do where there is one. The Hub's clients look up
# models without any.
PUBLIC = {
    "/health",
    "/ready",
    "/api/models",
    "/api/models/{model:path}/revision/{revision}",
    "/api/models/{model:path}",
    "/api/tasks",
}


def _routes(access: Access) -> list[Route]:
    return [
        Route(path, Door(methods, check=None if path in PUBLIC else access.check, cors=shared))
        for paths, shared in ((SHARED, True), (OWN, False))
        for path, methods in paths.items()
    ]
