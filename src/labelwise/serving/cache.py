"""The logits of texts that came before, within a bound of bytes.

The texts themselves are not kept, only digests of them. Logits are kept, not scores: another
function or number of labels is answered from the same row.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    import numpy as np

    from labelwise.engine.tokenizer.tokenizer import Encoded, Text

Key = bytes

_DIGEST_BYTES = 16
_ENTRY_BYTES = 600  # of a key and its row, but for the logits: 584 were measured


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Row:
    """The result of a model for one text."""

    logits: np.ndarray  # (labels,) float32
    length: int  # tokens that the model read
    full_length: int  # tokens of the whole text

    @property
    def truncated(self) -> bool:
        """Whether the model did not read all of the text."""
        return self.full_length > self.length


def text_key(namespace: str, text: Text) -> Key:
    """The key of *text* in the *namespace* of a model and a way to make tokens."""
    parts = text if isinstance(text, tuple) else (text,)
    lengths = ",".join(str(len(part)) for part in parts)
    digest = blake2b(f"{namespace} {lengths} ".encode(), digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part.encode())
    return digest.digest()


def tokens_key(model: str, text: Encoded) -> Key:
    """The key of a text that the *model* of that hash reads as these tokens."""
    digest = blake2b(f"{model} {text.full_length} ".encode(), digest_size=_DIGEST_BYTES)
    digest.update(text.ids.tobytes())
    digest.update(text.types.tobytes())
    return digest.digest()


class Cache:
    """Rows by the key of their text, those used last; texts with equal tokens share one row."""

    def __init__(self, max_bytes: int) -> None:
        """Keep *max_bytes* at most; nothing where that is 0."""
        self._max_bytes = max_bytes
        self._bytes = 0  # an upper bound: rows that are shared count for each of their texts
        self._rows: OrderedDict[Key, Row] = OrderedDict()  # the one used last comes last
        self._by_ids: WeakValueDictionary[Key, Row] = WeakValueDictionary()

    def __len__(self) -> int:
        """The number of texts that are known."""
        return len(self._rows)

    @property
    def used_bytes(self) -> int:
        """The memory that it takes: an upper bound."""
        return self._bytes

    def get(self, key: Key) -> Row | None:
        """The row of the text with that *key*, if it is known."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def same(self, ids: Key) -> Row | None:
        """The row of any text with these *tokens*, if one is known."""
        return self._by_ids.get(ids)

    def put(self, key: Key, ids: Key, row: Row) -> None:
        """Remember *row*; what was not used for longest is forgotten for it."""
        if key in self._rows or self._cost(row) > self._max_bytes:
            return
        self._rows[key] = self._by_ids[ids] = row
        self._bytes += self._cost(row)
        while self._bytes > self._max_bytes:
            _, forgotten = self._rows.popitem(last=False)
            self._bytes -= self._cost(forgotten)

    @staticmethod
    def _cost(row: Row) -> int:
        return _ENTRY_BYTES + row.logits.nbytes
