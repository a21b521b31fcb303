"""The ASGI application: the routes behind the middleware."""

from __future__ import annotations

from difflib import SequenceMatcher
from math import ceil
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route as Path

from labelwise.server.endpoint import Endpoint
from labelwise.server.middleware import RequestMiddleware
from labelwise.server.responses import error_response, refusal
from labelwise.server.routes import ROUTES
from labelwise.server.state import Server, attach, server_of
from labelwise.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

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
    middleware = Middleware(
        RequestMiddleware,
        hosts=settings.allowed_host if is_loopback(settings.host) else None,
        overload=server.batcher.overload,
        policy=f'"inference";q={settings.max_waiting_texts};w={ceil(settings.max_waiting_seconds)}',
        report=server.report,
    )
    at: dict[str, list[Route]] = {}
    for route in routes:
        at.setdefault(route.path, []).append(route)
    app = Starlette(
        routes=[Path(path, Endpoint(methods)) for path, methods in at.items()],
        middleware=[middleware],
        exception_handlers={HTTPException: _http_error},
        lifespan=server.running,
    )
    app.router.redirect_slashes = False
    attach(app, server)
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 404:
        near = _nearest(request.scope["path"], server_of(request).routes)
        return refusal("Not Found", 404, {}, advice=near and f"the nearest route is {near}")
    return error_response(error)


def _nearest(path: str, routes: Sequence[Route]) -> str:
    """The path of *routes* that *path* may be meant as; empty where none is near.

    The ids of models are left out of the comparison.
    """
    wanted = path[:_MAX_COMPARED].lower()

    def likeness(known: str) -> float:
        fixed = known.partition("{")[0].rstrip("/")
        beginning = "/".join(wanted.split("/")[: fixed.count("/") + 1])
        return SequenceMatcher(None, beginning, fixed).ratio()

    shortest_first = sorted({route.path for route in routes} - {"/"}, key=len)
    near = max(shortest_first, key=likeness, default="")
    return near.replace(":path}", "}") if likeness(near) >= _LEAST_LIKENESS else ""
