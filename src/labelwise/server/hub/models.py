"""Models as the Hub lists and describes them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from starlette.datastructures import URL

from labelwise.errors import BadInput
from labelwise.server.hub.asked import TASK, date, find_model, find_revision, flag, values
from labelwise.server.hub.choice import PROVIDER, choose
from labelwise.server.hub.facts import author_of, library_of, parameters_of, tags_of, use_of
from labelwise.server.hub.tree import siblings
from labelwise.server.responses import header_value, json_response
from labelwise.server.state import server_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from labelwise.serving.catalogue import Entry

_MAX_LISTED = 1000
# What may be asked for by `expand`; what has no value here is left out of the answer.
_FIELDS = (
    *("author", "baseModels", "cardData", "childrenModelCount", "config", "createdAt", "disabled"),
    *("downloads", "downloadsAllTime", "evalResults", "gated", "gguf", "gitalyUid", "inference"),
    *("inferenceProviderMapping", "lastModified", "library_name", "likes", "mask_token"),
    *("model-index", "pipeline_tag", "private", "resourceGroup", "safetensors"),
    *("securityRepoStatus", "sha", "siblings", "spaces", "tags", "transformersInfo"),
    *("trendingScore", "usedStorage", "widgetData"),
)
_LISTED = (
    *("modelId", "author", "sha", "private", "gated", "disabled", "pipeline_tag", "library_name"),
    *("tags", "downloads", "likes", "trendingScore", "lastModified", "createdAt"),
)
_SHOWN = (
    *_LISTED,
    "config",
    "cardData",
    "safetensors",
    "siblings",
    "transformersInfo",
    "usedStorage",
)
# More fields of a list, by the parameters that ask for them.
_MORE = {"full": "siblings", "config": "config", "cardData": "cardData"}
EXPAND = {
    "name": "expand",
    "in": "query",
    "description": "Gives the fields of this name alone; may come several times.",
    "schema": {"type": "array", "items": {"enum": list(_FIELDS)}},
}
BLOBS = {
    "name": "blobs",
    "in": "query",
    "description": "true gives the sizes and the hashes of the files too.",
    "schema": {"type": "boolean"},
}
MORE = [
    {
        "name": name,
        "in": "query",
        "description": f"true gives {field} too.",
        "schema": {"type": "boolean"},
    }
    for name, field in _MORE.items()
]


async def list_models(request: Request) -> Response:
    """The models that are served, filtered, ordered and in pages as on the Hub."""
    found = choose(server_of(request).models(request), request)
    first, most = _number(request, "cursor", 0), _number(request, "limit", _MAX_LISTED)
    page = found[first : first + most]
    more = [field for name, field in _MORE.items() if flag(request, name)]
    fields = _expanded(request) or (*_LISTED, *more)
    response = json_response([_describe(entry, fields, listed=True) for entry in page])
    if most and first + most < len(found):
        following = _address(request).include_query_params(cursor=first + most)
        response.headers["link"] = header_value(f'<{following}>; rel="next"')
    return response


async def show_model(request: Request) -> Response:
    """One model; a redirect where its id lacks the namespace."""
    name, entry = request.path_params["model"], find_model(request)
    if name != entry.id:
        target = request.url.path.replace(f"/api/models/{name}", f"/api/models/{entry.id}", 1)
        target = f"{target}?{request.url.query}" if request.url.query else target
        return json_response({"error": f"see {target}"}, 307, {"location": target})
    entry = find_revision(request)
    described = _describe(entry, _expanded(request) or _SHOWN, listed=False)
    if flag(request, "blobs") and "siblings" in described:
        described["siblings"] = await siblings(request, entry)
    return json_response(described)


def _describe(entry: Entry, fields: tuple[str, ...], *, listed: bool) -> dict[str, Any]:
    """*entry* as the Hub describes a model, with those of *fields* that have a value here."""
    known = _values(entry, listed=listed)
    identity = hashlib.sha256(entry.id.encode()).hexdigest()[:24]
    return {"_id": identity, "id": entry.id} | {
        name: value for name, value in known.items() if name in fields
    }


def _values(entry: Entry, *, listed: bool) -> dict[str, Any]:
    """All fields of *entry* that have a value here."""
    model, files = entry.model, list(entry.model.files)
    known = {
        "modelId": entry.id,
        "author": author_of(entry) or None,
        "sha": entry.sha,
        "private": entry.listing.private,
        "gated": False,
        "disabled": False,
        "pipeline_tag": TASK,
        "library_name": library_of(entry),
        "tags": tags_of(entry),
        **use_of(entry),
        "lastModified": date(model.files.newest),
        "createdAt": date(model.files.oldest),
        "config": {"architectures": model.architectures, "model_type": model.model_type},
        "siblings": [{"rfilename": file.name} for file in files],
        "transformersInfo": {
            "auto_model": "AutoModelForSequenceClassification",
            "pipeline_tag": TASK,
            "processor": "AutoTokenizer",
        },
        "usedStorage": sum(file.size for file in files),
        "inference": "warm",
        "inferenceProviderMapping": _mapping(entry, listed=listed),
    }
    if entry.card.values:
        known["cardData"] = entry.card.values
    if any(file.name.endswith(".safetensors") for file in files):
        known["safetensors"] = {"parameters": model.parameters, "total": parameters_of(entry)}
    return known


def _mapping(entry: Entry, *, listed: bool) -> Any:
    """The provider of *entry*. The Hub has two forms, and its clients expect each where it is."""
    mapping = {"status": "live", "providerId": entry.id, "task": TASK}
    return [{"provider": PROVIDER, **mapping}] if listed else {PROVIDER: mapping}


def _expanded(request: Request) -> tuple[str, ...]:
    """The fields that alone are asked for.

    Raises:
        BadInput: One is no field of a model.
    """
    asked = values(request, "expand")
    if not set(asked).issubset(_FIELDS):
        raise BadInput(f"expand must be one of {', '.join(_FIELDS)}")
    return tuple(asked)


def _address(request: Request) -> URL:
    """The URL of *request*, as its caller knows it."""
    public = server_of(request).settings.public_url
    if public is None:
        return request.url
    query = f"?{request.url.query}" if request.url.query else ""
    return URL(f"{public}{request.url.path}{query}")


def _number(request: Request, name: str, usual: int) -> int:
    given = request.query_params.get(name, str(usual))
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise BadInput(f"the query parameter {name} must be a whole number")
    return int(given)
