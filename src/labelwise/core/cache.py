"""What a model made of texts before: logits by text, within a bound of bytes.

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

    from labelwise.engine.text import Encoded, Text

Key = bytes

_DIGEST_BYTES = 16
_ENTRY_BYTES = 600  # of a key and its row, but for the logits: 584 were measured


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Row:
    """What a model made of one text."""

    logits: np.ndarray  # (labels,) float32
    length: int  # ids that the model read
    full_length: int  # ids of the whole text

    @property
    def truncated(self) -> bool:
        """Whether the model did not read all of the text."""
        return self.full_length > self.length


def text_key(model: str, text: Text, truncation: str, max_length: int | None) -> Key:
    """The key of *text* for the *model* of that hash, cut in that way."""
    parts = text if isinstance(text, tuple) else (text,)
    lengths = ",".join(str(len(part)) for part in parts)
    digest = blake2b(
        f"{model} {truncation} {max_length} {lengths} ".encode(), digest_size=_DIGEST_BYTES
    )
    for part in parts:
        digest.update(part.encode())
    return digest.digest()


def ids_key(model: str, text: Encoded) -> Key:
    """The key of a text that the *model* of that hash reads as these ids."""
    digest = blake2b(f"{model} {text.full_length} ".encode(), digest_size=_DIGEST_BYTES)
    digest.update(text.ids.tobytes())
    digest.update(text.types.tobytes())
    return digest.digest()


class Cache:
    """Rows by the key of their text, those used last; texts with equal ids share one row."""

    def __init__(self, most_bytes: int) -> None:
        """Keep *most_bytes* at most; nothing where that is 0."""
        self._most_bytes = most_bytes
        self._bytes = 0  # an upper bound: rows that are shared count for each of their texts
        self._rows: OrderedDict[Key, Row] = OrderedDict()  # the one used last comes last
        self._by_ids: WeakValueDictionary[Key, Row] = WeakValueDictionary()

    def __len__(self) -> int:
        """How many texts are known."""
        return len(self._rows)

    @property
    def used_bytes(self) -> int:
        """How much memory it takes: an upper bound."""
        return self._bytes

    def get(self, key: Key) -> Row | None:
        """The row of the text with that *key*, if it is known."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def same(self, ids: Key) -> Row | None:
        """The row of any text with these *ids*, if one is known."""
        return self._by_ids.get(ids)

    def put(self, key: Key, ids: Key, row: Row) -> None:
        """Remember *row*; what was not used for longest is forgotten for it."""
        if key in self._rows or self._cost(row) > self._most_bytes:
            return
        self._rows[key] = self._by_ids[ids] = row
        self._bytes += self._cost(row)
        while self._bytes > self._most_bytes:
            _, forgotten = self._rows.popitem(last=False)
            self._bytes -= self._cost(forgotten)

    @staticmethod
    def _cost(row: Row) -> int:
        return _ENTRY_BYTES + row.logits.nbytes
