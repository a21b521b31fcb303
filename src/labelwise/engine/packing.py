"""Texts laid end to end: which go together, and how the engine finds each again. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labelwise.engine.tokenizer.tokenizer import Encoded


@dataclass(frozen=True, slots=True)
class Packed:
    """Several texts laid end to end, with nothing between them."""

    ids: np.ndarray  # (total,) int64
    types: np.ndarray  # (total,) int64; 1 where a token belongs to the second text of a pair
    starts: np.ndarray  # (texts + 1,) int64; text i is ids[starts[i]:starts[i + 1]]

    def __len__(self) -> int:
        """The number of texts."""
        return len(self.starts) - 1


def pack(texts: Sequence[Encoded]) -> Packed:
    """*texts*, at least one, laid end to end in their order."""
    starts = np.array([0, *accumulate(map(len, texts))], np.int64)
    if len(texts) == 1:
        return Packed(texts[0].ids, texts[0].types, starts)
    ids = np.concatenate([text.ids for text in texts])
    return Packed(ids, np.concatenate([text.types for text in texts]), starts)


def split(lengths: Sequence[int], max_tokens: int, streams: int) -> list[slice]:
    """Runs of consecutive texts that make good batches.

    A batch holds *max_tokens* tokens at most, or one text; fewer where that gives each of *streams*
    work. Order needs no care: a batch costs the sum of its texts, whatever their lengths.
    """
    share = min(max_tokens, -(-sum(lengths) // streams))
    batches, begin, held = [], 0, 0
    for number, length in enumerate(lengths):
        if held and held + length > share:
            batches.append(slice(begin, number))
            begin, held = number, 0
        held += length
    if lengths:
        batches.append(slice(begin, len(lengths)))
    return batches


def positions(packed: Packed, padding_id: int | None) -> np.ndarray:
    """The position of each token in its text, ``(total,)`` int64.

    They count from 0. With a *padding_id* they count from ``padding_id + 1``; where a text itself
    holds that id, it gets the position ``padding_id`` and is not counted, as in the RoBERTa family
    of transformers (``create_position_ids_from_input_ids``).
    """
    if padding_id is None and len(packed) == 1:
        return np.arange(len(packed.ids))
    starts, lengths = packed.starts[:-1], np.diff(packed.starts)
    if padding_id is None:
        counted: np.ndarray = np.arange(len(packed.ids)) - np.repeat(starts, lengths)
        return counted
    real = packed.ids != padding_id
    seen = np.cumsum(real)
    seen_before = (seen - real)[starts]
    within: np.ndarray = (seen - np.repeat(seen_before, lengths)) * real
    return within + padding_id
