"""Packed texts to logits: sessions of the runtime over one model, batches side by side."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

import numpy as np

from labelwise.engine.cpus import Streams
from labelwise.engine.forks import Forkable
from labelwise.engine.onnx.blocks import GraphBlocks, exact_product
from labelwise.engine.onnx.graph import Graph
from labelwise.engine.onnx.runtime import ort
from labelwise.engine.packing import positions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labelwise.engine.architectures import Architecture
    from labelwise.engine.checkpoint.checkpoint import Checkpoint
    from labelwise.engine.onnx.blocks import Product
    from labelwise.engine.packing import Packed


class Runner:
    """Runs batches of one model. Its state is one session or two, and how many streams are free.

    Safe to call from several threads: a call that finds no free stream waits for one.
    """

    def __init__(
        self,
        architecture: Architecture,
        checkpoint: Checkpoint,
        streams: Streams,
        product: Product = exact_product,
    ) -> None:
        """*product* is how the states of all tokens are multiplied."""
        self.streams = streams
        self._architecture = architecture
        graph = Graph()
        logits = architecture.build(GraphBlocks(graph, checkpoint, product))
        message = graph.message(logits.value)
        names = list(graph.weights)
        arrays = [ort.OrtValue.ortvalue_from_numpy(graph.weights.pop(name)) for name in names]
        weights = dict(zip(names, arrays, strict=True))
        self._beside = self._exclusive = _Session(message, weights, streams)
        if streams.both:
            self._exclusive = _Session(message, weights, Streams(1, streams.threads))
        _give_back_memory()

    def run(self, packed: Packed, *, exclusive: bool = False) -> np.ndarray:
        """The logits of each text, ``(texts, labels)`` float32, whatever else is in the batch.

        A batch that runs *exclusive* is to have all threads, where the streams allow both.
        """
        starts = packed.starts.reshape(-1, 1)
        feed = {
            "ids": packed.ids,
            "positions": positions(packed, self._architecture.padding_id),
            "types": packed.types if self._architecture.types > 1 else np.zeros_like(packed.ids),
            "begins": starts[:-1],
            "ends": starts[1:],
            "texts": np.array(len(packed)),
            "lone": np.array(len(packed) == 1),
        }
        return (self._exclusive if exclusive else self._beside).run(feed)


class _Session(Forkable):
    """A session of the runtime, with a bound on the batches that it runs at once.

    With one thread a batch it has no threads of its own, and goes on in a forked process, on the
    memory that both share.
    """

    def __init__(
        self, message: bytes, weights: Mapping[str, ort.OrtValue], streams: Streams
    ) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1 if streams.count > 1 else streams.threads
        # The graph is as it should run. Higher levels would join sums and norms, biases and GELUs
        # into operators that are slower than their parts: see LOG.md.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.log_severity_level = 4  # all that is less than fatal is raised as well
        # Threads wait actively for each other while a batch runs, and stop when it ends.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Every batch has lengths of its own: a plan kept for each would never be used again.
        options.enable_mem_pattern = False
        options.add_external_initializers(list(weights), list(weights.values()))
        self._session = ort.InferenceSession(
            message,
            options,
            providers=["CPUExecutionProvider"],
            enable_fallback=False,  # it would print why, and try the same again
        )
        self._streams = streams
        self._free = BoundedSemaphore(streams.count)
        super().__init__()

    def run(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """The logits, ``(texts, labels)`` float32."""
        with self._free:
            logits: np.ndarray = self._session.run(["logits"], feed)[0]
        return logits

    def hold(self) -> None:
        """Wait until no batch runs: the child could not finish it."""
        for _ in range(self._streams.count):
            self._free.acquire()

    def release(self) -> None:
        """Let batches run again."""
        self._free.release(self._streams.count)

    def renew(self) -> None:
        """Let batches run. The session is never ended here, for it would wait for its threads."""
        self._free = BoundedSemaphore(self._streams.count)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))


def _give_back_memory() -> None:
    """Return what the unpacked weights took to the system; glibc would keep most of it."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library has no such call
            ctypes.CDLL(None).malloc_trim(0)
