"""A server under fuzzers: whatever comes, each whole request is answered, nothing leaks, and the
next caller notices nothing. A failure names the number of its case; its seed makes it again.
"""

from __future__ import annotations

import time

import pytest

from hostile_fuzz import bodies, fuzz, requests, summary
from hostile_tools import HEALTH, Process, ask_once, check_log, needs_proc, request, settled
from serving import command

pytestmark = needs_proc

SHORT, LONG = 300, 10_000
GOOD = request("/", {"inputs": "I like you"}, "x-use-cache: false")
ACCESS_TOKEN = "hf_MARKER-7f3a-right"  # noqa: S105
COUNTS = [SHORT, pytest.param(LONG, marks=pytest.mark.hostile)]


def check_fuzzed(live, cases):
    process = Process(live.process.pid)
    for _ in range(5):
        assert ask_once(live.url, GOOD).status == 200
    idle = settled(process)
    wrong = fuzz(live.url, cases, GOOD)
    began = time.monotonic()
    assert ask_once(live.url, HEALTH, timeout=5).json == {"status": "ok"}
    assert time.monotonic() - began < 1
    assert live.process.poll() is None
    assert not wrong, f"{len(wrong)} of {len(cases)}: {summary(wrong)}"
    assert settled(process) - idle < 200
    check_log(live.log)


def paths_of(live, *headers):
    """The paths of all routes."""
    return list(ask_once(live.url, request("/openapi.json", None, *headers)).json["paths"])


@pytest.mark.parametrize("count", COUNTS)
def test_strange_requests_are_answered_or_refused(count, tmp_path):
    with command(tmp_path, "--log-requests") as live:
        check_fuzzed(live, requests(count, count, paths_of(live)))


@pytest.mark.parametrize("count", COUNTS)
def test_strange_bodies_are_answered_or_refused(count, tmp_path):
    with command(tmp_path, "--log-requests", "--log-format", "json") as live:
        check_fuzzed(live, bodies(count, count))


@pytest.mark.hostile
def test_no_strange_request_passes_without_an_access_token(tmp_path):
    environment = {"LABELWISE_ACCESS_TOKEN": ACCESS_TOKEN}
    with command(tmp_path, "--log-requests", environment=environment) as live:
        header = f"authorization: Bearer {ACCESS_TOKEN}"
        good = request("/", {"inputs": "I like you"}, header)
        wrong = fuzz(live.url, requests(7, 2_000, paths_of(live, header)), good)
        assert not wrong, summary(wrong)
        assert ask_once(live.url, GOOD).status == 401
        check_log(live.log, ACCESS_TOKEN)
