"""What is written as ONNX is what the package onnx reads."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.engine.onnx import format as onnx_format

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(width=32, allow_nan=False)
attributes = st.one_of(integers, floats, names, st.lists(integers, min_size=1))


@given(names, st.lists(names), st.lists(names), st.dictionaries(names.filter(bool), attributes))
def test_a_node_is_read_back(kind, inputs, outputs, values):
    reserved = {"kind", "inputs", "outputs", "name", "domain"}
    values = {key: value for key, value in values.items() if key not in reserved}
    written = onnx_format.node(kind, inputs, outputs, "a node", "a.domain", **values)
    node = onnx.NodeProto.FromString(written)
    assert (node.op_type, node.name, node.domain) == (kind, "a node", "a.domain")
    assert (list(node.input), list(node.output)) == (inputs, outputs)
    read = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    expected = {k: v.encode() if isinstance(v, str) else v for k, v in values.items()}
    assert read == expected


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int64])
def test_a_tensor_is_read_back(kind):
    array = np.arange(-6, 6).reshape(3, 4).astype(kind)
    tensor = onnx.TensorProto.FromString(onnx_format.tensor("t", array))
    assert tensor.name == "t"
    read = onnx.numpy_helper.to_array(tensor)
    assert read.dtype == kind
    assert (read == array).all()


def test_an_external_tensor_names_its_size_and_holds_nothing():
    array = np.zeros((300, 400), np.float32)
    written = onnx_format.external_tensor("w", array)
    tensor = onnx.TensorProto.FromString(written)
    assert len(written) < 100
    assert list(tensor.dims) == [300, 400]
    assert tensor.data_location == onnx.TensorProto.EXTERNAL
    assert {e.key: e.value for e in tensor.external_data}["length"] == "480000"


def test_types_are_read_back():
    written = onnx_format.tensor_type("x", onnx_format.INT64, "rows", 1)
    expected = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["rows", 1])
    assert onnx.ValueInfoProto.FromString(written) == expected
    scalar = onnx_format.tensor_type("x", onnx_format.BOOL)
    expected = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.BOOL, [])
    assert onnx.ValueInfoProto.FromString(scalar) == expected
    sequence = onnx.ValueInfoProto.FromString(onnx_format.sequence_type("s", onnx_format.FLOAT))
    assert sequence.type.sequence_type.elem_type.tensor_type.elem_type == onnx.TensorProto.FLOAT
