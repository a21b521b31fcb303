"""What Labelwise costs: megabytes to install and to run, seconds to answer, work while idle."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from statistics import median
from typing import Any

import models
from labelwise.engine.config import Config
from labelwise.engine.cpus import available, streams
from labelwise.models.locate import locate
from report import ROOT, Figure, finish, parser, read, say
from timing import apart, settle

MB = 1e6
INSTALL_MB, ANSWER_SECONDS, IDLE_PERCENT = 300, 2, 1
TEXTS = 300
MEMORY_FACTORS, MEMORY_MORE = (1.5, 2.2), 200 * MB  # resident: times the fp32 weights, plus


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    made = parser(__doc__, rounds=5, quick=2)
    made.add_argument("--no-install", action="store_true", help="leave out the fresh installation")
    options = read(made)
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    if not options.no_install:
        installed = details["installed_mb"] = added_by_install() / MB
        say(f"installed: {installed:.0f} MB")
        figures.append(Figure("megabytes that an install adds", "bound", installed, INSTALL_MB))
    details["answer_seconds"] = answers = [first_answer() for _ in range(options.rounds)]
    figures.append(Figure("seconds to a first answer", "bound", median(answers), ANSWER_SECONDS))
    folders = {
        "distilbert-base": models.folder(models.DISTILBERT, options.folder),
        "embedded": locate().folder,
    }
    for name, at in folders.items():
        for copies in (1, 2):
            found = apart(life, at, 32 if options.quick else TEXTS, copies)
            named = name if copies == 1 else f"{name}, two copies"
            details[named] = found
            say(f"{named}: { ({key: round(value, 2) for key, value in found.items()}) }")
            most = (MEMORY_FACTORS[copies - 1] * found["weights_mb"] * MB + MEMORY_MORE) / MB
            figures += [
                Figure(f"{named}, megabytes in memory", "bound", found["memory_mb"], most),
                Figure(
                    f"{named}, percent of a processor while idle",
                    "bound",
                    found["idle_percent"],
                    IDLE_PERCENT,
                ),
            ]
    finish("footprint", options, figures, details)


def added_by_install() -> int:
    """The bytes on disk that `pip install` of this repository adds to a fresh environment."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder, "fresh")
        venv.create(at, with_pip=True)
        before = on_disk(at)
        pip = [str(at / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run = subprocess.run([*pip, "install", str(ROOT)], capture_output=True, text=True)  # noqa: S603, PLW1510
        if run.returncode:
            sys.exit(f"pip cannot install {ROOT}; --no-install leaves this out\n{run.stderr}")
        return on_disk(at) - before


def on_disk(folder: Path) -> int:
    """The bytes that the files below *folder* take up, in whole blocks."""
    files = (path.lstat() for path in folder.rglob("*") if not path.is_dir())
    return sum(file.st_blocks * 512 for file in files)


def first_answer() -> float:
    """Wall seconds of the command line in a fresh process, from nothing to an answer."""
    program = shutil.which("labelwise", path=Path(sys.executable).parent)
    if program is None:
        sys.exit("there is no program labelwise beside this python: pip install it there first")
    began = time.perf_counter()
    command = [program, "classify", "I like you. I love you"]
    run = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    seconds = time.perf_counter() - began
    assert "POSITIVE" in run.stdout
    say(f"first answer: {seconds:.2f} s")
    return seconds


def life(at: Path, count: int, copies: int) -> dict[str, float]:
    """Load *copies* of the model in *at*, answer *count* texts in both ways that there are, rest.

    What that took of memory and processor. To be run in a fresh process.
    """
    model = models.model(at, streams(available(), copies))
    loaded = memory("VmRSS")
    limit = model.tokenizer.limit
    texts = models.texts([*models.log_uniform(count - 1, 8, 256), limit])
    model.logits(texts)
    model.logits(texts[-1:])  # the longest, alone
    spent = settle()
    began = time.process_time(), time.perf_counter()
    time.sleep(3)
    busy, clock = time.process_time() - began[0], time.perf_counter() - began[1]
    return {
        "weights_mb": 4 * models.weights_in(dict(Config.open(at).values)) / MB,
        "memory_loaded_mb": loaded / MB,
        "memory_mb": memory("VmRSS") / MB,
        "memory_peak_mb": memory("VmHWM") / MB,
        "cpu_ms_after_last_answer": spent * 1e3,
        "idle_percent": 100 * busy / clock,
    }


def memory(key: str) -> int:
    """Bytes of this process's memory: "VmRSS", resident now, or "VmHWM", the most ever."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found: Any = re.search(rf"^{key}:\s*(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024


if __name__ == "__main__":
    main()
