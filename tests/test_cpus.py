"""Streams come from the processors that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labelwise.engine.cpus import Streams, available, streams

ALLOWED = available(Path("/nowhere"))


def group(root, cgroup, files):
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")
def test_without_control_groups_it_is_the_affinity(tmp_path):
    assert available(tmp_path) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, ALLOWED),
        ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a/b\n", {"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "max 100000\n"}, 1),
        (
            "4:cpu,cpuacct:/docker/x\n0::/\n",
            {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            1,
        ),
        (
            "4:cpu:/\n",
            {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
            ALLOWED,
        ),
        ("0::/\n", {"cpu.max": "nonsense\n"}, ALLOWED),
        ("nonsense\n", {}, ALLOWED),
    ],
)
def test_a_quota_of_a_control_group_counts_where_it_is_less(cgroup, files, expected, tmp_path):
    assert available(group(tmp_path, cgroup, files)) == expected


@pytest.mark.parametrize("processors", range(1, 65))
def test_streams_and_threads_fill_the_processors(processors):
    found = streams(processors)
    assert found.count * found.threads == processors


def test_few_processors_share_a_batch_and_many_have_one_each():
    assert [streams(n) for n in (1, 2, 4)] == [Streams(1, 1), Streams(1, 2), Streams(1, 4)]
    assert [streams(n) for n in (5, 64)] == [Streams(5, 1), Streams(64, 1)]


def test_two_copies_of_the_weights_let_a_batch_run_either_way():
    assert [streams(n, copies=2) for n in (1, 2, 64)] == [
        Streams(1, 1),
        Streams(2, 2),
        Streams(64, 64),
    ]
    assert [streams(n, copies=2).both for n in (1, 2)] == [False, True]
