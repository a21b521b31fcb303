"""Who may ask: one static access token, or everybody."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from labelwise.errors import AccessDenied

if TYPE_CHECKING:
    from starlette.requests import Request


class Access:
    """Checks the access token of requests; without one to compare with, everybody may ask."""

    def __init__(self, access_token: str | None) -> None:
        self._hash = None if access_token is None else _hash(access_token)

    @property
    def is_open(self) -> bool:
        """Whether everybody may ask."""
        return self._hash is None

    def check(self, request: Request) -> None:
        """Let *request* pass.

        Raises:
            AccessDenied: It has no access token, or not the right one.
        """
        if self._hash is None:
            return
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # The published page writes the header with a colon after "Bearer"; no client sends it.
        right = scheme.rstrip(":").lower() == "bearer"
        if not (right and hmac.compare_digest(_hash(given.strip()), self._hash)):
            raise AccessDenied("Invalid username or password.")


def _hash(access_token: str) -> bytes:
    """A hash, so that neither length nor content of what is compared shows in the time it takes."""
    return hashlib.sha256(access_token.encode()).digest()
