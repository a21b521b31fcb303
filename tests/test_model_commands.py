"""Commands around models: pull, ls, show, verify and rm, on a cache that the Hub's client made."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from errno import EACCES
from pathlib import Path

import pytest
from click.testing import CliRunner

from hub_server import Hub
from labelwise.commands import printers
from labelwise.commands.main import main
from labelwise.commands.printers import ago, bytes_text
from labelwise.engine import files as engine_files
from labelwise.models import agreement, cached
from labelwise.models.locate import EMBEDDED
from labelwise.models.verified import SUMS
from padded import config, write_model, write_tokenizer
from test_cli import terminal

# Several commands in one process: the client reads its environment once, when it is imported.
COMMANDS = """
import json, sys
from click.testing import CliRunner
from labelwise.commands import printers
from labelwise.commands.main import main

def run(arguments):
    done = CliRunner().invoke(main, arguments)
    return [done.exit_code, done.stdout, done.stderr]

print(json.dumps([run(arguments) for arguments in json.loads(sys.argv[1])]))
"""
# What other programs leave in the cache.
OTHERS = "import huggingface_hub as h, sys; [h.snapshot_download(name) for name in sys.argv[1:]]"
CARD = b"---\nlicense: mit\nlanguage: [en, de]\nlibrary_name: transformers\n---\n# Tickets\n"
LABELS = ("bill", "bug\x1b[31m", "other")  # one of them from a stranger
LARGEST = "model.safetensors"


@dataclass
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@dataclass
class World:
    """A Hub, and a cache that has models of it."""

    hub: Hub
    home: Path
    old: str  # commits of org/tickets
    new: str

    def online(self, *commands, **changes):
        """What *commands* do in a process whose client asks the Hub."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", COMMANDS, json.dumps(commands)],
            env=self.hub.environment(self.home, **changes),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stderr == ""
        return [Ran(*each) for each in json.loads(done.stdout)]

    def snapshot(self, commit):
        return self.repository("tickets") / "snapshots" / commit

    def repository(self, name):
        return self.home / "hub" / f"models--org--{name}"


def small(folder, *labels):
    """The files of a small model."""
    values = config("bert") | {"id2label": dict(enumerate(labels))}
    made = write_tokenizer(write_model(folder, values), values)
    return {path.name: path.read_bytes() for path in made.iterdir()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """The world as it is before each test."""
    home = tmp_path_factory.mktemp("home")
    files = small(tmp_path_factory.mktemp("made"), *LABELS) | {"README.md": CARD}
    with Hub() as hub:
        old = hub.add("org/tickets", files | {"model.onnx": b"x"}, revision="v1")
        new = hub.add("org/tickets", files | {LARGEST: files[LARGEST][:-4] + b"\0\0\0\0"})
        hub.add("org/broken", files | {"config.json": b"{"})
        hub.add("org/gguf", {"config.json": files["config.json"], "model.gguf": b"GGUF"})
        hub.add("org/later", small(tmp_path_factory.mktemp("later"), "a", "b"))
        world = World(hub, home, old, new)
        environment = hub.environment(home) | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        others = [sys.executable, "-c", OTHERS, "org/broken", "org/gguf"]
        subprocess.run(others, env=environment, check=True)  # noqa: S603
        world.pulled = world.online(["pull", "org/tickets@v1", "org/tickets"])
        data = home / "hub" / "datasets--org--tickets" / "snapshots" / ("d" * 40)
        data.mkdir(parents=True)
        (data / "config.json").write_bytes(files["config.json"])
        yield world


@pytest.fixture
def world(filled, tmp_path, monkeypatch):
    """A copy of the filled cache for one test; commands in this process use it."""
    home = tmp_path / "home"
    shutil.copytree(filled.home, home, symlinks=True)
    filled.hub.requests.clear()
    filled.hub.user_agents.clear()
    monkeypatch.setattr(cached, "cache", lambda: home / "hub")
    return World(filled.hub, home, filled.old, filled.new)


@pytest.fixture(autouse=True)
def signals():
    """The handlers of the tests are as before, whatever a command sets."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def run(*arguments):
    """A command in this process, which has no terminal and asks no Hub."""
    done = CliRunner().invoke(main, arguments)
    return Ran(done.exit_code, done.stdout, done.stderr)


def refusal(*arguments):
    """The one line of a command that refuses all."""
    done = run(*arguments)
    assert (done.code, done.out) == (2, "")
    [line] = done.err.splitlines()
    return line


def listed(*arguments):
    return [model["name"] for model in run("ls", "--json", *arguments).json[1:]]


# pull


def test_pull_says_what_is_here_now(filled):
    for done, commit in zip(filled.pulled, (filled.old, filled.new), strict=False):
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"org/tickets at {filled.old[:7]} is here now, ")
        assert done.out.splitlines()[1].startswith(f"org/tickets at {filled.new[:7]} is here now, ")
        assert commit


def test_pull_fetches_what_is_read_and_the_card(world):
    names = {path.name for path in world.snapshot(world.new).iterdir()}
    expected = {"config.json", "tokenizer.json", "tokenizer_config.json", LARGEST, "README.md"}
    assert names == expected


def test_pull_asks_for_the_commit_alone_where_all_is_here(world):
    [again, quiet, as_json] = world.online(
        ["pull", "org/tickets"], ["pull", "-q", "org/tickets"], ["pull", "--json", "org/tickets"]
    )
    assert again.out.startswith(f"org/tickets at {world.new[:7]} was here already, ")
    assert (quiet.out, quiet.err) == ("org/tickets\n", "")
    [known] = as_json.json
    assert known.pop("size") > 1000
    assert known == {"id": "org/tickets", "revision": world.new, "fetched": False}
    about = "/api/models/org/tickets/revision"
    assert {f"{about}/main"} <= {path for _, path in world.hub.requests}
    # Old clients ask for the commit by its hash too.
    assert {path for _, path in world.hub.requests} <= {f"{about}/main", f"{about}/{world.new}"}
    assert all(agent.startswith("labelwise/") for agent in world.hub.user_agents)


def test_a_model_that_cannot_be_pulled_does_not_stop_the_others(world, tmp_path):
    [done] = world.online(["pull", "org/absent", str(tmp_path), EMBEDDED, "org/later", "--json"])
    assert done.code == 2
    absent, folder = done.err.splitlines()
    assert absent.startswith("Error: there is no model org/absent on the Hub")
    assert folder.endswith("is a folder here; there is nothing to fetch")
    assert [(each["id"], each["fetched"]) for each in done.json] == [
        (EMBEDDED, False),
        ("org/later", True),
    ]


def test_pull_does_not_say_that_all_is_well_where_the_hub_cannot_be_asked(world):
    [offline] = world.online(["pull", "org/tickets"], HF_HUB_OFFLINE="1")
    [gone] = world.online(["pull", "org/tickets"], HF_ENDPOINT="http://127.0.0.1:9")
    assert (offline.code, gone.code) == (2, 2)
    begin = "Error: org/tickets cannot be fetched: "
    assert offline.err == f"{begin}HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE once\n"
    assert gone.err == f"{begin}the Hub cannot be reached; check the network and HF_ENDPOINT\n"


# ls


def test_ls_lists_what_can_be_run_and_counts_the_rest(world):
    done = run("ls")
    header, _, first, second, third = done.out.splitlines()
    assert header.split() == ["id", "commit", "size", "last", "used", "type", "labels"]
    assert first.split()[:3] == [EMBEDDED, "46.2", "MB"]
    assert second.split()[:2] == ["org/tickets", world.new[:7]]
    assert third.split()[:2] == ["org/tickets@v1", world.old[:7]]
    assert "just now" in second or "ago" in second
    assert second.endswith("…")  # labels have the room that is left
    assert {len(line.rstrip()) for line in done.out.splitlines()[1:]} <= set(range(81))
    assert done.err == (
        "3 others in the cache are no classifiers that Labelwise runs, or not complete.\n"
    )
    assert world.hub.requests == []


def test_ls_gives_names_that_other_commands_take(world):
    names = run("ls", "-q").out.splitlines()
    assert names == [EMBEDDED, "org/tickets", "org/tickets@v1"]
    shown = [run("show", "--json", name).json for name in names]
    assert [each["revision"] for each in shown] == [None, world.new, world.old]
    assert {each["problem"] for each in shown} == {None}


def test_ls_json_has_all_labels_and_the_time_of_the_last_use(world):
    os.utime(world.snapshot(world.new) / LARGEST, (86_400, 0))
    _, model, _ = run("ls", "--json").json
    assert list(model) == [
        *("name", "id", "revision", "refs", "folder", "model_type", "labels", "size", "last_used")
    ]
    assert model["labels"] == list(LABELS)
    assert (model["refs"], model["model_type"]) == (["main"], "bert")
    assert model["last_used"] == "1970-01-02T00:00:00+00:00"
    files = world.snapshot(world.new).iterdir()
    assert model["size"] == sum(path.stat().st_size for path in files)


def test_a_commit_without_a_branch_is_listed_by_its_hash(world):
    (world.repository("tickets") / "refs" / "v1").unlink()
    assert listed() == ["org/tickets", f"org/tickets@{world.old}"]
    assert f"org/tickets@{world.old[:7]} " in run("ls").out


def test_an_interrupted_download_is_not_listed(world):
    (world.snapshot(world.new) / LARGEST).unlink()
    blob = (world.snapshot(world.old) / LARGEST).resolve()
    assert listed() == ["org/tickets@v1"]
    blob.rename(blob.with_suffix(".incomplete"))  # its link leads nowhere
    assert listed() == []
    assert run("ls").err.startswith("4 others")


def test_weights_in_parts_are_listed_where_all_parts_are_here(world):
    folder = world.snapshot(world.new)
    (folder / LARGEST).rename(folder / "one.safetensors")
    index = folder / f"{LARGEST}.index.json"
    for parts, names in (
        ("one two", ["org/tickets@v1"]),
        ("one", ["org/tickets", "org/tickets@v1"]),
    ):
        files = {name: f"{name}.safetensors" for name in parts.split()}
        index.write_text(json.dumps({"weight_map": files}))
        assert listed() == names


def test_ls_of_no_cache_has_the_embedded_model(world):
    shutil.rmtree(world.home)
    done = run("ls", "-q")
    assert (done.code, done.out, done.err) == (0, f"{EMBEDDED}\n", "")


def test_what_cannot_be_read_is_an_error_or_left_out(world, monkeypatch):
    look, closed = os.scandir, world.repository("tickets") / "snapshots"

    def scandir(folder):
        if Path(folder) == closed:
            raise PermissionError(EACCES, os.strerror(EACCES))
        return look(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    assert listed() == []
    assert refusal("show", "org/tickets").endswith(": Permission denied")
    closed = world.home / "hub"
    line = refusal("ls")
    assert line.startswith("Error: the Hub's cache cannot be read: ")
    assert line.endswith(": Permission denied")


def test_a_cache_that_is_a_file_is_an_error(world):
    shutil.rmtree(world.home / "hub")
    (world.home / "hub").write_text("")
    assert refusal("ls").endswith(": Not a directory")


def test_nothing_of_a_strangers_cache_moves_the_terminal(world):
    hub = world.home / "hub"
    shutil.copytree(world.repository("tickets"), hub / "models--org--\x1b[2J", symlinks=True)
    refs = world.repository("tickets") / "refs"
    (refs / "\x1b[2J").write_text(world.new)
    (refs / "v1").rename(refs / "\u202ev1")
    (world.snapshot(world.new) / "\x1b[2J.txt").symlink_to("nowhere")
    for arguments in (["ls"], ["ls", "-q"], ["ls", "--json"], ["show", "org/tickets"]):
        done = run(*arguments)
        assert done.code == 0
        assert all(c.isprintable() or c == "\n" for c in done.out + done.err)
    for arguments in (["--offline"], ["--offline", "--json"]):
        done = run("verify", "org/tickets", *arguments)
        assert all(c.isprintable() or c == "\n" for c in done.out + done.err)
    assert listed() == ["org/tickets", f"org/tickets@{world.old}"]


def test_hundreds_of_repositories_are_listed_at_once(world, monkeypatch):
    for number in range(300):
        folder = world.home / "hub" / f"models--org--n{number}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text(world.new)
        (folder / "snapshots").mkdir()
        (folder / "snapshots" / world.new).symlink_to(world.snapshot(world.new))  # is not followed
        shutil.copytree(
            world.snapshot(world.new), folder / "snapshots" / world.old, symlinks=number > 0
        )
    opened, look = set(), engine_files.open_any
    monkeypatch.setattr(engine_files, "open_any", lambda path: opened.add(path.name) or look(path))
    began = time.process_time()  # however busy the machine is
    found, others = cached.models()
    assert time.process_time() - began < 5
    assert (len(found), others) == (4, 302)
    assert opened == {"config.json", "main", "v1"}


def test_a_large_file_in_the_place_of_a_configuration_is_not_read(world):
    config_file = world.snapshot(world.new) / "config.json"
    config_file.unlink()
    with config_file.open("wb") as file:
        file.truncate(2**40)
    began = time.perf_counter()
    assert listed() == ["org/tickets@v1"]
    assert time.perf_counter() - began < 2


# show


def test_show_tells_what_is_known(world):
    done = run("show", "org/tickets")
    assert (done.code, done.err) == (0, "")
    facts = {line[:10].strip(): line[10:].strip() for line in done.out.splitlines()}
    assert facts.pop("size").endswith("kB")
    assert facts.pop("parameters").endswith(", stored as F32")
    folder = done.out.replace("\n", "").replace(" ", "")
    assert str(world.snapshot(world.new)) in folder  # which takes several lines
    assert facts.pop("folder")
    facts.pop("", None)
    assert facts == {
        "id": "org/tickets",
        "commit": world.new,
        "type": "bert",
        "labels": "bill, bug?[31m, other",
        "scores": "softmax",
        "reads": "512 tokens of a text",
        "tokenizer": "WordLevel",
        "licence": "mit",
        "languages": "en, de",
        "library": "transformers",
        "int8": "not compared with fp32",
    }
    assert world.hub.requests == []


def test_show_json_has_all_labels_and_the_same_keys_for_all(world, tmp_path):
    many = [f"label-{number}" for number in range(25)]
    folder = tmp_path / "many"
    small(folder, *many)
    whole, part = run("show", "--json", str(folder)).json, run("show", str(folder)).out
    assert whole["labels"] == many
    assert (whole["id"], whole["revision"], whole["license"]) == ("many", None, None)
    assert "label-19 and 5 more" in " ".join(part.split())
    keys = list(run("show", "--json", EMBEDDED).json)
    assert keys == list(whole) == list(run("show", "--json", "org/gguf").json)
    assert world.hub.requests == []


def test_show_says_why_a_model_cannot_be_run(world):
    for name, why in (("gguf", "model.gguf holds GGUF weights."), ("broken", "is not valid JSON")):
        done = run("show", f"org/{name}")
        assert done.code == 0
        assert why in " ".join(done.out.split())
        assert "cannot run" in done.out
        assert "int8" not in done.out
        assert why in run("show", "--json", f"org/{name}").json["problem"]
    assert "mit" in run("show", "org/broken").out  # the card can be read all the same
    (world.snapshot(world.new) / LARGEST).unlink()
    (world.snapshot(world.new) / f"{LARGEST}.index.json").write_text("{}")
    shown = run("show", "--json", "org/tickets").json
    assert (shown["model_type"], shown["labels"]) == ("bert", None)
    assert 'it has no "weight_map" object' in shown["problem"]


def test_show_does_not_fetch(world):
    assert refusal("show", "org/later") == (
        "Error: org/later is not in the Hub's cache; to fetch it: labelwise pull org/later"
    )
    line = refusal("show", "org/tickets@v2")
    assert line == (
        "Error: org/tickets@v2 is not in the Hub's cache, though org/tickets@main is; "
        "to fetch it: labelwise pull org/tickets@v2"
    )
    assert world.hub.requests == []


def test_a_commit_may_be_cut(world):
    shown = run("show", "--json", f"org/tickets@{world.old[:7]}").json
    assert shown["revision"] == world.old
    other = world.old[:7] + "0" * 33
    shutil.copytree(world.snapshot(world.old), world.snapshot(other), symlinks=True)
    assert refusal("show", f"org/tickets@{world.old[:7]}").endswith("2 commits; give more of it")


@pytest.mark.usefixtures("world")
def test_whether_int8_may_be_used_is_shown(monkeypatch):
    class Report:
        suffices = True

    monkeypatch.setattr(agreement, "find", lambda _: Report)
    assert "may be used" in run("show", "org/tickets").out
    Report.suffices = False
    assert "changes too many labels" in run("show", "org/tickets").out


# verify


def flip(path):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_verify_compares_with_the_hub(world):
    flip((world.snapshot(world.new) / LARGEST).resolve())
    (world.snapshot(world.old) / "vocab.txt").write_text("planted")
    offline, changed, planted = world.online(
        ["verify", "--offline", "--json", "org/broken"],
        ["verify", "org/tickets"],
        ["verify", "--json", "org/tickets@v1", "org/absent"],
    )
    assert (offline.json[0]["source"], offline.code) == ("cache", 0)
    assert not any("broken" in path for _, path in world.hub.requests)
    bad, last = changed.out.splitlines()
    where = f"org/tickets at {world.new[:7]}"
    assert bad.startswith(f"{where}: {LARGEST} differs: its hash is ")
    assert last == f"{where}: 4 of 5 files are right, by the hashes that the Hub has"
    assert (changed.code, planted.code) == (1, 1)
    [old] = planted.json
    assert (old["id"], old["revision"], old["source"]) == ("org/tickets", world.old, "hub")
    states = {file["name"]: file["state"] for file in old["files"]}
    assert states.pop("vocab.txt") == "extra"
    assert set(states.values()) == {"same"}
    assert planted.err.startswith("Error: org/absent is not in the Hub's cache")


def test_verify_compares_with_the_names_of_blobs_where_there_is_no_hub(world):
    flip((world.snapshot(world.new) / "config.json").resolve())
    (world.snapshot(world.new) / "mine.txt").write_text("no link")
    [gone] = world.online(["verify", "org/tickets"], HF_ENDPOINT="http://127.0.0.1:9")
    assert run("verify", "--offline", "org/tickets") == gone
    bad, last = gone.out.splitlines()
    assert "config.json differs" in bad
    assert last.endswith(
        " 4 of 6 files are right, by the names of the blobs in the Hub's cache; "
        "without a hash there: 1"
    )
    assert gone.code == 1
    flip((world.snapshot(world.new) / "config.json").resolve())
    assert run("verify", "--offline", "org/tickets").code == 0
    assert world.hub.requests == []


def test_verify_names_files_that_are_gone_or_no_files(world):
    folder = world.snapshot(world.new)
    (folder / "config.json").resolve().unlink()
    pipe = (folder / "tokenizer.json").resolve()
    pipe.unlink()
    os.mkfifo(pipe)
    done = run("verify", "--offline", "--json", "org/tickets")
    states = {file["name"]: file["state"] for file in done.json[0]["files"]}
    assert (states["config.json"], states["tokenizer.json"]) == ("missing", "unreadable")
    assert done.code == 1


def test_verify_reads_no_file_outside_the_cache(world, tmp_path):
    (tmp_path / "outside").write_bytes((world.snapshot(world.new) / "config.json").read_bytes())
    (world.snapshot(world.new) / "config.json").unlink()
    (world.snapshot(world.new) / "config.json").symlink_to(tmp_path / "outside")
    done = run("verify", "--offline", "org/tickets")
    assert "config.json is a link to a place outside the cache\n" in done.out
    assert done.code == 1


def test_verify_shows_progress_to_those_who_see_it(world, monkeypatch):
    monkeypatch.setattr(printers, "shows_progress", lambda: True)
    monkeypatch.setattr(printers, "_WAIT", 0)
    shown = run("verify", "--offline", "org/tickets").err
    assert f"\r100% of {LARGEST}\r" in shown
    assert shown.endswith("\r")
    assert world.hub.requests == []


def test_the_embedded_model_is_compared_with_the_hashes_in_the_package(embedded):
    done = run("verify", EMBEDDED)
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        f"{EMBEDDED}: 6 of 6 files are right, by the hashes that come with Labelwise\n"
    ), "run in its folder: sha256sum *.json *.md *.safetensors > SHA256SUMS"
    [result] = run("verify", "--json", EMBEDDED).json
    names = {path.name for path in embedded.iterdir()}
    assert names == {SUMS, *(file["name"] for file in result["files"])}


def test_a_folder_has_no_hashes(tmp_path):
    assert refusal("verify", str(tmp_path)).endswith("there are no hashes to compare it with")


# rm


def test_rm_removes_all_revisions(world):
    done = run("rm", "--yes", "org/tickets")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("removed org/tickets: 2 revisions, ")
    assert not world.repository("tickets").exists()
    assert (world.home / "hub" / "datasets--org--tickets").exists()
    assert listed() == []


@pytest.mark.usefixtures("world")
def test_json_goes_before_ids():
    assert [
        len(run(*each, "-q", "--json").json) for each in (["ls"], ["rm", "-y", "org/gguf"])
    ] == [3, 1]


def test_rm_of_one_revision_keeps_the_other_whole(world):
    blob = (world.snapshot(world.old) / LARGEST).resolve()
    done = run("rm", "-y", "--json", f"org/tickets@{world.old[:7]}")
    [removed] = done.json
    assert removed == {
        "name": f"org/tickets@{world.old[:7]}",
        "id": "org/tickets",
        "revisions": [world.old],
        "freed": removed["freed"],
    }
    assert removed["freed"] > 100_000
    assert not blob.exists()
    assert listed() == ["org/tickets"]
    assert run("verify", "--offline", "org/tickets").code == 0


def test_rm_takes_the_repository_that_is_named_where_two_have_the_same_commit(world):
    """As they have where one was renamed on the Hub."""
    shutil.copytree(world.repository("tickets"), world.repository("renamed"), symlinks=True)
    for name in ("renamed", "tickets"):
        assert run("rm", "-yq", f"org/{name}").out == f"org/{name}\n"
        assert not world.repository(name).exists()
    assert not list((world.home / "hub").glob("models--org--*e*s"))


def test_rm_of_the_same_commit_leaves_the_other_repository_alone(world):
    for name in ("a", "z"):
        shutil.copytree(world.repository("tickets"), world.repository(name), symlinks=True)
    assert run("rm", "-y", f"org/tickets@{world.new}").code == 0
    assert listed() == ["org/a", "org/a@v1", "org/tickets@v1", "org/z", "org/z@v1"]


@pytest.mark.usefixtures("world")
def test_rm_asks_nobody_where_there_is_no_terminal():
    assert refusal("rm", "org/tickets").endswith("insist with --yes")
    assert listed() == ["org/tickets", "org/tickets@v1"]


def test_rm_leaves_alone_what_is_not_of_the_cache(world, tmp_path, monkeypatch):
    (tmp_path / "org" / "tickets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    done = run("rm", "-y", EMBEDDED, "org/tickets", "org/gone", "org/gguf")
    assert done.code == 2
    part, folder, gone = done.err.splitlines()
    assert part == f"Error: {EMBEDDED} is a part of Labelwise, which only pip removes"
    assert folder.endswith("is a folder of yours, not in the Hub's cache; it is left alone")
    assert gone == "Error: org/gone is not in the Hub's cache"
    assert done.out.startswith("removed org/gguf: 1 revision, ")
    assert (tmp_path / "org" / "tickets").is_dir()
    assert world.repository("tickets").is_dir()


def test_rm_touches_nothing_outside_the_cache(world, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("of the user")
    (world.snapshot(world.old) / "vocab.txt").symlink_to(precious)
    assert refusal("rm", "-y", "org/tickets@v1").endswith(
        f"links to what is not its own: {precious}"
    )
    blobs = world.repository("tickets") / "blobs"
    (world.snapshot(world.old) / "vocab.txt").unlink()
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    assert "links to what is not its own" in refusal("rm", "-y", "org/tickets@v1")
    assert run("rm", "-y", "org/tickets").code == 0
    assert precious.exists()
    assert any((tmp_path / "elsewhere").iterdir())


def test_rm_removes_a_damaged_repository_whole(world):
    (world.snapshot(world.old) / LARGEST).resolve().unlink()
    assert refusal("rm", "-y", "org/tickets@v1").endswith("labelwise rm org/tickets")
    assert run("rm", "-y", "org/tickets").code == 0
    assert not world.repository("tickets").exists()


@pytest.mark.usefixtures("world")
def test_what_could_not_be_removed_is_said(monkeypatch):
    planned = cached.removal("org/tickets")
    monkeypatch.setattr(cached, "removal", lambda _: planned.__class__(**fields(planned)))
    line = refusal("rm", "-y", "org/tickets")
    assert line.startswith("Error: org/tickets is not removed, or not all of it: ")
    assert line.endswith("stays; check its permissions")


def fields(planned):
    """*planned*, but for what it does."""
    return {name: getattr(planned, name) for name in planned.__slots__} | {"execute": lambda: None}


# a terminal


@pytest.fixture
def seen(world, monkeypatch):
    """A world that commands on a terminal see."""
    for name, value in world.hub.environment(world.home).items():
        monkeypatch.setenv(name, value)
    return world


def test_a_narrow_terminal_has_whole_ids_and_no_line_wraps(seen):
    *lines, _ = terminal(40, "ls")
    assert max(map(len, lines)) <= 40
    assert any(line.startswith(f"{EMBEDDED} ") for line in lines)
    assert any(line.split()[:2] == ["org/tickets", seen.new[:7]] for line in lines)
    assert terminal(20, "ls")[2] == "labelwise/minilm-l6…"
    shown = terminal(40, "show", "org/tickets")
    assert max(map(len, shown)) <= 40
    assert seen.new in "".join(line[13:].strip() for line in shown)


def test_rm_asks_on_a_terminal(seen):
    shown = terminal(80, "rm", "org/gguf", answer=b"y\n")
    assert any(line.startswith("org/gguf: 1 revision, ") for line in shown)
    assert any(line.startswith("Remove that, and free ") for line in shown)
    assert "removed org/gguf: 1 revision, " in shown[-1]
    assert not seen.repository("gguf").exists()


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04"])
def test_rm_takes_all_but_a_yes_for_a_no(seen, answer):
    shown = terminal(80, "rm", "org/gguf", answer=answer, code=2)
    assert not any("removed" in line or "Aborted" in line for line in shown)
    assert seen.repository("gguf").exists()


@pytest.mark.usefixtures("seen")
def test_what_pull_says_stands_below_its_bars():
    *bars, said = terminal(80, "pull", "org/later")
    assert "%|" in "".join(bars)
    assert said.startswith("org/later at ")


# words


def test_sizes_and_times_are_for_people():
    sizes = [0, 999, 1000, 46_158_538, 999_949_999, 999_950_000, 10**15]
    shown = ["0 B", "999 B", "1.0 kB", "46.2 MB", "999.9 MB", "1.0 GB", "1000.0 TB"]
    assert [bytes_text(size) for size in sizes] == shown
    now = time.time()
    passed = [0, 59, 61, 7200, 86_400 * 3, 86_400 * 70, 86_400 * 400, -5]
    assert [ago(now - seconds - 0.5) for seconds in passed] == [
        *("just now", "just now", "1 minute ago", "2 hours ago", "3 days ago"),
        *("2 months ago", "1 year ago", "just now"),
    ]
    assert ago(None) == ""
