"""Scores are those of transformers' text-classification pipeline."""

from __future__ import annotations

import copy
import json
import pickle
import tracemalloc
from time import perf_counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from labelwise.classifier import Scores
from labelwise.errors import BadInput, BadModel
from labelwise.models import scores as scores_module
from labelwise.models.scores import (
    FUNCTIONS,
    Score,
    answers,
    apply,
    default_function,
    rank,
)

finite = st.floats(-1e4, 1e4, width=32)
logits = st.integers(1, 30).flatmap(lambda size: arrays(np.float32, size, elements=finite))


@pytest.mark.parametrize(
    ("problem_type", "labels", "function"),
    [
        ("regression", 1, "none"),
        ("regression", 3, "none"),
        ("multi_label_classification", 28, "sigmoid"),
        ("multi_label_classification", 2, "sigmoid"),
        ("single_label_classification", 2, "softmax"),
        ("single_label_classification", 1, "sigmoid"),
        (None, 1, "sigmoid"),
        (None, 2, "softmax"),
    ],
)
def test_the_function_follows_from_the_problem(problem_type, labels, function):
    assert default_function(problem_type, labels) == function


@given(logits)
def test_softmax_sums_to_one_for_any_finite_logits(values):
    scores = apply("softmax", values)
    assert scores.dtype == np.float32
    assert scores.sum() == pytest.approx(1, abs=1e-5)
    assert (scores >= 0).all()


@pytest.mark.parametrize("function", FUNCTIONS)
@given(values=logits)
def test_no_function_gives_nan_and_all_keep_the_order(function, values):
    scores = apply(function, values)
    assert np.isfinite(scores).all()
    order = np.argsort(values, kind="stable")
    assert (np.diff(scores[order]) >= 0).all()


def test_logits_of_the_largest_size_stay_finite():
    values = np.array([-3.4e38, 3.4e38], np.float32)
    assert apply("softmax", values).tolist() == [0, 1]
    assert apply("sigmoid", values).tolist() == [0, 1]


@given(logits, st.data())
def test_a_class_that_is_ruled_out_scores_0_and_the_others_as_without_it(values, data):
    out = data.draw(arrays(np.bool_, len(values)).filter(lambda out: not out.all()))
    ruled = np.where(out, -np.inf, values)
    for function in ("softmax", "sigmoid"):
        scores = apply(function, ruled)
        assert (scores[out] == 0).all()
        assert scores[~out] == pytest.approx(apply(function, values[~out]), abs=1e-6)


def test_minus_infinity_without_a_function_is_the_callers_mistake():
    values = np.array([[1, 2, 3], [1, -np.inf, 3]], np.float32)
    with pytest.raises(BadInput, match=r"score of class 1 is -inf, .* use softmax or sigmoid"):
        apply("none", values)


def test_there_is_nothing_to_divide_where_all_classes_are_ruled_out():
    values = np.array([[1, 2], [-np.inf, -np.inf]], np.float32)
    with pytest.raises(BadModel, match="rules out every class"):
        apply("softmax", values)
    assert apply("sigmoid", values)[1].tolist() == [0, 0]


def test_known_values():
    values = np.array([[1.0, 2.0, 3.0]], np.float32)
    softmax = [0.09003057, 0.24472848, 0.66524094]
    assert apply("softmax", values)[0] == pytest.approx(softmax, abs=1e-7)
    sigmoid = [0.73105858, 0.88079708, 0.95257413]
    assert apply("sigmoid", values)[0] == pytest.approx(sigmoid, abs=1e-7)
    assert apply("none", values)[0].tolist() == [1, 2, 3]


def test_the_best_comes_first_and_ties_keep_class_order():
    scores = np.array([0.25, 0.5, 0.25], np.float32)
    assert rank(scores, "abc") == [Score("b", 0.5), Score("a", 0.25), Score("c", 0.25)]
    assert rank(scores, "abc", 2) == [Score("b", 0.5), Score("a", 0.25)]
    assert len(rank(scores, "abc", 99)) == 3


def test_a_score_is_the_dictionary_of_the_pipeline_and_an_object():
    score = Score("good", 0.5)
    assert (score.label, score.score) == (score["label"], score["score"]) == ("good", 0.5)
    assert score == Score("good", 0.5) == {"label": "good", "score": 0.5}
    assert score != Score("bad", 0.5)
    assert repr(score) == "{'label': 'good', 'score': 0.5}"
    assert dict(score) == {**score} == score


@pytest.mark.parametrize("name", ["label", "score", "text"])
def test_a_score_takes_new_keys_and_no_new_attributes(name):
    score = Score("good", 0.5)
    with pytest.raises(AttributeError):
        setattr(score, name, "x")
    assert (score | {name: "x"})[name] == "x"


@pytest.mark.parametrize("encode", [json.dumps, lambda value: msgspec.json.encode(value).decode()])
def test_scores_are_json_as_they_are(encode):
    scores = rank(np.array([0.25, 0.5], np.float32), "ab")
    assert json.loads(encode([scores])) == [
        [{"label": "b", "score": 0.5}, {"label": "a", "score": 0.25}]
    ]


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))],  # noqa: S301 - its own
)
@pytest.mark.parametrize(
    "original",
    [Score("good", 0.5), Scores([Score("good", 0.5)], length=3, truncated=True)],
    ids=["a label", "a text"],
)
def test_a_copy_is_the_same(copied, original):
    found = copied(original)
    assert (type(found), found) == (type(original), original)
    for name in type(original).__slots__:
        assert getattr(found, name) == getattr(original, name)


@given(logits, st.integers(1, 40))
def test_ranking_gives_the_first_of_the_sorted_scores(values, top_k):
    ranked = rank(values, [str(number) for number in range(len(values))], top_k)
    numbers = range(len(values))
    best = sorted(numbers, key=lambda number: -values[number])[:top_k]  # sorted is stable
    assert [score.label for score in ranked] == [str(number) for number in best]


@given(
    st.lists(st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 2.0]), min_size=120, max_size=200),
    st.none() | st.integers(1, 210),
)
def test_many_labels_are_ranked_as_few(values, top_k):
    scores, labels = np.array(values, np.float32), [str(number) for number in range(len(values))]
    many = rank(scores, labels, top_k)
    best = sorted(range(len(values)), key=lambda number: -values[number])[:top_k]
    assert [(one.label, one.score) for one in many] == [
        (str(number), values[number]) for number in best
    ]


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_scores_are_the_same_however_many_texts_are_ranked_at_once(function, monkeypatch):
    rows = list(np.random.default_rng(7).normal(size=(30, 12)).astype(np.float32))
    labels = [str(number) for number in range(12)]
    whole = answers(rows, function, labels, None)
    for size in (1, 12, 36, 100):
        monkeypatch.setattr(scores_module, "_LOGITS_AT_ONCE", size)
        assert answers(rows, function, labels, None) == whole


@pytest.mark.parametrize(("texts", "count", "top_k"), [(1_024, 4_271, 97), (100, 100_000, 5)])
def test_the_largest_answers_take_less_than_40_megabytes(texts, count, top_k):
    rows = [np.random.default_rng(3).random(count).astype(np.float32)] * texts
    labels = [str(number) for number in range(count)]
    tracemalloc.start()
    try:
        assert len(answers(rows, "softmax", labels, top_k)) == texts
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_the_best_few_of_very_many_labels_take_a_moment():
    scores = np.random.default_rng(5).random(1_000_000).astype(np.float32)
    labels = [""] * len(scores)
    started = perf_counter()
    assert len(rank(scores, labels, 5)) == 5
    assert perf_counter() - started < 0.3  # a sort of all takes seconds
