"""The texts that all contestants classify, and how many callers bring them."""

from __future__ import annotations

import csv
import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import models
from labelwise.engine.tokenizer.tokenizer import Encoded

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONGEST = 512
REPEATED = 0.3


@dataclass(frozen=True, slots=True)
class Case:
    """Texts, brought by so many callers; a lone caller brings one after the other.

    Where there are several *parts*, each turn takes the next: no text comes in two turns.
    """

    name: str
    texts: list[str]
    ids: list[Encoded]
    callers: int
    parts: int = 1

    def part(self, turn: int) -> list[str]:
        """The texts of a *turn*."""
        size, number = len(self.texts) // self.parts, turn % self.parts
        return self.texts[number * size : (number + 1) * size]


def case(
    name: str, texts: list[str], tokenizer: Tokenizer, callers: int = 32, parts: int = 1
) -> Case:
    """*texts* with their ids, special ones included."""
    rows = [np.array(found.ids, np.int64) for found in tokenizer.encode_batch(texts)]
    assert max(map(len, rows)) <= LONGEST
    ids = [Encoded(row, np.zeros_like(row), len(row)) for row in rows]
    return Case(name, texts, ids, callers, parts)


def sentences(count: int) -> list[str]:
    """The first sentences of SST-2 dev; from the first again after the last."""
    lines = [text for text, _ in models.sst2("dev")]
    return [lines[number % len(lines)] for number in range(count)]


def one_of_16_ids(tokenizer: Tokenizer) -> str:
    """The first sentence of SST-2 dev that is 16 ids, special ones included."""
    lines = sentences(200)
    return next(text for text in lines if len(tokenizer.encode(text).ids) == 16)


def reviews(count: int, tokenizer: Tokenizer, shortest: int = 128) -> list[str]:
    """Book reviews of *shortest* ids or more, each cut to what 512 ids hold.

    They are cut before they are sent: not every contestant can cut a text.
    """
    folder = os.environ.get("LABELWISE_SHARED") or sys.exit("no data: set LABELWISE_SHARED")
    at = Path(folder, "data/reviews-blitzer/books/test-labeled.tsv")
    with at.open(encoding="utf-8", newline="") as lines:
        rows = [row[0] for row in csv.reader(lines, delimiter="\t")][1 : 1 + 8 * count]
    found = []
    for text, encoded in zip(rows, tokenizer.encode_batch(rows), strict=True):
        if len(encoded.ids) > LONGEST:
            text = text[: encoded.offsets[LONGEST - 2][1]]  # noqa: PLW2901 - up to its 510th id
        if len(encoded.ids) >= shortest:
            found.append(text)
    return found[:count]


def mixture(count: int, parts: int) -> list[str]:
    """*parts* of *count* sentences each, of which three in ten came before in the same part."""
    chance = random.Random(count)  # noqa: S311 - the same ones in each run
    fresh, found = iter(sentences(count * parts)), []
    for _ in range(parts):
        part = [next(fresh)]
        while len(part) < count:
            part.append(chance.choice(part) if chance.random() < REPEATED else next(fresh))
        found += part
    return found
