"""A loaded model: texts to ids, ids to logits, logits to labels."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Literal

import numpy as np

from labelwise.core.locate import locate
from labelwise.core.scores import default_function
from labelwise.engine import architectures, int8, processors
from labelwise.engine.checkpoint import Checkpoint
from labelwise.engine.config import Config
from labelwise.engine.forks import Forkable
from labelwise.engine.layers import exact_product
from labelwise.engine.packing import pack, split
from labelwise.engine.runner import Runner
from labelwise.engine.text import Tokenizer
from labelwise.errors import BadInput, BadModel, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from labelwise.core.locate import Location
    from labelwise.engine.layers import Product
    from labelwise.engine.processors import Streams
    from labelwise.engine.text import Encoded, Text, Truncation

_log = logging.getLogger(__name__)

# The most ids of one batch. Larger ones are no quicker, and let texts wait: see LOG.md.
BATCH_IDS = 512

Dtype = Literal["float32", "int8"]  # of the products over all ids; all else is float32


class Model(Forkable):
    """A model in memory.

    Its state never changes after loading; all methods may be called from several threads, and in a
    forked process.
    """

    def __init__(
        self, location: Location, streams: Streams | None = None, dtype: Dtype = "float32"
    ) -> None:
        """Load the model at *location*, to be computed in *dtype*.

        Raises:
            BadInput: There is no such *dtype*.
            BadModel: A file or a weight is missing or broken, or the engine does not know the kind.
        """
        self._product = _product(dtype)
        config = Config.open(location.folder)
        architecture = architectures.describe(config)
        self.location = location
        self.dtype = dtype
        self.streams = streams or processors.streams(processors.available())
        self.tokenizer = Tokenizer.open(location.folder, architecture.longest, config.model_type)
        with Checkpoint.open(location.folder, architecture.base) as checkpoint:
            self.labels = config.labels(checkpoint.rows(f"{architecture.head}.weight"))
            self._runner: Runner | None = Runner(
                architecture, checkpoint, self.streams, self._product
            )
            unused = checkpoint.unused()
        said = f"{location.id}: {len(self.labels)} labels, {dtype}, from {location.folder}"
        _log.info("%s", one_line(said))
        if unused:
            _log.info("%s", one_line(f"{location.id}: weights not used: {', '.join(unused)}"))
        self.function = default_function(config.problem_type, len(self.labels))
        self._architecture = architecture
        self._stamp = location.stamp()
        self._loading = Lock()
        self._pool = ThreadPoolExecutor(
            self.streams.count
        )  # starts its threads when they are needed
        super().__init__()

    @classmethod
    def load(
        cls,
        name: str | Path | None = None,
        *,
        dtype: Dtype = "float32",
        progress: bool = False,
    ) -> Model:
        """The model *name*: a folder, a Hub id, or None for the embedded one."""
        return cls(locate(name, progress=progress), dtype=dtype)

    @property
    def runner(self) -> Runner:
        """The sessions of the runtime. In a forked process they are loaded when they are needed,
        where those of the parent had threads.

        Raises:
            BadModel: The files have changed since, or cannot be read any more.
        """
        with self._loading:
            if self._runner is None:
                if self.location.stamp() != self._stamp:
                    raise BadModel(
                        f"{self.location.id} has changed since it was loaded, and this process "
                        "was forked since; load the model again here"
                    )
                with Checkpoint.open(self.location.folder, self._architecture.base) as checkpoint:
                    self._runner = Runner(
                        self._architecture, checkpoint, self.streams, self._product
                    )
            return self._runner

    def renew(self) -> None:
        """Make a pool and a lock anew; a runner with threads is made when it is needed."""
        self._pool = ThreadPoolExecutor(self.streams.count)
        self._loading = Lock()
        if self.streams.threads > 1:
            self._runner = None

    def encode(
        self,
        texts: Sequence[Text],
        *,
        truncation: Truncation = "longest_first",
        max_length: int | None = None,
        numbers: Iterable[int] | None = None,
        most: int | None = None,
    ) -> list[Encoded]:
        """The ids of each text, truncated to what the model reads, as `Tokenizer.encode` does."""
        encoded = self.tokenizer.encode(
            texts, truncation=truncation, max_length=max_length, numbers=numbers, most=most
        )
        words, types = self._architecture.vocabulary, self._architecture.types
        for text in encoded:
            most = max(text.ids.tolist())  # of few numbers sooner than NumPy's
            if most >= words or (types > 1 and text.types.max() >= types):
                raise BadModel(
                    f"{self.location.id}: the tokenizer gives the id {most} of type "
                    f"{text.types.max()}, but the model knows {words} ids and {types} types; "
                    "their files do not belong together"
                )
        return encoded

    def logits(self, texts: Sequence[Encoded]) -> np.ndarray:
        """The logits of each of *texts*, ``(texts, labels)`` float32, spread over the streams."""
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32)
        streams = self.streams.count
        batches = split([len(text) for text in texts], BATCH_IDS, streams)
        if len(batches) == 1:
            return self.run(texts, alone=True)
        run = map if streams == 1 else self._pool.map
        return np.concatenate(list(run(self.run, (texts[batch] for batch in batches))))

    def run(self, texts: Sequence[Encoded], *, alone: bool = False) -> np.ndarray:
        """The logits of *texts*, at least one, as one batch, beside others or *alone*.

        Raises:
            BadModel: A logit is not a number, or is larger than all numbers.
        """
        logits = self.runner.run(pack(texts), alone=alone)
        # A class may be ruled out by a bias of -inf: that is a score of 0. See scores.apply.
        if not (logits < np.inf).all():
            raise BadModel(
                f"{self.location.id} gives values that are not numbers; its weights are damaged"
            )
        return logits


def _product(dtype: object) -> Product:
    """How a model of that *dtype* multiplies the states of all ids."""
    if dtype == "float32":
        return exact_product
    if dtype == "int8":
        return partial(int8.product, largest=int8.largest_weight(int8.processor_class()))
    raise BadInput(f"dtype is float32 or int8, not {dtype!r:.40}")
