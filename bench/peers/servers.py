"""The servers: how each is installed, started, asked, and held still while others are measured."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from peers.load import HOST, answers, closed_loop, open_loop, request
from report import say
from server import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from peers.load import Answer
    from peers.texts import Case
    from timing import Turn

HERE = Path(__file__).parent
START_SECONDS = 180
PR_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
QUIET = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0"}
INFINITY = ["v2", "--model-id", ".", "--served-model-name", "it", "--no-model-warmup"]
INFINITY += ["--device", "cpu", "--dtype", "float32", "--host", HOST, "--port"]


def environment(peer: str, folder: Path) -> Path:
    """The python of the virtual environment of *peer*, which is made where there is none."""
    made, wanted = folder / f"venv-{peer}", HERE / f"{peer}.txt"
    python, note = made / "bin" / "python", made / wanted.name
    if not note.exists() or note.read_text() != wanted.read_text():
        say(f"installing {wanted.name} into {made}, once")
        venv.create(made, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", wanted], check=True)  # noqa: S603
        shutil.copy(wanted, note)
    return python


def command(peer: str, settings: Sequence[str], at: Path, port: int, folder: Path) -> list[Any]:
    """What starts *peer* on *port* over the model in *at*."""
    if peer == "labelwise":
        program = Path(sys.executable).with_name("labelwise")
        return [program, "serve", at, "--port", str(port), *settings]
    python = environment(peer, folder)
    if peer == "infinity":
        return [python, HERE / "infinity.py", *INFINITY, str(port), *settings]
    script = {"toolkit": "toolkit.py", "litserve": "litserve_server.py"}[peer]
    return [python, HERE / script, at, str(port), *settings]


def asked(peer: str, text: str) -> bytes:
    """The request for all the scores of *text*."""
    if peer == "infinity":
        return request("/classify", {"input": [text], "model": "it"})
    if peer == "litserve":
        return request("/predict", {"input": text})
    return request("/", {"inputs": text, "parameters": {"top_k": 9}})


def row(answer: Any) -> list[float]:
    """The scores in *answer*, however they are wrapped, in the order of the labels' names."""
    if isinstance(answer, dict):
        answer = answer["data"]
    while isinstance(answer[0], list):
        answer = answer[0]
    return [found["score"] for found in sorted(answer, key=lambda found: found["label"])]


def adopt() -> None:
    """Become the parent of what our children leave behind: its work is to count as ours."""
    with suppress(AttributeError, OSError):  # there is such a call on Linux
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Server:
    """A server of *peer* with *settings*, over the model in *at*; it stands still between turns."""

    def __init__(self, peer: str, settings: Sequence[str], at: Path, folder: Path) -> None:
        adopt()
        self._peer, self._port = peer, free_port()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        self._process = subprocess.Popen(  # noqa: S603
            command(peer, settings, at, self._port, folder),
            cwd=at,  # Infinity finds an export only in the folder where it is
            env=os.environ | QUIET,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        try:
            self._wait()
            if "--bettertransformer" in self._process.args:  # type: ignore[operator]
                assert "via bettertransformer" in self._said(), self._said()
        except BaseException:
            self.__exit__()
            raise
        self._signal(signal.SIGSTOP)
        return self

    def __exit__(self, *_: object) -> None:
        self._signal(signal.SIGCONT)
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._signal(signal.SIGKILL)  # its workers as well
        self._process.wait()
        with suppress(ChildProcessError):  # until there is none left
            while True:
                os.waitpid(-self._process.pid, 0)

    def turn(self, case: Case) -> Turn:
        """Seconds for all the texts; for each, where there is one caller."""
        numbers = count()

        def seconds() -> list[float]:
            number = next(numbers)
            texts = case.part(number)
            requests = [asked(self._peer, text) for text in texts]
            warm = [asked(self._peer, f"{number} {caller}") for caller in range(case.callers)]
            repeated = len(texts) - len(set(texts)) if case.parts > 1 else 0
            with self.awake() as port:
                closed_loop(port, warm, case.callers, remembered=len(warm))
                began = time.perf_counter()
                taken = closed_loop(port, requests, case.callers, repeated)
                whole = time.perf_counter() - began
            return taken if case.callers == 1 else [whole]

        return seconds

    def scores(self, case: Case, first: int) -> np.ndarray:
        """The scores of the *first* texts of the last part, ``(first, labels)``."""
        with self.awake() as port:
            found = answers(port, [asked(self._peer, text) for text in case.part(-1)[:first]])
        return np.array([row(answer) for answer in found])

    def arrivals(self, case: Case, rate: float, seconds: float) -> list[Answer]:
        """What becomes of the texts that arrive at this *rate*."""
        requests = [asked(self._peer, text) for text in case.texts]
        with self.awake() as port:
            return open_loop(port, requests, rate, seconds)

    def memory(self) -> float:
        """Megabytes of resident memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        found: Any = re.search(r"^VmRSS:\s*(\d+) kB", status, re.MULTILINE)
        return int(found[1]) * 1024 / 1e6

    @contextmanager
    def awake(self) -> Iterator[int]:
        """Inside, the server runs, and listens on the port that this gives."""
        self._signal(signal.SIGCONT)
        try:
            yield self._port
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _said(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def _wait(self) -> None:
        """Wait for the first answer."""
        deadline = time.monotonic() + START_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            with suppress(OSError, EOFError, RuntimeError):
                answers(self._port, [asked(self._peer, "is it ready?")])
                return
            time.sleep(0.2)
        sys.exit(f"{self._peer} does not start:\n{self._said()[-3000:]}")
