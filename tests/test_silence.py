"""Nothing of ours talks to anybody unasked, and nothing is left in the home of a user."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hub_server import Hub
from padded import config, write_model, write_tokenizer
from serving import ask, command

ROOT = Path(__file__).resolve().parents[1]
TELEMETRY = (
    "ORT_DISABLE_TELEMETRY",
    "HF_HUB_DISABLE_TELEMETRY",
    "DISABLE_TELEMETRY",
    "DO_NOT_TRACK",
)
IN_PYTHON = "from labelwise import Classifier; print(Classifier()('A delight.')[0].label)"
INT8 = "from labelwise import Classifier; print(Classifier(dtype='int8')('A delight.')[0].label)"
# The runtime reports some nine seconds after it was loaded.
REPORT_SECONDS = 12


def untouched(home):
    """The environment of a user who has set nothing, at home in *home*."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in TELEMETRY and not name.startswith(("HF_", "XDG_", "LABELWISE_", "ORT_"))
    }
    return kept | {"HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", IN_PYTHON),
        ("-c", INT8),
        ("-m", "labelwise", "classify", "A delight."),
    ],
)
def test_a_home_stays_empty(arguments, tmp_path):
    done = subprocess.run(  # noqa: S603
        [sys.executable, *arguments],
        env=untouched(tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "POSITIVE" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_so_does_that_of_a_server(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    with command(tmp_path, environment=untouched(home)) as live:
        assert ask(live.url, b"A delight.").status == 200
    assert list(home.iterdir()) == []


@pytest.mark.slow
def test_a_server_opens_no_socket_but_the_one_that_it_listens_on(tmp_path):
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: whom a server talks to is not seen")
    trace = tmp_path / "trace"
    calls = "trace=socket,connect,sendto,sendmsg,sendmmsg,bind"
    strace = f"{strace} -D -f -qq -e {calls} -o {trace}".split()
    traced = (*strace, sys.executable, "-m", "labelwise")
    with command(tmp_path, environment=untouched(tmp_path / "home"), start=traced) as live:
        assert ask(live.url, b"A delight.").status == 200
        threading.Event().wait(REPORT_SECONDS)
        assert ask(live.url, b"Another delight.").status == 200
    lines = trace.read_text().splitlines()
    assert len([line for line in lines if "socket(AF_INET" in line]) == 1
    assert any("bind(" in line and 'inet_addr("127.0.0.1")' in line for line in lines)
    assert not [line for line in lines if re.search(r"connect\(|AF_INET6|SOCK_DGRAM", line)]
    assert not [line for line in lines if re.search(r"send(to|msg|mmsg)\(.*sa_family", line)]


def test_the_hub_is_asked_for_a_model_alone_and_not_told_what_else_is_installed(tmp_path):
    made = write_tokenizer(write_model(tmp_path / "made", config("bert")), config("bert"))
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    with Hub() as hub:
        hub.add("org/name", files)
        environment = untouched(tmp_path) | hub.environment(tmp_path / "home") | {"AI_AGENT": "x"}
        environment = {k: v for k, v in environment.items() if k not in TELEMETRY}
        subprocess.run(
            [
                sys.executable,
                "-c",
                "from labelwise import Classifier; Classifier('org/name')('w7')",
            ],
            env=environment,
            timeout=60,
            check=True,
        )
        assert hub.requests
        assert all("org/name" in path for _, path in hub.requests)
        assert all(agent.startswith("labelwise/") for agent in hub.user_agents)
        assert not any(word in agent for agent in hub.user_agents for word in ("torch", "agent/"))


def test_the_runtime_is_imported_in_one_place_which_silences_it():
    named = re.compile(r"^\s*import onnxruntime\b", re.MULTILINE)
    found = {
        path.relative_to(ROOT).as_posix()
        for folder in ("src", "bench", "tests")
        for path in (ROOT / folder).rglob("*.py")
        if named.search(path.read_text())
    }
    assert found == {"src/labelwise/engine/onnx/runtime.py"}
