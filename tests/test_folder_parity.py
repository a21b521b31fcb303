"""Folders as live transformers reads them, over all cases of a kind: the same answer, or none."""

from __future__ import annotations

import json

import numpy as np
import pytest

from labelwise import Classifier
from labelwise.errors import BadModel
from padded import MODEL_TYPES, config, random_weights, write_model, write_tokenizer

pytestmark = pytest.mark.parity
pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXT = "w7 w8 w9"
ABSENT = "absent"


def write(folder, values, weights, without=()):
    values = {key: value for key, value in values.items() if key not in without}
    write_model(folder, values, weights)
    return write_tokenizer(folder, values)


def theirs(folder, function=None):
    """Label and score of each class in the pipeline of transformers; None where it gives up."""
    try:
        pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu")
        answer = pipeline(TEXT, top_k=None, function_to_apply=function)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError):
        return None
    return sorted((str(score["label"]), score["score"]) for score in answer)


def ours(folder, function=None):
    try:
        answer = Classifier(folder)(TEXT, function_to_apply=function)
    except BadModel:
        return None
    return sorted((score.label, score.score) for score in answer)


def same(found, expected):
    return [label for label, _ in found] == [label for label, _ in expected] and np.allclose(
        [score for _, score in found], [score for _, score in expected], atol=1e-5
    )


NUM_LABELS = [ABSENT, 1, 2, 3, 4]
ID2LABEL = [
    ABSENT,
    {},
    {"0": "a", "1": "b"},
    {"0": "a", "1": "b", "2": "c"},
    {"0": "a", "1": "b", "2": "c", "3": "d"},
    {"0": "a", "2": "c"},
    {"1": "a", "2": "b", "3": "c"},
    {"00": "a", " 1": "b", "+2": "c"},
    {"00": "a", "1": "b", "0": "z"},
    {"-1": "a", "0": "b", "1": "c"},
    {"x": "a", "1": "b", "2": "c"},
    {"0": "same", "1": "same", "2": "same"},
    {"0": "", "1": 7, "2": 0.5},
    {"0": "a\r\n", "1": "\x1b[31m", "2": "\0"},
    ["a", "b", "c"],
]


@pytest.mark.filterwarnings("ignore:Initializing zero-element")
@pytest.mark.parametrize("rows", [2, 3])
@pytest.mark.parametrize("names", ID2LABEL, ids=str)
@pytest.mark.parametrize("number", NUM_LABELS)
def test_labels_are_those_of_transformers(number, names, rows, tmp_path):
    weights = random_weights(config("bert", rows))
    values = config("bert", rows) | {"num_labels": number, "id2label": names}
    without = [key for key in ("num_labels", "id2label") if values[key] == ABSENT]
    folder = write(tmp_path, values, weights, without)
    found, expected = ours(folder), theirs(folder)
    if expected is None:
        # Where num_labels is wrong and id2label right, it was id2label in transformers 4.
        assert found is None or (number not in {ABSENT, rows} and len(found) == rows)
    else:
        assert found is not None
        assert same(found, expected)


@pytest.mark.parametrize(
    "names",
    [
        [],
        None,
        ["BertForSequenceClassification"],
        "BertForSequenceClassification",
        ["RobertaForSequenceClassification"],
        ["BertModel", "BertForSequenceClassification"],
        ["Unknown"],
        [3],
    ],
    ids=str,
)
def test_names_of_classes_change_nothing(names, tmp_path):
    values = config("bert") | {"architectures": names}
    folder = write(tmp_path, values, random_weights(values))
    found, expected = ours(folder), theirs(folder)
    assert (found is None) == (expected is None)
    assert found is None or same(found, expected)


def test_a_head_of_another_model_type_is_read_where_the_weights_fit(tmp_path):
    values = config("xlm-roberta") | {"architectures": ["RobertaForSequenceClassification"]}
    folder = write(tmp_path, values, random_weights(values))
    assert same(ours(folder), theirs(folder))


@pytest.mark.parametrize("base", ["kept", "left out", "before all", "mixed"])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_base_in_names_may_be_where_transformers_finds_it(model_type, base, tmp_path):
    values = config(model_type)
    prefix = {"camembert": "roberta", "xlm-roberta": "roberta"}.get(model_type, model_type) + "."
    spell = {
        "kept": lambda name: name,
        "left out": lambda name: name.removeprefix(prefix),
        "before all": lambda name: prefix + name.removeprefix(prefix),
        "mixed": lambda name: name.removeprefix(prefix) if len(name) % 2 else name,
    }[base]
    weights = {spell(name): array for name, array in random_weights(values).items()}
    folder = write(tmp_path, values, weights)
    assert same(ours(folder), theirs(folder))


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model.", "module._orig_mod."])
def test_a_wrapper_is_taken_off_where_transformers_takes_random_numbers(wrapper, tmp_path):
    values = config("bert")
    weights = random_weights(values)
    plain = write(tmp_path / "plain", values, weights)
    wrapped = {wrapper + name: array for name, array in weights.items()}
    folder = write(tmp_path / "wrapped", values, wrapped)
    assert same(ours(folder), theirs(plain))
    assert not same(ours(folder), theirs(folder))


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("function", ["softmax", "sigmoid"])
@pytest.mark.parametrize("ruled_out", [[2], [0, 1], [0, 1, 2]], ids=str)
def test_classes_that_the_head_rules_out_have_the_scores_of_transformers(
    ruled_out, function, tmp_path
):
    values = config("bert")
    weights = random_weights(values)
    weights["classifier.bias"][ruled_out] = -np.inf
    folder = write(tmp_path, values, weights)
    expected = theirs(folder, function)
    if np.isnan([score for _, score in expected]).any():
        assert ours(folder, function) is None
    else:
        assert same(ours(folder, function), expected)


HEADS = (
    "MODEL",
    "MODEL_FOR_MASKED_LM",
    "MODEL_FOR_PRETRAINING",
    "MODEL_FOR_CAUSAL_LM",
    "MODEL_FOR_TOKEN_CLASSIFICATION",
    "MODEL_FOR_QUESTION_ANSWERING",
    "MODEL_FOR_NEXT_SENTENCE_PREDICTION",
    "MODEL_FOR_MULTIPLE_CHOICE",
    "MODEL_FOR_TEXT_ENCODING",
)


def class_for(head, model_type):
    """The class of transformers that has that *head*; None where it has none for the type."""
    names = getattr(transformers.models.auto.modeling_auto, f"{head}_MAPPING_NAMES")
    return names.get(model_type) and getattr(transformers, names[model_type])


@pytest.mark.parametrize("said", [True, False], ids=["named", "silent"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_heads_for_other_tasks_are_refused_as_transformers_saves_them(
    model_type, head, said, tmp_path
):
    kind = class_for(head, model_type)
    if kind is None:
        return
    values = config(model_type, 2)
    write(tmp_path, values, random_weights(values))
    kind(transformers.AutoConfig.from_pretrained(tmp_path)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    written = json.loads(path.read_text())
    assert written["architectures"] == [kind.__name__]
    if not said:
        path.write_text(json.dumps(written | {"architectures": None}))
    # A head for the choice between texts has one row, and the others none for text classification.
    found = (
        kind.__name__
        if said
        else r"They are those of|They have no head|the head of the model, 1, but"
    )
    with pytest.raises(BadModel, match=found):
        Classifier(tmp_path)
