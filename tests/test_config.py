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
    assert Config.open(write(tmp_path, values)).labels == ("no", "yes", "maybe")


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ({}, ("LABEL_0", "LABEL_1")),
        ({"num_labels": 3}, ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"id2label": None, "num_labels": 1}, ("LABEL_0",)),
    ],
)
def test_absent_labels_are_numbered(values, labels, tmp_path):
    assert Config.open(write(tmp_path, {"model_type": "bert", **values})).labels == labels


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
        {"model_type": "bert", "id2label": {"1": "a", "2": "b"}},
        {"model_type": "bert", "id2label": []},
        {"model_type": "bert", "id2label": {}},
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
