"""Fuzzers: requests and bodies from a seed, what must become of each, and who sends them.

A failure names its number, and the same seed makes the same case of that number again.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from hostile_tools import MARKER, NotHttp, check, chunked, read, request

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serving import Answer

SECONDS = 30  # for one case
MODEL = "labelwise/minilm-l6-sst2"


@dataclass
class Case:
    """Bytes for one connection, and what must come of them: so many answers; one refusal, and the
    end; or anything that is HTTP, or nothing.
    """

    number: int
    data: bytes
    wants: Literal["answers", "refusal", "anything"] = "answers"
    methods: Sequence[str] = ("GET",)  # of each request


# Requests

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]
_NAMES = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_PATH = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@/"
_PIECES = [
    *("%00", "%0d%0a", "%0a", "%E6%BC%A2", "%ff", "%c0%af", "%ed%a0%80", "%2e%2e", "%2f", "%25"),
    *("%", "%zz", "%u0041", "../", "..%2f", "./", "//", ";a=b", "..;/", "~root", "*"),
    *("revision/", "/revision/main", "/revision/%00", "models/", "a" * 300, "a/" * 100, MODEL),
    *("labelwise%2Fminilm-l6-sst2", "minilm-l6-sst2", "labelwise", "etc/passwd"),
]
_QUERIES = [
    *("flat=true", "flat=maybe", "expand=pipeline_tag", "expand[]=inference", "limit=1"),
    *("limit=-1", "limit=1e9", "limit=99999999999999999999", "skip=%00", "cursor=x", "cursor="),
    *("sort=likes30d", "sort=%0d%0a", "search=%ff", "filter=a&filter=b", "pipeline_tag=", "&&&"),
    *("=", "a=b=c", "author=%E6%BC%A2", "full=1", "limit=%31", "direction=-1", "inference=warm"),
]
# Names that mean something, with values that are good and ones that are not; each a whole request.
_FIELDS = {
    "accept": ["*/*", "text/html;q=nan", "application/openmetrics-text; version=1.0.0", ",,,", ""],
    "authorization": [f"Bearer {MARKER}", "Bearer", "Basic Og==", f"bearer: {MARKER}", "\xff" * 9],
    "content-type": ["application/json", "text/plain; charset=utf-7", "multipart/form-data", "/"],
    "content-encoding": ["gzip", "identity", "br, gzip", ""],
    "cookie": [f"a={MARKER}; " * 20, "=;=;="],
    "origin": ["null", "https://example.com", f"https://{MARKER}", "\xe9"],
    "access-control-request-method": ["POST", "\xe9", "", "GET, POST"],
    "access-control-request-headers": ["authorization", "\xe9\x80", "x" * 2_000, ""],
    "x-request-id": ["one", "\xe9", "a b", "x" * 300, ""],
    "x-amzn-trace-id": ["Root=1-67dd50b2", "\x80", ""],
    "x-request-timeout": ["5", "1e-9", "nan", "inf", "-1", "0", "1e400", "\xb2", "", "0x5", "1_0"],
    "x-use-cache": ["false", "0", "true", "\xff"],
    "x-forwarded-for": ["127.0.0.1", "\xff", "1" * 3_000],
    "forwarded": ["for=127.0.0.1;host=evil.example"],
    "accept-encoding": ["gzip, br;q=2", "*;q=0"],
    "range": ["bytes=0-", "bytes=5-1", "bytes=-99999999999999999999"],
    "if-none-match": ["*", '"x"'],
    "connection": ["keep-alive", "close", "upgrade", "keep-alive, x-a", "", "close, close"],
    "upgrade": ["h2c", "websocket", "", "\xe9"],
    "te": ["trailers"],
    "trailer": ["x-a"],
    "priority": ["u=9"],
}
_BODIES = [
    json.dumps({"inputs": MARKER}).encode(),
    json.dumps({"inputs": [f"{MARKER} a fine film", "漢字", "\ud800"]}).encode(),
    json.dumps({"inputs": MARKER, "parameters": {"top_k": 1, MARKER: MARKER}}).encode(),
    json.dumps({"inputs": {"text": MARKER}, "parameters": {"top_k": MARKER}}).encode(),
    json.dumps({"inputs": [[[MARKER]]]}).encode(),
    f'{{"inputs": "{MARKER}'.encode(),
    MARKER.encode(),
    b"\xff\xfe" + MARKER.encode("utf-16-le"),
    b"",
    b"{}",
    b"[" * 5_000,
    bytes(range(256)),
]


def requests(seed: int, count: int, paths: Iterable[str]) -> list[Case]:
    """So many cases for the *paths* of a server, as its OpenAPI names them."""
    chance = random.Random(seed)  # noqa: S311 - the same ones each time
    makers = [_whole] * 4 + [_several] + [_broken] * 2 + [_mutated] * 5
    known = sorted(paths)
    return [chance.choice(makers)(chance, number, known) for number in range(count)]


def _whole(chance: random.Random, number: int, paths: list[str]) -> Case:
    method, data = _one(chance, paths)
    return Case(number, data, methods=[method])


def _several(chance: random.Random, number: int, paths: list[str]) -> Case:
    """A pipeline. None but its last request may ask for the end of the connection."""
    made = [_one(chance, paths, closes=False) for _ in range(chance.randint(2, 6))]
    return Case(number, b"".join(data for _, data in made), methods=[method for method, _ in made])


def _one(chance: random.Random, paths: list[str], *, closes: bool = True) -> tuple[str, bytes]:
    """A request that is whole and valid as HTTP, however strange: its method, and its bytes."""
    method = chance.choice([*METHODS, "GET", "GET", "POST"])
    headers = []
    for name in chance.sample(sorted(_FIELDS), chance.randint(0, 6)):
        value = chance.choice(_FIELDS[name])
        if closes or "close" not in value:
            headers.append(f"{_case(chance, name)}:{chance.choice(['', ' ', '  ', chr(9)])}{value}")
    headers += [f"{_name(chance)}: {_value(chance)}" for _ in range(chance.randint(0, 4))]
    if closes and chance.random() < 0.1:
        headers = [f"upgrade: {chance.choice(['h2c', 'websocket'])}", "connection: upgrade"]
    version = "HTTP/1.0" if closes and chance.random() < 0.1 else "HTTP/1.1"
    hosts = ["localhost"] * 8 + ["evil.example", ""] if closes else ["localhost", "evil.example"]
    target, host = _target(chance, paths), chance.choice(hosts)
    if method in {"GET", "HEAD", "OPTIONS", "TRACE", "DELETE"} and chance.random() < 0.9:
        return method, request(target, None, *headers, method=method, version=version, host=host)
    body = chance.choice(_BODIES)
    if version == "HTTP/1.1" and chance.random() < 0.3:
        data = chunked(*_pieces(chance, body), trailers=b"x-a: b\r\n" * chance.randint(0, 3))
        _, _, rest = data.partition(b"\r\n")
        lines = "".join(f"{header}\r\n" for header in headers).encode("latin-1")
        return method, f"{method} {target} HTTP/1.1\r\n".encode() + lines + rest
    return method, request(target, body, *headers, method=method, version=version, host=host)


def _target(chance: random.Random, paths: list[str]) -> str:
    path = chance.choice(paths)
    for name in re.findall(r"\{\w+\}", path):
        path = path.replace(name, chance.choice([MODEL, MODEL, _odd(chance)]))
    if chance.random() < 0.2:
        path += _odd(chance)
    if chance.random() < 0.3:
        path += "?" + "&".join(chance.choices(_QUERIES, k=chance.randint(1, 4)))
    return path


def _odd(chance: random.Random) -> str:
    pieces = [chance.choice(_PIECES), "".join(chance.choices(_PATH, k=chance.randint(0, 30)))]
    chance.shuffle(pieces)
    return "".join(pieces * chance.choice([1, 1, 1, 5])).replace("#", "")


def _pieces(chance: random.Random, body: bytes) -> list[bytes]:
    cuts = sorted(chance.randint(0, len(body)) for _ in range(chance.randint(0, 3)))
    ends = [0, *cuts, len(body)]
    pieces = [body[start:end] for start, end in pairwise(ends)]
    return [piece for piece in pieces if piece]  # an empty one would be the last


def _case(chance: random.Random, name: str) -> str:
    return chance.choice([name, name.upper(), name.title()])


def _name(chance: random.Random) -> str:
    return "x-" + "".join(chance.choices(_NAMES, k=chance.randint(1, 30)))


def _value(chance: random.Random) -> str:
    known = [MARKER, "\t", "", "\x80\xff", "é", '"', ",", "=?utf-8?b?x?="]
    return "".join(chance.choices([*known, "a", " b"], k=chance.randint(0, 12))).strip()


_LENGTH = re.compile(rb"content-length: \d+")


def _broken(chance: random.Random, number: int, paths: list[str]) -> Case:
    """A request with one mistake that no server may overlook."""
    method, target = chance.choice(["GET", "POST"]), chance.choice(paths)
    target = re.sub(r"\{\w+\}", MODEL, target)
    good = request(target, b'{"inputs": "x"}', f"x-secret: {MARKER}", method=method)
    line, rest = good.split(b"\r\n", 1)

    def length(value: bytes) -> bytes:
        return _LENGTH.sub(b"content-length: " + value, good)

    def field(data: bytes) -> bytes:
        return line + b"\r\n" + data + b"\r\n" + rest

    control = bytes([chance.choice([*range(9), 11, 12, *range(14, 32), 127])])
    chunk = chunked(b"x" * 16, target=target)
    return Case(
        number,
        chance.choice(
            [
                *(length(value) for value in (b"+5", b"-5", b"0x5", b"5 5", b"5,5", b"\xb2", b"")),
                *(length(b"9" * digits) for digits in (20, 40, 400)),
                *(field(b"content-length: " + value) for value in (b"3", b"0", b"x")),
                field(b"transfer-encoding: chunked"),
                field(b"x-a" + control + b": b"),
                field(b"x-a: b" + control + b"c"),
                field(b"x-a: b\rc"),
                *(field(data) for data in (b"x a: b", b"x-a : b", b": b", b"x-a", b"\xc3\xa9: b")),
                field(b"host: localhost"),
                good.replace(b" HTTP/1.1", b" HTTP/" + chance.choice([b"1", b"1.", b"9.9", b"x"])),
                good.replace(b"HTTP/1.1", b"HTPP/1.1"),
                good.replace(b" /", b" " + control + b"/", 1),
                good.replace(method.encode(), control + method.encode(), 1),
                good.replace(method.encode(), method.lower().encode() + b"!", 1),
                *(chunk.replace(b"10\r\n", size + b"\r\n", 1) for size in (b"-1", b"g", b"0x10")),
                chunk.replace(b"10\r\n", b"f" * chance.randint(17, 40) + b"\r\n", 1),
                chunk.replace(b"10\r\n", b"8\r\n", 1),
                chunk.replace(b"chunked", b"gzip"),
                chunk.replace(b"chunked", b"chunked, identity"),
            ]
        ),
        "refusal",
    )


def _mutated(chance: random.Random, number: int, paths: list[str]) -> Case:
    """A request with some bytes changed: still whole, or anything else."""
    method = "HEAD"
    while method == "HEAD":  # whose answers can be told apart only by who asked
        method, data = _one(chance, paths)
    data = mutated(chance, data)
    if _is_whole(data):
        return Case(number, data, methods=[data.split(b" ", 1)[0].decode()])
    return Case(number, data, "anything")


def mutated(chance: random.Random, data: bytes) -> bytes:
    """*data* with up to four changes: bytes, pieces, or its end gone."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(changed))
        end = min(len(changed), at + chance.choice([1, 1, 2, 8, 40]))
        kind = chance.randrange(6)
        if kind == 0:
            changed[at:end] = chance.randbytes(end - at)
        elif kind == 1:
            changed[at:at] = chance.randbytes(chance.randint(1, 5))
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            changed[at:at] = changed[at:end] * chance.randint(1, 20)
        elif kind == 4:
            changed[at:at] = chance.choice([b"\r\n", b"\n", b"\r", b"\0", b":", b" ", b"\r\n\r\n"])
        elif chance.random() < 0.3:
            del changed[at:]
    return bytes(changed)


_REQUEST = re.compile(
    rb"(?:GET|POST|PUT|DELETE|PATCH|OPTIONS) /[!$-;=?-Z_a-z~]{0,2000} HTTP/1\.[01]\r\n"
    rb"((?:[A-Za-z0-9-]+:[\t -~\x80-\xff]*\r\n){1,50})\r\n"
)


def _is_whole(data: bytes) -> bool:
    """Whether *data* is one request beyond doubt. Many that are whole are not found to be."""
    found = _REQUEST.match(data)
    if found is None or len(data) > 50_000:
        return False
    names = [line.split(b":")[0].lower() for line in found[1].splitlines()]
    if names.count(b"host") != 1 or b"transfer-encoding" in names or b"upgrade" in names:
        return False
    lengths = re.findall(rb"(?im)^content-length:[ \t]*(.*?)[ \t]*\r$", found[1])
    if not lengths:
        return len(data) == found.end()
    digits = len(lengths) == 1 and re.fullmatch(rb"\d{1,6}", lengths[0])
    return bool(digits) and len(data) == found.end() + int(lengths[0])


# Bodies

_TEXTS = [
    *(
        "a fine film",
        "",
        " ",
        "\n",
        "\0",
        MARKER,
        "漢" * 300,
        "𝄞" * 50,
        "e\u0301" * 200,
        "\u202e x",
    ),
    *(
        "\ud800",
        "\udc00\ud800",
        "x\ud83d",
        "\ufeff",
        "\ufffe",
        "[CLS] [SEP] [MASK]",
        "</s>",
        "\x7f",
    ),
    *(
        "a" * 20_000,
        "word " * 3_000,
        "\u200b" * 500,
        "İ" * 100,
        "ﬃ" * 100,
        "\u0958" * 30,
        "1" * 999,
    ),
]
_LEAVES = [
    *(None, True, False, 0, -0.0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**400, 1e308, 5e-324),
    *(1.5, "", "1", "true", "null", "\0", [], {}, [None], [[]], {"": ""}, "sigmoid", "SOFTMAX"),
]
_RAW = [
    *(b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"01", b"+1", b".5", b"1.", b"0x1"),
    *(
        b"'x'",
        b"undefined",
        b'"\\x41"',
        b'"\\ud800"',
        b'"\\ud83d\\u0041"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
    ),
    *(
        b'"\0"',
        b'"\n"',
        b"tru",
        b"nul",
        b'"',
        b"[1,]",
        b'{"a":}',
        b"/**/1",
        b"1" * 5_000,
        b"1e" + b"9" * 400,
    ),
]
_KEYS = ["inputs", "parameters", "options", "model", "raw_scores", "truncate", "inputs ", "", "\0"]
_KEYS += ["truncation_direction", "instances", "query", "texts", "text", "text_pair", MARKER]
_PARAMETERS = [
    "function_to_apply",
    "top_k",
    "truncation",
    "max_length",
    "padding",
    MARKER,
    "",
    "\0",
]


def bodies(seed: int, count: int) -> list[Case]:
    """So many requests of `/`, `/predict` and `/vertex` whose bodies are what no client sends."""
    chance = random.Random(seed)  # noqa: S311 - the same ones each time
    targets = ["/", "/", "/predict", "/vertex", f"/models/{MODEL}", "/?flat=true"]
    kinds = [
        "application/json",
        "text/plain",
        "application/octet-stream",
        "",
        "application/json; x",
    ]
    made = []
    for number in range(count):
        headers = [f"content-type: {chance.choice(kinds)}", f"authorization: Bearer {MARKER}"]
        body, target = _body(chance), chance.choice(targets)
        data = request(target, body, *headers)
        if chance.random() < 0.1:
            data = chunked(*_pieces(chance, body), target=target)
        made.append(Case(number, data, methods=["POST"]))
    return made


def _body(chance: random.Random) -> bytes:
    kind = chance.randrange(12)
    if kind == 0:
        return _nested(chance)
    if kind == 1:
        return chance.randbytes(chance.randint(0, 300))
    if kind == 2:
        return chance.choice(_TEXTS).encode(errors="surrogatepass")
    body = _written(chance, _query(chance))
    if kind == 3:
        body = (
            chance.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b" \n\t", b"\x0b", b"\x1e"]) + body
        )
    if kind == 4:
        text = body.decode(errors="replace")
        return text.encode(chance.choice(["utf-16", "utf-32", "utf-16-be", "utf-7"]))
    if kind in {5, 6, 7, 8}:
        body = mutated(chance, body)
    if kind == 9:
        body = body * 2 if chance.random() < 0.5 else body + chance.choice(_RAW)
    return body


def _nested(chance: random.Random) -> bytes:
    depth = chance.choice([50, 99, 101, 500, 5_000, 100_000])
    opens, inner, closes = chance.choice(
        [
            (b"[", b"", b"]"),
            (b'{"inputs":', b'"x"', b"}"),
            (b'[{"a":', b"1", b"}]"),
            (b"[", b"", b""),
        ]
    )
    deep = opens * depth + inner + closes * depth
    around = [deep, b'{"inputs": %s}' % deep, b'{"inputs": "x", "other": %s}' % deep]
    return chance.choice([*around, b'{"inputs": "x", "parameters": {"top_k": %s}}' % deep])


def _query(chance: random.Random) -> object:
    if chance.random() < 0.1:
        return _value_of(chance, 4)
    query: dict[str, object] = {"inputs": _inputs(chance)}
    if chance.random() < 0.6:
        query["parameters"] = {
            name: _value_of(chance, 1)
            for name in chance.sample(_PARAMETERS, chance.randint(0, len(_PARAMETERS)))
        }
    for key in chance.sample(_KEYS, chance.choice([0, 0, 1, 2])):
        query[key] = _value_of(chance, 2)
    return query


def _inputs(chance: random.Random) -> object:
    text = chance.choice(_TEXTS)
    pair = {"text": text, "text_pair": chance.choice([*_TEXTS, None, 1])}
    many = [
        chance.choice([text, pair, [text, text], *_LEAVES[:3]]) for _ in range(chance.randint(0, 5))
    ]
    return chance.choice([text, text, pair, many, [text] * 30, [[text]], [[[text, text]]], 1])


def _value_of(chance: random.Random, depth: int) -> object:
    if depth and chance.random() < 0.4:
        if chance.random() < 0.5:
            return [_value_of(chance, depth - 1) for _ in range(chance.randint(0, 4))]
        keys = chance.sample(_KEYS, chance.randint(0, 4))
        return {key: _value_of(chance, depth - 1) for key in keys}
    return chance.choice([chance.choice(_LEAVES), chance.choice(_LEAVES), chance.choice(_TEXTS)])


def _written(chance: random.Random, value: object) -> bytes:
    """*value* as JSON, now and then with something that is none in it, or with a key twice."""
    text = json.dumps(value, ensure_ascii=chance.random() < 0.5)
    body = text.encode(errors="surrogatepass")
    if chance.random() < 0.2:
        body = re.sub(rb"\b\d+\b|null", lambda _: chance.choice(_RAW), body, count=1)
    if chance.random() < 0.1 and body.startswith(b"{") and len(body) > 2:
        body = body[:-1] + b", " + body[1:]
    return body


# The caller


async def _outcome(url: str, case: Case) -> str:
    """What is wrong with what came of *case*; nothing where nothing is."""
    reader, writer = await _connected(url)
    try:
        writer.write(case.data)
        if case.wants == "anything":
            writer.write_eof()
        answers = await _answers(reader, case)
    except (NotHttp, ConnectionError) as reason:
        return f"{type(reason).__name__}: {reason}"
    finally:
        writer.transport.abort()
    return _verdict(case, answers)


async def _connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port, limit=10**7)


async def _answers(reader: asyncio.StreamReader, case: Case) -> list[Answer]:
    """All that come: as many as there are requests, or until the connection ends."""
    data, found, ended = b"", [], False
    most = len(case.methods) if case.wants == "answers" else 1_000
    while len(found) < most:
        method = case.methods[min(len(found), len(case.methods) - 1)]
        one = read(data, method, ended=ended) if data else None
        if one is None:
            if ended:
                break
            try:
                more = await reader.read(1_000_000)
            except ConnectionError:
                if case.wants == "answers":
                    raise
                more = b""  # after an answer or none, as it likes
            data, ended = data + more, not more
            continue
        data = data[one[1] :]
        if one[0].status != 100:
            found.append(one[0])
            if case.wants == "refusal" and one[0].status < 400:
                break
    return found


def _verdict(case: Case, answers: list[Answer]) -> str:
    try:
        for answer, method in zip(answers, [*case.methods, *["GET"] * len(answers)], strict=False):
            check(answer, method=method)
            if answer.status == 200 and b"json" in answer.headers["content-type"].encode():
                json.loads(answer.body or b"0", parse_constant=_refuse)
    except (AssertionError, ValueError, KeyError) as reason:
        return f"{type(reason).__name__}: {str(reason)[:400]}"
    if case.wants == "refusal" and (not answers or answers[0].status < 400):
        return f"not refused: {answers}"[:400]
    if case.wants == "answers" and len(answers) < len(case.methods):
        return f"{len(answers)} answers to {len(case.methods)} requests"
    return ""


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


@dataclass
class Wrong:
    """A case, and what was wrong with what came of it."""

    case: Case
    said: str

    @property
    def kind(self) -> str:
        """What the same mistake in other cases has in common with this one."""
        return f"{self.case.wants}: {re.sub(r'[0-9a-f-]{30,}|[0-9]+:[0-9:]+', '', self.said)[:150]}"


def summary(wrong: Sequence[Wrong]) -> str:
    """The kinds of what is *wrong*, how often each came, and its first case."""
    kinds: dict[str, list[Wrong]] = {}
    for one in wrong:
        kinds.setdefault(one.kind, []).append(one)
    return "".join(
        f"\n{len(same)} times, first in case {same[0].case.number}: {same[0].case.wants}: "
        f"{same[0].said[:500]}\n    {same[0].case.data[:400]!r}"
        for same in sorted(kinds.values(), key=len, reverse=True)
    )


def fuzz(url: str, cases: Sequence[Case], good: bytes, *, callers: int = 12) -> list[Wrong]:
    """What went wrong with *cases*; after every 50 of them *good* must have the same answer."""
    return asyncio.run(_fuzz(url, cases, good, callers))


async def _fuzz(url: str, cases: Sequence[Case], good: bytes, callers: int) -> list[Wrong]:
    waiting, wrong, same = iter(cases), list[Wrong](), set[str]()

    async def call() -> None:
        for case in waiting:
            try:
                said = await asyncio.wait_for(_outcome(url, case), SECONDS)
            except (TimeoutError, OSError) as reason:
                said = f"{type(reason).__name__}: {reason}"
            if said:
                wrong.append(Wrong(case, said))
            if case.number % 50 == 49:
                same.add(await asyncio.wait_for(_good(url, good), SECONDS))

    await asyncio.gather(*(call() for _ in range(callers)))
    assert len(same) <= 1, f"a good request had different answers: {same}"
    return wrong


async def _good(url: str, good: bytes) -> str:
    """The scores of *good* to five places, as text."""
    reader, writer = await _connected(url)
    writer.write(good)
    (answer,) = await _answers(reader, Case(0, good))
    writer.close()
    scores = answer.json if answer.status == 200 else [[{"label": answer.status, "score": 0}]]
    return str([(one["label"], f"{one['score']:.4f}") for one in scores[0]])
