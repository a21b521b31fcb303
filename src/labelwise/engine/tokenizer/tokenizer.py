"""Texts -> tokens, as the model's own tokenizer cuts them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np

from labelwise.engine.tokenizer.cut import Cuts
from labelwise.engine.tokenizer.files import fails, guarded, read_settings, read_tokenizer
from labelwise.errors import BadFile, BadInput, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    import tokenizers

Text = str | tuple[str, str]  # a text, or a pair
# So many characters of a long text are read for each token that the model takes, and if they give
# too few tokens, four times as many, and so on: words of Western languages have 4 or 5 for a token.
_CHARACTERS_PER_ID = 8
_MORE = 4
_FEW_CHARACTERS = 4096  # to read fewer saves no time
# What loses tokens where a text is too long; a text that is no pair counts as a first one.
Truncation = Literal["longest_first", "only_first", "only_second", "do_not_truncate"]
Direction = Literal["left", "right"]  # the end that a long text loses


def without_halves(text: str) -> str:
    """*text* with U+FFFD for each half of a surrogate pair, which is no character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def characters(texts: Iterable[Text]) -> int:
    """The number of characters of all *texts*."""
    return sum(map(_length, texts))


@dataclass(frozen=True, slots=True)
class Tokenization:
    """Settings of tokenization. All between a wire and the tokenizer passes them on unread."""

    # Which text of a pair is cut: the longer until both are as long, then both alike; only one of
    # the two, which must keep a token; or none.
    truncation: Truncation = "longest_first"
    direction: Direction | None = None  # the model's own where None
    # The most tokens of a text, special ones included, where that is fewer than `Tokenizer.limit`.
    # One below `Tokenizer.least` counts as that.
    max_length: int | None = None


DEFAULT_TOKENIZATION = Tokenization()


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text as the model reads it."""

    ids: np.ndarray  # (length,) int64
    types: np.ndarray  # (length,) int64: 1 for the second of a pair if the tokenizer says so, or 0
    full_length: int  # tokens before truncation; of a text that was not read to its end at least

    @property
    def truncated(self) -> bool:
        """Whether the model does not see all of the text."""
        return self.full_length > len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


class _Cut(NamedTuple):
    """A `Tokenization` for one tokenizer."""

    truncation: Truncation
    limit: int
    keeps_end: bool


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """A model's tokenizer. Nothing in it changes, so several threads may call it at once."""

    limit: int  # most tokens a text may have, special tokens included
    least: int  # what no limit may be below: all special tokens of a text or a pair, and one more
    _rust: tokenizers.Tokenizer
    _typed: bool  # the model is meant to see the types
    _keeps_end: bool  # a long text loses its beginning
    _cuts: Cuts  # the places where a long text may be left

    @classmethod
    def open(cls, folder: Path, positions: int, model_type: str) -> Self:
        """The tokenizer in *folder*, for a model of *model_type* that has *positions* positions.

        Raises:
            BadFile: No file of it is there, or one is broken.
        """
        settings = read_settings(folder)
        rust, typed, keeps_end = read_tokenizer(folder, model_type, settings)
        with guarded(f"the tokenizer in {folder}"):
            single, pair = (rust.encode_batch_fast([text])[0] for text in ("", ("", "")))
        if not len(single):
            raise BadFile(f"the tokenizer in {folder} puts no special tokens around a text")
        least = max(len(single), len(pair)) + 1
        return cls(
            limit=_limit(settings, positions, least),
            least=least,
            _rust=rust,
            _typed=typed,
            _keeps_end=keeps_end,
            _cuts=Cuts.of(rust),
        )

    @property
    def kind(self) -> str:
        """The way in which it cuts words: WordPiece, BPE, Unigram, or another of the library's."""
        return type(self._rust.model).__name__

    def encode(
        self,
        texts: Sequence[Text],
        tokenization: Tokenization = DEFAULT_TOKENIZATION,
        *,
        numbers: Iterable[int] | None = None,
        most: int | None = None,
    ) -> list[Encoded]:
        """Each of *texts* as tokens, a long one cut as *tokenization* says.

        Of a text that is far too long only a part is read, where that gives the same tokens.

        Args:
            texts: Strings, or pairs of them.
            tokenization: How they are cut.
            numbers: The numbers by which errors call *texts*; from 1 where None.
            most: The most characters that may be read of a text at once, which bounds the memory.

        Raises:
            BadInput: A text is neither a string nor a pair of strings, is not valid Unicode, or is
                too long and *tokenization* does not allow the cut.
            TooLarge: More than *most* characters of a text would have to be read at once.
        """
        limit, longest = self.limit, tokenization.max_length
        if longest is not None:
            limit = min(max(longest, self.least), limit)
        keeps_end = self._keeps_end
        if tokenization.direction is not None:
            keeps_end = tokenization.direction == "left"
        cut = _Cut(tokenization.truncation, limit, keeps_end)
        # One by one: a batch starts threads inside the library, which do not survive a fork.
        # They would halve a time that is small beside the model's.
        return [
            self._encode(text, number, cut, most)
            for text, number in zip(texts, numbers or count(1), strict=False)
        ]

    def _encode(self, text: Text, number: int, cut: _Cut, most: int | None) -> Encoded:
        limit, truncation = cut.limit, cut.truncation
        if not isinstance(text, str):
            _check_types(text, number)
        read = text
        size = max(_CHARACTERS_PER_ID * limit, _FEW_CHARACTERS)
        if _length(text) > 2 * size:
            read = self._needed(text, number, cut, size, most)
        encoding = self._read(read, number, most)
        ids = np.array(encoding.ids, dtype=np.int64)
        types = (
            np.array(encoding.type_ids, np.int64) if self._typed else np.zeros(len(ids), np.int64)
        )
        if len(ids) <= limit:
            return Encoded(ids, types, full_length=len(ids))
        owners = np.array(encoding.sequence_ids, dtype=np.float32)
        kept: np.ndarray = np.isnan(owners)
        places = [np.flatnonzero(owners == one) for one in (0, 1)]
        room = limit - int(kept.sum())
        first, second = map(len, places)
        if read is not text and room % 2 and min(first, second) > room:
            # The longer one keeps one token more.
            first, second = self._lengths(text, number, size, most)
        shares = _shares(first, second, room, truncation)
        if shares is None:
            whose = "max_length allows" if limit < self.limit else "the model reads"
            least = "at least " if read is not text else ""
            instead = (
                "it must not be truncated; shorten it, or let it be truncated"
                if truncation == "do_not_truncate"
                else f"truncation {truncation!r} does not cut it to that; shorten it, or use "
                "'longest_first'"
            )
            raise BadInput(
                f"text {number} has {least}{len(ids)} tokens, more than the {limit} that {whose}, "
                f"and {instead}"
            )
        # Were the library to truncate, it would keep what it cuts off as well: for a pair, each
        # part of one text with each part of the other, which takes seconds where both are long.
        for place, share in zip(places, shares, strict=True):
            kept[place[len(place) - share :] if cut.keeps_end else place[:share]] = True
        return Encoded(ids[kept], types[kept], full_length=len(ids))

    def _read(
        self, text: Text, number: int, most: int | None, *, frame: bool = True
    ) -> tokenizers.Encoding:
        """All tokens of *text*, of *most* characters at most, in its *frame* of special tokens."""
        size = _length(text)
        if most is not None and size > most:
            raise TooLarge(
                f"{size} characters of text {number} would have to become tokens at once, and "
                f"{most} can; shorten it, or set spaces and line breaks in it"
            )
        try:
            return self._rust.encode_batch_fast([text], add_special_tokens=frame)[0]
        except BaseException as reason:
            if not fails(reason):
                raise
            _check_unicode(text, number)
            raise BadFile(f"the tokenizer fails on text {number}; its files are broken") from None

    def _needed(self, text: Text, number: int, cut: _Cut, size: int, most: int | None) -> Text:
        """The part of a long *text* that keeps the same tokens; of each text of a pair.

        More tokens than the limit stay of a text that loses some: their number does not count, but
        for which text of a pair is the longer one. *size* characters are tried first.
        """
        _check_unicode(text, number)
        parts = [self._needed_part(part, number, cut, size, most) for part in _parts(text)]
        if sum(map(len, parts)) == _length(text):
            return text
        return parts[0] if isinstance(text, str) else (parts[0], parts[1])

    def _needed_part(self, part: str, number: int, cut: _Cut, size: int, most: int | None) -> str:
        take = self._cuts.end if cut.keeps_end else self._cuts.beginning
        while len(taken := take(part, size)) < len(part):
            if len(self._read(taken, number, most, frame=False)) > cut.limit:
                break
            size *= _MORE
        return taken

    def _lengths(self, text: Text, number: int, size: int, most: int | None) -> list[int]:
        """The number of tokens of each text of a pair, counted in pieces of that *size*."""
        return [
            sum(
                len(self._read(piece, number, most, frame=False))
                for piece in self._cuts.pieces(part, size)
            )
            for part in _parts(text)
        ]


def _shares(first: int, second: int, room: int, truncation: Truncation) -> tuple[int, int] | None:
    """The tokens that each of two texts keeps, of *room*; None where *truncation* finds no way."""
    if truncation == "longest_first":
        less = min(first, second, room // 2)
        return (less, room - less) if first <= second else (room - less, less)
    if truncation == "only_first" and room > second:
        return room - second, second
    if truncation == "only_second" and room > first:
        return first, room - first
    return None


def _limit(settings: Mapping[str, Any], positions: int, least: int) -> int:
    """The most tokens of a text: the model's positions, or fewer if the settings say so."""
    most = settings.get("model_max_length", settings.get("max_len"))
    most = positions if most is None else most  # often a huge number that stands for "no limit"
    if not isinstance(most, int | float) or isinstance(most, bool) or math.isnan(most):
        raise BadFile(f"tokenizer_config.json: model_max_length must be a number, not {most!r:.40}")
    if min(most, positions) < least:
        raise BadFile(
            f"the model reads {min(most, positions)} tokens at most; "
            f"a text or a pair with its special tokens needs {least}"
        )
    return int(min(most, positions))


def _length(text: Text) -> int:
    return len(text) if isinstance(text, str) else len(text[0]) + len(text[1])


def _parts(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def _check_types(text: Text, number: int) -> None:
    parts = text if isinstance(text, tuple) and len(text) == 2 else (text,)
    for part in parts:
        if not isinstance(part, str):
            came = type(part).__name__
            raise BadInput(f"text {number} must be a string or a pair of strings, not {came}")


def _check_unicode(text: Text, number: int) -> None:
    try:
        for part in _parts(text):
            part.encode()
    except UnicodeEncodeError:
        raise BadInput(
            f"text {number} is not valid Unicode: it holds half of a surrogate pair"
        ) from None
