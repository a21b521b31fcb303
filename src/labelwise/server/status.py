"""Handlers about the server itself: health, readiness, metrics, limits, its own description."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from labelwise import __version__
from labelwise.server.openapi import describe
from labelwise.server.responses import json_response
from labelwise.server.state import server_of
from labelwise.serving import encoders

if TYPE_CHECKING:
    from starlette.requests import Request

    from labelwise.serving.catalogue import Entry


async def health(request: Request) -> Response:
    """Whether a request would be answered, by a model of the path: 200, or 503."""
    server = server_of(request)
    if "model" in request.path_params:
        server.find(request)
    error = server.unhealthy_reason()
    if error:
        return json_response({"error": error, "error_type": "Unhealthy"}, 503)
    return json_response({"status": "ok"})


async def ready(request: Request) -> Response:
    """Whether a request would be taken now, and not refused because there are too many."""
    server = server_of(request)
    error = server.unhealthy_reason()
    if not error and server.batcher.overload():
        error = "the server is busy: no text may wait now; try again in a second"
    return json_response({"error": error}, 503) if error else json_response({"status": "ready"})


async def metrics(request: Request) -> Response:
    """Counts and times of this server, for Prometheus."""
    server = server_of(request)
    accept = request.headers.get("accept", "")
    content, kind = await asyncio.to_thread(server.metrics.written, accept)  # takes milliseconds
    return Response(content, headers={"content-type": kind})


async def info(request: Request) -> Response:
    """The model of the path, or the first; all that are served, and the limits of requests."""
    server = server_of(request)
    entry, settings = server.find(request), server.settings
    labels = dict(enumerate(entry.model.labels))
    return json_response(
        {
            "model_id": entry.id,
            "served_model_name": entry.id,
            "model_sha": entry.sha,
            "model_dtype": entry.model.dtype,
            "device": entry.model.device,
            "model_type": {
                "classifier": {
                    "id2label": {str(number): label for number, label in labels.items()},
                    "label2id": {label: number for number, label in labels.items()},
                }
            },
            "description": entry.listing.description,
            "function_to_apply": entry.function,
            "calibration": _calibration(entry),
            "max_input_length": entry.model.tokenizer.limit,
            "max_concurrent_requests": settings.max_waiting_texts,  # each has a text or more
            "max_batch_tokens": entry.model.backend.batch_tokens,
            "max_batch_requests": None,
            "max_client_batch_size": settings.max_texts,
            "max_characters": settings.max_characters,
            "max_body_bytes": settings.max_body_bytes,
            "max_waiting_texts": settings.max_waiting_texts,
            "auto_truncate": True,
            "tokenization_workers": encoders.THREADS,
            "models": [one.id for one in server.models(request)],
            "version": __version__,
            "sha": None,
            "docker_label": None,
        }
    )


def _calibration(entry: Entry) -> dict[str, Any] | None:
    """The changes to the scores of *entry* that its operator lists; None where there are none."""
    listing = entry.listing
    if not listing.is_calibrated:
        return None
    return {"temperature": listing.temperature, "thresholds": listing.thresholds}


async def openapi(request: Request) -> Response:
    """The routes and bodies of this server, as OpenAPI."""
    return json_response(describe(server_of(request).routes))
