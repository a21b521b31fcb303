"""The parts that encoders are made of, each as a few nodes of the graph.

States are ``(rows, width)``: all ids of all texts, end to end, with no padding between them.
Only attention looks at one text at a time. Weights keep the checkpoint's layout, ``(out, in)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labelwise.engine.graph import Graph, Value
from labelwise.engine.onnx_format import FLOAT
from labelwise.errors import BadFile

if TYPE_CHECKING:
    from labelwise.engine.checkpoint import Checkpoint

Activation = Callable[[Graph, Value], Value]
Product = Callable[[Graph, Value, np.ndarray, np.ndarray], Value]  # of states, weight and bias
Linear = Callable[[Value, str, int, int], Value]  # of states, a weight's name, outputs, inputs


def exact_product(graph: Graph, states: Value, weight: np.ndarray, bias: np.ndarray) -> Value:
    """``states @ weight.T + bias`` in fp32."""
    return graph.op("Gemm", states, graph.weight(weight), graph.weight(bias), transB=1)


def _gelu(graph: Graph, states: Value) -> Value:
    return graph.op("Gelu", states)


def _gelu_tanh(graph: Graph, states: Value) -> Value:
    return graph.op("FastGelu", states)


def _quick_gelu(graph: Graph, states: Value) -> Value:
    return graph.op("QuickGelu", states, alpha=1.702)


def _silu(graph: Graph, states: Value) -> Value:
    return graph.op("QuickGelu", states, alpha=1.0)


def _relu(graph: Graph, states: Value) -> Value:
    return graph.op("Relu", states)


def _tanh(graph: Graph, states: Value) -> Value:
    return graph.op("Tanh", states)


# By the names that `hidden_act` may have in transformers.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": _gelu,
    "gelu_fast": _gelu_tanh,
    "gelu_new": _gelu_tanh,
    "gelu_python": _gelu,
    "gelu_pytorch_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": _relu,
    "silu": _silu,
    "swish": _silu,
    "tanh": _tanh,
}


MOST_LAYERS = 1_000


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that all layers of an encoder share."""

    width: int  # of a state
    heads: int
    inner: int  # width between the two products of the feed-forward part
    epsilon: float  # of every layer norm
    activation: str  # a key of ACTIVATIONS

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise BadFile(f"config.json: {self.heads} heads do not divide a width of {self.width}")

    @property
    def head_width(self) -> int:
        """The part of a state that one head sees."""
        return self.width // self.heads


@dataclass(frozen=True, slots=True)
class LayerNames:
    """What the checkpoint calls the weights of one layer, without ``.weight`` and ``.bias``."""

    query: str
    key: str
    value: str
    output: str
    output_norm: str
    up: str
    down: str
    down_norm: str


class Layers:
    """Builds an encoder into a graph, taking each weight from the checkpoint where it is used."""

    def __init__(
        self, graph: Graph, checkpoint: Checkpoint, product: Product = exact_product
    ) -> None:
        """*product* is how the states of all ids are multiplied; those of first ids are exact."""
        self._graph = graph
        self._checkpoint = checkpoint
        self._product = product

    def words(self, name: str, rows: int, width: int) -> Value:
        """The embedding of each id.

        The table keeps its stored type, and only the rows that are read are widened: half the
        memory where the file holds fp16.
        """
        table = self._checkpoint.take_stored(f"{name}.weight", (rows, width))
        found = self._graph.op("Gather", self._graph.weight(table), "ids")
        return self._graph.op("Cast", found, to=FLOAT)

    def plus(self, states: Value, name: str, rows: int, width: int, by: Value) -> Value:
        """*states* plus rows of another table, looked up by an input: "positions" or "types"."""
        table = self._graph.weight(self._checkpoint.take(f"{name}.weight", (rows, width)))
        return self._graph.op("Add", states, self._graph.op("Gather", table, by))

    def norm(self, states: Value, name: str, width: int, epsilon: float) -> Value:
        """Layer norm: each state to mean 0 and variance 1, then scaled and shifted."""
        scale, shift = self._vector(f"{name}.weight", width), self._vector(f"{name}.bias", width)
        return self._graph.op("LayerNormalization", states, scale, shift, epsilon=epsilon)

    def linear(self, states: Value, name: str, outputs: int, inputs: int) -> Value:
        """``states @ weight.T + bias``, for the states of first ids: always exact.

        They are few, and their last bits come from how many there are. An inexact product could
        turn those bits into a step, and a text's score would hang on its company.
        """
        return exact_product(self._graph, states, *self._parameters(name, outputs, inputs))

    def project(self, states: Value, name: str, outputs: int, inputs: int) -> Value:
        """``states @ weight.T + bias``, for the states of all ids."""
        return self._product(self._graph, states, *self._parameters(name, outputs, inputs))

    def dense(self, states: Value, name: str, outputs: int, inputs: int, activation: str) -> Value:
        """``activation(states @ weight.T + bias)``."""
        return ACTIVATIONS[activation](self._graph, self.linear(states, name, outputs, inputs))

    def classify(self, states: Value, name: str, inputs: int) -> Value:
        """The logits: a product with as many outputs as its weight has rows."""
        return self.linear(states, name, self._checkpoint.rows(f"{name}.weight"), inputs)

    def encode(self, states: Value, shape: Shape, layers: Sequence[LayerNames]) -> Value:
        """The state of the first id of each text, ``(texts, width)``, after all *layers*."""
        for names in layers[:-1]:
            attended = self._attend(states, names, shape)
            states = self._feed_forward(attended, states, names, shape, self.project)
        rows = self._graph.op("Reshape", "begins", self._graph.constant(-1))
        first = self._graph.op("Gather", states, rows)
        attended = self._attend_from_first(first, states, layers[-1], shape)
        return self._feed_forward(attended, first, layers[-1], shape, self.linear)

    def _attend(self, states: Value, names: LayerNames, shape: Shape) -> Value:
        """What each id gathers from the ids of its own text."""
        graph, width = self._graph, shape.width
        parts = (names.query, names.key, names.value)
        parameters = zip(*(self._parameters(part, width, width) for part in parts), strict=True)
        projected = self._product(graph, states, *map(np.concatenate, parameters))
        projected = graph.op("Unsqueeze", projected, graph.constant(0))  # (1, rows, 3 * width)

        def attend(body: Graph, rows: Value, _: Value) -> Value:
            query, key, value = body.ops("Split", rows, outputs=3, axis=2, num_outputs=3)
            return body.op("MultiHeadAttention", query, key, value, num_heads=shape.heads)

        attended = graph.each_text(projected, attend, axis=1)
        return graph.op("Squeeze", attended, graph.constant(0))

    def _attend_from_first(
        self, first: Value, states: Value, names: LayerNames, shape: Shape
    ) -> Value:
        """What the first id of each text gathers, without a key or a value for any id.

        A score is ``q . (K s + k) = (K.T q) . s + q . k``; the last term is the same for every
        state *s* of the text and drops out of the softmax. What is gathered is ``sum p (V s + v) =
        V (sum p s) + v``, for the weights *p* sum to 1. So both products are taken once for each
        text, not for each id.
        """
        graph, width = self._graph, shape.width
        by_head = (shape.heads, shape.head_width, width)
        key = self._checkpoint.take(f"{names.key}.weight", (width, width)).reshape(by_head)
        value = self._checkpoint.take(f"{names.value}.weight", (width, width)).reshape(by_head)
        self._checkpoint.take(f"{names.key}.bias", (width,))  # read and not needed: see above
        query = self.linear(first, names.query, width, width)
        query = graph.op("Reshape", query, graph.constant(-1, shape.heads, shape.head_width))
        scale = shape.head_width**-0.5
        query = graph.op("FusedMatMul", query, graph.weight(key), transBatchA=1, alpha=scale)
        query = graph.op("Transpose", query, perm=[1, 0, 2])  # (texts, heads, width)
        axis = graph.constant(0)

        def attend(body: Graph, rows: Value, number: Value) -> Value:  # (length, width)
            scores = body.op("FusedMatMul", body.op("Gather", query, number), rows, transB=1)
            gathered = body.op("MatMul", body.op("Softmax", scores), rows)  # (heads, width)
            return body.op("Unsqueeze", gathered, axis)

        gathered = graph.each_text(states, attend, axis=0)  # (texts, heads, width)
        gathered = graph.op(
            "FusedMatMul", gathered, graph.weight(value), transBatchA=1, transB=1
        )  # (heads, texts, head width)
        gathered = graph.op("Transpose", gathered, perm=[1, 0, 2])
        gathered = graph.op("Reshape", gathered, graph.constant(-1, width))
        return graph.op("Add", gathered, self._vector(f"{names.value}.bias", width))

    def _feed_forward(
        self, attended: Value, states: Value, names: LayerNames, shape: Shape, linear: Linear
    ) -> Value:
        """The part of a layer after attention: each state for itself, multiplied by *linear*."""
        width, inner = shape.width, shape.inner
        added = self._graph.op("Add", linear(attended, names.output, width, width), states)
        states = self.norm(added, names.output_norm, width, shape.epsilon)
        grown = ACTIVATIONS[shape.activation](self._graph, linear(states, names.up, inner, width))
        added = self._graph.op("Add", linear(grown, names.down, width, inner), states)
        return self.norm(added, names.down_norm, width, shape.epsilon)

    def _parameters(self, name: str, outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
        """The weight ``(outputs, inputs)`` and the bias ``(outputs,)`` of a product."""
        weight = self._checkpoint.take(f"{name}.weight", (outputs, inputs))
        return weight, self._checkpoint.take(f"{name}.bias", (outputs,))

    def _vector(self, name: str, length: int) -> Value:
        return self._graph.weight(self._checkpoint.take(name, (length,)))
