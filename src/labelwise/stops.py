"""Ctrl-C and SIGTERM: a command that is asked to stop ends at once.

Nothing is raised for it: an exception can come up anywhere, also where the interpreter or a library
would print it, forget it, or make another of it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_last_words: list[Callable[[], object]] = []


def stop(number: int, _: object = None) -> NoReturn:
    """End the process for the signal *number*, with the exit code that a shell would give."""
    for each in SIGNALS:  # a second one ends it in silence
        signal.signal(each, signal.SIG_DFL)
    with suppress(Exception):  # the reader of the output may be gone
        for say in _last_words:
            say()
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(sys.stderr.fileno(), b"\n")  # below the ^C of the terminal
        if sys.stdout is not None:
            sys.stdout.flush()
    os._exit(128 + number)


def on_stop(act: Callable[[int, object], object]) -> dict[int, Any]:
    """Have *act* handle the signals to stop, but those ignored, as nohup does; who did before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    return {
        number: signal.signal(number, act)
        for number, handler in before.items()
        if handler not in {signal.SIG_IGN, None}
    }


@contextmanager
def last_words(say: Callable[[], object]) -> Iterator[None]:
    """Have *say* called where a stop ends what is done here."""
    _last_words.append(say)
    try:
        yield
    finally:
        _last_words.remove(say)


@contextmanager
def whole() -> Iterator[None]:
    """Let a stop wait for the end of what is done here; another one does not wait."""
    stops: list[int] = []

    def wait(number: int, _: object) -> None:
        if stops:
            os._exit(128 + number)
        stops.append(number)

    before = on_stop(wait)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stops:
        stop(stops[0])
