"""What a folder is: a text classifier is read, and what is known to be something else is named."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import pytest
from click.testing import CliRunner

from labelwise import Classifier
from labelwise.commands.main import main
from labelwise.engine import folder as kinds
from labelwise.errors import BadFile, BadModel, MissingWeight, UnsupportedModel
from labelwise.serving.catalogue import Catalogue
from padded import MODEL_TYPES, config, random_weights, write_model, write_tokenizer

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
PAGE = "\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n"


def classifier_folder(path, model_type="bert", weights=None, **changes):
    values = config(model_type) | changes
    write_model(path, values, weights or random_weights(config(model_type)))
    return write_tokenizer(path, values)


@contextmanager
def refusing(kind, message):
    """What happens inside ends in one line that has *message* in it, and says what to do."""
    with pytest.raises(kind, match=message) as caught:
        yield
    assert type(caught.value) is kind
    assert str(caught.value).isprintable()


# By its files.


@pytest.mark.parametrize("base", ["beside its base", "alone"])
@pytest.mark.parametrize("name", kinds.ADAPTER.marks)
def test_an_adapter_is_refused(name, base, tmp_path):
    if base == "alone":
        (tmp_path / "README.md").write_text("read me")
    else:
        classifier_folder(tmp_path)
    (tmp_path / name).write_text("{}")
    with refusing(UnsupportedModel, rf"an adapter .*, as {name} shows; .*merge_and_unload"):
        Classifier(tmp_path)


@pytest.mark.parametrize("name", ["query.lora_A.default.weight", "query.base_layer.weight"])
def test_an_adapter_among_the_weights_is_refused(name, tmp_path):
    """Its base is there as well, and would answer without it."""
    more = {f"bert.encoder.layer.0.attention.self.{name}": np.ones(1, np.float32)}
    classifier_folder(tmp_path, weights=random_weights(config("bert")) | more)
    with refusing(UnsupportedModel, r"an adapter that is not merged.*merge_and_unload"):
        Classifier(tmp_path)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind.what) for kind in kinds.EMBEDDERS for name in kind.marks]
)
def test_a_model_for_embeddings_is_refused_by_name(name, kind, tmp_path):
    classifier_folder(tmp_path)
    (tmp_path / name).write_text("{}")
    with refusing(UnsupportedModel, f"holds {kind}, as {name} shows; .* text classification"):
        Classifier(tmp_path)


@pytest.mark.parametrize("version", ["4", "6"])
def test_a_cross_encoder_is_read(version, tmp_path):
    """As transformers reads it: the activation that sentence-transformers keeps is its own."""
    plain = Classifier(classifier_folder(tmp_path / "plain"))("w9 w10")
    told = {"activation_fn": "torch.nn.modules.linear.Identity", "version": version}
    names = ["BertForSequenceClassification"]
    folder = classifier_folder(tmp_path / "a", sentence_transformers=told, architectures=names)
    if version == "6":
        modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.Transformer"}]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
        (folder / "sentence_bert_config.json").write_text("{}")
    assert Classifier(folder)("w9 w10") == plain


# By its configuration.


@pytest.mark.parametrize("stem", ["", "Bert", "TFDistil", "XLM"])
@pytest.mark.parametrize("ending", [mark for kind in kinds.TASKS for mark in kind.marks])
def test_a_head_for_another_task_is_refused_by_name(stem, ending, tmp_path):
    name = stem + ending
    classifier_folder(tmp_path, architectures=[name])
    with refusing(UnsupportedModel, f"architectures names {name}, which .* text classification"):
        Classifier(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        None,
        [],
        "",
        ["BertForSequenceClassification"],
        "BertForSequenceClassification",
        ["BertModel", "BertForSequenceClassification"],
        ["RobertaForSequenceClassification"],  # the weights decide
        ["TFBertForSequenceClassification"],
        ["SentimentModel"],  # a class that nobody knows
    ],
    ids=str,
)
def test_other_names_of_classes_let_the_weights_decide(names, tmp_path):
    assert Classifier(classifier_folder(tmp_path, architectures=names))("w9")


@pytest.mark.parametrize("names", [3, {"a": 1}, [3], [None], True], ids=str)
def test_architectures_are_a_list_of_names(names, tmp_path):
    classifier_folder(tmp_path, architectures=names)
    with refusing(BadFile, r"config\.json: architectures must be a list of names"):
        Classifier(tmp_path)


@pytest.mark.parametrize(
    ("settings", "tool"),
    [
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes"),
        ({"load_in_8bit": True}, "bitsandbytes"),
        ({"load_in_4bit": True}, "bitsandbytes"),
        ({}, "a tool"),
        ([], "a tool"),
        ({"quant_method": "\x1b[31m" * 99}, ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_quantized_model_is_refused_by_the_name_of_the_tool(settings, tool, tmp_path):
    classifier_folder(tmp_path, quantization_config=settings)
    with refusing(UnsupportedModel, f"says that {tool}.* as it was before"):
        Classifier(tmp_path)


def test_no_quantization_may_be_said(tmp_path):
    assert Classifier(classifier_folder(tmp_path, quantization_config=None))("w9")


# By its weights.

OTHER_HEADS = {
    "cls.predictions.bias": "predicts words",
    "cls.predictions.transform.dense.weight": "predicts words",
    "lm_head.bias": "predicts words",
    "vocab_projector.bias": "predicts words",
    "generator_predictions.dense.weight": "predicts words",
    "discriminator_predictions.dense.weight": "trained further",
    "qa_outputs.weight": "finds answers",
    "cls.seq_relationship.weight": "follows a sentence",
    "unknown.weight": "no head for a task",
}


def with_head(model_type, *names):
    """The weights of an encoder, without its head but with other weights."""
    weights = random_weights(config(model_type))
    heads = ("classifier.", "pre_classifier.", "bert.pooler.")
    kept = {name: array for name, array in weights.items() if not name.startswith(heads)}
    return kept | dict.fromkeys(names, np.ones((3, 48), np.float32))


@pytest.mark.parametrize("name", OTHER_HEADS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_weights_of_another_head_are_named(model_type, name, tmp_path):
    classifier_folder(tmp_path, model_type, with_head(model_type, name))
    with refusing(MissingWeight, f"{OTHER_HEADS[name]}.* text classification"):
        Classifier(tmp_path)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_weights_that_label_each_word_are_named(model_type, tmp_path):
    weights = with_head(model_type, "classifier.weight")
    classifier_folder(tmp_path, model_type, weights)
    with refusing(MissingWeight, r"labels each word.* text classification"):
        Classifier(tmp_path)


@pytest.mark.parametrize("name", ["bert.encoder.layer.1.output.dense.bias", "classifier.bias"])
def test_a_weight_that_is_lost_says_nothing_of_the_head(name, tmp_path):
    weights = random_weights(config("bert"))
    del weights[name]
    classifier_folder(tmp_path, weights=weights | {"lm.bias": np.ones(1, np.float32)})
    with pytest.raises(MissingWeight, match=f"no weight {name} among .* same model"):
        Classifier(tmp_path)


QUANTIZED = {
    "qweight": "GPTQ or AWQ",
    "SCB": "bitsandbytes",
    "weight.absmax": "bitsandbytes",
    "weight.quant_state.bitsandbytes__nf4": "bitsandbytes",
    "weight_scale": "compressed-tensors",
    "weight_packed": "compressed-tensors",
    "_packed_params._packed_params": "torch",
}


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, None])
@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_weights_are_named_by_their_tool(name, dtype, tmp_path):
    """Whether the weights themselves are there in integers, or under other names."""
    weights = random_weights(config("bert"))
    layer = "bert.encoder.layer.0.output.dense"
    whole = weights.pop(f"{layer}.weight")
    weights[f"{layer}.{name}"] = np.ones(1, np.float32)
    if dtype:
        weights[f"{layer}.weight"] = whole.astype(dtype)
    classifier_folder(tmp_path, weights=weights)
    with pytest.raises(BadModel, match=f"quantized by {QUANTIZED[name]}.* as it was before"):
        Classifier(tmp_path)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.bool_])
def test_integers_are_no_weights(dtype, tmp_path):
    weights = random_weights(config("bert"))
    weights["classifier.weight"] = weights["classifier.weight"].astype(dtype)
    classifier_folder(tmp_path, weights=weights)
    with refusing(BadFile, r"classifier\.weight is stored as .* again in float32"):
        Classifier(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.onnx", r"ONNX weights\. Give the model that was exported"),
        ("onnx/model.onnx", r"ONNX weights\. Give the model that was exported"),
        ("tf_model.h5", r"TensorFlow weights\. Load them with transformers 4.*from_tf"),
        ("bert_model.ckpt.index", r"TensorFlow weights\. Load them with transformers 4.*from_tf"),
        ("flax_model.msgpack", r"Flax weights\. Load them with transformers 4.*from_flax"),
        ("model-q4.gguf", r"GGUF weights\. Give the model that was .* converted"),
        ("openvino_model.xml", r"OpenVINO weights\. Give the model that was exported"),
        ("model.pt", r"PyTorch weights\. Load them into the model"),
        ("model.fp16.safetensors", r"weights by another name\. .* call it model\.safetensors"),
    ],
)
def test_weights_of_other_programs_are_named(name, message, tmp_path):
    classifier_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"weights")
    with refusing(BadFile, rf"looked for model\.safetensors, .* {name} holds {message}"):
        Classifier(tmp_path)


# Names of weights.


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.", "model."])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_weights_are_read_with_and_without_what_goes_before_them(model_type, wrapper, tmp_path):
    plain = Classifier(classifier_folder(tmp_path / "plain", model_type))("w9 w10")
    weights = random_weights(config(model_type))
    base = {"distilbert": "distilbert.", "electra": "electra.", "bert": "bert."}
    base = base.get(model_type, "roberta.")
    for number, name in enumerate(
        [
            lambda name: name,
            lambda name: name.removeprefix(base),
            lambda name: base + name.removeprefix(base),
        ]
    ):
        changed = {wrapper + name(old): array for old, array in weights.items()}
        folder = classifier_folder(tmp_path / str(number), model_type, changed)
        assert Classifier(folder)("w9 w10") == plain


def test_a_head_of_another_program_is_not_put_on_its_encoder(tmp_path):
    """What it does between the two nobody knows."""
    weights = random_weights(config("bert"))
    inner = {f"model.{name.removeprefix('bert.')}": array for name, array in weights.items()}
    inner["classifier.weight"] = inner.pop("model.classifier.weight")
    classifier_folder(tmp_path, weights=inner)
    with pytest.raises(MissingWeight):
        Classifier(tmp_path)


# What a download left.


@pytest.mark.parametrize("content", [POINTER, PAGE], ids=["pointer", "page"])
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.txt",
        "pytorch_model.bin",
    ],
)
def test_what_stands_in_the_place_of_a_file_is_named(name, content, tmp_path):
    folder = classifier_folder(tmp_path)
    if name in {"vocab.txt", "added_tokens.json"}:
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\n")
        (folder / "tokenizer_config.json").unlink()
    if name in {"model.safetensors.index.json", "pytorch_model.bin"}:
        (folder / "model.safetensors").unlink()
    (folder / name).write_text(content)
    what = "a Git LFS pointer.*git lfs pull" if content == POINTER else "a web page.*again"
    with refusing(BadFile, rf"/{name} is {what}"):
        Classifier(folder)


@pytest.mark.parametrize("content", [POINTER, PAGE], ids=["pointer", "page"])
@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_what_stands_in_the_place_of_a_file_of_roberta_is_named(name, content, tmp_path):
    folder = classifier_folder(tmp_path, "roberta")
    (folder / "tokenizer.json").unlink()
    words = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4}
    (folder / "vocab.json").write_text(json.dumps(words))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    settings = {"tokenizer_class": "RobertaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / name).write_text(content)
    with refusing(BadFile, rf"/{name} is a (Git LFS pointer|web page)"):
        Classifier(folder)


@pytest.mark.parametrize(
    "content", [POINTER, PAGE, "\ufeff" + PAGE], ids=["pointer", "page", "mark"]
)
@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.csv", "a.jsonl", "labelwise.toml"])
def test_what_stands_in_the_place_of_texts_or_settings_is_named(name, content, tmp_path):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    command = ["serve", "--config"] if name.endswith(".toml") else ["compare-int8", ".", "--data"]
    done = CliRunner().invoke(main, [*command, str(path)])
    assert done.exit_code == 2
    assert f"{name} is a {'Git LFS pointer' if content == POINTER else 'web page'}" in done.stderr


@pytest.mark.parametrize("content", [POINTER, PAGE], ids=["pointer", "page"])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "vocab.txt", "tf_model.h5"])
def test_what_stands_in_the_place_of_a_file_that_is_not_read_does_no_harm(name, content, tmp_path):
    """Who needs no pickled weights does not pull them."""
    folder = classifier_folder(tmp_path)
    (folder / name).write_text(content)
    assert Catalogue.load([f"org/model={folder}"]).first.model.labels
