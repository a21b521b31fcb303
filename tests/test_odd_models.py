"""Models that are odd and sound: odd labels, and classes that are ruled out, on every surface."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from click.testing import CliRunner
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as families

from labelwise import Classifier
from labelwise.commands.main import main
from labelwise.errors import BadInput, BadModel
from labelwise.models import agreement
from labelwise.models.locate import locate
from labelwise.models.model import Model
from labelwise.serving.catalogue import Catalogue
from padded import config, random_weights, write_model, write_tokenizer
from serving import ask, within

# As the configuration has them, and as they are shown.
LABELS = {
    "half of a surrogate pair": (["a\ud800", "\udc00", "c"], ["a\ufffd", "\ufffd", "c"]),
    "the same twice": (["same", "same", "c"], ["same", "same", "c"]),
    "the same once repaired": (["a\ud800", "a\ud801", "c"], ["a\ufffd", "a\ufffd", "c"]),
    "ends of lines": (["a\r\nb", "a\rb", "a\nb"], ["a\r\nb", "a\rb", "a\nb"]),
    "what a terminal acts upon": (["\x1b[31m", "\0", "\x9b1m"], ["\x1b[31m", "\0", "\x9b1m"]),
    "quotes": (['a"b', "a\\b", "a\\nb"], ['a"b', "a\\b", "a\\nb"]),
    "no text": (["", " ", "c"], ["", " ", "c"]),
    "separators": (["a\u2028b", "a\u0085b", "{x},="], ["a\u2028b", "a\u0085b", "{x},="]),
    "numbers": ([1, 2.5, -3], ["1", "2.5", "-3"]),
}


def folder_of(path, weights=None, **changes):
    values = config("bert") | changes
    write_model(path, values, weights)
    return write_tokenizer(path, values)


def ruling_out(*classes):
    weights = random_weights(config("bert"))
    weights["classifier.bias"][list(classes)] = -np.inf
    return weights


@pytest.fixture(params=LABELS)
def labelled(request, tmp_path):
    """A folder with odd labels, and what the labels are."""
    given, shown = LABELS[request.param]
    return folder_of(tmp_path, id2label=dict(enumerate(given))), shown


# Labels.


def test_every_answer_has_all_labels(labelled):
    folder, shown = labelled
    assert sorted(score.label for score in Classifier(folder)("w9")) == sorted(shown)
    assert len(Classifier(folder)("w9", top_k=2)) == 2
    with within(Catalogue.load([f"org/odd={folder}"]), log_requests=True) as live:
        for path in ("/", "/models/org/odd", "/predict"):
            answer = ask(live.url + path, {"inputs": "w9"}).json
            (scores,) = answer if path != "/predict" else [answer]
            assert sorted(score["label"] for score in scores) == sorted(shown)
        info = ask(f"{live.url}/info").json["model_type"]["classifier"]
        assert list(info["id2label"].values()) == shown
        assert set(info["label2id"]) == set(shown)
        assert all(shown[number] == label for label, number in info["label2id"].items())


def test_metrics_stay_readable_and_count_each_label(labelled):
    folder, shown = labelled
    with within(Catalogue.load([f"org/odd={folder}"])) as live:
        (scores,) = ask(live.url, {"inputs": "w9"}).json
        plain = ask(f"{live.url}/metrics").body.decode()
        accept = {"accept": "application/openmetrics-text"}
        opened = ask(f"{live.url}/metrics", headers=accept).body.decode()
    for parse, text in ((families, plain), (openmetrics_families, opened)):
        found = {
            sample.labels["label"]: sample.value
            for family in parse(text)
            for sample in family.samples
            if sample.name == "labelwise_labels_total"
        }
        assert set(found) == set(shown)
        assert found[scores[0]["label"]] == 1
        assert sum(found.values()) == 1


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_a_terminal_gets_nothing_to_act_upon(labelled, form):
    folder, shown = labelled
    done = CliRunner().invoke(main, ["classify", "-m", str(folder), *form, "w9"])
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert "\0" not in done.stdout
    if form:
        assert sorted(each["label"] for each in json.loads(done.stdout)[0]) == sorted(shown)
    else:
        assert len(done.stdout.splitlines()) == 2 + len(shown)


# Classes that are ruled out.


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_class_that_the_head_rules_out_scores_0(dtype, tmp_path):
    whole = Classifier(folder_of(tmp_path / "whole"), dtype=dtype)
    classify = Classifier(folder_of(tmp_path / "odd", ruling_out(2)), dtype=dtype)
    expected = {each.label: each.score for each in whole("w9", function_to_apply="sigmoid")}
    scores = {each.label: each.score for each in classify("w9", function_to_apply="sigmoid")}
    assert scores == expected | {"class-2": 0}
    *others, last = classify("w9")
    assert (last.label, last.score) == ("class-2", 0)
    assert sum(each.score for each in others) == pytest.approx(1, abs=1e-6)
    assert classify("w9", top_k=2) == others


def test_int8_may_be_compared_with_fp32_where_a_class_is_ruled_out(tmp_path):
    location = locate(folder_of(tmp_path, ruling_out(2)))
    texts = [f"w{number} w{number + 1}" for number in range(9, 99)]
    found = agreement.compare(Model(location), Model(location, dtype="int8"), texts)
    assert 0 < found.largest_change < 0.5
    assert found.same_label > 0.9


@pytest.mark.parametrize("top_k", [None, 1])
def test_without_a_function_it_has_no_score(top_k, tmp_path):
    classify = Classifier(folder_of(tmp_path, ruling_out(2)))
    with pytest.raises(BadInput, match="score of class 2 is -inf"):
        classify("w9", function_to_apply="none", top_k=top_k)


@pytest.mark.parametrize("damage", [np.nan, np.inf])
def test_what_is_no_number_is_damage_whatever_the_function(damage, tmp_path):
    weights = random_weights(config("bert"))
    weights["classifier.bias"][2] = damage
    classify = Classifier(folder_of(tmp_path, weights))
    for function in ("softmax", "sigmoid", "none"):
        with pytest.raises(BadModel, match="damaged"):
            classify("w9", function_to_apply=function)


@pytest.mark.parametrize("cache_bytes", [0, 1_000_000])
def test_a_server_refuses_what_json_cannot_say_and_answers_the_rest(cache_bytes, tmp_path):
    folder = folder_of(tmp_path, ruling_out(2))
    with within(Catalogue.load([f"org/odd={folder}"]), cache_bytes=cache_bytes) as live:
        none = {"inputs": "w9", "parameters": {"function_to_apply": "none"}}
        for _ in range(2):  # also from the cache
            (scores,) = ask(live.url, {"inputs": "w9"}).json
            assert scores[-1] == {"label": "class-2", "score": 0}
            answer = ask(live.url, none)
            assert (answer.status, list(answer.json)) == (400, ["error"])
            assert "use softmax or sigmoid" in answer.json["error"]
        assert ask(f"{live.url}/predict", {"inputs": "w9"}).json[-1]["score"] == 0
        assert ask(f"{live.url}/predict", {"inputs": "w9", "raw_scores": True}).status == 422


def test_a_text_without_an_answer_fails_alone(tmp_path):
    """A weight of -inf gives -inf or inf, as the sign of what it multiplies is."""
    weights = random_weights(config("bert"))
    weights["classifier.weight"][2, 12] = -np.inf
    texts = [f"w{number}" for number in range(9, 49)]
    model = Model.load(folder_of(tmp_path, weights))
    alone = {text: _answered(model, text) for text in texts}
    assert set(alone.values()) == {True, False}
    with within(Catalogue.load([f"org/odd={tmp_path}"])) as live, ThreadPoolExecutor(40) as pool:
        answers = pool.map(lambda text: ask(live.url, {"inputs": text}), texts)
        assert {
            text: answer.status == 200 for text, answer in zip(texts, answers, strict=True)
        } == alone


def _answered(model, text):
    try:
        return bool(model.logits(model.encode([text])).size)
    except BadModel:
        return False
