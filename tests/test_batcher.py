"""The queue: which texts run next, what is refused, and that every request ends in one way."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import threading
from collections import Counter
from contextlib import asynccontextmanager
from itertools import count
from weakref import ref

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelwise.engine.cpus import Streams
from labelwise.engine.onnx.backend import Cpu
from labelwise.engine.tokenizer.tokenizer import Encoded
from labelwise.errors import BadModel, EngineFailed, Overloaded, TooLarge
from labelwise.models.model import Model
from labelwise.serving import batcher as module
from labelwise.serving.batcher import Batcher, _outcomes
from labelwise.serving.queue import Stages
from padded import config, write_model, write_tokenizer

BATCH_TOKENS, SHARE_TOKENS = (backend := Cpu(Streams(1, 1))).batch_tokens, backend.share_tokens
FULL, EMPTY = BATCH_TOKENS // 4, "<Batcher [0 texts, 0 tokens waiting | 0 batches running]>"
SECRET = "what the text said"  # noqa: S105 - of a caller, in the message of an exception


class Clock:
    """Time, which stands until a test moves it."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Ruler:
    """Stands in for a model where the queue alone is looked at: a text's logit is its length."""

    def encode(self, texts):
        return [text(BATCH_TOKENS // 2) for _ in texts]

    def run(self, texts, **_):
        return np.array([[len(text)] for text in texts], np.float32)


def text(length, first=7):
    return Encoded(np.full(length, first), np.zeros(length, np.int64), length)


@pytest.fixture
def clock(monkeypatch):
    """The batcher's clock; where it stands, every estimate and deadline is exact."""
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


def queue(*models, streams=1, threads=1, texts=100_000, seconds=1e6, pace=0.001):
    """A queue for *models*, each of which takes *pace* seconds for an id."""
    batcher = Batcher(Cpu(Streams(streams, threads)), max_texts=texts, max_seconds=seconds)
    for model in models:
        batcher.add(model)
        batcher._queue.by_model[model].seconds_per_token = pace
    return batcher


def place(batcher, model, texts, characters=0, seconds=1e5):
    """Places for so many *texts*, which somebody waits for so many *seconds*."""
    return batcher.reserve(model, texts, characters, module.monotonic() + seconds)


async def ask(batcher, model, *lengths, seconds=1e5):
    """A request with texts of these *lengths*, in the queue or refused."""
    texts = [one if isinstance(one, Encoded) else text(one) for one in lengths]
    request = asyncio.create_task(batcher.run(model, texts, module.monotonic() + seconds))
    await asyncio.sleep(0)
    return request


def take(batcher):
    """The next batch, as an engine thread takes it; None where it would wait."""
    batch = batcher._next_batch()
    if batch is not None:
        batcher._running.add(batch)
    return batch


async def finish(batcher, batch):
    """Run *batch* as an engine thread does, and let everybody see that it has ended."""
    batcher._complete(batch, _outcomes(batch, batch.texts))
    for _ in range(4):
        await asyncio.sleep(0)


async def step(batcher):
    """Run the next batch; the lengths of its texts."""
    batch = take(batcher)
    await finish(batcher, batch)
    return [len(text) for text in batch.texts]


@asynccontextmanager
async def working(batcher):
    """The engine threads of *batcher* work inside."""
    batcher.start()
    try:
        yield
    finally:
        await batcher.close()


async def until(condition):
    """Wait for what another thread brings about, half a minute at most."""
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(condition)


# Which texts run next


def test_equal_requests_run_in_the_order_in_which_they_came():
    async def main():
        batcher = queue(model := Ruler())
        requests = [await ask(batcher, model, FULL) for _ in range(9)]
        assert repr(batcher) == "<Batcher [9 texts, 1152 tokens waiting | 0 batches running]>"
        for done in (4, 8, 9):
            await step(batcher)
            assert [request.done() for request in requests] == [True] * done + [False] * (9 - done)
        assert repr(batcher) == EMPTY

    asyncio.run(main())


def test_a_short_request_behind_a_bulk_request_is_in_the_next_batch():
    async def main():
        batcher = queue(model := Ruler())
        bulk = await ask(batcher, model, *[FULL] * 100)
        assert await step(batcher) == [FULL] * 4
        short = await ask(batcher, model, 16)
        assert await step(batcher) == [16, FULL, FULL, FULL]
        assert short.done()
        bulk.cancel()

    asyncio.run(main())


def test_a_bulk_request_gets_a_quarter_of_the_engine_while_short_ones_keep_coming():
    async def main():
        batcher = queue(model := Ruler())
        bulk = await ask(batcher, model, *[32] * 200)
        lengths = []
        while not bulk.done():
            for _ in range(64 - sum(len(job.rows) == 1 for job in batcher._queue.by_model[model])):
                await ask(batcher, model, 8)  # a full batch of short ones waits, always
            lengths += await step(batcher)
            assert sum(lengths) <= 4 * 32 * 200 + 2 * BATCH_TOKENS

    asyncio.run(main())


def test_a_long_text_holds_up_short_ones_for_one_batch_at_most():
    async def main():
        batcher = queue(model := Ruler())
        await ask(batcher, model, *[8192] * 3)
        assert await step(batcher) == [8192]
        for _ in range(3):
            await ask(batcher, model, 16)
        assert await step(batcher) == [16, 16, 16]
        assert await step(batcher) == [8192]

    asyncio.run(main())


def test_a_batch_holds_one_model_and_both_models_get_on():
    async def main():
        models = first, second = Ruler(), Ruler()
        batcher = queue(first, second)
        requests = [await ask(batcher, models[number % 2], FULL) for number in range(80)]
        served = []
        for _ in range(20):
            batch = take(batcher)
            assert {job.model for job, _ in batch.places} == {batch.model}
            served.append(batch.model)
            await finish(batcher, batch)
        assert all(request.done() for request in requests)
        for half in (served[:10], served[10:]):
            assert 4 <= half.count(first) <= 6

    asyncio.run(main())


@pytest.mark.parametrize("bulks", [1, 5, 16])
def test_a_short_request_waits_for_a_batch_or_two_whatever_else_waits(bulks):
    async def main():
        batcher = queue(model := Ruler())
        for _ in range(bulks):
            await ask(batcher, model, *[FULL] * 160)
        for number in range(80):
            short = await ask(batcher, model, 16)
            await step(batcher)
            if not short.done():
                await step(batcher)
            assert short.done(), number

    asyncio.run(main())


def test_requests_of_one_text_get_the_turns_of_the_oldest_as_well():
    """Were only the first text of such a batch an old one, most would wait for ever."""

    async def main():
        batcher = queue(model := Ruler())
        old = [await ask(batcher, model, 64) for _ in range(40)]
        run = 0
        while not all(request.done() for request in old):
            while batcher._queue.tokens < 20_000:  # and what comes later never ends
                await ask(batcher, model, 8)
            run += sum(await step(batcher))
        assert run <= 4 * 40 * 64 + 4 * BATCH_TOKENS

    asyncio.run(main())


@pytest.mark.parametrize("others", [[8], [FULL] * 4, [FULL] * 40])
def test_a_request_is_done_after_four_times_what_came_before_it_and_its_own_work(others):
    async def main():
        batcher = queue(model := Ruler())
        for _ in range(3):
            await ask(batcher, model, *[FULL] * 20)
        request = await ask(batcher, model, *[FULL] * 50)
        run = 0
        while not request.done():
            while batcher._queue.tokens < 20_000:  # and what comes later never ends
                await ask(batcher, model, *others)
            run += sum(await step(batcher))
        assert run <= 4 * (3 * 20 + 50) * FULL + 4 * BATCH_TOKENS

    asyncio.run(main())


def test_a_free_stream_takes_what_is_there_and_waits_for_no_company():
    async def main():
        batcher = queue(model := Ruler())
        await ask(batcher, model, 5)
        assert await step(batcher) == [5]
        assert take(batcher) is None

    asyncio.run(main())


def test_several_free_streams_share_what_waits():
    async def main():
        batcher = queue(model := Ruler(), streams=4)
        await ask(batcher, model, *[10] * 40)
        batches = [take(batcher) for _ in range(4)]
        assert [batch.tokens for batch in batches] == [100, 100, 100, 100]
        assert repr(batcher) == "<Batcher [0 texts, 0 tokens waiting | 4 batches running]>"

    asyncio.run(main())


def test_a_stream_that_is_free_alone_takes_a_whole_batch():
    async def main():
        batcher = queue(model := Ruler(), streams=4)
        await ask(batcher, model, *[FULL] * 60)
        assert [take(batcher).tokens for _ in range(4)] == [BATCH_TOKENS] * 4
        batcher._running.pop()
        assert take(batcher).tokens == BATCH_TOKENS

    asyncio.run(main())


def test_the_last_free_stream_leaves_the_others_half_of_what_waits():
    async def main():
        batcher = queue(model := Ruler(), streams=2)
        await ask(batcher, model, *[10] * 120)
        assert [take(batcher).tokens for _ in range(2)] == [510, 340]
        batcher._running.clear()
        await ask(batcher, model, *[10] * 3)
        assert take(batcher).tokens == 190
        assert [take(batcher).tokens, take(batcher).tokens] == [
            120,
            70,
        ]  # a small batch is not halved

    asyncio.run(main())


def test_little_work_runs_alone_on_all_threads_and_nothing_beside_it():
    async def main():
        batcher = queue(model := Ruler(), streams=2, threads=2)
        await ask(batcher, model, 16)
        lone = take(batcher)
        assert lone.exclusive
        await ask(batcher, model, *[10] * 20)
        assert take(batcher) is None
        batcher._running.clear()
        assert [take(batcher).exclusive, take(batcher)] == [True, None]

    asyncio.run(main())


def test_much_work_runs_side_by_side_on_a_thread_each():
    async def main():
        batcher = queue(model := Ruler(), streams=2, threads=2)
        await ask(batcher, model, *[16] * (2 * SHARE_TOKENS // 16))
        assert [take(batcher).exclusive, take(batcher).exclusive] == [False, False]

    asyncio.run(main())


@pytest.mark.parametrize(("streams", "threads"), [(1, 2), (2, 1)])
def test_with_one_copy_of_the_weights_no_batch_keeps_others_out(streams, threads):
    async def main():
        batcher = queue(model := Ruler(), streams=streams, threads=threads)
        await ask(batcher, model, 16)
        assert not take(batcher).exclusive

    asyncio.run(main())


def test_a_batch_on_all_threads_does_not_make_the_streams_look_quick(clock):
    async def main():
        batcher = queue(model := Ruler(), streams=2, threads=2, pace=0.001)
        assert await measured(batcher, model, clock, [100], 0.05) == pytest.approx(0.001)

    asyncio.run(main())


def test_one_large_request_wakes_every_stream():
    async def main():
        model = Ruler()
        batcher = queue(model, streams=4)
        meeting = threading.Barrier(4)

        def run(texts, **_):
            meeting.wait(30)  # nobody passes before four batches run at once
            return Ruler().run(texts)

        model.run = run
        async with working(batcher):
            await until(lambda: len(batcher._changed._waiters) == 4)
            logits = await (await ask(batcher, model, *[10] * 40))
        assert logits.ravel().tolist() == [10] * 40

    asyncio.run(main())


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 700), min_size=1, max_size=12), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_batches_keep_to_their_size_and_no_text_is_lost(requests, streams):
    async def main():
        batcher = queue(model := Ruler(), streams=streams)
        answers = [await ask(batcher, model, *lengths) for lengths in requests]
        seen = Counter()
        while (batch := take(batcher)) is not None:
            assert batch.tokens <= BATCH_TOKENS or len(batch.texts) == 1
            for job, number in batch.places:
                assert number == seen[job]  # in the order of the request
                seen[job] += 1
            await finish(batcher, batch)
        for answer, lengths in zip(answers, requests, strict=True):
            assert answer.result().ravel().tolist() == lengths
        assert repr(batcher) == EMPTY

    asyncio.run(main())


# What is refused


async def refusal(batcher, model, *lengths, seconds=1e5):
    """Why a request with such texts is refused at once; that leaves no trace in the queue."""
    before = repr(batcher)
    request = await ask(batcher, model, *lengths, seconds=seconds)
    assert request.done()
    assert repr(batcher) == before
    return request.exception()


def test_no_more_texts_wait_than_may():
    async def main():
        batcher = queue(model := Ruler(), texts=10)
        await ask(batcher, model, *[8] * 7)
        refused = await refusal(batcher, model, *[8] * 4)
        assert isinstance(refused, Overloaded)
        assert str(refused) == "the server is busy: 7 texts wait already; try again in 1 s"
        await ask(batcher, model, *[8] * 3)
        assert isinstance(await refusal(batcher, model, 8), Overloaded)
        await step(batcher)
        assert not (await ask(batcher, model, 8)).done()

    asyncio.run(main())


def test_no_more_work_waits_than_may_and_the_refusal_says_when_it_is_done():
    async def main():
        batcher = queue(model := Ruler(), seconds=10, pace=0.01)
        await ask(batcher, model, *[100] * 8)
        refused = await refusal(batcher, model, *[100] * 3)
        assert isinstance(refused, Overloaded)
        assert refused.retry_after == 8
        assert "work for 8 seconds waits already; try again in 8 s" in str(refused)
        assert not (await ask(batcher, model, *[100] * 2)).done()

    asyncio.run(main())


def test_the_work_of_all_streams_is_divided_among_them():
    async def main():
        batcher = queue(model := Ruler(), seconds=10, pace=0.01, streams=4)
        await ask(batcher, model, *[100] * 32)
        assert (await refusal(batcher, model, *[100] * 9)).retry_after == 8
        assert not (await ask(batcher, model, *[100] * 8)).done()

    asyncio.run(main())


def test_work_that_could_never_wait_is_too_large_and_not_a_reason_to_try_again():
    async def main():
        batcher = queue(model := Ruler(), seconds=10, pace=0.01)
        refused = await refusal(batcher, model, *[100] * 11)
        assert isinstance(refused, TooLarge)
        assert "1100 tokens, about 11 seconds of work; this server takes 10 at once" in str(refused)

    asyncio.run(main())


def test_texts_that_could_never_wait_are_too_large_and_not_a_reason_to_try_again():
    async def main():
        batcher = queue(model := Ruler(), texts=10)
        assert isinstance(await refusal(batcher, model, *[8] * 11), TooLarge)
        with pytest.raises(TooLarge, match="11 texts"), place(batcher, model, 11):
            pass

    asyncio.run(main())


def test_places_are_held_while_texts_become_ids():
    async def main():
        batcher = queue(model := Ruler(), texts=10)
        with place(batcher, model, 8):
            assert repr(batcher) == "<Batcher [8 texts, 0 tokens waiting | 0 batches running]>"
            with pytest.raises(Overloaded), place(batcher, model, 3):
                pass
            assert isinstance(await refusal(batcher, model, *[8] * 3), Overloaded)
        with pytest.raises(ZeroDivisionError), place(batcher, model, 8):
            raise ZeroDivisionError
        assert repr(batcher) == EMPTY

    asyncio.run(main())


@pytest.mark.usefixtures("clock")
def test_work_of_becoming_ids_waits_like_other_work():
    async def main():
        batcher = queue(model := Ruler(), seconds=30)
        batcher._queue.by_model[model].seconds_per_character = 1e-4
        with pytest.raises(TooLarge, match="300001 characters, about 30 seconds of work; this"):
            place(batcher, model, 1, 300_001).__enter__()
        with place(batcher, model, 1, 200_000):
            with pytest.raises(Overloaded, match="try again in 20 s") as refused:
                place(batcher, model, 1, 100_001).__enter__()
            assert refused.value.reason == "seconds"
            with place(batcher, model, 1, 100_000, seconds=20):  # before the larger one
                assert batcher.overload()
                assert isinstance(await refusal(batcher, model, 1), Overloaded)
            with pytest.raises(Overloaded) as refused:
                place(batcher, model, 1, 100_000, seconds=13).__enter__()
            assert refused.value.reason == "deadline"
            with place(batcher, model, 1, 10_000, seconds=1):  # short ones have other threads
                pass
        assert repr(batcher) == EMPTY
        assert batcher.overload() is None

    asyncio.run(main())


@pytest.mark.usefixtures("clock")
def test_a_queue_that_was_full_refuses_before_texts_become_ids_until_a_part_is_done():
    async def main():
        batcher = queue(model := Ruler(), seconds=10, pace=0.01)
        for _ in range(10):
            await ask(batcher, model, 99)
        with place(batcher, model, 1):  # 9.9 of 10 s wait: nobody knows how much it is
            pass
        assert isinstance(await refusal(batcher, model, 11), Overloaded)
        with pytest.raises(Overloaded, match="work for 10 seconds waits") as refused:
            place(batcher, model, 1).__enter__()
        assert refused.value.reason == "seconds"
        assert batcher.overload()
        await step(batcher)
        with place(batcher, model, 1):
            pass
        assert batcher.overload() is None

    asyncio.run(main())


def test_what_came_last_is_refused_where_the_engine_turns_out_slower(clock):
    async def main():
        batcher = queue(model := Ruler(), seconds=100, pace=0.01)
        requests = [await ask(batcher, model, BATCH_TOKENS) for _ in range(19)]  # 97 s
        batch = take(batcher)
        clock.now += 2 * BATCH_TOKENS * 0.01  # twice as long as was expected
        await finish(batcher, batch)
        done, *waiting = [request.done() for request in requests]
        assert done
        assert waiting == sorted(waiting)  # none that came before one that waits
        assert 0 < sum(waiting) < 5
        for request in requests[-sum(waiting) :]:
            assert isinstance(request.exception(), Overloaded)
        assert batcher._queue.seconds == pytest.approx(100, abs=BATCH_TOKENS * 0.013)
        assert batcher._queue.texts == 18 - sum(waiting)

    asyncio.run(main())


def test_the_pace_counts_what_passes_between_two_batches(clock):
    async def main():
        batcher = queue(model := Ruler(), pace=0.01)
        paces = []
        for pause in (0, BATCH_TOKENS * 0.01):
            batcher._queue.by_model[model].seconds_per_token = 0.01
            await ask(batcher, model, BATCH_TOKENS)
            ended = clock.now
            clock.now += pause  # the stream was free: something else held it up
            batch = batcher._take(ended)
            clock.now += BATCH_TOKENS * 0.01
            await finish(batcher, batch)
            paces.append(batcher._queue.by_model[model].seconds_per_token)
        assert paces == [pytest.approx(0.01), pytest.approx(0.012)]

    asyncio.run(main())


def test_the_pace_of_becoming_ids_follows_slow_texts_sooner_than_quick_ones():
    batcher = queue(model := Ruler())
    line = batcher._queue.by_model[model]
    paces = []
    for seconds in [1] * 30 + [0.1] * 30 + [1] * 30:
        batcher.learn_reading(model, 10_000, seconds)
        paces.append(line.seconds_per_character)
    assert paces[29] == pytest.approx(1e-4, rel=0.01)
    assert paces[59] == pytest.approx(3e-5, rel=0.1)
    assert paces[69] > 9e-5
    batcher.learn_reading(model, 10, 1)  # of a few characters more is said of the call
    assert line.seconds_per_character == paces[-1]


def test_what_has_run_is_let_go_while_short_texts_wait():
    async def main():
        batcher = queue(model := Ruler())
        waiting = [await ask(batcher, model, 1) for _ in range(40)]
        line, gone = batcher._queue.by_model[model], []
        for _ in range(400):
            request = await ask(batcher, model, 100)
            gone.append(ref(next(reversed(line._by_age))))
            request.cancel()
            await asyncio.wait([request])
        assert sum(job() is not None for job in gone) < 60
        while (batch := take(batcher)) is not None:
            await finish(batcher, batch)
        await asyncio.gather(*waiting)
        assert not line._by_age
        assert len(line._by_size) < 20

    asyncio.run(main())


@pytest.mark.usefixtures("clock")
def test_an_answer_that_would_come_too_late_is_refused_at_once():
    async def main():
        batcher = queue(model := Ruler(), pace=0.01)
        await ask(batcher, model, *[FULL] * 40)  # 51.2 seconds of work
        refused = await refusal(batcher, model, *[FULL] * 40, seconds=60)
        assert isinstance(refused, Overloaded)
        assert "the answer would not be ready in 60 s; try again in 52 s" in str(refused)

    asyncio.run(main())


@pytest.mark.usefixtures("clock")
def test_a_short_request_that_will_overtake_is_not_refused_for_what_it_overtakes():
    async def main():
        batcher = queue(model := Ruler(), pace=0.01)
        await ask(batcher, model, *[FULL] * 40)
        await step(batcher)
        assert not (await ask(batcher, model, 16, seconds=5)).done()
        assert 16 in await step(batcher)

    asyncio.run(main())


def test_what_expires_in_the_queue_is_never_computed(clock):
    async def main():
        batcher = queue(model := Ruler(), pace=0.001)
        bulk = await ask(batcher, model, *[FULL] * 8)
        lengths = await step(batcher)
        late = await ask(batcher, model, *[FULL] * 8, seconds=5)
        clock.now += 6
        late.cancel()  # as its caller does: nobody waits for it any more
        while (batch := take(batcher)) is not None:
            lengths += [len(text) for text in batch.texts]
            await finish(batcher, batch)
        assert bulk.done()
        assert len(lengths) == 8
        assert repr(batcher) == EMPTY

    asyncio.run(main())


# How fast a model is


async def measured(batcher, model, clock, lengths, seconds):
    """Run a batch that takes so many *seconds*; the pace that the queue believes in then."""
    request = await ask(batcher, model, *lengths)
    batch = take(batcher)
    clock.now += seconds
    await finish(batcher, batch)
    assert request.done()
    return batcher._queue.by_model[model].seconds_per_token


def test_the_stages_of_a_request_end_where_its_first_batch_starts_and_its_last_ends(clock):
    async def main():
        batcher, stages = queue(model := Ruler(), streams=2), Stages(queue=1.0)
        texts = [text(BATCH_TOKENS)] * 2
        asked = asyncio.create_task(batcher.run(model, texts, clock.now + 1e5, stages))
        await asyncio.sleep(0)
        clock.now += 5
        first = take(batcher)
        clock.now += 3
        last = take(batcher)
        for batch in (last, first):  # each takes 2 seconds more than what came before
            clock.now += 2
            await finish(batcher, batch)
        assert (await asked).tolist() == [[BATCH_TOKENS]] * 2
        assert stages == Stages(queue=1.0 + 5, inference=3 + 2 + 2)

    asyncio.run(main())


def test_adding_a_model_measures_its_pace(clock):
    model, batcher = Ruler(), Batcher(Cpu(Streams(1, 1)), max_texts=1, max_seconds=1)

    def run(texts, **_):
        clock.now += 0.512
        return Ruler().run(texts)

    model.run = run
    batcher.add(model)
    assert batcher._queue.by_model[model].seconds_per_token == pytest.approx(0.002)


def test_the_pace_follows_full_batches(clock):
    async def main():
        batcher = queue(model := Ruler(), pace=0.001)
        assert await measured(batcher, model, clock, [512], 0.768) == pytest.approx(0.0011)
        for _ in range(50):
            pace = await measured(batcher, model, clock, [512], 1.024)
        assert pace == pytest.approx(0.002, rel=1e-3)

    asyncio.run(main())


def test_small_batches_do_not_make_a_model_look_slow(clock):
    """What a batch costs beside its ids weighs more in a small one."""

    async def main():
        batcher = queue(model := Ruler(), pace=0.001)
        assert await measured(batcher, model, clock, [16], 0.05) == 0.001

    asyncio.run(main())


def test_one_batch_that_was_held_up_does_not_make_larger_requests_impossible(clock):
    """A machine that slept for ten minutes is as fast as before."""

    async def main():
        batcher = queue(model := Ruler(), pace=0.001, seconds=30)
        await measured(batcher, model, clock, [512], 600)
        assert not (await ask(batcher, model, *[FULL] * 100)).done()

    asyncio.run(main())


def test_an_estimate_that_is_far_too_high_recovers_from_small_batches_alone(clock):
    """With it no full batch could ever be admitted again."""

    async def main():
        batcher = queue(model := Ruler(), pace=1.0, seconds=30)
        assert isinstance(await refusal(batcher, model, 100), TooLarge)
        for _ in range(50):
            await measured(batcher, model, clock, [16], 0.032)
        assert not (await ask(batcher, model, *[FULL] * 100)).done()

    asyncio.run(main())


# Every request ends in one way


def test_a_cancelled_request_leaves_the_queue_and_the_others_go_on():
    async def main():
        batcher = queue(model := Ruler())
        first, second, third = [await ask(batcher, model, FULL, FULL, FULL) for _ in range(3)]
        second.cancel()
        await asyncio.wait([second])
        assert repr(batcher) == "<Batcher [6 texts, 768 tokens waiting | 0 batches running]>"
        lengths = await step(batcher) + await step(batcher)
        assert lengths == [FULL] * 6
        assert first.done()
        assert third.done()
        assert repr(batcher) == EMPTY

    asyncio.run(main())


def test_a_request_that_is_cancelled_while_its_batch_runs_leaves_the_rest_uncomputed():
    async def main():
        batcher = queue(model := Ruler())
        bulk = await ask(batcher, model, *[FULL] * 10)
        batch = take(batcher)
        assert repr(batcher) == "<Batcher [6 texts, 768 tokens waiting | 1 batches running]>"
        bulk.cancel()
        await asyncio.wait([bulk])
        assert repr(batcher) == "<Batcher [0 texts, 0 tokens waiting | 1 batches running]>"
        await finish(batcher, batch)
        assert take(batcher) is None
        assert repr(batcher) == EMPTY

    asyncio.run(main())


def test_texts_that_nobody_waits_for_are_not_kept_behind_a_batch_that_runs():
    async def main():
        batcher = queue(model := Ruler())
        await ask(batcher, model, FULL)
        take(batcher)
        await ask(batcher, model, 1)
        request = await ask(batcher, model, FULL)
        *_, waits = batcher._queue.by_model[model]
        request.cancel()
        await asyncio.wait([request])
        assert not len(waits.texts)

    asyncio.run(main())


class Story(Ruler):
    """A model that fails on every batch with a text of 13 tokens."""

    def run(self, texts, **_):
        if 13 in map(len, texts):
            raise ValueError(SECRET)
        return super().run(texts)


class Life:
    """What happens to a queue whose time stands still, one event after the other."""

    def __init__(self, clock):
        self.clock = clock
        self.model = Story()
        self.batcher = queue(self.model, seconds=3, texts=40)
        self.running = []
        self.requests = []  # lengths of texts, when it expires, the task

    async def submit(self, lengths):
        seconds = 1 + len(lengths) / 2
        request = await ask(self.batcher, self.model, *lengths, seconds=seconds)
        self.requests.append((lengths, self.clock.now + seconds, request))

    async def take(self, _=None):
        if batch := take(self.batcher):
            self.running.append(batch)

    async def finish(self, number=0):
        if self.running:
            await finish(self.batcher, self.running.pop(number % len(self.running)))

    async def cancel(self, number):
        if self.requests:
            self.requests[number % len(self.requests)][2].cancel()

    async def wait(self, seconds):
        self.clock.now += seconds / 3
        for _, expires, request in self.requests:
            if expires <= self.clock.now:
                request.cancel()  # as its caller does

    async def turn(self, _):
        await asyncio.sleep(0)

    async def end(self):
        """Run what waits, until there is no more."""
        await self.take()
        while self.running:
            await self.finish()
            await self.take()
        if self.requests:
            await asyncio.wait([request for *_, request in self.requests], timeout=30)


REQUESTS = st.lists(st.sampled_from([1, 8, 13, 100, 600]), min_size=1, max_size=6)
EVENTS = st.one_of(
    st.tuples(st.just("submit"), REQUESTS),
    st.tuples(st.sampled_from(["take", "finish", "cancel", "wait", "turn"]), st.integers(0, 9)),
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(EVENTS, max_size=40))
def test_whatever_happens_each_request_ends_once_and_nothing_stays_behind(clock, caplog, events):
    async def main():
        life = Life(clock)
        for event, what in events:
            await getattr(life, event)(what)
        await life.end()
        assert repr(life.batcher) == EMPTY
        for lengths, _, request in life.requests:
            assert request.done()
            if request.cancelled():
                continue
            if (error := request.exception()) is None:
                assert request.result().ravel().tolist() == lengths
            else:
                assert isinstance(error, Overloaded | TooLarge) or (
                    isinstance(error, EngineFailed) and 13 in lengths
                )

    with caplog.at_level(logging.CRITICAL):
        asyncio.run(main())


# A text that the engine fails on


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model with random weights."""
    values = config("bert")
    folder = write_model(tmp_path_factory.mktemp("small"), values)
    return Model.load(write_tokenizer(folder, values))


POISON = 299  # as the first id of a text


def poisoned(model, monkeypatch, raises):
    """Have *model* fail where a text begins with `POISON`; what it ran is counted."""
    real, runs = model.run, []

    def run(texts, **_):
        runs.append(len(texts))
        if any(text.ids[0] == POISON for text in texts):
            raise raises
        return real(texts)

    monkeypatch.setattr(model, "run", run)
    return runs


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), size=st.integers(1, 24))
def test_a_text_that_fails_fails_its_request_alone(small, data, size):
    where = data.draw(st.sets(st.integers(0, size - 1), min_size=1, max_size=3))
    random = np.random.default_rng(size)
    texts = [text(int(random.integers(2, 21)), first=7 + number) for number in range(size)]
    expected = small.run(texts)
    for number in where:
        texts[number].ids[0] = POISON

    async def main():
        batcher = queue(small)
        requests = [await ask(batcher, small, one) for one in texts]
        assert len(await step(batcher)) == size  # they were one batch
        for number, request in enumerate(requests):
            if number in where:
                assert isinstance(request.exception(), EngineFailed)
            else:
                np.testing.assert_allclose(request.result()[0], expected[number], atol=1e-5)
        assert repr(batcher) == EMPTY

    with pytest.MonkeyPatch.context() as patch:
        poisoned(small, patch, RuntimeError(SECRET))
        asyncio.run(main())


def test_finding_the_text_that_fails_takes_a_logarithm_of_runs(small, monkeypatch):
    runs = poisoned(small, monkeypatch, RuntimeError(SECRET))

    async def main():
        batcher = queue(small)
        runs.clear()
        requests = [await ask(batcher, small, text(4, POISON if n == 37 else n)) for n in range(64)]
        await step(batcher)
        assert [n for n, request in enumerate(requests) if request.exception()] == [37]

    asyncio.run(main())
    assert len(runs) == 1 + 2 * 6


def test_values_that_are_not_numbers_fail_their_request_alone(small, monkeypatch):
    real = small.runner.run

    def run(packed, **_):
        logits = real(packed)
        logits[packed.ids[packed.starts[:-1]] == POISON] = np.nan
        return logits

    monkeypatch.setattr(small.runner, "run", run)

    async def main():
        batcher = queue(small)
        requests = [await ask(batcher, small, text(9, first)) for first in (8, POISON, 9)]
        await step(batcher)
        assert isinstance(requests[1].exception(), BadModel)
        expected = small.run([text(9, 8), text(9, 9)])
        answers = np.concatenate([requests[0].result(), requests[2].result()])
        np.testing.assert_allclose(answers, expected, atol=1e-5)

    asyncio.run(main())


def test_what_an_exception_says_is_in_no_error_and_no_log(small, monkeypatch, caplog):
    poisoned(small, monkeypatch, RuntimeError(SECRET))

    async def main():
        batcher = queue(small)
        request = await ask(batcher, small, text(9, POISON))
        await step(batcher)
        assert str(request.exception()) == (
            "the engine failed on a text of 9 tokens (RuntimeError); leave that text out"
        )
        assert request.exception().__cause__ is None

    asyncio.run(main())
    assert caplog.messages == ["the engine failed on a text of 9 tokens: RuntimeError"]
    assert SECRET not in caplog.text


def test_a_request_ends_with_its_first_failure_and_its_other_texts_are_not_computed():
    async def main():
        batcher = queue(model := Story())
        bulk = await ask(batcher, model, FULL, 13, *[FULL] * 100)
        other = await ask(batcher, model, FULL)
        await step(batcher)
        assert isinstance(bulk.exception(), EngineFailed)
        assert other.done() or await step(batcher) == [FULL]
        assert repr(batcher) == EMPTY

    asyncio.run(main())


# The engine's threads


class Engine(Ruler):
    """A model whose batches wait until they are let through; texts of 13 tokens end the thread."""

    def __init__(self):
        self.may_run = threading.Event()
        self.may_run.set()
        self.running = threading.Event()
        self.runs = 0

    def run(self, texts, **_):
        self.runs += 1
        self.running.set()
        assert self.may_run.wait(30)
        if 13 in map(len, texts):
            raise SystemExit(SECRET)
        return super().run(texts)


def kill(thread):
    """Raise SystemExit in *thread* as soon as it executes Python."""
    reached = ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
    )
    assert reached == 1


def test_a_thread_that_ends_fails_what_it_had_and_another_goes_on(caplog):
    async def main():
        batcher = queue(model := Engine())
        requests = [await ask(batcher, model, length) for length in (5, 13, 6)]
        async with working(batcher):
            await asyncio.wait(requests)
            for request in requests:
                assert isinstance(request.exception(), EngineFailed)
                assert SECRET not in str(request.exception())
            assert (await (await ask(batcher, model, 7)))[0] == 7
            await until(batcher.is_alive)
            assert repr(batcher) == EMPTY

    asyncio.run(main())
    assert caplog.messages == ["an engine thread ended (SystemExit); starting another"]
    assert SECRET not in caplog.text


def test_the_server_is_well_again_after_every_thread_has_ended_several_times(caplog):
    async def main():
        batcher = queue(model := Engine(), streams=3)
        async with working(batcher):
            for _ in range(4):
                requests = [await ask(batcher, model, 13) for _ in range(9)]
                await asyncio.wait(requests)
                assert all(isinstance(r.exception(), EngineFailed) for r in requests)
            await until(lambda: batcher.is_alive() and len(batcher._threads) == 3)
            assert (await (await ask(batcher, model, *[100] * 30))).shape == (30, 1)

    with caplog.at_level(logging.CRITICAL + 1):
        asyncio.run(main())


def test_a_thread_that_is_killed_while_it_waits_is_replaced_by_one_that_takes_the_text(caplog):
    async def main():
        batcher = queue(model := Engine())
        async with working(batcher):
            assert (await (await ask(batcher, model, 5)))[0] == 5
            await until(lambda: batcher._changed._waiters)
            kill(batcher._threads[0])
            assert (await (await ask(batcher, model, 6)))[0] == 6
            await until(batcher.is_alive)
            assert repr(batcher) == EMPTY

    asyncio.run(main())
    assert caplog.messages == ["an engine thread ended (SystemExit); starting another"]


def test_a_thread_that_is_killed_while_a_batch_runs_fails_its_texts(caplog):
    async def main():
        batcher = queue(model := Engine())
        async with working(batcher):
            model.may_run.clear()
            model.running.clear()
            taken = await ask(batcher, model, 5)
            await until(model.running.is_set)
            waits = await ask(batcher, model, 6)
            kill(batcher._threads[0])
            model.may_run.set()
            await asyncio.wait([taken, waits])
            assert isinstance(taken.exception(), EngineFailed)
            assert waits.result()[0] == 6
            await until(batcher.is_alive)
            assert repr(batcher) == EMPTY

    asyncio.run(main())
    assert caplog.messages == ["an engine thread ended (SystemExit); starting another"]


def test_where_no_thread_can_be_started_any_more_the_batcher_says_so(monkeypatch):
    async def main():
        batcher = queue(model := Engine())
        batcher.start()
        threads = batcher._threads

        def start(_):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        monkeypatch.setattr(threading.Thread, "start", start)
        request = await ask(batcher, model, 13)
        await asyncio.wait([request])
        assert isinstance(request.exception(), EngineFailed)
        await until(lambda: not threads[0].is_alive())
        assert not batcher.is_alive()

    asyncio.run(main())


def test_a_batch_that_does_not_end_shows_until_it_does(clock):
    async def main():
        batcher = queue(model := Engine())
        async with working(batcher):
            assert batcher.is_alive()
            model.may_run.clear()
            model.running.clear()
            request = await ask(batcher, model, 5)
            await until(model.running.is_set)
            assert batcher.is_alive()
            clock.now += module.STUCK_SECONDS
            assert not batcher.is_alive()
            model.may_run.set()
            assert (await request)[0] == 5
            assert batcher.is_alive()

    asyncio.run(main())


def test_closing_runs_what_waits_and_ends_the_threads():
    async def main():
        batcher = queue(model := Engine(), streams=2)
        batcher.start()
        model.may_run.clear()
        requests = [await ask(batcher, model, FULL) for _ in range(40)]
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        assert not batcher.is_alive()
        model.may_run.set()
        await closing
        assert all([(await request)[0] == FULL for request in requests])
        assert not any(thread.is_alive() for thread in batcher._threads)

    asyncio.run(main())


def test_a_thread_survives_the_end_of_the_loop_that_its_answer_was_for(caplog):
    model = Engine()

    async def main():
        batcher = queue(model)
        batcher.start()
        model.may_run.clear()
        model.running.clear()
        await ask(batcher, model, 5)
        await until(model.running.is_set)
        return batcher

    batcher = asyncio.run(main())
    model.may_run.set()
    asyncio.run(batcher.close())
    assert not any(thread.is_alive() for thread in batcher._threads)
    assert repr(batcher) == EMPTY
    assert not caplog.messages


def test_what_is_cancelled_from_many_places_while_threads_work_leaves_nothing_behind():
    """No schedule of threads loses a text or counts one twice."""

    async def main():
        batcher = queue(model := Ruler(), streams=4)
        random, numbers = np.random.default_rng(5), count()

        async def caller():
            for _ in range(25):
                lengths = random.integers(1, 300, random.integers(1, 9)).tolist()
                request = await ask(batcher, model, *lengths)
                if next(numbers) % 3 == 0:
                    await asyncio.sleep(0)
                    request.cancel()
                    await asyncio.wait([request])
                else:
                    assert (await request).ravel().tolist() == lengths

        async with working(batcher):
            await asyncio.gather(*(caller() for _ in range(16)))
            await until(lambda: repr(batcher) == EMPTY)

    asyncio.run(main())
