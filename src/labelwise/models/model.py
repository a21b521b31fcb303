"""A loaded model: texts to tokens, tokens to logits, logits to labels."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from labelwise.engine import architectures
from labelwise.engine.backend import default
from labelwise.engine.checkpoint.checkpoint import Checkpoint
from labelwise.engine.config import Config
from labelwise.engine.forks import Forkable
from labelwise.engine.packing import pack, split
from labelwise.engine.tokenizer.tokenizer import DEFAULT_TOKENIZATION, Tokenizer
from labelwise.errors import BadModel, one_line
from labelwise.models.files import Files
from labelwise.models.locate import locate
from labelwise.models.scores import default_function

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from labelwise.engine.backend import Backend, Dtype, Runner
    from labelwise.engine.tokenizer.tokenizer import Encoded, Text, Tokenization
    from labelwise.models.locate import Location

_log = logging.getLogger(__name__)


class Model(Forkable):
    """A model in memory.

    Its state never changes after loading; all methods may be called from several threads, and in a
    forked process.
    """

    def __init__(
        self, location: Location, backend: Backend | None = None, dtype: Dtype = "float32"
    ) -> None:
        """Load the model at *location*, to be computed in *dtype* by *backend*.

        Raises:
            BadInput: There is no such *dtype*.
            BadModel: A file or a weight is missing or broken, or the engine does not know the kind.
        """
        self.files = Files(location.folder)  # before any is read: what changes later is noticed
        config = Config.open(location.folder)
        architecture = architectures.describe(config)
        self.location = location
        self.dtype = dtype
        self.backend = backend or default()
        self.streams = self.backend.streams
        self.tokenizer = Tokenizer.open(location.folder, architecture.longest, config.model_type)
        with Checkpoint.open(location.folder, architecture.base) as checkpoint:
            self.labels = config.labels(checkpoint.rows(f"{architecture.head}.weight"))
            self._runner: Runner | None = self.backend.load(architecture, checkpoint, dtype)
            self.parameters = checkpoint.parameters()
            unused = checkpoint.unused()
        self.model_type, self.architectures = config.model_type, config.architectures
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
    def device(self) -> str:
        """The device that computes its logits."""
        return self.backend.device

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
                    self._runner = self.backend.load(self._architecture, checkpoint, self.dtype)
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
        tokenization: Tokenization = DEFAULT_TOKENIZATION,
        *,
        numbers: Iterable[int] | None = None,
        most: int | None = None,
    ) -> list[Encoded]:
        """The tokens of each text, cut to what the model reads, as `Tokenizer.encode` does."""
        encoded = self.tokenizer.encode(texts, tokenization, numbers=numbers, most=most)
        words, types = self._architecture.vocabulary, self._architecture.types
        for text in encoded:
            most = max(text.ids.tolist())  # of few numbers sooner than NumPy's
            if most >= words or (types > 1 and text.types.max() >= types):
                raise BadModel(
                    f"{self.location.id}: the tokenizer gives the id {most} of type "
                    f"{text.types.max()}, but the model knows {words} tokens and {types} types; "
                    "their files do not belong together"
                )
        return encoded

    def logits(self, texts: Sequence[Encoded]) -> np.ndarray:
        """The logits of each of *texts*, ``(texts, labels)`` float32, spread over the streams."""
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32)
        streams = self.streams.count
        batches = split([len(text) for text in texts], self.backend.batch_tokens, streams)
        if len(batches) == 1:
            return self.run(texts, exclusive=True)
        run = map if streams == 1 else self._pool.map
        return np.concatenate(list(run(self.run, (texts[batch] for batch in batches))))

    def run(self, texts: Sequence[Encoded], *, exclusive: bool = False) -> np.ndarray:
        """The logits of *texts*, at least one, as one batch, beside others or *exclusive*.

        Raises:
            BadModel: A logit is not a number, or is larger than all numbers.
        """
        logits = self.runner.run(pack(texts), exclusive=exclusive)
        # A class may be ruled out by a bias of -inf: that is a score of 0. See scores.apply.
        if not (logits < np.inf).all():
            raise BadModel(
                f"{self.location.id} gives values that are not numbers; its weights are damaged"
            )
        return logits
