"""Parameters of tests that the quick suite leaves out."""

from __future__ import annotations

import pytest


def slow(*values):
    """*values* as parameters of the slow suite."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
