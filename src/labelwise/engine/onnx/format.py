"""The few messages of the ONNX format that a graph of ours needs, as protobuf bytes.

Field numbers are those of ``onnx.proto`` (ONNX IR version 9), which never change once published.
The package onnx would bring them, and 33 MB with it; the tests read what is written here with that
package, and let it check every graph.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

FLOAT, UINT8, INT8, INT64, BOOL, FLOAT16 = 1, 2, 3, 7, 9, 10  # TensorProto.DataType
_ELEMENTS = {
    "float32": FLOAT,
    "float16": FLOAT16,
    "int8": INT8,
    "int64": INT64,
    "uint8": UINT8,
}
_IR_VERSION = 9
_EXTERNAL = 1  # TensorProto.DataLocation

Attribute = int | float | str | Sequence[int] | bytes  # bytes: a graph


def model(graph: bytes, opsets: dict[str, int]) -> bytes:
    """ModelProto: *graph* with the versions of the operator domains that it uses."""
    imports = [_field(1, domain) + _field(2, version) for domain, version in opsets.items()]
    return _field(1, _IR_VERSION) + _field(7, graph) + _fields(8, imports)


def graph(
    name: str,
    nodes: Iterable[bytes],
    inputs: Iterable[bytes],
    outputs: Iterable[bytes],
    tensors: Iterable[bytes] = (),
) -> bytes:
    """GraphProto."""
    ends = _fields(11, inputs) + _fields(12, outputs)
    return _fields(1, nodes) + _field(2, name) + _fields(5, tensors) + ends


def node(
    kind: str,
    inputs: Iterable[str],
    outputs: Iterable[str],
    name: str,
    domain: str = "",
    **attributes: Attribute,
) -> bytes:
    """NodeProto: one operator."""
    ends = _fields(1, inputs) + _fields(2, outputs)
    rest = _fields(5, [_attribute(key, value) for key, value in attributes.items()])
    return ends + _field(3, name) + _field(4, kind) + rest + _field(7, domain)


def tensor(name: str, array: np.ndarray) -> bytes:
    """TensorProto that holds its numbers: for small constants."""
    return _tensor(name, array) + _field(9, array.tobytes())


def external_tensor(name: str, array: np.ndarray) -> bytes:
    """TensorProto that names a weight; the runtime is given the array itself."""
    entries = {"location": "weights", "offset": "0", "length": str(array.nbytes)}
    where = [_field(1, key) + _field(2, value) for key, value in entries.items()]
    return _tensor(name, array) + _fields(13, where) + _field(14, _EXTERNAL)


def tensor_type(name: str, element: int, *shape: int | str) -> bytes:
    """ValueInfoProto of a tensor; a size that is a name may be any."""
    sizes = [_field(1 if isinstance(size, int) else 2, size) for size in shape]
    kind = _field(1, element) + _field(2, _fields(1, sizes))
    return _field(1, name) + _field(2, _field(1, kind))


def any_tensor_type(name: str, element: int) -> bytes:
    """ValueInfoProto of a tensor of any shape."""
    return _field(1, name) + _field(2, _field(1, _field(1, element)))


def sequence_type(name: str, element: int) -> bytes:
    """ValueInfoProto of a sequence of tensors of any shape."""
    tensors = _field(1, _field(1, element))
    return _field(1, name) + _field(2, _field(4, _field(1, tensors)))


def _tensor(name: str, array: np.ndarray) -> bytes:
    return _fields(1, array.shape) + _field(2, _ELEMENTS[array.dtype.name]) + _field(8, name)


def _attribute(name: str, value: Attribute) -> bytes:
    """AttributeProto: a value under the number of its kind, and that kind."""
    if isinstance(value, float):
        content = _field(2, value) + _field(20, 1)
    elif isinstance(value, int):
        content = _field(3, value) + _field(20, 2)
    elif isinstance(value, bytes):
        content = _field(6, value) + _field(20, 5)
    elif isinstance(value, str):
        content = _field(4, value) + _field(20, 3)
    else:
        content = _fields(8, value) + _field(20, 7)
    return _field(1, name) + content


def _fields(number: int, values: Iterable[bytes | str | int]) -> bytes:
    """A repeated field."""
    return b"".join(_field(number, value) for value in values)


def _field(number: int, value: bytes | str | float) -> bytes:
    """A field: whole numbers as varints, fractions as four bytes, the rest after its length."""
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number as its two's complement."""
    number &= 2**64 - 1
    pieces = bytearray()
    while number > 0x7F:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*pieces, number])
