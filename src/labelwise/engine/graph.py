"""An ONNX graph in the making: nodes, small constants, and weights that stay outside it.

Weights never enter the protobuf message, whose limit is 2 GB. The message declares them as
external, and the runner hands the arrays to the runtime, which packs each for its products and then
lets go of it.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

Value = str  # the name of a tensor in the graph

# Operators of the runtime's own domain; all others are standard ONNX.
_RUNTIME_DOMAIN = "com.microsoft"
_RUNTIME_OPERATORS = {
    "BiasGelu",
    "FastGelu",
    "FusedMatMul",
    "MultiHeadAttention",
    "QuickGelu",
    "SkipLayerNormalization",
}
_OPSET, _IR_VERSION = 18, 9


class Graph:
    """Nodes in order, with their constants and weights.

    The body of a loop is a graph as well: its nodes are its own, all else is kept at the root.
    """

    def __init__(self, root: Graph | None = None) -> None:
        self.root = root or self
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.numbers = count()

    def op(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        """Append one operator and return its only output."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: Value, outputs: int, **attributes: Any) -> list[Value]:
        """Append one operator and return its *outputs*."""
        name = self.name(kind)
        values = [f"{name}.{number}" for number in range(outputs)]
        domain = _RUNTIME_DOMAIN if kind in _RUNTIME_OPERATORS else ""
        self.nodes.append(
            helper.make_node(kind, inputs, values, name=name, domain=domain, **attributes)
        )
        return values

    def constant(self, *numbers: int) -> Value:
        """A vector of whole numbers: an axis, a shape."""
        name = self.name("constant")
        self.root.constants.append(numpy_helper.from_array(np.array(numbers, np.int64), name))
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
        graph = helper.make_graph(
            body.nodes,
            name,
            [_integer(number), _boolean(proceed), _sequence(results)],
            [_boolean(always), _sequence(longer)],
        )
        empty = self.op("SequenceEmpty", dtype=TensorProto.FLOAT)
        return self.op(
            "ConcatFromSequence", self.op("Loop", "texts", "", empty, body=graph), axis=axis
        )

    def message(self, logits: Value) -> bytes:
        """The graph as a serialized ONNX model.

        Its inputs are those that `Runner` feeds; its one output is *logits*.
        """
        self.nodes.append(helper.make_node("Identity", [logits], ["logits"]))
        inputs = [
            _integer("ids", "rows"),
            _integer("positions", "rows"),
            _integer("types", "rows"),
            _integer("begins", "count", 1),
            _integer("ends", "count", 1),
            _integer("texts"),
        ]
        graph = helper.make_graph(
            self.nodes,
            "labelwise",
            inputs,
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["count", "labels"])],
            [*self.constants, *(_external(name, array) for name, array in self.weights.items())],
        )
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_RUNTIME_DOMAIN, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        return bytes(model.SerializeToString())

    def name(self, kind: str) -> str:
        """A name that no other value or node of the graph has."""
        return f"{kind}_{next(self.root.numbers)}"


def _integer(name: str, *shape: int | str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, shape)


def _boolean(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.BOOL, [])


def _sequence(name: str) -> ValueInfoProto:
    return helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)


def _external(name: str, array: np.ndarray) -> TensorProto:
    """The declaration of a weight that the runtime is given as an array."""
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    tensor = TensorProto(name=name, data_type=kind, dims=array.shape)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights"), ("offset", "0"), ("length", str(array.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return tensor
