"""The work that waits, and which texts run next. No threads, no clock: the batcher has them.

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

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator, Sequence

    from labelwise.engine.backend import Backend
    from labelwise.engine.tokenizer.tokenizer import Encoded
    from labelwise.models.model import Model

TURNS = 4  # batches, of which one takes the oldest requests first
# The most characters of a short request: they become tokens in 10 ms, words of an odd kind 100.
SHORT = 16_384
# In the moving average of a model's times: of each measurement, and of each that is quicker.
_SHARE_OF_NEW = 0.2
_SHARE_OF_FASTER = 0.05
_KEPT = 16  # jobs that a queue may keep when nobody waits for them, beside as many as wait
_NO_ROW = np.zeros(0, np.float32)


@dataclass(slots=True)
class Stages:
    """The seconds that a request spent in each stage; none where its texts were known."""

    tokenization: float = 0.0  # with the wait for a thread
    queue: float = 0.0  # until its first batch started
    inference: float = 0.0  # from there to the end of its last batch


class Job:
    """The texts of one request on their way through the engine, in their order."""

    def __init__(
        self, model: Model, texts: Sequence[Encoded], loop: asyncio.AbstractEventLoop
    ) -> None:
        self.model = model
        self.texts = texts
        self.tokens = sum(map(len, texts))
        self.loop = loop
        # Done when all texts are, or when one has failed.
        self.answer: asyncio.Future[None] = loop.create_future()
        # On the monotonic clock, as are the start of its first batch and the end of its last.
        self.arrived = 0.0
        self.started, self.ended = math.inf, 0.0
        self.rows: list[np.ndarray] = [_NO_ROW] * len(texts)
        self.left = len(texts)  # texts that have no row yet
        self.taken = self.tokens_taken = 0  # what is in a batch, or was
        self.abandoned = False  # nobody waits for it any more

    def __repr__(self) -> str:
        return f"<Job [{len(self.rows)} texts: {self.taken} taken, {self.left} without a row]>"

    @property
    def size(self) -> int:
        """The size, coarsely: requests of one size are served in the order they came."""
        return self.tokens.bit_length()

    @property
    def waiting_tokens(self) -> int:
        """The number of tokens that are in no batch yet."""
        return self.tokens - self.tokens_taken

    @property
    def waiting_texts(self) -> int:
        """The number of texts that are in no batch yet."""
        return len(self.rows) - self.taken

    @property
    def waits(self) -> bool:
        """Whether a text of it is still to be run."""
        return self.waiting_texts > 0 and not self.abandoned


@dataclass(slots=True, eq=False)
class Batch:
    """Texts of one model that run together; text i is number ``places[i][1]`` of its job."""

    model: Model
    texts: list[Encoded] = field(default_factory=list)
    places: list[tuple[Job, int]] = field(default_factory=list)
    tokens: int = 0
    exclusive: bool = False  # on all threads, with no other beside it
    started: float = 0.0  # on the monotonic clock
    ended: float = 0.0
    since: float = 0.0  # when its stream had ended the batch before, or came to wait for this one

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that hands out its answers."""
        return self.places[0][0].loop

    def take(self, job: Job) -> None:
        """Add the next text of *job*."""
        text = job.texts[job.taken]
        self.texts.append(text)
        self.places.append((job, job.taken))
        self.tokens += len(text)
        job.taken += 1
        job.tokens_taken += len(text)


class ModelQueue:
    """The jobs that wait for one model, and the model's seconds_per_token."""

    def __init__(self, seconds_per_token: float, seconds_per_character: float, many: int) -> None:
        self._many = many  # tokens of a batch that tells the pace
        self.seconds_per_token = seconds_per_token  # of one stream, in a full batch
        self.seconds_per_character = seconds_per_character  # for a character to become tokens
        self.tokens = 0  # that wait
        self._by_size: list[tuple[int, int, Job]] = []  # a heap: size, number of arrival
        self._by_age: dict[Job, int] = {}  # in the order of arrival, to its number

    def __iter__(self) -> Iterator[Job]:
        return iter(self._by_age)

    def add(self, job: Job, number: int) -> None:
        """*job* waits from now on; *number* counts the jobs that came to the queue."""
        self.tokens += job.waiting_tokens
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
        """Note that *characters* took *seconds* to become tokens.

        The slowest kinds of text count: the seconds_per_token follows them sooner than the others.
        """
        change = seconds / characters - self.seconds_per_character
        self.seconds_per_character += change * (_SHARE_OF_NEW if change > 0 else _SHARE_OF_FASTER)

    def learn(self, tokens: int, seconds: float) -> None:
        """Note that a batch of *tokens* took *seconds*.

        Small batches take more for a token than full ones do: they count only where they were
        quicker than expected. One batch that was held up says little of the next.
        """
        seconds_per_token = min(seconds / tokens, 2 * self.seconds_per_token or math.inf)
        if tokens >= self._many or seconds_per_token < self.seconds_per_token:
            self.seconds_per_token += _SHARE_OF_NEW * (seconds_per_token - self.seconds_per_token)


class Queue:
    """The work that waits for each model and the streams of *backend*, and whose turn it is."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._streams = backend.streams.count
        self.by_model: dict[Model, ModelQueue] = {}
        self.texts = 0  # that wait
        self._arrivals = count()
        self._batches = 0

    def __repr__(self) -> str:
        return f"{self.texts} texts, {self.tokens} tokens waiting"

    def register(
        self, model: Model, seconds_per_token: float, seconds_per_character: float = 0.0
    ) -> None:
        """Make room for jobs of *model*, which is as quick as that."""
        many = self._backend.batch_tokens // 2
        self.by_model[model] = ModelQueue(seconds_per_token, seconds_per_character, many)

    def renewed(self) -> Queue:
        """An empty queue for the same models."""
        empty = Queue(self._backend)
        for model, queue in self.by_model.items():
            empty.register(model, queue.seconds_per_token, queue.seconds_per_character)
        return empty

    def reserve(self, texts: int) -> None:
        """Hold places for *texts*, which are no job yet."""
        self.texts += texts

    def release(self, texts: int) -> None:
        """Give back places that were reserved."""
        self.texts -= texts

    def learn(self, model: Model, tokens: int, seconds: float) -> None:
        """Note that a batch of *model* with *tokens* took *seconds*."""
        self.by_model[model].learn(tokens, seconds)

    def learn_reading(self, model: Model, characters: int, seconds: float) -> None:
        """Note that *characters* became tokens of *model* within *seconds*."""
        self.by_model[model].learn_reading(characters, seconds)

    def work(self, model: Model, tokens: int) -> float:
        """The seconds that one stream takes for *tokens* of *model*."""
        return tokens * self.by_model[model].seconds_per_token

    def reading_work(self, model: Model, characters: int) -> float:
        """The seconds that a thread takes to make *characters* tokens of *model*."""
        return characters * self.by_model[model].seconds_per_character

    @property
    def jobs(self) -> int:
        """The number of jobs that wait."""
        return sum(1 for queue in self.by_model.values() for _ in queue)

    @property
    def tokens(self) -> int:
        """The number of tokens that wait, of all models."""
        return sum(queue.tokens for queue in self.by_model.values())

    @property
    def seconds(self) -> float:
        """The seconds that one stream would work on what waits."""
        return sum(queue.tokens * queue.seconds_per_token for queue in self.by_model.values())

    def add(self, job: Job) -> None:
        """*job* waits from now on."""
        self.texts += job.waiting_texts
        self.by_model[job.model].add(job, next(self._arrivals))

    def drop(self, job: Job) -> None:
        """Nobody waits for *job* any more: what is not in a batch yet never will be."""
        if not job.abandoned:
            job.abandoned = True
            self.texts -= job.waiting_texts
            queue = self.by_model[job.model]
            queue.tokens -= job.waiting_tokens
            queue.remove(job)

    def drop_surplus(self, most: float) -> list[Job]:
        """The newest jobs that have not begun, dropped down to *most* seconds of one stream."""
        dropped = []
        while self.seconds > most and (job := self._newest()) is not None:
            self.drop(job)
            dropped.append(job)
        return dropped

    def _newest(self) -> Job | None:
        """The job that came last of those that have not begun."""
        found = [
            newest for queue in self.by_model.values() if (newest := queue.newest()) is not None
        ]
        return max(found, key=lambda one: one[0], default=(0, None))[1]

    def seconds_before(self, job: Job) -> float:
        """The seconds that one stream would work until it is done with *job*, were it added now.

        That is what is not larger, and what larger ones get of the turns of the oldest.
        """
        smaller, larger = job.tokens * self.by_model[job.model].seconds_per_token, 0.0
        for queue in self.by_model.values():
            for other in queue:
                work = other.waiting_tokens * queue.seconds_per_token
                if other.size <= job.size:
                    smaller += work
                else:
                    larger += work
        return smaller + min(larger, smaller / (TURNS - 1))

    def take(self, idle: int, *, may_be_exclusive: bool = False) -> Batch | None:
        """The next batch, for one of *idle* streams; None where nothing waits.

        It has `Backend.batch_tokens` at most, or one text; less where other streams can use what
        waits. Where it *may be exclusive*, it is if there is no more work than all threads do best
        together.
        """
        oldest = self._batches % TURNS == 0
        found = self._next(oldest=oldest)
        if found is None:
            return None
        queue, job = found
        few = min(self._backend.batch_tokens, self._backend.share_tokens * self._streams)
        exclusive = may_be_exclusive and self.tokens < few
        batch = Batch(job.model, exclusive=exclusive)
        most = queue.tokens if exclusive else self._share(queue.tokens, max(idle, 1))
        while not batch.texts or batch.tokens + len(job.texts[job.taken]) <= most:
            batch.take(job)
            if not job.waiting_texts:
                queue.remove(job)
                following = queue.first(oldest=oldest)
                if following is None:
                    break
                job = following[1]
        queue.tokens -= batch.tokens
        self.texts -= len(batch.texts)
        self._batches += 1
        return batch

    def _share(self, tokens: int, idle: int) -> int:
        """The part of the waiting *tokens* that is for one of *idle* streams.

        The last one leaves half of a lot: the next to be free would begin with whatever text comes
        first, all alone.
        """
        now = math.ceil(tokens / idle)
        if idle == 1 < self._streams:
            now = max(math.ceil(tokens / 2), min(tokens, self._backend.share_tokens))
        return min(self._backend.batch_tokens, now)

    def _next(self, *, oldest: bool) -> tuple[ModelQueue, Job] | None:
        """The job that the next batch begins with, and the queue of its model."""
        queues = self.by_model.values()
        found = [(*first, queue) for queue in queues if (first := queue.first(oldest=oldest))]
        if not found:
            return None
        _, job, queue = min(found, key=lambda one: one[0])
        return queue, job


class Reading:
    """The texts that become tokens, or wait for that, in seconds of work."""

    def __init__(self) -> None:
        self._works: dict[object, tuple[int, float]] = {}  # the size of each, and its seconds

    @property
    def seconds(self) -> float:
        """The seconds that one thread would work on all of it."""
        return sum(seconds for _, seconds in self._works.values())

    def add(self, characters: int, seconds: float) -> object:
        """Add *characters*, work for *seconds*; a key to `remove` them by."""
        key = object()
        self._works[key] = characters.bit_length(), seconds
        return key

    def remove(self, key: object) -> None:
        """Forget what was added with that *key*, if anything."""
        self._works.pop(key, None)

    def seconds_before(self, characters: int, seconds: float) -> float:
        """The seconds until *characters*, work for *seconds*, are tokens from now on.

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
