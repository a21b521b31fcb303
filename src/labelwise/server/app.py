"""The ASGI application: the routes behind the middleware."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NoReturn

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route as Path

from labelwise.errors import PathNotFound
from labelwise.server.endpoint import Endpoint
from labelwise.server.middleware import RequestMiddleware
from labelwise.server.routes import ROUTES
from labelwise.server.state import Server, attach, server_in
from labelwise.server.wires.wire import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from labelwise.server.endpoint import Route
    from labelwise.serving.catalogue import Catalogue
    from labelwise.settings import Settings

_MAX_COMPARED = 100  # characters of a path
_LEAST_LIKENESS = 0.75  # of a path with a mistake


def create_app(
    catalogue: Catalogue, settings: Settings, routes: Sequence[Route] = ROUTES
) -> Starlette:
    """The ASGI application that serves *catalogue* at *routes*."""
    server = Server(catalogue, settings, routes)
    at: dict[str, list[Route]] = {}
    for route in routes:
        at.setdefault(route.path, []).append(route)
    endpoints = [Endpoint(methods) for methods in at.values()]
    paths = [Path(path, endpoint) for path, endpoint in zip(at, endpoints, strict=True)]

    def failure_at(path: str) -> type[Failure]:
        """The form of errors at *path*, also of those that come before its endpoint."""
        known = zip(paths, endpoints, strict=True)
        return next((end.failure for one, end in known if one.path_regex.match(path)), Failure)

    middleware = Middleware(RequestMiddleware, server=server, failure_at=failure_at)
    app = Starlette(routes=paths, middleware=[middleware], lifespan=server.running)
    app.router.redirect_slashes = False
    app.router.default = _not_found
    attach(app, server)
    return app


async def _not_found(scope: Scope, _: Receive, __: Send) -> NoReturn:
    near = _nearest(scope["path"], server_in(scope["app"]).routes)
    raise PathNotFound("Not Found", advice=near and f"the nearest route is {near}")


def _nearest(path: str, routes: Sequence[Route]) -> str:
    """The path of *routes* that *path* may be meant as; empty where none is near.

    The ids of models are left out of the comparison.
    """
    wanted = path[:_MAX_COMPARED].lower()

    def likeness(template: str) -> float:
        fixed = template.partition("{")[0].rstrip("/")
        beginning = "/".join(wanted.split("/")[: fixed.count("/") + 1])
        return SequenceMatcher(None, beginning, fixed).ratio()

    known = {route.path for route in routes if not route.path.startswith("/{")} - {"/"}
    shortest_first = sorted(known, key=len)
    near = max(shortest_first, key=likeness, default="")
    return re.sub(r":\w+", "", near) if likeness(near) >= _LEAST_LIKENESS else ""
