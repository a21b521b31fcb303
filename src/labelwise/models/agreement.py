"""Agreement of a model in int8 with itself in fp32: measured, kept as a report, insisted on.

A report speaks for one model at one commit on one class of processor, for these three decide what
an int8 score is.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from shlex import quote
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from platformdirs import user_data_path

from labelwise import __version__
from labelwise.engine.files import exists, read_file
from labelwise.engine.nesting import check_depth
from labelwise.engine.onnx import int8
from labelwise.engine.packing import split
from labelwise.errors import BadFile, BadInput
from labelwise.models.scores import apply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from labelwise.engine.onnx.int8 import Processor
    from labelwise.models.locate import Location
    from labelwise.models.model import Model
    from labelwise.models.scores import Function

LEAST = 0.99  # of texts must keep their label
_MAX_REPORT_BYTES = 100_000

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The result of a comparison of int8 with fp32: a report, when it is written down."""

    model: str
    revision: str  # the commit, or what stands for one: see Location.sha
    processor: str  # its class: see int8.processor_class
    texts: int
    same_label: Share
    largest_change: float  # of a score of a text
    mean_change: float  # of all scores of all texts
    accuracy_float32: Share | None  # None where no labels were given
    accuracy_int8: Share | None
    times_faster: float  # the median over batches, each computed by both in turn
    date: str
    version: str  # of Labelwise

    @property
    def suffices(self) -> bool:
        """Whether the model may be served in int8 without further ado."""
        return self.same_label >= LEAST


def compare(
    exact: Model,
    small: Model,
    texts: Sequence[str],
    classes: Sequence[frozenset[int]] | None = None,
    done: Callable[[int], object] = lambda _: None,
) -> Agreement:
    """Compare *small*, in int8, with *exact*, the same model in fp32, on *texts*, at least one.

    *classes* are those that are right for each text. *done* is told how many texts were compared,
    batch by batch.

    Raises:
        BadInput: The model gives numbers, not labels.
    """
    if exact.function == "none":
        raise BadInput(f"{exact.location.id} gives numbers; there are no labels to agree on")
    logits, times_faster = _both(exact, small, texts, done)
    scores = [apply(exact.function, each) for each in logits]
    chosen = [_chosen(exact.function, each) for each in scores]
    changes = np.abs(scores[1] - scores[0])
    right = [None if classes is None else _share_right(each, classes) for each in chosen]
    return Agreement(
        model=exact.location.id,
        revision=exact.location.sha(),
        processor=int8.processor_class(),
        texts=len(texts),
        same_label=float((chosen[0] == chosen[1]).all(axis=1).mean()),
        largest_change=float(changes.max()),
        mean_change=float(changes.mean()),
        accuracy_float32=right[0],
        accuracy_int8=right[1],
        times_faster=times_faster,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        version=__version__,
    )


def _both(
    exact: Model, small: Model, texts: Sequence[str], done: Callable[[int], object]
) -> tuple[list[np.ndarray], float]:
    """The logits of *exact* and of *small*, ``(texts, labels)``, and how much faster *small* is.

    Both compute each batch, seconds apart, and who is first changes from batch to batch. The first
    batch is computed once more, beforehand, to wake them up.
    """
    encoded = exact.encode(texts)
    batches = split(
        [len(text) for text in encoded], exact.backend.batch_tokens * exact.streams.count, 1
    )
    models = (exact, small)
    logits = [np.empty((len(texts), len(exact.labels)), np.float32) for _ in models]
    for model in models:
        model.logits(encoded[batches[0]])
    ratios = []
    for number, batch in enumerate(batches):
        seconds = [0.0, 0.0]
        for which in (0, 1) if number % 2 else (1, 0):
            began = perf_counter()
            logits[which][batch] = models[which].logits(encoded[batch])
            seconds[which] = perf_counter() - began
        ratios.append(seconds[0] / seconds[1])
        done(batch.stop - batch.start)
    return logits, median(ratios)


def _chosen(function: Function, scores: np.ndarray) -> np.ndarray:
    """The labels that a text gets, ``(texts, labels)`` of bool: the best, or all from one half."""
    if function == "sigmoid":
        return np.asarray(scores >= 0.5)
    return np.asarray(np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None])


def _share_right(chosen: np.ndarray, classes: Sequence[frozenset[int]]) -> float:
    """The share of texts that get exactly the labels that are right for them."""
    rows = zip(chosen, classes, strict=True)
    return sum(set(np.flatnonzero(row)) == right for row, right in rows) / len(classes)


def write(agreement: Agreement, location: Location) -> Path:
    """Keep *agreement* as the report for the model at *location*; its path.

    Raises:
        BadInput: It cannot be written.
    """
    path = _place(location, int8.processor_class())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(agreement)) + b"\n")
    except OSError as reason:
        raise BadInput(f"the report {path} cannot be written: {reason.strerror}") from None
    return path


def find(location: Location) -> Agreement | None:
    """The report for the model at *location*, as it is now, on this processor's class; or None.

    Raises:
        BadFile: There is one that cannot be read.
    """
    processor = int8.processor_class()
    for path in (_place(location, processor), location.folder / _name(processor)):
        if exists(path):
            found = _read(path)
            if (found.revision, found.processor) == (location.sha(), processor):
                return found
    return None


def check(location: Location, name: str) -> None:
    """Let pass what may be computed in int8; *name* is what the user calls the model.

    Raises:
        BadInput: There is no report, or too many texts change their label.
    """
    found = find(location)
    if found is None:
        raise BadInput(
            f"nobody has compared int8 with fp32 for {name} as it is now, on a processor of the "
            f"class {int8.processor_class()}; run: labelwise compare-int8 {quote(name)} "
            "--data FILE, or insist with --allow-unverified-int8"
        )
    if not found.suffices:
        raise BadInput(
            f"in int8, {name} gives only {found.same_label:.2%} of {found.texts} texts the label "
            f"that it gives in fp32, less than {LEAST:.0%}; leave out int8, compare with other "
            f"texts: labelwise compare-int8 {quote(name)} --data FILE, or insist with "
            "--allow-unverified-int8"
        )


def _place(location: Location, processor: Processor) -> Path:
    """The place of the report: with the user's own model, else in Labelwise's data folder.

    Neither the Hub's cache nor the installed package is a place for what a user finds out.
    """
    if location.revision is None and not location.is_embedded:
        return location.folder / _name(processor)
    folder = user_data_path("labelwise", appauthor=False) / "reports" / location.id
    return folder / location.sha() / _name(processor)


def _name(processor: Processor) -> str:
    return f"labelwise-int8-{processor}.json"


def _read(path: Path) -> Agreement:
    content = read_file(path, _MAX_REPORT_BYTES)
    try:
        check_depth(content)
        return msgspec.json.decode(content, type=Agreement)
    except (msgspec.MsgspecError, ValueError) as reason:
        raise BadFile(f"{path} is no report of labelwise compare-int8: {reason}") from None
