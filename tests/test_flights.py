"""Single flight, taken through every order of joining, failing, cancelling, leaving and expiring.

Three requests ask for two texts. A scheduler decides before which turn of the event loop each event
happens, and goes through all ways there are: from each state in which the loop is idle, it tries
each few events, with each number of turns between them. States that are alike are entered once.
The engine is one whose computations end when the scheduler says so; all else is real.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, product
from random import Random
from time import monotonic
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import pytest

from labelwise.engine.tokenizer.tokenizer import Encoded
from labelwise.errors import EngineFailed, LabelwiseError
from labelwise.serving.cache import Cache
from labelwise.serving.catalogue import Entry
from labelwise.serving.inference import Inference
from marks import slow
from serving import ask, command

NUMBERS = {"a": 1, "b": 2}
SECONDS = 1000  # for request n the engine is given n thousand: that tells whose a computation is
MAX_TURNS = 30  # until the loop is quiet, after any one event


class Engine:
    """An engine whose computations end when they are told to."""

    def __init__(self) -> None:
        self.jobs: list[SimpleNamespace] = []

    @contextmanager
    def reserve(self, *_):
        yield

    async def run(self, _model, encoded, deadline, _stages):
        owner = round((deadline - asyncio.get_running_loop().time()) / SECONDS)
        ended = asyncio.get_running_loop().create_future()
        texts = [int(text.ids[0]) for text in encoded]
        self.jobs.append(SimpleNamespace(owner=owner, texts=texts, ended=ended))
        await ended
        return np.array([[number] for number in texts], np.float32)

    def end(self, number, *, well):
        job = self.jobs[number]
        if well:
            job.ended.set_result(None)
        else:
            job.ended.set_exception(EngineFailed(f"of request {job.owner}"))

    def running(self):
        return [number for number, job in enumerate(self.jobs) if not job.ended.done()]


def encode(texts, *_how, **_options):
    return [Encoded(np.array([NUMBERS[text]]), np.array([0]), 1) for text in texts]


@dataclass
class World:
    """One run of the scheduler: what the requests ask for, and what became of them."""

    loop: asyncio.AbstractEventLoop
    asks: tuple[str, ...]
    tasks: dict[int, asyncio.Task] = field(default_factory=dict)
    scopes: dict[int, asyncio.Timeout] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.engine = Engine()
        self.inference = Inference(self.engine, Cache(10**6))
        model = SimpleNamespace(encode=encode, dtype="float32")
        self.entry = Entry("m", model, "sha")

    def events(self):
        """What can happen now."""
        asked = len(self.tasks)
        events = [("ask", asked)] if asked < len(self.asks) else []
        waiting = [n for n, task in self.tasks.items() if not task.done() and n not in self.gone]
        events += [(kind, n) for n in waiting for kind in ("leave", "expire")]
        return events + [(kind, n) for n in self.engine.running() for kind in ("succeed", "fail")]

    def happen(self, kind, number):
        if kind == "ask":
            self.tasks[number] = self.loop.create_task(self._ask(number))
        elif kind == "leave":
            self.gone.add(number)
            self.tasks[number].cancel()
        elif kind == "expire":
            self.gone.add(number)
            if number in self.scopes:
                asyncio._set_running_loop(self.loop)  # as a callback of the loop would see it
                self.scopes[number].reschedule(0)
                asyncio._set_running_loop(None)
            else:  # it has not begun
                self.tasks[number].cancel()
        else:
            self.engine.end(number, well=kind == "succeed")

    async def _ask(self, number):
        async with asyncio.timeout(None) as self.scopes[number]:
            texts, seconds = list(self.asks[number]), (number + 1) * SECONDS
            return await self.inference.rows(self.entry, texts, seconds)

    def turn(self):
        """One turn of the event loop."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def is_quiet(self):
        return not self.loop._ready and not self.loop._scheduled

    def settle(self):
        """As many turns as there is something to do; how many that were."""
        for turns in range(MAX_TURNS):
            if self.is_quiet():
                return turns
            self.turn()
        raise AssertionError(f"the loop still turns after {MAX_TURNS} turns")

    def check(self):
        """Hold what is true of every quiet state."""
        flights = set(self.inference._flights.values())
        assert not any(flight.task.done() or flight.task.cancelling() for flight in flights)
        assert all(flight.waiting > 0 for flight in flights)
        for number, task in self.tasks.items():
            assert number not in self.gone or task.done(), f"request {number} is gone and goes on"
            own = [job for job in self.engine.jobs if job.owner == number + 1]
            assert len(own) <= 2, f"request {number} was computed {len(own)} times"
            if not task.done() or (number in self.gone and task.cancelled()):
                continue
            failure = task.exception()
            if isinstance(failure, TimeoutError):
                assert number in self.gone
            elif failure is not None:
                assert isinstance(failure, LabelwiseError), repr(failure)
                assert str(failure) == f"of request {number + 1}"
            else:
                rows = [int(row.logits[0]) for row in task.result().rows]
                assert rows == [NUMBERS[text] for text in self.asks[number]]
        if all(task.done() for task in self.tasks.values()):
            assert not flights
            assert not self.engine.running(), "the engine works for nobody"

    def state(self):
        """A quiet state, so that two of one value go on alike."""
        names = {
            flight: n for n, flight in enumerate(dict.fromkeys(self.inference._flights.values()))
        }
        return (
            tuple("done" if task.done() else _place(task) for task in self.tasks.values()),
            tuple(sorted((key, names[flight]) for key, flight in self.inference._flights.items())),
            tuple((flight.waiting, _place(flight.task)) for flight in names),
            tuple((*job.texts, job.owner) for job in self.engine.jobs if not job.ended.done()),
            tuple(sorted(self.inference._cache._rows)),
        )

    def close(self):
        for number in list(self.engine.running()):
            self.engine.jobs[number].ended.cancel()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.settle()
        self.inference.close()
        for task in self.tasks.values():
            _ = task.cancelled() or task.exception()  # seen: only flights must not leave any


def _place(task):
    """Where a task waits: the lines of its coroutines, outermost first."""
    lines, coroutine = [], task.get_coro()
    while getattr(coroutine, "cr_frame", None):
        lines.append(coroutine.cr_frame.f_lineno)
        coroutine = coroutine.cr_await
    return tuple(lines)


@contextmanager
def ending_in(seconds):
    """Fail what does not end: a loop that never turns cannot be stopped from within."""

    def fail(*_):
        raise AssertionError(f"the event loop did not turn for {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def replayed(loop, asks, history):
    """The world after *history*: events, and turns between them; ``None`` is until it is quiet."""
    world = World(loop, asks)
    with ending_in(5):
        for step in history:
            if step is None:
                world.settle()
            elif step == "turn":
                world.turn()
            else:
                world.happen(*step)
    return world


def bursts(loop, asks, start, most):
    """All that can happen from the quiet state after *start* until it is quiet again.

    That is up to *most* events, with each number of turns between two.
    """
    open_ends = deque([(*start, event) for event in _events(loop, asks, start)])
    while open_ends:
        burst = open_ends.popleft()
        yield (*burst, None)
        if sum(isinstance(step, tuple) for step in burst[len(start) :]) == most:
            continue
        for turns in count():
            before = (*burst, *["turn"] * turns)
            world = replayed(loop, asks, before)
            quiet, events = world.is_quiet(), world.events()
            world.close()
            if quiet:
                break
            open_ends.extend((*before, event) for event in events)


def _events(loop, asks, history):
    world = replayed(loop, asks, history)
    events = world.events()
    world.close()
    return events


def explore(asks, most):
    """Go through all that can happen to requests that ask for *asks*; how many ways that were."""
    loop = asyncio.new_event_loop()
    failures = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    seen, ways, open_states = set(), 0, deque([()])
    try:
        while open_states:
            start = open_states.popleft()
            for history in bursts(loop, asks, start, most):
                ways += 1
                world = replayed(loop, asks, history)
                try:
                    world.check()
                    state = world.state()
                    if state not in seen:
                        seen.add(state)
                        open_states.append(history)
                except BaseException as reason:
                    reason.add_note(f"asks {asks}; {history}")
                    raise
                finally:
                    world.close()
    finally:
        loop.close()
    gc.collect()
    assert not failures
    return ways


ALL = [asks for asks in product(("a", "b", "ab"), repeat=3) if "".join(asks).startswith("a")]


@pytest.mark.parametrize("asks", [("a", "a", "a"), ("ab", "a", "b"), *slow(("a", "ab", "ab"))])
def test_no_order_of_events_hangs_mixes_up_or_fails_another(asks):
    assert explore(asks, most=2) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("asks", ALL)
def test_no_order_of_more_events_does_either_whoever_asks_for_what(asks):
    assert explore(asks, most=3) > 4000


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with command(tmp_path_factory.mktemp("live"), "--max-waiting-texts", "64") as server:
        yield server


def test_equal_texts_that_are_too_long_are_all_refused_and_the_server_lives(live):
    async def main():
        body = {"inputs": "one two three four five"}
        body["parameters"] = {"truncation": False, "max_length": 4}
        asked = [status(live, body) for _ in range(200)]
        return Counter(await asyncio.gather(*asked))

    assert asyncio.run(main()) == {400: 200}
    assert ask(f"{live.url}/health", timeout=5).status == 200


def test_many_who_ask_for_few_texts_are_answered_or_refused_each_for_himself(live):
    assert crowd(live, seconds=3).keys() <= {200, 429, 504}
    assert ask(f"{live.url}/health", timeout=5).status == 200


@pytest.mark.slow
def test_so_are_they_for_a_minute(live):
    seen = crowd(live, seconds=60)
    assert seen.keys() == {200, 429, 504}, "the load is to bring about all of them"
    assert ask(f"{live.url}/health", timeout=5).status == 200


def crowd(live, seconds):
    """The statuses that 64 clients see who ask for few texts, again and again, some in no time."""
    seen, random = Counter(), Random(7)  # noqa: S311 - no secret
    until = monotonic() + seconds

    async def client():
        while monotonic() < until:
            turn = int(until - monotonic()) // 2  # new texts every two seconds
            length = random.choice([1, 5, 20])
            texts = [f"{'a long text about a film ' * length}{turn} {n}" for n in range(6)]
            body = {"inputs": random.choices(texts, k=random.choice([1, 2, 5]))}
            if random.random() < 0.2:
                body["parameters"] = {"truncation": True, "max_length": 40}
            patience = random.choice([None, 0.001, 0.01, 0.05])
            seen[await status(live, body, patience)] += 1

    async def main():
        await asyncio.wait_for(asyncio.gather(*(client() for _ in range(64))), seconds + 30)

    asyncio.run(main())
    return seen


async def status(live, body, patience=None):
    """The status that a client gets who waits so many seconds; it has a connection of its own."""
    host, port = urlsplit(live.url).netloc.split(":")
    content = json.dumps(body).encode()
    head = f"POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n"
    head += f"content-length: {len(content)}\r\n"
    head += "" if patience is None else f"x-request-timeout: {patience}\r\n"
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}\r\n".encode() + content)
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1])
