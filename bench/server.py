"""The server: seconds to its first answer, what HTTP adds to a lone text, how busy 32 callers keep
the engine, and how quickly it answers something else meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import socket
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from statistics import median, quantiles
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

import models
from labelwise.models.locate import locate
from labelwise.models.model import Model
from labelwise.server.run import serve
from labelwise.settings import Settings
from report import Figure, finish, parser, read, say
from timing import settle

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

HOST = "127.0.0.1"
SENTENCE = "the film is a delight from the first scene to the last, and it knows it"
WORDS = SENTENCE.replace(",", "").split()
CALLERS = 32
HEALTH = f"GET /health HTTP/1.1\r\nhost: {HOST}\r\n\r\n".encode()
START_SECONDS, ADDED_MS, HEALTH_MS = 3, 1.5, 50
BUSY = {"embedded model": 0.8, "DistilBERT": 0.85}


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    options = read(parser(__doc__, rounds=5, quick=2))
    lone, crowd = (50, 500) if options.quick else (400, 4_000)
    starts = [start() for _ in range(options.rounds)]
    say(f"first answers: {', '.join(f'{seconds:.2f} s' for seconds in starts)}")
    folders = {
        "embedded model": locate().folder,
        "DistilBERT": models.folder(models.DISTILBERT, options.folder),
    }
    rounds, crowds = [], {}
    for name, at in folders.items():
        with Watched(at) as server:
            server.load([SENTENCE] * 200, callers=4)
            if name == "embedded model":
                rounds = [server.lone(lone) for _ in range(options.rounds)]
            texts = crowd if name == "embedded model" else crowd // 4
            crowds[name] = [server.crowd(texts) for _ in range(options.rounds)]
    added = median(one["added_ms"] for one in rounds)
    health = max(median(one["health_ms"] for one in busy) for busy in crowds.values())
    figures = [
        Figure("seconds from start to first answer", "time", median(starts), START_SECONDS),
        Figure("milliseconds that HTTP adds to one text", "time", added, ADDED_MS),
        *(
            Figure(
                f"share of time that the engine is busy, {name}",
                "ratio",
                median(one["busy"] for one in busy),
                BUSY[name],
            )
            for name, busy in crowds.items()
        ),
        Figure("milliseconds to /health meanwhile, 99 in 100", "time", health, HEALTH_MS),
    ]
    details = {"start_seconds": starts, "lone": rounds, "crowd": crowds}
    finish(
        "server", options, figures, details, used=["starlette", "httptools", "uvloop", "msgspec"]
    )


def start() -> float:
    """Wall seconds from nothing to the first text that ``labelwise serve`` classifies."""
    program = shutil.which("labelwise", path=Path(sys.executable).parent)
    if program is None:
        sys.exit("there is no program labelwise beside this python: pip install it there first")
    port = free_port()
    began = time.perf_counter()
    process = subprocess.Popen([program, "serve", "--port", str(port)], stderr=subprocess.DEVNULL)  # noqa: S603
    try:
        while True:
            try:
                connection = socket.create_connection((HOST, port))
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        with connection:
            answer = exchange(connection, request(SENTENCE))
        seconds = time.perf_counter() - began
        assert b"POSITIVE" in answer
    finally:
        process.terminate()
        process.wait()
    return seconds


class Watched:
    """A server in a process of its own that notes how long the engine takes for each batch."""

    def __init__(self, at: Path) -> None:
        self._at = at

    def __enter__(self) -> Self:
        self._port = free_port()
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_watched, args=(theirs, self._port, self._at), daemon=True
        )
        self._process.start()
        while True:
            try:
                socket.create_connection((HOST, self._port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join(20)

    def engine_seconds(self) -> list[float]:
        """For how long each batch since the last call had all processors, or as much of them."""
        self._pipe.send("seconds")
        seconds: list[float] = self._pipe.recv()
        return seconds

    def lone(self, count: int) -> dict[str, float]:
        """One caller, one text at a time: milliseconds in the engine, and what HTTP adds."""
        settle()
        self.engine_seconds()
        whole = []
        with socket.create_connection((HOST, self._port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for _ in range(count):
                began = time.perf_counter()
                exchange(connection, request(SENTENCE))
                whole.append(time.perf_counter() - began)
        engine = self.engine_seconds()
        added = median(all_of_it - ours for all_of_it, ours in zip(whole, engine, strict=True))
        found = {"engine_ms": median(engine) * 1e3, "added_ms": added * 1e3}
        say(f"one caller: {found['engine_ms']:.2f} ms in the engine, and {added * 1e3:.2f} more")
        return found

    def crowd(self, count: int) -> dict[str, float]:
        """Many callers at once: how busy the engine is, and how long another answer takes."""
        self.engine_seconds()
        texts = sentences(count, most=40)
        with Pulse(self._port) as pulse:
            seconds = self.load(texts, CALLERS)
        batches = self.engine_seconds()
        found = {
            "busy": sum(batches) / seconds,
            "texts_a_second": count / seconds,
            "health_ms": quantiles(pulse.taken, n=100)[98] * 1e3,
        }
        say(
            f"{CALLERS} callers: engine busy {found['busy']:.0%}, {count / seconds:.0f} texts/s, "
            f"{count / len(batches):.1f} texts a batch, /health {found['health_ms']:.1f} ms"
        )
        return found

    def load(self, texts: list[str], callers: int) -> float:
        """Seconds for *texts*, one a request, from so many callers at once."""
        return asyncio.run(_load(self._port, texts, callers))


class Pulse:
    """Asks for ``/health`` all the while, a hundred times a second; `taken` has the seconds."""

    def __init__(self, port: int) -> None:
        self.taken: list[float] = []
        self._port = port
        self._over = Event()
        self._thread = Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with socket.create_connection((HOST, self._port)) as connection:
            while not self._over.wait(0.01):
                began = time.perf_counter()
                assert b"ok" in exchange(connection, HEALTH)
                self.taken.append(time.perf_counter() - began)


def _watched(pipe: Connection, port: int, at: Path) -> None:
    """Serve, and tell through *pipe* for how long the batches had all processors."""
    taken: list[float] = []
    run = Model.run

    def timed(model: Model, texts: Any, **how: Any) -> Any:
        streams = model.streams
        part = 1 if how.get("exclusive") and streams.both else streams.count
        began = time.perf_counter()
        try:
            return run(model, texts, **how)
        finally:
            taken.append((time.perf_counter() - began) / part)

    def tell() -> None:
        while pipe.recv():
            told = taken.copy()
            del taken[: len(told)]
            pipe.send(told)

    Model.run = timed  # type: ignore[method-assign]
    Thread(target=tell, daemon=True).start()
    serve(Settings(models=(str(at),), port=port, cache_bytes=0))


async def _load(port: int, texts: list[str], callers: int) -> float:
    waiting = iter(texts)
    began = time.perf_counter()

    async def call() -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        for text in waiting:
            writer.write(request(text))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length: Any = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]))
        writer.close()

    await asyncio.gather(*(call() for _ in range(callers)))
    return time.perf_counter() - began


def sentences(count: int, most: int) -> list[str]:
    """Texts of 1 to so many words; there are as many of 1 to 10 as of 10 to 100."""
    chance = random.Random(most)  # noqa: S311 - the same ones in each run
    lengths = [round(most ** chance.random()) for _ in range(count)]
    return [" ".join(chance.choices(WORDS, k=length)) for length in lengths]


def request(text: str) -> bytes:
    """A call as the Hub's Python client sends it."""
    body = json.dumps({"inputs": text, "parameters": {}}).encode()
    head = (
        f"POST / HTTP/1.1\r\nhost: {HOST}\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\n"
        "user-agent: unknown/None; hf_hub/2.4.0; python/3.11\r\ncontent-type: application/json\r\n"
        "x-amzn-trace-id: 59220a5d-1fc1-405c-93ed-ac9c53486420\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def exchange(connection: socket.socket, asked: bytes) -> bytes:
    """The body of the answer to *asked*."""
    connection.sendall(asked)
    answer = b""
    while True:
        answer += connection.recv(65_536)
        head, _, body = answer.partition(b"\r\n\r\n")
        length: Any = re.search(rb"content-length: (\d+)", head)
        if length and len(body) == int(length[1]):
            return body


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server((HOST, 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
