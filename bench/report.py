"""What every benchmark ends with: its figures beside what is claimed, and one JSON document.

The document is the last line of stdout. Everything meant for people goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from labelwise.engine.cpus import available

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"

Strictness = Literal["full", "half"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number and what is claimed for it.

    A *ratio* of two speeds is claimed to be at least that; a *bound* (a difference, a size) and a
    *time* at most.
    """

    name: str
    kind: Literal["ratio", "bound", "time"]
    value: float
    claimed: float

    def meets(self, strictness: Strictness = "full") -> bool:
        """Whether the claim holds; "half" asks for half of a speed, and for all of a bound."""
        factor = 2 if strictness == "half" else 1
        if self.kind == "ratio":
            return self.value >= self.claimed / factor
        return self.value <= self.claimed * (factor if self.kind == "time" else 1)

    def __str__(self) -> str:
        sign = ">=" if self.kind == "ratio" else "<="
        verdict = "" if self.meets() else "   MISSED"
        return f"{self.name}: {self.value:.4g}  (claimed {sign} {self.claimed:g}){verdict}"


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds so far: of the clock, of all processors' work, and of the work that is ours.

    Ours is that of this process and of its children that have ended.
    """

    clock: float
    anybody: float
    ours: float

    @classmethod
    def now(cls, stat: Path = Path("/proc/stat")) -> Usage:
        """The seconds so far; where the system does not count for others, none are theirs."""
        ours = sum(os.times()[:4])
        try:
            user, nice, system, _idle, _wait, *rest = map(int, stat.read_text().split()[1:9])
        except (OSError, ValueError):
            return cls(time.monotonic(), ours, ours)
        ticks = user + nice + system + sum(rest)
        return cls(time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), ours)

    def others(self, later: Usage) -> float:
        """How many processors others kept busy between this and *later*, on average."""
        theirs = (later.anybody - self.anybody) - (later.ours - self.ours)
        return max(0.0, theirs / (later.clock - self.clock))


def parser(description: str | None, rounds: int = 0, quick: int = 1) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have.

    *rounds* is how often everything is measured, *quick* the same with --quick; 0: once is enough.
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    if rounds:
        explained = f"how often everything is measured [{rounds}; quick: {quick}]"
        add("--rounds", type=int, help=explained)
    add("--quick", action="store_true", help="few rounds and small inputs: does it work at all?")
    strict = "exit 1 where a figure is missed; half: of a speed"
    add("--require", nargs="?", const="full", choices=["full", "half"], help=strict)
    add("--save", action="store_true", help="write bench/results/NAME.json as well")
    folder = Path(tempfile.gettempdir(), "labelwise-bench")
    add("--folder", type=Path, default=folder, help=f"where random models are kept [{folder}]")
    made.set_defaults(rounds=None, several=rounds or 1, few=quick)
    return made


def read(
    made: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """The command line, with `rounds` filled in."""
    options = made.parse_args(arguments)
    if options.rounds is None:
        options.rounds = options.few if options.quick else options.several
    if options.rounds < 1:
        made.error("--rounds must be at least 1")
    options.began = Usage.now()
    return options


def say(line: str = "") -> None:
    """A line for people."""
    print(line, file=sys.stderr, flush=True)


def finish(
    name: str,
    options: argparse.Namespace,
    figures: Sequence[Figure],
    details: Mapping[str, Any],
    used: Sequence[str] = (),
) -> None:
    """Print the figures for people, the document for machines; exit 1 if a required one is missed.

    *used* are the packages whose versions matter beside those that every benchmark uses.
    """
    for figure in figures:
        say(str(figure))
    text = json.dumps(document(name, options, figures, details, used))
    if options.save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(json.loads(text), indent=1) + "\n")
    print(text, flush=True)
    missed = [str(figure) for figure in figures if not figure.meets(options.require or "full")]
    if options.require and missed:
        sys.exit(f"{name}: {len(missed)} of {len(figures)} figures missed: {'; '.join(missed)}")


def document(
    name: str,
    options: argparse.Namespace,
    figures: Sequence[Figure],
    details: Mapping[str, Any],
    used: Sequence[str] = (),
) -> dict[str, Any]:
    """What one run of a benchmark found, where and when."""
    busy = options.began.others(Usage.now())
    if busy > 0.05 * available():
        say(
            f"others kept {busy:.2f} of the processors busy: figures of speed are not to be trusted"
        )
    return {
        "benchmark": name,
        "figures": {
            figure.name: {key: value for key, value in asdict(figure).items() if key != "name"}
            | {"met": figure.meets()}
            for figure in figures
        },
        **details,
        "rounds": options.rounds,
        "quick": options.quick,
        "commit": commit(),
        "machine": machine(used) | {"busy_elsewhere": round(busy, 2)},
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def machine(used: Sequence[str] = ()) -> dict[str, Any]:
    """The processor, how many of it this process may use, and the versions of what computes."""
    packages = ("numpy", "onnxruntime", *used)
    return {
        "processor": processor_name(),
        "processors": available(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """What the processor calls itself."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def commit(root: Path = ROOT) -> str | None:
    """The commit that was measured, "-dirty" where files differ; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
