"""``/openapi.json``: the routes, and the types that decode and encode their bodies."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from labelwise import __version__
from labelwise.server.tei import PredictQuery
from labelwise.server.wire import Items, Query


class Failure(msgspec.Struct):
    """Why there is no answer: what came, and what to do next, in one line."""

    error: str


class Score(msgspec.Struct):
    """A label and how strongly it applies."""

    label: str
    score: float


_REFUSALS = {
    "400": "The request cannot be used.",
    "401": "No access token, or not the right one, where the server asks for one.",
    "403": "The request is for a host that this server does not answer for.",
    "404": "There is no such model, or path.",
    "408": "The body did not arrive in time.",
    "413": "The body, its texts or its characters are more than the server takes at once.",
    "429": "The server is busy; Retry-After says for how many seconds.",
    "500": "The server failed; its log has more.",
    "504": "The answer was not ready in time.",
}
_BODIES: dict[str, Any] = {
    "Query": Query,
    "Items": Items,
    "Scores": list[list[Score]],
    "FlatScores": list[Score],
    "PredictQuery": PredictQuery,
    "Failure": Failure,
}
_ROUTES = {
    "/": "classify_first",
    "/models/{model}": "classify",
    "/hf-inference/models/{model}": "classify_as_router",
    "/hf-inference/models/{model}/pipeline/text-classification": "classify_as_router_task",
    "/pipeline/text-classification/{model}": "classify_as_pipeline",
    "/api/inference-proxy/hf-inference/models/{model}": "classify_as_proxy",
}


@cache
def describe() -> dict[str, Any]:
    """The server in OpenAPI 3.1."""
    schemas, components = msgspec.json.schema_components(
        _BODIES.values(), ref_template="#/components/schemas/{name}"
    )
    bodies = dict(zip(_BODIES, schemas, strict=True))
    paths: dict[str, Any] = {
        path: {"post": _classify(name, bodies, with_model="{model}" in path)}
        for path, name in _ROUTES.items()
    }
    paths["/predict"] = {"post": _predict(bodies)}
    for path, (name, summary, statuses) in _LOOK_UPS.items():
        paths.setdefault(path, {})["get"] = _look_up(name, summary, statuses, bodies)
    paths["/metrics"] = {"get": _metrics(bodies)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Labelwise", "version": __version__, "license": _LICENSE},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"accessToken": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"accessToken": []}],
    }


# A text that may come bare: behind its blanks something begins that is no JSON.
_BARE = r"""^[ \t-\r]*[^ \t-\r{\["\ufeff]"""
_LICENSE = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
_MODEL = {
    "name": "model",
    "in": "path",
    "required": True,
    "description": "The id of a model, with or without its namespace.",
    "schema": {"type": "string", "minLength": 1},
}
_FLAT = {
    "name": "flat",
    "in": "query",
    "description": "Answer a single text with a flat list, as the published page has it.",
    "schema": {"type": "boolean", "default": False},
}
_TIMEOUT = {
    "name": "x-request-timeout",
    "in": "header",
    "description": "Seconds after which the answer is of no use.",
    "schema": {"type": "number", "exclusiveMinimum": 0},
}
_REQUEST_ID = {
    "name": "x-request-id",
    "in": "header",
    "description": "Comes back with the answer.",
    "schema": {"type": "string"},
}
_NOT_READY = "The server is ending, its engine does not run, or no text may wait now."
_LOOK_UPS = {
    "/health": ("health", "Whether requests are answered.", {"503": "The engine does not run."}),
    "/ready": ("ready", "Whether a request would be taken now.", {"503": _NOT_READY}),
    "/info": ("info", "What is served, and within which limits.", {}),
    "/": ("info_first", "The same as /info.", {}),
}
_HEADERS = {
    "x-compute-type": "What answered: cpu, or cache where all texts were known.",
    "x-compute-time": "Seconds from the whole request to the answer.",
    "x-compute-characters": "Characters of all texts.",
    "x-compute-tokens": "Ids of all texts, as the model read them.",
    "x-inference-id": "A name for this answer.",
    "x-request-id": "The caller's, or a new one.",
    "x-sha": "The commit of the model, or a hash of its files.",
}


def _classify(name: str, bodies: dict[str, Any], *, with_model: bool) -> dict[str, Any]:
    text = {"type": ["number", "boolean", "null"], "description": "Read as text, digit by digit."}
    query = {"anyOf": [bodies["Query"], {"type": "string"}, bodies["Items"], text]}
    return {
        "operationId": name,
        "summary": "Labels and scores for texts, best first.",
        "parameters": [*([_MODEL] if with_model else []), _FLAT, _TIMEOUT, _REQUEST_ID],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": query,
                    "example": {"inputs": "I like you. I love you", "parameters": {"top_k": 1}},
                },
                "text/plain": {"schema": {"type": "string", "pattern": _BARE}},
            },
        },
        "responses": {
            "200": {
                "description": "A list of labels and scores for each text.",
                "headers": {
                    header: {"description": text, "schema": {"type": "string"}}
                    for header, text in _HEADERS.items()
                },
                "content": _json({"anyOf": [bodies["Scores"], bodies["FlatScores"]]}),
            },
            **_failures(_REFUSALS, bodies),
        },
    }


def _predict(bodies: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": "predict",
        "summary": "The same as text-embeddings-inference has it: a list of two strings is a pair.",
        "parameters": [_TIMEOUT, _REQUEST_ID],
        "requestBody": {"required": True, "content": _json(bodies["PredictQuery"])},
        "responses": {
            "200": {
                "description": "Labels and scores: flat for one text or pair, else nested.",
                "content": _json({"anyOf": [bodies["FlatScores"], bodies["Scores"]]}),
            },
            **_failures(_REFUSALS, bodies),
        },
    }


def _look_up(
    name: str, summary: str, statuses: dict[str, str], bodies: dict[str, Any]
) -> dict[str, Any]:
    usual = {status: _REFUSALS[status] for status in ("401", "403")}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": _json({"type": "object"})},
            **_failures(usual | statuses, bodies),
        },
    }


def _metrics(bodies: dict[str, Any]) -> dict[str, Any]:
    described = _look_up("metrics", "Counts and times, for Prometheus.", {}, bodies)
    text = {"schema": {"type": "string"}}
    formats = {"text/plain": text, "application/openmetrics-text": text}
    described["responses"]["200"]["content"] = formats
    return described


def _failures(statuses: dict[str, str], bodies: dict[str, Any]) -> dict[str, Any]:
    return {
        status: {"description": text, "content": _json(bodies["Failure"])}
        for status, text in statuses.items()
    }


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
