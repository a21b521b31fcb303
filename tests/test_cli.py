"""The command line as a user meets it: each command in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from rich.cells import cell_len

from hub_server import Hub
from labelwise.models.locate import EMBEDDED
from labelwise.offline.examples import SUFFIXES
from marks import slow
from padded import config, write_model, write_tokenizer
from serving import LABELWISE, ask, command, until


def labelwise(*arguments, stdin=b"", env=None):
    return subprocess.run(  # noqa: S603
        [*LABELWISE, *arguments], input=stdin, env=env, capture_output=True, check=False
    )


def one_line(run):
    """The one line of an error; nothing else was printed, and the exit code is 2."""
    assert run.returncode == 2
    assert run.stdout == b""
    [line] = run.stderr.decode().splitlines()
    return line


def terminal(columns, *arguments, stdin=None, answer=b"", code=0):
    """What a terminal of so many *columns* shows, line by line; the command ended with *code*.

    Its user types *answer*.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    known = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "labelwise", *arguments],
        stdin=theirs if stdin is None else subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        env=known | {"TERM": "xterm"},
    ) as run:
        os.close(theirs)
        os.write(ours, answer)
        if stdin is not None:
            run.stdin.write(stdin)
            run.stdin.close()
        shown = b""
        with suppress(OSError):  # what Linux has for the end of a terminal
            while piece := os.read(ours, 65_536):
                shown += piece
    os.close(ours)
    assert run.returncode == code, shown
    return re.sub(r"\x1b\[[0-9;]*m", "", shown.decode()).split("\r\n")[:-1]


def labelled(folder, *labels):
    """A small model with these *labels*."""
    values = config("bert") | {"id2label": dict(enumerate(labels))}
    return str(write_tokenizer(write_model(folder, values), values))


def test_a_text_is_answered_with_all_labels_as_a_table():
    run = labelwise("classify", "I like you. I love you")
    assert (run.returncode, run.stderr) == (0, b"")
    _, _, first, second = run.stdout.decode().splitlines()
    assert first.split()[:2] == ["POSITIVE", "0.9984"]
    assert second.split()[:2] == ["NEGATIVE", "0.0016"]


def test_several_texts_stand_before_their_labels_without_markup():
    run = labelwise("classify", "-k", "1", "[b]Good[/b]\nfilm", "x" * 500)
    lines = run.stdout.decode().splitlines()
    assert lines[2].startswith("[b]Good[/b] film ")
    assert "…" in lines[3]
    assert max(map(len, lines)) <= 80


def test_json_is_a_list_of_labels_for_each_text():
    run = labelwise("classify", "--json", "--top-k", "1", "good", "bad")
    answers = json.loads(run.stdout)
    assert [[score["label"] for score in scores] for scores in answers] == [
        ["POSITIVE"],
        ["NEGATIVE"],
    ]


def test_lines_of_standard_input_are_texts():
    run = labelwise("classify", "--json", stdin="good\r\nbad\n\ncafé".encode())
    assert len(json.loads(run.stdout)) == 4
    assert json.loads(labelwise("classify", "--json").stdout) == []


def test_lines_are_answered_as_they_arrive():
    """A reader of a log that grows does not wait for its end."""
    command = [sys.executable, "-m", "labelwise", "classify", "--json", "-k", "1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:  # noqa: S603
        run.stdin.write(b"good\n")
        run.stdin.flush()
        assert b"POSITIVE" in run.stdout.read1()
        run.stdin.write(b"bad")
        rest, _ = run.communicate()
    assert b"NEGATIVE" in rest


def test_a_dash_is_standard_input():
    assert labelwise("classify", "--json", "-", stdin=b"good\nbad").stdout == (
        labelwise("classify", "--json", stdin=b"good\nbad").stdout
    )
    line = one_line(labelwise("classify", "good", "-"))
    assert line == "Error: - stands for standard input; give it alone, or leave it out"


def test_the_name_of_a_file_is_no_text(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("reviews.csv", "my notes", "good"):
        Path(name).write_text("good\n")
    Path("tickets").mkdir()
    for name, shown in [("reviews.csv", "reviews.csv"), ("my notes", "'my notes'"), ("good",) * 2]:
        line = one_line(labelwise("classify", "fine", name, "bad"))
        assert line.startswith(f"Error: {shown} is a file, not a text; ")
        assert f"labelwise classify < {shown};" in line
        assert line.endswith(f"echo {shown} | labelwise classify")
    line = one_line(labelwise("classify", "tickets"))
    assert line.endswith("a folder with a model is given as --model tickets")


@pytest.mark.parametrize(
    "name", ["no/Such.CSV", *slow(*[f"reveiws{suffix}" for suffix in SUFFIXES])]
)
def test_what_looks_like_a_file_that_is_not_there_is_no_text(name):
    line = one_line(labelwise("classify", name))
    assert line.startswith(f"Error: there is no file {name}; ")
    insisted = labelwise("classify", "--json", stdin=name.encode())
    assert len(json.loads(insisted.stdout)) == 1


def test_texts_may_speak_of_files():
    texts = ["see notes.txt", "http://a.example/x.txt", ".txt", "and/or", "v1.0", "x" * 9_000, ""]
    assert len(json.loads(labelwise("classify", "--json", "--", *texts).stdout)) == len(texts)


@pytest.mark.parametrize("first", [b"good", b"\xef\xbb\xbfgood"])
def test_a_byte_order_mark_before_the_first_line_is_no_text(first):
    run = labelwise("classify", "--json", stdin=first + b"\ngood\n\xef\xbb\xbfgood\n")
    one, other, third = json.loads(run.stdout)
    assert one == other
    assert third  # a mark anywhere else is a character of the text


@pytest.mark.parametrize("encoding", ["utf-16", *slow("utf-16-be", "utf-32")])
def test_another_encoding_is_named_with_what_to_do(encoding):
    stdin = ("\ufeff" * encoding.endswith("be") + "good\nbad\n").encode(encoding)
    name = encoding[:6].upper()
    assert one_line(labelwise("classify", stdin=stdin)) == (
        f"Error: standard input is {name}; make UTF-8 of it, as iconv -f {name} -t UTF-8 does"
    )


@pytest.fixture
def noisy(tmp_path, embedded):
    """A model that says with --verbose that it is loaded: some of its weights are not used."""
    for file in embedded.iterdir():
        (tmp_path / file.name).symlink_to(file)
    values = json.loads((embedded / "config.json").read_text()) | {"num_hidden_layers": 5}
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(values))
    return str(tmp_path)


@contextmanager
def running(*arguments):
    """The command ``classify``, with pipes to talk to it."""
    pipe = subprocess.PIPE
    start = [*LABELWISE, "classify", *arguments]
    with subprocess.Popen(start, stdin=pipe, stdout=pipe, stderr=pipe) as run:  # noqa: S603
        yield run


def talk(run, line, answer):
    """Write a *line* to the command and read until it has given the *answer*."""
    run.stdin.write(line)
    run.stdin.flush()
    printed = b""
    while answer not in printed:
        piece = run.stdout.read1()
        assert piece
        printed += piece
    return printed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_was_printed_until_a_stop_is_whole(number, code, noisy):
    with running("--json") as run:
        printed = talk(run, b"good\nbad\n", b"NEGATIVE")
        run.send_signal(number)
        rest, err = run.communicate()
    assert (run.returncode, len(json.loads(printed + rest)), err) == (code, 2, b"")
    with running("-k", "1") as run:
        printed = talk(run, b"good\nbad\n", b"NEGATIVE")
        run.send_signal(number)
        rest, err = run.communicate()
    assert (run.returncode, len((printed + rest).splitlines()), err) == (code, 4, b"")
    with running("-v", "-m", noisy, "--json", *["word " * 500] * 300) as run:
        while b"weights not used" not in run.stderr.readline():
            assert run.poll() is None
        run.send_signal(number)
        printed, err = run.communicate()
    assert (run.returncode, json.loads(printed), err) == (code, [], b"")


def test_json_is_closed_when_a_later_line_is_broken():
    with running("--json") as run:
        printed = talk(run, b"good\n", b"NEGATIVE")
        rest, err = run.communicate(b"\xff\n")
    assert (run.returncode, len(json.loads(printed + rest))) == (2, 1)
    advice = b"make UTF-8 of it, as iconv does"
    assert err == b"Error: line 2 of standard input is not UTF-8; " + advice + b"\n"


def test_a_stop_that_is_ignored_stays_so():
    """As under nohup, or in the background of a script."""
    code = "import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execvp({0!r}, {1})"
    arguments = [sys.executable, "-m", "labelwise", "classify", "--json", "-k", "1"]
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code.format(sys.executable, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        run.stdin.write(b"good\n")
        run.stdin.flush()
        first = run.stdout.read1()
        run.send_signal(signal.SIGINT)
        rest, _ = run.communicate(b"bad\n")
    assert (run.returncode, len(json.loads(first + rest))) == (0, 2)


@pytest.mark.parametrize("columns", [80, *slow(40, 250)])
def test_bars_are_as_long_as_the_terminal_is_wide(columns):
    alone = terminal(columns, "classify", "I like you. I love you")
    several = terminal(columns, "classify", "good", "x " * 300)
    unknown = terminal(columns, "classify", stdin=b"good\n" + b"x " * 300)
    assert [len(alone), len(several), len(unknown)] == [4, 6, 6]
    assert max(map(cell_len, [*alone, *several, *unknown])) <= columns
    assert alone[2].count("█") == columns - len("POSITIVE    0.9984   ")
    assert several[2].count("█") == unknown[2].count("█") == (columns - 24) // 3


ACTS = [
    "\x1b]0;title\x07",
    "\x9b31mred",
    "\u202egnp.exe",
    "\u2066x\u2069",
    "a\r\nb\u2028c",
    "\ue000\ufeff",
]


@pytest.mark.parametrize("flag", ["--json", *slow("-v")])
@pytest.mark.parametrize("piped", ["text", "label"])
def test_no_output_has_what_a_terminal_acts_upon(piped, flag, tmp_path):
    """Of labels, of texts and of the name of the folder."""
    model = labelled(tmp_path / "na\u202eme\x9b", *ACTS) if piped == "label" else EMBEDDED
    text = b"good" if piped == "label" else "".join(ACTS).replace("\n", "").encode()
    run = labelwise("classify", "-m", model, flag, stdin=text)
    assert run.returncode == 0
    for shown in (run.stdout.decode(), run.stderr.decode()):
        assert all(letter.isprintable() or letter == "\n" for letter in shown)
    if flag == "--json" and piped == "label":
        assert {score["label"] for score in json.loads(run.stdout)[0]} == set(ACTS)


@pytest.mark.parametrize("columns", [30, *slow(80, 250)])
def test_long_labels_and_many_never_wrap(columns, tmp_path):
    labels = ["A label " * 9, "日本語" * 20, *(f"label {number}" for number in range(40))]
    model = labelled(tmp_path, *labels)
    lines = terminal(columns, "classify", "-m", model, "w9 w10")
    assert len(lines) == 2 + len(labels)
    assert max(map(cell_len, lines)) <= columns
    scores = [float(re.search(r"0\.\d{4}", line)[0]) for line in lines[2:]]
    assert sum(scores) == pytest.approx(1, abs=0.01)
    lines = terminal(columns, "classify", "-m", model, "w9 w10 " * 30, "日本語" * 99)
    assert len(lines) == 2 + 2 * len(labels)
    assert max(map(cell_len, lines)) <= columns


def test_large_numbers_have_room():
    lines = terminal(60, "classify", "-f", "none", "I love it", "good")
    assert max(map(cell_len, lines)) <= 60


def test_nothing_that_a_terminal_acts_upon_is_printed(tmp_path, embedded):
    for file in embedded.iterdir():
        (tmp_path / file.name).symlink_to(file)
    values = json.loads((embedded / "config.json").read_text())
    (tmp_path / "config.json").unlink()
    values["id2label"] = {"0": "\x1b[31mred\nlabel", "1": "plain"}
    (tmp_path / "config.json").write_text(json.dumps(values))
    run = labelwise("classify", "-m", str(tmp_path), "\x1b[32mgreen\x07", "b")
    assert run.returncode == 0
    assert len(run.stdout.splitlines()) == 6
    assert not {b"\x1b", b"\x07"} & {bytes([byte]) for byte in run.stdout}


BUFFERED = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")


def shell(line, stdin=b""):
    """Have a shell run *line*, of which the first word is the command; its output is buffered."""
    line = line.replace("labelwise", f"{sys.executable} -m labelwise", 1)
    return subprocess.run(  # noqa: S602
        line, shell=True, input=stdin, env=BUFFERED, capture_output=True, check=False
    )


@full
@pytest.mark.parametrize(
    "arguments", ["--help", "--version", "serve --help", "classify good", "classify --json a b"]
)
def test_a_full_disk_is_one_line(arguments):
    line = one_line(shell(f"labelwise {arguments} >/dev/full"))
    assert line.startswith("Error: the output cannot be written: ")


@full
@pytest.mark.parametrize("arguments", ["--help", "classify --top-k 0 good", "clasify"])
@pytest.mark.parametrize("stream", ["/dev/full", "&-"])
def test_an_error_that_cannot_be_written_is_still_an_exit_code(arguments, stream):
    run = shell(f"labelwise {arguments} >/dev/full 2>{stream}")
    assert (run.returncode, run.stdout, run.stderr) == (2, b"", b"")


@full
@pytest.mark.parametrize("stream", ["/dev/full", "&-"])
def test_an_answer_needs_no_standard_error(stream):
    run = shell(f"labelwise classify --json good 2>{stream}")
    assert (run.returncode, run.stderr) == (0, b"")
    assert len(json.loads(run.stdout)) == 1


@full
def test_a_server_needs_no_standard_error():
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    command = [sys.executable, "-m", "labelwise", "serve", "--port", str(port)]
    with Path("/dev/full").open("wb") as nowhere:
        server = subprocess.Popen(command, stderr=nowhere, env=BUFFERED)  # noqa: S603
    try:
        until(lambda: server.poll() is not None or answers(port))
        assert ask(f"http://127.0.0.1:{port}/health").status == 200
    finally:
        server.terminate()
    assert server.wait(20) == 0


def answers(port):
    with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@pytest.mark.parametrize("arguments", ["classify --json good bad", "--help"])
def test_a_reader_that_leaves_early_is_no_error(arguments):
    run = shell(f"labelwise {arguments} | head -c 3")
    assert (len(run.stdout), run.stderr) == (3, b"")


@pytest.mark.parametrize("line", ["labelwise classify <&-", "labelwise classify good >&-"])
def test_closed_streams_are_one_line(line):
    one_line(shell(line))


def test_lines_before_one_that_is_no_text_are_answered_and_so_is_json():
    good = b"good\n" * 600
    run = labelwise("classify", "--json", "-k", "1", stdin=good + b"\xff\n" + good)
    assert run.returncode == 2
    assert len(json.loads(run.stdout)) == 600
    assert b"line 601 of standard input is not UTF-8; make UTF-8 of it" in run.stderr


def test_a_second_stop_ends_in_silence():
    process = subprocess.Popen(  # noqa: S603
        [*LABELWISE, "classify", "--json"], stdin=subprocess.PIPE, stdout=-1, stderr=-1
    )
    process.stdin.write(b"good\n" * 2000)
    process.stdin.flush()
    assert process.stdout.read(2) == b"[["
    for _ in range(2):
        process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert said == b""
    assert process.returncode in {130, -signal.SIGINT}


@pytest.mark.parametrize("arguments", [("-v", "classify"), *slow(("classify", "--verbose"))])
def test_verbose_stands_before_or_after_the_command(arguments, noisy, tmp_path):
    run = labelwise(*arguments, "-m", noisy, "good")
    assert run.returncode == 0
    loaded, line = run.stderr.decode().splitlines()
    assert loaded.endswith(f": 2 labels, float32, from {noisy}")
    assert "weights not used" in line
    start, flags = ((*LABELWISE, "-v"), []) if arguments[0] == "-v" else (LABELWISE, ["-v"])
    with command(tmp_path, *flags, "--model", noisy, start=start) as live:
        assert live.log.read_text().count("weights not used") == 1


def test_verbose_says_what_is_loaded_and_nothing_of_other_libraries(tmp_path, embedded):
    files = {path.name: path.read_bytes() for path in embedded.iterdir()}
    with Hub() as hub:
        hub.add("some/model", files)
        env = hub.environment(tmp_path)
        run = labelwise("-v", "classify", "-m", "some/model", "good", env=env)
    assert run.returncode == 0
    [line] = run.stderr.decode().splitlines()
    assert line.startswith(f"some/model: 2 labels, float32, from {tmp_path}")


def test_a_function_is_applied_to_the_logits():
    run = labelwise("classify", "--json", "--function-to-apply", "NONE", "good")
    positive, negative = json.loads(run.stdout)[0]
    assert positive["score"] > 1
    assert negative["score"] < 0


def test_truncation_is_said_on_standard_error():
    run = labelwise("classify", "--json", "word " * 600, "short")
    assert len(json.loads(run.stdout)) == 2
    assert run.stderr.decode() == (
        "1 of 2 texts were longer than the 512 tokens that the model reads; "
        "the rest of each was left out.\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", "--model", "./nowhere", "x"], "./nowhere"),
        (["classify", "--top-k", "0", "x"], "--top-k"),
        (["classify", "--function-to-apply", "relu", "x"], "'relu' is not one of 'softmax'"),
        (["classify", "--colour", "x"], "--colour"),
        (["--loud"], "--loud"),
        (["classify", "-9 of 10"], "what is no option, but begins with -, stands after --"),
        (["classify", "--top_k", "1", "x"], "'--top_k'; did you mean --top-k?"),
        (["classify", "--topk=1", "x"], "'--topk'; did you mean --top-k?"),
        (["serve", "--modle", "x"], "did you mean --model?"),
        (["serve", "--acces-token-file", "x"], "did you mean --access-token-file?"),
        (["serve", "--max_texts", "1"], "did you mean --max-texts?"),
        (["compare-int8", "x", "--dta", "x"], "did you mean --data?"),
        (["--verson"], "did you mean --version?"),
        (["clasify", "x"], "there is no command 'clasify'; did you mean classify?"),
        (["serv"], "did you mean serve?"),
        (["good"], "there is no command 'good'; see "),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, said):
    assert said in one_line(labelwise(*arguments))


def test_a_misspelt_option_does_not_show_its_value():
    assert "hf_secret" not in one_line(labelwise("serve", "--acces-token=hf_secret"))


def test_broken_text_is_one_line_and_never_shown():
    line = one_line(labelwise("classify", stdin=b"secret \xff\n"))
    assert line.startswith("Error: line 1 of standard input is not UTF-8; make UTF-8 of it")
    assert "text 1" in one_line(labelwise("classify", b"secret \xff"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "gpt2"}'),
        ("model.safetensors", b"\xff" * 64),
        ("tokenizer.json", b"[]"),
    ],
)
def test_a_broken_model_folder_is_one_line(name, content, tmp_path, embedded):
    for file in embedded.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(content)
    assert one_line(labelwise("classify", "--model", str(tmp_path), "x")).startswith("Error: ")


def test_a_model_of_the_hub_answers_and_goes_on_answering_without_the_hub(tmp_path, embedded):
    files = {path.name: path.read_bytes() for path in embedded.iterdir()}
    with Hub() as hub:
        commit = hub.add("some/model", files)
        environment = hub.environment(tmp_path)
        run = labelwise("classify", "-m", f"some/model@{commit}", "--json", "good", env=environment)
        assert run.stderr == b""
        assert json.loads(run.stdout)[0][0]["label"] == "POSITIVE"
        wrong = labelwise("classify", "-m", "some/other", "good", env=environment)
        assert "there is no model some/other on the Hub" in one_line(wrong)
    again = labelwise("classify", "-m", f"some/model@{commit}", "--json", "good", env=environment)
    assert again.stdout == run.stdout


def test_a_terminal_without_the_characters_still_gets_the_scores(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    run = labelwise("classify", "café", "good")
    assert run.returncode == 0
    assert b"caf?" in run.stdout


def test_help_comes_without_loading_the_engine():
    command = [sys.executable, "-X", "importtime", "-m", "labelwise", "--help"]
    run = subprocess.run(command, capture_output=True, check=True)  # noqa: S603
    assert b"classify" in run.stdout
    for heavy in (b"numpy", b"onnx", b"tokenizers", b"huggingface_hub", b"rich"):
        assert heavy not in run.stderr


def test_the_package_is_imported_in_a_tenth_of_a_second():
    code = "import time; t = time.process_time(); import labelwise; print(time.process_time() - t)"
    took = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)  # noqa: S603
        for _ in range(3)
    ]
    assert min(took) < 0.1


def test_the_first_answer_takes_less_than_the_two_seconds_that_are_promised():
    """Seconds of the processor, which other work on the machine does not add to."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert labelwise("classify", "I like you").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
