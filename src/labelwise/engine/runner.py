"""Packed texts to logits: one session of the runtime, one set of weights, batches side by side."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime as ort

from labelwise.engine.graph import Graph
from labelwise.engine.layers import Layers, exact_product
from labelwise.engine.packing import positions

if TYPE_CHECKING:
    from labelwise.engine.architectures import Architecture
    from labelwise.engine.checkpoint import Checkpoint
    from labelwise.engine.layers import Product
    from labelwise.engine.packing import Packed
    from labelwise.engine.processors import Streams


class Runner:
    """Runs batches of one model. Its state is a session and how many of its streams are free.

    Safe to call from several threads: a call that finds no free stream waits for one.
    """

    def __init__(
        self,
        architecture: Architecture,
        checkpoint: Checkpoint,
        streams: Streams,
        product: Product = exact_product,
    ) -> None:
        """*product* is how the states of all ids are multiplied."""
        self.streams = streams
        self._architecture = architecture
        self._session = _session(architecture, checkpoint, streams.threads, product)
        self._free = BoundedSemaphore(streams.count)
        _give_back_memory()

    def run(self, packed: Packed) -> np.ndarray:
        """The logits of each text, ``(texts, labels)`` float32, whatever else is in the batch."""
        starts = packed.starts.reshape(-1, 1)
        feed = {
            "ids": packed.ids,
            "positions": positions(packed, self._architecture.padding_id),
            "types": packed.types if self._architecture.types > 1 else np.zeros_like(packed.ids),
            "begins": starts[:-1],
            "ends": starts[1:],
            "texts": np.array(len(packed)),
        }
        with self._free:
            logits: np.ndarray = self._session.run(["logits"], feed)[0]
        return logits


def _session(
    architecture: Architecture, checkpoint: Checkpoint, threads: int, product: Product
) -> ort.InferenceSession:
    """The architecture's graph over the checkpoint's weights, ready to run."""
    graph = Graph()
    message = graph.message(architecture.build(Layers(graph, checkpoint, product)))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # The graph is as it should run. Higher levels would join sums and norms, biases and GELUs into
    # operators that are slower than their parts: see LOG.md.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3  # errors; they are raised as well
    # Threads wait actively for each other while a batch runs, and stop when it ends.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Every batch has lengths of its own: a plan kept for each would never be used again.
    options.enable_mem_pattern = False
    arrays = [ort.OrtValue.ortvalue_from_numpy(array) for array in graph.weights.values()]
    options.add_external_initializers(list(graph.weights), arrays)
    return ort.InferenceSession(message, options, providers=["CPUExecutionProvider"])


def _give_back_memory() -> None:
    """Return what the unpacked weights took to the system; glibc would keep most of it."""
    if sys.platform == "linux":
        with suppress(AttributeError):  # another C library has no such call
            ctypes.CDLL(None).malloc_trim(0)
