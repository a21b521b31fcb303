"""The ASGI application: the routes behind the middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route as Path

from labelwise.errors import PathNotFound
from labelwise.server.endpoint import Endpoint
from labelwise.server.middleware import RequestMiddleware
from labelwise.server.routes import ROUTES
from labelwise.server.state import Server, attach
from labelwise.server.wires.wire import Failure
from labelwise.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Receive, Scope, Send

    from labelwise.server.endpoint import Route
    from labelwise.serving.catalogue import Catalogue
    from labelwise.settings import Settings


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

    middleware = Middleware(
        RequestMiddleware,
        hosts=settings.allowed_host if is_loopback(settings.host) else None,
        overload=server.batcher.overload,
        failure_at=failure_at,
        report=server.report,
    )
    app = Starlette(routes=paths, middleware=[middleware], lifespan=server.running)
    app.router.redirect_slashes = False
    app.router.default = _not_found
    attach(app, server)
    return app


async def _not_found(_: Scope, __: Receive, ___: Send) -> NoReturn:
    raise PathNotFound("Not Found")
