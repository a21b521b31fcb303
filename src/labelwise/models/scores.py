"""Logits to labels and scores, exactly as transformers 5 decides them. Pure.

The rules are those of its ``TextClassificationPipeline``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from labelwise.errors import BadInput, BadModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Function = Literal["softmax", "sigmoid", "none"]
_FEW_LABELS = 100  # that Python sorts sooner than NumPy
_NOT_GIVEN = -1.0  # stands for a score below its threshold
_LOGITS_AT_ONCE = 250_000  # 1 MB, and some copies of it
FUNCTIONS: tuple[Function, ...] = ("softmax", "sigmoid", "none")


class Score(dict[str, Any]):
    """A label and how strongly it applies: `score.label`, or ``score["label"]``.

    It is a dictionary so that all that reads the dictionaries of transformers' pipeline reads it.
    """

    __slots__ = ()

    def __init__(self, label: str, score: float) -> None:
        # Quicker than a literal given to dict, and made for every label of every text.
        self["label"] = label
        self["score"] = score

    @property
    def label(self) -> str:
        """The name of the class."""
        return self["label"]  # type: ignore[no-any-return]  # the constructor's

    @property
    def score(self) -> float:
        """From 0 to 1; with the function "none", any number."""
        return self["score"]  # type: ignore[no-any-return]  # as above


def default_function(problem_type: str | None, labels: int) -> Function:
    """The function for a model of *labels* classes whose configuration names *problem_type*."""
    if problem_type == "regression":
        return "none"
    if problem_type == "multi_label_classification" or labels == 1:
        return "sigmoid"
    return "softmax"


def apply(function: Function, logits: np.ndarray) -> np.ndarray:
    """Scores of the same shape, float32, from *logits*: ``(..., labels)``. Always finite.

    A logit is a finite number or -inf, as of a class that its model rules out.

    Raises:
        BadInput: Without a function a score would be -inf.
        BadModel: All logits of a text are -inf, and there is nothing to divide among its labels.
    """
    if logits.size and logits.min() == -np.inf:
        ruled_out = np.isneginf(logits)
        if function == "none":
            number = int(ruled_out.nonzero()[-1][0])
            raise BadInput(
                f"without a function the score of class {number} is -inf, which JSON cannot hold; "
                "use softmax or sigmoid"
            )
        if function == "softmax" and ruled_out.all(axis=-1).any():
            raise BadModel(
                "the model rules out every class: all logits are -inf; its weights are damaged"
            )
    with np.errstate(over="ignore"):  # what overflows here ends as the right 0 or 1
        if function == "softmax":
            shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
            return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))
        if function == "sigmoid":
            return np.asarray(1 / (1 + np.exp(-logits)))
    return logits


@dataclass(frozen=True, slots=True)
class Calibration:
    """The changes that an operator makes to the scores of a model."""

    temperature: float = 1.0  # logits are divided by it: Guo et al. 2017, arXiv 1706.04599
    least: np.ndarray | None = None  # the least score of each label that is given, (labels,)

    @classmethod
    def of(
        cls, temperature: float, thresholds: Mapping[str, float], labels: Sequence[str]
    ) -> Calibration:
        """The calibration with *thresholds* for some of *labels*; the others have none."""
        least = [thresholds.get(label, 0.0) for label in labels]
        return cls(temperature, np.array(least, np.float32) if thresholds else None)


AS_IT_IS = Calibration()


def answers(
    logits: Sequence[np.ndarray],
    function: Function,
    labels: Sequence[str],
    top_k: int | None,
    calibration: Calibration = AS_IT_IS,
) -> list[list[Score]]:
    """The *top_k* best scores of each text, all where None, from its *logits*, ``(labels,)``.

    Without a function, scores are the logits, and *calibration* changes nothing.
    """
    if function == "none":
        calibration = AS_IT_IS
    rows, least = max(_LOGITS_AT_ONCE // len(labels), 1), calibration.least
    found = []
    for start in range(0, len(logits), rows):
        some = np.array(logits[start : start + rows])
        if calibration.temperature != 1:
            some /= np.float32(calibration.temperature)
        scores = apply(function, some)
        if least is None:
            found += [rank(row, labels, top_k) for row in scores]
        else:
            scores[scores < least] = _NOT_GIVEN
            found += [_given(rank(row, labels, top_k)) for row in scores]
    return found


def _given(scores: list[Score]) -> list[Score]:
    """Those of *scores*, best first, that are given."""
    return [score for score in scores if score["score"] != _NOT_GIVEN]


def rank(scores: np.ndarray, labels: Sequence[str], top_k: int | None = None) -> list[Score]:
    """The *top_k* best of one text's *scores*, ``(labels,)``, all where None.

    The best comes first; equal scores keep the order of their classes.
    """
    if len(scores) > _FEW_LABELS:
        order = _best(scores, top_k)
        values = scores[order].tolist()
        return [Score(labels[number], value) for number, value in zip(order, values, strict=True)]
    values = scores.tolist()
    order = sorted(range(len(values)), key=values.__getitem__, reverse=True)[:top_k]
    return [Score(labels[number], values[number]) for number in order]


def _best(scores: np.ndarray, top_k: int | None) -> list[int]:
    """The classes of the *top_k* best of many *scores*, as `rank` orders them."""
    worse = -scores  # a stable sort keeps the order of equals only upwards
    found = np.arange(len(scores))
    if top_k is not None and top_k < len(scores):
        found = np.flatnonzero(worse <= np.partition(worse, top_k - 1)[top_k - 1])
    order: list[int] = found[np.argsort(worse[found], kind="stable")][:top_k].tolist()
    return order
