"""Answers: JSON, errors, and values of headers."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from labelwise.errors import InternalError, LabelwiseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labelwise.server.wires.wire import Failure

_log = logging.getLogger(__name__)

_VISIBLE = bytes(range(0x20, 0x7F))


def json_response(
    value: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """*value*, of any type that `msgspec` encodes, as JSON."""
    safe = {name: header_value(text) for name, text in (headers or {}).items()}
    return Response(msgspec.json.encode(value), status, safe, "application/json")


def header_value(text: str) -> str:
    """*text* as the value of a header: all but visible ASCII and spaces is percent-encoded.

    Everything that a request or a model gives to a header comes through here.
    """
    return text if text.isascii() and text.isprintable() else quote(text, safe=_VISIBLE)


def error_response(error: Exception, failure: type[Failure], request_id: str) -> Response:
    """*error* for the caller, in the form of *failure*."""
    told = error if isinstance(error, LabelwiseError) else _unexpected(error, request_id)
    headers = told.headers
    if told.advice:
        headers.setdefault("x-error-message", told.advice)  # Python's client shows it
    return json_response(failure.of(told), failure.status(type(told)), headers)


def _unexpected(error: Exception, request_id: str) -> InternalError:
    # The message of an unexpected error may quote a text: the log gets only its kind and place.
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{place[0].filename}:{place[0].lineno}" if place else "nowhere"
    _log.error("request %s failed: %s at %s", request_id, type(error).__name__, where)
    return InternalError(f"internal error; the server's log has more under request id {request_id}")
