"""An ONNX graph in the making: nodes, small constants, and weights that stay outside it.

Weights never enter the protobuf message, whose limit is 2 GB. The message declares them as
external, and the runner hands the arrays to the runtime, which packs each for its products and then
lets go of it.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from labelwise.engine.onnx import format as onnx_format
from labelwise.engine.onnx.format import (
    BOOL,
    FLOAT,
    INT64,
    any_tensor_type,
    external_tensor,
    sequence_type,
    tensor_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from labelwise.engine.onnx.format import Attribute

Value = str  # the name of a tensor in the graph

# Operators of the runtime's own domain; all others are standard ONNX.
_RUNTIME_DOMAIN = "com.microsoft"
_RUNTIME_OPERATORS = {
    "FastGelu",
    "FusedMatMul",
    "MatMulIntegerToFloat",
    "MultiHeadAttention",
    "QuickGelu",
}
_OPSET = 20


class Graph:
    """Nodes in order, with their constants and weights.

    A branch and the body of a loop are graphs as well: their nodes are their own, all else is kept
    at the root.
    """

    def __init__(self, root: Graph | None = None) -> None:
        self._root = root  # None at the root itself: a cycle would keep the weights in memory
        self.nodes: list[bytes] = []
        self.constants: list[bytes] = []
        self.weights: dict[str, np.ndarray] = {}
        self.numbers = count()

    @property
    def root(self) -> Graph:
        """The graph that no other graph is a part of."""
        return self._root or self

    def op(self, kind: str, *inputs: Value, **attributes: Attribute) -> Value:
        """Append one operator and return its only output."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: Value, outputs: int, **attributes: Attribute) -> list[Value]:
        """Append one operator and return its *outputs*."""
        name = self.name(kind)
        values = [f"{name}.{number}" for number in range(outputs)]
        domain = _RUNTIME_DOMAIN if kind in _RUNTIME_OPERATORS else ""
        self.nodes.append(onnx_format.node(kind, inputs, values, name, domain, **attributes))
        return values

    def constant(self, *numbers: int) -> Value:
        """A vector of whole numbers: an axis, a shape."""
        return self._constant(np.array(numbers, np.int64))

    def scalar(self, number: int) -> Value:
        """One whole number."""
        return self._constant(np.array(number, np.int64))

    def _constant(self, array: np.ndarray) -> Value:
        name = self.name("constant")
        self.root.constants.append(onnx_format.tensor(name, array))
        return name

    def weight(self, array: np.ndarray) -> Value:
        """A weight, which reaches the runtime outside the message."""
        name = self.name("weight")
        self.root.weights[name] = np.ascontiguousarray(array)
        return name

    def each_text(
        self, states: Value, compute: Callable[[Graph, Value, Value], Value], axis: int
    ) -> Value:
        """The results of *compute* for each text, joined along *axis*.

        *compute* gets the graph to append to, the rows of *states* that are the text's (they count
        along *axis*), and the number of the text (a scalar); it may use any value of this graph. A
        text never meets the rows of another: nothing is padded or masked, and the cost is the sum
        of what each text costs. A lone text needs no loop: all rows are its own.
        """
        alone, several = Graph(self.root), Graph(self.root)
        only = compute(alone, states, self.scalar(0))  # at once, without copying the rows
        joined = several._looped(states, compute, axis)
        branches = {
            "then_branch": onnx_format.graph(
                self.name("alone"), alone.nodes, [], [any_tensor_type(only, FLOAT)]
            ),
            "else_branch": onnx_format.graph(
                self.name("several"), several.nodes, [], [any_tensor_type(joined, FLOAT)]
            ),
        }
        return self.op("If", "lone", **branches)

    def _looped(
        self, states: Value, compute: Callable[[Graph, Value, Value], Value], axis: int
    ) -> Value:
        """The results of `each_text`, one text after the other."""
        body, name = Graph(self.root), self.name("each_text")
        number, proceed, results = f"{name}.number", f"{name}.proceed", f"{name}.results"
        begin = body.op("Gather", "begins", number)
        end = body.op("Gather", "ends", number)
        rows = body.op("Slice", states, begin, end, self.constant(axis))
        longer = body.op("SequenceInsert", results, compute(body, rows, number))
        always = body.op("Identity", proceed)
        graph = onnx_format.graph(
            name,
            body.nodes,
            [tensor_type(number, INT64), tensor_type(proceed, BOOL), sequence_type(results, FLOAT)],
            [tensor_type(always, BOOL), sequence_type(longer, FLOAT)],
        )
        joined = self.op("Loop", "texts", "", self.op("SequenceEmpty", dtype=FLOAT), body=graph)
        return self.op("ConcatFromSequence", joined, axis=axis)

    def message(self, logits: Value) -> bytes:
        """The graph as a serialized ONNX model.

        Its inputs are those that `Runner` feeds; its one output is *logits*.
        """
        self.nodes.append(onnx_format.node("Identity", [logits], ["logits"], "logits"))
        inputs = [
            tensor_type("ids", INT64, "rows"),
            tensor_type("positions", INT64, "rows"),
            tensor_type("types", INT64, "rows"),
            tensor_type("begins", INT64, "count", 1),
            tensor_type("ends", INT64, "count", 1),
            tensor_type("texts", INT64),
            tensor_type("lone", BOOL),
        ]
        outputs = [tensor_type("logits", FLOAT, "count", "labels")]
        weights = [external_tensor(name, array) for name, array in self.weights.items()]
        tensors = [*self.constants, *weights]
        graph = onnx_format.graph("labelwise", self.nodes, inputs, outputs, tensors)
        return onnx_format.model(graph, {"": _OPSET, _RUNTIME_DOMAIN: 1})

    def name(self, kind: str) -> str:
        """A name that no other value or node of the graph has."""
        return f"{kind}_{next(self.root.numbers)}"
