"""The models that a server offers: what they are called, and what tells their versions apart."""

from __future__ import annotations

import json
import os
import re

import pytest

from labelwise.errors import BadFile, BadInput, ModelNotFound
from labelwise.models.locate import EMBEDDED
from labelwise.serving.catalogue import Catalogue
from padded import config, random_weights, write_model, write_tokenizer

VALUES = config("bert", num_hidden_layers=1)


def model(folder, seed=0):
    """A small model in *folder*."""
    write_model(folder, VALUES, random_weights(VALUES, seed))
    return write_tokenizer(folder, VALUES)


def ids(catalogue):
    return [entry.id for entry in catalogue]


def sha(folder):
    return Catalogue.load([str(folder)]).first.sha


def test_without_names_there_is_the_embedded_model():
    catalogue = Catalogue.load()
    assert ids(catalogue) == [EMBEDDED]
    assert catalogue.first is catalogue.find("minilm-l6-sst2") is catalogue.find(EMBEDDED)
    assert re.fullmatch("[0-9a-f]{40}", catalogue.first.sha)


def test_a_folder_is_called_after_itself(tmp_path):
    catalogue = Catalogue.load([str(model(tmp_path / "Reviews_v1.2-b"))])
    assert ids(catalogue) == ["Reviews_v1.2-b"]
    assert catalogue.find("Reviews_v1.2-b").model.labels == ("class-0", "class-1", "class-2")


def test_a_folder_may_be_given_an_id(tmp_path):
    folder = model(tmp_path / "x y")
    catalogue = Catalogue.load([f"acme/mood={folder}"])
    assert ids(catalogue) == ["acme/mood"]
    assert catalogue.find("mood").model.location.folder == folder


def test_the_embedded_model_may_be_given_another_id():
    assert ids(Catalogue.load([f"acme/sst2={EMBEDDED}"])) == ["acme/sst2"]


def test_a_folder_whose_own_name_holds_an_equals_sign_is_that_folder(tmp_path, monkeypatch):
    model(tmp_path / "mood=happy")
    monkeypatch.chdir(tmp_path)
    assert ids(Catalogue.load(["acme/mood=mood=happy"])) == ["acme/mood"]
    with pytest.raises(BadInput, match="'mood=happy' cannot be the id of a model"):
        Catalogue.load(["mood=happy"])


@pytest.mark.parametrize("name", ["x y", "-x", ".x", "a/b/c", "/x", "a/", "", "naïve", "a\nb"])
def test_an_id_that_is_none_is_refused_with_what_to_write(tmp_path, name):
    with pytest.raises(BadInput, match="give the folder one: ORG/NAME=FOLDER"):
        Catalogue.load([f"{name}={model(tmp_path / 'x')}"])


def test_a_folder_whose_name_is_no_id_is_refused_with_what_to_write(tmp_path):
    with pytest.raises(BadInput, match=r"'x y' cannot be the id .* ORG/NAME=FOLDER"):
        Catalogue.load([str(model(tmp_path / "x y"))])


def test_models_keep_the_order_in_which_they_were_named(tmp_path):
    for name in "bca":
        model(tmp_path / name)
    catalogue = Catalogue.load([str(tmp_path / name) for name in "bca"])
    assert ids(catalogue) == ["b", "c", "a"]
    assert catalogue.first.id == "b"


def test_two_models_of_one_id_are_refused(tmp_path):
    first, second = model(tmp_path / "a" / "mood"), model(tmp_path / "b" / "mood")
    with pytest.raises(BadInput, match=r"two models are called mood; .* ORG/NAME=FOLDER"):
        Catalogue.load([str(first), str(second)])
    assert ids(Catalogue.load([str(first), f"b/mood={second}"])) == ["mood", "b/mood"]


def test_one_folder_may_be_served_under_two_ids(tmp_path):
    folder = model(tmp_path / "mood")
    catalogue = Catalogue.load([f"a/mood={folder}", f"b/mood={folder}"])
    assert catalogue.find("a/mood").sha == catalogue.find("b/mood").sha


def test_a_name_without_namespace_must_mean_one_model(tmp_path):
    folder = model(tmp_path / "x")
    catalogue = Catalogue.load([f"{name}={folder}" for name in ("a/mood", "b/mood", "a/tone")])
    assert catalogue.find("tone").id == "a/tone"
    with pytest.raises(ModelNotFound, match="mood is ambiguous here: name a/mood or b/mood"):
        catalogue.find("mood")
    plain = Catalogue.load([f"{name}={folder}" for name in ("a/mood", "mood")])
    assert plain.find("mood").id == "mood"


@pytest.mark.parametrize("name", ["", "a", "mood/", "/mood", "b/mood", "A/MOOD", "a/mood/x", "ood"])
def test_a_model_that_is_not_offered_is_not_found(tmp_path, name):
    catalogue = Catalogue.load([f"a/mood={model(tmp_path / 'x')}"])
    with pytest.raises(ModelNotFound, match=rf"Model ?{name} does not exist"):
        catalogue.find(name)


def test_a_name_that_is_not_found_is_repeated_in_part_and_on_one_line():
    with pytest.raises(ModelNotFound) as refused:
        Catalogue.load().find("a\n\x1b[31m" + "x" * 10_000)
    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


def test_a_model_that_cannot_be_read_stops_the_start(tmp_path):
    folder = model(tmp_path / "mood")
    (folder / "model.safetensors").write_bytes(b"x")
    with pytest.raises(BadFile):
        Catalogue.load([str(folder)])


# What tells versions of a folder apart


def test_the_same_files_have_the_same_sha_wherever_they_are(tmp_path):
    first, second = model(tmp_path / "a"), model(tmp_path / "b")
    assert sha(first) == sha(first) == sha(second)
    os.utime(second / "config.json", (1, 1))
    assert sha(first) == sha(second)


def test_another_weight_makes_another_sha(tmp_path):
    folder = model(tmp_path / "mood")
    before = sha(folder)
    weights = random_weights(VALUES)
    weights["classifier.bias"][0] += 1e-3
    write_model(folder, VALUES, weights)
    assert sha(folder) != before


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_any_other_change_to_a_file_of_the_model_makes_another_sha(tmp_path, name):
    folder = model(tmp_path / "mood")
    before = sha(folder)
    values = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(values, indent=1))
    assert sha(folder) != before


def test_what_is_no_file_of_the_model_does_not_change_its_sha(tmp_path):
    folder = model(tmp_path / "mood")
    before = sha(folder)
    (folder / "README.md").write_text("about")
    (folder / "onnx").mkdir()
    (folder / "training_args.bin").write_bytes(b"x")
    assert sha(folder) == before


def test_a_folder_with_a_name_like_a_shard_does_no_harm(tmp_path):
    folder = model(tmp_path / "mood")
    (folder / "model-cards").mkdir()
    (folder / "model-notes").symlink_to("nowhere")
    assert ids(Catalogue.load([str(folder)])) == ["mood"]
