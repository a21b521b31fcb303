"""Callers that take their time: each is ended when its time is over, and none before."""

from __future__ import annotations

import select
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from hostile_tools import (
    HEALTH,
    Process,
    Wire,
    ask_once,
    check,
    check_log,
    chunked,
    needs_proc,
    request,
)
from serving import command, until

pytestmark = needs_proc

LATE = 8  # seconds that a busy machine may add
BIG = {"inputs": [f"{number} a film" for number in range(1_000)]}  # about 120 kB of answer


class Caller:
    """A connection of a *live* server, and the seconds since it was there."""

    def __init__(self, live):
        self.wire = Wire(live.url, timeout=130, receives=4_000)
        self.process = Process(live.process.pid)
        until(lambda: self.process.holds(self.wire.port))  # a busy server takes it later
        self.began = time.monotonic()

    @classmethod
    def call(cls, live, behaves):
        """The outcome of *behaves*, which is given a connection of its own."""
        caller = cls(live)
        with caller.wire:
            return behaves(caller)

    def seconds(self):
        return time.monotonic() - self.began

    def drip(self, data, *, every, last, stubborn=False):
        """Send *data* in single bytes until anything comes, or so many seconds are over.

        A *stubborn* caller goes on until the connection is closed.
        """
        for byte in data:
            came = not stubborn and select.select([self.wire.socket], [], [], 0)[0]
            if came or self.seconds() > last or not self.process.holds(self.wire.port):
                return
            with suppress(OSError):
                self.wire.send(bytes([byte]))
            time.sleep(every)

    def outcome(self):
        """The status that comes, 0 where the connection is closed without one, and after how many
        seconds it came, and the connection was closed.
        """
        try:
            answer = self.wire.answer()
        except EOFError:
            return 0, self.seconds(), self.seconds()
        came = self.seconds()
        check(answer)
        assert self.wire.ends()
        return answer.status, came, self.seconds()


def silent(caller):
    return caller.outcome()


def half_a_head(caller):
    caller.wire.send(HEALTH[:-2])
    return caller.outcome()


def slow_head(caller):
    caller.drip(HEALTH[:-2] + b"x: y\r\n" * 20, every=1, last=60)
    return caller.outcome()


def half_a_second_head(caller):
    caller.wire.send(HEALTH)
    assert caller.wire.answer().status == 200
    time.sleep(5)
    caller.began = time.monotonic()
    caller.wire.send(HEALTH[:-2])
    return caller.outcome()


def no_body(caller):
    caller.wire.send(request("/", b"x" * 100)[:-100])
    return caller.outcome()


def slow_body(caller):
    caller.wire.send(request("/", b"x" * 1_000)[:-1_000])
    caller.drip(b"x" * 1_000, every=1, last=60)
    return caller.outcome()


def slow_chunks(caller):
    caller.wire.send(chunked().removesuffix(b"0\r\n\r\n"))
    caller.drip(b"1\r\nx\r\n" * 100, every=0.5, last=60)
    return caller.outcome()


def slow_size_of_a_chunk(caller):
    caller.wire.send(chunked(b"x").removesuffix(b"0\r\n\r\n"))
    caller.drip(b"1;" + b"a" * 100, every=1, last=60)
    return caller.outcome()


def slow_trailers(caller):
    caller.wire.send(chunked(b"x")[:-2])
    caller.drip(b"x: y\r\n" * 20, every=1, last=60)
    return caller.outcome()


def body_that_slows_down(caller):
    """10 kB at once, which are worth ten seconds, and then a byte a second."""
    caller.wire.send(request("/", b"x" * 11_000)[:-1_000])
    caller.drip(b"x" * 1_000, every=1, last=70)
    return caller.outcome()


def slow_body_that_nobody_wants(caller):
    """It has its answer at once; then the connection does not wait for the rest."""
    caller.wire.send(request("/no", b"x" * 1_000)[:-1_000])
    caller.drip(b"x" * 1_000, every=1, last=60, stubborn=True)
    return caller.outcome()


def idle(caller):
    caller.wire.send(HEALTH)
    assert caller.wire.answer().status == 200
    caller.began = time.monotonic()
    return caller.outcome()


# The caller, the statuses that it may get, and from when to when it may be closed, in seconds.
SLOW = {
    "silent": (silent, {0, 408}, 25, 75),
    "half a head": (half_a_head, {408}, 29, 30),
    "a head of a byte a second": (slow_head, {408}, 29, 30),
    "half a second head": (half_a_second_head, {408}, 29, 30),
    "no body": (no_body, {408}, 29, 31),
    "a body of a byte a second": (slow_body, {408}, 29, 32),
    "chunks of a byte a second": (slow_chunks, {408}, 29, 32),
    "a size of a chunk without end": (slow_size_of_a_chunk, {400, 408, 413, 431}, 1, 32),
    "trailers of a byte a second": (slow_trailers, {408}, 29, 32),
    "a body that slows down": (body_that_slows_down, {408}, 29, 45),
    "a body that nobody wants": (slow_body_that_nobody_wants, {404}, 0, 32),
    "idle": (idle, {0}, 70, 76),
}


def steady_body(caller):
    """A body of 20 kB a second for 45 seconds."""
    body = b"a good film " * 75_000
    caller.wire.send(request("/", body)[: -len(body)])
    for start in range(0, len(body), 10_000):
        caller.wire.send(body[start : start + 10_000])
        time.sleep(0.5)
    assert caller.wire.answer().status == 200
    return caller.seconds()


def rare_requests(caller):
    """A connection that is used once a minute."""
    for _ in range(2):
        caller.wire.send(HEALTH)
        assert caller.wire.answer().status == 200
        time.sleep(60)
    caller.wire.send(HEALTH)
    assert caller.wire.answer().status == 200
    return caller.seconds()


def steady_reader(caller):
    """A reader of 200 kB a second: it moves, so it is not ended, and then gets all at once."""
    wire = caller.wire
    wire.flood([request("/", BIG)] * 100, seconds=5, read=False)
    while caller.seconds() < 50:
        for _ in range(100):
            wire.receive(2_000)
        time.sleep(1)
    for _ in range(20):
        assert wire.answer().status == 200
    return caller.seconds()


PATIENT = {
    "a body of 20 kB a second": (steady_body, 45),
    "a request a minute": (rare_requests, 120),
    "a reader of 200 kB a second": (steady_reader, 50),
}


def never_reads(caller):
    """When the server let go of a caller that never reads: seconds after it stopped sending."""
    caller.wire.flood([request("/", BIG)] * 100, seconds=2, read=False)
    caller.began = time.monotonic()
    while caller.process.holds(caller.wire.port) and caller.seconds() < 60:
        time.sleep(0.5)
    return caller.seconds()


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with command(tmp_path_factory.mktemp("serve")) as server:
        yield server
        check_log(server.log)


@pytest.fixture(scope="module")
def outcomes(live):
    """What became of each kind of caller, all of them at once, and a few more of some kinds."""
    calls = {name: one[0] for name, one in (SLOW | PATIENT).items()} | {"never reads": never_reads}
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        came = {name: pool.submit(Caller.call, live, one) for name, one in calls.items()}
        prompt = pool.submit(asked_often, live, came)
        yield came | {"prompt": prompt}


def asked_often(live, others):
    """The longest that a request took meanwhile."""
    longest = 0.0
    while not all(other.done() for other in others.values()):
        began = time.monotonic()
        assert ask_once(live.url, request("/", {"inputs": "I like you"})).status == 200
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.2)
    return longest


@pytest.mark.hostile
@pytest.mark.parametrize("name", SLOW)
def test_a_slow_caller_is_ended_in_its_time(name, outcomes):
    _, statuses, first, last = SLOW[name]
    status, came, closed = outcomes[name].result()
    assert status in statuses
    assert first <= came <= closed <= last + LATE


@pytest.mark.hostile
@pytest.mark.parametrize("name", PATIENT)
def test_a_caller_that_is_quick_enough_is_answered(name, outcomes):
    assert outcomes[name].result() >= PATIENT[name][1]


@pytest.mark.hostile
def test_a_caller_that_never_reads_is_let_go(outcomes):
    assert 25 <= outcomes["never reads"].result() <= 30 + 2 * LATE  # it fills buffers first


@pytest.mark.hostile
def test_others_are_answered_at_once_meanwhile(outcomes):
    assert outcomes["prompt"].result() < 2


def test_slow_callers_hold_nobody_up(live):
    """The short form: one of each kind, and a quick caller among them."""
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(live.url, receives=4_000)) for _ in range(40)]
        starts = [b"", HEALTH[:-2], request("/", b"x" * 100)[:-50], chunked(b"x")[:-2]]
        for wire, start in zip(wires, starts * 10, strict=True):
            wire.send(start)
        for _ in range(20):
            began = time.monotonic()
            assert ask_once(live.url, HEALTH, timeout=5).status == 200
            assert time.monotonic() - began < 2
        for wire, start in zip(wires, starts * 10, strict=True):
            wire.send({0: HEALTH, 1: b"\r\n", 2: b"x" * 50, 3: b"\r\n"}[starts.index(start)])
        assert {wire.answer().status for wire in wires} == {200}
