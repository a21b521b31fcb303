"""Access: for everybody, or for the holder of one access token."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from labelwise.errors import AccessDenied

if TYPE_CHECKING:
    from starlette.requests import Request

    from labelwise.serving.catalogue import Entry

# The permission that a route asks for; "public" routes are for everybody.
Scope = Literal["public", "inference", "read", "operate"]


@dataclass(frozen=True, slots=True)
class Identity:
    """The caller of a request, as far as the server knows, and the permissions that it has."""

    name: str
    scopes: frozenset[Scope]

    def sees(self, entry: Entry) -> bool:
        """Whether a look-up tells the caller of the model *entry*."""
        return "inference" in self.scopes or not entry.listing.private


_ALL: frozenset[Scope] = frozenset(get_args(Scope))
ANYBODY = Identity("anonymous", frozenset({"public"}))
_EVERYBODY = Identity("anonymous", _ALL)  # of a server without an access token
_ADVICE = "send the header Authorization: Bearer ACCESS_TOKEN, with an access token of this server"
_HOLDER = Identity("access-token", _ALL)


class Access(Protocol):
    """Tells callers apart, and refuses those who may not do what they ask."""

    async def authenticate(self, request: Request, scope: Scope) -> Identity:
        """The caller of *request*, who has the permission *scope*. Public routes know it, too.

        Raises:
            AccessDenied: The access token is missing or wrong, or lacks the permission.
        """


class OneAccessToken:
    """Lets the holder of one access token do everything; without one, everybody."""

    def __init__(self, access_token: str | None) -> None:
        self._hash = None if access_token is None else _hash(access_token)

    async def authenticate(self, request: Request, scope: Scope) -> Identity:
        """The caller of *request*: see `Access`."""
        if self._hash is None:
            return _EVERYBODY
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # The published page writes the header with a colon after "Bearer"; no client sends it.
        right = scheme.rstrip(":").lower() == "bearer"
        if right and hmac.compare_digest(_hash(given.strip()), self._hash):
            return _HOLDER
        if scope == "public":
            return ANYBODY
        raise AccessDenied("Invalid username or password.", advice=_ADVICE, given=bool(given))


def _hash(access_token: str) -> bytes:
    """A hash of fixed length: the time of a comparison tells nothing of either access token."""
    return hashlib.sha256(access_token.encode()).digest()
