"""``/openapi.json``, derived from the routes and the types of their bodies."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from labelwise import __version__
from labelwise.server.wires.json_bodies import schema_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from labelwise.server.endpoint import Content, Route


_STATUSES = {
    "307": "The model has another id: see Location.",
    "400": "The request cannot be used.",
    "401": "No access token, or not the right one, where the server asks for one.",
    "403": "The request is for a host that this server does not answer for, or for a file, and the "
    "server hands out none.",
    "404": "There is no such model, revision, file or path.",
    "408": "The body did not arrive in time.",
    "409": "A file has changed since the model was loaded.",
    "413": "The body, its texts or its characters are more than the server takes at once.",
    "415": "The content type or encoding of the body is not read here: send plain JSON.",
    "422": "The body is JSON, but cannot be used, or has too many texts or characters.",
    "424": "The model failed on a text.",
    "416": "The file has no such part.",
    "429": "The server is busy; Retry-After says for how many seconds.",
    "431": "The head of the request is too long, or has too many fields.",
    "500": "The server failed; its log has more.",
    "503": "The server is ending, its engine does not run, or it takes no text now.",
    "504": "The answer was not ready in time.",
}
_LICENSE = {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"}
_IN_PATH = {
    "model": "The id of a model, with or without its namespace.",
    "revision": "main, HEAD, or the commit that is served, of which seven digits are enough.",
    "path": "The name of a file.",
    "framework": "The name of a library, such as transformers.",
}


@cache
def describe(routes: tuple[Route, ...]) -> dict[str, Any]:
    """*routes* in OpenAPI 3.1."""
    contents = [content for route in routes for content in (route.body, route.answer)]
    types = dict.fromkeys(kind for content in contents for kind in _types(content))
    types |= dict.fromkeys(route.failure for route in routes)
    schemas, components = msgspec.json.schema_components(
        types, schema_hook=schema_of, ref_template="#/components/schemas/{name}"
    )
    known = dict(zip(types, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        path = re.sub(r":\w+\}", "}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, known)
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


def _operation(route: Route, known: Mapping[Any, Any]) -> dict[str, Any]:
    outcomes = route.outcomes.split()
    in_path = re.findall(r"\{(\w+)", route.path)
    answer: dict[str, Any] = {
        "description": route.summary,
        "content": _content(route.answer, known),
    }
    if route.headers or route.sometimes:
        answer["headers"] = {
            name: {"description": text, "required": required, "schema": {"type": "string"}}
            for headers, required in ((route.headers, True), (route.sometimes, False))
            for name, text in headers.items()
        }
    failure = {"application/json": {"schema": known[route.failure]}}
    described: dict[str, Any] = {
        "operationId": route.operation or route.name,
        "summary": route.summary,
        "parameters": [*map(_path_parameter, in_path), *route.parameters],
        "responses": {"200": answer}
        | ({"206": answer | {"description": "The part."}} if "206" in outcomes else {})
        | ({"304": {"description": "The caller has it already."}} if "304" in outcomes else {})
        | {
            status: {"description": _STATUSES[status], "content": failure}
            for status in sorted(route.failures)
        },
    }
    if route.scope == "public":
        described["security"] = []
    if route.body:
        content = _content(route.body, known)
        if route.example is not None:
            content["application/json"]["example"] = route.example
        described["requestBody"] = {"required": True, "content": content}
    return described


def _path_parameter(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": _IN_PATH[name],
        "schema": {"type": "string", "minLength": 1},
    }


def _types(content: Content) -> Iterable[Any]:
    """The types of *content* that are no schemas yet."""
    for kinds in content.values():
        for kind in kinds if isinstance(kinds, tuple) else (kinds,):
            if not isinstance(kind, dict):
                yield kind


def _content(content: Content, known: Mapping[Any, Any]) -> dict[str, Any]:
    return {media_type: {"schema": _schema(kind, known)} for media_type, kind in content.items()}


def _schema(kind: Any, known: Mapping[Any, Any]) -> Any:
    """The schema of *kind*, a type, a schema, or a tuple of several."""
    if isinstance(kind, tuple):
        return {"anyOf": [_schema(one, known) for one in kind]}
    return kind if isinstance(kind, dict) else known[kind]
