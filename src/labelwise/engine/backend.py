"""Backends: a backend is the runtime and the device that models run on.

Nothing outside a backend's own folder knows which one it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

    from labelwise.engine.architectures import Architecture
    from labelwise.engine.checkpoint.checkpoint import Checkpoint
    from labelwise.engine.cpus import Streams
    from labelwise.engine.packing import Packed

Dtype = Literal["float32", "int8"]  # of the products over all tokens; all else is float32


class Runner(Protocol):
    """One model, ready to run. Safe to call from several threads."""

    def run(self, packed: Packed, *, exclusive: bool = False) -> np.ndarray:
        """The logits of each text, ``(texts, labels)`` float32, whatever else is in the batch.

        A batch that runs *exclusive* gets all threads, where the streams allow both.
        """


class Backend(Protocol):
    """Makes models ready to run, and says how they run best."""

    @property
    def device(self) -> str:
        """The name of the device, as callers see it."""

    @property
    def streams(self) -> Streams:
        """The places where batches run side by side."""

    @property
    def batch_tokens(self) -> int:
        """The most tokens of a good batch: larger ones are no quicker, and let texts wait."""

    @property
    def share_tokens(self) -> int:
        """The tokens for each stream from which batches side by side are quicker than all threads
        on one batch.
        """

    def load(self, architecture: Architecture, checkpoint: Checkpoint, dtype: Dtype) -> Runner:
        """The model with the weights of *checkpoint*, ready to run.

        Raises:
            BadInput: There is no such *dtype* here.
            BadModel: A weight is missing, broken, or of another shape.
        """


def default() -> Backend:
    """The backend for the processors of this process."""
    from labelwise.engine.cpus import available, streams  # noqa: PLC0415 - one among others
    from labelwise.engine.onnx.backend import Cpu  # noqa: PLC0415

    return Cpu(streams(available()))
