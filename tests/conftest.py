"""What several test files share."""

from __future__ import annotations

import os
import signal
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# An example that takes long says that the machine is busy, and no more.
settings.register_profile(
    "labelwise", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("labelwise")

# A shell that starts a job in the background has it ignore Ctrl-C, and with it all that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_terminal_summary(terminalreporter):
    """Say that a skip was not expected, where the environment says that none is."""
    if skips_fail() and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("LABELWISE_NO_SKIPS is set: a skipped test is a failure")


def pytest_sessionfinish(session):
    """Fail where a test was skipped and the environment says that none may be."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # not in a worker
    if skips_fail() and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def skips_fail():
    """Whether a skipped test is a failure: where everything is installed."""
    return bool(os.environ.get("LABELWISE_NO_SKIPS"))


@pytest.fixture(scope="session")
def embedded() -> Path:
    """The folder of the embedded model."""
    return Path(str(files("labelwise") / "builtin" / "minilm-l6-sst2"))
