"""Threads that turn texts into tokens: some for short requests, and one for long ones.

A thread inside the tokenizer cannot be interrupted. So what is long has a thread of its own, and
gives it up after every few texts. The state is what waits for a thread; it is on the event loop
alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from labelwise.engine.tokenizer.tokenizer import characters
from labelwise.serving.queue import SHORT, TURNS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labelwise.engine.tokenizer.tokenizer import Encoded, Text

# The most characters of a text that become tokens at once. Each takes up to 800 bytes meanwhile.
MAX_AT_ONCE = 2**17
_PART = 8_192  # characters of a long request, or one text more, after which others have their turn
_SHORT_THREADS = 4
THREADS = _SHORT_THREADS + 1  # and the one for long requests

Encode = Callable[["Sequence[Text]", "Sequence[int]"], "list[Encoded]"]  # texts, their numbers


class Encoders:
    """Turns the texts of requests into tokens, off the event loop."""

    def __init__(self) -> None:
        self._short = _Lane(_SHORT_THREADS)
        self._long = _Lane(1)

    def close(self) -> None:
        """End the threads."""
        self._short.close()
        self._long.close()

    async def run(
        self, encode: Encode, texts: Sequence[Text], numbers: Sequence[int], size: int
    ) -> list[Encoded]:
        """*texts*, of *size* characters in all, as *encode* makes them tokens, with *numbers*."""
        if size <= SHORT:
            return await self._short.run(size, partial(encode, texts, numbers))
        encoded: list[Encoded] = []
        for part in _parts(texts):
            encoded += await self._long.run(size, partial(encode, texts[part], numbers[part]))
        return encoded


@dataclass(slots=True, eq=False)
class _Turn:
    """Work that waits for a thread."""

    size: int
    work: Callable[[], list[Encoded]]
    answer: asyncio.Future[list[Encoded]] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class _Lane:
    """A few threads, which take the smallest first, and every fourth time the oldest."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "labelwise-encode")
        self._free = threads
        self._waiting: list[_Turn] = []  # in the order in which they came
        self._taken = 0

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)  # what runs, nobody waits for

    async def run(self, size: int, work: Callable[[], list[Encoded]]) -> list[Encoded]:
        """The result of *work*, for a request of that *size*. Cancel it and it does not begin."""
        turn = _Turn(size.bit_length(), work)
        self._waiting.append(turn)
        self._start()
        try:
            return await turn.answer
        finally:
            with suppress(ValueError):
                self._waiting.remove(turn)

    def _start(self) -> None:
        while self._free and self._waiting:
            oldest = self._taken % TURNS == 0
            turn = self._waiting[0] if oldest else min(self._waiting, key=lambda one: one.size)
            self._waiting.remove(turn)
            self._taken += 1
            self._free -= 1
            self._pool.submit(turn.work).add_done_callback(partial(self._ended, turn))

    def _ended(self, turn: _Turn, done: Future[list[Encoded]]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            turn.answer.get_loop().call_soon_threadsafe(self._hand_over, turn, done)

    def _hand_over(self, turn: _Turn, done: Future[list[Encoded]]) -> None:
        self._free += 1
        if not turn.answer.done() and not done.cancelled():
            failure = done.exception()
            if failure is None:
                turn.answer.set_result(done.result())
            else:
                turn.answer.set_exception(failure)
        self._start()


def _parts(texts: Sequence[Text]) -> Iterator[slice]:
    """The places of *texts* that become tokens together."""
    start = size = 0
    for end, text in enumerate(texts, start=1):
        size += characters((text,))
        if size >= _PART or end == len(texts):
            yield slice(start, end)
            start, size = end, 0
