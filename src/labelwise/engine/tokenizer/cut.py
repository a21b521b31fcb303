"""Places where a text falls apart: its tokens are those of the two sides, one after the other.

Where a model reads the beginning of a long text alone, the rest need not become tokens then. Such a
place is known for the tokenizers alone whose normalizers and pre-tokenizers are listed here. See
docs/decisions/0019-what-is-read-of-a-long-text.md
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import tokenizers

# Letters that are a grapheme of their own beside one another and beside spaces: none is a mark, a
# jamo, a joiner, part of an emoji or what attaches to the next. So a normalizer, of characters or
# of graphemes, makes of each the same wherever it stands. Latin, Greek, Cyrillic, Armenian, Hebrew,
# Arabic, Devanagari, Thai, Georgian, punctuation, kana, CJK, Hangul and full-width letters.
_CJK = "\u4e00-\u9fff"
_LETTERS = (
    "!-~\u00c0-\u024f\u0370-\u0482\u048a-\u052f\u0531-\u0556\u0561-\u0586\u05d0-\u05ea"
    "\u0620-\u064a\u0671-\u06d3\u0905-\u0939\u0e01-\u0e2e\u10d0-\u10fa\u2010-\u2027"
    f"\u3001\u3002\u3008-\u3011\u3041-\u3096\u30a1-\u30fa{_CJK}\uac00-\ud7a3\uff01-\uff5e"
)
_PLACES_TRIED = 64  # between two letters of which the normalizer makes something else

# What depends on nothing but the characters, or the graphemes, at hand.
_LOCAL_NORMALIZERS = {
    *("BertNormalizer", "Lowercase", "Nmt", "Precompiled", "StripAccents"),
    *("NFC", "NFD", "NFKC", "NFKD"),
}
_CUT_AWAY = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}  # takes spaces out
_CUT_BESIDE = {"Digits", "Punctuation"}  # leaves spaces as they are
_KNOWN = _CUT_AWAY | _CUT_BESIDE | {"ByteLevel", "Metaspace"}
_SPACE = re.compile(r"\s")
_NOWHERE = "(?!)"  # which is found in no text
_WIDTH = 5  # characters that are looked at


@dataclass(frozen=True, slots=True)
class Cuts:
    """The places where texts fall apart for one tokenizer."""

    _normalized: Callable[[str], str]
    _place: re.Pattern[str]  # with the two characters before it, and two or three behind
    _parted: re.Pattern[str]  # the form that the normalizer has to give what is around it

    @classmethod
    def of(cls, rust: tokenizers.Tokenizer) -> Self:
        """The places of *rust*, as far as they are known."""
        normalized = rust.normalizer.normalize_str if rust.normalizer else str
        normalizers = _parts(rust.normalizer, "normalizers")
        cutters = _parts(rust.pre_tokenizer, "pretokenizers")
        tokens = list(rust.get_added_tokens_decoder().values())
        spaces, parted = _at_spaces(cutters)
        if (
            not all(_is_local(part) for part in normalizers)
            or not {part["type"] for part in cutters} <= _KNOWN
            or any(token.rstrip for token in tokens)
            or any(_SPACE.search(form) for token in tokens for form in _forms(token, normalized))
        ):
            spaces = ""
        places = [f"[ \n{_LETTERS}][{_LETTERS}][{spaces}][{_LETTERS}][ \n{_LETTERS}]"]
        if (
            {part["type"] for part in cutters} <= _CUT_AWAY | _CUT_BESIDE
            and all(part["type"] != "Replace" for part in normalizers)
            and not any(re.search(f"[{_CJK}]", token.content) for token in tokens)
        ):  # the normalizer may set spaces around each: its result decides
            places.append(f"[ \n{_LETTERS}][{_CJK}][{_CJK}][ \n{_LETTERS}]")
        known = "|".join(places) if spaces else _NOWHERE
        return cls(normalized, re.compile(known), re.compile(parted))

    @property
    def any(self) -> bool:
        """Whether there can be places at all."""
        return self._place.pattern != _NOWHERE

    def beginning(self, text: str, size: int) -> str:
        """The first *size* characters of *text*, and what follows up to the next place.

        It is the whole *text* where that has less than twice as many, or no such place.
        """
        if len(text) < 2 * size or not self.any:
            return text
        return text[: self._find(text, size, len(text))]

    def end(self, text: str, size: int) -> str:
        """The last *size* characters of *text* and what is before, as `beginning` has the first."""
        last = len(text) - size
        while self.any and len(text) >= 2 * size and last > 0:
            if (place := self._find(text, max(last - size, 0), last)) is not None:
                return text[place:]
            last -= size - _WIDTH
        return text

    def pieces(self, text: str, size: int) -> Iterator[str]:
        """All of *text* in its order, in pieces of at least *size* characters but the last."""
        start = 0
        while (place := self._find(text, start + size, len(text))) is not None:
            yield text[start:place]
            start = place
        yield text[start:]

    def _find(self, text: str, start: int, end: int) -> int | None:
        """The first place in *text* from *start* to *end*."""
        for found in islice(self._place.finditer(text, start, end), _PLACES_TRIED):
            around, before, behind = found[0][1:-1], found[0][1], found[0][2:-1]
            form = self._normalized(around)
            if form == self._normalized(before) + self._normalized(behind) and (
                self._parted.fullmatch(form)
            ):
                return found.start() + 2
        return None


def _at_spaces(cutters: list[dict[str, Any]]) -> tuple[str, str]:
    """The spaces at which the pre-tokenizers always cut, and the form of what they cut there."""
    first = next((part for part in cutters if part["type"] not in _CUT_BESIDE), {"type": ""})
    if first["type"] in _CUT_AWAY:
        return " \n", r"\s*\S+\s+\S+\s*"
    if first["type"] == "ByteLevel" and first.get("use_regex", True):
        # One that begins a text with a space does not where a space is there.
        return " " if first["add_prefix_space"] else " \n", r"\S+[ \n]\S+"
    if first["type"] == "Metaspace" and first.get("split", True):
        return " \n", r"\S+ \S+"
    return "", ""


def _forms(token: tokenizers.AddedToken, normalized: Callable[[str], str]) -> tuple[str, str]:
    """The two forms in which an added token is looked for."""
    return token.content, normalized(token.content) if token.normalized else ""


def _parts(whole: Any, key: str) -> list[dict[str, Any]]:
    """The steps of *whole* in their order, as ``tokenizer.json`` writes them."""
    if whole is None:
        return []

    def flat(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if part["type"] != "Sequence":
            yield part
        for inner in part.get(key, []):
            yield from flat(inner)

    return list(flat(json.loads(whole.__getstate__())))


def _is_local(normalizer: dict[str, Any]) -> bool:
    """Whether it leaves alone what is on the other side of a place."""
    if normalizer["type"] == "Strip":
        return not normalizer["strip_left"]  # a piece may begin with a space, but not end with one
    if normalizer["type"] == "Replace":
        pattern = normalizer["pattern"]
        # Rows of spaces: no place is beside one.
        return pattern == {"Regex": " {2,}"} or not _SPACE.search(pattern.get("String", " "))
    return normalizer["type"] in _LOCAL_NORMALIZERS
