"""The few pickle opcodes that a saved state dict is made of, and nothing that can act.

Python's own unpickler is not used, not even with a list of allowed names: it calls what it
finds, sets attributes on the results, hashes keys of any depth, and allocates gigabytes for
five bytes that remember a value under a large index. Here a name from the file is a word to
compare with the tables below. It is never imported, and the only values that can come out are
None, booleans, whole numbers, text, tuples, lists, dicts with text for keys, and the records
`Name`, `Storage` and `Tensor`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable

# Each tensor of a state dict takes about thirty opcodes and two hundred bytes.
MAX_OPCODES = 300_000
MAX_BYTES = 32 * 2**20
MAX_TEXT_BYTES = 65_536
MAX_AXES = 8
MAX_ELEMENTS = 2**48  # and strides and offsets, which an empty tensor may make up
PROTOCOL = 2  # what torch.save writes; later protocols bring opcodes that no tensor needs

STORAGE_TYPES = {
    "torch DoubleStorage": "F64",
    "torch FloatStorage": "F32",
    "torch HalfStorage": "F16",
    "torch BFloat16Storage": "BF16",
    "torch LongStorage": "I64",
    "torch IntStorage": "I32",
    "torch ShortStorage": "I16",
    "torch CharStorage": "I8",
    "torch ByteStorage": "U8",
    "torch BoolStorage": "BOOL",
}


@dataclass(frozen=True, slots=True)
class Name:
    """A module and a name in it, as the file spells them: "torch FloatStorage"."""

    text: str


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers kept outside the pickle."""

    key: str
    dtype: str
    length: int  # elements


@dataclass(frozen=True, slots=True)
class Tensor:
    """A window on a storage, known to lie inside it and to repeat none of it."""

    storage: Storage
    offset: int  # elements
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # elements


def unpickle(file: BinaryIO, storages: dict[str, Storage]) -> Any:
    """The value of the one pickle at *file*'s position; *file* is left after it.

    Storages are added to *storages* under their keys. ValueError for what is not the pickle of a
    state dict or its like. Nothing is executed; memory stays below a hundred megabytes.
    """
    return _Machine(file, storages).run()


def quoted(text: str) -> str:
    """Text from a file, fit for one line of an error."""
    return repr(text if len(text) <= 80 else text[:80] + "...")


class _Machine:
    """A stack of values, the marks on it, and the values remembered by number."""

    def __init__(self, file: BinaryIO, storages: dict[str, Storage]) -> None:
        self._file = file
        self._left = MAX_BYTES
        self._storages = storages
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MAX_OPCODES):
            opcode = self.take(1)
            if opcode == b".":
                return self.pop()
            if opcode not in STEPS:
                raise ValueError(f"its pickle uses opcode {opcode!r}, which no saved tensor needs")
            STEPS[opcode](self)
        raise ValueError(f"its pickle has more than {MAX_OPCODES} opcodes")

    def take(self, count: int) -> bytes:
        self._left -= count
        if self._left < 0:
            raise ValueError(f"its pickle is longer than {MAX_BYTES} bytes")
        piece = self._file.read(count)
        if len(piece) < count:
            raise ValueError("it ends in the middle of a pickle")
        return piece

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.take(struct.calcsize(layout)))[0])

    def text(self) -> str:
        length = self.number("<I")
        if length > MAX_TEXT_BYTES:
            raise ValueError(f"its pickle holds a text of {length} bytes")
        return self.take(length).decode()

    def line(self) -> str:
        piece = self._file.readline(256)
        if not piece.endswith(b"\n"):
            raise ValueError("its pickle holds a name that does not end")
        self._left -= len(piece)
        return piece[:-1].decode()

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        return self.pop_many(1)[0]

    def pop_many(self, count: int) -> list[Any]:
        return self._cut(len(self._stack) - count)

    def mark(self) -> None:
        self._marks.append(len(self._stack))

    def pop_marked(self) -> list[Any]:
        if not self._marks:
            raise ValueError("its pickle lacks a mark")
        return self._cut(self._marks.pop())

    def _cut(self, start: int) -> list[Any]:
        floor = self._marks[-1] if self._marks else 0
        if not floor <= start <= len(self._stack):
            raise ValueError("its pickle takes more values than it made")
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def top(self, kind: type) -> Any:
        if not self._stack or type(self._stack[-1]) is not kind:
            raise ValueError(f"its pickle fills something that is not a {kind.__name__}")
        return self._stack[-1]

    def check_protocol(self) -> None:
        if (protocol := self.number("<B")) != PROTOCOL:
            raise ValueError(f"it is in pickle protocol {protocol}, where torch.save writes 2")

    def remember(self, index: int) -> None:
        value = self.pop()
        self._memo[index] = value
        self.push(value)

    def recall(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError("its pickle recalls a value that it never made")
        self.push(self._memo[index])

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def fill(self, values: list[Any]) -> None:
        target = self.top(dict)
        if len(values) % 2:
            raise ValueError("its pickle has a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str:  # hashing a deep tuple could take for ever
                raise ValueError("its pickle has a key that is not text")
            if key in target:
                raise ValueError(f"it names {quoted(key)} twice")
            target[key] = value

    def call(self) -> None:
        function, arguments = self.pop_many(2)
        if type(function) is not Name or type(arguments) is not tuple:
            raise ValueError("its pickle calls something that is not a function")
        if function.text not in BUILDERS:
            raise ValueError(f"its pickle calls {quoted(function.text)}, which builds no tensor")
        self.push(BUILDERS[function.text](arguments))

    def name(self) -> None:
        text = f"{self.line()} {self.line()}"
        if text not in BUILDERS and text not in STORAGE_TYPES:
            raise ValueError(f"its pickle asks for {quoted(text)}, which is no part of a tensor")
        self.push(Name(text))

    def ignore_attributes(self) -> None:
        """A state dict carries the versions of its modules as an attribute: nothing we read."""
        if type(self.pop()) is not dict:
            raise ValueError("its pickle sets attributes from something that is not a dict")
        self.top(dict)

    def find_storage(self) -> None:
        storage = _storage(self.pop())
        if self._storages.setdefault(storage.key, storage) != storage:
            raise ValueError(f"it describes storage {quoted(storage.key)} in two ways")
        self.push(storage)


STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _Machine.check_protocol,
    b"(": _Machine.mark,
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),  # noqa: FBT003 - the value itself
    b"\x89": lambda m: m.push(False),  # noqa: FBT003
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(int.from_bytes(m.take(m.number("<B")), "little", signed=True)),
    b"X": lambda m: m.push(m.text()),
    b"c": _Machine.name,
    b")": lambda m: m.push(()),
    b"]": lambda m: m.push([]),
    b"}": lambda m: m.push({}),
    b"\x85": lambda m: m.push(tuple(m.pop_many(1))),
    b"\x86": lambda m: m.push(tuple(m.pop_many(2))),
    b"\x87": lambda m: m.push(tuple(m.pop_many(3))),
    b"t": lambda m: m.push(tuple(m.pop_marked())),
    b"a": lambda m: m.extend(m.pop_many(1)),
    b"e": lambda m: m.extend(m.pop_marked()),
    b"s": lambda m: m.fill(m.pop_many(2)),
    b"u": lambda m: m.fill(m.pop_marked()),
    b"q": lambda m: m.remember(m.number("<B")),
    b"r": lambda m: m.remember(m.number("<I")),
    b"h": lambda m: m.recall(m.number("<B")),
    b"j": lambda m: m.recall(m.number("<I")),
    b"Q": _Machine.find_storage,
    b"R": _Machine.call,
    b"b": _Machine.ignore_attributes,
}


def _storage(parts: Any) -> Storage:
    """A reference of torch: ("storage", type, key, device, elements), maybe with a None behind."""
    match parts:
        case ("storage", Name(kind), str(key), str(), int(length), *view):
            if kind in STORAGE_TYPES and length >= 0 and view in ([], [None]):
                return Storage(key, STORAGE_TYPES[kind], length)
    raise ValueError("its pickle refers to something that is not a plain storage")


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    """(storage, offset, shape, strides), then what a weight has no use for."""
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(strides), *rest):
            pass
        case _:
            raise ValueError("its pickle builds a tensor from the wrong parts")
    if len(rest) > 2 and rest[2]:
        raise ValueError("it holds a tensor with a conjugation or sign still to be applied")
    if len(shape) != len(strides) or len(shape) > MAX_AXES:
        raise ValueError("it holds a tensor with the wrong number of axes")
    for number in (offset, *shape, *strides):
        if not isinstance(number, int) or not 0 <= number < MAX_ELEMENTS:
            raise ValueError("it holds a tensor with an impossible size, stride or offset")
    elements = prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if elements and (last >= storage.length or elements > storage.length):
        raise ValueError("it holds a tensor that is larger than its storage")
    return Tensor(storage, offset, shape, strides)


def _parameter(arguments: tuple[Any, ...]) -> Tensor:
    """(tensor, whether it is trained, hooks)."""
    if not arguments or type(arguments[0]) is not Tensor:
        raise ValueError("its pickle builds a parameter from something that is not a tensor")
    return arguments[0]


def _ordered_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise ValueError("its pickle builds a dict from arguments")
    return {}


BUILDERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections OrderedDict": _ordered_dict,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
