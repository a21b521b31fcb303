"""The parameters of a classification, as people who come from transformers give them."""

from __future__ import annotations

from enum import StrEnum
from math import inf, nan

import numpy as np
import pytest

from labelwise import Classifier
from labelwise.errors import BadInput
from labelwise.models.parameters import (
    TRUNCATIONS,
    read_function,
    read_max_length,
    read_top_k,
    read_truncation,
)
from padded import config, write_model, write_tokenizer


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    """A small model of three classes that reads 20 tokens."""
    folder, values = tmp_path_factory.mktemp("small"), config("bert")
    return Classifier(write_tokenizer(write_model(folder, values), values, 20))


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True, inf, nan, np.float64(1.5)])
@pytest.mark.parametrize(("read", "name"), [(read_top_k, "top_k"), (read_max_length, "max_length")])
def test_numbers_are_whole_and_from_one(read, name, value):
    with pytest.raises(BadInput, match=name):
        read(value)


@pytest.mark.parametrize("value", [2, 2.0, np.int64(2), np.float64(2)])
@pytest.mark.parametrize("read", [read_top_k, read_max_length])
def test_a_whole_number_may_have_another_type(read, value):
    assert read(value) == 2


@pytest.mark.parametrize("name", ["default", "relu", "", 3, True])
def test_an_unknown_function_is_answered_with_the_three(name):
    with pytest.raises(BadInput, match="softmax, sigmoid, none"):
        read_function(name)


def test_a_function_may_be_written_in_any_case():
    assert read_function("Softmax") == "softmax"
    assert read_function("NONE") == "none"
    assert read_function(None) is None


class Strategy(StrEnum):
    """Such as transformers has it."""

    ONLY_FIRST = "only_first"


@pytest.mark.parametrize(
    ("value", "truncation"),
    [
        *zip(TRUNCATIONS, TRUNCATIONS, strict=True),
        (None, "longest_first"),
        (True, "longest_first"),
        (False, "do_not_truncate"),
        (Strategy.ONLY_FIRST, "only_first"),
    ],
)
def test_a_truncation_is_a_name_or_whether(value, truncation):
    assert read_truncation(value) == truncation
    assert type(read_truncation(value)) is str


@pytest.mark.parametrize("value", ["longest", "", 1, 0, ["only_first"]])
def test_an_unknown_truncation_is_answered_with_all(value):
    with pytest.raises(BadInput, match=f"{', '.join(TRUNCATIONS)}"):
        read_truncation(value)


def test_truncation_and_max_length_cut_as_they_do_over_http(classify):
    long = "w9 " * 30
    assert classify(long, truncation=True) == classify(long) == classify("w9 " * 18)
    assert classify(long, max_length=7) == classify("w9 " * 5)
    assert classify(long, max_length=7).truncated
    assert classify(long, max_length=1) == classify(long, max_length=classify.model.tokenizer.least)
    second = classify(("w7 w8", long), truncation="only_second", max_length=9)
    assert second == classify(("w7 w8", "w9 " * 4))
    for truncation in (False, "do_not_truncate", "only_second"):
        with pytest.raises(BadInput, match="text 2 has 32 tokens, more than the 20"):
            classify(["w9", long], truncation=truncation)


@pytest.mark.parametrize(
    "options",
    [{"padding": padding} for padding in (None, True, False, "longest", "max_length", "do_not_pad")]
    + [{"batch_size": size} for size in (None, 1, 64)]
    + [{"return_all_scores": value} for value in (None, True)]
    + [{"padding": True, "truncation": True, "max_length": 512, "batch_size": 8}],
    ids=str,
)
def test_what_changes_no_score_is_accepted(options, classify):
    texts = ["w7 w8", "w9"]
    assert classify(texts, **options) == classify(texts)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"padding": "right"}, "nothing is ever padded"),
        ({"padding": 8}, "nothing is ever padded"),
        ({"batch_size": 0}, "the engine makes its batches itself"),
        ({"return_all_scores": False}, "use top_k=1"),
        ({"return_all_scores": True, "top_k": 2}, "use top_k=1"),
        ({"top_K": 1}, "no option 'top_K'; there are top_k, function_to_apply, truncation"),
        ({"stride": 8}, "no option 'stride'"),
        ({"num_workers": 2}, "no option 'num_workers'"),
    ],
    ids=str,
)
@pytest.mark.parametrize("inputs", ["w9", ["w9"], (text for text in ["w9"])], ids=type)
def test_other_options_are_refused_at_once(inputs, options, says, classify):
    with pytest.raises(BadInput, match=says) as caught:
        classify(inputs, **options)
    assert len(str(caught.value).splitlines()) == 1


class Device:
    """Such as torch has it: its name is its text."""

    def __init__(self, name):
        self.name = name

    def __str__(self):
        return self.name


@pytest.mark.parametrize("device", [None, "cpu", -1, "cpu:0", Device("cpu")], ids=str)
def test_the_processor_is_a_device_by_all_its_names(device):
    assert Classifier(device=device)("good")[0].label == "POSITIVE"


@pytest.mark.parametrize("device", [0, "cuda", "cuda:0", "mps", "auto", Device("cuda:1")], ids=str)
def test_there_is_no_other_device(device):
    with pytest.raises(BadInput, match=rf"no device '{device}' here: .* leave device out"):
        Classifier(device=device)
