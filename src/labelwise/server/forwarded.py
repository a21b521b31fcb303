"""X-Forwarded-*: the words of a proxy about the caller, believed of those that are trusted."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import Headers
    from starlette.types import Scope

_MAX_PROXIES = 20  # that one request may have come through; what says more is not read


class Proxies:
    """The proxies that are trusted, by their addresses."""

    def __init__(self, networks: Sequence[str]) -> None:
        self._networks = [ip_network(one) for one in networks]
        self._trusts = lru_cache(1_024)(self._is_trusted)  # few proxies send all requests

    def __bool__(self) -> bool:
        return bool(self._networks)

    def read(self, scope: Scope, headers: Headers) -> None:
        """Make ``client`` and ``scheme`` of *scope* those of the caller.

        The list of addresses is read from its end: each proxy adds the one that it was asked by.
        The first that is no trusted proxy is the caller; all before it, the caller may have
        written.
        """
        client = scope.get("client")
        if client is None or not self._trusts(client[0]):
            return
        if headers.get("x-forwarded-proto", "").strip().lower() in {"http", "https"}:
            scope["scheme"] = headers["x-forwarded-proto"].strip().lower()
        named = ",".join(headers.getlist("x-forwarded-for")).split(",")[-_MAX_PROXIES:]
        caller = client[0]
        for name in reversed(named):
            address = _address(name)
            if address is None:
                break
            caller = str(address)
            if not self._trusts(caller):
                break
        scope["client"] = (caller, client[1] if caller == client[0] else 0)

    def _is_trusted(self, host: str) -> bool:
        address = _address(host)
        return address is not None and any(address in one for one in self._networks)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    """The address in *name*, which may have a port; None where it is none."""
    name = name.strip()
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        name = name.partition(":")[0]
    try:
        address = ip_address(name)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address
