"""Objects with threads or locks of their own, and what a fork makes of them.

A forked process has the memory of its parent, but one thread alone. A pool then waits for threads
that are not there, and a lock for a thread that will never release it. So no fork happens while a
`Forkable` works, and in the child it gets new pools and locks.
"""

from __future__ import annotations

import os
from threading import Lock
from weakref import WeakSet


class Forkable:
    """An object that goes on in a forked process. Its constructor ends with this one's."""

    def __init__(self) -> None:
        with _forking:
            _known.add(self)

    def hold(self) -> None:
        """Wait until no thread is inside what the child could not finish, and keep all out."""

    def release(self) -> None:
        """Let threads in again, in the parent."""

    def renew(self) -> None:
        """Make pools and locks anew, in the child; its one thread is the caller."""


_known: WeakSet[Forkable] = WeakSet()
_forking = Lock()  # guards both; a fork holds it from before to after
_held: list[Forkable] = []


def _before() -> None:
    _forking.acquire()
    _held.extend(_known)
    for one in _held:
        one.hold()


def _in_parent() -> None:
    while _held:
        _held.pop().release()
    _forking.release()


def _in_child() -> None:
    while _held:
        _held.pop().renew()
    _forking.release()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
