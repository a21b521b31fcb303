"""Bodies that arrive, in pieces or never; and callers that leave or wait no longer."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import ExitStack
from threading import get_ident

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from labelwise.errors import BadInput, DeadlineExceeded, Overloaded, RequestTimeout, TooLarge
from labelwise.server import caller as module
from labelwise.server.caller import Bodies, cancel_after, held_bytes, read_timeout
from labelwise.serving.aside import Aside


class Hasty(asyncio.SelectorEventLoop):
    """An event loop in which nothing is waited for: where all sleep, time jumps on."""

    def __init__(self):
        super().__init__()
        self._now = 0.0
        select = self._selector.select

        def jump(timeout):
            self._now += timeout or 0
            return select(0)

        self._selector.select = jump

    def time(self):
        return self._now


def run(main):
    with asyncio.Runner(loop_factory=Hasty) as runner:
        return runner.run(main)


class Caller:
    """Sends *pieces* of a body, one every so many seconds; then it waits, or leaves.

    Where the body is not *whole*, there is to be more of it.
    """

    def __init__(self, pieces=(), *, every=0.0, whole=True, leaves=False, **headers):
        self._pieces = list(pieces)
        self._every = every
        self._whole = whole
        self.gone = asyncio.Event()
        if leaves:
            self.gone.set()
        self.asked = 0
        raw = [(name.replace("_", "-").encode(), str(v).encode()) for name, v in headers.items()]
        self.request = Request({"type": "http", "headers": raw}, self._receive)

    async def _receive(self):
        self.asked += 1
        await asyncio.sleep(self._every)
        if not self._pieces:
            await self.gone.wait()
            return {"type": "http.disconnect"}
        body = bytes(bytearray(self._pieces.pop(0)))  # a copy, as from a socket
        more = bool(self._pieces) or not self._whole
        return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_is_all_its_pieces():
    async def main():
        assert await Bodies(100).read(Caller([b"I like", b"", b" you"]).request) == b"I like you"
        assert await Bodies(100).read(Caller([b""]).request) == b""

    run(main())


@pytest.mark.parametrize("length", [101, 10**18])
def test_a_body_that_says_that_it_is_too_long_is_not_read(length):
    async def main():
        caller = Caller([b"x"], content_length=length)
        with pytest.raises(TooLarge, match="longer than 100 bytes"):
            await Bodies(100).read(caller.request)
        assert caller.asked == 0

    run(main())


def test_a_body_that_turns_out_too_long_is_given_up_at_once():
    async def main():
        caller = Caller([b"x" * 60] * 1000)
        bodies = Bodies(100)
        with pytest.raises(TooLarge):
            await bodies.read(caller.request)
        assert caller.asked == 2
        assert bodies._held == 0
        assert len(await bodies.read(Caller([b"x" * 100]).request)) == 100

    run(main())


def test_a_caller_that_pauses_for_half_a_minute_is_too_slow():
    async def main():
        bodies = Bodies(100)
        with pytest.raises(RequestTimeout, match="too slowly: 6 bytes in 30 s; send it at 10000"):
            await bodies.read(Caller([b"I like"], whole=False).request)
        assert asyncio.get_running_loop().time() == pytest.approx(30, abs=1)
        assert (bodies._held, bodies._reading) == (0, set())

    run(main())


def test_a_caller_that_sends_slowly_is_waited_for():
    async def main():
        pieces = [b"x" * 300_000] * 20
        assert await Bodies(10**7).read(Caller(pieces, every=29).request) == b"".join(pieces)
        assert asyncio.get_running_loop().time() > 500

    run(main())


def test_a_caller_that_sends_slower_than_the_least_rate_is_not():
    async def main():
        # 20 s at the least rate, and 30 more.
        with pytest.raises(RequestTimeout, match="200000 bytes in 50 s"):
            await Bodies(10**7).read(Caller([b"x" * 100_000] * 90, every=19).request)

    run(main())


@pytest.fixture
def scarce(monkeypatch):
    """Room for 2,500 bytes of all requests together."""
    monkeypatch.setattr(module, "_MAX_HELD", 2500)
    monkeypatch.setattr(module, "_FOR_SHORT", 0)


@pytest.mark.usefixtures("scarce")
def test_bodies_that_arrive_at_once_are_bounded_together():
    async def main():
        bodies = Bodies(100)
        callers = [Caller([b"x" * 100], whole=False) for _ in range(25)]
        slow = [asyncio.create_task(bodies.read(caller.request)) for caller in callers]
        await asyncio.sleep(1)
        with pytest.raises(Overloaded) as refused:
            await bodies.read(Caller([b"x"]).request)
        assert refused.value.retry_after == 1
        slow[0].cancel()
        await asyncio.wait(slow[:1])
        assert await bodies.read(Caller([b"x"]).request) == b"x"
        await asyncio.wait(slow)
        assert [isinstance(read.exception(), RequestTimeout) for read in slow[1:]] == [True] * 24
        assert bodies._held == 0

    run(main())


@pytest.mark.usefixtures("scarce")
def test_texts_that_wait_count_with_the_bodies_that_arrive():
    async def main():
        bodies = Bodies(100)
        with bodies.hold(held_bytes(["x" * 1000, ("x" * 500, "é" * 500)])):
            with pytest.raises(Overloaded), bodies.hold(held_bytes(["x" * 400])):
                pass
            assert len(await bodies.read(Caller([b"x" * 100]).request)) == 100
            with bodies.hold(held_bytes(["x" * 240])), pytest.raises(Overloaded):
                await bodies.read(Caller([b"x" * 100]).request)
        assert bodies._held == 0

    run(main())


@pytest.mark.usefixtures("scarce")
def test_short_requests_have_room_beside_long_ones(monkeypatch):
    monkeypatch.setattr(module, "_FOR_SHORT", 500)
    monkeypatch.setattr(module, "_SHORT_BYTES", 100)

    async def main():
        bodies = Bodies(2_000)
        with bodies.hold(2_500), ExitStack() as others:
            with pytest.raises(Overloaded):
                await bodies.read(Caller([b"x" * 50] * 3).request)
            assert len(await bodies.read(Caller([b"x" * 50] * 2).request)) == 100
            for _ in range(5):
                others.enter_context(bodies.hold(100))
            with pytest.raises(Overloaded):
                await bodies.read(Caller([b"x" * 50]).request)

    run(main())


@pytest.mark.usefixtures("scarce")
def test_one_body_of_any_size_that_is_allowed_is_read_where_nothing_else_is():
    async def main():
        bodies = Bodies(10_000)
        assert len(await bodies.read(Caller([b"x" * 1000] * 10).request)) == 10_000
        with bodies.hold(held_bytes(["x" * 9000])):
            pass

    run(main())


def test_a_caller_that_leaves_is_noticed_and_what_it_sent_forgotten():
    async def main():
        bodies = Bodies(100)
        with pytest.raises(ClientDisconnect):
            await bodies.read(Caller([b"I like"], whole=False, leaves=True).request)
        assert (bodies._held, bodies._reading) == (0, set())

    run(main())


def test_a_body_in_thousands_of_pieces_takes_no_more_memory_than_in_one():
    async def main():
        caller = Caller([b"xy"] * 9000)
        tracemalloc.start()
        try:
            assert len(await Bodies(10**6).read(caller.request)) == 18_000
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert run(main()) < 100_000


def test_ending_refuses_bodies_that_are_not_whole_and_those_that_come():
    async def main():
        bodies = Bodies(100)
        half = asyncio.create_task(bodies.read(Caller([b"I like"], whole=False).request))
        await asyncio.sleep(1)
        bodies.refuse_incomplete()
        with pytest.raises(Overloaded, match="the server is ending"):
            await half
        with pytest.raises(Overloaded, match="the server is ending"):
            await bodies.read(Caller([b"I like you"]).request)
        assert asyncio.get_running_loop().time() < 2
        assert (bodies._held, bodies._reading) == (0, set())

    run(main())


@settings(max_examples=60)
@given(turns=st.integers(0, 40), every=st.sampled_from([0, 0, 0.5]))
def test_ending_refuses_a_caller_that_goes_on_sending_at_any_moment(turns, every):
    async def main():
        bodies = Bodies(10_000)
        steady = asyncio.create_task(bodies.read(Caller([b"x"] * 9000, every=every).request))
        for _ in range(turns):
            await asyncio.sleep(0)
        bodies.refuse_incomplete()
        with pytest.raises(Overloaded, match="the server is ending"):
            await steady
        assert asyncio.get_running_loop().time() <= 1

    run(main())


def test_ending_in_the_moment_in_which_a_caller_is_too_slow_harms_nothing():
    async def main():
        bodies = Bodies(100)
        callers = [Caller([b"x"], whole=False) for _ in range(2)]
        reads = [asyncio.create_task(bodies.read(caller.request)) for caller in callers]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        scope = next(iter(bodies._reading))
        scope.reschedule(0)
        await asyncio.sleep(0)
        assert scope.expired()
        assert len(bodies._reading) == 2  # its task has not run since
        bodies.refuse_incomplete()
        await asyncio.wait(reads)
        assert all(isinstance(read.exception(), Overloaded) for read in reads)

    run(main())


@pytest.mark.parametrize(
    ("given", "seconds"), [("2.5", 2.5), ("1", 1), ("1e-9", 1e-9), ("1e300", 1e300), (None, 60)]
)
def test_the_time_that_a_caller_waits(given, seconds):
    async def main():
        headers = {} if given is None else {"x_request_timeout": given}
        assert read_timeout(Caller(**headers).request, 60) == seconds

    run(main())


@pytest.mark.parametrize("given", ["", "soon", "0", "-1", "nan", "inf", "1e999", "0x10"])
def test_a_time_that_is_none_is_refused(given):
    async def main():
        with pytest.raises(BadInput, match="x-request-timeout must be a number of seconds"):
            read_timeout(Caller(x_request_timeout=given).request, 60)

    run(main())


def test_what_is_ready_in_time_is_left_alone():
    async def main():
        async with cancel_after(Caller().request, 5):
            await asyncio.sleep(4)
        await asyncio.sleep(10)
        assert len(asyncio.all_tasks()) == 1

    run(main())


@pytest.mark.parametrize("seconds", [1e-9, 5, 1e5])
def test_what_is_not_ready_in_time_is_ended(seconds):
    async def main():
        with pytest.raises(DeadlineExceeded, match=f"not ready in {seconds:g} s"):
            async with cancel_after(Caller().request, seconds):
                await asyncio.sleep(1e6)
        assert asyncio.get_running_loop().time() == pytest.approx(seconds, abs=0.1)

    run(main())


def test_what_nobody_waits_for_any_more_is_ended():
    async def main():
        caller = Caller()
        asyncio.get_running_loop().call_later(3, caller.gone.set)
        with pytest.raises(ClientDisconnect):
            async with cancel_after(caller.request, 60):
                await asyncio.sleep(1e6)
        assert asyncio.get_running_loop().time() == pytest.approx(3, abs=0.1)

    run(main())


def test_a_caller_that_leaves_in_the_moment_in_which_its_time_is_over_harms_nothing():
    async def main():
        problems = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(context))
        for turn in range(10):
            caller = Caller()
            loop.call_later(5 + (turn - 5) * 1e-10, caller.gone.set)
            with pytest.raises((DeadlineExceeded, ClientDisconnect)):
                async with cancel_after(caller.request, 5):
                    await asyncio.sleep(1e6)
            await asyncio.sleep(1)
        assert not problems

    run(main())


def test_an_error_inside_is_passed_on():
    async def main():
        with pytest.raises(ZeroDivisionError):
            async with cancel_after(Caller().request, 5):
                raise ZeroDivisionError

    run(main())


def test_what_is_much_leaves_the_event_loop_free():
    async def main():
        aside, loop_thread = Aside(), get_ident()
        assert await aside.run(20_000, get_ident) == loop_thread
        assert await aside.run(20_001, get_ident) not in {loop_thread, None}
        aside.close()

    asyncio.run(main())
