"""Live transformers and Labelwise, side by side on the same folders."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelwise import Classifier
from padded import MODEL_TYPES, config, random_weights, write_model, write_tokenizer

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

LENGTHS = (1, 2, 3, 5, 8, 16, 31, 64, 127, 255, 400, 510)
HEADS = {
    "two labels": (2, None),
    "many labels": (28, "single_label_classification"),
    "multi-label": (6, "multi_label_classification"),
    "one label": (1, None),
    "regression": (1, "regression"),
}


def texts():
    """Words of the small vocabulary: texts of every length, and pairs."""
    random = np.random.default_rng(3)

    def text(length):
        return " ".join(f"w{number}" for number in random.integers(5, 300, length))

    singles = [text(length) for length in LENGTHS]
    pairs = [(text(a), text(b)) for a, b in [(1, 1), (7, 30), (200, 3), (250, 250)]]
    return ["", *singles, *pairs]


def folder_of(path, model_type, labels, problem_type):
    values = config(model_type, labels) | {"problem_type": problem_type}
    write_model(path, values, random_weights(values, seed=labels))
    return write_tokenizer(path, values)


def reference(folder, function=None):
    """The pipeline of transformers: text or pair -> label -> score."""
    pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu")

    def classify(text):
        given = text if isinstance(text, str) else {"text": text[0], "text_pair": text[1]}
        options = {"top_k": None, "truncation": "longest_first", "max_length": 512}
        answer = pipeline(given, function_to_apply=function, **options)
        return [(score["label"], score["score"]) for score in answer]

    return classify


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_logits_and_scores_are_those_of_the_pipeline(model_type, head, tmp_path):
    folder = folder_of(tmp_path, model_type, *HEADS[head])
    ours, theirs, logits = Classifier(folder), reference(folder), reference(folder, "none")
    together = ours(texts(), function_to_apply="none")
    for text, ours_together in zip(texts(), together, strict=True):
        assert {score.label: score.score for score in ours_together} == pytest.approx(
            dict(logits(text)), abs=1e-4
        )
        scores = [(score.label, score.score) for score in ours(text)]
        expected = theirs(text)
        assert dict(scores) == pytest.approx(dict(expected), abs=1e-5)
        clear = np.abs(np.diff([score for _, score in expected])).min(initial=1) > 1e-5
        assert not clear or [label for label, _ in scores] == [label for label, _ in expected]


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
def test_a_chosen_function_overrules_the_model(function, tmp_path):
    folder = folder_of(tmp_path, "roberta", 4, "multi_label_classification")
    ours, theirs = Classifier(folder), reference(folder, function)
    scores = [(score.label, score.score) for score in ours("w7 w8 w9", function_to_apply=function)]
    assert dict(scores) == pytest.approx(dict(theirs("w7 w8 w9")), abs=1e-4)


@pytest.mark.parametrize(
    "act", ["gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "tanh"]
)
def test_every_activation_is_that_of_transformers(act, tmp_path):
    values = config("bert", 3, hidden_act=act)
    write_tokenizer(write_model(tmp_path, values), values)
    ours, theirs = Classifier(tmp_path), reference(tmp_path, "none")
    scores = {score.label: score.score for score in ours("w7 w8 w9", function_to_apply="none")}
    assert scores == pytest.approx(dict(theirs("w7 w8 w9")), abs=1e-4)


def test_a_literal_padding_piece_in_a_text_is_read_as_transformers_reads_it(tmp_path):
    folder = folder_of(tmp_path, "xlm-roberta", 3, None)
    ours, theirs = Classifier(folder), reference(folder)
    text = "w7 <pad> w8 <pad> <pad> w9"
    scores = {score.label: score.score for score in ours(text)}
    assert scores == pytest.approx(dict(theirs(text)), abs=1e-5)


def test_a_tokenizer_that_leaves_out_token_types_is_obeyed(tmp_path):
    folder = folder_of(tmp_path, "bert", 3, None)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    with_types = Classifier(folder)(("w7 w8", "w9"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    scores = {score.label: score.score for score in Classifier(folder)(("w7 w8", "w9"))}
    assert scores == pytest.approx(dict(reference(folder)(("w7 w8", "w9"))), abs=1e-5)
    assert scores != pytest.approx({score.label: score.score for score in with_types}, abs=1e-5)


def test_folders_written_by_transformers_are_read(tmp_path):
    """Single and sharded safetensors, and half precision, as `save_pretrained` writes them."""
    import torch  # noqa: PLC0415 - an extra

    values = config("bert", 3)
    write_tokenizer(write_model(tmp_path / "a", values), values)
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    model = load(tmp_path / "a", dtype=torch.float32)
    expected = reference(tmp_path / "a")("w7 w8 w9")
    for name, options in {"whole": {}, "shards": {"max_shard_size": "50KB"}}.items():
        model.save_pretrained(tmp_path / name, **options)
        write_tokenizer(tmp_path / name, values)
        scores = {score.label: score.score for score in Classifier(tmp_path / name)("w7 w8 w9")}
        assert scores == pytest.approx(dict(expected), abs=1e-5)
    assert (tmp_path / "shards/model.safetensors.index.json").exists()
    torch.save(model.state_dict(), tmp_path / "whole/pytorch_model.bin")
    (tmp_path / "whole/model.safetensors").unlink()
    scores = {score.label: score.score for score in Classifier(tmp_path / "whole")("w7 w8 w9")}
    assert scores == pytest.approx(dict(expected), abs=1e-5)
