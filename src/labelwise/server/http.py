"""HTTP/1.1 on the port: bytes to calls of an ASGI application, and its answers to bytes.

httptools reads requests; all here is about bounds. A connection reads one request at a time: until
that is answered, what comes after it stays a few unread bytes. Whatever is wrong with a request is
an error that the application answers, as it answers all others.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httptools

from labelwise.errors import (
    BadInput,
    HeadTooLarge,
    LabelwiseError,
    Overloaded,
    RequestTimeout,
    TargetTooLong,
)

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

_log = logging.getLogger(__name__)

_PART_BYTES = 16_384  # that the parser gets at once, so that it is asked in time for its bounds
_BODY_BUFFER = 65_536
_SWEEP_SECONDS = 0.5
_LATE_SECONDS = 0.1
_PROBE_SECONDS = 0.25
_DRAIN_PAUSE_SECONDS = 0.02
_REFUSED_AT_ONCE = 100  # connections beyond the bound that are told so; more are closed in silence
_TLS = b"\x16\x03"  # a handshake begins so
_EMPTY_LINE = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}


def _bound(default: Any, help_text: str, then: str) -> Any:
    """A bound: its value, what it bounds, and what happens *then*."""
    return field(default=default, metadata={"help": help_text, "then": then})


@dataclass(frozen=True)
class Bounds:
    """The bounds of connections. ``docs/limits.md`` has them as a table."""

    head_bytes: int = _bound(
        65_536, "Bytes of the head of a request, and of the trailers of its body.", "431, closed"
    )
    head_fields: int = _bound(100, "Header fields, with the trailers.", "431, closed")
    target_bytes: int = _bound(16_384, "Bytes of a URL.", "414, closed")
    connections: int = _bound(
        4_096,
        "Connections; fewer if the system allows fewer open files.",
        "the connection that has been idle longest, for a second or more, is closed; "
        "if there is none, the new one gets 429",
    )
    unread_bytes: int = _bound(
        32_000_000, "Bytes received but not handled, of all connections.", "429, closed"
    )
    unsent_bytes: int = _bound(
        64_000_000,
        "Bytes of answers not yet sent, of all connections.",
        "the connection that has taken nothing for longest is closed",
    )
    head_seconds: float = _bound(30, "For the head of a request.", "408, closed")
    idle_seconds: float = _bound(75, "Without a request.", "closed")
    write_seconds: float = _bound(30, "In which a caller takes nothing of its answer.", "closed")
    linger_seconds: float = _bound(
        10, "For the rest of a request that already has its answer.", "closed"
    )
    linger_bytes: int = _bound(100_000_000, "Bytes of that rest.", "closed")
    pause_seconds: float = _bound(
        1,
        "Without a byte of that rest; at shutdown, for all of it and for a head.",
        "closed",
    )
    drain_seconds: float = _bound(
        5, "In which a caller takes nothing of its answer, at shutdown.", "closed"
    )


class Connections:
    """All connections to *app*, and what they take together.

    Its methods run on the event loop alone.
    """

    def __init__(self, app: ASGIApp, bounds: Bounds) -> None:
        self.app = app
        self.bounds = bounds
        self.draining = False
        self.late = False  # the event loop is: requests wait unread
        self.unread = 0  # bytes
        self.unsent = 0  # bytes, as of the last sweep or later
        self.tasks: set[asyncio.Task[None]] = set()
        self.date = _date()
        self._all: set[Connection] = set()
        # Those that wait for a request, the one that has waited longest first, and since when.
        self._idle: dict[Connection, float] = {}
        self._sweeps: asyncio.Task[None] | None = None
        self._tls_logged = False

    def __len__(self) -> int:
        """The number of connections."""
        return len(self._all)

    def start(self) -> None:
        """Keep an eye on times and sums from now on."""
        self._sweeps = asyncio.create_task(self._sweep())

    def hint_at_tls(self) -> None:
        """Log, once, that a caller speaks TLS, which is not spoken here."""
        if not self._tls_logged:
            self._tls_logged = True
            _log.warning(
                "a caller speaks TLS to this port, which is plain HTTP: ask it with http://, or "
                "put a proxy with TLS in front; this is not logged again"
            )

    def make(self) -> Connection:
        """A new connection, for the event loop to call."""
        return Connection(self)

    async def drain(self, seconds: float) -> bool:
        """Close each connection when it is answered, and all within *seconds*.

        Gives back whether every request got its answer, or its caller has left before.
        """
        self.draining = True
        until = monotonic() + seconds
        for connection in list(self._all):
            connection.drain()
        while self._all and monotonic() < until:  # noqa: ASYNC110 - as a sweep: seldom, and bounded
            await asyncio.sleep(_DRAIN_PAUSE_SECONDS)
        whole = not any(connection.is_busy for connection in self._all)
        for connection in list(self._all):
            connection.abort()
        for task in self.tasks:
            task.cancel()
        if self._sweeps is not None:
            self._sweeps.cancel()
        await asyncio.sleep(0)  # lets them end
        return whole

    def add(self, connection: Connection) -> bool:
        """Note a new *connection*; whether there is room for it.

        Where there is none, the one that has waited longest for a request makes room. One that came
        just now does not: its request may be here already.
        """
        self._all.add(connection)
        if len(self._all) <= self.bounds.connections:
            return True
        oldest, since = next(iter(self._idle.items()), (None, 0.0))
        if oldest is None or monotonic() - since < self.bounds.pause_seconds:
            return False
        self.note_idle(oldest, idle=False)
        oldest.close()
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a *connection* that is closed."""
        self._all.discard(connection)
        self._idle.pop(connection, None)

    def note_idle(self, connection: Connection, *, idle: bool) -> None:
        """Note whether *connection* waits for a request."""
        if idle:
            self._idle[connection] = monotonic()
        else:
            self._idle.pop(connection, None)

    def make_room(self, size: int) -> None:
        """Note *size* bytes more that are to be sent. Where they are too many, the caller
        that has left its answer untaken for longest loses it.
        """
        self.unsent += size
        if self.unsent > self.bounds.unsent_bytes:
            self._measure()
            slowest = sorted((c for c in self._all if c.unsent), key=lambda c: c.moved)
            for connection in slowest:
                if self.unsent <= self.bounds.unsent_bytes:
                    break
                self.unsent -= connection.unsent
                connection.abort()

    def _measure(self) -> None:
        now = monotonic()
        self.unsent = sum(connection.measure(now) for connection in self._all)

    async def _sweep(self) -> None:
        while True:
            now = monotonic()
            try:
                self._look(now)
            except Exception:  # noqa: BLE001 - the others need their ends all the same
                _log.exception("connections could not be looked at")
            await asyncio.sleep(_SWEEP_SECONDS)
            self.late = monotonic() - now > _SWEEP_SECONDS + _LATE_SECONDS

    def _look(self, now: float) -> None:
        self.date = _date()
        self._measure()
        for connection in [c for c in self._all if c.until < now]:
            connection.expire()


class Connection(asyncio.Protocol):
    """One connection. It waits for a head, then for the answer of that request, and so on."""

    _transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._bounds = connections.bounds
        self._loop = asyncio.get_running_loop()
        self.until = math.inf  # when it expires, on the monotonic clock
        self.unsent = 0  # bytes of answers, when they were measured last
        self.moved = 0.0  # when the caller took some of them last
        self._exchange: Exchange | None = None
        self._rest = b""  # what came, and from where on it is not read yet
        self._at = 0
        self._counted = 0  # bytes of it in the sum of all connections
        self._deaf = False  # what comes is forgotten: it cannot be understood, or is not wanted
        self._ended = False  # nothing comes any more
        self._discarded = 0  # bytes
        self._lingers_until = math.inf  # on the monotonic clock
        self._kept = 0  # bytes of the head of the request that is being answered
        self._writable = asyncio.Event()
        self._writable.set()
        self._reads = True
        self._renew()

    # What the event loop calls

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request."""
        self._transport = transport
        self._server = _address(transport, "sockname")
        self._client = _address(transport, "peername")
        if self._connections.add(self):
            self._wait()
        elif len(self._connections) > self._bounds.connections + _REFUSED_AT_ONCE:
            self.abort()
        else:
            self._refuse(Overloaded("too many connections; try again in 1 s", 1, "connections"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Tell the handler of a request that its caller has left."""
        self._connections.remove(self)
        self._count(0)
        self._writable.set()
        if self._exchange is not None:
            self._exchange.leave()

    def data_received(self, data: bytes) -> None:
        """Read what came, as far as it is wanted now."""
        if self._deaf:
            self._forget(len(data))
            return
        self._rest, self._at = (self._rest[self._at :] + data, 0) if self._rest else (data, 0)
        self._read()

    def eof_received(self) -> bool:
        """Whether to keep the connection: for a request that came whole, to send its answer."""
        self._ended = True
        if self._exchange is None or not self._exchange.whole:
            return False
        self._exchange.probe_later()
        return True

    def pause_writing(self) -> None:
        """Wait for the caller to take what was sent."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on: with the answer, or the next request."""
        self._writable.set()
        self._read()

    # What the connections call

    @property
    def is_busy(self) -> bool:
        """Whether a request has no whole answer yet."""
        return self._exchange is not None and not self._exchange.complete

    def measure(self, now: float) -> int:
        """The bytes of answers that the caller has not taken."""
        unsent = self._transport.get_write_buffer_size()
        if unsent < self.unsent or not self.unsent:
            self.moved = now
        self.unsent = unsent
        bounds = self._bounds
        patience = bounds.drain_seconds if self._connections.draining else bounds.write_seconds
        if unsent and now - self.moved > patience:
            self.abort()
        return unsent

    def expire(self) -> None:
        """Refuse a head that does not come; close what waits for nothing."""
        self.until = math.inf
        if self._exchange is None and self._head:
            self._refuse(
                RequestTimeout(f"the head did not come in {self._bounds.head_seconds:g} s; send it")
            )
        else:
            self.close()

    def drain(self) -> None:
        """Close when the request is answered; at once where none has begun."""
        if self._exchange is None and not self._head and not self._deaf:
            self.close()
        elif not self.is_busy:
            self.until = min(self.until, monotonic() + self._bounds.pause_seconds)

    def close(self) -> None:
        """Close when all is sent."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    # Reading

    def _renew(self) -> None:
        """Expect the head of a request."""
        self._parser = httptools.HttpRequestParser(self)
        # What follows a request that closes the connection is not read: it is no error either.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._head = 0  # bytes of the head, or of what is no body, so far
        self._left = 0  # bytes of a body that says its length
        self._tail = b""  # the last bytes that the parser got: an empty line may begin there

    def _wait(self) -> None:
        """Wait for a request."""
        self._exchange = None
        self._head = self._kept = self._discarded = 0
        self._lingers_until = math.inf
        ends = self._connections.draining
        self.until = monotonic() + (
            self._bounds.pause_seconds if ends else self._bounds.idle_seconds
        )
        self._connections.note_idle(self, idle=True)

    def _read(self) -> None:
        """Give the parser what came up to the end of one request; what follows waits."""
        while self._at < len(self._rest) and self._wants_more():
            if self._exchange is None and not self._head:
                self.until = monotonic() + self._bounds.head_seconds
                self._connections.note_idle(self, idle=False)
            end = self._end_of_part()
            part = self._rest[self._at : end]
            self._at = end
            self._feed(part)
        if self._at >= len(self._rest):
            self._rest, self._at = b"", 0
        self._count(self._kept + self._head + len(self._rest))
        self.update_reading()

    def _wants_more(self) -> bool:
        """Whether the parser may get more now."""
        exchange = self._exchange
        if exchange is None:
            return self._writable.is_set()
        return not (exchange.whole or self._deaf)

    def _end_of_part(self) -> int:
        """The end of the next part: with a body, with a line that may end a request, or sooner."""
        most = min(len(self._rest), self._at + _PART_BYTES)
        if self._left:
            return min(most, self._at + self._left)
        seam = self._tail + self._rest[self._at : self._at + 3]
        found = seam.find(_EMPTY_LINE)
        if found >= 0:
            return self._at + found + len(_EMPTY_LINE) - len(self._tail)
        found = self._rest.find(_EMPTY_LINE, self._at, most)
        return most if found < 0 else found + len(_EMPTY_LINE)

    def _feed(self, part: bytes) -> None:
        if self._left:
            self._left -= len(part)
        else:
            self._head += len(part)
            self._tail = (self._tail + part)[-3:]
        try:
            if self._head > self._bounds.head_bytes:
                raise self._too_large()
            self._parser.feed_data(part)
        except httptools.HttpParserUpgrade:
            self._ignore_upgrade()
        except LabelwiseError as error:
            self._refuse(error)
        except httptools.HttpParserError as error:
            reason = error.__context__
            if not isinstance(reason, LabelwiseError):
                reason = BadInput("the request is not valid HTTP/1.1; use an HTTP client")
                if part.startswith(_TLS):
                    self._connections.hint_at_tls()
            self._refuse(reason)

    def _too_large(self) -> HeadTooLarge:
        return HeadTooLarge(
            f"the head of the request is longer than {self._bounds.head_bytes} bytes; send fewer "
            "or shorter header fields"
        )

    def _ignore_upgrade(self) -> None:
        """Read the head once more, without the upgrade: the parser would take a body for one."""
        head = [f"{self._method} ".encode(), self._target, b" HTTP/1.1\r\n"]
        for name, value in self._headers:
            if name != b"upgrade":
                head += [name, b": ", value, b"\r\n"]
        self._renew()
        self._feed(b"".join([*head, b"\r\n"]))

    def _refuse(self, error: LabelwiseError) -> None:
        """Answer with *error*, unless an answer is under way, and forget all that comes after."""
        self._deaf = True
        self._rest, self._at = b"", 0
        if self._exchange is None:
            self._begin("-", "/", b"/", b"", error)
        elif not self._exchange.whole:
            self._exchange.fail(error)

    def _count(self, unread: int) -> None:
        """Have the sum of all connections hold *unread* bytes of this one."""
        self._connections.unread += unread - self._counted
        grows, self._counted = unread > self._counted, unread
        if grows and self._connections.unread > self._bounds.unread_bytes:
            self._refuse(Overloaded("too much comes at once; try again in 1 s", 1, "connections"))

    def _forget(self, size: int) -> None:
        """Note that *size* bytes came that nobody wants."""
        self._discarded += size
        if self._discarded > self._bounds.linger_bytes:
            self.abort()
        elif self._lingers_until < math.inf:
            self.until = min(self._lingers_until, monotonic() + self._bounds.pause_seconds)

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin with a request."""
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._fields = self._field_bytes = 0

    def on_url(self, part: bytes) -> None:
        """Add to the target."""
        self._target += part
        if len(self._target) > self._bounds.target_bytes:
            raise TargetTooLong(
                f"the URL is longer than {self._bounds.target_bytes} bytes; send a shorter one"
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a field; of a trailer only that there is one."""
        self._fields += 1
        if self._fields > self._bounds.head_fields:
            raise HeadTooLarge(
                f"the request has more than {self._bounds.head_fields} header fields; send fewer"
            )
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > self._bounds.head_bytes:
            raise self._too_large()
        if self._exchange is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Call the application, which reads the body as it comes."""
        version = self._parser.get_http_version()
        self._method = self._parser.get_method().decode()
        if version not in {"1.0", "1.1"}:
            raise BadInput(f"this server speaks HTTP/1.1, not HTTP/{version}")
        if self._method == "CONNECT":
            raise BadInput("this server is no proxy")
        if self._parser.should_upgrade():
            return  # it is read once more
        path, query, host = _parse_target(self._target)
        if host is not None:  # it stands for the field
            self._headers = [field for field in self._headers if field[0] != b"host"]
            self._headers.append((b"host", host))
        self._left, chunked = _body(self._headers, version)
        self._kept = self._head
        exchange = self._begin(self._method, unquote(path.decode()), path, query)
        exchange.whole = not (self._left or chunked)
        exchange.keeps = version == "1.1" and self._parser.should_keep_alive()

    def on_body(self, part: bytes) -> None:
        """Hand on a part of the body."""
        self._head = 0
        assert self._exchange is not None  # noqa: S101 - for the type
        if self._exchange.complete:
            self._forget(len(part))
        else:
            self._exchange.take(part)

    def on_message_complete(self) -> None:
        """Read no further, until the answer is sent."""
        if self._exchange is None:  # an upgrade: see above
            return
        self._exchange.complete_body()
        if self._exchange.complete:
            self._loop.call_soon(self.go_on)

    # Requests and answers

    def _begin(
        self,
        method: str,
        path: str,
        raw_path: bytes,
        query: bytes,
        refusal: LabelwiseError | None = None,
    ) -> Exchange:
        """Have the application answer a request, or say why there is none."""
        self._head = 0
        self.until = math.inf
        self._connections.note_idle(self, idle=False)
        headers = [] if refusal else self._headers
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1" if refusal else self._parser.get_http_version(),
            "server": self._server,
            "client": self._client,
            "scheme": "http",
            "method": method,
            "root_path": "",
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": headers,
            "state": {"refusal": refusal, "late": self._connections.late},
        }
        self._exchange = Exchange(self, self._transport, scope, keeps=not refusal)
        task = self._loop.create_task(self._exchange.run(self._connections.app))
        self._connections.tasks.add(task)
        task.add_done_callback(self._connections.tasks.discard)
        if self._ended:
            self._exchange.probe_later()
        return self._exchange

    @property
    def date(self) -> bytes:
        """The time of an answer, as HTTP writes it."""
        return self._connections.date

    @property
    def ends(self) -> bool:
        """Whether no further request is wanted, or can come."""
        return self._connections.draining or self._deaf or (self._ended and not self._rest)

    async def write(self, data: bytes) -> None:
        """Send a part of an answer; wait where the caller is slow to take it."""
        self._transport.write(data)
        self._connections.make_room(self._transport.get_write_buffer_size())
        await self._writable.wait()

    def update_reading(self) -> None:
        """Read while there is room for what comes, and nothing waits that came before."""
        wanted = not self._rest and (self._exchange is None or self._exchange.has_room)
        if wanted != self._reads and not (self._ended or self._transport.is_closing()):
            self._reads = wanted
            if wanted:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def go_on(self) -> None:
        """Go on after an answer: with the next request, or the rest of this one; or close."""
        exchange = self._exchange
        if exchange is None or self._transport.is_closing():
            return
        if not exchange.keeps or self._deaf:
            self._leave(whole=exchange.whole and not self._deaf)
        elif exchange.whole:
            self._wait()
            self._read()
            if self._ended and self._exchange is None:
                self.close()
        else:
            self._linger()
        self.update_reading()

    def _leave(self, *, whole: bool) -> None:
        """Close after the last answer, where the request did not come *whole* after a while.

        Many callers send all before they read: closed under them, a connection loses the answer.
        """
        self._exchange = None
        if whole or self._ended:
            self.close()
            return
        self._deaf, self._rest, self._at = True, b"", 0
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._linger()

    def _linger(self) -> None:
        """Take for a while what still comes of a request that is answered."""
        bounds = self._bounds
        seconds = bounds.pause_seconds if self._connections.draining else bounds.linger_seconds
        self._lingers_until = monotonic() + seconds
        self._forget(0)


class Exchange:
    """One request and its answer: what the application gets, and what it gives."""

    def __init__(
        self, connection: Connection, transport: asyncio.Transport, scope: Scope, *, keeps: bool
    ) -> None:
        self.whole = False  # the request has come
        self.complete = False  # the answer is sent
        self.keeps = keeps  # the connection is for further requests
        self._connection = connection
        self._transport = transport
        self._scope = scope
        self._body = bytearray()
        self._handed = False  # all of the body to the application
        self._changed = asyncio.Event()
        self._failure: LabelwiseError | None = None
        self._left = False  # the caller has
        self._started = False  # the answer
        self._head = b""  # of the answer, until it is sent
        self._chunked = False
        self._waits = any(
            name == b"expect" and value.lower() == b"100-continue"
            for name, value in scope["headers"]
        )

    async def run(self, app: ASGIApp) -> None:
        """Have *app* answer."""
        try:
            await app(self._scope, self.receive, self.send)
        except Exception as error:  # noqa: BLE001 - the front answers all but those after its head
            _log.error("an answer broke off: %s", type(error).__name__)
        finally:
            if not (self.complete or self._left):
                self._connection.abort()

    # What the connection calls

    @property
    def has_room(self) -> bool:
        """Whether more of the body may come."""
        return self.complete or len(self._body) < _BODY_BUFFER

    def take(self, part: bytes) -> None:
        """Take a part of the body."""
        self._body += part
        self._changed.set()

    def complete_body(self) -> None:
        """Note that the request has come."""
        self.whole = True
        self._changed.set()

    def fail(self, error: LabelwiseError) -> None:
        """Give *error* to the reader of the body: no more of it can be read."""
        self.keeps = False
        self._failure = error
        self._changed.set()

    def leave(self) -> None:
        """Note that the caller has left."""
        self._left = True
        self._changed.set()

    def probe_later(self, seconds: float = _PROBE_SECONDS) -> None:
        """See in *seconds* whether a caller that sends no more is still there."""
        asyncio.get_running_loop().call_later(seconds, self._probe, seconds)

    def _probe(self, seconds: float) -> None:
        """Send what is nothing to a caller that waits, and cannot be sent to one that has left.

        Its system answers the first with a reset, and then the second fails.
        """
        waits = not (self._started or self._left)
        if waits and self._scope["http_version"] == "1.1":
            self._transport.write(_CONTINUE)
            self.probe_later(2 * seconds)

    # What the application calls

    async def receive(self) -> Message:
        """The next part of the body, or that the caller has left.

        Raises:
            LabelwiseError: The body cannot be read any further.
        """
        if self._waits and not self.whole:
            self._transport.write(_CONTINUE)
        self._waits = False
        while True:
            if self._left or self.complete:
                return {"type": "http.disconnect"}
            if self._failure is not None:
                raise self._failure
            if self._body or self.whole is not self._handed:
                body, self._body = bytes(self._body), bytearray()
                self._handed = self.whole
                self._connection.update_reading()
                return {"type": "http.request", "body": body, "more_body": not self.whole}
            self._changed.clear()
            await self._changed.wait()

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if self._left:
            return
        if message["type"] == "http.response.start":
            self._start(message["status"], list(message["headers"]))
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self._scope["method"] == "HEAD":
            body = b""
        elif self._chunked:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"" if more else b"0\r\n\r\n"
        head, self._head = self._head, b""
        self.complete = not more
        if self.complete:
            self._changed.set()  # for a handler that waits for the caller to leave
        await self._connection.write(head + body)
        if self.complete and not self._left:
            self._connection.go_on()

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._started, self._waits = True, False
        headers.append((b"date", self._connection.date))
        if self._connection.ends or not self.keeps:
            self.keeps = False
            headers.append((b"connection", b"close"))
        if status not in {204, 304} and all(name != b"content-length" for name, _ in headers):
            self._chunked = True
            headers.append((b"transfer-encoding", b"chunked"))
        lines = b"".join([b"%b: %b\r\n" % field for field in headers])
        if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
            raise ValueError("a header has a line break in it")
        self._head = b"%b%b\r\n" % (_STATUS_LINES[status], lines)


def _date() -> bytes:
    return formatdate(usegmt=True).encode()


def _address(transport: asyncio.BaseTransport, which: str) -> tuple[str, int] | None:
    """One end of a connection, as ASGI has it."""
    found = transport.get_extra_info(which)
    return (found[0], found[1]) if isinstance(found, tuple) else None


def _parse_target(target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """The path, the query, and the host where *target* has one.

    Raises:
        BadInput: It is none of an HTTP server.
    """
    host = None
    if not target.startswith((b"/", b"*")):
        scheme, found, target = target.partition(b"://")
        if not found or scheme.lower() not in {b"http", b"https"}:
            raise BadInput("the target of the request must be a path, as in POST / HTTP/1.1")
        host, slash, rest = target.partition(b"/")
        target = slash + rest or b"/"
    path, _, query = target.partition(b"#")[0].partition(b"?")
    return path, query, host


def _body(headers: list[tuple[bytes, bytes]], version: str) -> tuple[int, bool]:
    """The length of the body, and whether it comes in chunks.

    Raises:
        BadInput: The *headers* contradict each other, or ask for what is not done here.
    """
    length, codings, hosts = 0, [], 0
    for name, value in headers:
        if name == b"content-length":
            length = int(value)  # the parser has looked at it
        elif name == b"transfer-encoding":
            codings.append(value.lower())
        elif name == b"host":
            hosts += 1
    if hosts > 1:
        raise BadInput("the request names more than one Host; send one")
    if codings and (codings != [b"chunked"] or version == "1.0"):
        raise BadInput("transfer-encoding must be chunked, or absent")
    return length, bool(codings)
