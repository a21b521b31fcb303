"""The protocol under bad callers: bounds of a head, broken requests, pipelines, upgrades,
half-closed connections, and names of hosts.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from contextlib import suppress

import pytest

from hostile_tools import (
    HEALTH,
    Process,
    Wire,
    ask_once,
    check,
    check_log,
    check_refused,
    chunked,
    needs_proc,
    request,
    settled,
)
from marks import slow
from serving import command, until

pytestmark = needs_proc

ACCESS_TOKEN = "hf_right"  # noqa: S105
LIKE = {"inputs": "I like you"}
BODY = json.dumps(LIKE).encode()


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A server that everybody on this machine may ask."""
    with command(tmp_path_factory.mktemp("serve"), "--log-requests") as server:
        yield server
        check_log(server.log)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with an access token, which none of these callers has."""
    token = {"LABELWISE_ACCESS_TOKEN": ACCESS_TOKEN}
    with command(tmp_path_factory.mktemp("serve"), environment=token) as server:
        yield server
        check_log(server.log, ACCESS_TOKEN)


def is_classified(answer):
    """Whether *answer* holds the scores of `LIKE`."""
    assert answer.status == 200, answer
    ((best, other),) = answer.json
    return best["label"] == "POSITIVE" and best["score"] > 0.9 > other["score"]


def fields(count):
    return [f"x-field-{number}: {number}" for number in range(count)]


def padding(size):
    """A header field of *size* bytes."""
    return "x-padding: " + "p" * (size - len("x-padding: "))


# Bounds of a head

LARGE = {
    "one long value": request("/", BODY, padding(70_000)),
    "several long values": request("/", BODY, *[padding(7_000)] * 10),
    "one long name": request("/", BODY, "n" * 70_000 + ": v"),
    "more than a hundred fields": request("/", BODY, *fields(101)),
    "a thousand empty fields": request("/", BODY, *["x:"] * 1_000),
    "a value that is sent to its end": request("/", BODY, padding(300_000)),
    "folded lines": request("/", BODY, "x: v", *[" " + "v" * 700] * 100),
    "long white space": request("/", BODY, "x:" + " " * 70_000 + "v"),
    "many trailers": chunked(BODY, trailers=b"x: y\r\n" * 101),
    "one long trailer": chunked(BODY, trailers=b"x: " + b"y" * 70_000 + b"\r\n"),
    "one long name of a trailer": chunked(BODY, trailers=b"x" * 70_000 + b": y\r\n"),
}


@pytest.mark.parametrize("data", LARGE.values(), ids=LARGE)
def test_a_head_over_its_bounds_is_refused_and_the_connection_closed(data, live):
    with Wire(live.url) as wire:
        wire.send(data)
        # A folded line may be broken HTTP as well.
        check_refused(wire, *({400, 431} if b"\r\n " in data else {431}))
    assert ask_once(live.url, HEALTH).status == 200


@pytest.mark.parametrize("data", [LARGE["one long value"], LARGE["more than a hundred fields"]])
@pytest.mark.parametrize("host", [b"localhost", b"evil.example"])
def test_a_head_is_measured_before_host_and_access_token(data, host, guarded):
    with Wire(guarded.url) as wire:
        wire.send(data.replace(b"localhost", host))
        check_refused(wire, 431)


def test_trailers_over_the_bounds_end_a_connection_that_has_its_answer(live):
    with Wire(live.url) as wire:
        wire.send(chunked(BODY, trailers=b"x: y\r\n" * 101, target="/no") + HEALTH)
        assert wire.answer().status in {404, 431}
        assert wire.ends()


def test_a_head_is_measured_before_it_is_whole(live):
    with Wire(live.url) as wire:
        wire.send(request("/", BODY, padding(70_000)).partition(b"p\r\n")[0])
        check_refused(wire, 431)
    with Wire(live.url) as wire:
        wire.send(b"GET /" + b"a" * 17_000)
        check_refused(wire, 414)


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        ("/" + "a" * 17_000, {414}),
        ("/?a=" + "a" * 17_000, {414}),
        ("/" + "%E6" * 6_000, {414}),
        ("/api/models/" + "a" * 17_000 + "/revision/main", {414}),
        ("http://localhost/" + "a" * 17_000, {414}),
        ("/" + "a" * 70_000, {414, 431}),
        ("/" + "a" * 300_000, {414, 431}),
    ],
    ids=["path", "query", "escapes", "revision", "absolute", "70 kB", "300 kB"],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_target_over_its_bound_is_refused_and_the_connection_closed(
    target, statuses, method, guarded
):
    with Wire(guarded.url) as wire:
        wire.send(request(target, method=method))
        check_refused(wire, *statuses)


def test_what_is_just_within_the_bounds_is_answered(live):
    with Wire(live.url) as wire:
        for data in (
            request("/", BODY, padding(60_000)),
            request("/", BODY, *[padding(6_000)] * 10),
            request("/", BODY, *fields(98)),
            request("/?a=" + "a" * 15_000, BODY),
            chunked(BODY, trailers=b"x: y\r\n" * 50),
        ):
            wire.send(data)
            assert is_classified(wire.answer())
        wire.send(request("/" + "a" * 15_000))
        assert wire.answer().status == 404


def test_a_long_chunk_extension_is_read_over_or_refused(live):
    with Wire(live.url) as wire:
        wire.send(chunked(BODY).replace(b"18\r\n", b"18;a=b\r\n", 1))
        assert is_classified(wire.answer())
    for extension in (b"a" * 70_000, b"a=b;" * 20_000):
        with Wire(live.url) as wire:
            wire.send(chunked(BODY).replace(b"18\r\n", b"18;" + extension + b"\r\n", 1))
            answer = wire.answer()
            assert answer.status in {200, 400, 413, 431}
            check(answer)


# Broken requests

GOOD = request("/", BODY)
LENGTH = b"content-length: %d" % len(BODY)
BROKEN = {
    "no HTTP at all": b"hello\r\n\r\n",
    "nothing but bytes": bytes(range(256)),
    "a TLS handshake": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.6\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/2.0": request("/", BODY, version="HTTP/2.0"),
    "HTTP/3.7": request("/", BODY, version="HTTP/3.7"),
    "no version": request("/", BODY, version=""),
    "a version of no protocol": request("/", BODY, version="JTTP/1.1"),
    "a version in small letters": request("/", BODY, version="http/1.1"),
    "an empty target": b"GET  HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "NUL in the target": request(b"/a\0b"),
    "a control character in the target": request(b"/a\x01b"),
    "DEL in the target": request(b"/a\x7fb"),
    "a target without its slash": request("health"),
    "a method of no letters": request("/", BODY, method="@@@"),
    "a method that nobody knows": request("/", BODY, method="CLASSIFY"),
    "a method in small letters": request("/", BODY, method="post"),
    "a space before the colon": request("/", BODY, "x-a : b"),
    "a field without a name": request("/", BODY, ": b"),
    "a field without a colon": request("/", BODY, "x-a"),
    "a space in a name": request("/", BODY, "x a: b"),
    "NUL in a name": request("/", BODY, "x\0a: b"),
    "NUL in a value": request("/", BODY, "x-a: b\0c"),
    "a bare CR in a value": request("/", BODY, "x-a: b\rc"),
    "a control character in a value": request("/", BODY, "x-a: b\x01c"),
    "latin-1 in a name": request("/", BODY, "x-\xe9: b"),
    "white space before the first field": b"GET / HTTP/1.1\r\n host: localhost\r\n\r\n",
    "two hosts": request("/", BODY, "host: localhost"),
    "two other hosts": request("/", BODY, "Host: evil.example"),
    "two lengths": request("/", BODY, "content-length: 3"),
    "two lengths in one": GOOD.replace(LENGTH, LENGTH + b", 3"),
    "a length with a sign": GOOD.replace(LENGTH, b"content-length: +24"),
    "a negative length": GOOD.replace(LENGTH, b"content-length: -24"),
    "a length in hexadecimal": GOOD.replace(LENGTH, b"content-length: 0x18"),
    "a length with a point": GOOD.replace(LENGTH, b"content-length: 24.0"),
    "an empty length": GOOD.replace(LENGTH, b"content-length:"),
    "a length in other digits": GOOD.replace(LENGTH, b"content-length: \xb2\xb4"),
    "a length beyond 64 bits": GOOD.replace(LENGTH, b"content-length: " + b"9" * 30),
    "a length and chunks": chunked(BODY, headers="content-length: 24\r\n"),
    "chunks and a length": chunked(BODY).replace(b"\r\n\r\n", b"\r\ncontent-length: 3\r\n\r\n", 1),
    "a coding that is not chunked": chunked(BODY).replace(b": chunked", b": gzip"),
    "chunked, but not last": chunked(BODY).replace(b": chunked", b": chunked, gzip"),
    "a size of a chunk that is none": chunked(BODY).replace(b"18\r\n", b"zz\r\n", 1),
    "a negative size of a chunk": chunked(BODY).replace(b"18\r\n", b"-18\r\n", 1),
    "a size of a chunk with 0x": chunked(BODY).replace(b"18\r\n", b"0x18\r\n", 1),
    "an empty size of a chunk": chunked(BODY).replace(b"18\r\n", b"\r\n", 1),
    "a size of a chunk beyond 64 bits": chunked(BODY).replace(b"18\r\n", b"f" * 17 + b"\r\n", 1),
    "a chunk that is longer than it says": chunked(BODY).replace(b"18\r\n", b"10\r\n", 1),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_http_is_told_so_in_json(data, live):
    with Wire(live.url) as wire:
        wire.send(data)
        wire.finish()
        other = {"HTTP/2.0": 505, "HTTP/3.7": 505, "a length beyond 64 bits": 413}
        check_refused(wire, 400, *{other[name] for name in other if data == BROKEN[name]})
    assert ask_once(live.url, HEALTH).status == 200


def test_broken_http_behind_a_good_request_is_told_after_its_answer(live):
    with Wire(live.url) as wire:
        wire.send(GOOD + b"nonsense\r\n\r\n")
        assert is_classified(wire.answer())
        check_refused(wire, 400)


def test_a_host_may_be_left_out_where_nothing_depends_on_it(live):
    answer = ask_once(live.url, request("/", BODY, host=None))
    assert answer.status in {200, 400}
    check(answer)
    assert is_classified(ask_once(live.url, request("/", BODY, host=None, version="HTTP/1.0")))


def test_empty_lines_before_a_request_are_read_over(live):
    with Wire(live.url) as wire:
        wire.send(b"\r\n\r\n" + GOOD)
        assert is_classified(wire.answer())


def test_http_0_9_is_answered_or_refused(live):
    with Wire(live.url) as wire:
        wire.send(b"GET /\r\n\r\n")
        answer = wire.answer()
        assert answer.status in {200, 400, 505}
        check(answer)
        assert wire.ends()


def test_http_1_0_is_answered_and_closed(live):
    with Wire(live.url) as wire:
        wire.send(request("/", BODY, version="HTTP/1.0"))
        assert is_classified(wire.answer())
        assert wire.ends()


def test_a_caller_that_asks_whether_to_send_its_body_is_told_to(live):
    with Wire(live.url) as wire:
        wire.send(request("/", BODY, "expect: 100-continue")[: -len(BODY)])
        assert b" 100 " in wire.socket.recv(1_000)
        wire.send(BODY)
        assert is_classified(wire.answer())


# Pipelines


def test_pipelined_requests_are_answered_in_their_order(live):
    asked = [
        request("/", LIKE if number % 3 else {"inputs": ["fine"] * 20}, f"x-request-id: {number}")
        if number % 2
        else request("/health", None, f"x-request-id: {number}")
        for number in range(40)
    ]
    with Wire(live.url) as wire:
        wire.send(b"".join(asked))
        answers = [wire.answer() for _ in asked]
        assert [answer.headers["x-request-id"] for answer in answers] == [*map(str, range(40))]
        assert {answer.status for answer in answers} == {200}
        assert is_classified(answers[1])
        assert len(answers[3].json) == 20


@pytest.mark.parametrize("cut", [1, 2, 7, 60])
def test_a_request_that_comes_in_pieces_is_one(cut, live):
    data = chunked(BODY[:7], BODY[7:], trailers=b"x: y\r\n") + request("/", BODY)
    with Wire(live.url) as wire:
        for start in range(0, len(data), cut):
            wire.send(data[start : start + cut])
        assert is_classified(wire.answer())
        assert is_classified(wire.answer())


@pytest.mark.parametrize(
    "megabytes", [5, pytest.param(60, marks=pytest.mark.hostile)], ids=lambda size: f"{size} MB"
)
@pytest.mark.parametrize(
    "data", [GOOD, *slow(HEALTH, request("/no", BODY))], ids=["texts", "health", "404"]
)
def test_pipelined_requests_whose_answers_are_not_read_take_no_memory(data, megabytes, live):
    process = Process(live.process.pid)
    before = settled(process)
    process.forget_peak()
    piece = data * (100_000 // len(data))
    with Wire(live.url, receives=10_000) as wire:
        wire.flood([piece] * (megabytes * 10), seconds=2, read=False)
        assert ask_once(live.url, HEALTH, timeout=5).status == 200
        assert process.peak() - before < 50
    assert is_classified(ask_once(live.url, GOOD))


# Upgrades


def upgrade(data, protocol="h2c"):
    head, _, body = data.partition(b"\r\n\r\n")
    extra = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol.encode()]
    extra.append(b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    return head + b"\r\n" + b"\r\n".join(extra) + b"\r\n\r\n" + body


@pytest.mark.parametrize("behind", [b"", HEALTH, HEALTH * 3, GOOD], ids=["0", "1", "3", "texts"])
@pytest.mark.parametrize("data", [GOOD, chunked(BODY)], ids=["length", "chunks"])
@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.3", "h2c, websocket"])
def test_a_text_with_an_offer_to_upgrade_gets_one_answer(protocol, data, behind, live):
    with Wire(live.url) as wire:
        wire.send(upgrade(data, protocol) + behind)
        assert is_classified(wire.answer())
        for _ in range(behind.count(b"HTTP/1.1")):
            assert wire.answer().status == 200
        wire.finish()
        assert wire.ends()


def test_a_text_with_an_offer_to_upgrade_may_come_in_pieces(live):
    head, _, body = upgrade(GOOD).partition(b"\r\n\r\n")
    with Wire(live.url) as wire:
        wire.send(head + b"\r\n\r\n")
        ask_once(live.url, HEALTH)  # the head is read alone
        wire.send(body[:5])
        ask_once(live.url, HEALTH)
        wire.send(body[5:])
        assert is_classified(wire.answer())
        wire.send(HEALTH)
        assert wire.answer().status == 200


@pytest.mark.parametrize("target", ["/health", "/", "/info"])
def test_a_websocket_is_not_opened_and_the_request_answered(target, live):
    key = ["sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="]
    asked = ["connection: Upgrade", "upgrade: websocket", *key]
    with Wire(live.url) as wire:
        for _ in range(2):
            wire.send(request(target, None, *asked))
            answer = wire.answer()
            assert answer.status == 200
            check(answer)


def test_curl_that_offers_http_2_gets_its_scores(live):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("there is no curl")
    if b"HTTP2" not in subprocess.run([curl, "--version"], capture_output=True, check=True).stdout:  # noqa: S603
        pytest.skip("this curl has no HTTP/2")
    command = [curl, "-sS", "--max-time", "20", "--http2", "-w", " %{http_code}", live.url, "-d"]
    command += ["I like you", "--next", "-sS", "-w", " %{http_code}", f"{live.url}/health"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    assert ended.returncode == 0, ended
    assert re.fullmatch(r'\[\[\{"label":"POSITIVE".*\]\] 200\{"status":"ok"\} 200', ended.stdout)


def test_connect_is_refused_as_every_other_method(live):
    with Wire(live.url) as wire:
        wire.send(b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n")
        answer = wire.answer("CONNECT")
        assert answer.status in {400, 404, 405}
        check(answer)


# Half-closed connections


@pytest.mark.parametrize(
    "data",
    [GOOD, HEALTH, chunked(BODY), request("/", b"I like you", version="HTTP/1.0"), GOOD * 5],
    ids=["length", "health", "chunks", "HTTP/1.0", "five"],
)
def test_a_caller_that_has_no_more_to_say_gets_its_answers(data, live):
    with Wire(live.url) as wire:
        wire.send(data)
        wire.finish()
        for _ in range(data.count(b" HTTP/")):
            assert wire.answer().status == 200
        assert wire.ends()


def test_a_caller_that_has_no_more_to_say_gets_an_answer_that_takes_long(live):
    texts = [f"{number} " + "such a film " * 60 for number in range(64)]
    with Wire(live.url) as wire:
        wire.send(request("/", {"inputs": texts}))
        wire.finish()
        answer = wire.answer()
        assert answer.status == 200
        assert len(answer.json) == 64
        assert wire.ends()


@pytest.mark.parametrize(
    "data", [GOOD[:-5], GOOD[:30], chunked(BODY)[:-2], b"G"], ids=["body", "head", "chunks", "G"]
)
def test_a_request_that_is_cut_off_is_forgotten(data, live):
    with Wire(live.url) as wire:
        wire.send(data)
        wire.finish()
        with suppress(EOFError):  # there may be nobody to tell it to
            answer = wire.answer()
            assert answer.status in {400, 408}
            check(answer)
        assert wire.ends()
    until(
        lambda: not Process(live.process.pid).holds(wire.port) if wire.socket.fileno() > 0 else True
    )


# Hosts and methods


def test_options_of_the_whole_server_are_answered(live):
    answer = ask_once(live.url, request("*", method="OPTIONS"))
    assert answer.status == 204
    assert "POST" in answer.headers["allow"]
    check(answer)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost.", 200),
        ("localhost.:8000", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1", 200),
        ("[::1]:1", 200),
        ("", 403),
        ("evil.example", 403),
        ("evil.example.", 403),
        ("localhost.evil.example", 403),
        ("localhost@evil.example", 403),
        ("localhost:80:80", 403),
        ("localhost..", 403),
    ],
)
def test_a_host_is_one_of_this_machine_or_refused(host, status, live):
    answer = ask_once(live.url, request("/", BODY, host=host))
    assert answer.status in {status, 400} if status == 403 else answer.status == status
    check(answer)


def test_a_target_that_names_another_host_is_refused(live):
    for target in ("http://evil.example/", "http://evil.example:80/"):
        answer = ask_once(live.url, request(target, BODY))
        assert answer.status in {400, 403}  # it goes before the header, so it must not be hidden
        check(answer)
    assert is_classified(ask_once(live.url, request("http://localhost/", BODY)))


@pytest.mark.parametrize(
    "name",
    ["a%0d%0ax-a:%20b", "%0a", "%00", "%E6%BC%A2", "%ff", "%ed%a0%80", "%2e%2e%2f", "a" * 15_000],
    ids=lambda name: name[:12],
)
@pytest.mark.parametrize(
    "before", ["/api/models/labelwise/minilm-l6-sst2/revision/", "/api/models/"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_a_path_names_comes_back_in_no_header(method, before, name, live):
    answer = ask_once(live.url, request(before + name, method=method))
    assert answer.status in {400, 404}
    assert "x-a" not in answer.headers
    check(answer, method=method)


@pytest.mark.parametrize("allowed", ["labels.example.com:8080", "[2001:db8::1]:8080"])
def test_an_allowed_host_may_have_a_port(allowed, tmp_path):
    with command(tmp_path, "--allowed-host", allowed) as live:
        assert is_classified(ask_once(live.url, request("/", BODY, host=allowed)))
        assert is_classified(ask_once(live.url, request("/", BODY)))
        assert ask_once(live.url, request("/", BODY, host="evil.example:8080")).status == 403
