"""Starts and ends of a server under bad conditions: rude callers, signals at the wrong moment, and
systems that have little to give.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from hostile_tools import (
    HEALTH,
    NotHttp,
    Process,
    Wire,
    ask_once,
    check_log,
    chunked,
    needs_proc,
    request,
)
from marks import slow
from serving import ask, command, until

pytestmark = needs_proc

SIGNALS = [signal.SIGTERM, signal.SIGINT]
KNOWN = {k: v for k, v in os.environ.items() if not k.startswith("LABELWISE_")}
LIKE = {"inputs": "I like you"}
WORK = {"inputs": [f"{number} {'a good film ' * 15}" for number in range(64)]}  # about a second
LONG_WORK = {"inputs": [f"{number} {'a good film ' * 100}" for number in range(1_000)]}
RUDE_SECONDS = 15  # for an end with rude callers, at most
SECOND_SIGNAL_SECONDS = 1.5

# What rude callers sent before the end. None of them sends more, or reads anything.
RUDE = {
    "nothing": b"",
    "half a head": HEALTH[:-2],
    "a head without its body": request("/", b"x" * 1_000)[:-1_000],
    "half a body": request("/", b"x" * 1_000)[:-500],
    "half a chunk": chunked(b"x" * 100)[:-50],
    "chunks without an end": chunked(b"x" * 100)[:-5],
    "trailers without an end": chunked(b"x")[:-2] + b"x: y\r\n",
    "idle": HEALTH,
    "never reads": request("/", {"inputs": [f"{number}" for number in range(1_000)]}) * 40,
    "half a body that nobody wants": request("/no", b"x" * 1_000)[:-500],
    "an offer to upgrade": request("/", b"x" * 99, "connection: upgrade", "upgrade: h2c")[:-9],
}


def settle(url):
    """Return when the server has read what was sent to it before."""
    for _ in range(3):
        assert ask_once(url, HEALTH).status == 200


def rude(stack, url, data, count=3):
    for _ in range(count):
        wire = stack.enter_context(Wire(url, receives=4_000))
        wire.flood([data], seconds=0.2, read=False)


def check_end(live, seconds):
    """The server has been told to end: it does in so many *seconds*, with 0 and in silence."""
    began = time.monotonic()
    assert live.process.wait(seconds + 20) == 0
    assert time.monotonic() - began < seconds
    check_log(live.log)


# Ends


@pytest.mark.parametrize(
    "number", [*slow(signal.SIGTERM), pytest.param(signal.SIGINT, marks=pytest.mark.hostile)]
)
def test_rude_callers_of_all_kinds_do_not_keep_a_server_from_ending(number, tmp_path):
    with command(tmp_path) as live, ExitStack() as stack:
        for data in RUDE.values():
            rude(stack, live.url, data)
        admitted = stack.enter_context(Wire(live.url))
        admitted.send(request("/", WORK))
        settle(live.url)
        live.process.send_signal(number)
        assert len(admitted.answer().json) == 64
        check_end(live, RUDE_SECONDS)


@pytest.mark.hostile
@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", RUDE)
def test_a_rude_caller_does_not_keep_a_server_from_ending(kind, number, tmp_path):
    with command(tmp_path) as live, ExitStack() as stack:
        rude(stack, live.url, RUDE[kind], count=20)
        settle(live.url)
        live.process.send_signal(number)
        check_end(live, RUDE_SECONDS)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_server_without_work_ends_at_once(number, tmp_path):
    with command(tmp_path) as live:
        settle(live.url)
        live.process.send_signal(number)
        check_end(live, 2)


@pytest.mark.hostile
@pytest.mark.parametrize("number", SIGNALS)
def test_an_end_takes_what_is_admitted_takes(number, tmp_path):
    with command(tmp_path) as live, Wire(live.url, timeout=120) as one:
        began = time.monotonic()
        one.send(request("/", WORK))
        assert one.answer().status == 200
        work = time.monotonic() - began
        texts = [f"other {text}" for text in WORK["inputs"]]  # not known yet
        one.send(request("/", {"inputs": texts}))
        settle(live.url)
        live.process.send_signal(number)
        check_end(live, 3 * work + 2)
        assert one.answer().status == 200


@pytest.mark.parametrize(
    ("callers", "seconds"), [(20, 1), pytest.param(200, 8, marks=pytest.mark.hostile)]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGINT)])
def test_a_server_ends_under_load_and_no_answer_is_cut_off(number, callers, seconds, tmp_path):
    ended = threading.Event()

    def caller(name):
        found = Counter()
        texts = (request("/", {"inputs": f"{name} {turn} a film"}) for turn in range(100_000))
        with suppress(ConnectionError, EOFError, TimeoutError):  # closed, or not taken any more
            while not ended.is_set():
                with Wire(live.url, timeout=30) as wire:
                    for data in (next(texts), next(texts), next(texts)):
                        wire.send(data)
                        found[wire.answer().status] += 1
        return found

    with (
        command(tmp_path, "--max-waiting-seconds", "2") as live,
        ThreadPoolExecutor(callers) as pool,
    ):
        calls = [pool.submit(caller, name) for name in range(callers)]
        try:
            time.sleep(seconds)
            live.process.send_signal(number)
            check_end(live, RUDE_SECONDS)
        finally:
            ended.set()
        total = sum((call.result() for call in calls), Counter())  # NotHttp where one is cut off
    assert set(total) <= {200, 429}
    assert total[200] > callers


def test_an_answer_that_is_cut_off_would_be_noticed():
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        wire = stack.enter_context(Wire(f"http://127.0.0.1:{server.getsockname()[1]}"))
        with server.accept()[0] as there:
            there.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12345")
        with pytest.raises(NotHttp):
            wire.answer()


@pytest.mark.parametrize("second", [signal.SIGTERM, *slow(signal.SIGINT)])
@pytest.mark.parametrize("first", SIGNALS)
def test_a_second_signal_ends_a_server_at_once(first, second, tmp_path):
    with command(tmp_path) as live, ExitStack() as stack:
        rude(stack, live.url, RUDE["half a body"])
        for _ in range(2):
            stack.enter_context(Wire(live.url)).send(request("/", LONG_WORK))
        settle(live.url)
        live.process.send_signal(first)
        time.sleep(0.3)
        assert live.process.poll() is None  # there is work for longer
        began = time.monotonic()
        live.process.send_signal(second)
        code = live.process.wait(60)
        assert time.monotonic() - began < SECOND_SIGNAL_SECONDS
        assert code not in {-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL}
        check_log(live.log)


@pytest.mark.hostile
@pytest.mark.parametrize("number", SIGNALS)
def test_signals_without_end_leave_no_trace(number, tmp_path):
    with command(tmp_path) as live, Wire(live.url) as wire:
        wire.send(request("/", LONG_WORK))
        settle(live.url)
        while live.process.poll() is None:
            live.process.send_signal(number)
            time.sleep(0.01)
        assert live.process.returncode not in {-signal.SIGABRT, -signal.SIGSEGV}
        check_log(live.log)


# Starts


def started(folder, *arguments, before="", environment=None, streams=""):
    """A shell that becomes the server; the log is in *folder*, unless *streams* lead elsewhere."""
    serve = f"exec {sys.executable} -m labelwise serve {' '.join(arguments)} {streams}"
    with (folder / "serve.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", f"{before}\n{serve}"],
            stdout=log,
            stderr=log,
            cwd=folder,
            env=KNOWN if environment is None else environment,
        )


@contextmanager
def ended(process):
    """Have *process* end with the block, whatever becomes of it."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as place:
        return place.getsockname()[1]


def said(folder):
    return (folder / "serve.log").read_text(errors="replace")


def answers(port):
    with suppress(OSError):
        return ask(f"http://127.0.0.1:{port}/health", timeout=10).status == 200
    return False


def check_serves(process, port):
    """The server comes up, answers, and ends well."""
    until(lambda: process.poll() is not None or answers(port), 60)
    assert process.poll() is None, "it does not serve"
    for inputs in ("I like you", "漢字 é 𝄞", "\x1b[31m", ["good"] * 5):
        assert ask(f"http://127.0.0.1:{port}", {"inputs": inputs}).status == 200
    process.terminate()
    assert process.wait(20) == 0


def check_refuses(process, folder):
    """The server does not come up, and says so in one line."""
    assert process.returncode == 2, said(folder)
    assert re.fullmatch(r"Error: [^\n]{10,500}\n", said(folder)), said(folder)


def begin(process):
    """Return when the first line of the command has run: until then the signals are Python's."""
    at = Path(f"/proc/{process.pid}/status")

    def caught():
        return int(re.search(r"SigCgt:\s*(\w+)", at.read_text())[1], 16) & 2

    last = time.monotonic() + 30
    while not caught():  # by Python
        assert time.monotonic() < last
    while caught():  # by nobody, as the command has it
        assert time.monotonic() < last


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "after", [0, 0.3, *(pytest.param(n / 20, marks=pytest.mark.hostile) for n in range(1, 30))]
)
def test_a_server_that_starts_is_ended_by_a_signal(after, number, tmp_path):
    with ended(started(tmp_path, "--port", "0")) as process:
        begin(process)
        time.sleep(after)
        began = time.monotonic()
        process.send_signal(number)
        code = process.wait(30)
        assert time.monotonic() - began < 10  # two seconds where nothing else runs
    assert code in {0, -number, 128 + number}
    assert "Traceback" not in said(tmp_path)
    assert "Error" not in said(tmp_path)


@pytest.mark.parametrize(
    "_turn", [0, *(pytest.param(n, marks=pytest.mark.hostile) for n in range(1, 6))]
)
def test_of_three_servers_on_one_port_one_serves(_turn, tmp_path):
    port = free_port()
    folders = [tmp_path / name for name in ("one", "two", "three")]
    with ExitStack() as stack:
        for folder in folders:
            folder.mkdir()
        servers = [stack.enter_context(ended(started(one, "--port", str(port)))) for one in folders]
        until(lambda: sum(one.poll() is not None for one in servers) >= 2, 60)
        (serves,) = [one for one in servers if one.poll() is None]
        for server, folder in zip(servers, folders, strict=True):
            if server is not serves:
                check_refuses(server, folder)
                assert f"port {port}" in said(folder)
        check_serves(serves, port)
        greetings = [folder for folder in folders if "serves at" in said(folder)]
        assert greetings == [folders[servers.index(serves)]]


@pytest.mark.parametrize(
    "megabytes",
    [500, *(pytest.param(size, marks=pytest.mark.hostile) for size in range(250, 2_000, 150))],
)
def test_too_little_memory_to_start_is_one_line(megabytes, tmp_path):
    port = free_port()
    before = f"ulimit -v {megabytes * 1_000}"
    with ended(started(tmp_path, "--port", str(port), before=before)) as process:
        until(lambda: process.poll() is not None or answers(port), 60)
        if process.poll() is None:
            check_serves(process, port)
        else:
            check_refuses(process, tmp_path)


@pytest.mark.parametrize(
    "megabytes",
    [200, 204, *(pytest.param(size, marks=pytest.mark.hostile) for size in range(150, 700, 50))],
)
def test_too_little_memory_to_classify_is_one_line(megabytes):
    command = f"ulimit -c 0; ulimit -v {megabytes * 1_000}; exec {sys.executable} -m labelwise"
    run = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", f"{command} classify good"], capture_output=True, check=False, timeout=60
    )
    assert run.returncode in {0, 2}, run.stderr
    if run.returncode == 2:
        assert re.fullmatch(r"Error: there is too little memory[^\n]*\n", run.stderr.decode())


@pytest.mark.parametrize(
    "count", [20, *(pytest.param(n, marks=pytest.mark.hostile) for n in (8, 12, 16, 32))]
)
def test_few_descriptors_are_enough_or_refused(count, tmp_path):
    port = free_port()
    with ended(started(tmp_path, "--port", str(port), before=f"ulimit -n {count}")) as process:
        until(lambda: process.poll() is not None or answers(port), 60)
        if process.poll() is None:
            check_serves(process, port)
            assert "Traceback" not in said(tmp_path)
        else:
            check_refuses(process, tmp_path)


@pytest.mark.parametrize(
    ("limit", "callers"),
    [
        pytest.param(200, 260, marks=pytest.mark.slow),
        pytest.param(200, 900, marks=pytest.mark.hostile),
    ],
)
def test_more_callers_than_descriptors_are_answered(limit, callers, tmp_path):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with ended(started(tmp_path, "--port", str(port), before=f"ulimit -n {limit}")) as process:
        until(lambda: process.poll() is not None or answers(port), 60)
        with ExitStack() as stack, Wire(url) as first:
            first.send(request("/", WORK))
            for _ in range(callers):
                stack.enter_context(Wire(url))
            assert first.answer().status == 200  # the work that is admitted is done
            watched = Process(process.pid)
            before = watched.seconds()
            time.sleep(3)
            assert watched.seconds() - before < 1.5  # nothing turns in circles
            for _ in range(5):
                assert ask_once(url, request("/", LIKE), timeout=10).status in {200, 429}
        until(lambda: answers(port))
        check_serves(process, port)
    assert "Traceback" not in said(tmp_path)
    assert len(said(tmp_path)) < 20_000


@pytest.mark.parametrize(
    "streams", ["<&- >&- 2>&-", *slow("<&-", ">&-", "2>&-", "</dev/null >/dev/full")]
)
def test_a_server_needs_no_standard_streams(streams, tmp_path):
    port = free_port()
    with ended(started(tmp_path, "--port", str(port), streams=streams)) as process:
        check_serves(process, port)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("form", ["text", *slow("json")])
def test_a_full_disk_under_the_log_harms_no_request(form, tmp_path):
    port = free_port()
    log = ["--log-requests", "--log-format", form]
    with ended(started(tmp_path, "--port", str(port), *log, streams="2>/dev/full")) as process:
        until(lambda: process.poll() is not None or answers(port), 60)
        url = f"http://127.0.0.1:{port}"
        for number in range(50):
            assert ask_once(url, request("/", {"inputs": f"{number} film"})).status == 200
            assert ask_once(url, b"nonsense\r\n\r\n").status == 400
        check_serves(process, port)


QUICK = {"the C locale", "no home", "threads"}
ENVIRONMENTS = {
    "the C locale": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "the POSIX locale": {"LC_ALL": "POSIX"},
    "Turkish": {"LC_ALL": "tr_TR.UTF-8"},
    "another encoding": {"LC_ALL": "ja_JP.SJIS", "PYTHONIOENCODING": "shift_jis"},
    "ASCII": {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
    "a locale that is none": {"LC_ALL": "xx_YY.ZZ", "LANG": "?", "LANGUAGE": ":::"},
    "no home": {"HOME": None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None},
    "an empty home": {"HOME": ""},
    "a home that is not there": {"HOME": "/nowhere/at/all"},
    "a home that is a file": {"HOME": "/dev/null"},
    "no folder for passing files": {"TMPDIR": "/nowhere"},
    "another time zone": {"TZ": "Nowhere/None"},
    "no terminal": {"TERM": None, "COLUMNS": "0", "LINES": "-1"},
    "colours": {"FORCE_COLOR": "1", "TERM": "dumb", "NO_COLOR": ""},
    "a proxy": {"http_proxy": "http://127.0.0.1:1", "HTTPS_PROXY": "nonsense", "no_proxy": "*"},
    "threads": {"OMP_NUM_THREADS": "0", "OPENBLAS_NUM_THREADS": "x", "TOKENIZERS_PARALLELISM": "?"},
    "warnings are errors": {"PYTHONWARNINGS": "error"},
    "nearly nothing": {name: None for name in KNOWN if name not in {"PATH", "PYTHONPATH"}},
}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(changes, id=name, marks=[] if name in QUICK else pytest.mark.hostile)
        for name, changes in ENVIRONMENTS.items()
    ],
)
def test_a_server_serves_in_odd_environments(changes, tmp_path):
    port = free_port()
    environment = {k: v for k, v in (KNOWN | changes).items() if v is not None}
    serves = started(tmp_path, "--port", str(port), "--log-requests", environment=environment)
    with ended(serves) as process:
        check_serves(process, port)
    check_log(tmp_path / "serve.log")
    assert "serves at" in said(tmp_path)


def test_a_server_serves_from_a_folder_that_is_gone(tmp_path):
    port = free_port()
    (tmp_path / "gone").mkdir()
    before = f"cd {tmp_path}/gone && rmdir {tmp_path}/gone"
    with ended(started(tmp_path, "--port", str(port), before=before)) as process:
        check_serves(process, port)
