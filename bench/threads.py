"""What the runtime's threads cost and bring: spinning, and one batch on all of them or one on each.

A spinning worker waits for the next piece of work actively: quick to begin, busy for nothing. It
may spin for a while after a run, or only during one. Nothing is claimed; LOG.md draws conclusions.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import models
from labelwise.engine.cpus import Streams, available
from labelwise.engine.onnx.runtime import ort
from labelwise.engine.packing import pack
from labelwise.models.locate import locate
from report import finish, parser, read, say
from timing import interleaved, middle, settle, side_by_side, summary, times_faster, turn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from labelwise.engine.onnx.runner import Runner
    from labelwise.engine.packing import Packed

WAITING = (32, 64, 96, 128, 192, 256, 384, 512)  # ids, of texts of
TEXT = 16  # each
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
        "streams": {
            name: streams(name, folder, options.rounds, WAITING[: 2 if options.quick else None])
            for name, folder in {"distilbert": at, "embedded": locate().folder}.items()
        },
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


def streams(name: str, at: Path, rounds: int, waiting: Sequence[int]) -> dict[int, dict[str, Any]]:
    """Milliseconds for so many ids that wait: one batch on all threads, or a part on each thread.

    The server decides by these: ``labelwise.engine.onnx.backend.Cpu.share_tokens``.
    """
    count = available()
    runner = models.runner(at, Streams(count, count))
    contestants: dict[tuple[int, str], Any] = {}
    for ids in waiting:
        whole, part = (pack(models.texts([TEXT] * (ids // TEXT // among))) for among in (1, count))
        contestants[ids, "alone"] = turn(partial(runner.run, whole, exclusive=True), 3)
        contestants[ids, "beside"] = side_by_side([partial(runner.run, part)] * count, 2)
    measured = interleaved(contestants, rounds)
    table: dict[int, dict[str, Any]] = {}
    for ids in waiting:
        alone, beside = (measured[ids, how] for how in ("alone", "beside"))
        row = {"alone": middle(alone) * 1e3, "beside": count * middle(beside) * 1e3}
        row["times faster alone"] = times_faster(alone, beside) * count
        table[ids] = row
        say(f"{name}, {ids:4} ids: " + ", ".join(f"{how} {ms:.2f}" for how, ms in row.items()))
    return table


if __name__ == "__main__":
    main()
