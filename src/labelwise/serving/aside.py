"""A thread for work that would hold up the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")

_FEW_BYTES = 20_000  # of JSON: less than a millisecond, with all that comes of it


class Aside:
    """Runs large pieces of work in one thread, one after the other."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "labelwise-aside")

    async def run(self, size: int, work: Callable[[], _T]) -> _T:
        """The result of *work*, which reads or writes about *size* bytes of JSON."""
        if size <= _FEW_BYTES:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)
