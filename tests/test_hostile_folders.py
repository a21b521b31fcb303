"""Folders damaged at random are read, or refused in one line: the process lives, and is quiet."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = Path(__file__).with_name("hostile.py")


def faults(first, count, place):
    """What goes wrong when so many folders are opened in a child process, which may end early."""
    command = [sys.executable, HOSTILE, str(first), str(count), place]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    lines = ended.stdout.splitlines()
    found = [" ".join(lines[at - 1 : at + 1]) for at, line in enumerate(lines) if "FAULT" in line]
    if ended.returncode:
        found.append(f"exit code {ended.returncode} after {lines[-1:]}")
    if ended.stderr:
        found.append(ended.stderr[:2000])
    return found, lines


def test_damaged_folders_are_read_or_refused(tmp_path):
    found, lines = faults(0, 150, tmp_path)
    assert found == []
    assert lines.count("read") > 15
    assert lines.count("BadFile") > 50


@pytest.mark.hostile
@pytest.mark.parametrize("first", range(100_000, 120_000, 2000))
def test_thousands_of_damaged_folders_are_read_or_refused(first, tmp_path):
    found, _ = faults(first, 2000, tmp_path)
    assert found == []
