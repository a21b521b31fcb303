"""All that holds texts may be given to a classifier; what holds none is refused in one line."""

from __future__ import annotations

import io
import tracemalloc
from collections import UserDict, deque
from itertools import count, islice
from typing import NamedTuple

import numpy as np
import pytest

from labelwise import Classifier
from labelwise.classifier import TEXTS_AT_ONCE
from labelwise.errors import BadInput
from labelwise.inputs import read_inputs
from padded import config, write_model, write_tokenizer

TEXTS = ["w7 w8", "w9", "w10 w11 w12"]


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    """A small model of three classes that reads 20 tokens."""
    folder, values = tmp_path_factory.mktemp("small"), config("bert")
    return Classifier(write_tokenizer(write_model(folder, values), values, 20))


class Two(NamedTuple):
    """A pair by name."""

    premise: str
    hypothesis: str


class Items:
    """A data set as torch has them: a length, and items by number."""

    def __len__(self):
        return len(TEXTS)

    def __getitem__(self, number):
        return TEXTS[number]


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"text": "a"}, "a"),
        ({"text": "a", "text_pair": None}, "a"),
        ({"text": "a", "text_pair": "b"}, ("a", "b")),
        ({"text_pair": "b", "text": "a"}, ("a", "b")),
        (UserDict(text="a"), "a"),
        (("a", "b"), ("a", "b")),
        (Two("a", "b"), ("a", "b")),
        (np.array("a"), "a"),
        (np.array("a", object), "a"),
        (np.str_("a"), "a"),
        ((np.str_("a"), np.array("b")), ("a", "b")),
    ],
)
def test_a_text_may_be_written_in_several_ways(given, text):
    assert read_inputs(given) == text
    assert read_inputs([given, "c"]) == [text, "c"]
    assert list(read_inputs(each for each in [given, "c"])) == [text, "c"]


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        deque(TEXTS),
        dict.fromkeys(TEXTS).keys(),
        dict(enumerate(TEXTS)).values(),
        np.array(TEXTS),
        np.array(TEXTS, object),
        Items(),
    ],
    ids=type,
)
def test_what_has_a_length_gets_a_list_in_its_order(given, classify):
    found = classify(given)
    assert isinstance(found, list)
    assert found == classify(TEXTS)


def test_a_set_gets_a_list_in_the_order_in_which_it_gives_its_texts(classify):
    given = set(TEXTS)
    assert classify(given) == classify(list(given))


@pytest.mark.parametrize(
    "given", [iter(TEXTS), (text for text in TEXTS), map(str, TEXTS), islice(TEXTS, 9)], ids=type
)
def test_what_has_no_length_gets_an_iterator(given, classify):
    found = classify(given)
    assert iter(found) is found
    assert list(found) == classify(TEXTS)


@pytest.mark.parametrize("nothing", [[], set(), np.array([], str), iter([])], ids=type)
def test_nothing_gets_nothing(nothing, classify):
    assert list(classify(nothing)) == []


def test_pairs_may_come_from_two_columns(classify):
    first, second = np.array(["w7", "w8"]), np.array(["w9", "w10"])
    assert list(classify(zip(first, second, strict=True))) == classify(
        [("w7", "w9"), ("w8", "w10")]
    )


def test_texts_without_end_are_read_as_their_scores_are_taken(classify):
    taken = []

    def texts():
        for number in count():
            taken.append(number)
            yield f"w{5 + number % 200}"

    found = classify(texts())
    assert taken == []
    assert [score.label for score in next(found)] == [score.label for score in classify("w5")]
    assert len(taken) == TEXTS_AT_ONCE
    assert len(list(islice(found, 3 * TEXTS_AT_ONCE))) == 3 * TEXTS_AT_ONCE
    assert len(taken) == 4 * TEXTS_AT_ONCE


def test_an_iterator_keeps_no_score_that_was_taken(classify):
    found = classify("w7 w8 w9" for _ in count())
    assert len(list(islice(found, 2 * TEXTS_AT_ONCE))) == 2 * TEXTS_AT_ONCE
    tracemalloc.start()
    try:
        for _ in islice(found, 10 * TEXTS_AT_ONCE):
            pass
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    a_piece = TEXTS_AT_ONCE * 2000
    assert kept < 2 * a_piece


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "this is NoneType"),
        (5, "this is int"),
        (0.5, "this is float"),
        (np.array(5), "this is int"),
        (b"good", "this is bytes: decode it"),
        (bytearray(b"good"), "this is bytearray: decode it"),
        (memoryview(b"good"), "this is memoryview: decode it"),
        (io.StringIO("good"), "this is an open file: give its lines"),
        (io.BytesIO(b"good"), "this is an open file: give its lines"),
        (np.array([["a", "b"]]), "this is a table, ndarray: give one column"),
        ({"inputs": "a"}, "text 1 is a dict with other keys"),
        ({"text": "a", "label": 1}, "text 1 is a dict with other keys"),
        ({"text_pair": "a"}, "text 1 is a dict with other keys"),
        ({"text": ["a"]}, "text 1: 'text' must be a string, not list"),
        ({"text": None}, "text 1: 'text' must be a string, not NoneType"),
        ({"text": "a", "text_pair": 5}, "text 1 must be a string or a pair of strings, not int"),
        (("a",), "text 1 is a tuple of 1; a tuple is a pair"),
        (("a", "b", "c"), "text 1 is a tuple of 3; a tuple is a pair"),
        (("a", None), "text 1 must be a string or a pair of strings, not NoneType"),
    ],
)
def test_what_is_no_text_and_holds_none_is_refused(given, says, classify):
    with pytest.raises(BadInput, match=says) as caught:
        classify(given)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (None, "is missing, None; leave it out"),
        (float("nan"), "is missing, nan; leave it out"),
        (np.float64("nan"), r"is missing, .*nan.*; leave it out"),
        (5, "must be a string or a pair of strings, not int"),
        (b"b", "must be a string or a pair of strings, not bytes"),
        (["a", "b"], "is a list; a pair is a tuple of two strings"),
        ([["a", "b"]], "is a list; a pair is a tuple of two strings"),
        (("a", "b", "c"), "is a tuple of 3"),
        ({"premise": "a"}, "is a dict with other keys"),
        ("\ud800", "is not valid Unicode"),
    ],
)
@pytest.mark.parametrize("before", [1, TEXTS_AT_ONCE + 1])
def test_what_is_no_text_among_others_is_named_by_its_number(before, item, says, classify):
    texts = ["w9"] * before + [item, "w9"]
    for given in (texts, iter(texts)):
        with pytest.raises(BadInput, match=f"^text {before + 1} {says}"):
            list(classify(given))


def test_scores_before_a_mistake_of_an_iterator_are_given(classify):
    found = classify(iter(["w9"] * TEXTS_AT_ONCE + [None]))
    assert len(list(islice(found, TEXTS_AT_ONCE))) == TEXTS_AT_ONCE
    with pytest.raises(BadInput, match=f"text {TEXTS_AT_ONCE + 1} is missing"):
        next(found)
