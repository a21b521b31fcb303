"""From texts to rows of logits: out of the cache, from a computation under way, or a new one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, thread_time
from typing import TYPE_CHECKING, NamedTuple

from labelwise.engine.forks import Forkable
from labelwise.engine.tokenizer.tokenizer import DEFAULT_TOKENIZATION, characters
from labelwise.errors import EngineFailed
from labelwise.models.model import Model
from labelwise.serving.cache import Key, Row, text_key, tokens_key
from labelwise.serving.encoders import MAX_AT_ONCE, Encoders
from labelwise.serving.queue import Stages

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from labelwise.engine.tokenizer.tokenizer import Encoded, Text, Tokenization
    from labelwise.serving.batcher import Batcher
    from labelwise.serving.cache import Cache
    from labelwise.serving.catalogue import Entry

# The most characters of texts that become tokens on the event loop: to hand them to a thread and
# back takes longer.
_FEW_CHARACTERS = 400

# A model, and for how many seconds it turned the texts of a request into tokens.
Observe = Callable[[Model, float], object]
Rows = dict[Key, Row]
Texts = dict[Key, tuple["Text", int]]  # each with its number in the request


class InferenceResult(NamedTuple):
    """The rows of the texts of a request, and where they come from."""

    rows: list[Row]  # one for each text
    cached: bool  # whether all were known already
    hits: int  # texts that were known, or being computed for others
    stages: Stages


@dataclass(frozen=True, slots=True)
class _Request:
    """The values that the steps of one request share."""

    entry: Entry
    tokenization: Tokenization
    deadline: float  # on the monotonic clock
    stages: Stages = field(default_factory=Stages)  # of its own computations

    def encode(self, texts: Sequence[Text], numbers: Sequence[int]) -> list[Encoded]:
        """*texts* as tokens; errors call them by their *numbers*."""
        return self.entry.model.encode(
            texts,
            self.tokenization,
            numbers=numbers,
            most=MAX_AT_ONCE,
        )


class _Flight:
    """A computation that others may join: its texts, its task, and how many requests wait for it.

    It is in the table of flights from its start to the step in which it ends or is cancelled. So
    a request that finds it there finds it under way.
    """

    task: asyncio.Task[Rows | Exception]

    def __init__(self, keys: Collection[Key]) -> None:
        self.keys = keys
        self.waiting = 0

    async def outcome(self) -> Rows | Exception:
        """The rows of its texts, or why there are none. To cancel the wait leaves it under way."""
        await asyncio.wait([self.task])
        if self.task.cancelled():  # by the end of the event loop: nobody else does while some wait
            return EngineFailed("the engine ended while it had this text; send it again")
        return self.task.result()


class Inference(Forkable):
    """Answers texts with rows of logits, each text computed once where that can be.

    Its state, on the event loop alone, is the cache and the computations under way.
    """

    def __init__(
        self, batcher: Batcher, cache: Cache | None, observe: Observe = lambda *_: None
    ) -> None:
        """Without a *cache* every request is computed for itself.

        *observe* is called when texts have been turned into tokens.
        """
        self._batcher = batcher
        self._observe = observe
        self._cache = cache
        self.renew()
        super().__init__()

    def renew(self) -> None:
        """Begin with no computation under way, and with new threads that turn texts into tokens."""
        self._flights: dict[Key, _Flight] = {}
        self._encoders = Encoders()

    def close(self) -> None:
        """End the threads that turn texts into tokens."""
        self._encoders.close()

    async def rows(
        self,
        entry: Entry,
        texts: Sequence[Text],
        seconds: float,
        *,
        tokenization: Tokenization = DEFAULT_TOKENIZATION,
        bypass_cache: bool = False,
    ) -> InferenceResult:
        """A row for each of *texts*, and where they come from.

        A caller that does not wait longer than *seconds* must cancel this. With *bypass_cache* all
        is computed anew.

        Raises:
            BadInput: A text is too long, and must not be cut.
            Overloaded: It is more than may wait, or would not be ready within *seconds*.
            LabelwiseError: The engine fails on one of the texts.
        """
        request = _Request(entry, tokenization, monotonic() + seconds)
        numbers: Sequence[int] = range(1, len(texts) + 1)
        if self._cache is None or bypass_cache:
            encoded = await self._encoded(request, texts, numbers)
            del texts
            computed = await self._run(request, encoded)
            return InferenceResult(computed, cached=False, hits=0, stages=request.stages)
        namespace = f"{entry.cache_namespace} {tokenization}"
        keys = [text_key(namespace, text) for text in texts]
        known = {key: row for key in keys if (row := self._cache.get(key))}
        missing = {
            key: (text, number)
            for key, text, number in zip(keys, texts, numbers, strict=True)
            if key not in known
        }
        if not missing:
            found = [known[key] for key in keys]
            return InferenceResult(found, cached=True, hits=len(keys), stages=request.stages)
        del texts
        rows, own = await self._fetch(request, missing, self._cache)
        known |= rows
        hits = sum(key not in own for key in keys)
        found = [known[key] for key in keys]
        return InferenceResult(found, cached=False, hits=hits, stages=request.stages)

    async def _fetch(
        self, request: _Request, missing: Texts, cache: Cache
    ) -> tuple[Rows, Collection[Key]]:
        """The rows that are *missing*, and the keys of those that were computed for this request.

        What is under way is waited for, and the rest is computed for everybody who joins. Where a
        computation of another fails, its texts are computed once more, for this request alone: why
        it failed may be the other's own. Only for that is a text kept; *missing* and all that holds
        others are emptied, as soon as they are tokens.
        """
        under_way = [flight for key in missing if (flight := self._flights.get(key))]
        joined = {key: text for key, text in missing.items() if key in self._flights}
        rest = {key: text for key, text in missing.items() if key not in joined}
        computed = set(rest)
        missing.clear()
        own = self._start(request, rest, cache) if rest else None
        found: Rows = {}
        flights = dict.fromkeys([own, *under_way] if own else under_way)
        with self._waiting_for(flights):
            for flight in flights:
                outcome = await flight.outcome()
                if not isinstance(outcome, Exception):
                    found |= outcome
                elif flight is own:
                    raise outcome
        failed = {key: text for key, text in joined.items() if key not in found}
        computed |= failed.keys()
        joined.clear()
        if failed:
            found |= await self._compute(request, failed, cache)
        return found, computed

    def _start(self, request: _Request, texts: Texts, cache: Cache) -> _Flight:
        """Compute *texts* from now on, for everybody who joins."""
        flight = _Flight(list(texts))
        flight.task = asyncio.create_task(self._fly(flight, request, texts, cache))
        self._flights |= dict.fromkeys(texts, flight)
        return flight

    async def _fly(
        self, flight: _Flight, request: _Request, texts: Texts, cache: Cache
    ) -> Rows | Exception:
        """The outcome of *flight*, which leaves the table in the same step."""
        try:
            return await self._compute(request, texts, cache)
        except Exception as reason:  # noqa: BLE001 - raised where it is known who is to have it
            return reason
        finally:
            self._forget(flight)

    @contextmanager
    def _waiting_for(self, flights: Collection[_Flight]) -> Iterator[None]:
        """Count one more who waits for *flights*. Without any, one that is under way is cancelled,
        and leaves the table in the same step.
        """
        for flight in flights:
            flight.waiting += 1
        try:
            yield
        finally:
            for flight in flights:
                flight.waiting -= 1
                if not flight.waiting and not flight.task.done():
                    self._forget(flight)
                    flight.task.cancel()

    def _forget(self, flight: _Flight) -> None:
        for key in flight.keys:
            if self._flights.get(key) is flight:  # a cancelled one may have a successor
                del self._flights[key]

    async def _compute(self, request: _Request, texts: Texts, cache: Cache) -> Rows:
        """The rows of *texts*, which are let go when they are tokens. They are remembered; equal
        tokens are run once, if they are not known.
        """
        keys = list(texts)
        encoded = await self._encoded(request, *zip(*texts.values(), strict=True))
        texts.clear()
        ids = [tokens_key(request.entry.cache_namespace, text) for text in encoded]
        rows = {key: row for key in ids if (row := cache.same(key))}
        new = {key: text for key, text in zip(ids, encoded, strict=True) if key not in rows}
        if new:
            computed = await self._run(request, list(new.values()))
            rows |= dict(zip(new, computed, strict=True))
        for key, same in zip(keys, ids, strict=True):
            cache.put(key, same, rows[same])
        return {key: rows[same] for key, same in zip(keys, ids, strict=True)}

    async def _encoded(
        self, request: _Request, texts: Sequence[Text], numbers: Sequence[int]
    ) -> list[Encoded]:
        """*texts* as tokens, many of them off the event loop, with places held in the queue."""
        size, started = characters(texts), monotonic()
        if size <= _FEW_CHARACTERS:
            with self._batcher.reserve(request.entry.model, len(texts)):
                encoded = request.encode(texts, numbers)
        else:
            deadline, work = request.deadline, min(size, MAX_AT_ONCE * len(texts))
            with self._batcher.reserve(request.entry.model, len(texts), work, deadline):
                encode = partial(self._measured, request)
                encoded = await self._encoders.run(encode, texts, numbers, size)
        seconds = monotonic() - started
        request.stages.tokenization += seconds
        self._observe(request.entry.model, seconds)
        return encoded

    def _measured(
        self, request: _Request, texts: Sequence[Text], numbers: Sequence[int]
    ) -> list[Encoded]:
        """*texts* as tokens; how long that takes is noted."""
        started = thread_time()  # what others do meanwhile is no part of the pace
        encoded = request.encode(texts, numbers)
        read = min(characters(texts), MAX_AT_ONCE * len(texts))
        self._batcher.learn_reading(request.entry.model, read, thread_time() - started)
        return encoded

    async def _run(self, request: _Request, encoded: list[Encoded]) -> list[Row]:
        run = self._batcher.run(request.entry.model, encoded, request.deadline, request.stages)
        logits = await run
        pairs = zip(logits, encoded, strict=True)
        # A copy: a part of an array would keep all of it.
        return [Row(row.copy(), len(text), text.full_length) for row, text in pairs]
