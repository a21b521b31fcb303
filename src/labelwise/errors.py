"""The errors that Labelwise raises on purpose, each with its HTTP status.

    LabelwiseError           500
    ├── BadInput             400  the caller's text, parameter or option
    │   └── TooLarge         413  more than this server ever takes at once
    ├── BadModel             500  the model cannot be found, read or run
    │   ├── ModelNotFound    404  no such folder, Hub id or revision, or no way to reach the Hub
    │   ├── BadFile          500  a file of the model is missing, broken, hostile or unreadable
    │   ├── MissingWeight    500  the checkpoint lacks a weight that the model needs
    │   └── UnsupportedModel 500  the file is fine; the engine does not know this kind of model
    ├── AccessDenied         401  no access token, or not the right one
    ├── FileChanged          409  a file is no longer as when its model was loaded
    ├── Overloaded           429  not now; the answer says when to come again
    ├── RequestTimeout              408  the caller's request did not arrive in time
    ├── TargetTooLong        414  the URL of a request is longer than this server reads
    ├── HeadTooLarge         431  so is the head of a request, or it has too many fields
    ├── DeadlineExceeded              504  the answer was not ready in time
    └── EngineFailed         500  the engine failed on a text, or ended while it had it

Every message is one line that says what came and what to do next.
None holds the text of a request or a secret.
"""

from __future__ import annotations

from errno import ENOMEM
from json import dumps
from typing import ClassVar, Literal

_NO_MEMORY = (
    "bad_alloc",
    "Cannot allocate memory",
    "cannot allocate memory",
    "Failed to allocate",
    "can't start new thread",
    "failed to map segment",
)

# Why a server takes no more for now: texts or seconds of work that wait, the caller's own deadline,
# bodies that arrive, connections, or its end.
Busy = Literal["texts", "seconds", "deadline", "bodies", "connections", "ending"]


def one_line(text: str) -> str:
    """*text* as one line with nothing in it that a terminal would act upon."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


def escaped(text: str) -> str:
    """*text*, which is JSON, with an escape for each character that a terminal would act upon."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else dumps(c)[1:-1] for c in text)


def lacks_memory(error: BaseException | None) -> bool:
    """Whether *error*, or one that led to it, comes of too little memory.

    Libraries say that in words of their own.
    """
    while error is not None:
        lacking = isinstance(error, MemoryError) or getattr(error, "errno", None) == ENOMEM
        if lacking or any(words in str(error) for words in _NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


class LabelwiseError(Exception):
    """The root of the tree. Never raised directly."""

    status: ClassVar[int] = 500
    reason: str = ""  # one word for why a request was refused; none where it was not

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))  # names of files and weights come from strangers


class BadInput(LabelwiseError, ValueError):  # noqa: N818 - the noun says whose mistake it is
    """The caller's text, parameter or option cannot be used."""

    status = 400


class TooLarge(BadInput):
    """A request is larger than this server ever takes at once."""

    status = 413
    reason = "too_large"


class BadModel(LabelwiseError):  # noqa: N818
    """The model cannot be found, read or run. Never raised directly."""


class ModelNotFound(BadModel):
    """No such folder, Hub id or revision, or the Hub cannot be reached."""

    status = 404


class BadFile(BadModel):
    """A file of the model is missing, broken, hostile or unreadable."""


class MissingWeight(BadModel):
    """The checkpoint lacks a weight that the model needs."""


class UnsupportedModel(BadModel):
    """The files are sound, but the engine does not know this kind of model."""


class AccessDenied(LabelwiseError):  # noqa: N818
    """A request comes without an access token, or not with the right one."""

    status = 401
    reason = "access_token"


class FileChanged(LabelwiseError):  # noqa: N818
    """A file has changed since its model was loaded."""

    status = 409


class Overloaded(LabelwiseError):  # noqa: N818
    """The server takes no more for now.

    *retry_after* is how many seconds to wait before another try, *reason* what is too much.
    """

    status = 429

    def __init__(self, message: str, retry_after: int, reason: Busy) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class RequestTimeout(LabelwiseError):  # noqa: N818
    """A request did not arrive in time."""

    status = 408
    reason = "too_slow"


class TargetTooLong(LabelwiseError):  # noqa: N818
    """The URL of a request is longer than this server reads."""

    status = 414
    reason = "target"


class HeadTooLarge(LabelwiseError):  # noqa: N818
    """The head of a request is longer than this server reads, or has too many fields."""

    status = 431
    reason = "head"


class DeadlineExceeded(LabelwiseError):  # noqa: N818
    """The answer was not ready in the time that the caller or the server allows."""

    status = 504


class EngineFailed(LabelwiseError):  # noqa: N818
    """The engine failed on a text, or ended while it had it."""
