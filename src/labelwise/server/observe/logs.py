"""The log of a server: lines of text, or JSON objects a line. Only ``labelwise serve`` sets it up.

What an exception says is left out, for it may quote what a caller sent: its kind and place stay.
"""

from __future__ import annotations

import json
import logging
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from labelwise.errors import one_line

if TYPE_CHECKING:
    import asyncio

    from labelwise.server.observe.record import RequestRecord

_log = logging.getLogger(__name__)
_requests = logging.getLogger("labelwise.requests")

# What every record has.
_USUAL = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """A line of text for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """*record*: when, how bad, where and what."""
        said = f"{_time(record)} {record.levelname} {record.name}: {record.getMessage()}"
        failure = _failure(record)
        if failure:
            said += f" ({failure['error']} at {', '.join(failure['trace'])})"
        return one_line(said)


class JsonFormatter(logging.Formatter):
    """A JSON object for each record, on one line; its extra fields are keys of their own."""

    def format(self, record: logging.LogRecord) -> str:
        """*record* as JSON."""
        said = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        extra = {name: value for name, value in vars(record).items() if name not in _USUAL}
        return json.dumps(extra | _failure(record) | said, default=str)


def set_up(log_format: Literal["text", "json"], *, requests: bool) -> None:
    """Have all records of this process written to standard error; one a request with *requests*."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("labelwise").handlers.clear()  # --verbose has its own
    logging.captureWarnings(True)  # noqa: FBT003
    if requests:
        _requests.setLevel(logging.INFO)


def log_request(record: RequestRecord) -> None:
    """Log a request that has its outcome: nothing of its texts, and no header but its id."""
    result = record.result
    fields = {
        "client": record.client,
        "method": record.method,
        "route": record.route,
        "model": record.model,
        "status": record.status,
        "seconds": round(record.seconds, 6),
        "texts": len(result.scores) if result else 0,
        "tokens": result.tokens if result else 0,
        "cached": result.hits if result else 0,
        "request_id": record.request_id,
    }
    shown = fields | {
        "client": record.client or "-",
        "model": record.model or "-",
        "status": record.status or "left",
    }
    _requests.info(
        "%(client)s %(method)s %(route)s %(model)s %(status)s in %(seconds).4f s: %(texts)d texts, "
        "%(tokens)d tokens, %(cached)d cached; %(request_id)s",
        shown,
        extra=fields,
    )


def log_failure(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what nobody on the event loop caught. asyncio's own words would quote the exception's."""
    _log.error("a failure that nobody caught", exc_info=context.get("exception"))


def _time(record: logging.LogRecord) -> str:
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return time.replace("+00:00", "Z")


def _failure(record: logging.LogRecord) -> dict[str, Any]:
    """The kind of the exception that *record* tells of, and the lines that led to it."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    trace = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    return {"error": type(error).__name__, "trace": trace}
