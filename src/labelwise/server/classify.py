"""The handler of every classification, whatever its wire. A request reads from `classify` down."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING
from uuid import uuid4

from starlette.responses import Response

from labelwise import errors
from labelwise.server.caller import cancel_after, held_bytes, read_timeout
from labelwise.server.endpoint import Route
from labelwise.server.media import check_media_type, decoded
from labelwise.server.observe.record import record_of
from labelwise.server.responses import header_value
from labelwise.server.state import server_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from labelwise.server.wires.wire import Wire

# All that can come of a classification but scores; see also `Route.failures`.
_ERRORS = (
    errors.BadInput,
    errors.BadModel,
    errors.BodyTooLarge,
    errors.DeadlineExceeded,
    errors.EmptyInput,
    errors.EngineFailed,
    errors.HeadTooLarge,
    errors.InternalError,
    errors.MalformedBody,
    errors.Overloaded,
    errors.RequestTimeout,
    errors.TooLarge,
    errors.UnsupportedMediaType,
)
_TIMEOUT = {
    "name": "x-request-timeout",
    "in": "header",
    "description": "Seconds after which the answer is of no use.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_USE_CACHE = {
    "name": "x-use-cache",
    "in": "header",
    "description": "false or 0 computes the answer anew.",
    "schema": {"type": "string"},
}
_REQUEST_ID = {
    "name": "x-request-id",
    "in": "header",
    "description": "Comes back with the answer.",
    "schema": {"type": "string"},
}
_HEADERS = {
    "x-compute-type": "The device that computed the answer, or cache where all texts were known.",
    "x-compute-characters": "Characters of all texts.",
    "x-compute-tokens": "Tokens of all texts, as the model read them.",
    "x-inference-id": "A name for this answer.",
    "x-request-id": "The caller's, or a new one.",
    "x-sha": "The commit of the model, or a hash of its files.",
}
_WARNINGS = {
    "x-hf-warning": "What the caller should know of a good answer: unknown parameters, cut texts."
}


def classification(wire: Wire, path: str, operation: str = "") -> Route:
    """The route by which texts come to *path* in the form of *wire*, to be classified."""
    outcomes = {"200", "left", *(str(wire.failure.status(kind)) for kind in _ERRORS)}
    return Route(
        path=path,
        method="POST",
        handler=partial(classify, wire=wire),
        name=wire.name,
        summary=wire.summary,
        operation=operation,
        scope="inference",
        cross_origin=True,
        classifies=True,
        body=wire.body,
        example=wire.example,
        parameters=[*wire.parameters, _TIMEOUT, _USE_CACHE, _REQUEST_ID],
        answer=wire.answer,
        headers=_HEADERS | {time.name: time.description for time in wire.times},
        sometimes=_WARNINGS,
        failure=wire.failure,
        outcomes=" ".join(sorted(outcomes)),
    )


async def classify(request: Request, wire: Wire) -> Response:
    """Labels and scores for the texts of *request*, which comes in the form of *wire*."""
    server = server_of(request)
    entry = server.find(request)
    seconds = read_timeout(request, server.settings.request_timeout)
    check_media_type(request, json_only=wire.json_only)
    body = await server.bodies.read(request)

    started = perf_counter()
    async with cancel_after(request, seconds):
        body = await decoded(request, body, server.aside, server.settings.max_body_bytes)
        with server.bodies.hold(len(body)):
            reading = partial(wire.read, body, request.query_params, server.settings.max_texts)
            asked = await server.aside.run(len(body), reading)
            del body, reading
        if request.headers.get("x-use-cache") in {"false", "0"}:
            asked.bypass_cache = True
        with server.bodies.hold(held_bytes(asked.texts)):
            result = await server.classification.classify(entry, asked, seconds)
        content = await server.aside.run(result.bytes, partial(wire.write, asked, result))
    record_of(request).result = result

    headers = {
        "x-compute-type": result.device,
        "x-compute-characters": str(result.characters),
        "x-compute-tokens": str(result.tokens),
        "x-inference-id": uuid4().hex,
        "x-sha": entry.sha,
    }
    taken = perf_counter() - started
    headers |= {time.name: time.write(result, taken) for time in wire.times}
    safe = {name: header_value(value) for name, value in headers.items()}
    response = Response(content, headers=safe, media_type=wire.media_type)
    for warning in result.warnings:
        response.headers.append("x-hf-warning", header_value(warning))
    return response
