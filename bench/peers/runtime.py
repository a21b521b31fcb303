"""ONNX Runtime over a padded, fused export, in a process of its own.

It gets ids rather than texts and nobody calls it over HTTP: no server around it can be faster.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from engines import padded
from labelwise.engine.cpus import available
from labelwise.engine.onnx.runtime import ort
from timing import Contestant, Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from labelwise.engine.tokenizer.tokenizer import Encoded
    from peers.texts import Case


class Runtime:
    """A contestant that takes batches of *size* texts in the *order* "arrival" or "sorted".

    In the order of arrival one session has all processors; sorted by their lengths, longest first,
    each processor has a session of its own, and takes the next batch when it has done one.
    """

    def __init__(self, at: Path, cases: Sequence[Case], order: str, size: str) -> None:
        work = {case.name: case.ids[: 1 if case.callers == 1 else None] for case in cases}
        self._contestant = Contestant(_cases, at / "model.onnx", work, order, int(size))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._contestant.__exit__()

    def turn(self, case: Case) -> Turn:
        """Seconds for all the texts; for each, where there is one caller."""
        runs = len(case.texts) if case.callers == 1 else 1
        return self._contestant.turn(case.name, runs)

    def scores(self, case: Case, count: int) -> np.ndarray:
        """The scores of the first *count* texts, ``(count, labels)``."""
        logits: np.ndarray = self._contestant.answer(case.name)[:count]
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)


def _cases(
    export: Path, work: dict[str, list[Encoded]], order: str, size: int
) -> dict[str, Callable[[], np.ndarray]]:
    by_length = order == "sorted"
    alone = range(available()) if by_length else range(1)
    sessions = [_session(export, available() // len(alone)) for _ in alone]
    pool = ThreadPoolExecutor(len(sessions))
    return {
        name: partial(_run, sessions, pool, texts, _batches(texts, size, by_length=by_length))
        for name, texts in work.items()
    }


def _session(export: Path, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(export, options, providers=["CPUExecutionProvider"])


def _batches(texts: list[Encoded], size: int, *, by_length: bool) -> list[list[int]]:
    """The numbers of the texts of each batch."""
    order = list(range(len(texts)))
    if by_length:
        order.sort(key=lambda number: -len(texts[number]))
    return [order[first : first + size] for first in range(0, len(order), size)]


def _run(
    sessions: list[Any], pool: ThreadPoolExecutor, texts: list[Encoded], batches: list[list[int]]
) -> np.ndarray:
    """The logits of *texts*, ``(texts, labels)``."""
    waiting = iter(batches)

    def work(session: Any) -> list[tuple[list[int], np.ndarray]]:
        return [
            (batch, session.run(None, padded([texts[number] for number in batch]))[0])
            for batch in waiting
        ]

    done = [pair for pairs in pool.map(work, sessions) for pair in pairs]
    logits = np.empty((len(texts), done[0][1].shape[1]), np.float32)
    for batch, rows in done:
        logits[batch] = rows
    return logits
