"""A server whose event loop hangs ends itself, so that it can be started again."""

from __future__ import annotations

import json
import signal
import sys
import threading

import pytest

from serving import ask, command

HANG = """
import logging
from labelwise.commands.main import main
from labelwise.server import status
from labelwise.server.observe import watchdog

watchdog.PULSE_SECONDS, watchdog.HUNG_PULSES = 0.25, 4

def hang(_):
    {before}
    while True:
        pass

status.describe = hang  # what /openapi.json asks
main(prog_name="labelwise")
"""


def hanging(folder, *arguments, before="pass"):
    """A server that hangs when it is asked for its OpenAPI document."""
    script = folder / "hang.py"
    script.write_text(HANG.format(before=before))
    return command(folder, *arguments, start=(sys.executable, str(script)))


def hang(live):
    """Have the server hang; the exit code with which it ends."""
    with pytest.raises(OSError):  # noqa: PT011 - whichever: the connection ends with the server
        ask(f"{live.url}/openapi.json", timeout=30)
    return live.process.wait(10)


def test_a_hung_event_loop_ends_the_process_with_an_error_and_says_where_it_hangs(tmp_path):
    with hanging(tmp_path) as live:
        assert hang(live) == 1
        [line] = [line for line in live.log.read_text().splitlines() if "CRITICAL" in line]
        said, _, places = line.partition(" It hangs at ")
        assert "the event loop has not turned for 1 s" in said
        assert places.startswith(f"{tmp_path / 'hang.py'}:")


def test_in_json_the_places_are_a_list(tmp_path):
    with hanging(tmp_path, "--log-format", "json") as live:
        assert hang(live) == 1
        said = json.loads(live.log.read_text().splitlines()[-1])
        assert said["level"] == "CRITICAL"
        assert said["trace"][0].startswith(f"{tmp_path / 'hang.py'}:")


@pytest.mark.slow
def test_it_ends_also_where_what_hangs_holds_the_log(tmp_path):
    with hanging(tmp_path, before="logging.getLogger().handlers[0].acquire()") as live:
        assert hang(live) == 1


@pytest.mark.slow
def test_one_that_was_stopped_for_a_while_does_not_hang_and_none_is_watched_at_its_end(tmp_path):
    with hanging(tmp_path) as live:
        live.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(2)
        live.process.send_signal(signal.SIGCONT)
        threading.Event().wait(1)
        assert ask(f"{live.url}/health").status == 200
        live.process.terminate()
        assert live.process.wait(10) == 0
        assert "CRITICAL" not in live.log.read_text()
