"""Attacks on a live server, and what it holds and how soon others are answered meanwhile.

An attack is a function of a `Target`; a *share* of 1 is its whole size, less is a short form.
`pressed` measures one. `bench/hostile.py` and the tests use the same ones.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from hostile_load import load
from hostile_tools import HEALTH, NotHttp, Process, Wire, ask_once, chunked, read, request, settled
from serving import command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from serving import Live

MEGABYTE = 1_000_000
ACCESS_TOKEN = "hf_right"  # noqa: S105
GROWTH = 200  # MB above the idle server, at most
LITTLE = 25  # the same, for a small share of what nobody needs to keep
LENIENT = 3  # times as long in tests: bench/hostile.py has the claims, on a quiet machine
LONGEST, P99 = 2.0, 1.0  # seconds to the answer of somebody else
SMALL = {"inputs": "I like you"}
LETTERS = "漢字仮名交文章日本語"  # none of which the tokenizer keeps with another


@dataclass
class Target:
    """The server that is attacked, and how hard."""

    url: str
    process: Process
    share: float = 1.0

    def times(self, count: int) -> int:
        """*count*, or its share."""
        return max(1, round(count * self.share))

    def flood(self, pieces: Iterator[bytes], *, read: bool = True) -> None:
        """Send *pieces* until the server answers or takes no more for a while."""
        with Wire(self.url, receives=10_000) as wire:
            wire.flood(pieces, seconds=5 if read else 2, read=read)


@dataclass
class Pressed:
    """One attack: megabytes of the server, file descriptors, and seconds of others' requests."""

    idle: float
    peak: float
    after: float
    descriptors: int  # more than before
    took: float
    probes: int
    p99: float
    longest: float
    statuses: dict[str, int] = field(default_factory=dict)  # of the others

    @property
    def growth(self) -> float:
        """The peak above the idle server, in MB."""
        return self.peak - self.idle

    def document(self) -> dict[str, Any]:
        """The figures for JSON."""
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in asdict(self).items()}
        return rounded | {"growth": round(self.growth, 1)}

    def check(self, *, growth: float = GROWTH) -> None:
        """Hold the figures against what is promised."""
        assert self.growth <= growth, self
        assert set(self.statuses) == {"200"}, self
        assert self.longest <= LENIENT * LONGEST, self
        assert self.p99 <= LENIENT * P99, self
        assert self.descriptors <= 5, self  # the system lets go of some a moment later


class Prober:
    """Somebody who sends a small request every 50 ms, each over a connection of its own."""

    def __init__(self, url: str, *headers: str) -> None:
        parts = urlsplit(url)
        self._place = parts.hostname, parts.port
        self._data = request("/", SMALL, *headers)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.seconds: list[float] = []
        self.statuses = Counter[str]()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    @property
    def p99(self) -> float:
        """Seconds within which 99 in 100 were answered."""
        return sorted(self.seconds)[len(self.seconds) * 99 // 100]

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as asked:
            while not self._ends.is_set():
                asked.create_task(self._ask())
                await asyncio.sleep(0.05)

    async def _ask(self) -> None:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(30):
                status = str(await self._status())
        except (OSError, EOFError, TimeoutError, NotHttp) as reason:
            status = type(reason).__name__
        self.statuses[status] += 1
        self.seconds.append(time.perf_counter() - began)

    async def _status(self) -> int:
        reader, writer = await asyncio.open_connection(*self._place)
        try:
            writer.write(self._data)
            data = b""
            while True:
                found = read(data, "POST") if data else None
                if found is not None and found[0].status != 100:
                    return found[0].status
                more = await reader.read(100_000)
                if not more:
                    raise EOFError
                data = data[found[1] :] + more if found else data + more
        finally:
            writer.transport.abort()


@contextmanager
def server(folder: Path, *arguments: str, token: bool = False) -> Iterator[Live]:
    """A server that has answered a few requests; with *token* it asks for its access token."""
    environment = {"LABELWISE_ACCESS_TOKEN": ACCESS_TOKEN} if token else {}
    with command(folder, *arguments, environment=environment) as live:
        header = f"authorization: Bearer {ACCESS_TOKEN}"
        for number in range(6):  # until memory and the engine are warm
            texts = [f"{number} {index} {'a good film ' * 20}" for index in range(32)]
            assert ask_once(live.url, request("/", {"inputs": texts}, header)).status == 200
        yield live


def pressed(live: Live, attack: Callable[[Target], None], share: float = 1.0) -> Pressed:
    """What *attack* does to the server *live*."""
    process = Process(live.process.pid)
    idle, descriptors = settled(process), process.descriptors()
    process.forget_peak()
    began = time.perf_counter()
    with Prober(live.url, f"authorization: Bearer {ACCESS_TOKEN}") as prober:
        time.sleep(0.5 if share < 1 else 1)
        attack(Target(live.url, process, share))
        took = time.perf_counter() - began
        time.sleep(0.5 if share < 1 else 2)
    peak = process.peak()
    until = time.monotonic() + 5
    while process.descriptors() > descriptors and time.monotonic() < until:
        time.sleep(0.1)
    return Pressed(
        idle,
        peak,
        settled(process),
        process.descriptors() - descriptors,
        took,
        len(prober.seconds),
        prober.p99,
        max(prober.seconds),
        dict(prober.statuses),
    )


# Heads, trailers and pipelines without end


def header_lines(target: Target) -> None:
    """100 MB of header lines."""
    lines = b"x-a: b\r\n" * (MEGABYTE // 8)
    target.flood(iter([HEALTH[:-2], *[lines] * target.times(100)]))


def trailers(target: Target) -> None:
    """100 MB of trailers of a body in chunks."""
    lines = b"x-a: b\r\n" * (MEGABYTE // 8)
    target.flood(iter([chunked(b"good")[:-2], *[lines] * target.times(100)]))


def header_value(target: Target) -> None:
    """A header value of 235 MB."""
    start = HEALTH[:-2] + b"x-a: "
    target.flood(iter([start, *[b"v" * MEGABYTE] * target.times(235)]))


def url(target: Target) -> None:
    """A URL of 260 MB."""
    target.flood(iter([b"GET /", *[b"u" * MEGABYTE] * target.times(260)]))


def chunk_extension(target: Target) -> None:
    """100 MB of extension of a chunk."""
    start = chunked().removesuffix(b"0\r\n\r\n") + b"1;"
    target.flood(iter([start, *[b"e" * MEGABYTE] * target.times(100)]))


def pipelined(target: Target) -> None:
    """100 MB of pipelined requests, no answer of which is read."""
    piece = HEALTH * (MEGABYTE // len(HEALTH))
    target.flood(iter([piece] * target.times(100)), read=False)


def pipelined_texts(target: Target) -> None:
    """The same with texts of a known answer that is long."""
    body = request("/", {"inputs": [f"{number} film" for number in range(1_000)]})
    target.flood(iter([body] * target.times(100 * MEGABYTE // len(body))), read=False)


# Large bodies


async def _exchange(target: Target, pieces: list[bytes], wait: float) -> str:
    """The status that one connection gets; "none" where there is none within so many seconds."""
    loop, parts = asyncio.get_running_loop(), urlsplit(target.url)
    with socket.socket() as one:
        one.setblocking(False)  # noqa: FBT003
        sending = None
        try:
            async with asyncio.timeout(wait):
                await loop.sock_connect(one, (parts.hostname, parts.port))

                async def send() -> None:
                    with suppress(OSError):  # it may be refused before its end
                        for piece in pieces:
                            await loop.sock_sendall(one, piece)

                sending = asyncio.create_task(send())
                data = b"HTTP/1.1 100"
                while data[9:12] == b"100":  # an interim answer, which says to go on
                    data = await loop.sock_recv(one, 100)
        except (OSError, TimeoutError) as reason:
            return type(reason).__name__
        finally:
            if sending is not None:
                sending.cancel()
                with suppress(asyncio.CancelledError):
                    await sending
        return data[9:12].decode() if data else "none"


def _all(target: Target, requests: list[list[bytes]], wait: float) -> Counter[str]:
    async def exchange() -> Counter[str]:
        return Counter(await asyncio.gather(*(_exchange(target, one, wait) for one in requests)))

    return asyncio.run(exchange())


def long_texts(target: Target) -> None:
    """Eight texts of a million characters each, every character a word, at once."""
    length = target.times(MEGABYTE)
    bodies = [
        json.dumps({"inputs": f"{number}{LETTERS * (length // 10)}"[:length]}, ensure_ascii=False)
        for number in range(8)
    ]
    found = _all(target, [[request("/", body.encode())] for body in bodies], 60)
    assert found.keys() <= {"200", "413", "429", "401", "504"}, found


def long_escaped_texts(target: Target) -> None:
    """The same, written in escapes, and each text as two halves of a pair."""
    half = LETTERS * (target.times(MEGABYTE) // 20)
    bodies = [
        {"inputs": {"text": f"{number}"[:1] + half[1:], "text_pair": half}} for number in range(8)
    ]
    found = _all(target, [[request("/", body)] for body in bodies], 60)
    assert found.keys() <= {"200", "413", "429", "401", "504"}, found


def large_bodies(target: Target) -> None:
    """200 bodies of 9.9 MB at once."""
    size = target.times(9_900_000)
    start, end = b'{"inputs": "', b'"}'
    body = start + b"a " * ((size - len(start) - len(end)) // 2) + end
    found = _all(target, [[request("/", body)]] * 200, 60)
    assert found.keys() <= {"200", "413", "429", "401"}, found


def half_bodies(target: Target) -> None:
    """200 bodies of which half comes, and then nothing for a while."""
    half = target.times(4_900_000)
    head = request("/", b"").replace(b"length: 0", b"length: 9900000")
    _all(target, [[head, b"x" * half]] * 200, 10 if target.share == 1 else 1)


# Slow and rude callers


def slow_senders(target: Target) -> None:
    """500 callers that send a byte a second."""
    data = request("/", b"x" * 1_000)
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(target.url)) for _ in range(target.times(500))]
        for wire in wires:
            wire.send(data[:-1_000])
        for _ in range(target.times(40)):
            for wire in wires:
                with suppress(OSError):
                    wire.send(b"x")
            time.sleep(1)


def silent_readers(target: Target) -> None:
    """60 callers that ask for long answers, which cost little, and never read."""
    asked = request("/openapi.json") * 1_000
    with ExitStack() as stack:
        for _ in range(target.times(60)):
            wire = stack.enter_context(Wire(target.url, receives=4_000))
            wire.flood([asked], seconds=0.1, read=False)
        time.sleep(20 * target.share)


def silent_downloads(target: Target) -> None:
    """1,000 callers that ask for the weights of a model and never read."""
    asked = request("/labelwise/minilm-l6-sst2/resolve/main/model.safetensors")
    with ExitStack() as stack:
        for _ in range(target.times(1_000)):
            stack.enter_context(Wire(target.url, receives=4_000)).send(asked)
        time.sleep(20 * target.share)


def resets(target: Target) -> None:
    """2,000 callers that reset their connection in the middle of a head, a body, or the answer."""
    data = request("/", {"inputs": ["a film"] * 50})
    for number in range(target.times(2_000)):
        wire = Wire(target.url)
        wire.send(data[: (20, len(data) - 9, len(data), 0)[number % 4]])
        wire.reset()


def vanishing(target: Target) -> None:
    """5,000 callers that connect and leave."""
    for number in range(target.times(5_000)):
        with Wire(target.url) as wire:
            if number % 2:
                wire.send(HEALTH[: number % len(HEALTH)])


def idle_connections(target: Target) -> None:
    """1,000 connections that are only there, half of them after a request."""
    with ExitStack() as stack:
        for number in range(target.times(1_000)):
            wire = stack.enter_context(Wire(target.url))
            if number % 2:
                wire.send(HEALTH)
                assert wire.answer().status == 200
        time.sleep(10 * target.share)


FLOODS = [header_lines, trailers, header_value, url, chunk_extension, pipelined, pipelined_texts]
BODIES = [long_texts, long_escaped_texts, large_bodies, half_bodies]
RUDE = [slow_senders, silent_readers, silent_downloads, resets, vanishing, idle_connections]


# Too much


@dataclass
class Overload:
    """Several times the texts that the server can answer, and what came after; see `load`."""

    capacity: float  # texts a second
    found: dict[str, Any]
    recovered: float  # seconds after the load until a request took less than half a second
    waiting: float  # the longest that a text may wait, as the server is set

    def check(self) -> None:
        """Hold the figures against what is promised."""
        assert not self.found["failed"], self
        assert set(self.found["statuses"]) <= {"200", "429", "503", "504"}, self
        assert self.found["statuses"]["200"] > 0, self
        assert self.found["p99"] <= LENIENT * (self.waiting + 1), self
        assert self.recovered <= 5, self


def overload(
    folder: Path, *, connections: int, seconds: float, waiting: float = 2, factor: float = 5
) -> Overload:
    """What becomes of *factor* times the texts a second that a server can answer."""
    with server(folder, "--max-waiting-seconds", str(waiting), "--cache-bytes", "0") as live:
        within = min(3.0, seconds)
        capacity = load(live.url, connections=32, rate=0, seconds=within)["answered"]
        found = load(live.url, connections=connections, rate=factor * capacity, seconds=seconds)
        return Overload(capacity, found, _recovered(live.url), waiting)


def _recovered(url: str) -> float:
    began = time.monotonic()
    while (late := time.monotonic()) - began < 30:
        answer = ask_once(url, request("/", SMALL))
        if answer.status == 200 and time.monotonic() - late < 0.5:
            return time.monotonic() - began
        time.sleep(0.1)
    return time.monotonic() - began
