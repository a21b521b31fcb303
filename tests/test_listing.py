"""Models of the settings' file: how they are called, described, calibrated, and who sees them."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from labelwise.errors import BadInput
from labelwise.models.scores import Calibration, answers
from labelwise.options import CONFIG
from labelwise.serving.catalogue import Catalogue
from labelwise.serving.listing import Listing, keys
from padded import config, write_model, write_tokenizer
from serving import EMBEDDED, ask, within
from test_settings import settings_of

ACCESS_TOKEN = "hf_right"  # noqa: S105
RIGHT = {"authorization": f"Bearer {ACCESS_TOKEN}"}
LIKE = {"inputs": "I like you"}
TABLE = {"model": "a", "id": "acme/a"}


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    return write_tokenizer(write_model(folder, config("bert")), config("bert"))


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Writes the file of the settings, in an empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return CONFIG.write_text


# Reading


def test_a_model_is_a_text_or_a_table(file):
    file('models = ["a", {model = "b", id = "acme/b", private = true}]')
    assert settings_of().models == ("a", Listing(model="b", id="acme/b", private=True))
    file('[[models]]\nmodel = "a"\nrevision = "v2"\n[[models]]\nmodel = "b"')
    assert [one.source for one in settings_of().models] == ["a@v2", "b"]
    assert settings_of("c").models == ("c",)  # the command line has the last word


def test_a_text_of_the_command_line_is_a_listing(tmp_path, monkeypatch):
    assert Listing.parse("acme/a=./x") == Listing(model="./x", id="acme/a")
    assert Listing.parse("org/a@v1") == Listing(model="org/a@v1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b").mkdir()
    assert Listing.parse("a=b") == Listing(model="a=b")
    with pytest.raises(BadInput, match="no id before the equals sign"):
        Listing.parse("=folder")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"temprature": 2}, "unknown key 'temprature'; did you mean temperature?"),
        ({"zzzzz": 2}, "unknown key 'zzzzz'; there are model, id"),
        ({"model": ""}, "model must be the folder of the model, or its Hub id"),
        ({"model": 1}, "model must be the folder of the model, or its Hub id"),
        ({"temperature": 0}, "temperature must be a number from 0.001 to 1000"),
        ({"temperature": -1.0}, "temperature must be a number"),
        ({"temperature": math.inf}, "temperature must be a number"),
        ({"temperature": math.nan}, "temperature must be a number"),
        ({"temperature": "2"}, "temperature must be a number"),
        ({"thresholds": {"a": 1.5}}, "thresholds must be a table of labels"),
        ({"thresholds": {"a": "1"}}, "thresholds must be a table of labels"),
        ({"thresholds": [1]}, "thresholds must be a table of labels"),
        ({"private": "yes"}, "private must be true or false"),
        ({"dtype": "int4"}, 'dtype must be "float32" or "int8"'),
        ({"function": "relu"}, 'function must be "softmax", "sigmoid" or "none"'),
        ({"description": "x" * 1_001}, "description must be a text of 1,000 characters at most"),
    ],
    ids=str,
)
def test_a_table_that_says_something_else_stops_the_start(changes, says):
    with pytest.raises(BadInput, match=r"a model in labelwise\.toml: ") as caught:
        Listing.read(TABLE | changes, "labelwise.toml")
    assert says in str(caught.value)


def test_a_table_without_a_model_stops_the_start():
    with pytest.raises(BadInput, match="model must be the folder of the model"):
        Listing.read({"id": "acme/a"}, "labelwise.toml")


def test_every_key_says_what_it_must_be():
    assert all(keys().values())


# Serving


def test_a_listing_says_what_a_model_is_called_and_how_it_is_served(small):
    said = Listing(
        model=str(small), id="acme/a", description="Moods.", function="none", dtype="int8"
    )
    with within(Catalogue.load([said], allow_unverified_int8=True)) as live:
        about = ask(f"{live.url}/info").json
        (task,) = ask(f"{live.url}/api/tasks").json.values()
        raw = ask(live.url, LIKE | {"parameters": {"function_to_apply": "none"}}).json
        assert ask(live.url, LIKE).json == raw
    assert (about["model_id"], about["model_dtype"]) == ("acme/a", "int8")
    assert (about["description"], about["function_to_apply"]) == ("Moods.", "none")
    assert about["calibration"] is None
    assert task["models"] == [{"id": "acme/a", "description": "Moods."}]


def test_the_dtype_of_a_listing_wins_over_that_of_the_server(small):
    listed = [Listing(model=str(small), id="a", dtype="float32"), f"b={small}"]
    catalogue = Catalogue.load(listed, dtype="int8", allow_unverified_int8=True)
    assert [entry.model.dtype for entry in catalogue] == ["float32", "int8"]


def test_calibrated_scores_are_those_of_the_formula():
    plain = Catalogue.load()
    calibrated = Catalogue.load(
        [Listing(model=EMBEDDED, temperature=2.5, thresholds={"NEGATIVE": 0.3})]
    )
    with within(plain) as one, within(calibrated) as other:
        logits = ask(one.url, LIKE | {"parameters": {"function_to_apply": "none"}}).json
        raw = ask(other.url, LIKE | {"parameters": {"function_to_apply": "none"}}).json
        [found] = ask(other.url, LIKE).json
        [computed] = ask(other.url, LIKE, headers={"x-use-cache": "false"}).json
        about = ask(f"{other.url}/info").json["calibration"]
        counted = ask(f"{other.url}/metrics").body.decode()
    assert raw == logits
    powers = [math.exp(score["score"] / 2.5) for score in logits[0]]
    assert found == [
        {"label": "POSITIVE", "score": pytest.approx(powers[0] / sum(powers), abs=1e-6)}
    ]
    assert computed == found
    assert about == {"temperature": 2.5, "thresholds": {"NEGATIVE": 0.3}}
    assert f'labels_total{{label="POSITIVE",model="{EMBEDDED}"}} 3.0' in counted


def test_where_all_labels_are_below_their_thresholds_none_is_given():
    never = Listing(model=EMBEDDED, thresholds={"NEGATIVE": 1.0, "POSITIVE": 1.0})
    with within(Catalogue.load([never])) as live:
        assert ask(live.url, {"inputs": ["so so", "I like you"]}).json == [[], []]
        assert ask(f"{live.url}/?flat=true", LIKE).json == []
        assert ask(f"{live.url}/metrics").status == 200


def test_of_the_labels_that_reach_their_thresholds_the_best_are_given():
    logits, labels = [np.array([3.0, 2.0, 1.0], np.float32)], ["a", "b", "c"]
    calibration = Calibration.of(1.0, {"a": 0.99}, labels)
    for top_k, expected in ((None, ["b", "c"]), (1, ["b"]), (5, ["b", "c"])):
        (found,) = answers(logits, "sigmoid", labels, top_k, calibration)
        assert [score.label for score in found] == expected
    assert logits[0].tolist() == [3.0, 2.0, 1.0]


def test_a_threshold_for_a_label_that_the_model_has_not_stops_the_start():
    with pytest.raises(BadInput, match="no label 'ANGRY' for a threshold; its labels are NEGATIVE"):
        Catalogue.load([Listing(model=EMBEDDED, thresholds={"ANGRY": 0.5})])


# Private models


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = write_tokenizer(
        write_model(tmp_path_factory.mktemp("m"), config("bert")), config("bert")
    )
    secret = Listing(model=str(folder), id="acme/secret", private=True, description="Secret.")
    with within(Catalogue.load([EMBEDDED, secret]), access_token=ACCESS_TOKEN) as server:
        yield server


PUBLIC = (
    "/api/models",
    "/api/models?search=secret",
    "/api/tasks",
    "/framework/transformers",
    "/api/models/acme/secret",
    "/api/models/secret",
    "/api/models/acme/secret/tree/main",
    "/api/models/acme/secret/refs",
    "/api/models/acme/secret/commits/main",
    "/api/models/acme/secret/revision/main",
    "/status/acme/secret",
    "/models/acme/secret/health",
    "/hf-inference/models/acme/secret/health",
)


@pytest.mark.parametrize("path", PUBLIC)
def test_a_private_model_does_not_exist_for_callers_without_the_access_token(path, guarded):
    for headers in ({}, {"authorization": "Bearer hf_wrong"}):
        hidden = ask(guarded.url + path, headers=headers)
        unknown = ask(guarded.url + path.replace("secret", "nope"), headers=headers)
        assert (hidden.status, hidden.body) == (
            unknown.status,
            unknown.body.replace(b"nope", b"secret"),
        )
        assert "Secret." not in hidden.body.decode()
    seen = ask(guarded.url + path, headers=RIGHT)
    assert seen.status in {200, 307}


def test_a_private_model_is_there_for_the_holder_of_the_access_token(guarded):
    assert ask(f"{guarded.url}/models/acme/secret", LIKE, headers=RIGHT).status == 200
    assert ask(f"{guarded.url}/models/acme/secret", LIKE).status == 401
    anybody, holder = (HfApi(endpoint=guarded.url, token=token) for token in (False, ACCESS_TOKEN))
    assert [model.id for model in anybody.list_models()] == [EMBEDDED]
    assert [model.id for model in holder.list_models()] == [EMBEDDED, "acme/secret"]
    assert holder.model_info("acme/secret").private is True
    with pytest.raises(RepositoryNotFoundError):
        anybody.model_info("acme/secret")


def test_on_a_server_without_an_access_token_everybody_sees_private_models(small):
    with within(Catalogue.load([Listing(model=str(small), id="acme/a", private=True)])) as live:
        (found,) = ask(f"{live.url}/api/models").json
    assert (found["id"], found["private"]) == ("acme/a", True)
    assert json.dumps(found)
