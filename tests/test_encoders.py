"""The threads that turn texts into ids: who waits for whom, and that each gives way."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from labelwise.serving.encoders import Encoders
from labelwise.serving.queue import SHORT

LONG = "x" * (SHORT + 1)


class Tokenizer:
    """Turns texts into what tells them apart, when a test says so."""

    def __init__(self):
        self.gate = threading.Semaphore(0)
        self.begun = []

    def __call__(self, texts, numbers):
        self.begun.append(len("".join(texts)))
        assert self.gate.acquire(timeout=30)
        if "fails" in texts:
            raise ValueError("fails")
        return list(zip(texts, numbers, strict=True))

    def go(self, times=1000):
        self.gate.release(times)


@asynccontextmanager
async def encoding():
    encoders, tokenizer = Encoders(), Tokenizer()

    def ask(*texts):
        numbers = range(1, len(texts) + 1)
        size = sum(map(len, texts))
        return asyncio.create_task(encoders.run(tokenizer, texts, numbers, size))

    try:
        yield ask, tokenizer
    finally:
        tokenizer.go()
        encoders.close()


async def begun(tokenizer, times):
    for _ in range(2000):
        if len(tokenizer.begun) >= times:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(tokenizer.begun)


def test_a_short_request_does_not_wait_for_long_ones():
    async def main():
        async with encoding() as (ask, tokenizer):
            long = [ask(LONG) for _ in range(8)]
            short = ask("short")
            await begun(tokenizer, 2)
            assert sorted(tokenizer.begun) == [5, len(LONG)]
            tokenizer.go()
            assert await short == [("short", 1)]
            assert await asyncio.gather(*long) == [[(LONG, 1)]] * 8

    asyncio.run(main())


def test_a_long_request_keeps_its_order_and_numbers_and_gives_way_between_its_texts():
    async def main():
        async with encoding() as (ask, tokenizer):
            texts = [f"{number} " * 2000 for number in range(100)]
            large = ask(*texts)
            await begun(tokenizer, 1)
            small = ask(LONG)
            tokenizer.go(3)
            await asyncio.wait_for(small, 30)
            assert len(LONG) in tokenizer.begun[:3]
            tokenizer.go()
            assert await large == [(text, number) for number, text in enumerate(texts, start=1)]
            assert max(tokenizer.begun) < 2 * SHORT

    asyncio.run(main())


def test_the_smallest_go_first_and_the_oldest_every_fourth_time():
    async def main():
        async with encoding() as (ask, tokenizer):
            first = ask(LONG)
            await begun(tokenizer, 1)
            requests = [ask(LONG * size) for size in (8, 8, 4, 2, 1, 1, 1, 1, 1)]
            await asyncio.sleep(0)
            tokenizer.go()
            await asyncio.gather(first, *requests)
            sizes = [size // len(LONG) for size in tokenizer.begun]
            assert sizes == [1, 1, 1, 1, 8, 1, 1, 2, 8, 4]

    asyncio.run(main())


def test_what_nobody_waits_for_does_not_begin_and_what_fails_takes_nobody_along():
    async def main():
        async with encoding() as (ask, tokenizer):
            requests = [ask(LONG), ask(LONG, "gone"), ask("fails", LONG), ask(LONG)]
            await begun(tokenizer, 1)
            requests[0].cancel()
            requests[1].cancel()
            await asyncio.wait(requests[:2])
            tokenizer.go()
            with pytest.raises(ValueError, match="fails"):
                await requests[2]
            assert await requests[3] == [(LONG, 1)]
            assert len(tokenizer.begun) == 3

    asyncio.run(main())
