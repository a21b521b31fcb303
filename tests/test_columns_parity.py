"""Columns of pandas, polars, pyarrow and datasets, as they are, in and out."""

from __future__ import annotations

import re

import numpy as np
import pytest

from labelwise import Classifier
from labelwise.errors import BadInput
from padded import config, write_model, write_tokenizer

pytestmark = pytest.mark.parity
pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")
datasets = pytest.importorskip("datasets")

TEXTS = ["w7 w8", "w9", "w10 w11 w12"]


@pytest.fixture(scope="module")
def classify(tmp_path_factory):
    """A small model of three classes."""
    folder, values = tmp_path_factory.mktemp("small"), config("bert")
    return Classifier(write_tokenizer(write_model(folder, values), values))


def dataset(**columns):
    return datasets.Dataset.from_dict(columns)


@pytest.mark.parametrize(
    "column",
    [
        pandas.Series(TEXTS),
        pandas.Series(TEXTS, index=[7, 7, 0]),
        pandas.Series(TEXTS, dtype=object),
        pandas.Series(TEXTS, dtype="string"),
        pandas.Series(TEXTS, dtype="category"),
        pandas.Series(TEXTS).to_numpy(),
        pandas.Index(TEXTS),
        polars.Series(TEXTS),
        polars.Series(TEXTS, dtype=polars.Categorical),
        pyarrow.array(TEXTS),
        pyarrow.array(TEXTS, pyarrow.large_string()),
        pyarrow.array(TEXTS).dictionary_encode(),
        pyarrow.chunked_array([TEXTS[:1], TEXTS[1:]]),
        dataset(text=TEXTS)["text"],
        dataset(text=TEXTS)[:]["text"],
        dataset(text=TEXTS).with_format("numpy")["text"],
    ],
    ids=lambda column: f"{type(column).__module__}.{type(column).__name__}",
)
def test_a_column_is_its_texts(column, classify):
    assert classify(column) == classify(TEXTS)


def test_a_scalar_of_a_column_is_a_text(classify):
    assert classify(pyarrow.scalar("w9")) == classify("w9")
    assert classify(pandas.Series(TEXTS)[1]) == classify("w9")


def test_a_column_that_streams_gets_an_iterator(classify):
    found = classify(dataset(text=TEXTS).to_iterable_dataset()["text"])
    assert iter(found) is found
    assert list(found) == classify(TEXTS)


def test_pairs_come_from_two_columns_or_from_rows(classify):
    pairs = [("w7", "w9"), ("w8", "w10")]
    rows = [{"text": first, "text_pair": second} for first, second in pairs]
    expected = classify(pairs)
    for frame in (pandas.DataFrame(rows), polars.DataFrame(rows)):
        assert list(classify(zip(frame["text"], frame["text_pair"], strict=True))) == expected
    assert classify(pandas.DataFrame(rows).to_dict("records")) == expected
    assert classify(polars.DataFrame(rows).to_dicts()) == expected
    assert classify(pyarrow.array(rows)) == expected
    assert list(classify(dataset(text=["w7"], text_pair=["w9"]).to_iterable_dataset())) == [
        classify(("w7", "w9"))
    ]


@pytest.mark.parametrize(
    ("column", "number", "value"),
    [
        (pandas.Series([*TEXTS, np.nan]), 4, "nan"),
        (pandas.Series([None, *TEXTS], dtype=object), 1, "None"),
        (pandas.Series([*TEXTS, None, "a"], dtype="string"), 4, "<NA>"),
        (pandas.Series(["a", pandas.NaT], dtype=object), 2, "NaT"),
        (polars.Series(["a", None]), 2, "None"),
        (pyarrow.array(["a", None]), 2, "None"),
        (dataset(text=["a", None])["text"], 2, "None"),
    ],
    ids=str,
)
def test_a_missing_text_is_refused_by_its_number(column, number, value, classify):
    with pytest.raises(BadInput, match=rf"^text {number} is missing, {re.escape(value)}; leave"):
        classify(column)


@pytest.mark.parametrize(
    "table",
    [
        pandas.DataFrame({"text": TEXTS}),
        polars.DataFrame({"text": TEXTS}),
        pyarrow.table({"text": TEXTS}),
        dataset(text=TEXTS),
    ],
    ids=lambda table: f"{type(table).__module__}.{type(table).__name__}",
)
def test_a_table_is_refused_and_not_read_by_the_names_of_its_columns(table, classify):
    with pytest.raises(BadInput, match=r"this is a table, .*: give one column of it"):
        classify(table)


def test_a_frame_that_is_not_read_yet_is_refused(classify):
    with pytest.raises(BadInput, match="this is LazyFrame"):
        classify(polars.LazyFrame({"text": TEXTS}))


def test_scores_become_rows_of_a_frame(classify):
    results = classify(TEXTS)
    best = [scores[0] for scores in results]
    for frame in (pandas.DataFrame(best), polars.DataFrame(best)):
        assert list(frame.columns) == ["label", "score"]
        assert list(frame["label"]) == [score.label for score in best]
        assert list(frame["score"]) == [score.score for score in best]
    assert list(pandas.DataFrame(results[0])["label"]) == [score.label for score in results[0]]
    assert pandas.DataFrame(results).shape == (3, 3)
    table = pyarrow.Table.from_pylist(best)
    assert table.column("label").to_pylist() == [score.label for score in best]


def test_scores_become_columns_of_a_data_set(classify):
    def best(batch):
        return {"best": [scores[0] for scores in classify(batch["text"])]}

    rows = dataset(text=TEXTS).map(best, batched=True)
    assert rows["best"][:] == [scores[0] for scores in classify(TEXTS)]
