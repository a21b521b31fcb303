"""The caller behind a proxy: which words about it are believed."""

from __future__ import annotations

import logging

import pytest
from starlette.datastructures import Headers

from labelwise.errors import BadInput
from labelwise.server.forwarded import Proxies
from labelwise.serving.catalogue import Catalogue
from labelwise.settings import Settings
from serving import EMBEDDED, ask, until, within

PROXY = "10.0.0.7"
TRUSTED = ("10.0.0.0/8", "fd00::/8")


def caller(*forwarded, proxy=PROXY, trusted=TRUSTED, **more):
    """The address and the scheme of a request from *proxy* with ``X-Forwarded-For`` headers."""
    scope = {"client": (proxy, 1234), "scheme": "http"}
    headers = {name.replace("_", "-").encode(): value.encode() for name, value in more.items()}
    raw = [(b"x-forwarded-for", one.encode()) for one in forwarded] + list(headers.items())
    Proxies(trusted).read(scope, Headers(raw=raw))
    return scope["client"][0], scope["scheme"]


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (["203.0.113.9"], "203.0.113.9"),
        (["6.6.6.6, 203.0.113.9"], "203.0.113.9"),  # the first is the caller's own word
        (["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
        (["203.0.113.9, 10.1.1.1"], "203.0.113.9"),  # two proxies, both trusted
        (["10.1.1.1"], "10.1.1.1"),
        (["[2001:db8::1]:443"], "2001:db8::1"),
        (["203.0.113.9:443"], "203.0.113.9"),
        (["::ffff:203.0.113.9"], "203.0.113.9"),
        (["ZEBRA"], PROXY),
        (["ZEBRA, 10.1.1.1"], "10.1.1.1"),
        ([""], PROXY),
        ([], PROXY),
        ([", ".join(["10.1.1.1"] * 10_000)], "10.1.1.1"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_the_caller_is_the_first_from_the_end_that_is_no_proxy(forwarded, expected):
    assert caller(*forwarded)[0] == expected


def test_of_anybody_else_nothing_is_believed():
    for proxy in ("203.0.113.1", "192.168.0.1", "::1"):
        found = caller("6.6.6.6", proxy=proxy, x_forwarded_proto="https")
        assert found == (proxy, "http")
    assert caller("6.6.6.6", trusted=())[0] == PROXY


@pytest.mark.parametrize(
    ("said", "scheme"),
    [("https", "https"), (" HTTPS ", "https"), ("http", "http"), ("ftp", "http")],
)
def test_the_scheme_is_what_the_proxy_says(said, scheme):
    assert caller("203.0.113.9", x_forwarded_proto=said)[1] == scheme


def test_the_log_shows_the_caller_behind_a_trusted_proxy(caplog):
    caplog.set_level(logging.INFO, "labelwise.requests")
    said = {"x-forwarded-for": "203.0.113.9"}
    for trusted, expected in ((("127.0.0.0/8",), "203.0.113.9"), ((), "127.0.0.1")):
        caplog.clear()
        with within(log_requests=True, trusted_proxies=trusted) as live:
            ask(live.url, b"a", headers=said)
            until(lambda: caplog.records)
        assert [one.client for one in caplog.records] == [expected]


def test_links_begin_with_the_public_url():
    with within(public_url="https://labels.example.com/x/") as live:
        plain = ask(f"{live.url}/api/models?limit=1&sort=likes&search=mini")
        assert "link" not in plain.headers
    twice = [f"a/x={EMBEDDED}", f"a/y={EMBEDDED}"]
    with within(Catalogue.load(twice), public_url="https://labels.example.com/x/") as live:
        link = ask(f"{live.url}/api/models?limit=1&search=a").headers["link"]
    beginning = "https://labels.example.com/x/api/models?"
    assert link == f'<{beginning}limit=1&search=a&cursor=1>; rel="next"'


@pytest.mark.parametrize(
    "value",
    [
        "labels.example.com",
        "ftp://a",
        "https://",
        "https://a?b",
        "https://a#b",
        "https://u:p@a",
        "https://a:x",
    ],
)
def test_a_public_url_is_a_whole_url_without_more(value):
    with pytest.raises(BadInput, match=r"is not such as https://labels\.example\.com"):
        Settings(public_url=value)


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.0/99", "10.0.0.1/8", "*", ""])
def test_a_proxy_is_an_address_or_a_network(value):
    with pytest.raises(BadInput, match="no address or network"):
        Settings(trusted_proxies=(value,))
