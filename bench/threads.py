"""What the runtime's threads cost and bring: spinning, and many streams or many threads.

A spinning worker waits for the next piece of work actively: quick to begin, busy for nothing. It
may spin for a while after a run, or only during one. Nothing is claimed; LOG.md draws conclusions.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import onnxruntime as ort

import models
from labelwise.engine.packing import pack
from labelwise.engine.processors import Streams, available
from report import finish, parser, read, say
from timing import interleaved, middle, settle, side_by_side, summary, turn

if TYPE_CHECKING:
    from pathlib import Path

    from labelwise.engine.packing import Packed
    from labelwise.engine.runner import Runner

ALLOW, STOP = "session.intra_op.allow_spinning", "session.force_spinning_stop"
SPINNING = {  # the runtime's configuration entries
    "spinning": {ALLOW: "1", STOP: "0"},
    "spinning during a run": {ALLOW: "1", STOP: "1"},
    "not spinning": {ALLOW: "0", STOP: "0"},
}


def main() -> None:
    """Measure and print."""
    options = read(parser(__doc__, rounds=9, quick=1))
    at, count = models.folder(models.DISTILBERT, options.folder), available()
    cases = {"16 ids": pack(models.texts([16])), "64 ids": pack(models.texts([64]))}
    cases["32 sentences"] = pack(models.sentences()[1])
    spinners = {name: runner(at, Streams(1, count), how) for name, how in SPINNING.items()}
    details = {
        "spinning": {
            case: spinning(spinners, case, packed, options.rounds) for case, packed in cases.items()
        },
        "cpu_seconds": {name: burned(each, cases["16 ids"]) for name, each in spinners.items()},
        "streams": streams(at, cases["32 sentences"], options.rounds),
    }
    finish("threads", options, [], details)


def runner(at: Path, streams: Streams, entries: dict[str, str]) -> Runner:
    """The engine with these *entries* in its session's configuration, whatever it sets itself."""

    class Configured(ort.SessionOptions):
        def __init__(self) -> None:
            super().__init__()
            for key, value in entries.items():
                super().add_session_config_entry(key, value)

        def add_session_config_entry(self, key: str, value: str) -> None:
            if key not in entries:
                super().add_session_config_entry(key, value)

    with patch.object(ort, "SessionOptions", Configured):
        return models.runner(at, streams)


def spinning(
    spinners: dict[str, Runner], case: str, packed: Packed, rounds: int
) -> dict[str, dict[str, float]]:
    """Seconds of a run with each way of waiting, as `summary` has them."""
    runs = 1 if len(packed) > 1 else 10
    contestants = {name: turn(partial(each.run, packed), runs) for name, each in spinners.items()}
    table = {}
    for name, turns in interleaved(contestants, rounds).items():
        table[name] = summary(turns)
        shown = ", ".join(f"{key} {value * 1e3:.2f}" for key, value in table[name].items())
        say(f"{case:14} {name:22} ms: {shown}")
    return table


def burned(spinner: Runner, packed: Packed) -> float:
    """CPU seconds that the workers spend after one run, with nothing to do."""
    settle()
    spinner.run(packed)
    return settle()


def streams(at: Path, packed: Packed, rounds: int) -> dict[str, float]:
    """Ids a second where every stream has a batch: one-thread streams, or one of all threads."""
    kinds = dict.fromkeys((Streams(available(), 1), Streams(1, available())))
    contestants: dict[str, Any] = {}
    for kind in kinds:
        run = partial(models.runner(at, kind).run, packed)
        contestants[f"{kind.count} x {kind.threads}"] = side_by_side([run] * kind.count, runs=2)
    measured = interleaved(contestants, rounds)
    rates = {name: len(packed.ids) / middle(turns) for name, turns in measured.items()}
    for name, rate in rates.items():
        say(f"streams x threads: {name}: {rate:8.0f} ids/s")
    return rates


if __name__ == "__main__":
    main()
