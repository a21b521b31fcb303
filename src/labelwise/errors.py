"""The errors that Labelwise raises on purpose, each with its HTTP status.

    LabelwiseError             500
    ├── BadInput               400  the caller's text, parameter or option
    │   ├── MalformedBody      400  the body is not JSON, or no text in UTF-8
    │   ├── EmptyInput         400  a text is empty, where a wire takes no such text
    │   └── TooLarge           413  more than this server ever takes at once
    │       └── BodyTooLarge   413  the bytes of a body
    ├── BadModel               500  the model cannot be found, read or run
    │   ├── ModelNotFound      404  no such folder, Hub id or revision, or no way to reach the Hub
    │   ├── BadFile            500  a file of the model is missing, broken, hostile or unreadable
    │   ├── MissingWeight      500  the checkpoint lacks a weight that the model needs
    │   └── UnsupportedModel   500  the file is fine; the engine does not know this kind of model
    ├── AccessDenied           401  no access token, or not the right one
    ├── WrongHost              403  the request is for another host
    ├── FilesWithheld          403  this server hands out no files of its models
    ├── PathNotFound           404  there is no such path
    ├── NotInRepo              404  no such model, revision or file for a client of the Hub
    ├── MethodNotAllowed       405  the path is there, but not for this method
    ├── RequestTimeout         408  the caller's request did not arrive in time
    ├── FileChanged            409  a file is no longer as when its model was loaded
    ├── TargetTooLong          414  the URL of a request is longer than this server reads
    ├── UnsupportedMediaType   415  the content type of a body is not that of the wire
    ├── NoSuchRange            416  the file has no such part
    ├── Overloaded             429  not now; the answer says when to come again
    ├── HeadTooLarge           431  the head of a request is too long, or has too many fields
    ├── EngineFailed           500  the engine failed on a text, or ended while it had it
    ├── InternalError          500  anything unexpected
    └── DeadlineExceeded       504  the answer was not ready in time

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

ENCODINGS = "gzip, deflate"  # of bodies

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
    """The root of the tree. Never raised directly.

    Over HTTP, some messages are the words of Hugging Face's service, as its clients know them: then
    *advice* is the next step, beside them.
    """

    status: ClassVar[int] = 500
    reason: str = ""  # one word for why a request was refused; none where it was not

    def __init__(self, message: str, *, advice: str = "") -> None:
        super().__init__(one_line(message))  # names of files and weights come from strangers
        self.advice = one_line(advice)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of an answer that tells it."""
        return {}


class BadInput(LabelwiseError, ValueError):  # noqa: N818 - the noun says whose mistake it is
    """The caller's text, parameter or option cannot be used."""

    status = 400


class MalformedBody(BadInput):
    """A body is not JSON, or no text in UTF-8."""


class EmptyInput(BadInput):
    """A text is empty, where the wire takes no such text."""


class TooLarge(BadInput):
    """A request is larger than this server ever takes at once."""

    status = 413
    reason = "too_large"


class BodyTooLarge(TooLarge):
    """A body has more bytes than this server ever takes at once."""


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

    def __init__(self, message: str, *, advice: str = "", given: bool = False) -> None:
        super().__init__(message, advice=advice)
        self.given = given  # an access token, which is not the right one

    @property
    def headers(self) -> dict[str, str]:
        """The kind of credentials that are asked for, and whether there were wrong ones.

        Without that word, Python's client takes the 401 of a look-up for a model that is not there.
        """
        wanted = {"www-authenticate": 'Bearer realm="Authentication required", charset="UTF-8"'}
        wrong = {"x-error-message": "Invalid credentials in Authorization header"}
        return wanted | wrong if self.given else wanted


class WrongHost(LabelwiseError):  # noqa: N818
    """A request is for a host that this server does not answer for."""

    status = 403
    reason = "host"


class PathNotFound(LabelwiseError):  # noqa: N818
    """There is no such path here."""

    status = 404


class NotInRepo(LabelwiseError):  # noqa: N818
    """A model, a revision or a file that a client of the Hub looks up is not here.

    *code* is the word by which clients tell which of these it is; *commit* the one that is served.
    """

    status = 404

    def __init__(self, message: str, code: str, commit: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.commit = commit

    @property
    def headers(self) -> dict[str, str]:
        """The code and the message, which clients look for there, and the commit."""
        commit = {"x-repo-commit": self.commit} if self.commit else {}
        return {"x-error-code": self.code, "x-error-message": str(self)} | commit


class FilesWithheld(LabelwiseError):  # noqa: N818
    """A file of a model is asked for, and the server hands out none."""

    status = 403

    @property
    def headers(self) -> dict[str, str]:
        """The message, which clients look for there."""
        return {"x-error-message": str(self)}


class NoSuchRange(LabelwiseError):  # noqa: N818
    """A part of a file is asked for that lies beyond its end.

    *size* is that of the file, in bytes.
    """

    status = 416

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size

    @property
    def headers(self) -> dict[str, str]:
        """The size of the file."""
        return {"content-range": f"bytes */{self.size}"}


class MethodNotAllowed(LabelwiseError):  # noqa: N818
    """The path is there, but does nothing with this method.

    *allow* lists those that it knows.
    """

    status = 405

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow

    @property
    def headers(self) -> dict[str, str]:
        """The methods of the path."""
        return {"allow": self.allow}


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

    @property
    def headers(self) -> dict[str, str]:
        """The seconds to wait, in both ways in which clients look for them."""
        seconds = str(self.retry_after)
        return {"retry-after": seconds, "ratelimit": f'"inference";r=0;t={seconds}'}


class RequestTimeout(LabelwiseError):  # noqa: N818
    """A request did not arrive in time."""

    status = 408
    reason = "too_slow"


class TargetTooLong(LabelwiseError):  # noqa: N818
    """The URL of a request is longer than this server reads."""

    status = 414
    reason = "target"


class UnsupportedMediaType(LabelwiseError):  # noqa: N818
    """The body of a request is of a kind, or packed in a way, that is not read here."""

    status = 415
    reason = "media_type"

    @property
    def headers(self) -> dict[str, str]:
        """The encodings that are read."""
        return {"accept-encoding": ENCODINGS}


class HeadTooLarge(LabelwiseError):  # noqa: N818
    """The head of a request is longer than this server reads, or has too many fields."""

    status = 431
    reason = "head"


class DeadlineExceeded(LabelwiseError):  # noqa: N818
    """The answer was not ready in the time that the caller or the server allows."""

    status = 504


class InternalError(LabelwiseError):
    """Something unexpected happened; the server's log has more."""


class EngineFailed(LabelwiseError):  # noqa: N818
    """The engine failed on a text, or ended while it had it."""
