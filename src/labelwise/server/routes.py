"""Every route of the server, once.

Of two paths that fit a request, the router takes the one that stands first. All else that knows of
routes is derived from these records: OpenAPI, the metrics, the table of the documents, and the
tests that walk over all routes.
"""

from __future__ import annotations

from functools import partial

from labelwise.server import status
from labelwise.server.classify import classification
from labelwise.server.endpoint import Route
from labelwise.server.hub import choice, files, models, service, tree
from labelwise.server.wires import huggingface, tei, vertex

_JSON = {"application/json": {"type": "object"}}
_LIST = {"application/json": {"type": "array", "items": {"type": "object"}}}
_TEXT = {"type": "string"}

_classify = partial(classification, huggingface.WIRE)
_look_up = partial(Route, cross_origin=True, answer=_JSON)
_show_model = partial(
    _look_up,
    handler=models.show_model,
    name="show_model",
    summary="One model; a redirect where its id lacks the namespace.",
    scope="public",
    parameters=[models.EXPAND, models.BLOBS],
    outcomes="200 307 400 404 409 500",
)
_tree = partial(
    _look_up,
    handler=tree.tree,
    name="tree",
    summary="The files of a model, with sizes and hashes.",
    scope="public",
    parameters=[tree.RECURSIVE, tree.LAST_COMMIT],
    answer=_LIST,
    outcomes="200 400 404 409 500",
)
_file = partial(
    Route,
    scope="inference",
    parameters=files.PARAMETERS,
    answer={"application/octet-stream": {"type": "string", "format": "binary"}},
    headers=files.HEADERS,
    outcomes="200 206 304 403 404 409 416 500",
)
_info = partial(
    Route,
    handler=status.info,
    name="info",
    summary="What is served, and within which limits.",
    cross_origin=True,
    of_model=True,
    answer=_JSON,
    outcomes="200 500",
)
_health = partial(
    Route,
    handler=status.health,
    name="health",
    summary="Whether a request would be answered: 200, or 503.",
    scope="public",
    probe=True,
    answer=_JSON,
    outcomes="200 500 503",
)

ROUTES = (
    _classify("/", "classify_first"),
    _info(path="/", operation="info_first"),
    _health(path="/models/{model:path}/health", operation="health_of_model"),
    _health(path="/hf-inference/models/{model:path}/health", operation="health_as_router"),
    _info(path="/models/{model:path}/info", operation="info_of_model"),
    _info(path="/hf-inference/models/{model:path}/info", operation="info_as_router"),
    _classify(
        "/hf-inference/models/{model:path}/pipeline/text-classification", "classify_as_router_task"
    ),
    _classify("/hf-inference/models/{model:path}", "classify_as_router"),
    _classify("/models/{model:path}", "classify"),
    _classify("/pipeline/text-classification/{model:path}", "classify_as_pipeline"),
    _classify("/api/inference-proxy/hf-inference/models/{model:path}", "classify_as_proxy"),
    _info(path="/models/{model:path}", operation="show_served_model"),
    _info(path="/hf-inference/models/{model:path}", operation="show_served_as_router"),
    classification(tei.WIRE, "/predict"),
    classification(tei.WIRE, "/invocations", "predict_on_sagemaker"),
    classification(vertex.WIRE, "/vertex"),
    _look_up(
        path="/api/models",
        handler=models.list_models,
        name="list_models",
        summary="The models that are served, filtered, ordered and in pages as on the Hub.",
        scope="public",
        parameters=[*choice.PARAMETERS, *models.MORE, models.EXPAND],
        answer=_LIST,
        outcomes="200 400 500",
    ),
    _show_model(path="/api/models/{model:id}/revision/{revision:path}", operation="show_revision"),
    _tree(path="/api/models/{model:id}/tree/{revision}"),
    _tree(path="/api/models/{model:id}/tree/{revision}/{path:path}", operation="tree_of_folder"),
    _look_up(
        path="/api/models/{model:id}/paths-info/{revision:path}",
        method="POST",
        handler=tree.paths_info,
        name="paths_info",
        summary="Those files of a model that the body names, with sizes and hashes.",
        body={"application/json": tree.Paths, "application/x-www-form-urlencoded": tree.Paths},
        example={"paths": ["config.json"]},
        answer=_LIST,
        outcomes="200 400 404 408 409 413 429 500 left",
    ),
    _look_up(
        path="/api/models/{model:id}/refs",
        handler=tree.refs,
        name="refs",
        summary="The one branch of a model, main.",
        scope="public",
        outcomes="200 404 500",
    ),
    _look_up(
        path="/api/models/{model:id}/commits/{revision:path}",
        handler=tree.commits,
        name="commits",
        summary="The one commit of a model, the one that is served.",
        scope="public",
        answer=_LIST,
        outcomes="200 404 500",
    ),
    _look_up(
        path="/api/models/{model:id}/auth-check",
        handler=service.auth_check,
        name="auth_check",
        summary="Whether the caller may use a model: an answer, or the reason why not.",
        scope="inference",
        outcomes="200 404 500",
    ),
    _show_model(path="/api/models/{model:id}"),
    _look_up(
        path="/api/tasks",
        handler=service.list_tasks,
        name="list_tasks",
        summary="The one task of this server, and its models; the first is the recommended one.",
        scope="public",
        outcomes="200 500",
    ),
    _look_up(
        path="/api/whoami-v2",
        handler=service.who_am_i,
        name="who_am_i",
        summary="The caller: anybody, or the holder of the access token.",
        outcomes="200 500",
    ),
    _look_up(
        path="/status/{model:id}",
        handler=service.model_status,
        name="model_status",
        summary="The state of a model, as old clients ask for it: loaded.",
        scope="public",
        outcomes="200 404 500",
    ),
    _look_up(
        path="/framework/{framework}",
        handler=service.list_framework,
        name="list_framework",
        summary="The models of one library, as old clients ask for them.",
        scope="public",
        answer=_LIST,
        outcomes="200 500",
    ),
    _health(path="/health"),
    _health(path="/ping", operation="ping"),
    Route(
        path="/ready",
        handler=status.ready,
        name="ready",
        probe=True,
        summary="Whether a request would be taken now, and not refused because there are too many.",
        scope="public",
        answer=_JSON,
        outcomes="200 500 503",
    ),
    Route(
        path="/metrics",
        handler=status.metrics,
        name="metrics",
        probe=True,
        summary="Counts and times of this server, for Prometheus.",
        scope="operate",
        answer={"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
        outcomes="200 500",
    ),
    _info(path="/info"),
    Route(
        path="/openapi.json",
        handler=status.openapi,
        name="openapi",
        summary="The routes and bodies of this server, as OpenAPI.",
        answer=_JSON,
        outcomes="200 500",
    ),
    # Last, for their paths might be meant for others.
    _file(
        path="/{model:id}/resolve/{revision}/{path:path}",
        handler=files.resolve,
        name="resolve",
        summary="A file of a model, or a part of it.",
    ),
    _file(
        path="/{model:id}/raw/{revision}/{path:path}",
        handler=files.raw,
        name="raw",
        summary="A file of a model as Git has it: a pointer in the place of a large one.",
    ),
)
