"""Ends a process whose event loop hangs: nobody is answered there, and no signal is heard."""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)

PULSE_SECONDS = 1.0
HUNG_PULSES = 10  # far longer than anything that runs on the loop takes
_LOG_SECONDS = 2  # for the last words: what hangs may hold the log as well


class Watchdog:
    """A thread that asks the event loop for a sign of life every second.

    It counts the seconds in which it ran itself and saw none. So a process that was stopped, or a
    machine that slept, is not taken for one that hangs.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch *loop*, which runs in the thread that calls this."""
        self._loop = loop
        self._watched = threading.get_ident()
        self._turned = threading.Event()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="labelwise-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stopped.set()

    def _watch(self) -> None:
        missed = 0
        with suppress(RuntimeError):  # the loop is closed: there is nothing to watch
            self._loop.call_soon_threadsafe(self._turned.set)
            while not self._stopped.wait(PULSE_SECONDS):
                if self._turned.is_set():
                    missed = 0
                    self._turned.clear()
                    self._loop.call_soon_threadsafe(self._turned.set)
                else:
                    missed += 1
                if missed >= HUNG_PULSES:
                    self._kill(missed * PULSE_SECONDS)

    def _kill(self, seconds: float) -> None:
        """Log where the loop has hung for *seconds*, and end the process at once with 1."""
        frames = traceback.extract_stack(sys._current_frames()[self._watched])  # noqa: SLF001
        trace = [f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)]
        said = threading.Thread(target=_say, args=(seconds, trace), daemon=True)
        said.start()
        said.join(_LOG_SECONDS)
        os._exit(1)  # an orderly end would wait for the loop


def _say(seconds: float, trace: list[str]) -> None:
    _log.critical(
        "the event loop has not turned for %.3g s and answers nobody; the process ends now, for "
        "its supervisor to start it again. It hangs at %s",
        seconds,
        ", ".join(trace),
        extra={"trace": trace},
    )
