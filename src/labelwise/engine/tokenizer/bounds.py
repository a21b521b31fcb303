"""Bounds on what a folder's tokenizer may be, checked before the Rust library builds it.

The library builds whatever a file describes. Where memory ends it takes the process with it, and a
text that it has begun on cannot be stopped. So what makes a text grow, or a word take the square of
its length, is bounded here. Real tokenizers are far inside; docs/model-folders.md has the numbers.
"""

from __future__ import annotations

import base64
import binascii
import re
from itertools import pairwise
from os.path import commonprefix
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from tokenizers import Regex, normalizers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

MAX_PART_BYTES = 2_000_000  # of a part's JSON; rules of normalization take 330,000 of them
MAX_STEPS = 32  # of a normalizer or a pre-tokenizer; real ones have ten at most
MAX_NESTED = 8  # sequences in one another; real ones have one
MAX_GROWTH = 64  # times; NFKC compiled makes 18 characters of one, spaces between them make 36
MAX_PATTERN = 1000  # characters of a regular expression; those of byte-level BPE have 200
MAX_FRAME = 32  # pieces of a frame, and ids of each; real ones have five, of one id
MAX_TOKEN = 255  # characters of a token; each unknown word has its own copy of that for unknown
MAX_TOKENS = 50_000  # added ones, and
MAX_TOKENS_CHARACTERS = 500_000  # in all; looking for them takes 4 KB for each
MAX_PIECE_BYTES = 128  # of Unigram; 16 characters are the custom, and each byte is a step
# Each node of a Unigram's tree takes 360 bytes. Real vocabularies have 2.4 nodes for a piece, as
# most pieces begin like another, and up to 12 bytes.
MAX_NODES = 4_000_000
_SPARE_NODES = 100_000
_NODES_PER_PIECE = 12

_LETTERS = ("", "a", "B", "1", " ", "\n", ".", "é", "▁", "中")
_SHORT = [first + second for first in _LETTERS for second in _LETTERS]
# A regular expression without any of these matches an empty part of a text only if it matches an
# empty text, which _SHORT has.
_LOOKS_AROUND = re.compile(r"\(\?|[\^$]|\\[bBAzZGKyY]")
# What Oniguruma has beyond regular expressions, and takes exponential time or stack.
_NOT_REGULAR = re.compile(r"\\[gk][<']|\\[1-9]|\(\?[&RP(~@{]|\(\*")


def checked(content: bytes) -> bytes:
    """The ``tokenizer.json`` that *content* is, with what is used of it, each key once.

    Raises:
        ValueError: A part of it is beyond its bound, or is no part of a tokenizer.
    """
    parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    for unused in ("decoder", "padding"):
        parts.pop(unused, None)
    growth = 1
    for key, inner in _PARTS.items():
        value = msgspec.json.decode(_small(key, parts[key])) if key in parts else None
        if value is None:
            continue
        steps = _steps(key, inner, value)
        if key == "post_processor":
            _check_frames(steps)
        else:
            growth = _check_growth(key, steps, growth)
        parts[key] = msgspec.Raw(msgspec.json.encode(value))
    if "added_tokens" in parts:
        tokens = msgspec.json.decode(parts["added_tokens"], type=list[_Content] | None)
        check_tokens([token.content for token in tokens or ()])
    if "model" in parts:
        parts["model"] = _checked_model(parts["model"])
    return msgspec.json.encode(parts)


class _Content(msgspec.Struct):
    content: str


def check_tokens(tokens: Collection[str]) -> None:
    """ValueError where added *tokens* are too many or too long."""
    if len(tokens) > MAX_TOKENS:
        raise ValueError(f"it adds {len(tokens):,} tokens, more than {MAX_TOKENS:,}")
    for token in tokens:
        check_token("an added token", token)
    if (total := sum(map(len, tokens))) > MAX_TOKENS_CHARACTERS:
        raise ValueError(
            f"its added tokens have {total:,} characters, more than {MAX_TOKENS_CHARACTERS:,}"
        )


def check_token(what: str, token: str) -> None:
    """ValueError where *token* is too long."""
    if len(token) > MAX_TOKEN:
        raise ValueError(f"{what} has {len(token):,} characters, more than {MAX_TOKEN}")


def check_pieces(pieces: Iterable[str]) -> None:
    """ValueError where the *pieces* of a Unigram model are too long, or their tree too large."""
    encoded = [piece.encode() for piece in pieces]
    longest = max(map(len, encoded), default=0)
    if longest > MAX_PIECE_BYTES:
        raise ValueError(f"it has a piece of {longest:,} bytes, more than {MAX_PIECE_BYTES}")
    most = min(MAX_NODES, _SPARE_NODES + _NODES_PER_PIECE * len(encoded))
    nodes = sum(map(len, encoded))
    if nodes > most:  # without what begins alike, which takes longer to find out
        encoded.sort()
        nodes -= sum(len(commonprefix(two)) for two in pairwise(encoded))  # noqa: RUF071 - no paths
    if nodes > most:
        raise ValueError(
            f"its {len(encoded):,} pieces need {nodes:,} nodes of a tree, more than {most:,}"
        )


def check_charsmap(charsmap: bytes) -> None:
    """ValueError where compiled rules of normalization are none, or make a text too long."""
    if (longest := longest_of(charsmap)) > MAX_GROWTH:
        raise ValueError(
            f"its rules of normalization make {longest:,} characters of one, more than {MAX_GROWTH}"
        )


def check_merges(words: Collection[str], pairs: Iterable[Sequence[str]], prefix: str = "") -> None:
    """ValueError where two *words* are to become one that is none; the library could panic.

    The second loses the *prefix* of those that begin no word.
    """
    for first, second in pairs:
        if not second.startswith(prefix) or first + second[len(prefix) :] not in words:
            raise ValueError(f"it merges {first!r:.40} and {second!r:.40} to no word that it has")


def longest_of(charsmap: bytes) -> int:
    """The most characters that compiled rules of normalization make of one.

    They are the size of a double array of Darts in four bytes, that, and the texts that it leads
    to, each with a zero behind it. The library does not check where a step leads.

    Raises:
        ValueError: They are something else.
    """
    size = int.from_bytes(charsmap[:4], "little")
    texts = charsmap[4 + size :]
    if size % 4 or not 4 <= size <= len(charsmap) - 4:
        raise ValueError("the length of its rules of normalization is wrong")
    try:
        longest = max(map(len, texts.decode().split("\0")))
    except UnicodeDecodeError:
        raise ValueError("its rules of normalization hold something that is no text") from None
    units = np.frombuffer(charsmap, "<u4", size // 4, 4).astype(np.int64)
    leads = np.arange(len(units)) ^ (units >> 10 << ((units & 0x200) >> 6))
    inner = units < 2**31  # the others are offsets of texts
    inner[0] = True
    steps = leads[inner] | 0xFF  # where the last of 256 letters leads to
    if (steps >= len(units)).any():
        raise ValueError("its rules of normalization lead out of their table")
    begins = units[leads[inner & (units & 0x100 > 0)]] & 0x7FFFFFFF
    letters = np.frombuffer(texts + b"\0", np.uint8)
    if (begins > len(texts)).any() or (letters[begins] & 0xC0 == 0x80).any():
        raise ValueError("its rules of normalization lead to no text")
    return longest


# The parts that are made of steps, and where a sequence has those.
_PARTS = {
    "normalizer": "normalizers",
    "pre_tokenizer": "pretokenizers",
    "post_processor": "processors",
}


def _steps(part: str, inner: str, whole: object) -> list[Mapping[str, Any]]:
    """The steps of *whole*, whether it is one or a sequence."""
    steps = list(_flat(part, inner, whole, 0))
    if len(steps) > MAX_STEPS:
        raise ValueError(f"its {part} has {len(steps):,} steps, more than {MAX_STEPS}")
    return steps


def _flat(part: str, inner: str, whole: object, level: int) -> Iterator[Mapping[str, Any]]:
    if not isinstance(whole, dict):
        raise ValueError(f"its {part} is no {part}")  # noqa: TRY004 - the value of a file
    if whole.get("type") != "Sequence":
        yield whole
        return
    if level == MAX_NESTED:
        raise ValueError(f"its {part} has more than {MAX_NESTED} sequences in one another")
    for each in _list(whole, inner):
        yield from _flat(part, inner, each, level + 1)


def _small(key: str, raw: msgspec.Raw) -> msgspec.Raw:
    if len(memoryview(raw)) > MAX_PART_BYTES:
        raise ValueError(f"its {key} is longer than {MAX_PART_BYTES:,} bytes")
    return raw


def _checked_model(raw: msgspec.Raw) -> msgspec.Raw:
    """The model, with each key once."""
    model = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    for key in ("unk_token", "continuing_subword_prefix", "end_of_word_suffix"):
        token = msgspec.json.decode(model.get(key, b"null"), type=str | None)
        check_token(f"its {key}", token or "")
    vocabulary = model.get("vocab", msgspec.Raw())
    if bytes(memoryview(vocabulary)[:1]) == b"[":
        pieces = msgspec.json.decode(vocabulary, type=list[tuple[str, float]])
        check_pieces(piece for piece, _ in pieces)
    if "merges" in model:
        prefix = msgspec.json.decode(model.get("continuing_subword_prefix", b"null")) or ""
        merges = msgspec.json.decode(model["merges"], type=list[str | tuple[str, str]])
        pairs = (each.partition(" ")[::2] if isinstance(each, str) else each for each in merges)
        words = msgspec.json.decode(vocabulary, type=dict[str, int])
        check_merges(words, pairs, prefix)
    return msgspec.Raw(msgspec.json.encode(model))


# Normalizers and pre-tokenizers: how many characters each makes of one.


def _check_growth(part: str, steps: Iterable[Mapping[str, Any]], growth: int) -> int:
    """The number of characters that *steps* make of one that is *growth* before."""
    for step in steps:
        growth *= max(1, _growth(part, step))
        if growth > MAX_GROWTH:
            raise ValueError(
                f"its {part} could make {growth:,} characters of one, more than {MAX_GROWTH}"
            )
    return growth


def _growth(part: str, step: Mapping[str, Any]) -> int:
    kind = step.get("type")
    grows = _GROWTHS.get(kind) if isinstance(kind, str) else None
    if grows is None:
        raise ValueError(f"its {part} is of type {kind!r:.40}, which is not read here")
    return grows if isinstance(grows, int) else grows(step)


def _replaced(step: Mapping[str, Any]) -> int:
    content, regex = _text(step, "content"), _regex(step)
    if "String" in step["pattern"] and regex:
        return -(-len(content) // len(step["pattern"]["String"]))
    marking = normalizers.Replace(Regex(regex), "-")
    if any(len(marking.normalize_str(text)) > len(text) for text in _SHORT):
        # The library loses count of what is put between characters, and panics at a later step.
        raise ValueError("it has a pattern that matches where there is nothing to replace")
    return len(content) + bool(_LOOKS_AROUND.search(regex))


def _prepended(step: Mapping[str, Any]) -> int:
    if not (prefix := _text(step, "prepend")):
        raise ValueError("it puts nothing before a text")  # and the library would panic
    return 1 + len(prefix)


def _fixed_length(step: Mapping[str, Any]) -> int:
    length = step.get("length", 1)
    if not isinstance(length, int) or not 1 <= length < 2**32:
        raise ValueError(f"it cuts texts into parts of {length!r:.40} characters")
    return 1


def _split(step: Mapping[str, Any]) -> int:
    _regex(step)
    return 1


def _regex(step: Mapping[str, Any]) -> str:
    """The regular expression of a step, or the text that it looks for."""
    pattern = step.get("pattern")
    if not isinstance(pattern, dict) or pattern.keys() not in ({"Regex"}, {"String"}):
        raise ValueError("it has a step without a pattern")
    kind = next(iter(pattern))
    found = _text(pattern, kind)
    if len(found) > MAX_PATTERN:
        raise ValueError(f"it has a pattern of {len(found):,} characters, more than {MAX_PATTERN}")
    if kind == "Regex" and _NOT_REGULAR.search(found):
        raise ValueError("it has a pattern with calls, conditions or references back")
    return found if kind == "Regex" else re.escape(found)


def _precompiled(step: Mapping[str, Any]) -> int:
    try:
        charsmap = base64.b64decode(_text(step, "precompiled_charsmap"), validate=True)
    except binascii.Error:
        raise ValueError("its rules of normalization are not in base64") from None
    return longest_of(charsmap)


def _text(step: Mapping[str, Any], key: str) -> str:
    if isinstance(value := step.get(key), str):
        return value
    raise ValueError(f"it has a step whose {key} is no text")


def _list(step: Mapping[str, Any], key: str) -> list[Any]:
    if isinstance(value := step.get(key), list):
        return value
    raise ValueError(f"it has a part whose {key} is no list")


# Unicode's own forms count as 1: what one of them has made, another does not make longer again.
_GROWTHS: dict[str, int | Callable[[Mapping[str, Any]], int]] = {
    **dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD", "Nmt", "Lowercase", "Strip", "StripAccents"), 1),
    **dict.fromkeys(("BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts"), 1),
    **dict.fromkeys(("CharDelimiterSplit", "Digits", "Punctuation"), 1),
    "FixedLength": _fixed_length,
    "BertNormalizer": 3,  # a space on each side
    "ByteLevel": 4,  # a character for each byte
    "Metaspace": 2,  # a mark before each word
    "Split": _split,
    "Replace": _replaced,
    "Prepend": _prepended,
    "Precompiled": _precompiled,
}


# Post-processors: how many ids they add.


def _check_frames(steps: Iterable[Mapping[str, Any]]) -> None:
    for step in steps:
        if step.get("type") != "TemplateProcessing":
            continue
        if not isinstance(special := step.get("special_tokens"), dict):
            raise ValueError("its frame has no special tokens")  # noqa: TRY004 - as above
        for name, token in special.items():
            check_token("a token of its frame", name)
            if not isinstance(token, dict) or len(_list(token, "ids")) > MAX_FRAME:
                raise ValueError(f"its frame has more than {MAX_FRAME} ids for {name!r:.40}")
        for key in ("single", "pair"):
            _check_template(_list(step, key), special)


def _check_template(pieces: list[Any], special: Mapping[str, Any]) -> None:
    if len(pieces) > MAX_FRAME:
        raise ValueError(f"its frame has {len(pieces):,} pieces, more than {MAX_FRAME}")
    texts = []
    for piece in pieces:
        ((kind, content),) = piece.items() if isinstance(piece, dict) else [(None, None)]
        name = content.get("id") if isinstance(content, dict) else None
        if kind == "Sequence":
            texts.append(name)
        elif kind != "SpecialToken" or name not in special:  # the library would panic
            raise ValueError(f"its frame names {name!r:.40} without an id")
    if len(set(map(str, texts))) < len(texts):
        raise ValueError("its frame has the same text twice")
