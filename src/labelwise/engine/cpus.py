"""The processors of this process, and how the engine divides them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

# The most processors that work together on one batch where there is one copy of the weights.
# Measured with 2, computed for 3 and 4.
_MAX_THREADS = 4


@dataclass(frozen=True, slots=True)
class Streams:
    """Places where batches run: one on *threads* threads, or *count* at once on one thread each.

    There is nothing between: the runtime's threads are one pool for all of a session, and streams
    that share it wait for each other. Where both numbers are above 1 there are two sessions, each
    with weights of its own.
    """

    count: int
    threads: int

    @property
    def both(self) -> bool:
        """Whether a batch may run either way."""
        return min(self.count, self.threads) > 1


def streams(processors: int, copies: int = 1) -> Streams:
    """The streams for *processors*, with *copies* of a model's weights.

    One copy: up to 4 processors work on one batch, from 5 on each has its own. Two: both ways.
    """
    if copies > 1:
        return Streams(processors, processors)
    return Streams(1, processors) if processors <= _MAX_THREADS else Streams(processors, 1)


def available(root: Path = Path("/")) -> int:
    """The processors that this process may use, one at least.

    That is its affinity, or the quota of its control groups where that is less.
    *root* is where the ``sys`` and ``proc`` file systems are.
    """
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:  # not Linux: no affinity to ask for, no control groups
        allowed = os.cpu_count() or 1
    quotas = [quota for folder in _groups(root) if (quota := _quota(folder)) is not None]
    return max(1, min([allowed, *(int(quota) for quota in quotas)]))


def _groups(root: Path) -> list[Path]:
    """The folders of this process's control group and of those around it, of either version."""
    folders = []
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            top = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            top = root / "sys/fs/cgroup/cpu"
        else:
            continue
        # Within a container the path may be the host's; the group is then mounted at the top.
        inner = top / path.lstrip("/")
        folders += [top, *(folder for folder in [inner, *inner.parents] if top in folder.parents)]
    return folders


def _quota(folder: Path) -> float | None:
    """The processors that the control group at *folder* may use; None where it sets no limit."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return None if quota in {"max", "-1"} else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
