"""Content types and encodings of bodies: what is read, undone, or refused."""

from __future__ import annotations

import re
import zlib
from functools import partial
from typing import TYPE_CHECKING

from labelwise.errors import ENCODINGS, BodyTooLarge, MalformedBody, UnsupportedMediaType

if TYPE_CHECKING:
    from starlette.requests import Request

    from labelwise.serving.aside import Aside

_SEND_JSON = 'send JSON: content-type: application/json, {"inputs": "your text"}'
# Windows of zlib: one that reads the heads of gzip and zlib, and one for data without a head.
_GZIP, _ZLIB, _BARE = zlib.MAX_WBITS + 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
_CODINGS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}
_MAX_RATIO = 1_000  # of deflate, or so: how much larger data may become
# The beginning of a form: a name, and what it is. `curl -d` calls everything a form.
_FORM = re.compile(rb"[\w.%+\[\]-]{1,100}=")


def check_media_type(request: Request, *, json_only: bool) -> None:
    """Refuse, before it is read, a body that its content type calls a form with parts.

    With *json_only*, refuse all that it does not call JSON.

    Raises:
        UnsupportedMediaType: It is refused.
    """
    kind = _media_type(request)
    if json_only and not re.fullmatch(r"application/(.+\+)?json", kind):
        raise UnsupportedMediaType(
            "the content type is not application/json; send the header "
            "content-type: application/json"
        )
    if kind == "multipart/form-data":
        raise UnsupportedMediaType(f"multipart/form-data is not read here; {_SEND_JSON}")


async def decoded(request: Request, body: bytes, aside: Aside, most: int) -> bytes:
    """*body*, that of *request*, without its content encoding: *most* bytes at most.

    Raises:
        UnsupportedMediaType: The encoding is neither gzip nor deflate, or the body is a form.
        MalformedBody: It is not what it is called.
        BodyTooLarge: It has more bytes than *most*.
    """
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity"}:
        if coding not in _CODINGS:
            raise UnsupportedMediaType(
                f"the content encoding of the body is not read here; send {ENCODINGS}, or none"
            )
        inflate = partial(_inflated, body, coding, most)
        body = await aside.run(min(most, _MAX_RATIO * len(body)), inflate)
    if _media_type(request) == "application/x-www-form-urlencoded" and _FORM.match(body):
        raise UnsupportedMediaType(f"a form is not read here; {_SEND_JSON}")
    return body


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _inflated(body: bytes, coding: str, most: int) -> bytes:
    """The bytes of which *coding* made *body*."""
    window = _CODINGS[coding]
    if window == _ZLIB and not _has_zlib_head(body):
        window = _BARE  # some senders leave the head out
    parts, length, rest = [], 0, body
    while rest:
        reader = zlib.decompressobj(window)
        try:
            part = reader.decompress(rest, most - length + 1)
        except zlib.error:
            raise MalformedBody(f"the body is not {coding}, as its content-encoding says") from None
        parts.append(part)
        length += len(part)
        if length > most:
            raise BodyTooLarge(
                f"the unpacked body is longer than {most} bytes; send fewer texts a request"
            )
        if not reader.eof:
            raise MalformedBody(f"the body ends in the middle of its {coding}")
        rest = reader.unused_data if window == _GZIP else b""  # another member
    return b"".join(parts)


def _has_zlib_head(body: bytes) -> bool:
    """Whether *body* begins with the two bytes of RFC 1950."""
    return len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
