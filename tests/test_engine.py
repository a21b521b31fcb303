"""The engine against the padded specification, and against itself in other company."""

from __future__ import annotations

import gc
import json
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labelwise.engine import architectures, blocks
from labelwise.engine.checkpoint.checkpoint import Checkpoint
from labelwise.engine.config import Config
from labelwise.engine.cpus import Streams
from labelwise.engine.onnx import blocks as onnx_blocks
from labelwise.engine.onnx.blocks import GraphBlocks
from labelwise.engine.onnx.graph import Graph
from labelwise.engine.onnx.runner import Runner
from labelwise.engine.packing import pack
from labelwise.engine.tokenizer.tokenizer import Encoded
from labelwise.errors import BadFile, MissingWeight, UnsupportedModel
from padded import MODEL_TYPES, config, padded_logits, random_weights, write_model

RECORDED = json.loads((Path(__file__).parent / "recorded_logits.json").read_text())


def load(folder, streams=Streams(1, 1)):  # noqa: B008 - frozen
    architecture = architectures.describe(Config.open(folder))
    with Checkpoint.open(folder) as checkpoint:
        return Runner(architecture, checkpoint, streams)


def texts_of(lengths, *, seed=0, vocabulary=300, types=True):
    random = np.random.default_rng(seed)
    texts = []
    for length in lengths:
        ids = random.integers(2, vocabulary, length)
        kinds = np.sort(random.integers(0, 2, length)) if types else np.zeros(length, np.int64)
        texts.append(Encoded(ids, kinds, length))
    return texts


def as_ids(texts):
    return [(text.ids, text.types) for text in texts]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small BERT with its configuration and weights."""
    values = config("bert")
    weights = random_weights(values)
    folder = write_model(tmp_path_factory.mktemp("small"), values, weights)
    return values, weights, folder


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_type_equals_the_padded_specification(model_type, tmp_path):
    values = config(model_type)
    weights = random_weights(values)
    runner = load(write_model(tmp_path, values, weights))
    texts = texts_of([1, 2, 3, 7, 16, 33, 64, 120, 512])
    # The longest alone: padding the others to its length would cost most of the time.
    expected = np.concatenate(
        [padded_logits(values, weights, as_ids(part)) for part in (texts[:-1], texts[-1:])]
    )
    assert np.abs(runner.run(pack(texts)) - expected).max() < 2e-5
    assert np.abs(expected[0] - expected[-1]).max() > 0.1  # the model tells texts apart


@pytest.mark.parametrize("types", [1, 2, 3])
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_types_of_ids_count_where_the_model_has_rows_for_them(model_type, types, tmp_path):
    values = config(model_type, type_vocab_size=types)
    weights = random_weights(values)
    runner = load(write_model(tmp_path, values, weights))
    texts = texts_of([9, 30])
    logits = runner.run(pack(texts))
    assert np.abs(logits - padded_logits(values, weights, as_ids(texts))).max() < 2e-5
    of_one_type = [Encoded(text.ids, np.zeros_like(text.ids), len(text)) for text in texts]
    counts = np.abs(logits - runner.run(pack(of_one_type))).max() > 1e-3
    assert counts == (types > 1 and model_type != "distilbert")


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_type_gives_the_logits_that_transformers_gave(model_type, tmp_path):
    recorded = RECORDED[model_type]
    runner = load(write_model(tmp_path, recorded["config"]))
    for case in recorded["cases"]:
        text = Encoded(np.array(case["ids"]), np.array(case["types"]), len(case["ids"]))
        assert runner.run(pack([text]))[0] == pytest.approx(case["logits"], abs=1e-4)


@pytest.mark.parametrize(
    "act", ["gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu", "tanh"]
)
def test_every_activation_equals_the_specification(act, tmp_path):
    values = config("bert", hidden_act=act, num_hidden_layers=2)
    weights = random_weights(values)
    texts = texts_of([5, 30])
    expected = padded_logits(values, weights, as_ids(texts))
    logits = load(write_model(tmp_path, values, weights)).run(pack(texts))
    assert np.abs(logits - expected).max() < 2e-5


@pytest.mark.parametrize("labels", [1, 2, 28])
def test_any_number_of_labels_and_a_single_layer(labels, tmp_path):
    values = config("distilbert", labels, num_hidden_layers=1)
    weights = random_weights(values)
    texts = texts_of([4, 9])
    logits = load(write_model(tmp_path, values, weights)).run(pack(texts))
    assert logits.shape == (2, labels)
    assert np.abs(logits - padded_logits(values, weights, as_ids(texts))).max() < 2e-5


def test_roberta_counts_positions_past_a_padding_id_within_the_text(tmp_path):
    values = config("roberta")
    weights = random_weights(values)
    ids = np.array([0, 5, 1, 9, 1, 1, 7, 2])  # 1 is the padding id
    texts = [Encoded(ids, np.zeros(8, np.int64), 8), *texts_of([11])]
    expected = padded_logits(values, weights, as_ids(texts))
    # The mask is by length: padding ids of the text itself take part, as in transformers.
    logits = load(write_model(tmp_path, values, weights)).run(pack(texts))
    assert np.abs(logits - expected).max() < 2e-5


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=12),
    seed=st.integers(0, 2**20),
)
def test_a_text_has_the_same_logits_alone_and_in_any_batch(lengths, seed, small, runners):
    texts = texts_of(lengths, seed=seed)
    together = runners[0].run(pack(texts))
    alone = np.concatenate([runners[0].run(pack([text])) for text in texts])
    assert np.abs(together - alone).max() < 2e-5
    values, weights, _ = small
    assert np.abs(together - padded_logits(values, weights, as_ids(texts))).max() < 2e-5


@pytest.fixture(scope="module")
def runners(small):
    """The same model on one thread, on two, and in two streams."""
    return [load(small[2], streams) for streams in (Streams(1, 1), Streams(1, 2), Streams(2, 1))]


def test_a_text_has_the_same_logits_alone_and_beside_others(small):
    runner = load(small[2], Streams(2, 2))
    packed = pack(texts_of([5, 60, 17]))
    assert np.abs(runner.run(packed, exclusive=True) - runner.run(packed)).max() < 2e-5


def test_a_text_has_the_same_logits_on_any_stream(runners):
    texts = texts_of([1, 512, 30, 8, 77])
    expected = np.concatenate([runners[0].run(pack([text])) for text in texts])
    for runner in runners:
        with ThreadPoolExecutor(4) as pool:
            many = list(pool.map(runner.run, [pack([text]) for text in texts * 8]))
        assert np.abs(np.concatenate(many) - np.tile(expected, (8, 1))).max() < 2e-5


def test_an_unknown_model_type_is_answered_with_those_supported(tmp_path):
    folder = write_model(
        tmp_path, config("bert") | {"model_type": "gpt2"}, random_weights(config("bert"))
    )
    with pytest.raises(
        UnsupportedModel, match="'gpt2' is not supported; supported: bert, camembert"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "__import__('os')"}, "hidden_act"),
        ({"is_decoder": True}, "is_decoder"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ],
)
def test_what_the_engine_cannot_do_is_refused_by_name(change, message, tmp_path):
    with pytest.raises(UnsupportedModel, match=message):
        load(write_model(tmp_path, config("bert") | change, random_weights(config("bert"))))


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 10**12},
        {"num_attention_heads": 7},
        {"num_attention_heads": 0},
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": "three"},
        {"vocab_size": -1},
        {"max_position_embeddings": 10**7},
        {"intermediate_size": True},
        {"layer_norm_eps": "small"},
    ],
    ids=str,
)
def test_absurd_sizes_are_one_clear_error(change, tmp_path):
    with pytest.raises(BadFile):
        load(write_model(tmp_path, config("bert") | change, random_weights(config("bert"))))


def test_a_missing_weight_is_named(tmp_path):
    weights = random_weights(config("bert"))
    del weights["bert.encoder.layer.1.output.dense.bias"]
    with pytest.raises(MissingWeight, match=r"bert\.encoder\.layer\.1\.output\.dense\.bias"):
        load(write_model(tmp_path, config("bert"), weights))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_the_message_is_sound_onnx_without_weights_in_it(model_type, tmp_path):
    folder, graph = write_model(tmp_path, config(model_type)), Graph()
    with Checkpoint.open(folder) as checkpoint:
        architecture = architectures.describe(Config.open(folder))
        message = graph.message(architecture.build(GraphBlocks(graph, checkpoint)).value)
    assert len(message) < 50_000
    assert sum(array.nbytes for array in graph.weights.values()) > 5 * len(message)
    model = onnx.load_model_from_string(message)
    external = {tensor.name for tensor in model.graph.initializer if tensor.external_data}
    assert external == graph.weights.keys()
    for tensor in model.graph.initializer:  # the checker looks for the file that is named
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT
        if tensor.name in external:
            tensor.raw_data = graph.weights[tensor.name].tobytes()
    standard = [node for node in model.graph.node if not node.domain]
    assert len(standard) > 10
    onnx.checker.check_model(model)


def test_the_weights_are_let_go_once_the_runtime_has_them(small):
    """Without waiting for the collector of cycles, which may never come."""
    architecture, released = architectures.describe(Config.open(small[2])), []

    def build(blocks):
        weakref.finalize(blocks._graph, released.append, "graph")
        return architecture.build(blocks)

    gc.disable()
    try:
        with Checkpoint.open(small[2]) as checkpoint:
            Runner(replace(architecture, build=build), checkpoint, Streams(1, 1))
        assert released == ["graph"]
    finally:
        gc.enable()


def test_the_backend_has_all_activations_and_no_others():
    assert set(onnx_blocks._ACTIVATIONS) == set(blocks.ACTIVATIONS)
