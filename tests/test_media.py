"""Bodies that are packed, and bodies that are forms."""

from __future__ import annotations

import gzip
import json
import random
import tracemalloc
import zlib
from contextlib import suppress

import pytest

from labelwise.errors import BadInput, TooLarge
from labelwise.server.media import _inflated
from serving import ask, within

LIKE = json.dumps({"inputs": "I like you"}).encode()
MOST = 20_000
URLENCODED = "application/x-www-form-urlencoded"


def bare(body):
    """*body* in deflate without the head of zlib, as some senders have it."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKED = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "gzip in two members": ("gzip", lambda body: gzip.compress(body[:5]) + gzip.compress(body[5:])),
    "deflate": ("deflate", zlib.compress),
    "deflate without a head": ("deflate", bare),
    "identity": ("identity", bytes),
}


@pytest.fixture(scope="module")
def live():
    with within(max_body_bytes=MOST) as server:
        yield server


def post(live, body, path="/", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(live.url + path, body, headers=named)


def error(answer, status):
    assert answer.status == status, answer.body
    return answer.json["error"]


@pytest.mark.parametrize("name", PACKED)
def test_a_packed_body_is_answered_like_the_plain_one(name, live):
    coding, pack = PACKED[name]
    plain = post(live, LIKE)
    assert plain.status == 200
    for body in (LIKE, b" " * 15_000 + LIKE):
        assert post(live, pack(body), content_encoding=coding).json == plain.json


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_packed_body_is_bounded_by_its_unpacked_size(coding, live):
    pack = PACKED[coding][1]
    assert post(live, pack(LIKE + b" " * (MOST - len(LIKE))), content_encoding=coding).status == 200
    bomb = pack(b" " * 10_000_000)
    assert len(bomb) < MOST
    said = error(post(live, bomb, content_encoding=coding), 413)
    assert f"the unpacked body is longer than {MOST} bytes" in said


def test_a_bomb_is_unpacked_no_further_than_its_bound():
    bomb = gzip.compress(b"\0" * 50_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            _inflated(bomb, "gzip", 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_what_is_not_packed_as_it_says_is_refused(coding, live):
    whole = PACKED[coding][1](LIKE * 20)
    said = error(post(live, LIKE, content_encoding=coding), 400)
    assert said == f"the body is not {coding}, as its content-encoding says"
    for end in (1, 2, len(whole) // 2, len(whole) - 1):
        assert coding in error(post(live, whole[:end], content_encoding=coding), 400)


def test_any_bytes_are_unpacked_or_refused():
    luck = random.Random(1)  # noqa: S311
    for coding in ("gzip", "deflate"):
        whole = PACKED[coding][1](LIKE)
        for _ in range(2_000):
            body = bytearray(whole)
            body[luck.randrange(len(body))] = luck.randrange(256)
            with suppress(BadInput, TooLarge):
                assert len(_inflated(bytes(body), coding, 1_000)) <= 1_000


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "ZEBRA"])
def test_other_encodings_are_refused_with_those_that_are_read(coding, live):
    answer = post(live, LIKE, content_encoding=coding)
    assert "send gzip, deflate, or none" in error(answer, 415)
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert "ZEBRA" not in answer.body.decode()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="a"\r\n'),
        ("Multipart/Form-Data", LIKE),
        (URLENCODED, b"inputs=hello"),
        (f"{URLENCODED}; charset=UTF-8", b"inputs=ZEBRA&top_k=1"),
        (URLENCODED, b"inputs=a text with blanks"),
    ],
)
def test_a_form_is_refused_with_what_to_send(kind, body, live):
    said = error(post(live, body, content_type=kind), 415)
    assert 'send JSON: content-type: application/json, {"inputs": "your text"}' in said
    assert "ZEBRA" not in said


@pytest.mark.parametrize("body", [LIKE, b"hello", b'"hello"', b"two words = three?"])
def test_what_curl_calls_a_form_and_is_none_is_answered(body, live):
    assert post(live, body, content_type=URLENCODED).status == 200
