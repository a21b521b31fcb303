"""A limit of nesting in JSON: the same with every reader, in every version of Python.

Left alone, each reader gives up where its stack ends, if not the process with it.
"""

from __future__ import annotations

from math import inf

_BLOCK = 2**18  # bytes that are looked at together: their numbers take many times as much
MAX_LEVELS = 100  # nothing that is read here needs ten


class TooManyValues(ValueError):  # noqa: N818 - it says what is wrong
    """JSON has more values than its reader wants to make objects of."""


def check_depth(content: bytes, max_values: float = inf) -> None:
    """Check that no more than `MAX_LEVELS` arrays and objects of *content* lie in one another, and
    that no more than *max_values* are separated by commas.

    Nothing else is checked: up to its first mistake, the levels of broken JSON count all the same.

    Raises:
        TooManyValues: There are more values.
        ValueError: There are more levels.
    """
    few_levels = content.count(b"[") + content.count(b"{") <= MAX_LEVELS
    if few_levels and (max_values == inf or content.count(b",") < max_values):
        return
    import numpy as np  # noqa: PLC0415 - heavy, and --help must be quick

    letters = np.frombuffer(content.replace(rb"\\", b"").replace(rb"\"", b""), np.uint8)
    level = quotes = commas = 0
    for start in range(0, len(letters), _BLOCK):
        block = letters[start : start + _BLOCK]
        marks = quotes + np.cumsum(block == ord('"'), dtype=np.int32)
        folded = block | 0x20  # a bracket becomes a brace
        steps = (folded == ord("{")).astype(np.int8) - (folded == ord("}"))
        levels = level + np.cumsum(steps * (1 - marks % 2), dtype=np.int32)
        if levels.max() > MAX_LEVELS:
            raise ValueError("it is nested too deeply")
        commas += int(((block == ord(",")) & (marks % 2 == 0)).sum())
        if commas >= max_values:
            raise TooManyValues(f"it has more than {max_values} values")
        level, quotes = int(levels[-1]), int(marks[-1]) % 2
