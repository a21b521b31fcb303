"""The table of calls in docs/coming-from-transformers.md is what both give."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from labelwise import Classifier
from labelwise.errors import BadInput
from labelwise.models.locate import locate

PAGE = (Path(__file__).parents[1] / "docs/coming-from-transformers.md").read_text("utf-8")
TABLE = PAGE.split("<!-- calls -->")[1].split("<!-- end of calls -->")[0]
CALLS = re.findall(r"^\| `(.+)` \| (.+) \| (.+) \|$", TABLE, re.MULTILINE)


@pytest.fixture(scope="module")
def ours():
    """The embedded model, which has two labels."""
    return Classifier()


@pytest.fixture(scope="module")
def theirs():
    """The same in the pipeline of transformers, computed in float32 as well."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = str(locate().folder)
    return transformers.pipeline("text-classification", folder, device="cpu", dtype="float32")


def answer(call, classify):
    """What *call* gives; of an error its class."""
    try:
        found = eval(call, {"classify": classify, "numpy": np})  # noqa: S307 - our own page
    except Exception as reason:  # noqa: BLE001 - whatever the page says
        return type(reason)
    return found


def shape(found):
    """An answer as the table writes it: s is a score."""
    if isinstance(found, type):
        return found.__name__
    if isinstance(found, dict):
        assert list(found) == ["label", "score"]
        return "s"
    if isinstance(found, list):
        return f"[{', '.join(map(shape, found))}]"
    return f"iterator of {shape(next(iter(found)))}"


def shown(cell):
    """A cell of the table, without what it adds in words."""
    return re.sub("`(.*)`.*", r"\1", cell)


def test_the_table_is_there():
    assert len(CALLS) > 20
    assert len(CALLS) == TABLE.count("| `classify(")


@pytest.mark.parametrize(("call", "_", "given"), CALLS)
def test_our_answers_are_those_of_the_page(call, _, given, ours):
    assert shape(answer(call, ours)) == shown(given)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("call", "given", "_"), CALLS)
def test_the_answers_of_the_pipeline_are_those_of_the_page(call, given, _, theirs):
    assert shape(answer(call, theirs)) == shown(given)


def numbers(found):
    """All labels and scores in *found*, in order."""
    if isinstance(found, dict):
        return [found["label"], pytest.approx(found["score"], abs=1e-5)]
    return [number for part in found for number in numbers(part)]


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", [call for call, one, other in CALLS if one == other != "BadInput"])
def test_where_the_shapes_are_the_same_the_scores_are(call, ours, theirs):
    assert numbers(answer(call, ours)) == numbers(answer(call, theirs))


@pytest.mark.parity
def test_a_tuple_is_its_first_text_in_the_pipeline_and_a_pair_here(ours, theirs):
    texts = ("It is good", "It is bad")
    assert numbers(theirs(texts)) == numbers(theirs(texts[0]))
    pair = {"text": texts[0], "text_pair": texts[1]}
    assert numbers(ours(texts)) == numbers(theirs(pair, top_k=None))


@pytest.mark.parity
def test_the_pipeline_computes_in_the_type_of_the_weights_unless_it_is_told(theirs):
    transformers = pytest.importorskip("transformers")
    untold = transformers.pipeline("text-classification", str(locate().folder), device="cpu")
    assert str(untold.model.dtype) == "torch.float16"
    assert str(theirs.model.dtype) == "torch.float32"


@pytest.mark.parity
@pytest.mark.parametrize(
    "options",
    [
        {"truncation": True},
        {"truncation": "longest_first", "max_length": 20},
        {"truncation": "only_first", "max_length": 20},
        {"truncation": "only_second", "max_length": 20},
        {"truncation": True, "padding": True, "max_length": 20},
        {"truncation": True, "padding": "max_length", "max_length": 64},
        {"truncation": True, "function_to_apply": "SIGMOID"},
        {"truncation": True, "function_to_apply": "none", "top_k": 1},
        {"truncation": True, "batch_size": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("lengths", [(12, 900), (900, 12), (8, 7)], ids=str)
def test_options_mean_what_they_mean_in_the_pipeline(options, lengths, ours, theirs):
    words = ["the", "film", "was", "a", "delight", "and", "not", "a", "waste"]
    first, second = (" ".join((words * 100)[:length]) for length in lengths)
    inputs = [{"text": first, "text_pair": second}] * 2
    options = {"top_k": None} | options
    try:
        expected = numbers(theirs(inputs, **options))
    except Exception:  # noqa: BLE001 - to cut one text is not enough: what it raises varies
        with pytest.raises(BadInput, match="use 'longest_first'"):
            ours(inputs, **options)
    else:
        assert numbers(ours(inputs, **options)) == expected
