"""Products in int8: what they are, and that no text's score hangs on its company."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from labelwise import Classifier
from labelwise.engine import architectures
from labelwise.engine.checkpoint.checkpoint import Checkpoint
from labelwise.engine.config import Config
from labelwise.engine.cpus import Streams
from labelwise.engine.onnx import int8
from labelwise.engine.onnx.blocks import GraphBlocks
from labelwise.engine.onnx.graph import Graph
from labelwise.engine.onnx.runner import Runner
from labelwise.engine.packing import pack
from labelwise.engine.tokenizer.tokenizer import Encoded
from labelwise.errors import BadFile, BadInput
from labelwise.models.scores import apply
from padded import (
    MODEL_TYPES,
    config,
    in_integers,
    padded_logits,
    random_weights,
    write_model,
    write_tokenizer,
)

# Weights of 7 bits, and of 8 where the processor takes them.
LARGEST = sorted({63, int8.largest_weight(int8.processor_class())})


def load(folder, streams=Streams(1, 1), largest=127):  # noqa: B008 - frozen
    architecture = architectures.describe(Config.open(folder))
    with Checkpoint.open(folder) as checkpoint:
        product = partial(int8.product, largest=largest)
        return Runner(architecture, checkpoint, streams, product)


def texts_of(lengths, seed=0, vocabulary=300):
    random = np.random.default_rng(seed)
    return [
        Encoded(random.integers(2, vocabulary, length), np.zeros(length, np.int64), int(length))
        for length in lengths
    ]


def as_ids(texts):
    return [(text.ids, text.types) for text in texts]


@pytest.mark.parametrize("largest", LARGEST)
def test_the_largest_weight_of_an_output_becomes_the_largest_integer(largest):
    weight = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
    weight *= np.array([[1], [1e-20], [1e30], [3], [1]], np.float32)
    integers, scales = int8.quantized(weight, largest)
    assert (integers.dtype, integers.shape, scales.dtype) == (np.int8, (40, 5), np.float32)
    assert (np.abs(integers.astype(int)).max(axis=0) == largest).all()
    error = np.abs(integers.T * scales[:, None] - weight).max(axis=1)
    assert (error <= 0.501 * scales).all()


def test_an_output_of_zeros_stays_zero():
    integers, scales = int8.quantized(np.zeros((2, 3), np.float32), 127)
    assert not integers.any()
    assert (scales > 0).all()


@pytest.fixture(scope="module")
def multiply():
    """A function of states, weight, bias and the largest integer of a weight, in the runtime."""
    from labelwise.engine.onnx import format as onnx  # noqa: PLC0415
    from labelwise.engine.onnx.runtime import ort  # noqa: PLC0415

    def run(states, weight, bias, largest):
        graph = Graph()
        found = int8.product(graph, "states", weight, bias, largest=largest)
        graph.nodes.append(onnx.node("Identity", [found], ["out"], "out"))
        ends = [onnx.tensor_type(name, onnx.FLOAT, "rows", "width") for name in ("states", "out")]
        tensors = [onnx.tensor(name, array) for name, array in graph.weights.items()]
        message = onnx.graph("one", graph.nodes, ends[:1], ends[1:], [*graph.constants, *tensors])
        session = ort.InferenceSession(
            onnx.model(message, {"": 20, "com.microsoft": 1}), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"states": states})[0]

    return run


@pytest.mark.parametrize("largest", LARGEST)
@pytest.mark.parametrize("rows", [1, 2, 5, 64])
def test_a_product_is_that_of_the_integers(rows, largest, multiply):
    random = np.random.default_rng(rows)
    states = random.standard_normal((rows, 96)).astype(np.float32)
    weight = random.standard_normal((33, 96)).astype(np.float32)
    bias = random.standard_normal(33).astype(np.float32)
    expected = in_integers(states, weight, bias, largest)
    assert np.abs(multiply(states, weight, bias, largest) - expected).max() < 2e-5
    exact = states @ weight.T + bias
    assert 0 < np.abs(expected - exact).max() < 1


@pytest.mark.parametrize("largest", LARGEST)
def test_the_largest_integers_of_one_sign_do_not_overflow(largest, multiply):
    states, weight = np.full((4, 512), 3.0, np.float32), np.full((8, 512), 2.0, np.float32)
    for sign in (1, -1):
        found = multiply(sign * states, weight, np.zeros(8, np.float32), largest)
        assert found == pytest.approx(sign * 3072, rel=1e-5)


def test_rows_of_zeros_and_huge_values_keep_to_themselves(multiply):
    random = np.random.default_rng(0)
    states = random.standard_normal((4, 64)).astype(np.float32)
    weight, bias = random.standard_normal((8, 64)).astype(np.float32), np.ones(8, np.float32)
    alone = multiply(states, weight, bias, 127)
    states[1] = 0
    states[2] *= np.float32(1e30)
    together = multiply(states, weight, bias, 127)
    assert (together[[0, 3]] == alone[[0, 3]]).all()
    assert (together[1] == 1).all()
    assert together[2] == pytest.approx(1e30 * (alone[2] - 1), rel=1e-4)


@pytest.mark.parametrize("damage", ["weight", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_never_hidden_by_an_integer(damage, value):
    arrays = {"weight": np.ones((2, 3), np.float32), "bias": np.ones(2, np.float32)}
    arrays[damage].flat[1] = value
    with pytest.raises(BadFile, match="damaged"):
        int8.product(Graph(), "states", **arrays, largest=127)


@pytest.mark.parametrize("largest", LARGEST)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_every_type_is_near_the_specification_in_integers(model_type, largest, tmp_path):
    """Near: a state whose last bits differ may round to the next integer, here or there."""
    values = config(model_type)
    weights = random_weights(values)
    texts = texts_of([1, 2, 3, 7, 16, 33, 64])
    found = load(write_model(tmp_path, values, weights), largest=largest).run(pack(texts))
    expected = padded_logits(values, weights, as_ids(texts), largest)
    exact = padded_logits(values, weights, as_ids(texts))
    cost = np.abs(expected - exact)
    assert np.abs(found - expected).mean() < cost.mean() / 10
    assert 0 < cost.max() < 0.3


@pytest.mark.parametrize("largest", LARGEST)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_a_score_is_the_same_alone_in_any_batch_and_on_any_stream(model_type, largest, tmp_path):
    folder = write_model(tmp_path, config(model_type))
    texts = texts_of(np.random.default_rng(1).integers(1, 60, 48))
    streams = [Streams(1, 1), Streams(1, 2), Streams(2, 1)]
    runners = [load(folder, kind, largest) for kind in streams]
    alone = np.concatenate([runners[0].run(pack([text])) for text in texts])
    random = np.random.default_rng(0)
    for runner in runners:
        chosen = [random.choice(len(texts), size, replace=False) for size in (48, 1, 2, 5, 17, 31)]
        with ThreadPoolExecutor(2) as pool:
            batches = [pack([texts[number] for number in numbers]) for numbers in chosen]
            found = np.concatenate(list(pool.map(runner.run, batches)))
        scores = apply("sigmoid", found) - apply("sigmoid", alone[np.concatenate(chosen)])
        assert np.abs(scores).max() < 1e-5


def test_the_embedded_model_scores_a_text_the_same_alone_and_in_company():
    classify = Classifier(dtype="int8")
    random = np.random.default_rng(0)
    words = ["good", "bad", "film", "the", "was", "never", "a", "delight"]
    texts = [" ".join(random.choice(words, n)) for n in random.integers(1, 60, 100)]
    together = classify(texts, function_to_apply="sigmoid")
    for text, scores in zip(texts[::5], together[::5], strict=True):
        found = classify(text, function_to_apply="sigmoid")
        assert [score.label for score in found] == [score.label for score in scores]
        for one, other in zip(found, scores, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_no_weight_of_a_quantized_product_stays_in_fp32(model_type, tmp_path):
    values = config(model_type)
    graph = Graph()
    with Checkpoint.open(write_model(tmp_path, values)) as checkpoint:
        product = partial(int8.product, largest=127)
        architecture = architectures.describe(Config.open(tmp_path))
        architecture.build(GraphBlocks(graph, checkpoint, product))
    kinds = [array.dtype for array in graph.weights.values() if array.ndim == 2]
    # Of three layers, all but the last: query, key and value together, output, up and down.
    assert kinds.count(np.dtype(np.int8)) == 2 * 4 + (model_type == "electra")
    # The tables of the embeddings; of the last layer query, output, up and down; the head.
    tables = 2 if model_type == "distilbert" else 3
    assert kinds.count(np.dtype(np.float32)) == tables + 4 + 2


def test_a_model_in_int8_is_another_and_says_so(tmp_path):
    values = config("bert")
    folder = write_tokenizer(write_model(tmp_path, values), values)
    exact, small = Classifier(folder), Classifier(folder, dtype="int8")
    assert (exact.model.dtype, small.model.dtype) == ("float32", "int8")
    pairs = zip(exact("w9 w10"), small("w9 w10"), strict=True)
    assert 0 < max(abs(one.score - other.score) for one, other in pairs) < 0.1


@pytest.mark.parametrize("dtype", ["int4", "INT8", None, 8])
def test_there_are_two_dtypes(dtype):
    with pytest.raises(BadInput, match="dtype is float32 or int8"):
        Classifier(dtype=dtype)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f avx512_vnni", "vnni"),
        ("fpu avx2 avx_vnni amx", "vnni"),
        ("fpu avx2 avx512f", "plain"),
        ("fpu not_avx_vnnis", "plain"),
        (None, "plain"),
    ],
)
def test_a_processor_has_the_class_of_its_instructions(flags, expected, tmp_path):
    if flags is not None:
        (tmp_path / "cpuinfo").write_text(f"model name\t: avx_vnni\nflags\t\t: {flags}\n")
    assert int8.processor_class("x86_64", tmp_path / "cpuinfo") == expected
    assert int8.processor_class("arm64", tmp_path / "cpuinfo") == "arm"


def test_weights_have_7_bits_where_two_products_are_added_in_16():
    assert [int8.largest_weight(each) for each in ("vnni", "arm", "plain")] == [127, 127, 63]
    assert 255 * 63 * 2 < 2**15 < 255 * 127 * 2
