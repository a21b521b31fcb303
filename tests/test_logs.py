"""The log: lines of text or JSON, a line for each request, and nothing that a caller sent."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from labelwise.server.app import create_app
from labelwise.server.observe.logs import JsonFormatter, TextFormatter
from labelwise.server.routes import ROUTES
from labelwise.serving.catalogue import Catalogue
from labelwise.settings import Settings
from serving import EMBEDDED, ask, command, until, within

MARK = "ZEBRA"  # stands for a text
SECRET = "hf_secret"  # noqa: S105
USUAL = {"time", "level", "logger", "message"}
OF_A_REQUEST = USUAL | {
    *(
        "client",
        "method",
        "route",
        "model",
        "status",
        "seconds",
        "texts",
        "tokens",
        "cached",
        "request_id",
    )
}


def record(message, *args, error=None, **extra):
    """A record as a logger makes it."""
    info = (type(error), error, error.__traceback__) if error else None
    logger = logging.getLogger("labelwise.test")
    return logger.makeRecord(
        logger.name, logging.WARNING, __file__, 1, message, args, info, extra=extra
    )


def raised():
    """An exception with a traceback, whose message quotes a text."""
    try:
        {}[MARK]
    except KeyError as error:
        return error


# Formats


def test_a_record_is_an_object_on_one_line():
    line = JsonFormatter().format(record("two\nlines of %s", "é\u2028", jobs=8, at=socket))
    assert "\n" not in line
    assert line.isascii()
    said = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("time"))
    assert said == {
        "level": "WARNING",
        "logger": "labelwise.test",
        "message": "two\nlines of é\u2028",
        "jobs": 8,
        "at": str(socket),
    }


def test_an_extra_field_hides_none_of_the_usual_ones():
    said = json.loads(JsonFormatter().format(record("said", time="never", level="none")))
    assert (said["level"], said["message"]) == ("WARNING", "said")
    assert said["time"] != "never"


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_an_exception_is_its_kind_and_place_without_what_it_says(formatter):
    line = formatter.format(record("it failed", error=raised()))
    assert "\n" not in line
    assert "KeyError" in line
    assert re.search(r"test_logs\.py:\d+", line)
    assert MARK not in line


def test_an_exception_becomes_fields():
    said = json.loads(JsonFormatter().format(record("it failed", error=raised())))
    assert said["error"] == "KeyError"
    (place,) = said["trace"]
    assert place.startswith(f"{__file__}:")


def test_a_line_of_text_stays_one_line():
    line = TextFormatter().format(record("two\nlines\x1b[31m"))
    assert re.fullmatch(r"\S+Z WARNING labelwise\.test: two lines\?\[31m", line)


# A server in this process


def test_a_server_in_a_program_of_others_leaves_their_logging_alone():
    root = logging.getLogger()
    before = [*root.handlers], root.level, logging.getLogger("labelwise.requests").level
    with within(log_format="json", log_requests=True) as live:
        assert ask(live.url, b"a").status == 200
    assert before == ([*root.handlers], root.level, logging.getLogger("labelwise.requests").level)


def test_a_line_for_each_request_says_what_it_was(caplog):
    caplog.set_level(logging.INFO, "labelwise.requests")
    wanted = {"x-request-id": "my-id"}
    with within(log_requests=True, max_texts=3) as live:
        ask(live.url, {"inputs": ["good", "bad day"]}, headers=wanted)
        ask(live.url, {"inputs": ["good", "new"]}, headers=wanted)
        ask(f"{live.url}/models/nope", b"good", headers=wanted)
        ask(f"{live.url}/predict", {"inputs": "good"}, headers=wanted)
        ask(live.url, {"inputs": ["good"] * 4}, headers=wanted)
        ask(f"{live.url}/health", headers=wanted)
        ask(f"{live.url}/info", method="HEAD", headers=wanted)
        ask(f"{live.url}/nope", headers=wanted)
        leave(live)
        until(lambda: len(caplog.records) == 8)
    fields = ("method", "route", "model", "status", "texts", "tokens", "cached")
    assert [tuple(getattr(one, name) for name in fields) for one in caplog.records] == [
        ("POST", "classify", EMBEDDED, 200, 2, 7, 0),
        ("POST", "classify", EMBEDDED, 200, 2, 6, 1),
        ("POST", "classify", "unknown", 404, 0, 0, 0),
        ("POST", "predict", EMBEDDED, 200, 1, 3, 1),
        ("POST", "classify", EMBEDDED, 413, 0, 0, 0),
        ("HEAD", "info", EMBEDDED, 200, 0, 0, 0),
        ("GET", "none", "", 404, 0, 0, 0),
        ("POST", "classify", EMBEDDED, None, 0, 0, 0),
    ]
    assert {one.request_id for one in caplog.records[:7]} == {"my-id"}
    assert all(0 < one.seconds < 30 for one in caplog.records)
    assert {one.client for one in caplog.records} == {"127.0.0.1"}
    first, *_, unrouted, left = (one.getMessage() for one in caplog.records)
    assert re.fullmatch(
        rf"127.0.0.1 POST classify {EMBEDDED} 200 in \d\.\d{{4}} s: 2 texts, 7 tokens, 0 cached; "
        "my-id",
        first,
    )
    assert unrouted.startswith("127.0.0.1 GET none - 404 in ")
    assert f"{EMBEDDED} left in " in left


def test_probes_are_logged_only_where_that_is_wanted(caplog):
    caplog.set_level(logging.INFO, "labelwise.requests")
    probes = [route.path for route in ROUTES if route.probe and "{" not in route.path]
    for wanted in (False, True):
        caplog.clear()
        with within(log_requests=True, log_probes=wanted) as live:
            for path in [*probes, f"/models/{EMBEDDED}/health", "/info"]:
                ask(live.url + path)
            until(lambda: [one.route for one in caplog.records][-1:] == ["info"])
        assert len(caplog.records) == (len(probes) + 2 if wanted else 1)
    assert {"/health", "/ready", "/metrics"} <= set(probes)


def leave(live):
    """Begin a request and leave."""
    parts = urlsplit(live.url)
    with socket.create_connection((parts.hostname, parts.port), 30) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nw")
        until(lambda: live.server.bodies._held == 1)


def test_requests_are_logged_only_where_that_is_wanted(caplog):
    caplog.set_level(logging.INFO, "labelwise")
    with within() as live:
        assert ask(live.url, b"good").status == 200
    assert [one for one in caplog.records if one.name == "labelwise.requests"] == []


# The command


def logged(live):
    """All lines of its log, each an object."""
    found = [json.loads(line) for line in live.log.read_text().splitlines()]
    assert all(set(one) >= USUAL for one in found)
    return found


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """What a server logs as JSON that was sent all kinds of requests."""
    folder = tmp_path_factory.mktemp("logs")
    script = folder / "serve.py"
    script.write_text(COMMAND)
    environment = {"LABELWISE_ACCESS_TOKEN": SECRET}
    with serving(script, folder, "--log-format", "json", "--log-requests", env=environment) as live:
        right = {"authorization": f"Bearer {SECRET}", "x-request-id": "my-id"}
        statuses = [
            ask(live.url, {"inputs": MARK}, headers=right).status,
            ask(live.url, {"inputs": [MARK, MARK * 50]}, headers=right).status,
            ask(f"{live.url}/predict", {"inputs": MARK}, headers=right).status,
            ask(live.url, {"inputs": MARK}, headers={"authorization": f"Bearer {MARK}"}).status,
            ask(f"{live.url}/models/{MARK}", {"inputs": MARK}, headers=right).status,
            ask(f"{live.url}/{MARK}?{MARK}={MARK}", headers=right | {"cookie": MARK}).status,
            ask(live.url, f'{{"inputs": "{MARK}'.encode(), headers=right).status,
            ask(live.url, {"inputs": f"{MARK} fail"}, headers=right).status,
        ]
        assert statuses == [200, 200, 200, 401, 404, 404, 400, 500]
        assert ask(live.url, {"inputs": f"{MARK} warn"}, headers=right).status == 200
        parts = urlsplit(live.url)
        with socket.create_connection((parts.hostname, parts.port), 30) as connection:
            connection.sendall(f"{MARK}\r\n\r\n".encode())
            assert b" 400 " in connection.recv(1_000)
    return logged(live)


# The command, with a model that fails on one word and warns on another.
COMMAND = """
import warnings
from labelwise.commands.main import main
from labelwise.models.model import Model

encode = Model.encode

def strange(self, texts, *how, **options):
    if "fail" in str(texts):
        raise KeyError(texts[0])
    if "warn" in str(texts):
        warnings.warn("a warning\\nof two lines")
    return encode(self, texts, *how, **options)

Model.encode = strange
main()
"""


def serving(script, folder, *arguments, env):
    """`serving.command`, with *script* in place of the command."""
    return command(folder, *arguments, environment=env, start=[sys.executable, str(script)])


def test_the_greeting_is_a_record(lines):
    greeting = lines[0]
    assert greeting["models"] == [EMBEDDED]
    assert greeting["message"] == f"Labelwise serves at {greeting['url']}"
    assert greeting["level"] == "INFO"


def test_every_request_has_its_line(lines):
    requests = [one for one in lines if one["logger"] == "labelwise.requests"]
    statuses = [one["status"] for one in requests]
    assert statuses == [200, 200, 200, 401, 404, 404, 400, 500, 200, 400]
    assert requests[-1]["route"] == "none"  # no HTTP
    assert all(set(one) == OF_A_REQUEST for one in requests)
    assert [one["request_id"] == "my-id" for one in requests].count(False) == 2
    assert [one["cached"] for one in requests[:3]] == [0, 1, 1]


def test_failures_and_warnings_are_records_too(lines):
    (failure,) = [one for one in lines if one["logger"] == "labelwise.server.responses"]
    assert (failure["level"], failure["message"].partition(" at ")[0]) == (
        "ERROR",
        "request my-id failed: KeyError",
    )
    (warning,) = [one for one in lines if one["logger"] == "py.warnings"]
    assert "a warning\nof two lines" in warning["message"]


def test_what_nobody_caught_is_logged_without_what_it_says(caplog):
    async def fail():
        raise KeyError(MARK)

    async def main():
        app = create_app(Catalogue.load(), Settings())
        async with app.router.lifespan_context(app):
            task = asyncio.create_task(fail())
            await asyncio.wait([task])
            del task
            gc.collect()
            asyncio.get_running_loop().call_soon(int, MARK)
            await asyncio.sleep(0.01)

    asyncio.run(main())
    lines = [TextFormatter().format(one) for one in caplog.records]
    assert len(lines) == 2
    assert "a failure that nobody caught (KeyError at " in lines[0]
    assert "a failure that nobody caught (ValueError at " in lines[1]
    assert MARK not in str(lines)


def test_no_line_has_a_text_or_an_access_token(lines):
    assert MARK not in str(lines).upper()
    assert SECRET not in str(lines)


def test_text_is_the_default_and_its_greeting_as_ever(tmp_path):
    with command(tmp_path, "--log-requests") as live:
        assert ask(live.url, {"inputs": MARK}).status == 200
    *greeting, line = live.log.read_text().splitlines()
    assert greeting[0] == f"Labelwise serves at {live.url}:"
    assert greeting[-1] == "Ctrl-C ends it."
    assert re.match(rf"\S+Z INFO labelwise.requests: 127.0.0.1 POST classify {EMBEDDED} 200", line)
    assert MARK not in live.log.read_text().upper()


def test_verbose_says_each_thing_once(tmp_path):
    verbose = [sys.executable, "-m", "labelwise", "-v"]
    with command(tmp_path, "--log-requests", start=verbose) as live:
        assert ask(live.url, b"a").status == 200
    assert live.log.read_text().count("POST classify") == 1


def test_a_start_that_fails_is_one_line_of_text_in_either_format(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "labelwise", "serve", "--log-format", "json", "missing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("Error: ")
