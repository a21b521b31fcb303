"""A load client in a process of its own: `python hostile_load.py URL CONNECTIONS RATE SECONDS`.

With a rate, so many requests come each second, whatever becomes of the others; with rate 0, each
connection sends its next request when it has its answer. Each text is another one. The last line of
stdout is what became of them, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

WORDS = ["the", "film", "is", "a", "delight", "from", "first", "scene", "to", "last", "and", "it"]
LENGTH = 40  # words a text
PATIENCE = 60  # seconds for one answer


def load(url: str, *, connections: int, rate: float, seconds: float) -> dict[str, Any]:
    """What became of the requests that a process of its own sent to *url*.

    ``statuses`` counts answers by status, ``failed`` requests without one by their error;
    ``p50``, ``p99`` and ``longest`` are seconds to the answers with 200, ``each`` is requests sent
    a second, and ``unsent`` counts those that were due while all connections waited.
    """
    numbers = map(str, (connections, rate, seconds))
    ended = subprocess.run(  # noqa: S603 - this file
        [sys.executable, __file__, url, *numbers],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 2 * PATIENCE,
    )
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


class _Load:
    def __init__(self, url: str, connections: int) -> None:
        parts = urlsplit(url)
        self._place = parts.hostname, parts.port
        self._count = connections
        self._chance = random.Random(time.time_ns())  # noqa: S311
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._number = 0
        self.statuses, self.failed = Counter[str](), Counter[str]()
        self.seconds: list[float] = []
        self.unsent = 0

    async def open(self) -> None:
        """Have all connections."""
        for _ in range(self._count):
            self._free.append(await asyncio.open_connection(*self._place))

    async def closed(self, seconds: float) -> None:
        """Each connection asks for so many *seconds*, one request after the other."""
        until = time.perf_counter() + seconds

        async def call() -> None:
            while time.perf_counter() < until:
                await self._one()

        await asyncio.gather(*(call() for _ in range(self._count)))

    async def steady(self, rate: float, seconds: float) -> None:
        """Requests come at random, at this *rate*."""
        due = began = time.perf_counter()
        async with asyncio.TaskGroup() as calls:
            while (due := due + self._chance.expovariate(rate)) < began + seconds:
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                calls.create_task(self._one())

    async def _one(self) -> None:
        if not self._free:
            self.unsent += 1
            return
        reader, writer = self._free.pop()
        began = time.perf_counter()
        try:
            async with asyncio.timeout(PATIENCE):
                writer.write(self._request())
                head = b" 100"
                while b" 100" in head[:12]:  # an interim answer
                    head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r", 1)[0])
                await reader.readexactly(length)
        except (OSError, EOFError, ValueError, IndexError, TimeoutError) as reason:
            self.failed[type(reason).__name__] += 1
            writer.close()
            return
        status = head[9:12].decode()
        self.statuses[status] += 1
        if status == "200":
            self.seconds.append(time.perf_counter() - began)
        self._free.append((reader, writer))

    def _request(self) -> bytes:
        self._number += 1
        text = f"{self._number} {' '.join(self._chance.choices(WORDS, k=LENGTH))}"
        body = json.dumps({"inputs": text}).encode()
        return b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%s" % (
            len(body),
            body,
        )


async def _main(url: str, connections: int, rate: float, seconds: float) -> dict[str, Any]:
    made = _Load(url, connections)
    await made.open()
    began = time.perf_counter()
    await (made.steady(rate, seconds) if rate else made.closed(seconds))
    took = time.perf_counter() - began
    times = sorted(made.seconds) or [0.0]
    sent = made.statuses.total() + made.failed.total()
    return {
        "statuses": made.statuses,
        "failed": made.failed,
        "unsent": made.unsent,
        "each": sent / seconds,
        "answered": len(made.seconds) / took,
        "p50": times[len(times) // 2],
        "p99": times[len(times) * 99 // 100],
        "longest": times[-1],
    }


if __name__ == "__main__":
    try:
        from uvloop import run
    except ImportError:  # not everywhere
        run = asyncio.run
    where, *three = sys.argv[1:]
    print(json.dumps(run(_main(where, int(three[0]), float(three[1]), float(three[2])))))  # noqa: T201
