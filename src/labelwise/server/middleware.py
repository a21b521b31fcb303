"""The middleware of every request and every answer: request id, host, errors, the record."""

from __future__ import annotations

import asyncio
import math
import re
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from labelwise.errors import BadInput, LabelwiseError, Overloaded, WrongHost
from labelwise.server.forwarded import Proxies
from labelwise.server.observe.record import RequestRecord
from labelwise.server.responses import error_response
from labelwise.settings import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from labelwise.server.state import Server
    from labelwise.server.wires.wire import Failure

_REQUEST_ID = re.compile(r"[!-~]{1,200}")
# The headers that a page of another site may read, beside those that every page may.
EXPOSED = (
    *("x-compute-type", "x-compute-time", "x-request-id", "x-compute-characters"),
    *("x-compute-tokens", "x-inference-id", "x-sha", "x-hf-warning", "x-total-time"),
    *("x-tokenization-time", "x-queue-time", "x-inference-time", "retry-after", "ratelimit"),
    *("ratelimit-policy", "x-error-code", "x-error-message", "x-repo-commit", "link", "etag"),
    "x-total-count",
    *("location", "accept-ranges", "content-range", "content-length", "www-authenticate", "allow"),
)


class RequestMiddleware:
    """Gives each answer its request id, and turns every failure into an error that can be read.

    On loopback, requests for any other host get 403: a page of another site whose name was made
    to lead here (DNS rebinding) cannot talk to the server. Where requests wait unread, and there is
    no room for texts, they are refused from their heads alone. *server* is told of each request
    once: just after its answer, or when the caller has left before. *failure_at* gives the form of
    errors at a path.

    A path with a slash at its end is the path without it.
    """

    def __init__(
        self, app: ASGIApp, server: Server, failure_at: Callable[[str], type[Failure]]
    ) -> None:
        self._app = app
        self._overload = server.batcher.overload
        self._report = server.report
        self._failure_at = failure_at
        settings = server.settings
        most, seconds = settings.max_waiting_texts, math.ceil(settings.max_waiting_seconds)
        self._policy = f'"inference";q={most};w={seconds}'
        self._proxies = Proxies(settings.trusted_proxies)
        self._hosts: set[str] | None = None
        if is_loopback(settings.host):
            self._hosts = {host.lower().rstrip(".") for host in settings.allowed_host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._proxies:
            self._proxies.read(scope, headers)
        client = scope.get("client")
        record = RequestRecord(scope["method"], _request_id(headers), client[0] if client else "")
        scope["path"] = _without_slash(scope["path"])
        scope.setdefault("state", {})["record"] = record
        exchange = _Exchange(scope["state"], send, self._report)
        try:
            await self._choose(scope, headers)(scope, receive, exchange.send)
        except ClientDisconnect:
            if not exchange.answered:
                record.finish(None)
                self._report(record)
        except Exception as error:  # whatever it is, nobody is to see a traceback
            if exchange.answered:
                raise
            record.refusal = error.reason if isinstance(error, LabelwiseError) else ""
            failure = self._failure_at(scope["path"])
            answer = error_response(error, failure, record.request_id)
            if isinstance(error, Overloaded):
                answer.headers["ratelimit-policy"] = self._policy
            await answer(scope, receive, exchange.send)

    def _choose(self, scope: Scope, headers: Headers) -> ASGIApp:
        """The application for a request.

        Raises:
            LabelwiseError: It cannot be read, as the connection says, there is no room for it, or
                it is for another host.
        """
        state = scope["state"]
        refusal: LabelwiseError | None = state.get("refusal")
        if refusal is None and state.get("late") and scope["method"] == "POST":
            refusal = self._overload()
        if refusal is not None:
            raise refusal
        if self._refuses(headers.get("host")):
            raise WrongHost(
                "this server does not answer for the host that was asked for; see --allowed-host"
            )
        return _everything if scope["path"] == "*" else self._app

    def _refuses(self, host: str | None) -> bool:
        """Whether requests for *host*, the header, are not for this server. Browsers always send
        the header.
        """
        if self._hosts is None or host is None:
            return False
        name, port = re.fullmatch(r"(.*?)\.?(:\d*)?", host.lower(), re.DOTALL).groups("")  # type: ignore[union-attr]  # any text does
        return not (is_loopback(name) or name in self._hosts or name + port in self._hosts)


class _Exchange:
    """The answer to one request on its way out."""

    def __init__(
        self, state: dict[str, Any], send: Send, report: Callable[[RequestRecord], None]
    ) -> None:
        self.answered = False  # the head of the answer is sent
        self._state = state
        self._record: RequestRecord = state["record"]
        self._send = send
        self._report = report

    async def send(self, message: Message) -> None:
        """Send a part of the answer, with the headers that all answers have."""
        if message["type"] == "http.response.start":
            self.answered = True
            self._record.finish(message["status"])
            # After the answer, which it would hold up, and before any later request.
            asyncio.get_running_loop().call_soon(self._report, self._record)
            message["headers"].append((b"x-request-id", self._record.request_id.encode()))
            if self._state.get("cross_origin"):
                message["headers"] += _CORS
        await self._send(message)


async def _everything(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what is asked of the server as a whole, with the target ``*``."""
    methods = {"allow": "GET, HEAD, OPTIONS, POST"}
    if scope["method"] != "OPTIONS":
        raise BadInput(f"the target * is for OPTIONS alone; give {scope['method']} a path")
    await Response(status_code=204, headers=methods)(scope, receive, send)


_CORS = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", ", ".join(EXPOSED).encode()),
]


def _without_slash(path: str) -> str:
    """*path* without the slash at its end, if there is one and not two."""
    ends = path != "/" and path.endswith("/") and not path.endswith("//")
    return path[:-1] if ends else path


def _request_id(headers: Headers) -> str:
    """The caller's own request id, or a new one."""
    given = headers.get("x-request-id") or headers.get("x-amzn-trace-id") or ""
    return given if _REQUEST_ID.fullmatch(given) else str(uuid4())
