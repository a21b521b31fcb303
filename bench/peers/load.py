"""Callers over HTTP, all in this process, over connections that stay open."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.request import urlopen

import uvloop

if TYPE_CHECKING:
    from collections.abc import Sequence

HOST = "127.0.0.1"


class Answer(NamedTuple):
    """What became of a request."""

    status: int  # 0 where there was no answer, or no connection free to ask for one
    seconds: float  # from when it was due


def request(path: str, body: Any) -> bytes:
    """A whole ``POST`` of *body* as JSON."""
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\naccept: */*\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def get(port: int, path: str) -> bytes:
    """The body of the answer to ``GET`` *path*."""
    with urlopen(f"http://{HOST}:{port}{path}") as answer:
        body: bytes = answer.read()
    return body


class Connection:
    """One connection, for one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.remembered = 0  # answers that Labelwise says it did not compute

    @classmethod
    async def to(cls, port: int) -> Connection:
        """A new connection to the server that listens on *port*."""
        return cls(*await asyncio.open_connection(HOST, port))

    async def ask(self, asked: bytes) -> bytes:
        """The body of the answer to *asked*.

        Raises:
            RuntimeError: The answer is not 200.
        """
        status, body = await self.answer(asked)
        if status != 200:
            raise RuntimeError(f"{status}: {body[:200]!r}")
        return body

    async def answer(self, asked: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer to *asked*."""
        self._writer.write(asked)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length: Any = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        body = await self._reader.readexactly(int(length[1]))
        self.remembered += b"x-compute-type: cache" in head
        return int(head[9:12]), body

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


def answers(port: int, requests: Sequence[bytes]) -> list[Any]:
    """The answers to *requests*, one after the other."""

    async def ask() -> list[Any]:
        connection = await Connection.to(port)
        found = [json.loads(await connection.ask(asked)) for asked in requests]
        connection.close()
        return found

    return uvloop.run(ask())


def closed_loop(
    port: int, requests: Sequence[bytes], callers: int, remembered: int = 0
) -> list[float]:
    """Seconds from request to answer of each; every caller sends its next one at once.

    More answers than so many *remembered* ones would be no measurement.
    """
    waiting, taken = iter(requests), []

    async def call(connection: Connection) -> None:
        for asked in waiting:
            began = time.perf_counter()
            await connection.ask(asked)
            taken.append(time.perf_counter() - began)
        connection.close()

    async def everybody() -> int:
        connections = [await Connection.to(port) for _ in range(callers)]
        await asyncio.gather(*map(call, connections))
        return sum(connection.remembered for connection in connections)

    found = uvloop.run(everybody())
    assert found <= remembered, f"{found} of {len(requests)} answers were not computed"
    return taken


def open_loop(
    port: int, requests: Sequence[bytes], rate: float, seconds: float, connections: int = 512
) -> list[Answer]:
    """What becomes of each of so many requests a second, that come at random, whatever goes on.

    One that finds none of the *connections* free has no answer.
    """
    chance = random.Random(round(rate * 1000))  # noqa: S311 - the same arrivals for the same rate
    free: list[Connection] = []
    found, wanted = [], cycle(requests)

    async def call(asked: bytes, due: float) -> None:
        status = 0
        with suppress(IndexError, OSError, asyncio.IncompleteReadError):
            connection = free.pop()
            status, _ = await connection.answer(asked)
            free.append(connection)
        found.append(Answer(status, time.perf_counter() - due))

    async def arrivals() -> None:
        # Opened beforehand: a system whose server is busy lets new ones wait for many seconds.
        free.extend([await Connection.to(port) for _ in range(connections)])
        due = began = time.perf_counter()
        async with asyncio.TaskGroup() as calls:
            while (due := due + chance.expovariate(rate)) < began + seconds:
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                calls.create_task(call(next(wanted), due))
        for connection in free:
            connection.close()

    uvloop.run(arrivals())
    return found
