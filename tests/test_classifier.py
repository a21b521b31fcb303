"""The classifier in process, on the embedded model and on small random ones."""

from __future__ import annotations

import json
import logging
import multiprocessing
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from labelwise import Classifier, Score, Scores
from labelwise.engine.cpus import Streams
from labelwise.engine.onnx.backend import Cpu
from labelwise.errors import BadFile, BadInput, BadModel, MissingWeight
from labelwise.models.locate import locate
from labelwise.models.model import Model
from marks import slow
from padded import config, padded_logits, random_weights, write_model, write_tokenizer

RECORDED = json.loads((Path(__file__).parent / "recorded_logits.json").read_text())


@pytest.fixture(scope="module")
def classify():
    """The embedded model."""
    return Classifier()


def small(folder, values=None, weights=None, longest=512):
    values = values or config("bert")
    return write_tokenizer(write_model(folder, values, weights), values, longest)


def by_label(scores):
    return {score.label: score.score for score in scores}


def test_a_text_gets_its_labels_best_first(classify):
    scores = classify("I like you. I love you")
    assert [score.label for score in scores] == ["POSITIVE", "NEGATIVE"]
    assert isinstance(scores[0], Score)
    assert sum(score.score for score in scores) == pytest.approx(1)
    assert scores.truncated is False
    assert scores.length == 9


@pytest.mark.parametrize("case", RECORDED["embedded"], ids=lambda case: case["text"])
def test_the_embedded_model_gives_the_logits_that_transformers_gave(case, classify):
    found = by_label(classify(case["text"], function_to_apply="none"))
    assert [found["NEGATIVE"], found["POSITIVE"]] == pytest.approx(case["logits"], abs=1e-4)


def test_a_list_gets_a_list_in_its_order(classify):
    texts = ["good", "bad", "good"]
    assert [scores[0].label for scores in classify(texts)] == ["POSITIVE", "NEGATIVE", "POSITIVE"]
    assert classify([]) == []


def test_a_pair_is_one_text(tmp_path):
    classify = Classifier(small(tmp_path))
    ids, types = [0, 7, 8, 2, 9, 2], [0, 0, 0, 0, 1, 1]
    expected = padded_logits(config("bert"), random_weights(config("bert")), [(ids, types)])[0]
    scores = by_label(classify(("w7 w8", "w9"), function_to_apply="none"))
    assert [scores[f"class-{number}"] for number in range(3)] == pytest.approx(expected, abs=1e-4)
    assert len(classify([("w7", "w9"), "w7"])) == 2


def test_top_k_and_function_are_respected(classify):
    assert len(classify("good", top_k=1)) == 1
    assert len(classify("good", top_k=9)) == 2
    scores = by_label(classify("good", function_to_apply="sigmoid"))
    assert sum(scores.values()) != pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("problem_type", "labels", "total"),
    [("multi_label_classification", 3, None), (None, 1, None), (None, 3, 1.0)],
)
def test_scores_follow_the_problem_type(problem_type, labels, total, tmp_path):
    values = config("bert", labels) | {"problem_type": problem_type}
    classify = Classifier(small(tmp_path, values))
    scores = by_label(classify("w9 w10"))
    logits = by_label(classify("w9 w10", function_to_apply="none"))
    if total is None:
        expected = {label: 1 / (1 + np.exp(-logit)) for label, logit in logits.items()}
        assert scores == pytest.approx(expected, abs=1e-6)
    else:
        assert sum(scores.values()) == pytest.approx(total)


def test_a_regression_gives_its_number(tmp_path):
    values = config("bert", 1) | {"problem_type": "regression"}
    classify = Classifier(small(tmp_path, values))
    assert classify("w9") == classify("w9", function_to_apply="none")


def test_a_long_text_is_truncated_and_says_so(classify):
    long = classify("very " * 600 + "bad")
    assert (long.truncated, long.length) == (True, 603)
    assert long[0].score == pytest.approx(classify("very " * 510)[0].score, abs=1e-5)


def test_the_tokenizer_may_lower_the_limit(tmp_path):
    classify = Classifier(small(tmp_path, longest=10))
    assert classify("w9 " * 8).truncated is False
    assert classify("w9 " * 9).truncated is True


def test_a_text_scores_the_same_alone_and_among_thousands(classify):
    random = np.random.default_rng(0)
    words = ["good", "bad", "film", "the", "was", "never", "a", "delight"]
    texts = [" ".join(random.choice(words, n)) for n in random.integers(1, 80, 200)]
    assert (
        sum(len(text.split()) for text in texts) > 3 * Cpu(Streams(1, 1)).batch_tokens
    )  # several batches
    together = classify(texts)
    for number in range(0, 200, 20):
        alone = classify(texts[number])
        assert by_label(together[number]) == pytest.approx(by_label(alone), abs=1e-5)


@pytest.mark.parametrize("streams", [Streams(2, 1), *slow(Streams(5, 1))])
def test_batches_spread_over_streams_come_back_in_order(streams, classify):
    model = Model(locate(), Cpu(streams))
    texts = [f"film number {number} is " + "very " * (number % 40) for number in range(120)]
    encoded = model.encode(texts)
    assert sum(map(len, encoded)) > 3 * Cpu(Streams(1, 1)).batch_tokens
    expected = classify.model.logits(encoded)
    assert np.abs(model.logits(encoded) - expected).max() < 2e-5
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(model.logits, [encoded] * 2):
            assert np.abs(found - expected).max() < 2e-5


def test_many_threads_may_share_a_classifier(classify):
    texts = [f"film number {number} is good" for number in range(40)]
    expected = [by_label(scores) for scores in classify(texts)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: by_label(classify(text)), texts))
    for one, other in zip(expected, found, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_a_classifier_names_its_model_and_its_labels(classify, tmp_path):
    assert classify.labels == ("NEGATIVE", "POSITIVE")
    assert repr(classify) == "<Classifier [labelwise/minilm-l6-sst2, 2 labels, float32]>"
    one = Classifier(small(tmp_path / "a\nb", config("bert", 1)), dtype="int8")
    assert repr(one) == "<Classifier [a b, 1 label, int8]>"


def again(classify):
    return pickle.loads(pickle.dumps(classify))  # noqa: S301 - its own


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_pickled_classifier_answers_the_same_wherever_it_is_loaded(dtype, tmp_path, monkeypatch):
    small(tmp_path / "here/model")
    monkeypatch.chdir(tmp_path / "here")
    original = Classifier("model", dtype=dtype)
    monkeypatch.chdir(tmp_path)
    assert len(pickle.dumps(original)) < 1000
    copy = again(again(original))
    assert repr(copy) == repr(original)
    assert copy("w7 w8") == original("w7 w8")


def test_a_pickled_classifier_keeps_to_the_folder_that_a_link_led_to(tmp_path):
    (tmp_path / "current").symlink_to(small(tmp_path / "v1"))
    original = Classifier(tmp_path / "current")
    pickled = pickle.dumps(original)
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to(small(tmp_path / "v2", config("bert", 5)))
    copy = pickle.loads(pickled)  # noqa: S301 - its own
    assert repr(copy) == repr(original) == "<Classifier [current, 3 labels, float32]>"
    assert copy("w7 w8") == original("w7 w8")


class Moderator(Classifier):
    """With something of its own."""

    threshold = 0.5


def test_a_subclass_keeps_what_it_has_of_its_own():
    original = Moderator()
    original.threshold = 0.9
    copy = again(original)
    assert (type(copy), copy.threshold) == (Moderator, 0.9)
    assert copy("good") == original("good")


def test_a_folder_that_is_gone_is_named_where_the_pickle_is_loaded(tmp_path):
    pickled = pickle.dumps(Classifier(small(tmp_path / "model")))
    shutil.rmtree(tmp_path / "model")
    with pytest.raises(BadModel, match="model"):
        pickle.loads(pickled)  # noqa: S301 - its own


def test_a_new_process_gets_a_classifier(classify):
    """As multiprocessing, joblib and Ray send it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        [found] = pool.map(classify, ["A delight."], timeout=60)
    assert by_label(found) == pytest.approx(by_label(classify("A delight.")), abs=1e-6)
    assert type(found) is Scores


def test_an_error_never_shows_the_text(classify):
    with pytest.raises(BadInput) as caught:
        classify(["fine", "secret \ud800"])
    assert "text 2" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_weights_that_are_not_used_are_listed_in_one_log_line(tmp_path, caplog):
    weights = random_weights(config("roberta"))
    extra = {"roberta.embeddings.position_ids": np.arange(514)[None]}
    extra["roberta.pooler.dense.weight"] = extra["lm_head.bias"] = np.zeros(3, np.float32)
    extra["x\x1b[31m\ny"] = np.zeros(3, np.float32)
    folder = small(tmp_path, config("roberta"), weights)
    save_file(weights | extra, folder / "model.safetensors")
    with caplog.at_level(logging.INFO, "labelwise"):
        Classifier(folder)
    loaded, record = caplog.records
    assert loaded.getMessage().endswith(f": 3 labels, float32, from {folder}")
    assert record.getMessage().endswith(
        "weights not used: lm_head.bias, roberta.embeddings.position_ids, "
        "roberta.pooler.dense.weight, x?[31m y"
    )


def test_old_names_and_a_module_prefix_are_read(tmp_path):
    weights = random_weights(config("bert"))
    old = {
        "module."
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): array
        for name, array in weights.items()
    }
    new, before = small(tmp_path / "new"), small(tmp_path / "old", weights=old)
    assert Classifier(new)("w9 w10") == Classifier(before)("w9 w10")


def test_a_half_precision_checkpoint_is_computed_in_single_precision(tmp_path):
    halves = {
        name: array.astype(np.float16) for name, array in random_weights(config("bert")).items()
    }
    wide = {name: array.astype(np.float32) for name, array in halves.items()}
    stored, widened = (
        Classifier(small(tmp_path / name, weights=weights))
        for name, weights in [("half", halves), ("single", wide)]
    )
    assert stored("w9 w10 w11") == widened("w9 w10 w11")


def test_damaged_weights_are_an_error_and_not_a_score(tmp_path):
    weights = random_weights(config("bert"))
    weights["classifier.bias"][0] = np.nan
    with pytest.raises(BadModel, match="not numbers"):
        Classifier(small(tmp_path, weights=weights))("w9")


def test_a_tokenizer_of_another_model_is_an_error_and_not_a_score(tmp_path):
    folder = small(tmp_path)
    write_tokenizer(folder, config("bert", vocab_size=400))
    classify = Classifier(folder)
    assert classify("w299")
    with pytest.raises(BadModel, match="do not belong together"):
        classify("w300")


def test_token_types_that_the_model_does_not_know_are_an_error_and_not_a_crash(tmp_path):
    folder = small(tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"]["pair"][-1]["SpecialToken"]["type_id"] = 7
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    classify = Classifier(folder)
    assert classify("w9")
    with pytest.raises(BadModel, match="do not belong together"):
        classify(("w9", "w10"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(name, tmp_path):
    folder = small(tmp_path)
    (folder / name).unlink()
    with pytest.raises(BadFile, match=name.replace(".", r"\.")):
        Classifier(folder)


def test_a_checkpoint_without_a_head_names_what_it_lacks(tmp_path):
    weights = random_weights(config("bert"))
    weights = {name: array for name, array in weights.items() if not name.startswith("classifier")}
    with pytest.raises(MissingWeight, match="classifier"):
        Classifier(small(tmp_path, weights=weights))
