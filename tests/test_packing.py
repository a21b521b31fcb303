"""Packing loses nothing, keeps order, and respects its budget."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labelwise.engine.packing import pack, positions, split
from labelwise.engine.tokenizer.tokenizer import Encoded

lengths_of_texts = st.lists(st.integers(1, 600), max_size=60)


def encoded(*ids):
    return Encoded(np.array(ids, np.int64), np.zeros(len(ids), np.int64), len(ids))


def test_texts_lie_end_to_end_with_nothing_between_them():
    packed = pack([encoded(5, 6, 7), encoded(8), encoded(9, 5)])
    assert packed.ids.tolist() == [5, 6, 7, 8, 9, 5]
    assert packed.starts.tolist() == [0, 3, 4, 6]
    assert len(packed) == 3


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=30), min_size=1, max_size=20))
def test_every_text_is_found_again_where_the_starts_say(texts):
    packed = pack([encoded(*ids) for ids in texts])
    pairs = zip(packed.starts, packed.starts[1:], strict=False)
    assert [packed.ids[start:stop].tolist() for start, stop in pairs] == texts


@given(lengths_of_texts, st.integers(1, 1000), st.integers(1, 8))
def test_batches_hold_every_text_once_and_in_order(lengths, max_tokens, streams):
    numbers = list(range(len(lengths)))
    assert [n for batch in split(lengths, max_tokens, streams) for n in numbers[batch]] == numbers


@given(lengths_of_texts, st.integers(1, 1000), st.integers(1, 8))
def test_a_batch_keeps_to_its_ids_unless_it_is_one_text(lengths, max_tokens, streams):
    for batch in split(lengths, max_tokens, streams):
        held = lengths[batch]
        assert len(held) == 1 or sum(held) <= max_tokens


@given(lengths_of_texts, st.integers(1, 1000), st.integers(1, 8))
def test_two_batches_in_a_row_would_not_fit_into_one(lengths, max_tokens, streams):
    share = min(max_tokens, -(-sum(lengths) // streams))
    batches = split(lengths, max_tokens, streams)
    for batch, following in itertools.pairwise(batches):
        assert sum(lengths[batch]) + lengths[following.start] > share


def test_every_stream_gets_work_where_there_is_enough():
    assert split([10] * 8, 1000, 2) == [slice(0, 4), slice(4, 8)]
    assert split([10], 1000, 2) == [slice(0, 1)]
    assert split([], 1000, 2) == []


def test_positions_count_from_zero_in_each_text():
    packed = pack([encoded(7, 7, 7), encoded(7), encoded(7, 7)])
    assert positions(packed, None).tolist() == [0, 1, 2, 0, 0, 1]


def test_positions_of_the_roberta_family_count_from_the_padding_id_and_pass_over_it():
    packed = pack([encoded(0, 5, 1, 9), encoded(1, 1, 4), encoded(8)])
    assert positions(packed, 1).tolist() == [2, 3, 1, 4, 1, 1, 2, 2]
