"""What int8 brings and costs: its speed beside fp32, and what the embedded model answers in it.

Both are measured as they come and in one-thread streams, and the better of each counts.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import models
from labelwise import Classifier
from labelwise.models.locate import locate
from report import Figure, finish, parser, read, say
from timing import Contestant, interleaved, summary, times_faster

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from labelwise.engine.tokenizer.tokenizer import Encoded

RUNS = {"sentences": 1, "one text": 10}  # in one turn
FASTER = 1.5  # DistilBERT on the sentences
MAX_DIFFERENT, MAX_LOST = 0.01, 0.003  # shares of the texts of SST-2 dev

Turns = dict[str, list[list[float]]]


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    options = read(parser(__doc__, rounds=15, quick=1))
    source, sentences = models.sentences()
    cases = {"sentences": sentences, "one text": models.texts([16])}
    folders = {
        "distilbert-base": models.folder(models.DISTILBERT, options.folder),
        "embedded": locate().folder,
    }
    turns = {name: measure(name, at, cases, options.rounds) for name, at in folders.items()}
    faster = {
        name: {case: times(by_contestant) for case, by_contestant in by_case.items()}
        for name, by_case in turns.items()
    }
    ratio = faster["distilbert-base"]["sentences"]
    figures = [Figure("distilbert-base, sentences, against fp32", "ratio", ratio, FASTER)]
    details: dict[str, Any] = {"ids": sum(map(len, sentences)), "texts": source}
    if os.environ.get("LABELWISE_SHARED"):
        details["answers"] = found = answers()
        figures += [
            Figure("embedded, labels that differ", "bound", found["different"], MAX_DIFFERENT),
            Figure("embedded, accuracy lost", "bound", found["lost"], MAX_LOST),
        ]
    details["times_faster"] = faster
    details["seconds"] = {
        name: {
            case: {contestant: summary(theirs) for contestant, theirs in by_contestant.items()}
            for case, by_contestant in by_case.items()
        }
        for name, by_case in turns.items()
    }
    finish("int8", options, figures, details)


def measure(
    name: str, at: Path, cases: Mapping[str, list[Encoded]], rounds: int
) -> dict[str, Turns]:
    """The turns of each contestant for each of *cases*, as `interleaved` has them."""
    lineup = {
        f"{dtype}, {how}": (dtype, *streams)
        for dtype in ("float32", "int8")
        for how, streams in {"as it comes": (), "streams": (models.one_thread_streams(),)}.items()
    }
    found = {}
    with ExitStack() as running:
        contestants = {
            contestant: running.enter_context(Contestant(runs, cases, at, *arguments))
            for contestant, arguments in lineup.items()
        }
        for case in cases:
            turns = {key: each.turn(case, RUNS[case]) for key, each in contestants.items()}
            found[case] = interleaved(turns, rounds)
            say(f"{name:16} {case:10} int8 is {times(found[case]):.2f} times faster")
            for key, theirs in found[case].items():
                shown = ", ".join(f"{k} {v * 1e3:.2f}" for k, v in summary(theirs).items())
                say(f"{name:16} {case:10} {key:20} ms: {shown}")
    return found


def runs(
    cases: Mapping[str, list[Encoded]], at: Path, dtype: str, *streams: Any
) -> dict[str, Callable[[], np.ndarray]]:
    """The model in *at*, with the streams that a user gets if none are given."""
    model = models.model(at, *streams, dtype=dtype)
    return {case: partial(model.logits, texts) for case, texts in cases.items()}


def times(turns: Turns) -> float:
    """How many times faster int8 is than fp32, both in those streams that suit it best."""
    ours, theirs = (
        [seconds for name, seconds in turns.items() if name.startswith(dtype)]
        for dtype in ("int8", "float32")
    )
    return max(min(times_faster(one, other) for other in theirs) for one in ours)


def answers() -> dict[str, float]:
    """What the embedded model answers on SST-2 dev in int8, beside what it answers in fp32."""
    rows = models.sst2("dev")
    right = np.array([("NEGATIVE", "POSITIVE")[label] for _, label in rows])
    exact, small = (
        np.array([scores[0].label for scores in Classifier(dtype=dtype)([row[0] for row in rows])])
        for dtype in ("float32", "int8")
    )
    found = {
        "texts": len(rows),
        "right_float32": int((exact == right).sum()),
        "right_int8": int((small == right).sum()),
        "different": float((exact != small).mean()),
    }
    found["lost"] = (found["right_float32"] - found["right_int8"]) / len(rows)
    say(f"SST-2 dev: {found}")
    return found


if __name__ == "__main__":
    main()
