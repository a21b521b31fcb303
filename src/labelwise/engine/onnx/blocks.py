"""The blocks as nodes of an ONNX graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from labelwise.engine.onnx.format import FLOAT
from labelwise.engine.onnx.graph import Graph, Value

if TYPE_CHECKING:
    from labelwise.engine.blocks import Attention
    from labelwise.engine.checkpoint.checkpoint import Checkpoint

Activation = Callable[[Graph, Value], Value]
Product = Callable[[Graph, Value, np.ndarray, np.ndarray], Value]  # of states, weight and bias


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


# By their names: all of `blocks.ACTIVATIONS`.
_ACTIVATIONS: dict[str, Activation] = {
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


class States(NamedTuple):
    """The states of all tokens, or of one token of each text."""

    value: Value
    of_texts: bool = False


class GraphBlocks:
    """Builds a model into a graph, taking each weight from the checkpoint where it is used.

    See `blocks.Blocks` for what each block is.
    """

    def __init__(
        self, graph: Graph, checkpoint: Checkpoint, product: Product = exact_product
    ) -> None:
        """*product* multiplies the states of all tokens; those of one token a text are exact."""
        self._graph = graph
        self._checkpoint = checkpoint
        self._product = product

    def embed(self, name: str, rows: int, width: int) -> States:
        """See `Blocks.embed`.

        The table keeps its stored type, and only the rows that are read are widened: half the
        memory where the file holds fp16.
        """
        table = self._checkpoint.take_stored(f"{name}.weight", (rows, width))
        found = self._graph.op("Gather", self._graph.weight(table), "ids")
        return States(self._graph.op("Cast", found, to=FLOAT))

    def embed_by(
        self, states: States, name: str, rows: int, width: int, by: Literal["positions", "types"]
    ) -> States:
        """See `Blocks.embed_by`."""
        table = self._graph.weight(self._checkpoint.take(f"{name}.weight", (rows, width)))
        return self._op("Add", states, self._graph.op("Gather", table, by))

    def norm(self, states: States, name: str, width: int, epsilon: float) -> States:
        """See `Blocks.norm`."""
        scale, shift = self._vector(f"{name}.weight", width), self._vector(f"{name}.bias", width)
        value = self._graph.op("LayerNormalization", states.value, scale, shift, epsilon=epsilon)
        return States(value, states.of_texts)

    def linear(self, states: States, name: str, outputs: int, inputs: int) -> States:
        """See `Blocks.linear`.

        The states of one token a text are few, and their last bits come from how many there are.
        An inexact product could turn those bits into a step, and a text's score would hang on its
        company: so theirs is always exact.
        """
        product = exact_product if states.of_texts else self._product
        value = product(self._graph, states.value, *self._parameters(name, outputs, inputs))
        return States(value, states.of_texts)

    def activate(self, states: States, kind: str) -> States:
        """See `Blocks.activate`."""
        return States(_ACTIVATIONS[kind](self._graph, states.value), states.of_texts)

    def add(self, states: States, others: States) -> States:
        """See `Blocks.add`."""
        return self._op("Add", states, others.value)

    def first(self, states: States) -> States:
        """See `Blocks.first`."""
        rows = self._graph.op("Reshape", "begins", self._graph.constant(-1))
        return States(self._graph.op("Gather", states.value, rows), of_texts=True)

    def classify(self, states: States, name: str, inputs: int) -> States:
        """See `Blocks.classify`."""
        return self.linear(states, name, self._checkpoint.rows(f"{name}.weight"), inputs)

    def attend(self, states: States, attention: Attention) -> States:
        """See `Blocks.attend`."""
        graph, width = self._graph, attention.width
        parts = (attention.query, attention.key, attention.value)
        parameters = zip(*(self._parameters(part, width, width) for part in parts), strict=True)
        projected = self._product(graph, states.value, *map(np.concatenate, parameters))
        projected = graph.op("Unsqueeze", projected, graph.constant(0))  # (1, rows, 3 * width)

        def attend(body: Graph, rows: Value, _: Value) -> Value:
            query, key, value = body.ops("Split", rows, outputs=3, axis=2, num_outputs=3)
            return body.op("MultiHeadAttention", query, key, value, num_heads=attention.heads)

        attended = graph.each_text(projected, attend, axis=1)
        return States(graph.op("Squeeze", attended, graph.constant(0)))

    def attend_first(self, first: States, states: States, attention: Attention) -> States:
        """See `Blocks.attend_first`. No token gets a key or a value.

        A score is ``q . (K s + k) = (K.T q) . s + q . k``; the last term is the same for every
        state *s* of the text and drops out of the softmax. What is gathered is ``sum p (V s + v) =
        V (sum p s) + v``, for the weights *p* sum to 1. So both products are taken once for each
        text, not for each token.
        """
        graph, width, heads = self._graph, attention.width, attention.heads
        by_head = (heads, attention.head_width, width)
        key = self._checkpoint.take(f"{attention.key}.weight", (width, width)).reshape(by_head)
        value = self._checkpoint.take(f"{attention.value}.weight", (width, width)).reshape(by_head)
        self._checkpoint.take(f"{attention.key}.bias", (width,))  # read and not needed: see above
        query = self.linear(first, attention.query, width, width).value
        query = graph.op("Reshape", query, graph.constant(-1, heads, attention.head_width))
        scale = attention.head_width**-0.5
        query = graph.op("FusedMatMul", query, graph.weight(key), transBatchA=1, alpha=scale)
        query = graph.op("Transpose", query, perm=[1, 0, 2])  # (texts, heads, width)
        axis = graph.constant(0)

        def attend(body: Graph, rows: Value, number: Value) -> Value:  # (length, width)
            scores = body.op("FusedMatMul", body.op("Gather", query, number), rows, transB=1)
            gathered = body.op("MatMul", body.op("Softmax", scores), rows)  # (heads, width)
            return body.op("Unsqueeze", gathered, axis)

        gathered = graph.each_text(states.value, attend, axis=0)  # (texts, heads, width)
        gathered = graph.op(
            "FusedMatMul", gathered, graph.weight(value), transBatchA=1, transB=1
        )  # (heads, texts, head width)
        gathered = graph.op("Transpose", gathered, perm=[1, 0, 2])
        gathered = graph.op("Reshape", gathered, graph.constant(-1, width))
        bias = self._vector(f"{attention.value}.bias", width)
        return States(graph.op("Add", gathered, bias), of_texts=True)

    def _op(self, kind: str, states: States, other: Value) -> States:
        return States(self._graph.op(kind, states.value, other), states.of_texts)

    def _parameters(self, name: str, outputs: int, inputs: int) -> tuple[np.ndarray, np.ndarray]:
        """The weight ``(outputs, inputs)`` and the bias ``(outputs,)`` of a product."""
        weight = self._checkpoint.take(f"{name}.weight", (outputs, inputs))
        return weight, self._checkpoint.take(f"{name}.bias", (outputs,))

    def _vector(self, name: str, length: int) -> Value:
        return self._graph.weight(self._checkpoint.take(name, (length,)))
