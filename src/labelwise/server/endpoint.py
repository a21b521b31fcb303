"""Routes: the record of one, and the endpoint that answers at a path."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response

from labelwise.errors import MethodNotAllowed
from labelwise.server.observe.record import record_of
from labelwise.server.responses import header_value
from labelwise.server.state import server_of
from labelwise.server.wires.wire import Failure

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from labelwise.server.access import Scope as Permission

Handler = Callable[[Request], Awaitable[Response]]
# A media type, to a type that msgspec knows, a JSON schema, or a tuple of them: any one of these.
Content = Mapping[str, Any]

_PREFLIGHT_SECONDS = "600"


class _Id(StringConvertor):
    """The id of a model in a path, with or without its namespace."""

    regex = "[^/]+(?:/[^/]+)?"


register_url_convertor("id", _Id())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Route:
    """One route; router, OpenAPI, metrics and the table of the docs come from its fields."""

    path: str
    handler: Handler
    name: str  # the route in metrics and logs; several paths may share one
    summary: str
    answer: Content
    outcomes: str  # all that can come of it: statuses, and "left" where callers may leave before
    method: str = "GET"
    operation: str = ""  # the id in OpenAPI; the name where there is none
    scope: Permission = "read"
    cross_origin: bool = False  # pages of other sites may ask
    classifies: bool = False
    probe: bool = False  # asked again and again by machines that watch the server
    of_model: bool = False  # tells of a model: the first, where the path names none
    body: Content = field(default_factory=dict)
    example: Any = None  # of a JSON body
    parameters: Sequence[Mapping[str, Any]] = ()  # of OpenAPI, but for those of the path
    headers: Mapping[str, str] = field(default_factory=dict)  # of every answer, with descriptions
    sometimes: Mapping[str, str] = field(default_factory=dict)  # headers of some answers
    failure: type[Failure] = Failure  # the form of its errors

    @property
    def names_model(self) -> bool:
        """Whether the path has the id of a model."""
        return "{model" in self.path

    @property
    def asks_model(self) -> bool:
        """Whether a model is looked up for each request."""
        return self.classifies or self.names_model or self.of_model

    @property
    def failures(self) -> set[str]:
        """All statuses of errors that can come of it, also before its handler."""
        found = {"403", *self.outcomes.split()} - {"200", "206", "304", "left"}
        if self.scope != "public":
            found.add("401")
        if self.names_model:
            found.add("404")
        return found


class Endpoint:
    """Everything at one path of the server, an ASGI application; *routes* are its methods."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = {route.method: route for route in routes}
        self.failure = routes[0].failure
        self._cross_origin = any(route.cross_origin for route in routes)
        known = {*self._routes, "OPTIONS"} | ({"HEAD"} if "GET" in self._routes else set())
        self._allowed = ", ".join(sorted(known))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        scope["state"]["cross_origin"] = self._cross_origin
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return self._options(request)
        route = self._routes.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            message = f"{request.method} does nothing here; use {self._allowed}"
            raise MethodNotAllowed(message, self._allowed)
        record = record_of(request)
        record.route = route.name
        record.caller = await server_of(request).access.authenticate(request, route.scope)
        return await route.handler(request)

    def _options(self, request: Request) -> Response:
        headers = {"allow": self._allowed}
        if self._cross_origin and "access-control-request-method" in request.headers:
            headers["access-control-allow-methods"] = self._allowed
            headers["access-control-max-age"] = _PREFLIGHT_SECONDS
            asked = request.headers.get("access-control-request-headers")
            if asked:
                headers["access-control-allow-headers"] = header_value(asked)
                headers["vary"] = "access-control-request-headers"
        return Response(status_code=204, headers=headers)
