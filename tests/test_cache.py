"""The cache, and that a text which several requests have is computed once."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from threading import Event
from weakref import ref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.engine.cpus import Streams
from labelwise.engine.onnx.backend import Cpu
from labelwise.engine.tokenizer.tokenizer import Encoded, Tokenization
from labelwise.errors import BadInput, EngineFailed, Overloaded
from labelwise.models.model import Model
from labelwise.serving.batcher import Batcher
from labelwise.serving.cache import Cache, Row, text_key, tokens_key
from labelwise.serving.catalogue import Entry
from labelwise.serving.inference import Inference
from padded import config, write_model, write_tokenizer
from serving import ask, within

ROW = 608  # bytes of a row with two labels


def row(number=0, labels=2):
    return Row(np.full(labels, number, np.float32), 3, 3)


def key(name):
    return name.encode().ljust(16)


def put(cache, name, value=None, ids=None):
    cache.put(key(name), key(ids or f"ids of {name}"), value or row())


# The cache alone


def test_what_was_used_last_stays():
    cache = Cache(3 * ROW)
    for name in "abc":
        put(cache, name)
    assert cache.get(key("a"))
    put(cache, "d")
    assert [name for name in "abcd" if cache.get(key(name))] == ["a", "c", "d"]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 2000)), max_size=60))
def test_the_bound_of_bytes_holds_whatever_comes(entries):
    cache = Cache(20_000)
    for number, labels in entries:
        put(cache, f"{number}", row(labels=labels))
        rows = list(cache._rows.values())
        assert cache._bytes == sum(600 + one.logits.nbytes for one in rows) <= 20_000


def test_what_is_larger_than_the_cache_is_not_kept():
    cache = Cache(1000)
    put(cache, "a", row(labels=200))
    assert len(cache) == 0
    assert cache.same(key("ids of a")) is None


def test_texts_with_equal_ids_share_one_row_for_as_long_as_one_of_them_is_known():
    cache = Cache(2 * ROW)
    shared = row()
    put(cache, "a", shared, "ids")
    put(cache, "b", shared, "ids")
    assert cache.get(key("a")) is cache.get(key("b")) is cache.same(key("ids"))
    del shared
    put(cache, "c")
    put(cache, "d")
    gc.collect()
    assert cache.same(key("ids")) is None


def test_a_key_is_of_the_model_the_text_its_pair_and_how_it_is_cut():
    keys = [
        text_key(f"{model} {Tokenization(truncation, direction, max_length)}", text)
        for model in ("a", "b")
        for text in ("x y", ("x", "y"), ("x y", ""), ("", "x y"), ("xy", ""), ("x", "y "), "")
        for truncation in ("longest_first", "only_first")
        for direction in (None, "left", "right")
        for max_length in (None, 1, 11)
    ]
    assert len(set(keys)) == len(keys)


def test_ids_are_the_same_only_with_the_same_types_length_and_model():
    ids, ones = np.array([1, 2]), np.array([0, 1])
    texts = [Encoded(ids, ids * 0, 2), Encoded(ids, ones, 2), Encoded(ids, ids * 0, 3)]
    keys = {tokens_key(model, text) for text in texts for model in ("a", "b")}
    assert len(keys) == 6


# With an engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("model")
    return write_tokenizer(write_model(made, config("bert")), config("bert"))


@pytest.fixture
def model(folder):
    """A model whose batches are counted, and wait where a test closes its gate."""
    from labelwise.models.locate import locate  # noqa: PLC0415

    loaded = Model(locate(folder))
    loaded.batches, loaded.gate, run = [], Event(), loaded.run
    loaded.gate.set()

    def counted(texts, **how):
        loaded.batches.append(len(texts))
        assert loaded.gate.wait(30)
        return run(texts, **how)

    loaded.run = counted
    return loaded


@asynccontextmanager
async def working(model, max_bytes=1_000_000):
    """An `Inference` of *model*, and its one entry."""
    batcher = Batcher(Cpu(Streams(1, 1)), max_texts=1000, max_seconds=1e6)
    batcher.add(model)
    model.batches.clear()
    inference = Inference(batcher, Cache(max_bytes) if max_bytes else None)
    batcher.start()
    try:
        yield inference, Entry("m", model, "sha")
    finally:
        model.gate.set()
        inference.close()
        await batcher.close()


async def turns():
    for _ in range(50):
        await asyncio.sleep(0.001)


def test_a_known_text_is_not_computed_again_and_has_the_same_logits(model):
    async def main():
        async with working(model) as (inference, entry):
            [first], known, *_ = await inference.rows(entry, ["w7 w8"], 10)
            assert not known
            [again], known, *_ = await inference.rows(entry, ["w7 w8"], 10)
            assert known
            assert again is first
            assert model.batches == [1]
            expected = model.logits(model.encode(["w7 w8"]))[0]
            assert again.logits == pytest.approx(expected, abs=1e-5)

    asyncio.run(main())


def test_only_what_is_not_known_is_computed_and_each_once(model):
    async def main():
        async with working(model) as (inference, entry):
            await inference.rows(entry, ["w11", "w12"], 10)
            texts = ["w13", "w11", "w13", "w14", "w12"]
            rows, known, *_ = await inference.rows(entry, texts, 10)
            assert not known
            assert model.batches == [2, 2]
            expected = model.logits(model.encode(texts))
            assert np.stack([one.logits for one in rows]) == pytest.approx(expected, abs=1e-5)

    asyncio.run(main())


def test_texts_that_the_model_reads_alike_are_run_once(model):
    async def main():
        async with working(model) as (inference, entry):
            [one], *_ = await inference.rows(entry, ["w7  w8"], 10)
            [other], *_ = await inference.rows(entry, ["w7 w8"], 10)
            assert one is other
            assert model.batches == [1]

    asyncio.run(main())


def test_a_fresh_answer_is_computed_and_so_is_all_without_a_cache(model):
    async def main():
        async with working(model) as (inference, entry):
            await inference.rows(entry, ["w7"], 10)
            _, known, *_ = await inference.rows(entry, ["w7"], 10, bypass_cache=True)
            assert not known
            assert model.batches == [1, 1]
        async with working(model, max_bytes=0) as (inference, entry):
            for _ in range(2):
                assert (await inference.rows(entry, ["w7"], 10))[1] is False
            assert model.batches == [1, 1]

    asyncio.run(main())


def test_requests_for_one_text_at_once_share_one_computation(model):
    async def main():
        async with working(model) as (inference, entry):
            model.gate.clear()
            asked = [asyncio.create_task(inference.rows(entry, ["w7"], 10)) for _ in range(9)]
            await turns()
            model.gate.set()
            answers = await asyncio.gather(*asked)
            assert model.batches == [1]
            assert len({id(rows[0]) for rows, *_ in answers}) == 1
            assert inference._flights == {}

    asyncio.run(main())


def test_who_leaves_takes_nobody_s_answer_along(model):
    async def main():
        async with working(model) as (inference, entry):
            model.gate.clear()
            first = asyncio.create_task(inference.rows(entry, ["w7", "w8"], 10))
            await turns()
            others = [asyncio.create_task(inference.rows(entry, ["w8"], 10)) for _ in range(3)]
            await turns()
            first.cancel()
            others[0].cancel()
            await turns()
            model.gate.set()
            answers = await asyncio.gather(*others[1:])
            assert model.batches == [2]
            assert answers[0][0][0] is answers[1][0][0]

    asyncio.run(main())


def test_what_nobody_waits_for_is_not_computed_and_can_be_asked_for_at_once(model):
    async def main():
        async with working(model) as (inference, entry):
            model.gate.clear()
            busy = asyncio.create_task(inference.rows(entry, ["w11"], 10))
            await turns()
            asked = [asyncio.create_task(inference.rows(entry, ["w7"], 10)) for _ in range(2)]
            await turns()
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
            again = asyncio.create_task(inference.rows(entry, ["w7"], 10))
            await turns()
            model.gate.set()
            await asyncio.gather(busy, again)
            assert model.batches == [1, 1]
            assert inference._flights == {}

    asyncio.run(main())


def test_a_failure_is_not_remembered_and_is_not_for_those_who_asked_for_other_texts(model):
    async def main():
        async with working(model) as (inference, entry):
            run, failing = model.run, [True]

            def poisoned(texts, **how):
                if failing and any(len(text) == 4 for text in texts):
                    model.gate.wait(30)
                    raise ValueError("w7 w8")
                return run(texts, **how)

            model.run = poisoned
            model.gate.clear()
            bad = asyncio.create_task(inference.rows(entry, ["w7 w8", "w9"], 10))
            await turns()
            good = asyncio.create_task(inference.rows(entry, ["w9"], 10))
            await turns()
            model.gate.set()
            with pytest.raises(EngineFailed):
                await bad
            assert len((await good)[0]) == 1
            failing.clear()
            assert len((await inference.rows(entry, ["w7 w8"], 10))[0]) == 1

    asyncio.run(main())


def test_a_refusal_is_for_him_who_cannot_wait_and_for_nobody_else(model):
    async def main():
        async with working(model) as (inference, entry):
            model.gate.clear()
            hasty = asyncio.create_task(inference.rows(entry, ["w7"], 0.0))
            patient = asyncio.create_task(inference.rows(entry, ["w7"], 60))
            await turns()
            model.gate.set()
            with pytest.raises(Overloaded):
                await hasty
            assert len((await patient)[0]) == 1

    asyncio.run(main())


def test_a_text_that_is_too_long_is_named_by_its_place_in_the_request(model):
    async def main():
        async with working(model) as (inference, entry):
            await inference.rows(entry, ["w11"], 10, tokenization=Tokenization("do_not_truncate"))
            texts = ["w11", "w11", "w12", "w13 " * 600]
            with pytest.raises(BadInput, match=r"^text 4 has 602 tokens"):
                await inference.rows(entry, texts, 10, tokenization=Tokenization("do_not_truncate"))

    asyncio.run(main())


class Followed(str):
    """A text of which a test can see that nobody holds it any more."""

    __slots__ = ("__weakref__",)


@pytest.mark.parametrize("max_bytes", [0, 10**6])
def test_a_text_is_let_go_as_soon_as_it_is_ids(model, max_bytes):
    async def main():
        async with working(model, max_bytes=max_bytes) as (inference, entry):
            model.gate.clear()
            texts = [Followed("w7 " * 300), Followed("w8")]
            held = [ref(text) for text in texts]
            rows = inference.rows(entry, texts, 10)
            texts = [Followed("w9")]
            asked = [asyncio.create_task(rows)]
            del rows
            asked.append(asyncio.create_task(inference.rows(entry, texts, 10)))
            await turns()
            assert inference._batcher.load().batches == 1
            assert [text() for text in held] == [None, None]
            model.gate.set()
            await asyncio.gather(*asked)

    asyncio.run(main())


# Over HTTP


def test_a_cached_answer_is_said_and_answers_other_parameters_too():
    with within() as live:
        kinds = []
        for body, headers in [
            ({"inputs": "A delight."}, {}),
            ({"inputs": "A delight."}, {}),
            ({"inputs": "A delight.", "parameters": {"top_k": 1}}, {}),
            ({"inputs": "A delight.", "parameters": {"function_to_apply": "none"}}, {}),
            ({"inputs": ["A delight.", "A delight."]}, {}),
            ({"inputs": ["A delight.", "New."]}, {}),
            ({"inputs": "A delight.", "parameters": {"max_length": 4}}, {}),
            ({"inputs": "A delight."}, {"x-use-cache": "false"}),
            ({"inputs": "A delight.", "options": {"use_cache": False}}, {}),
            ({"inputs": "A delight.", "options": {"use_cache": True}}, {"x-use-cache": "true"}),
        ]:
            answer = ask(live.url, body, headers=headers)
            assert answer.status == 200
            kinds.append(answer.headers["x-compute-type"])
        assert kinds == ["cpu", *["cache"] * 4, "cpu", "cpu", "cpu", "cpu", "cache"]


def test_a_cached_answer_has_the_headers_and_warnings_of_a_new_one():
    with within() as live:
        new, known = (ask(live.url, {"inputs": "very " * 600}) for _ in range(2))
        for name in ("x-hf-warning", "x-compute-tokens", "x-compute-characters", "x-sha"):
            assert new.headers[name] == known.headers[name]
        assert new.body == known.body
        assert known.headers["x-compute-type"] == "cache"


def test_a_cache_of_no_bytes_is_none():
    with within(cache_bytes=0) as live:
        for _ in range(2):
            assert ask(live.url, b"A delight.").headers["x-compute-type"] == "cpu"
