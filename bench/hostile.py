"""The server under attack: memory that floods, large texts and rude callers take, how soon others
are answered meanwhile, and what becomes of five times the texts that it can answer.

The attacks are those of the tests, in `tests/hostile_lines.py`, each on a server of its own with
the embedded model. Linux alone: memory and file descriptors are read in /proc.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from report import ROOT, Figure, finish, parser, read, say

sys.path.append(str(ROOT / "tests"))

from hostile_lines import (
    BODIES,
    FLOODS,
    GROWTH,
    LONGEST,
    P99,
    RUDE,
    Overload,
    Pressed,
    overload,
    pressed,
    server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hostile_lines import Target

SHARE = 0.05  # of an attack, with --quick
HEAD = f"{'':<22} {'idle':>7} {'peak':>7} {'growth':>7}   {'99 in 100':>9} {'longest':>7}"
RECOVERY = 5  # seconds


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    made = parser(__doc__)
    made.add_argument("--only", default="", help="these attacks alone, as in url,resets")
    options = read(made)
    wanted = options.only.split(",") if options.only else []
    share = SHARE if options.quick else 1.0
    memory, rude = (
        measured([one for one in attacks if not wanted or one.__name__ in wanted], share)
        for attacks in (FLOODS + BODIES, RUDE)
    )
    closed = [] if options.quick or wanted else FLOODS + BODIES
    guarded = measured(closed, share, token=True)
    figures = [
        *bounds("memory", [*memory.values(), *guarded.values()]),
        *bounds("rude callers", list(rude.values())),
    ]
    details: dict[str, Any] = {
        "attacks": {name: one.document() for name, one in memory.items()},
        "without the access token": {name: one.document() for name, one in guarded.items()},
        "rude callers": {name: one.document() for name, one in rude.items()},
    }
    if not wanted or "overload" in wanted:
        with tempfile.TemporaryDirectory() as folder:
            many, seconds = (200, 3) if options.quick else (1_000, 20)
            much = overload(Path(folder), connections=many, seconds=seconds)
        say(f"overload: {much}")
        details["overload"] = asdict(much)
        figures += of_overload(much)
    finish(
        "hostile", options, figures, details, used=["starlette", "httptools", "uvloop", "msgspec"]
    )


def measured(
    attacks: Sequence[Callable[[Target], None]], share: float, *, token: bool = False
) -> dict[str, Pressed]:
    """What each of *attacks* does to a new server; with *token*, to one that lets nobody in."""
    found = {}
    if attacks:
        say(HEAD)
    for attack in attacks:
        with tempfile.TemporaryDirectory() as folder, server(Path(folder), token=token) as live:
            one = found[attack.__name__] = pressed(live, attack, share)
        say(
            f"{attack.__name__:<22} {one.idle:7.0f} {one.peak:7.0f} {one.growth:7.0f} MB"
            f" {one.p99:8.2f} s {one.longest:6.2f} s  {one.statuses}"
        )
    return found


def bounds(kind: str, found: Sequence[Pressed]) -> list[Figure]:
    """The worst of *found*, beside what is promised; nothing where there is none."""
    if not found:
        return []
    unanswered = sum(one.probes - one.statuses.get("200", 0) for one in found)
    return [
        Figure(f"{kind}: MB above idle", "bound", max(one.growth for one in found), GROWTH),
        Figure(f"{kind}: requests of others without scores", "bound", unanswered, 0),
        Figure(
            f"{kind}: seconds of others, longest", "time", max(o.longest for o in found), LONGEST
        ),
        Figure(f"{kind}: seconds of others, 99 in 100", "time", max(o.p99 for o in found), P99),
        Figure(
            f"{kind}: file descriptors left behind",
            "bound",
            max(one.descriptors for one in found),
            0,
        ),
    ]


def of_overload(much: Overload) -> list[Figure]:
    """What became of too many texts, beside what is promised."""
    found = much.found
    others = sum(found["statuses"].values()) - sum(
        found["statuses"].get(status, 0) for status in ("200", "429", "503", "504")
    )
    lost = sum(found["failed"].values()) + others
    return [
        Figure("overload: requests without a proper answer", "bound", lost, 0),
        Figure("overload: seconds of answers, 99 in 100", "time", found["p99"], much.waiting + 1),
        Figure("overload: seconds to recover", "time", much.recovered, RECOVERY),
    ]


if __name__ == "__main__":
    main()
