"""How far the company of a text, or the stream that it runs on, moves its logits and scores.

Each text is computed alone on one thread; then in random batches, on streams of several kinds, two
batches at once where there are two streams. What differs is the order of additions.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

import models
from labelwise.engine.cpus import Streams
from labelwise.engine.packing import pack
from labelwise.models.locate import locate
from labelwise.models.scores import apply
from report import Figure, finish, parser, read, say

if TYPE_CHECKING:
    from pathlib import Path

    from labelwise.engine.backend import Dtype

STREAMS = (Streams(1, 1), Streams(1, 2), Streams(2, 1))
TEXTS, LONGEST = 96, 512
MAX_IN_A_BATCH = 64


def main() -> None:
    """Compare, print, and hold the differences against the bounds."""
    options = read(parser(__doc__, rounds=8, quick=2))
    longest = 64 if options.quick else LONGEST
    distilbert = models.folder(models.DISTILBERT, options.folder)
    contestants: dict[str, tuple[Path, Dtype]] = {
        "distilbert-base": (distilbert, "float32"),
        "embedded": (locate().folder, "float32"),
        "distilbert-base in int8": (distilbert, "int8"),
        "embedded in int8": (locate().folder, "int8"),
    }
    differences = {
        name: compare(name, *which, options.rounds, longest) for name, which in contestants.items()
    }
    figures = []
    for name, (logit, score) in differences.items():
        figures.append(Figure(f"{name}, difference of a logit", "bound", logit, 2e-5))
        figures.append(Figure(f"{name}, difference of a score", "bound", score, 1e-5))
    details = {"texts": TEXTS, "longest": longest, "streams": [str(kind) for kind in STREAMS]}
    finish("isolation", options, figures, details)


def compare(name: str, at: Path, dtype: Dtype, rounds: int, longest: int) -> tuple[float, float]:
    """The largest difference of a logit and of a score, over *rounds* batches a kind of stream."""
    texts = models.texts(models.log_uniform(TEXTS, 1, longest))
    runner = models.runner(at, STREAMS[0], dtype)
    alone = np.concatenate([runner.run(pack([text])) for text in texts])
    logit = score = 0.0
    for kind in STREAMS:
        runner = models.runner(at, kind, dtype)
        chosen = batches(rounds)
        with ThreadPoolExecutor(kind.count) as pool:
            packed = (pack([texts[number] for number in batch]) for batch in chosen)
            found = np.concatenate(list(pool.map(runner.run, packed)))
        expected = alone[np.concatenate(chosen)]
        logit = max(logit, float(np.abs(found - expected).max()))
        scores = [apply("softmax", logits) for logits in (found, expected)]
        score = max(score, float(np.abs(scores[0] - scores[1]).max()))
        say(f"{name:24} {kind}: {len(found)} texts; so far logit {logit:.1e}, score {score:.1e}")
    return logit, score


def batches(count: int) -> list[np.ndarray]:
    """The numbers of the texts of *count* batches: the largest, a text alone, any size between."""
    random = np.random.default_rng(count)
    sizes = [MAX_IN_A_BATCH, 1, *random.integers(2, MAX_IN_A_BATCH, max(0, count - 2))]
    return [random.choice(TEXTS, size, replace=False) for size in sizes[:count]]


if __name__ == "__main__":
    main()
