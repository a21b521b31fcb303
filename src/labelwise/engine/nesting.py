"""A limit of nesting in JSON: the same with every reader, in every version of Python.

Left alone, each reader gives up where its stack ends, if not the process with it.
"""

from __future__ import annotations

MOST_LEVELS = 100  # nothing that is read here needs ten


def check_depth(content: bytes) -> None:
    """Check that no more than `MOST_LEVELS` arrays and objects of *content* lie in one another.

    Nothing else is checked: up to its first mistake, the levels of broken JSON count all the same.

    Raises:
        ValueError: There are more.
    """
    if content.count(b"[") + content.count(b"{") <= MOST_LEVELS:
        return
    import numpy as np  # noqa: PLC0415 - heavy, and --help must be quick

    letters = np.frombuffer(content.replace(rb"\\", b"").replace(rb"\"", b""), np.uint8)
    quoted = np.cumsum(letters == ord('"'), dtype=np.uint8) % 2  # odd also when it overflows
    folded = letters | 0x20  # a bracket becomes a brace
    steps = (folded == ord("{")).astype(np.int8) - (folded == ord("}"))
    if np.cumsum(steps * (1 - quoted.astype(np.int8)), dtype=np.int32).max() > MOST_LEVELS:
        raise ValueError("it is nested too deeply")
