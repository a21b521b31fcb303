"""The CPU backend: ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from labelwise.engine.onnx import int8
from labelwise.engine.onnx.blocks import exact_product
from labelwise.engine.onnx.runner import Runner
from labelwise.errors import BadInput

if TYPE_CHECKING:
    from labelwise.engine.architectures import Architecture
    from labelwise.engine.backend import Dtype
    from labelwise.engine.checkpoint.checkpoint import Checkpoint
    from labelwise.engine.cpus import Streams
    from labelwise.engine.onnx.blocks import Product


@dataclass(frozen=True, slots=True)
class Cpu:
    """Runs models on processors; see `Backend`. LOG.md has the measurements behind the numbers."""

    streams: Streams
    device: str = "cpu"
    batch_tokens: int = 512
    share_tokens: int = 128

    def load(self, architecture: Architecture, checkpoint: Checkpoint, dtype: Dtype) -> Runner:
        """The model with the weights of *checkpoint*, ready to run."""
        return Runner(architecture, checkpoint, self.streams, _product(dtype))


def _product(dtype: object) -> Product:
    """The product of the states of all tokens, in a model of that *dtype*."""
    if dtype == "float32":
        return exact_product
    if dtype == "int8":
        return partial(int8.product, largest=int8.largest_weight(int8.processor_class()))
    raise BadInput(f"dtype is float32 or int8, not {dtype!r:.40}")
