"""Answers: JSON, errors, and values of headers."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from labelwise.errors import AccessDenied, LabelwiseError, Overloaded, UnsupportedMediaType
from labelwise.server.media import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Mapping

_log = logging.getLogger(__name__)

_VISIBLE = bytes(range(0x20, 0x7F))
_CHALLENGE = 'Bearer realm="Authentication required", charset="UTF-8"'


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """*value*, of any type that `msgspec` encodes, as JSON."""
    safe = {name: header_value(text) for name, text in (headers or {}).items()}
    return Response(msgspec.json.encode(value), status, safe, "application/json")


def refusal(message: str, status: int, headers: Mapping[str, str], *, advice: str = "") -> Response:
    """An error: its *message*, and beside it the *advice*, if there is any."""
    body = {"error": message}
    if advice:  # Python's client shows the header, too
        body, headers = body | {"message": advice}, {**headers, "x-error-message": advice}
    return json_response(body, status, headers)


def header_value(text: str) -> str:
    """*text* as the value of a header: all but visible ASCII and spaces is percent-encoded.

    Everything that a request or a model gives to a header comes through here.
    """
    return text if text.isascii() and text.isprintable() else quote(text, safe=_VISIBLE)


def error_response(error: Exception, request_id: str = "") -> Response:
    """*error* for the caller: an object whose ``error`` is one line."""
    if isinstance(error, LabelwiseError):
        headers = _error_headers(error)
        return refusal(str(error), error.status, headers, advice=error.advice)
    if isinstance(error, HTTPException):
        return refusal(error.detail, error.status_code, error.headers or {})
    # The message of an unexpected error may quote a text: the log gets only its kind and place.
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{place[0].filename}:{place[0].lineno}" if place else "nowhere"
    _log.error("request %s failed: %s at %s", request_id, type(error).__name__, where)
    return json_response(
        {"error": f"internal error; the server's log has more under request id {request_id}"}, 500
    )


def _error_headers(error: LabelwiseError) -> dict[str, str]:
    if isinstance(error, AccessDenied):
        return {"www-authenticate": _CHALLENGE}
    if isinstance(error, Overloaded):
        seconds = str(error.retry_after)
        return {"retry-after": seconds, "ratelimit": f'"inference";r=0;t={seconds}'}
    if isinstance(error, UnsupportedMediaType):
        return {"accept-encoding": ACCEPTED}
    return {}
