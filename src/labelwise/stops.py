"""Ctrl-C and SIGTERM: how a command ends that is asked to stop."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_codes: list[int] = []  # the exit code, once a stop was asked for


class Stopped(SystemExit):
    """A stop was asked for; the exit code is the one that a shell would give."""


def stop(number: int, _: object = None) -> NoReturn:
    """End the command for the signal *number*."""
    for each in SIGNALS:  # a second one ends the process at once, and in silence
        signal.signal(each, signal.SIG_DFL)
    _codes.append(128 + number)
    raise Stopped(_codes[0])


def check() -> None:
    """End the command where a stop was asked for, and a library forgot it or made an error of it.

    Raises:
        Stopped: So it was.
    """
    if _codes:
        raise Stopped(_codes[0]) from None


def on_stop(act: Callable[[int, object], object]) -> dict[int, Any]:
    """Have *act* handle the signals to stop, but those ignored, as nohup does; who did before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    return {
        number: signal.signal(number, act)
        for number, handler in before.items()
        if handler not in {signal.SIG_IGN, None}
    }


@contextmanager
def whole() -> Iterator[None]:
    """Let a stop wait for the end of what is done here; another one does not wait."""
    stops: list[int] = []

    def wait(number: int, _: object) -> None:
        if stops:
            stop(number)
        stops.append(number)

    before = on_stop(wait)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stops:
        stop(stops[0])
