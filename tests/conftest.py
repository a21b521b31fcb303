"""What several test files share."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The folder of the embedded model."""
    return Path(str(files("labelwise") / "builtin" / "minilm-l6-sst2"))
