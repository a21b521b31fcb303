"""The one queue: the texts of all requests wait here for a free stream of the engine.

The state is the jobs that wait, the batches that run, and how fast each model was of late. One lock
guards it: the event loop brings jobs, and each engine thread takes its next batch itself, so that
it goes on at once whatever else the loop has to do. The lock is never held while a batch runs.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import contextmanager, suppress
from threading import Condition, Thread, current_thread
from time import monotonic, thread_time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from labelwise.engine.forks import Forkable
from labelwise.errors import EngineFailed, LabelwiseError, Overloaded, TooLarge
from labelwise.serving.queue import Batch, Job, Queue, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labelwise.engine.backend import Backend
    from labelwise.engine.tokenizer.tokenizer import Encoded
    from labelwise.errors import Busy
    from labelwise.models.model import Model
    from labelwise.serving.queue import Stages

_log = logging.getLogger(__name__)

_END_SECONDS = 5  # for a batch that nobody waits for any more
_END_PAUSE_SECONDS = 0.005
# Once full, the queue takes more when so much of what may wait is left: until then requests are
# refused before their texts become tokens.
_LEFT = 0.95
STUCK_SECONDS = 60  # a batch that runs for longer will not end; the slowest take a few seconds

# Texts that take long to become tokens: words, words that are none, and letters that are words.
_SAMPLES = ("warm words " * 100, ("x" * 99 + " ") * 10, "\u4e00\u4e8c" * 500)
# Fewer say more of what each text takes than of their characters.
_ENOUGH_CHARACTERS = 4096

Observe = Callable[[Batch, float], object]  # a batch that has run, and for how many seconds
Outcome = np.ndarray | LabelwiseError  # the logits of one text, (labels,), or why there are none


class Load(NamedTuple):
    """The work that waits, texts that become tokens among it, and the batches that run."""

    jobs: int
    texts: int
    tokens: int
    batches: int


class Batcher(Forkable):
    """Brings texts to the engine's streams.

    There is no timer: a free stream takes what waits, as many texts as make a good batch.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        max_texts: int,
        max_seconds: float,
        observe: Observe = lambda *_: None,
    ) -> None:
        """*max_texts* may wait, and work for *max_seconds* of all streams of *backend*.

        Engine threads call *observe* with each batch that they have run, before its texts are
        answered.
        """
        self._backend = backend
        self._streams = backend.streams.count
        self._may_be_exclusive = backend.streams.both
        self._max_texts = max_texts
        self._max_seconds = max_seconds
        self._observe = observe
        self._threads: list[Thread] = []
        self._closing = False
        self._begin(Queue(backend))
        super().__init__()

    def _begin(self, queue: Queue) -> None:
        """Hold no work but that of *queue*."""
        self._changed = Condition()  # its lock guards all that follows, and the two above
        self._queue = queue
        self._reading = Reading()
        self._running: set[Batch] = set()
        self._full = False  # it was, and has not much less to do since

    def __repr__(self) -> str:
        return f"<Batcher [{self._queue} | {len(self._running)} batches running]>"

    def add(self, model: Model) -> None:
        """Make *model* ready: run it once to wake it up, and once more to see how fast it is."""
        texts = model.encode(["warm " * (self._backend.batch_tokens // 2)])
        if self._may_be_exclusive:
            model.run(texts, exclusive=True)
        model.run(texts)
        started = monotonic()
        model.run(texts)
        pace = (monotonic() - started) / len(texts[0])
        self._queue.register(model, pace, _seconds_per_character(model))

    def renew(self) -> None:
        """Begin with an empty queue: what waits is the parent's. Engine threads start again."""
        self._begin(self._queue.renewed())
        started, self._threads = self._threads, []
        if started:
            self.start()

    def start(self) -> None:
        """Start the engine threads."""
        for _ in range(self._streams):
            self._start_thread()

    async def close(self) -> None:
        """End the engine threads, each after the batch that it runs, if that is soon."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = monotonic() + _END_SECONDS
        # Waiting in another thread would need memory for it, of which there may be none left.
        while monotonic() < until and any(thread.is_alive() for thread in self._threads):  # noqa: ASYNC110 - threads set no asyncio.Event
            await asyncio.sleep(_END_PAUSE_SECONDS)

    def is_alive(self) -> bool:
        """Whether texts that wait are going to be run."""
        with self._changed:
            oldest = min((batch.started for batch in self._running), default=math.inf)
            return (
                not self._closing
                and all(thread.is_alive() for thread in self._threads)
                and monotonic() - oldest < STUCK_SECONDS
            )

    def overload(self) -> Overloaded | None:
        """The reason why not even a short text may wait now; None where one may."""
        with self._changed:
            try:
                self._check_room(1)
            except Overloaded as reason:
                return reason
        return None

    def load(self) -> Load:
        """The work that waits and runs now."""
        with self._changed:
            return Load(self._queue.jobs, self._queue.texts, self._queue.tokens, len(self._running))

    @contextmanager
    def reserve(
        self, model: Model, texts: int, characters: int = 0, deadline: float = math.inf
    ) -> Iterator[None]:
        """Hold places in the queue for *texts* while they are turned into tokens of
        *model*.

        The time that takes counts where they have *characters*.

        Raises:
            TooLarge: They are more than may ever wait.
            Overloaded: There is no room for them now, or they would not be tokens by the
            *deadline*.
        """
        with self._changed:
            self._check_room(texts)
            reading = self._admit_reading(model, characters, deadline) if characters else None
            self._queue.reserve(texts)
        try:
            yield
        finally:
            with self._changed:
                self._queue.release(texts)
                self._reading.remove(reading)

    def learn_reading(self, model: Model, characters: int, seconds: float) -> None:
        """Note that *characters* took *seconds* to become tokens of *model*."""
        if characters >= _ENOUGH_CHARACTERS:
            with self._changed:
                self._queue.learn_reading(model, characters, seconds)

    async def run(
        self,
        model: Model,
        texts: Sequence[Encoded],
        deadline: float,
        stages: Stages | None = None,
    ) -> np.ndarray:
        """The logits of *texts*, ``(texts, labels)`` float32. Cancel it and they leave the queue.

        The seconds in the queue and in the engine are added to *stages*. What would not be done by
        *deadline*, on the monotonic clock, is refused. A caller that waits no longer must cancel
        this.

        Raises:
            TooLarge: The work is more than may ever wait.
            Overloaded: It is more than may wait now, or would not be done by the deadline.
            LabelwiseError: The engine fails on one of the texts.
        """
        job = Job(model, texts, asyncio.get_running_loop())
        job.arrived = monotonic()
        with self._changed:
            self._admit(job, deadline - monotonic())
            self._changed.notify()
        try:
            await job.answer
        finally:
            with self._changed:
                self._queue.drop(job)
        if stages is not None:
            stages.queue += job.started - job.arrived
            stages.inference += job.ended - job.started
        return np.array(job.rows)

    def _admit(self, job: Job, seconds: float) -> None:
        """Put *job*, for which somebody waits *seconds*, into the queue; or refuse it."""
        work = self._queue.work(job.model, job.tokens) / self._streams
        self._check_room(len(job.texts))
        self._check_work(work, job.tokens, "tokens")
        done = self._queue.seconds / self._streams + work  # at the latest: closer takes longer
        if done > seconds and self._queue.seconds_before(job) / self._streams > seconds:
            raise self._late(seconds)
        self._queue.add(job)

    def _admit_reading(self, model: Model, characters: int, deadline: float) -> object:
        """Have *characters* wait to become tokens, or refuse; a key to remove them by."""
        work = self._queue.reading_work(model, characters)
        self._check_work(work, characters, "characters")
        seconds = deadline - monotonic()
        if self._reading.seconds_before(characters, work) > seconds:
            raise self._late(seconds)
        return self._reading.add(characters, work)

    def _waiting(self) -> float:
        """The seconds of work that wait."""
        return self._queue.seconds / self._streams + self._reading.seconds

    def _check_work(self, work: float, amount: int, unit: str) -> None:
        """Refuse *work*, in seconds, where it may not wait, now or ever."""
        if work > self._max_seconds:
            raise TooLarge(
                f"the texts have {amount} {unit}, about {work:.0f} seconds of work; this server "
                f"takes {self._max_seconds:g} at once: send fewer texts a request"
            )
        waiting = self._waiting()
        if waiting + work > self._max_seconds:
            self._full = waiting > _LEFT * self._max_seconds
            raise self._full_of(waiting)

    def _full_of(self, seconds: float) -> Overloaded:
        return self._overloaded("seconds", f"work for {seconds:.0f} seconds waits already")

    def _late(self, seconds: float) -> Overloaded:
        late = f"the answer would not be ready in {max(seconds, 0):.3g} s"
        return self._overloaded("deadline", late)

    def _check_room(self, texts: int) -> None:
        if texts > self._max_texts:
            raise TooLarge(f"{texts} texts in one request; send {self._max_texts} at most")
        if self._queue.texts + texts > self._max_texts:
            raise self._overloaded("texts", f"{self._queue.texts} texts wait already")
        waiting = self._waiting()
        self._full = self._full and waiting > _LEFT * self._max_seconds
        if self._full or waiting >= self._max_seconds:
            raise self._full_of(waiting)

    def _overloaded(self, reason: Busy, why: str) -> Overloaded:
        seconds = max(1, math.ceil(self._waiting()))
        return Overloaded(f"the server is busy: {why}; try again in {seconds} s", seconds, reason)

    def _take(self, since: float) -> Batch | None:
        """The next batch for the engine thread that asks, which has ended another at *since*; it
        waits for one. None at the end.
        """
        with self._changed:
            while (batch := self._next_batch()) is None:
                if self._closing:
                    return None
                self._changed.wait()
                since = math.inf
            batch.since = min(batch.started, since)
            self._running.add(batch)
            if self._queue.tokens:
                self._changed.notify()  # there is work for another stream
            return batch

    def _next_batch(self) -> Batch | None:
        if any(batch.exclusive for batch in self._running):
            return None
        idle = self._streams - len(self._running)
        may_be_exclusive = self._may_be_exclusive and not self._running
        batch = self._queue.take(idle, may_be_exclusive=may_be_exclusive)
        if batch is not None:
            batch.started = batch.since = monotonic()
        return batch

    def _start_thread(self) -> None:
        """Start an engine thread, in the place of this one if this is one."""
        thread = Thread(target=self._work, name="labelwise-engine", daemon=True)
        with self._changed:  # without it the new one can do nothing: not even end
            thread.start()
            self._threads = [old for old in self._threads if old is not current_thread()] + [thread]

    def _work(self) -> None:
        """The life of an engine thread. Should it end before its time, another takes its place."""
        batch, ended = None, monotonic()
        try:
            while (batch := self._take(ended)) is not None:
                outcomes = _outcomes(batch, batch.texts)
                ended = monotonic()
                self._complete(batch, outcomes)
                batch = None
        except BaseException as reason:  # noqa: BLE001 - whatever it is, texts must go on
            _log.critical("an engine thread ended (%s); starting another", type(reason).__name__)
            if batch is not None:
                why = "the engine ended while it had this text; send it again"
                self._complete(batch, [EngineFailed(why) for _ in batch.texts])
            self._start_thread()

    def _complete(self, batch: Batch, outcomes: list[Outcome]) -> None:
        """Note how long *batch* took, and have the event loop hand out its *outcomes*."""
        batch.ended = now = monotonic()
        with self._changed:
            self._running.discard(batch)
            streams = self._streams if batch.exclusive else 1
            # With what passes between two batches, which is not little where the loop is busy.
            self._queue.learn(batch.model, batch.tokens, (now - batch.since) * streams)
            # Under load the engine is slower, for it shares the processors: what waits may turn out
            # to be more work than was expected.
            surplus = self._queue.drop_surplus(self._max_seconds * self._streams)
            if surplus:
                reason = self._overloaded("seconds", "the engine is slower than it was")
        self._observe(batch, now - batch.started)
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            batch.loop.call_soon_threadsafe(_hand_out, batch, outcomes)
            for job in surplus:
                job.loop.call_soon_threadsafe(_refuse, job, reason)


def _seconds_per_character(model: Model) -> float:
    """Seconds for a character to become tokens of *model*, in the slowest kind of text."""
    pace = 0.0
    for sample in _SAMPLES:
        started = thread_time()
        model.encode([sample])
        pace = max(pace, (thread_time() - started) / len(sample))
    return pace


def _refuse(job: Job, reason: Overloaded) -> None:
    """Answer *job*, which is dropped from the queue, with *reason*."""
    if not job.answer.done():
        job.answer.set_exception(reason)


def _outcomes(batch: Batch, texts: list[Encoded]) -> list[Outcome]:
    """The outcome of each of *texts*: where they fail together, of each half, down to one text."""
    try:
        return list(batch.model.run(texts, exclusive=batch.exclusive))
    except Exception as reason:  # noqa: BLE001 - one text must not fail the others
        if len(texts) == 1:
            return [_failure(reason, len(texts[0]))]
    half = len(texts) // 2
    return _outcomes(batch, texts[:half]) + _outcomes(batch, texts[half:])


def _failure(reason: Exception, tokens: int) -> LabelwiseError:
    if isinstance(reason, LabelwiseError):
        return reason
    name = type(reason).__name__  # not its message, which may quote what it worked on
    _log.error("the engine failed on a text of %d tokens: %s", tokens, name)
    return EngineFailed(
        f"the engine failed on a text of {tokens} tokens ({name}); leave that text out"
    )


def _hand_out(batch: Batch, outcomes: list[Outcome]) -> None:
    """Give each job its rows and its times; the first failure ends a job."""
    for (job, number), outcome in zip(batch.places, outcomes, strict=True):
        if job.answer.done():
            continue
        if isinstance(outcome, LabelwiseError):
            job.answer.set_exception(outcome)
            continue
        job.rows[number] = outcome
        job.started = min(job.started, batch.started)
        job.left -= 1
        if job.left == 0:
            job.ended = batch.ended
            job.answer.set_result(None)
