"""The ASGI application: the routes behind the middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route as Path

from labelwise.server.endpoint import Endpoint
from labelwise.server.middleware import RequestMiddleware
from labelwise.server.responses import error_response
from labelwise.server.routes import ROUTES
from labelwise.server.state import Server, attach
from labelwise.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from labelwise.server.endpoint import Route
    from labelwise.serving.catalogue import Catalogue
    from labelwise.settings import Settings


def create_app(
    catalogue: Catalogue, settings: Settings, routes: Sequence[Route] = ROUTES
) -> Starlette:
    """The ASGI application that serves *catalogue* at *routes*."""
    server = Server(catalogue, settings, routes)
    middleware = Middleware(
        RequestMiddleware,
        hosts=settings.allowed_host if is_loopback(settings.host) else None,
        overload=server.batcher.overload,
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


async def _http_error(_: Request, error: Exception) -> Response:
    return error_response(error)
