"""An ONNX graph in the making: nodes, small constants, and weights that stay outside it.

Weights never enter the protobuf message, whose limit is 2 GB. The message declares them as
external, and the runner hands the arrays to the runtime, which packs each for its products and then
lets go of it.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from labelwise.engine import onnx_format
from labelwise.engine.onnx_format import (
    BOOL,
    FLOAT,
    INT64,
    external_tensor,
    sequence_type,
    tensor_type,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from labelwise.engine.onnx_format import Attribute

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

    The body of a loop is a graph as well: its nodes are its own, all else is kept at the root.
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
        name = self.name("constant")
        self.root.constants.append(onnx_format.tensor(name, np.array(numbers, np.int64)))
        return name

    def weight(self, array: np.ndarray) -> Value:
        """A weight, which reaches the runtime outside the message."""
        name = self.name("weight")
        self.root.weights[name] = np.ascontiguousarray(array)
        return name

    def each_text(self, compute: Callable[[Graph, Value, Value, Value], Value], axis: int) -> Value:
        """What *compute* gives for each text, joined along *axis*.

        *compute* gets the graph to append to, the number of the text (a scalar), and where its rows
        begin and end (vectors of one); it may use any value of this graph. A text never meets the
        rows of another: nothing is padded or masked, and the cost is the sum of what each text
        costs.
        """
        body, name = Graph(self.root), self.name("each_text")
        number, proceed, results = f"{name}.number", f"{name}.proceed", f"{name}.results"
        begin = body.op("Gather", "begins", number)
        end = body.op("Gather", "ends", number)
        longer = body.op("SequenceInsert", results, compute(body, number, begin, end))
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
        ]
        outputs = [tensor_type("logits", FLOAT, "count", "labels")]
        weights = [external_tensor(name, array) for name, array in self.weights.items()]
        tensors = [*self.constants, *weights]
        graph = onnx_format.graph("labelwise", self.nodes, inputs, outputs, tensors)
        return onnx_format.model(graph, {"": _OPSET, _RUNTIME_DOMAIN: 1})

    def name(self, kind: str) -> str:
        """A name that no other value or node of the graph has."""
        return f"{kind}_{next(self.root.numbers)}"
