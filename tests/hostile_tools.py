"""Means of hostile tests: connections that send bytes as they like, a strict reader of answers,
what every answer must be, and what a server in a process of its own holds of the machine.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serving import Answer

MARKER = (
    "MARKER-7f3a"  # stands in texts, headers and access tokens; no error and no log may hold it
)
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="this system says nothing in /proc"
)
HEALTH = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"

_HEAD = re.compile(
    rb"HTTP/1\.1 (\d{3}) [\t -~\x80-\xff]*\r\n"
    rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
_SIZE = re.compile(rb"([0-9a-fA-F]{1,8})\r\n")
_CUT = (b"", b"H", b"HT", b"HTT", b"HTTP")
_MAX_HEAD = 50_000
# Once alone in an answer, or it could be read in two ways.
_SINGLE = {"content-length", "transfer-encoding", "content-type", "x-request-id", "connection"}


class NotHttp(AssertionError):  # noqa: N818 - it says what came
    """An answer that a strict reader does not take."""


def read(data: bytes, method: str = "GET", *, ended: bool = False) -> tuple[Answer, int] | None:
    """The answer to a request of *method* at the beginning of *data*, and its length in bytes.

    None where more must come; *ended* says that nothing does.

    Raises:
        NotHttp: That is no answer as HTTP/1.1 has it, or it is cut off.
    """
    head = _HEAD.match(data)
    if head is None:
        if ended and data:
            raise NotHttp(f"an answer is cut off in its head: {data[:200]!r}")
        if data[:4] not in _CUT or b"\r\n\r\n" in data or len(data) > _MAX_HEAD:
            raise NotHttp(f"no head of an answer: {data[:200]!r}")
        return None
    status, headers = int(head[1]), _headers(head[2])
    if status < 100 or status == 101:
        raise NotHttp(f"nobody asked for status {status}")
    if method == "HEAD" or status < 200 or status in {204, 304}:
        bare = status < 200 or status == 204
        _must(not bare or not {"content-length", "transfer-encoding"} & headers.keys(), data)
        return Answer(status, headers, b""), head.end()
    found = _body(data, head.end(), headers, ended=ended)
    if found is None and ended:
        raise NotHttp(f"an answer is cut off in its body: {data[:200]!r}")
    return None if found is None else (Answer(status, headers, found[0]), found[1])


def _body(
    data: bytes, at: int, headers: dict[str, str], *, ended: bool
) -> tuple[bytes, int] | None:
    """The body that begins in *data* at *at*, and where it ends; None where more must come."""
    if "transfer-encoding" in headers:
        _must(headers["transfer-encoding"] == "chunked" and "content-length" not in headers, data)
        return _chunks(data, at)
    if "content-length" in headers:
        _must(re.fullmatch("[0-9]{1,10}", headers["content-length"]), data)
        end = at + int(headers["content-length"])
        return (data[at:end], end) if len(data) >= end else None
    _must(headers.get("connection") == "close", data)
    return (data[at:], len(data)) if ended else None


def _must(holds: object, data: bytes) -> None:
    if not holds:
        raise NotHttp(f"the head contradicts itself: {data[:400]!r}")


def _headers(lines: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines.decode("latin-1").split("\r\n")[:-1]:
        name, value = line.split(":", 1)
        name, value = name.lower(), value.strip(" \t")
        if name in headers and name in _SINGLE:
            raise NotHttp(f"{name} stands twice in an answer")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _chunks(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The body in the chunks of *data* from *at* on, and where they end; without trailers."""
    body = b""
    while size := _SIZE.match(data, at):
        length = int(size[1], 16)
        at = size.end() + length + 2
        if len(data) < at:
            return None
        if data[at - 2 : at] != b"\r\n":
            raise NotHttp("a chunk has another length than it says")
        body += data[size.end() : at - 2]
        if not length:
            return body, at
    if len(data) - at > 10:
        raise NotHttp(f"no chunk: {data[at : at + 50]!r}")
    return None


class Wire:
    """A connection to the server at *url*.

    With *receives* the system buffers about so many bytes of answers that are not read.
    """

    def __init__(self, url: str, *, timeout: float = 30, receives: int | None = None) -> None:
        parts = urlsplit(url)
        self.socket = socket.socket()
        if receives is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect((parts.hostname, parts.port))
        except OSError:
            self.socket.close()
            raise
        self._data = b""
        self._ended = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    @property
    def port(self) -> int:
        """The port at this end."""
        return self.socket.getsockname()[1]

    def send(self, data: bytes) -> None:
        """Send *data* to its end."""
        self.socket.sendall(data)

    def flood(self, pieces, *, seconds: float, read: bool = True) -> int:
        """Send *pieces* until the server answers, closes, or takes no more for *seconds*.

        Give back how many bytes it took. Without *read*, an answer does not end it.
        """
        sent = 0
        for piece in pieces:
            left = memoryview(piece)
            while left:
                wanted = [self.socket] if read else []
                readable, writable, _ = select.select(wanted, [self.socket], [], seconds)
                if readable or not writable:
                    return sent
                try:
                    count = self.socket.send(left[:1_000_000], socket.MSG_DONTWAIT)
                except OSError:
                    return sent
                left = left[count:]
                sent += count
        return sent

    def finish(self) -> None:
        """Say that nothing more will be sent; answers can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Leave at once and rudely: with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, which is to a request of *method*.

        Raises:
            NotHttp: It is none, or is cut off.
            EOFError: The connection is closed instead.
            TimeoutError: None comes.
        """
        while True:
            found = read(self._data, method, ended=self._ended)
            if found is not None:
                self._data = self._data[found[1] :]
                if found[0].status != 100:
                    return found[0]
            elif not self.receive() and not self._data:
                raise EOFError("the connection is closed without an answer")

    def ends(self) -> bool:
        """Whether the connection is closed, and nothing more comes before.

        Raises:
            TimeoutError: It stays open.
        """
        while self.receive():
            pass
        return not self._data

    def receive(self, most: int = 1_000_000) -> bool:
        """Keep what comes next, so many bytes at most; False at the end of the connection."""
        try:
            more = b"" if self._ended else self.socket.recv(most)
        except ConnectionError:
            more = b""
        self._data += more
        self._ended = not more
        return bool(more)


def request(
    target: str | bytes = "/",
    body: object = None,
    *headers: str | bytes,
    method: str = "",
    version: str = "HTTP/1.1",
    host: str | None = "localhost",
) -> bytes:
    """A request; with a *body*, bytes or anything else as JSON, it is a POST."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    method = method or ("GET" if body is None else "POST")
    fields = [] if host is None else [f"host: {host}"]
    if body is not None:
        fields.append(f"content-length: {len(body)}")
    lines = [method.encode() + b" " + _bytes(target) + b" " + version.encode()]
    lines += map(_bytes, [*fields, *headers])
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def chunked(*chunks: bytes, trailers: bytes = b"", target: str = "/", headers: str = "") -> bytes:
    """A POST whose body comes in *chunks*; *trailers* are whole lines."""
    head = (
        f"POST {target} HTTP/1.1\r\nhost: localhost\r\n{headers}transfer-encoding: chunked\r\n\r\n"
    )
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head.encode() + body + b"0\r\n" + trailers + b"\r\n"


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


# Promises


def check(answer: Answer, *secrets: str, method: str = "GET") -> None:
    """Hold *answer* against what every answer is: no failure, named, and an error is one line of
    JSON in which none of *secrets* stands.
    """
    assert answer.status < 500 or answer.status in {503, 504}, answer
    assert re.fullmatch("[!-~]{1,200}", answer.headers.get("x-request-id", "")), answer
    if answer.status < 400:
        return
    assert answer.headers.get("content-type") == "application/json", answer
    for secret in (MARKER, *secrets):
        assert secret.encode() not in answer.body, answer
    if method != "HEAD":
        error = answer.json["error"]
        assert isinstance(error, str), answer
        assert error, answer
        assert error.isprintable(), answer


def check_refused(wire: Wire, *statuses: int) -> Answer:
    """The error that comes next from *wire*, which has one of *statuses* and is the last."""
    answer = wire.answer()
    assert answer.status in statuses, answer
    check(answer)
    assert answer.headers.get("connection") == "close", answer
    wire.socket.settimeout(15)
    assert wire.ends()
    return answer


def check_log(log: Path, *secrets: str) -> None:
    """Hold what a server printed against the promise: no secret, and nothing that failed unseen."""
    said = log.read_text(errors="replace")
    for word in (MARKER, "Traceback", "xception", "terminate called", "Unhandled", *secrets):
        assert word not in said, _around(said, word)


def _around(said: str, word: str) -> str:
    at = said.index(word)
    return f"{word!r} is in the log: ...{said[max(0, at - 200) : at + 200]!r}..."


# The server as the system sees it


class Process:
    """What the process *pid* holds: memory in MB (1,000,000 bytes) and file descriptors."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._at = Path(f"/proc/{pid}")

    def memory(self) -> float:
        """Resident memory now."""
        return self._status("VmRSS")

    def peak(self) -> float:
        """The most resident memory since the start, or since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Begin a new peak."""
        (self._at / "clear_refs").write_text("5")

    def descriptors(self) -> int:
        """How many files and connections are open."""
        return sum(1 for _ in (self._at / "fd").iterdir())

    def seconds(self) -> float:
        """Seconds of processor time so far."""
        user, system = (self._at / "stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def holds(self, port: int) -> bool:
        """Whether it has the other end of the connection from the local *port*."""
        ours = set()
        for line in (self._at / "net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) == port:
                ours.add(f"socket:[{fields[9]}]")
        for one in (self._at / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                if str(one.readlink()) in ours:
                    return True
        return False

    def _status(self, name: str) -> float:
        found = re.search(rf"^{name}:\s*(\d+) kB", (self._at / "status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 / 1e6


def ask_once(url: str, data: bytes, *, timeout: float = 30) -> Answer:
    """The answer to the request *data*, over a connection of its own."""
    with Wire(url, timeout=timeout) as wire:
        wire.send(data)
        return wire.answer(data.split(b" ", 1)[0].decode())


def settled(process: Process, *, seconds: float = 5) -> float:
    """Resident memory when it has not moved for a while; MB."""
    last, until = process.memory(), time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.25)
        now = process.memory()
        if abs(now - last) < 0.5:
            break
        last = now
    return process.memory()
