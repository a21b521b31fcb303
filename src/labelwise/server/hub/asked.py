"""Parts of requests that several look-ups read, and the Hub's own words for what is not there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from labelwise.errors import BadInput, ModelNotFound, NotInRepo
from labelwise.server.state import server_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from labelwise.serving.catalogue import Entry

TASK = "text-classification"
BRANCH = "main"
_SHORT_COMMIT = re.compile("[0-9a-f]{7,}")
_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}
_LAST_SECOND = 253_402_300_799  # of the year 9999


def find_model(request: Request) -> Entry:
    """The model that the path of *request* names.

    Raises:
        NotInRepo: There is none of that id here.
    """
    try:
        return server_of(request).find(request)
    except ModelNotFound:
        raise NotInRepo("Repository not found", "RepoNotFound") from None


def find_revision(request: Request) -> Entry:
    """The model that the path of *request* names, at the revision there: the one that is served.

    Raises:
        NotInRepo: There is no such model here, or it is served at another revision.
    """
    entry = find_model(request)
    revision = request.path_params.get("revision", BRANCH)
    is_commit = _SHORT_COMMIT.fullmatch(revision) and entry.sha.startswith(revision)
    if revision not in {BRANCH, "HEAD"} and not is_commit:
        raise NotInRepo(
            f"Invalid rev id; served here: {BRANCH}, which is {entry.sha}", "RevisionNotFound"
        )
    return entry


def flag(request: Request, name: str) -> bool | None:
    """The parameter *name* of the query, which is true or false; None where it is not there.

    Raises:
        BadInput: It is neither.
    """
    given = request.query_params.get(name)
    if given is None:
        return None
    if given.lower() not in _FLAGS:
        raise BadInput(f"the query parameter {name} must be true or false")
    return _FLAGS[given.lower()]


def values(request: Request, name: str) -> list[str]:
    """All values of the parameter *name*, which clients spell in two ways."""
    asked = request.query_params
    return asked.getlist(name) + asked.getlist(f"{name}[]")


def date(seconds: float) -> str:
    """A time since 1970 as the Hub writes it."""
    moment = datetime.fromtimestamp(min(max(seconds, 0), _LAST_SECOND), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
