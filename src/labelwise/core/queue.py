"""What waits, and which texts run next. No threads, no clock: the batcher has them.

Of every four batches three take the smallest requests first, and one the oldest. So a short
text waits for about a batch, whatever else waits; and any request is done after four times the work
that came before it and its own, whatever comes later. See docs/decisions/0009-one-queue.md
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from labelwise.core.model import BATCH_IDS

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Iterator, Sequence

    from labelwise.core.model import Model
    from labelwise.engine.text import Encoded

TURNS = 4  # of so many batches, one takes the oldest requests first
# From so many ids for each stream on, one-thread batches side by side are quicker than all threads
# on one batch: see LOG.md.
SHARE_IDS = 128
# The most characters of a short request: they become ids in 10 ms, words of an odd kind 100.
SHORT = 16_384
_SHARE_OF_NEW = 0.2  # of each measurement, in the moving average of a model's pace
_SHARE_OF_FASTER = 0.05  # of each measurement below it, in the pace at which texts become ids
_KEPT = 16  # jobs that a line may keep, beside as many as wait, when nobody waits for them any more
_NO_ROW = np.zeros(0, np.float32)


class Job:
    """The texts of one request on their way through the engine, in their order."""

    def __init__(self, model: Model, texts: Sequence[Encoded], answer: Future[None]) -> None:
        self.model = model
        self.texts = texts
        self.ids = sum(map(len, texts))
        self.answer = answer  # done when all texts are, or when one has failed
        self.arrived = 0.0  # on the monotonic clock
        self.rows: list[np.ndarray] = [_NO_ROW] * len(texts)
        self.left = len(texts)  # texts that have no row yet
        self.taken = self.ids_taken = 0  # what is in a batch, or was
        self.gone = False  # nobody waits for it any more

    def __repr__(self) -> str:
        return f"<Job [{len(self.rows)} texts: {self.taken} taken, {self.left} without a row]>"

    @property
    def size(self) -> int:
        """How large it is, coarsely: requests of one size are served in the order they came."""
        return self.ids.bit_length()

    @property
    def waiting_ids(self) -> int:
        """How many ids are in no batch yet."""
        return self.ids - self.ids_taken

    @property
    def waiting_texts(self) -> int:
        """How many texts are in no batch yet."""
        return len(self.rows) - self.taken

    @property
    def waits(self) -> bool:
        """Whether a text of it is still to be run."""
        return self.waiting_texts > 0 and not self.gone


@dataclass(slots=True, eq=False)
class Batch:
    """Texts of one model that run together; text i is number ``places[i][1]`` of its job."""

    model: Model
    texts: list[Encoded] = field(default_factory=list)
    places: list[tuple[Job, int]] = field(default_factory=list)
    ids: int = 0
    alone: bool = False  # on all threads, with no other beside it
    started: float = 0.0  # on the monotonic clock
    since: float = 0.0  # when its stream had ended the batch before, or came to wait for this one

    def take(self, job: Job) -> None:
        """Add the next text of *job*."""
        text = job.texts[job.taken]
        self.texts.append(text)
        self.places.append((job, job.taken))
        self.ids += len(text)
        job.taken += 1
        job.ids_taken += len(text)


class Line:
    """The jobs that wait for one model, and the model's pace."""

    def __init__(self, pace: float, reading_pace: float = 0.0) -> None:
        self.pace = pace  # seconds of one stream for an id of a full batch
        self.reading_pace = reading_pace  # seconds for a character to become ids
        self.ids = 0  # that wait
        self._by_size: list[tuple[int, int, Job]] = []  # a heap: size, number of arrival
        self._by_age: dict[Job, int] = {}  # in the order of arrival, to its number

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_age)

    def add(self, job: Job, number: int) -> None:
        """*job* waits from now on; it is the so many-th that came to the queue."""
        self.ids += job.waiting_ids
        self._by_age[job] = number
        heapq.heappush(self._by_size, (job.size, number, job))

    def remove(self, job: Job) -> None:
        """Nothing of *job* waits any more."""
        self._by_age.pop(job, None)
        job.texts = ()
        if len(self._by_size) > 2 * len(self._by_age) + _KEPT:  # most of it does not wait
            self._by_size = [(one.size, number, one) for one, number in self._by_age.items()]
            heapq.heapify(self._by_size)

    def first(self, *, oldest: bool) -> tuple[tuple[int, int], Job] | None:
        """The *oldest* job, or the oldest of the smallest size; before it, what to order it by."""
        if oldest:
            return next((((0, number), job) for job, number in self._by_age.items()), None)
        while self._by_size and not self._by_size[0][2].waits:
            heapq.heappop(self._by_size)
        return (self._by_size[0][:2], self._by_size[0][2]) if self._by_size else None

    def newest(self) -> tuple[int, Job] | None:
        """The job that came last of those that have not begun, with its number."""
        newest_first = reversed(self._by_age.items())
        return next(((number, job) for job, number in newest_first if not job.taken), None)

    def learn_reading(self, characters: int, seconds: float) -> None:
        """Note that so many *characters* took so many *seconds* to become ids.

        The slowest kinds of text count: the pace follows them sooner than the others.
        """
        pace = seconds / characters
        share = _SHARE_OF_NEW if pace > self.reading_pace else _SHARE_OF_FASTER
        self.reading_pace += share * (pace - self.reading_pace)

    def learn(self, ids: int, seconds: float) -> None:
        """Note that a batch of so many *ids* took so many *seconds*.

        Small batches take more for an id than full ones do: they count only where they were
        quicker than expected. One batch that was held up says little of the next.
        """
        pace = min(seconds / ids, 2 * self.pace or math.inf)
        if ids >= BATCH_IDS // 2 or pace < self.pace:
            self.pace += _SHARE_OF_NEW * (pace - self.pace)


class Queue:
    """What waits for each model and so many *streams*, and whose turn it is."""

    def __init__(self, streams: int) -> None:
        self._streams = streams
        self.lines: dict[Model, Line] = {}
        self.texts = 0  # that wait
        self._arrivals = count()
        self._batches = 0

    def __repr__(self) -> str:
        return f"{self.texts} texts, {self.ids} ids waiting"

    @property
    def ids(self) -> int:
        """How many ids wait, of all models."""
        return sum(line.ids for line in self.lines.values())

    @property
    def seconds(self) -> float:
        """How long one stream would work on what waits."""
        return sum(line.ids * line.pace for line in self.lines.values())

    def add(self, job: Job) -> None:
        """*job* waits from now on."""
        self.texts += job.waiting_texts
        self.lines[job.model].add(job, next(self._arrivals))

    def drop(self, job: Job) -> None:
        """Nobody waits for *job* any more: what is not in a batch yet never will be."""
        if not job.gone:
            job.gone = True
            self.texts -= job.waiting_texts
            line = self.lines[job.model]
            line.ids -= job.waiting_ids
            line.remove(job)

    def drop_surplus(self, most: float) -> list[Job]:
        """The newest jobs that have not begun, dropped down to *most* seconds of one stream."""
        dropped = []
        while self.seconds > most and (job := self._newest()) is not None:
            self.drop(job)
            dropped.append(job)
        return dropped

    def _newest(self) -> Job | None:
        """The job that came last of those that have not begun."""
        found = [newest for line in self.lines.values() if (newest := line.newest()) is not None]
        return max(found, key=lambda one: one[0], default=(0, None))[1]

    def seconds_before(self, job: Job) -> float:
        """How long one stream would work before it is done with *job*, were it added now.

        That is what is not larger, and what larger ones get of the turns of the oldest.
        """
        smaller, larger = job.ids * self.lines[job.model].pace, 0.0
        for line in self.lines.values():
            for other in line:
                work = other.waiting_ids * line.pace
                if other.size <= job.size:
                    smaller += work
                else:
                    larger += work
        return smaller + min(larger, smaller / (TURNS - 1))

    def take(self, idle: int, *, may_be_alone: bool = False) -> Batch | None:
        """The next batch, for one of so many *idle* streams; None where nothing waits.

        It has ``BATCH_IDS`` ids at most, or one text; less where other streams can use what waits.
        Where it *may be alone*, it is if there is no more work than all threads do best together.
        """
        oldest = self._batches % TURNS == 0
        found = self._next(oldest=oldest)
        if found is None:
            return None
        line, job = found
        alone = may_be_alone and self.ids < min(BATCH_IDS, SHARE_IDS * self._streams)
        batch = Batch(job.model, alone=alone)
        most = line.ids if alone else self._share(line.ids, max(idle, 1))
        while not batch.texts or batch.ids + len(job.texts[job.taken]) <= most:
            batch.take(job)
            if not job.waiting_texts:
                line.remove(job)
                following = line.first(oldest=oldest)
                if following is None:
                    break
                job = following[1]
        line.ids -= batch.ids
        self.texts -= len(batch.texts)
        self._batches += 1
        return batch

    def _share(self, ids: int, idle: int) -> int:
        """How many of the *ids* that wait are for one of so many *idle* streams.

        The last one leaves half of a lot: the next to be free would begin with whatever text comes
        first, all alone.
        """
        now = math.ceil(ids / idle)
        if idle == 1 < self._streams:
            now = max(math.ceil(ids / 2), min(ids, SHARE_IDS))
        return min(BATCH_IDS, now)

    def _next(self, *, oldest: bool) -> tuple[Line, Job] | None:
        """The job that the next batch begins with, and its line."""
        found = [
            (*first, line) for line in self.lines.values() if (first := line.first(oldest=oldest))
        ]
        if not found:
            return None
        _, job, line = min(found, key=lambda one: one[0])
        return line, job


class Reading:
    """What becomes ids, or waits for that, as far as it is known in seconds."""

    def __init__(self) -> None:
        self._works: dict[object, tuple[int, float]] = {}  # the size of each, and its seconds

    @property
    def seconds(self) -> float:
        """How long one thread would work on all of it."""
        return sum(seconds for _, seconds in self._works.values())

    def add(self, characters: int, seconds: float) -> object:
        """So many more *characters*, work for *seconds*; a key to `remove` them by."""
        key = object()
        self._works[key] = characters.bit_length(), seconds
        return key

    def remove(self, key: object) -> None:
        """What was added with that *key* is ids. There may be nothing."""
        self._works.pop(key, None)

    def seconds_before(self, characters: int, seconds: float) -> float:
        """How long it takes until so many *characters*, work for *seconds*, are ids from now on.

        A short request waits for short ones only, which take no time; a long one for what is not
        larger, and what larger ones get of the turns of the oldest.
        """
        if characters <= SHORT:
            return seconds
        size, smaller, larger = characters.bit_length(), seconds, 0.0
        for other, work in self._works.values():
            if other <= size:
                smaller += work
            else:
                larger += work
        return smaller + min(larger, smaller / (TURNS - 1))
