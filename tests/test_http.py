"""Connections: what is read of them and when, and where it ends. A small application answers."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelwise.errors import LabelwiseError
from labelwise.server.http import Bounds, Connections

OK = b'{"path": "/", "body": ""}'


@dataclass
class Application:
    """Answers with what it was asked; ``/slow`` when it is told to, ``/large`` with a lot."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    left: int = 0  # callers of /slow that did not wait
    size: int = 0

    async def __call__(self, scope, receive, send):
        status, answer = 200, b""
        try:
            if (refusal := scope["state"].get("refusal")) is not None:
                raise refusal
            body, more = b"", True
            while more and scope["path"] != "/hasty":
                message = await receive()
                if message["type"] == "http.disconnect":
                    self.left += 1
                    return
                body, more = body + message["body"], message["more_body"]
            asked = {"path": scope["path"], "body": body.decode()}
            if scope["path"] == "/large":
                asked["body"] = "x" * self.size
            answer = json.dumps(asked).encode()
        except LabelwiseError as error:
            status, answer = error.status, str(error).encode()
        if scope["path"] == "/slow":
            waits = [asyncio.create_task(self.go.wait()), asyncio.create_task(receive())]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if waits[1].done():
                self.left += 1
                return
            waits[1].cancel()
        length = str(len(answer)).encode()
        head = [] if scope["path"] == "/chunked" else [(b"content-length", length)]
        await send({"type": "http.response.start", "status": status, "headers": head})
        await send({"type": "http.response.body", "body": answer})


@dataclass
class Client:
    """One connection to the application."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data):
        self.writer.write(data)

    async def answer(self):
        """The status and the body of the next answer; interim ones are passed over."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        status = int(head.split()[1])
        if status == 100:
            return await self.answer()
        if b"transfer-encoding" in head:
            size = int(await self.reader.readline(), 16)
            body = await self.reader.readexactly(size)
            assert await self.reader.readexactly(7) == b"\r\n0\r\n\r\n"
            return status, body
        length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        return status, await self.reader.readexactly(int(length.split()[1]))

    async def is_closed(self):
        """Whether the connection ends without another byte."""
        with suppress(ConnectionError):
            return await self.reader.read(1) == b""
        return True


class Served:
    """The application behind connections of *bounds*."""

    def __init__(self, **bounds):
        self.app = Application()
        self.connections = Connections(self.app, Bounds(**bounds))
        self._clients = []

    async def client(self, data=b"", buffer=None):
        """A new connection, over which *data* is sent."""
        raw = socket.socket()
        raw.setblocking(False)  # noqa: FBT003 - as Python has it
        if buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        await asyncio.get_running_loop().sock_connect(raw, self._address)
        reader, writer = await asyncio.open_connection(sock=raw, limit=2**16)
        self._clients.append(writer)
        client = Client(reader, writer)
        client.send(data)
        return client

    @asynccontextmanager
    async def running(self):
        self.connections.start()
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(self.connections.make, "127.0.0.1", 0)
        self._address = listener.sockets[0].getsockname()
        try:
            yield self
        finally:
            listener.close()
            for writer in self._clients:
                writer.transport.abort()
            assert await self.connections.drain(5)
            assert (len(self.connections), self.connections.unread) == (0, 0)


def served(**bounds):
    """Give a test a `Served` with *bounds*, on a loop of its own."""

    def decorate(test):
        @wraps(test)
        def run():
            async def main():
                async with asyncio.timeout(20), Served(**bounds).running() as server:
                    await test(server)

            asyncio.run(main())

        del run.__wrapped__  # pytest would take the parameter for a fixture
        return run

    return decorate


def post(path="/", body=b"", *fields):
    lines = [f"POST {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}", *fields]
    return "\r\n".join([*lines, "", ""]).encode() + body


def in_chunks(path, *pieces, end=b"0\r\nsum: 1\r\n\r\n"):
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x;e=1\r\n%b\r\n" % (len(one), one) for one in pieces) + end


GET = b"GET /get HTTP/1.1\r\nhost: localhost\r\n\r\n"
UPGRADE = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAM")


async def until(happens):
    while not happens():  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.01)


# One after the other

MESSAGES = {
    GET: ("/get", ""),
    post("/post", b"one\r\n\r\ntwo"): ("/post", "one\r\n\r\ntwo"),
    post("/none"): ("/none", ""),
    post("/up", b"h2c", *UPGRADE): ("/up", "h2c"),
    GET.replace(b"\r\n\r\n", b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"): (
        "/get",
        "",
    ),
    in_chunks("/chunks", b"a\r\n\r\n", b"\r\n0\r\n\r\n", b"b" * 300): (
        "/chunks",
        "a\r\n\r\n\r\n0\r\n\r\n" + "b" * 300,
    ),
    in_chunks("/chunked", b"x", end=b"0\r\n\r\n"): ("/chunked", "x"),
    b"\r\n\r\n" + GET: ("/get", ""),
}


@given(
    st.lists(st.sampled_from(list(MESSAGES)), min_size=1, max_size=6),
    st.lists(st.integers(1, 400), max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_requests_are_answered_in_their_order_however_they_are_cut(messages, sizes):
    async def main():
        async with asyncio.timeout(20), Served().running() as server:
            client, data = await server.client(), b"".join(messages)
            for size in sizes:
                client.send(data[:size])
                await client.writer.drain()
                await asyncio.sleep(0)
                data = data[size:]
            client.send(data)
            for message in messages:
                path, body = MESSAGES[message]
                assert await client.answer() == (
                    200,
                    json.dumps({"path": path, "body": body}).encode(),
                )
            client.writer.write_eof()
            assert await client.is_closed()

    asyncio.run(main())


@served()
async def test_what_follows_a_request_waits_unread_for_its_answer(server):
    client = await server.client(post("/slow") + GET * 50_000)
    await until(lambda: server.connections.unread)
    await asyncio.sleep(0.2)
    assert 0 < server.connections.unread < 600_000  # what came in one piece or two
    server.app.go.set()
    assert [(await client.answer())[0] for _ in range(500)] == [200] * 500


@served()
async def test_a_caller_that_asks_before_it_sends_is_told_to(server):
    client = await server.client(post("/", b"abc", "expect: 100-continue")[:-3])
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"abc")
    assert await client.answer() == (200, b'{"path": "/", "body": "abc"}')


# Ends of connections


@served(head_seconds=0.3)
async def test_half_a_head_is_refused_after_its_time(server):
    client = await server.client(GET[:20])
    status, said = await client.answer()
    assert (status, said) == (408, b"the head did not come in 0.3 s; send it")
    assert await client.is_closed()


@served(head_seconds=0.3)
async def test_a_head_that_comes_byte_by_byte_has_no_more_time(server):
    client = await server.client()
    for byte in GET[:-2]:
        client.send(bytes([byte]))
        await asyncio.sleep(0.05)
        if client.reader._buffer:
            break
    assert (await client.answer())[0] == 408


@served(idle_seconds=0.3)
async def test_an_idle_connection_is_closed_after_its_time(server):
    assert await (await server.client()).is_closed()
    client = await server.client(GET + in_chunks("/", b"x"))
    assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
    assert await client.is_closed()


@served(idle_seconds=0.3, head_seconds=0.3)
async def test_a_request_that_is_computed_is_no_idle_connection(server):
    client = await server.client(post("/slow"))
    await asyncio.sleep(1.2)
    server.app.go.set()
    assert (await client.answer())[0] == 200


@served(write_seconds=0.4)
async def test_a_caller_that_does_not_take_its_answer_is_let_go(server):
    server.app.size = 30_000_000
    client = await server.client(post("/large"), buffer=4_096)
    await until(lambda: server.connections.unsent > 1_000_000)
    await until(lambda: not len(server.connections))
    del client


@served(write_seconds=0.4)
async def test_a_caller_that_takes_its_answer_slowly_gets_it(server):
    server.app.size = 12_000_000
    client = await server.client(post("/large"), buffer=4_096)
    await client.reader.readuntil(b"\r\n\r\n")
    got = 0
    while got < server.app.size:
        got += len(await client.reader.read(2**17))
        await asyncio.sleep(0.01)


@served(unsent_bytes=16_000_000)
async def test_answers_that_nobody_takes_are_bounded_together(server):
    server.app.size = 10_000_000
    clients = [await server.client(post("/large"), buffer=4_096)]
    await until(lambda: server.connections.unsent > 1_000_000)
    await asyncio.sleep(0.6)
    clients += [await server.client(post("/large"), buffer=4_096) for _ in range(2)]
    await until(lambda: len(server.connections) == 2)  # the one that waits longest was let go
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await clients[0].answer()


@served(linger_seconds=2, pause_seconds=0.2)
async def test_what_comes_of_a_request_that_has_its_answer_is_taken_for_a_while(server):
    client = await server.client(post("/hasty", b"x" * 9_000_000)[:-1])
    assert (await client.answer())[0] == 200  # and no reset, though all came after the answer
    assert await client.is_closed()  # the last byte never came
    client = await server.client(post("/hasty", b"x" * 9_000_000) + GET)
    assert [(await client.answer())[0] for _ in range(2)] == [200, 200]


@served(linger_bytes=1_000_000)
async def test_what_comes_of_a_refused_request_is_taken_within_a_bound(server):
    client = await server.client(b"no HTTP\r\n\r\n")
    assert (await client.answer())[0] == 400
    with suppress(ConnectionError):
        for _ in range(1_000):
            client.send(b"x" * 65_536)
            await client.writer.drain()
    assert not len(server.connections)


# Callers that close their half, or leave


@served()
async def test_a_caller_that_closes_its_half_gets_its_answer_late(server):
    client = await server.client(post("/slow") + GET)
    client.writer.write_eof()
    await asyncio.sleep(1)
    assert server.app.left == 0
    server.app.go.set()
    assert [(await client.answer())[0] for _ in range(2)] == [200, 200]
    assert await client.is_closed()


@served()
async def test_a_caller_that_leaves_is_noticed(server):
    client = await server.client(post("/slow"))
    await until(lambda: server.connections._all and all(c.is_busy for c in server.connections._all))
    client.writer.close()
    await until(lambda: server.app.left)


@served()
async def test_a_caller_that_leaves_in_the_middle_of_its_body_is_noticed(server):
    client = await server.client(post("/", b"abc")[:-1])
    await until(lambda: server.connections._all and all(c.is_busy for c in server.connections._all))
    client.writer.close()
    await until(lambda: server.app.left)


# Together


@served(connections=3, pause_seconds=0.1)
async def test_the_connection_that_waits_longest_makes_room_for_another(server):
    first, second, _ = [await server.client() for _ in range(3)]
    first.send(GET)
    assert (await first.answer())[0] == 200
    await asyncio.sleep(0.2)
    fourth = await server.client(GET)
    assert (await fourth.answer())[0] == 200
    assert await second.is_closed()


@served(connections=2)
async def test_a_connection_that_came_just_now_does_not_make_room(server):
    first, second, third = [await server.client() for _ in range(3)]
    assert await third.answer() == (429, b"too many connections; try again in 1 s")
    first.send(GET)
    second.send(GET)
    assert [(await client.answer())[0] for client in (first, second)] == [200, 200]


@served(connections=2)
async def test_where_none_waits_a_further_connection_is_refused(server):
    busy = [await server.client(post("/slow")) for _ in range(2)]
    await until(lambda: sum(c.is_busy for c in server.connections._all) == 2)
    third = await server.client(GET)
    assert await third.answer() == (429, b"too many connections; try again in 1 s")
    assert await third.is_closed()
    server.app.go.set()
    assert [(await client.answer())[0] for client in busy] == [200, 200]


@served(unread_bytes=100_000)
async def test_heads_are_bounded_together(server):
    halves = [await server.client(GET[:-2] + b"x: " + b"y" * 30_000) for _ in range(3)]
    await until(lambda: server.connections.unread > 90_000)
    fourth = await server.client(GET[:-2] + b"x: " + b"y" * 30_000)
    assert await fourth.answer() == (429, b"too much comes at once; try again in 1 s")
    for half in halves:
        half.send(b"\r\n\r\n")
        assert (await half.answer())[0] == 200
    await until(lambda: server.connections.unread < 1_000)


# The end


def ended(server):
    return asyncio.create_task(server.connections.drain(5))


@served()
async def test_at_the_end_what_was_asked_is_answered_and_what_waits_is_closed(server):
    idle, slow, half = [await server.client(data) for data in (b"", post("/slow") + GET, GET[:20])]
    await until(lambda: any(c.is_busy for c in server.connections._all))
    await asyncio.sleep(0.1)
    end = ended(server)
    assert await idle.is_closed()
    assert not end.done()
    server.app.go.set()
    head = await slow.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in head
    assert (await half.answer())[0] == 408
    assert await end


@served(drain_seconds=0.3)
async def test_at_the_end_a_caller_that_takes_nothing_is_not_waited_for(server):
    server.app.size = 30_000_000
    client = await server.client(post("/large"), buffer=4_096)
    await until(lambda: server.connections.unsent > 1_000_000)
    assert await server.connections.drain(4)
    del client


@served()
async def test_the_end_says_where_a_request_got_no_answer(server):
    client = await server.client(post("/slow"))
    await until(lambda: any(c.is_busy for c in server.connections._all))
    assert not await server.connections.drain(0.2)
    assert await client.is_closed()
    assert server.app.left == 0


def test_a_head_of_an_answer_with_a_line_break_is_never_sent():
    async def app(_scope, _receive, send):
        field = (b"x-said", b"a\r\nset-cookie: b")
        await send({"type": "http.response.start", "status": 200, "headers": [field]})

    async def main():
        server = Served()
        server.connections.app = app
        async with asyncio.timeout(20), server.running():
            assert await (await server.client(GET)).is_closed()

    asyncio.run(main())
