"""The caller of a request: its body, and whether it still waits."""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager, contextmanager
from sys import getsizeof
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from labelwise.errors import (
    BadInput,
    BodyTooLarge,
    DeadlineExceeded,
    Overloaded,
    RequestTimeout,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from starlette.requests import Request

    from labelwise.engine.tokenizer.tokenizer import Text

_PAUSE_SECONDS = 30  # without a byte of the body
_LEAST_RATE = 10_000  # bytes a second, over all of a body but for its first half minute
# Most answers are there before: to wait for a caller's end takes longer than it could save.
_UNWATCHED_SECONDS = 0.05
_BLOCK_BYTES = 2**18
_MAX_HELD = 64_000_000  # bytes of bodies that arrive and of texts that wait; or one body
_FOR_SHORT = 16_000_000  # bytes more for bodies and texts that are short
_SHORT_BYTES = 65_536


class Bodies:
    """Reads bodies of requests, none longer than *most* bytes, and bounds the memory of all.

    Its state is how many bytes it has read of bodies that are not whole yet, and who reads them;
    and how many the texts take that wait.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held = 0
        self._reading: set[asyncio.Timeout] = set()
        self._draining = False

    async def read(self, request: Request) -> bytes:
        """The body of *request*.

        Raises:
            BodyTooLarge: It is too long; what was read of it is forgotten.
            RequestTimeout: No byte came for half a minute, or too few in all the time.
            Overloaded: Too many long requests come at once, or the server ends.
            ClientDisconnect: The caller left.
        """
        if self._draining:
            raise self._refusal()
        if int(request.headers.get("content-length", "0")) > self._most:
            raise self._too_large()
        # Many small pieces would take far more memory than their bytes; one that grows leaves holes
        # of all sizes in the memory of the process.
        blocks, length = [bytearray()], 0
        loop = asyncio.get_running_loop()
        started = loop.time()
        scope = asyncio.timeout(_PAUSE_SECONDS)
        try:
            async with scope:
                self._reading.add(scope)
                async for chunk in request.stream():
                    if len(blocks[-1]) + len(chunk) > _BLOCK_BYTES:
                        blocks.append(bytearray())
                    blocks[-1] += chunk
                    length += len(chunk)
                    self._held += len(chunk)
                    self._check(length)
                    slowest = started + length / _LEAST_RATE
                    scope.reschedule(min(slowest, loop.time()) + _PAUSE_SECONDS)
            return b"".join(blocks)
        except TimeoutError:
            if self._draining:
                raise self._refusal() from None
            raise RequestTimeout(
                f"the body comes too slowly: {length} bytes in {loop.time() - started:.0f} s; "
                f"send it at {_LEAST_RATE} bytes a second or faster"
            ) from None
        finally:
            self._reading.discard(scope)
            self._held -= length
            blocks.clear()  # an error keeps this frame while the rest of the body still comes

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Count *size* bytes more of a body or of texts as held, for as long as they are.

        Raises:
            Overloaded: Too many long requests came at once.
        """
        self._held += size
        try:
            self._check_held(size)
            yield
        finally:
            self._held -= size

    def refuse_incomplete(self) -> None:
        """Refuse all bodies that are not whole from now on."""
        self._draining = True
        for scope in self._reading:
            _expire(scope)

    def _check(self, length: int) -> None:
        """Refuse to read on, where the body has *length* bytes so far."""
        if self._draining:
            raise self._refusal()
        if length > self._most:
            raise self._too_large()
        self._check_held(length)

    def _check_held(self, size: int) -> None:
        """Refuse a request that has *size* bytes so far, where all take too much together."""
        more = _FOR_SHORT if size <= _SHORT_BYTES else 0
        if self._held > max(self._most, _MAX_HELD) + more:
            raise Overloaded("too many long requests at once; try again in 1 s", 1, "bodies")

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the body is longer than {self._most} bytes; send fewer texts a request"
        )

    def _refusal(self) -> Overloaded:
        ends = "the server is ending; send the request again, to another or later"
        return Overloaded(ends, 5, "ending")


def held_bytes(texts: Sequence[Text]) -> int:
    """The bytes of memory that *texts* take."""
    return sum(
        getsizeof(part) for text in texts for part in ((text,) if isinstance(text, str) else text)
    )


def read_timeout(request: Request, usual: float) -> float:
    """The seconds that the caller waits: ``x-request-timeout``, or as *usual*.

    Raises:
        BadInput: The header is not a number of seconds.
    """
    given = request.headers.get("x-request-timeout")
    try:
        seconds = usual if given is None else float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise BadInput("x-request-timeout must be a number of seconds greater than 0, as in 2.5")
    return seconds


@asynccontextmanager
async def cancel_after(request: Request, seconds: float) -> AsyncIterator[None]:
    """End what happens inside after *seconds*, or when the caller leaves.

    One that leaves at once is noticed after a twentieth of a second.

    The body of *request* has been read.

    Raises:
        DeadlineExceeded: The time is over.
        ClientDisconnect: The caller left.
    """
    scope = asyncio.timeout(seconds)

    async def watch() -> None:
        await request.receive()  # nothing comes after the body but the end
        _expire(scope)

    watchers: list[asyncio.Task[None]] = []
    start = asyncio.get_running_loop().call_later(
        _UNWATCHED_SECONDS, lambda: watchers.append(asyncio.create_task(watch()))
    )
    try:
        async with scope:
            yield
    except TimeoutError:
        if any(watcher.done() for watcher in watchers):
            raise ClientDisconnect from None
        raise DeadlineExceeded(
            f"the answer was not ready in {seconds:g} s; wait longer (x-request-timeout), or try "
            "again when the server is less busy"
        ) from None
    finally:
        start.cancel()
        for watcher in watchers:
            watcher.cancel()


def _expire(scope: asyncio.Timeout) -> None:
    """Have the time of *scope* be over now; it may be over already."""
    if not scope.expired():
        scope.reschedule(0)
