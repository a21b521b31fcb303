"""The one queue: the texts of all requests wait here for a free stream of the engine.

The state is the jobs that wait, the batches that run, and how fast each model was of late. One lock
guards it: the event loop brings jobs, and each engine thread takes its next batch itself, so that
it goes on at once whatever else the loop has to do. The lock is never held while a batch runs.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from threading import Condition, Thread, current_thread
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np

from labelwise.core.model import BATCH_IDS
from labelwise.errors import EngineFailed, LabelwiseError, Overloaded, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from labelwise.core.model import Model
    from labelwise.engine.text import Encoded

_log = logging.getLogger(__name__)

# A text is due when so many times the work of its request, up to it, has been done since the
# request came. Short requests overtake long ones, and a long one still gets a quarter of the
# engine. See docs/decisions/0009-one-queue.md
STRETCH = 4
STUCK_SECONDS = 60  # a batch that runs for longer will not end; the slowest take a few seconds
_SHARE_OF_NEW = 0.2  # of each measurement, in the moving average of a model's pace

Outcome = np.ndarray | LabelwiseError  # the logits of one text, (labels,), or why there are none


class Job:
    """The texts of one request on their way through the engine, in their order."""

    __slots__ = (
        "answer", "came", "deadline", "gone", "ids", "ids_taken", "left", "model", "rows",
        "taken", "texts",
    )  # fmt: skip

    def __init__(
        self, model: Model, texts: Sequence[Encoded], deadline: float, answer: asyncio.Future[None]
    ) -> None:
        self.model = model
        self.texts = texts
        self.ids = sum(map(len, texts))
        self.deadline = deadline  # when nobody waits any more, on the monotonic clock
        self.answer = answer  # done when all texts are, or when one has failed
        self.rows: list[np.ndarray] = [_NO_ROW] * len(texts)
        self.left = len(texts)  # texts that have no row yet
        self.taken = self.ids_taken = 0  # what is in a batch, or was
        self.came = 0  # the batcher's clock when the job came
        self.gone = False  # nobody waits for it any more

    def __repr__(self) -> str:
        return f"<Job [{len(self.texts)} texts: {self.taken} taken, {self.left} without a row]>"

    @property
    def due(self) -> int:
        """When the next text is due, on the batcher's clock of ids."""
        return self.came + STRETCH * (self.ids_taken + len(self.texts[self.taken]))

    def ids_before(self, due: float) -> float:
        """How many of the waiting ids go before a text of another job that is *due* then."""
        return max(0.0, min(self.ids, (due - self.came) / STRETCH) - self.ids_taken)


_NO_ROW = np.zeros(0, np.float32)


@dataclass(slots=True, eq=False)
class _Line:
    """What waits for one model, and the model's pace."""

    heap: list[tuple[int, int, Job]] = field(default_factory=list)  # by due, then by arrival
    ids: int = 0
    pace: float = 0.0  # seconds of one stream for an id of a full batch

    def next_job(self, now: float) -> Job | None:
        """The job whose next text goes first. Those that nobody waits for are dropped here."""
        while self.heap and (self.heap[0][2].gone or self.heap[0][2].deadline <= now):
            heapq.heappop(self.heap)
        return self.heap[0][2] if self.heap else None

    def learn(self, ids: int, seconds: float) -> None:
        """Note that a batch of so many *ids* took so many *seconds*.

        Small batches take more for an id than full ones do: they count only where they were
        quicker than expected. One batch that was held up says little of the next.
        """
        pace = min(seconds / ids, 2 * self.pace or math.inf)
        if ids >= BATCH_IDS // 2 or pace < self.pace:
            self.pace += _SHARE_OF_NEW * (pace - self.pace)


@dataclass(slots=True, eq=False)
class _Batch:
    """Texts of one model that run together; text i is number ``places[i][1]`` of its job."""

    model: Model
    started: float  # on the monotonic clock
    texts: list[Encoded] = field(default_factory=list)
    places: list[tuple[Job, int]] = field(default_factory=list)
    ids: int = 0


class Batcher:
    """Brings texts to the engine's streams, those that are due first.

    There is no timer: a free stream takes what waits, as many texts as make a good batch.
    """

    def __init__(self, streams: int, *, most_texts: int, most_seconds: float) -> None:
        """*most_texts* may wait, and work for *most_seconds* of all streams."""
        self._streams = streams
        self._most_texts = most_texts
        self._most_seconds = most_seconds
        self._changed = Condition()  # its lock guards all that follows
        self._lines: dict[Model, _Line] = {}
        self._waiting_texts = 0
        self._clock = 0  # ids that streams have taken since the start
        self._arrivals = count()
        self._running: set[_Batch] = set()
        self._threads: list[Thread] = []
        self._closing = False

    def __repr__(self) -> str:
        waiting = f"{self._waiting_texts} texts, {sum(x.ids for x in self._lines.values())} ids"
        return f"<Batcher [{waiting} waiting | {len(self._running)} batches running]>"

    def add(self, model: Model) -> None:
        """Make *model* ready: run it once to wake it up, and once more to see how fast it is."""
        texts = model.encode(["warm " * (BATCH_IDS // 2)])
        model.run(texts)
        started = monotonic()
        model.run(texts)
        self._lines[model] = _Line(pace=(monotonic() - started) / len(texts[0]))

    def start(self) -> None:
        """Start the engine threads."""
        for _ in range(self._streams):
            self._start_thread()

    async def close(self) -> None:
        """End the engine threads, each after the batch that it runs."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join, STUCK_SECONDS)

    def is_alive(self) -> bool:
        """Whether texts that wait are going to be run."""
        with self._changed:
            oldest = min((batch.started for batch in self._running), default=math.inf)
            return (
                not self._closing
                and all(thread.is_alive() for thread in self._threads)
                and monotonic() - oldest < STUCK_SECONDS
            )

    @contextmanager
    def place_for(self, texts: int) -> Iterator[None]:
        """Hold places in the queue for so many *texts* while they are turned into ids.

        Raises:
            TooLarge: They are more than may ever wait.
            Overloaded: There is no room for them now.
        """
        with self._changed:
            self._check_room(texts)
            self._waiting_texts += texts
        try:
            yield
        finally:
            with self._changed:
                self._waiting_texts -= texts

    async def run(self, model: Model, texts: Sequence[Encoded], deadline: float) -> np.ndarray:
        """The logits of *texts*, ``(texts, labels)`` float32. Cancel it and they leave the queue.

        After *deadline*, on the monotonic clock, they are not computed any more; the caller is to
        stop waiting then.

        Raises:
            TooLarge: The work is more than may ever wait.
            Overloaded: It is more than may wait now, or would not be done by the deadline.
            LabelwiseError: The engine fails on one of the texts.
        """
        job = Job(model, texts, deadline, asyncio.get_running_loop().create_future())
        with self._changed:
            self._admit(job)
            self._changed.notify()
        try:
            await job.answer
        finally:
            with self._changed:
                self._leave(job)
        return np.stack(job.rows)

    def _admit(self, job: Job) -> None:
        """Put *job* into the queue, or refuse it."""
        line = self._lines[job.model]
        work = job.ids * line.pace / self._streams
        waiting = self._seconds_waiting()
        if work > self._most_seconds:
            raise TooLarge(
                f"the texts have {job.ids} ids, about {work:.0f} seconds of work; this server "
                f"takes {self._most_seconds:g} at once: send fewer texts a request"
            )
        self._check_room(len(job.texts))
        if waiting + work > self._most_seconds:
            raise self._overloaded(f"work for {waiting:.0f} seconds waits already")
        job.came = self._clock
        seconds = job.deadline - monotonic()
        if waiting + work > seconds and self._seconds_before(job) + work > seconds:
            raise self._overloaded(f"the answer would not be ready in {max(seconds, 0):.3g} s")
        line.ids += job.ids
        self._waiting_texts += len(job.texts)
        heapq.heappush(line.heap, (job.due, next(self._arrivals), job))

    def _check_room(self, texts: int) -> None:
        if texts > self._most_texts:
            raise TooLarge(f"{texts} texts in one request; send {self._most_texts} at most")
        if self._waiting_texts + texts > self._most_texts:
            raise self._overloaded(f"{self._waiting_texts} texts wait already")

    def _seconds_waiting(self) -> float:
        """How long all streams would work on what waits."""
        return sum(line.ids * line.pace for line in self._lines.values()) / self._streams

    def _seconds_before(self, job: Job) -> float:
        """How long they would work on what goes before the last text of *job*, without it."""
        last = job.came + STRETCH * job.ids
        work = 0.0
        for line in self._lines.values():
            others = (other for *_, other in line.heap if not other.gone)
            work += line.pace * sum(other.ids_before(last) for other in others)
        return work / self._streams

    def _overloaded(self, why: str) -> Overloaded:
        seconds = max(1, math.ceil(self._seconds_waiting()))
        return Overloaded(f"the server is busy: {why}; try again in {seconds} s", seconds)

    def _leave(self, job: Job) -> None:
        """Nobody waits for *job* any more: what is not in a batch yet never will be."""
        if not job.gone:
            job.gone = True
            self._lines[job.model].ids -= job.ids - job.ids_taken
            self._waiting_texts -= len(job.texts) - job.taken
            job.texts = ()  # the queue may keep the job for as long as a batch runs

    def _take(self) -> _Batch | None:
        """The next batch for the engine thread that asks; it waits for one. None at the end."""
        with self._changed:
            while (batch := self._assemble()) is None:
                if self._closing:
                    return None
                self._changed.wait()
            self._running.add(batch)
            if any(line.ids for line in self._lines.values()):
                self._changed.notify()  # there is work for another stream
            return batch

    def _assemble(self) -> _Batch | None:
        """The texts that are due first, of one model, as many as make a good batch."""
        now = monotonic()
        heads = [(model, line) for model, line in self._lines.items() if line.next_job(now)]
        if not heads:
            return None
        model, line = min(heads, key=lambda head: head[1].heap[0])
        idle = self._streams - len(self._running)
        most = min(BATCH_IDS, math.ceil(line.ids / max(idle, 1)))
        batch = _Batch(model, now)
        while (job := line.next_job(now)) is not None:
            text = job.texts[job.taken]
            if batch.texts and batch.ids + len(text) > most:
                break
            batch.texts.append(text)
            batch.places.append((job, job.taken))
            batch.ids += len(text)
            job.taken += 1
            job.ids_taken += len(text)
            if job.taken < len(job.texts):
                heapq.heapreplace(line.heap, (job.due, next(self._arrivals), job))
            else:
                heapq.heappop(line.heap)
        line.ids -= batch.ids
        self._clock += batch.ids
        self._waiting_texts -= len(batch.texts)
        return batch

    def _start_thread(self) -> None:
        """Start an engine thread, in the place of this one if this is one."""
        thread = Thread(target=self._work, name="labelwise-engine", daemon=True)
        with self._changed:  # without it the new one can do nothing: not even end
            thread.start()
            self._threads = [old for old in self._threads if old is not current_thread()] + [thread]

    def _work(self) -> None:
        """The life of an engine thread. Should it end before its time, another takes its place."""
        batch = None
        try:
            while (batch := self._take()) is not None:
                self._end(batch, _outcomes(batch.model, batch.texts))
                batch = None
        except BaseException as reason:  # noqa: BLE001 - whatever it is, texts must go on
            _log.critical("an engine thread ended (%s); starting another", type(reason).__name__)
            if batch is not None:
                ended = "the engine ended while it had this text; send it again"
                self._end(batch, [EngineFailed(ended) for _ in batch.texts])
            self._start_thread()

    def _end(self, batch: _Batch, outcomes: list[Outcome]) -> None:
        """Note how long *batch* took, and have the event loop hand out its *outcomes*."""
        seconds = monotonic() - batch.started
        with self._changed:
            self._running.discard(batch)
            self._lines[batch.model].learn(batch.ids, seconds)
        loop = batch.places[0][0].answer.get_loop()
        with suppress(RuntimeError):  # it is closed: nobody waits
            loop.call_soon_threadsafe(_hand_out, batch, outcomes)


def _outcomes(model: Model, texts: list[Encoded]) -> list[Outcome]:
    """The outcome of each of *texts*: where the batch fails, of its halves, down to one text."""
    try:
        return list(model.run(texts))
    except Exception as reason:  # noqa: BLE001 - one text must not fail the others
        if len(texts) == 1:
            return [_failure(reason, len(texts[0]))]
    half = len(texts) // 2
    return _outcomes(model, texts[:half]) + _outcomes(model, texts[half:])


def _failure(reason: Exception, ids: int) -> LabelwiseError:
    if isinstance(reason, LabelwiseError):
        return reason
    name = type(reason).__name__  # not its message, which may quote what it worked on
    _log.error("the engine failed on a text of %d ids: %s", ids, name)
    return EngineFailed(f"the engine failed on a text of {ids} ids ({name}); leave that text out")


def _hand_out(batch: _Batch, outcomes: list[Outcome]) -> None:
    """Give each job its rows; the first failure ends a job."""
    for (job, number), outcome in zip(batch.places, outcomes, strict=True):
        if job.answer.done():
            continue
        if isinstance(outcome, LabelwiseError):
            job.answer.set_exception(outcome)
            continue
        job.rows[number] = outcome
        job.left -= 1
        if job.left == 0:
            job.answer.set_result(None)
