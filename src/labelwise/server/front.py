"""What every request passes on its way in, and every answer on its way out."""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import msgspec
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from labelwise.errors import AccessDenied, BadInput, LabelwiseError, Overloaded
from labelwise.server.visit import Visit, visit_of
from labelwise.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    Endpoint = Callable[[Request], Awaitable[Response]]
    Check = Callable[[Request], None]

_log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[!-~]{1,200}")
_EXPOSED = "x-compute-type, x-compute-time, x-request-id"
_PREFLIGHT_SECONDS = "600"
_VISIBLE = bytes(range(0x20, 0x7F))
_CHALLENGE = 'Bearer realm="Authentication required", charset="UTF-8"'


class Front:
    """Gives each answer its request id, and turns every failure into an error that can be read.

    With *hosts*, requests for any other host get 403: a page of another site whose name was made
    to lead here (DNS rebinding) cannot talk to a server on loopback. Where requests wait unread,
    *overload* may say that there is no room for texts: they are refused from their heads alone.
    *report* is called once for each request: just after its answer, or when the caller has left
    before.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Iterable[str] | None,
        overload: Callable[[], Overloaded | None],
        report: Callable[[Visit], None],
    ) -> None:
        self._app = app
        self._overload = overload
        self._report = report
        self._hosts = None if hosts is None else {host.lower().rstrip(".") for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        visit = Visit(scope["method"], _request_id(headers))
        scope.setdefault("state", {})["visit"] = visit
        passing = _Passing(scope["state"], send, self._report)
        try:
            await self._choose(scope, headers)(scope, receive, passing.send)
        except ClientDisconnect:
            if not passing.answered:
                visit.end(None)
                self._report(visit)
        except Exception as error:  # whatever it is, nobody is to see a traceback
            if passing.answered:
                raise
            visit.refusal = error.reason if isinstance(error, LabelwiseError) else ""
            answer = error_response(error, visit.request_id)
            await answer(scope, receive, passing.send)

    def _choose(self, scope: Scope, headers: Headers) -> ASGIApp:
        """The application for a request, if it is one for this server.

        Raises:
            LabelwiseError: It cannot be read, as the connection says, or there is no room for it.
        """
        state = scope["state"]
        refusal: LabelwiseError | None = state.get("refusal")
        if refusal is None and state.get("late") and scope["method"] == "POST":
            refusal = self._overload()
        if refusal is not None:
            raise refusal
        if self._refuses(headers.get("host")):
            return _refuse_host
        return _everything if scope["path"] == "*" else self._app

    def _refuses(self, host: str | None) -> bool:
        """Whether requests for *host*, the header, are not for this server. Browsers always say
        whom they ask.
        """
        if self._hosts is None or host is None:
            return False
        name, port = re.fullmatch(r"(.*?)\.?(:\d*)?", host.lower(), re.DOTALL).groups("")  # type: ignore[union-attr]  # any text does
        return not (is_loopback(name) or name in self._hosts or name + port in self._hosts)


class _Passing:
    """The answer to one request on its way out."""

    def __init__(self, state: dict[str, Any], send: Send, report: Callable[[Visit], None]) -> None:
        self.answered = False  # the head of the answer is sent
        self._state = state
        self._visit: Visit = state["visit"]
        self._send = send
        self._report = report

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.answered = True
            self._visit.end(message["status"])
            # After the answer, which it would hold up, and before any later request.
            asyncio.get_running_loop().call_soon(self._report, self._visit)
            message["headers"].append((b"x-request-id", self._visit.request_id.encode()))
            if self._state.get("cors"):
                message["headers"] += _CORS
        await self._send(message)


async def _everything(scope: Scope, receive: Receive, send: Send) -> None:
    """What can be asked of the server as a whole, with the target ``*``."""
    methods = {"allow": "GET, HEAD, OPTIONS, POST"}
    if scope["method"] != "OPTIONS":
        raise BadInput(f"the target * is for OPTIONS alone; give {scope['method']} a path")
    await Response(status_code=204, headers=methods)(scope, receive, send)


async def _refuse_host(scope: Scope, receive: Receive, send: Send) -> None:
    scope["state"]["visit"].refusal = "host"
    error = "this server does not answer for the host that was asked for; see --allowed-host"
    await json_response({"error": error}, 403)(scope, receive, send)


_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", _EXPOSED.encode()),
]


class Door:
    """A path of the server: what its *methods* do, who may ask, and from where; an ASGI app.

    *check* refuses whoever may not ask. With *cors*, pages of every site may, without cookies.
    """

    def __init__(
        self, methods: Mapping[str, Endpoint], *, check: Check | None, cors: bool = False
    ) -> None:
        self._methods = methods
        self._check = check
        self._cors = cors
        known = {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
        self._allowed = ", ".join(sorted(known))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; ASGI."""
        scope["state"]["cors"] = self._cors
        request = Request(scope, receive, send)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return _options(request, self._allowed, cors=self._cors)
        endpoint = self._methods.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None:
            message = f"{request.method} does nothing here; use {self._allowed}"
            raise HTTPException(405, message, {"allow": self._allowed})
        visit_of(request).route = endpoint.__name__
        if self._check is not None:
            self._check(request)
        return await endpoint(request)


def _options(request: Request, allowed: str, *, cors: bool) -> Response:
    headers = {"allow": allowed}
    if cors and "access-control-request-method" in request.headers:
        headers["access-control-allow-methods"] = allowed
        headers["access-control-max-age"] = _PREFLIGHT_SECONDS
        asked = request.headers.get("access-control-request-headers")
        if asked:
            headers["access-control-allow-headers"] = header_value(asked)
            headers["vary"] = "access-control-request-headers"
    return Response(status_code=204, headers=headers)


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """*value* as JSON; `msgspec` knows how."""
    safe = {name: header_value(text) for name, text in (headers or {}).items()}
    return Response(msgspec.json.encode(value), status, safe, "application/json")


def header_value(text: str) -> str:
    """*text* as the value of a header: what is no visible ASCII or a space is percent-encoded.

    All that a request or a model gives to a header comes through here.
    """
    return text if text.isascii() and text.isprintable() else quote(text, safe=_VISIBLE)


def error_response(error: Exception, request_id: str = "") -> Response:
    """What a caller is told of *error*: an object whose ``error`` is one line."""
    if isinstance(error, LabelwiseError):
        return json_response({"error": str(error)}, error.status, _error_headers(error))
    if isinstance(error, HTTPException):
        return json_response({"error": error.detail}, error.status_code, dict(error.headers or {}))
    # The message of an error that nobody expected may quote a text: only its kind and place.
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{place[0].filename}:{place[0].lineno}" if place else "nowhere"
    _log.error("request %s failed: %s at %s", request_id, type(error).__name__, where)
    return json_response(
        {"error": f"internal error; the server's log has more under request id {request_id}"}, 500
    )


def _error_headers(error: LabelwiseError) -> dict[str, str]:
    if isinstance(error, AccessDenied):
        return {"www-authenticate": _CHALLENGE}
    if isinstance(error, Overloaded):
        seconds = str(error.retry_after)
        return {"retry-after": seconds, "ratelimit": f'"inference";r=0;t={seconds}'}
    return {}


def _request_id(headers: Headers) -> str:
    """The caller's own request id, or a new one."""
    given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
    return given if _REQUEST_ID.fullmatch(given) else str(uuid4())
