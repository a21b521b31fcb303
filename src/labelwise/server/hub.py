"""The look-ups of Hugging Face's clients, before they send a text.

With ``HF_ENDPOINT`` set to this server, they find here the models that it serves.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from labelwise.errors import BadInput, ModelNotFound, one_line
from labelwise.server.observe.record import record_of
from labelwise.server.responses import header_value, json_response
from labelwise.server.state import server_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from labelwise.serving.catalogue import Catalogue, Entry

TASK = "text-classification"
_PROVIDER = "hf-inference"
_MAX_LISTED = 1000
_STRING = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
EXPAND = {
    "name": "expand",
    "in": "query",
    "description": "Gives the fields of this name alone; may come several times.",
    "schema": {"type": "array", "items": {"type": "string"}},
}
FILTERS = [
    {"name": name, "in": "query", "description": description, "schema": kind}
    for name, kind, description in (
        ("search", _STRING, "Part of the id."),
        ("author", _STRING, "The namespace."),
        ("filter", _STRING, "A tag."),
        ("pipeline_tag", _STRING, "The task."),
        ("inference", _STRING, "warm, or none is given."),
        ("inference_provider", _STRING, "hf-inference or all, or none is given."),
        ("cursor", _NUMBER, "The number of models before the first."),
        ("limit", _NUMBER, "The most models of a page."),
    )
]


async def list_models(request: Request) -> Response:
    """The models that are served, filtered and in pages as on the Hub."""
    found = [entry for entry in _catalogue(request) if _matches(entry, request)]
    first, most = _number(request, "cursor", 0), _number(request, "limit", _MAX_LISTED)
    page = found[first : first + most]
    expand = _expand(request)
    response = json_response([_describe(entry, expand, listed=True) for entry in page])
    if most and first + most < len(found):
        following = request.url.include_query_params(cursor=first + most)
        response.headers["link"] = header_value(f'<{following}>; rel="next"')
    return response


async def show_model(request: Request) -> Response:
    """One model; a redirect where its id lacks the namespace."""
    name = request.path_params["model"]
    try:
        entry = server_of(request).find(request)
    except ModelNotFound:
        return _not_found("RepoNotFound", "Repository not found")
    if name != entry.id:
        target = request.url.path.replace(f"/api/models/{name}", f"/api/models/{entry.id}", 1)
        target = f"{target}?{request.url.query}" if request.url.query else target
        return json_response({"error": f"see {target}"}, 307, {"location": target})
    revision = request.path_params.get("revision", "main")
    if revision not in {"main", "HEAD", entry.sha}:
        return _not_found("RevisionNotFound", f"Invalid rev id: {one_line(revision):.100}")
    return json_response(_describe(entry, _expand(request), listed=False))


async def list_tasks(request: Request) -> Response:
    """The one task of this server, and its models; the first is the recommended one."""
    ids = [entry.id for entry in _catalogue(request)]
    models = [{"id": name, "description": "Served here."} for name in ids]
    task = {"id": TASK, "label": "Text Classification", "widgetModels": ids[:1], "models": models}
    return json_response({TASK: task})


async def who_am_i(request: Request) -> Response:
    """The caller: anybody, or the holder of the access token."""
    name = record_of(request).caller.name
    access_token = {"displayName": name, "role": "read"}
    return json_response(
        {
            "type": "user",
            "id": name,
            "name": name,
            "fullname": name,
            "email": None,
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": access_token},
        }
    )


def _catalogue(request: Request) -> Catalogue:
    return server_of(request).catalogue


def _describe(entry: Entry, expand: list[str], *, listed: bool) -> dict[str, Any]:
    """*entry* as the Hub describes a model: with *expand*, only what is named there."""
    changed = datetime.fromtimestamp(
        (entry.model.location.folder / "config.json").stat().st_mtime, UTC
    )
    date = changed.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    mapping = {"status": "live", "providerId": entry.id, "task": TASK}
    always = {"_id": entry.sha[:24], "id": entry.id}
    usual = {
        "modelId": entry.id,
        "author": entry.id.rpartition("/")[0] or None,
        "sha": entry.sha,
        "private": False,
        "gated": False,
        "disabled": False,
        "pipeline_tag": TASK,
        "library_name": "transformers",
        "tags": ["transformers", TASK],
        "downloads": 0,
        "likes": 0,
        "lastModified": date,
        "createdAt": date,
    }
    more = {
        "inference": "warm",
        # The Hub has two forms of the same, and its clients expect each where it is.
        "inferenceProviderMapping": [{"provider": _PROVIDER, **mapping}]
        if listed
        else {_PROVIDER: mapping},
    }
    if not expand:
        return always | usual
    return always | {name: value for name, value in (usual | more).items() if name in expand}


def _matches(entry: Entry, request: Request) -> bool:
    """Whether the list is to have *entry*, by the filters of the query."""
    asked = request.query_params
    providers = ",".join(asked.getlist("inference_provider")).split(",")
    tags = {"transformers", TASK}
    return (
        asked.get("pipeline_tag", TASK) == TASK
        and asked.get("inference", "warm") == "warm"
        and not {_PROVIDER, "all", ""}.isdisjoint(providers)
        and asked.get("search", "").lower() in entry.id.lower()
        and asked.get("author", entry.id.rpartition("/")[0]) == entry.id.rpartition("/")[0]
        and tags.issuperset(asked.getlist("filter"))
    )


def _expand(request: Request) -> list[str]:
    """The fields that are asked for; Python's client and JavaScript's spell it differently."""
    asked = request.query_params
    return asked.getlist("expand") + asked.getlist("expand[]")


def _number(request: Request, name: str, usual: int) -> int:
    given = request.query_params.get(name, str(usual))
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise BadInput(f"the query parameter {name} must be a whole number")
    return int(given)


def _not_found(code: str, message: str) -> Response:
    headers = {"x-error-code": code, "x-error-message": message}
    return json_response({"error": message}, 404, headers)
