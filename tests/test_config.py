"""``config.json`` is read with suspicion."""

from __future__ import annotations

import json
import os
import sys

import pytest

from labelwise.engine.config import Config
from labelwise.engine.files import read_file
from labelwise.errors import BadFile, UnsupportedModel


def write(folder, values):
    text = values if isinstance(values, str) else json.dumps(values)
    (folder / "config.json").write_text(text)
    return folder


def test_labels_come_in_class_order(tmp_path):
    values = {"model_type": "bert", "id2label": {"1": "yes", "0": "no", "2": "maybe"}}
    assert Config.open(write(tmp_path, values)).labels(3) == ("no", "yes", "maybe")


NUMBERED = ("LABEL_0", "LABEL_1", "LABEL_2")


# What transformers makes of each is compared in test_folder_parity.py.
@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ({}, NUMBERED[:2]),
        ({"num_labels": 3}, NUMBERED),
        ({"num_labels": 1, "id2label": None}, NUMBERED[:1]),
        ({"num_labels": 3, "id2label": {}}, NUMBERED),
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, NUMBERED),
        ({"num_labels": 2, "id2label": {"0": "a", "1": "b", "2": "c"}}, NUMBERED[:2]),
        ({"num_labels": 3, "id2label": {"1": "a", "2": "b"}}, NUMBERED),
        ({"num_labels": None, "id2label": {"0": "a", "1": "b"}}, ("a", "b")),
        ({"num_labels": 3, "id2label": {"0": "a", "1": "b"}}, ("a", "b")),
        ({"id2label": {"00": "a", " 1 ": "b", "+2": "c"}}, ("a", "b", "c")),
        ({"id2label": {"00": "a", "1": "b", "0": "c"}}, ("c", "b")),
        ({"id2label": {"0": 5, "1": 0.5}}, ("5", "0.5")),
        ({"id2label": {"0": "same", "1": "same"}}, ("same", "same")),
        ({"id2label": {"0": "", "1": "a\r\n\x1b[31m"}}, ("", "a\r\n\x1b[31m")),
        (
            {"id2label": {"0": "a\ud800", "1": "\udc00\ud83d\ude00"}},
            ("a\ufffd", "\ufffd\U0001f600"),
        ),
    ],
    ids=str,
)
def test_the_head_decides_whose_labels_count(values, labels, tmp_path):
    """Those of `id2label` if it has as many, else numbers if `num_labels` says as many."""
    config = Config.open(write(tmp_path, {"model_type": "bert", **values}))
    assert config.labels(len(labels)) == labels


@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        ({}, 3, "the head of the model, 3, but 2, as it says nothing"),
        ({"num_labels": 2}, 3, "the head of the model, 3, but 2 in num_labels"),
        ({"id2label": {}}, 0, "the head of the model, 0, but 0 in id2label"),
        ({"id2label": {}}, 2, "the head of the model, 2, but 0 in id2label"),
        (
            {"id2label": {"0": "a"}, "num_labels": 2},
            3,
            "the head of the model, 3, but 1 in id2label and 2 in num_labels",
        ),
        ({"id2label": {"0": "a", "2": "b"}}, 2, "has no label for class 1"),
        ({"id2label": {"1": "a", "2": "b"}}, 2, "has no label for class 0"),
        ({"id2label": {"-1": "a", "0": "b"}}, 2, "has no label for class 1"),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c"}},
            2,
            "the head of the model, 2, but 3 in id2label",
        ),
    ],
    ids=str,
)
def test_classes_that_nobody_counted_or_named_are_refused(values, classes, message, tmp_path):
    config = Config.open(write(tmp_path, {"model_type": "bert", **values}))
    with pytest.raises(BadFile, match=message):
        config.labels(classes)


@pytest.mark.parametrize("label", [None, True, ["a"], {"a": 1}], ids=str)
def test_a_label_is_text_or_a_number(label, tmp_path):
    values = {"model_type": "bert", "id2label": {"0": "a", "1": label}}
    with pytest.raises(BadFile, match=r"a label in id2label must be text, not"):
        Config.open(write(tmp_path, values))


def test_keys_that_would_run_code_are_ignored(tmp_path):
    values = {
        "model_type": "bert",
        "auto_map": {"AutoModel": "evil.Model"},
        "trust_remote_code": True,
        "_attn_implementation_internal": "evil/kernel",
    }
    assert Config.open(write(tmp_path, values)).model_type == "bert"


@pytest.mark.parametrize(
    "values",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"model_type": "bert", "x": ' + "[" * 5_000 + "]" * 5_000 + "}",
        "nan",
        {},
        {"model_type": 3},
        {"model_type": "bert", "id2label": {"a": "a", "1": "b"}},
        {"model_type": "bert", "id2label": {"1.0": "a"}},
        {"model_type": "bert", "id2label": []},
        {"model_type": "bert", "id2label": "a"},
        {"model_type": "bert", "num_labels": 10**12},
        {"model_type": "bert", "num_labels": "2"},
        {"model_type": "bert", "problem_type": "guessing"},
    ],
    ids=lambda values: str(values)[:40],
)
def test_what_makes_no_sense_is_one_clear_error(values, tmp_path):
    with pytest.raises(BadFile, match=r"config\.json"):
        Config.open(write(tmp_path, values))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadFile, match=r"config\.json is missing"):
        Config.open(tmp_path)


@pytest.mark.parametrize("value", [[], {}, 3, None, "swish9"], ids=str)
def test_a_choice_is_one_of_those_listed(value, tmp_path):
    config = Config.open(write(tmp_path, {"model_type": "bert", "hidden_act": value}))
    with pytest.raises(UnsupportedModel, match=r"hidden_act is .*; supported: gelu, relu"):
        config.choice("hidden_act", "gelu", {"relu": 1, "gelu": 2})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_not_read(kind, tmp_path):
    path = tmp_path / "config.json"
    make = {"pipe": os.mkfifo, "device": lambda path: path.symlink_to("/dev/zero")}
    make.get(kind, os.mkdir)(path)
    with pytest.raises(BadFile, match=r"config\.json is not a regular file"):
        Config.open(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that even root cannot read")
def test_an_unreadable_file_is_said_so(tmp_path):
    (tmp_path / "config.json").symlink_to("/proc/self/mem")
    with pytest.raises(BadFile, match=r"config\.json cannot be read: "):
        Config.open(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file longer than it says")
def test_what_a_file_says_of_its_length_is_not_relied_on(tmp_path):
    path = tmp_path / "config.json"
    path.symlink_to("/proc/self/maps")
    assert path.stat().st_size == 0
    with pytest.raises(BadFile, match="is larger than 9 bytes"):
        read_file(path, 9)


def test_a_file_of_absurd_size_is_not_read(tmp_path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(10**11)  # sparse
    with pytest.raises(BadFile, match="larger than"):
        Config.open(tmp_path)
