"""The place of a tensor in a file, and reading it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any, BinaryIO

import numpy as np

# The types that a weight may have; others may lie in a file, untouched.
WEIGHT_TYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no bfloat16: its bits, until they are widened
}


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """A tensor in a file: its type (named as in safetensors), shape, strides and place."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]  # in elements, none negative
    position: int  # byte of the file where the first element begins


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of an array whose last axis runs fastest."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def read(file: BinaryIO, stored: TensorLocation) -> np.ndarray:
    """A fresh C-contiguous array of the tensor in its stored type; BF16 comes as uint16 bits.

    ValueError when the file ends before the tensor does.
    """
    item = WEIGHT_TYPES[stored.dtype]
    span = np.empty(_reach(stored), item)
    file.seek(stored.position)
    if span.size and file.readinto(span) != span.nbytes:  # type: ignore[attr-defined]
        raise ValueError("it ends before its weights do")
    in_bytes = [stride * item.itemsize for stride in stored.strides]
    view = np.lib.stride_tricks.as_strided(span, stored.shape, in_bytes)
    return view if view.flags.c_contiguous else view.copy(order="C")


def bytes_of(stored: TensorLocation) -> int:
    """The bytes that `read` gives."""
    return prod(stored.shape) * WEIGHT_TYPES[stored.dtype].itemsize


def _reach(stored: TensorLocation) -> int:
    """The number of elements from the tensor's first to its last, both included."""
    if not prod(stored.shape):
        return 0
    pairs = zip(stored.shape, stored.strides, strict=True)
    return 1 + sum((size - 1) * stride for size, stride in pairs)


def widened(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array that `read` gave, as float32: exact, except that F64 is rounded."""
    if dtype == "BF16":
        bits = array.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    if dtype == "F16":
        return _widened_half(array)
    with np.errstate(over="ignore"):  # beyond float32's range is infinite, as everywhere
        return array.astype(np.float32, copy=False)


def _widened_half(array: np.ndarray) -> np.ndarray:
    """Float16 as float32, each looked up in a table of all 65,536.

    `astype` goes through software on a processor (or numpy build) without half-precision
    instructions, and stumbles over subnormals on one with them. The pieces keep numpy's
    widened indexes in the cache.
    """
    wide = np.empty(array.shape, np.float32)
    bits, out = array.reshape(-1).view(np.uint16), wide.reshape(-1)
    for start in range(0, bits.size, 65_536):
        piece = slice(start, start + 65_536)
        np.take(_half_table(), bits[piece], out=out[piece], mode="clip")
    return wide


@cache
def _half_table() -> np.ndarray:
    """The float32 of each pattern of 16 bits."""
    with np.errstate(invalid="ignore"):  # signalling NaNs are among them
        return np.arange(65_536, dtype=np.uint16).view(np.float16).astype(np.float32)
