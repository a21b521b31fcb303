"""Products of 8-bit integers, in which no text knows of another.

Weights become signed integers with a scale for each output, states unsigned ones with a scale for
each row, so what a row becomes depends on that row alone. The runtime's own dynamic quantization
has one scale for a whole batch, and neighbours would move a text's score.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from labelwise.errors import BadFile

if TYPE_CHECKING:
    from labelwise.engine.onnx.graph import Graph, Value

Processor = Literal["vnni", "arm", "plain"]

_MACHINE = platform.machine()
_ZERO = 128  # the unsigned integer that stands for 0.0
_LARGEST_STATE = 127
_TINY = np.float32(1e-30)  # the least scale: that of a row of zeros


def processor_class(machine: str = _MACHINE, cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """The way in which a processor multiplies 8-bit integers: VNNI, ARM's own, or neither."""
    if machine.lower() in {"arm64", "aarch64"}:
        return "arm"
    try:
        found = re.search(r"^flags\s*:.*\bavx(512)?_vnni\b", cpuinfo.read_text(), re.MULTILINE)
    except OSError:  # not Linux; 7 bits are safe everywhere
        found = None
    return "vnni" if found else "plain"


def largest_weight(processor: Processor) -> int:
    """The largest integer that a weight may become on a *processor* of that class.

    Plain x86 adds two products in 16 bits, which overflow unless weights have 7 bits.
    """
    return 63 if processor == "plain" else 127


def quantized(weight: np.ndarray, largest: int) -> tuple[np.ndarray, np.ndarray]:
    """*weight*, ``(out, in)``, as int8 ``(in, out)`` and the scale of each output, ``(out,)``.

    ``weight.T`` is about the one times the other; each output's largest weight becomes *largest*.
    """
    scales = np.maximum(np.abs(weight).max(axis=1) / np.float32(largest), _TINY)
    integers = np.rint(weight / scales[:, None]).astype(np.int8)
    return np.ascontiguousarray(integers.T), scales


def product(
    graph: Graph, states: Value, weight: np.ndarray, bias: np.ndarray, *, largest: int
) -> Value:
    """``states @ weight.T + bias``, multiplied as integers; those of weights are *largest* at most.

    Raises:
        BadFile: A weight or a bias is not a number; its integer would hide that.
    """
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise BadFile("the layers hold values that are not numbers; the weights are damaged")
    integers, scales = quantized(weight, largest)
    zero, one = (
        graph.weight(np.array(n, kind)) for n, kind in ((_ZERO, np.uint8), (1, np.float32))
    )
    peaks = graph.op("ReduceMax", graph.op("Abs", states), graph.constant(1), keepdims=0)
    share = graph.weight(np.array(1 / _LARGEST_STATE, np.float32))
    rows = graph.op("Max", graph.op("Mul", peaks, share), graph.weight(np.array(_TINY)))
    zeros = graph.op("Expand", zero, graph.op("Shape", rows))
    small = graph.op("QuantizeLinear", states, rows, zeros, axis=0)
    large = graph.op(
        "MatMulIntegerToFloat", small, graph.weight(integers), one, graph.weight(scales), zero
    )
    scaled = graph.op("Mul", large, graph.op("Unsqueeze", rows, graph.constant(1)))
    return graph.op("Add", scaled, graph.weight(bias))
