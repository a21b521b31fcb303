"""The models and texts of the benchmarks: random weights in real shapes, real lengths."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelwise.engine.cpus import Streams, available
from labelwise.engine.onnx.backend import Cpu
from labelwise.engine.tokenizer.tokenizer import Encoded
from labelwise.models.locate import Location, locate
from labelwise.models.model import Model
from report import ROOT

if TYPE_CHECKING:
    from labelwise.engine.backend import Dtype
    from labelwise.engine.onnx.runner import Runner

sys.path.append(str(ROOT / "tests"))
from padded import config, shapes, write_model

BATCH_TOKENS = Cpu(Streams(1, 1)).batch_tokens
WORDS = 30522  # of the embedded tokenizer

# The ids of the first 32 sentences of SST-2 dev. How long they are is all that a speed depends on.
SENTENCE_LENGTHS = (
    *(12, 10, 24, 28, 13, 25, 8, 15, 26, 40, 23, 39, 25, 26, 29, 26),
    *(21, 44, 14, 21, 41, 17, 10, 20, 18, 35, 35, 28, 19, 13, 35, 38),
)

DISTILBERT = config(
    "distilbert",
    2,
    hidden_size=768,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=3072,
    vocab_size=WORDS,
)
MINILM = config(
    "bert",
    2,
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
    vocab_size=WORDS,
)


def folder(values: dict[str, Any], within: Path) -> Path:
    """The folder of the model with the configuration *values* and random weights, made once.

    Its tokenizer is the embedded model's.
    """
    digest = sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
    made = within / f"{values['model_type']}-{digest}"
    if not made.exists():
        within.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=within) as partial:
            half = write_model(Path(partial, made.name), values)
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(locate().folder / name, half)
            half.rename(made)
    return made


def runner(at: Path, streams: Streams, dtype: Dtype = "float32") -> Runner:
    """The engine alone, over the model in *at*."""
    return model(at, streams, dtype).runner


def model(at: Path, streams: Streams | None = None, dtype: Dtype = "float32") -> Model:
    """The model in *at*, with the streams that a user gets where None."""
    backend = None if streams is None else Cpu(streams)
    return Model(Location(at.name, at, None), backend, dtype)


def one_thread_streams() -> Streams:
    """A stream of one thread for each processor."""
    return Streams(available(), 1)


def weights_in(values: dict[str, Any], *, layers_only: bool = False) -> int:
    """How many numbers the weights of a model are; of its layers' products alone where asked."""
    return sum(
        int(np.prod(shape))
        for name, shape in shapes(values).items()
        if not layers_only or (".layer." in name and len(shape) == 2)
    )


def texts(lengths: Any, seed: int = 0, words: int = WORDS) -> list[Encoded]:
    """Texts of random ids, of these *lengths*."""
    random = np.random.default_rng(seed)
    return [
        Encoded(random.integers(0, words, length), np.zeros(length, np.int64), int(length))
        for length in lengths
    ]


def sentences() -> tuple[str, list[Encoded]]:
    """The 32 sentences and what they are; without the data, random ids of the same lengths."""
    if not os.environ.get("LABELWISE_SHARED"):
        return "random ids as long as the first 32 sentences of SST-2 dev", texts(SENTENCE_LENGTHS)
    lines = [text for text, _ in sst2("dev")[: len(SENTENCE_LENGTHS)]]
    return "the first 32 sentences of SST-2 dev", model(locate().folder).encode(lines)


def sst2(part: str) -> list[tuple[str, int]]:
    """The texts of a *part* of SST-2, "dev" or "test-labeled", and their labels: 1 is positive."""
    shared = os.environ.get("LABELWISE_SHARED")
    if not shared:
        sys.exit("no data: set LABELWISE_SHARED to the folder that holds data/sst2-glue")
    lines = Path(shared, f"data/sst2-glue/{part}.tsv").read_text(encoding="utf-8")
    rows = [line.rsplit("\t", 1) for line in lines.rstrip("\n").split("\n")[1:]]
    return [(text, int(label)) for text, label in rows]


def log_uniform(count: int, shortest: int, longest: int, seed: int = 0) -> np.ndarray:
    """*count* lengths from *shortest* to *longest*, evenly by their logarithm, in random order."""
    spread = np.exp(np.linspace(np.log(shortest), np.log(longest), count)).round().astype(int)
    return np.random.default_rng(seed).permutation(spread)
