import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hub_server import Hub
from labelwise.engine.tokenizer import sentencepiece as sentencepiece_files
from labelwise.errors import BadFile, BadInput, ModelNotFound
from labelwise.models.locate import EMBEDDED, locate

# One process for several models: the client reads its environment once, when it is imported.
CLIENT = """
import json, sys
from labelwise.models.locate import locate
from labelwise.errors import LabelwiseError

def answer(model):
    try:
        found = locate(model, progress="--progress" in sys.argv)
    except LabelwiseError as reason:
        return {"error": type(reason).__name__, "message": str(reason)}
    files = sorted(file.name for file in found.folder.iterdir())
    return {"id": found.id, "revision": found.revision, "files": files}

print(json.dumps([answer(model) for model in sys.argv[1:] if model != "--progress"]))
"""
TEXT = {"config.json": b"{}", "tokenizer.json": b'{"a": 1}', "tokenizer_config.json": b'{"b": 2}'}
USELESS = {
    "README.md": b"read me",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"onnx config",
    "tf_model.h5": b"tf",
    "flax_model.msgpack": b"flax",
    "training_args.bin": b"args",
    "optimizer.pt": b"optimizer",
    "pytorch_model.bin": b"pickled",
    "model.fp16.safetensors": b"variant",
}


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


def ask(hub, home, *arguments, **changes):
    """What `locate` answers in a process of its own, whose stderr stays empty."""
    command = [sys.executable, "-W", "error", "-c", CLIENT, *arguments]
    environment = hub.environment(home, **changes)
    done = subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    if "--progress" not in arguments:
        assert done.stderr == ""
    return json.loads(done.stdout), done.stderr


def folder(path, name="model"):
    """A folder that looks like a model."""
    (path / name).mkdir(parents=True)
    (path / name / "config.json").write_text("{}")
    return path / name


def test_nothing_named_is_the_embedded_model():
    found = locate()
    assert found == locate(EMBEDDED)
    assert (found.id, found.revision) == ("labelwise/minilm-l6-sst2", None)
    assert (found.folder / "model.safetensors").is_file()


def test_a_folder_is_found_however_it_is_written(tmp_path, monkeypatch):
    home = folder(tmp_path, "org/name")
    monkeypatch.chdir(tmp_path / "org")
    monkeypatch.setenv("HOME", str(tmp_path))
    for written in [home, str(home), "./name", "name", "~/org/name", "../org/name"]:
        found = locate(written)
        assert (found.id, found.revision) == ("name", None)
        assert found.folder.samefile(home)
    monkeypatch.chdir(home)
    assert locate(".").id == "name"


def test_a_folder_wins_over_an_id_on_the_hub(tmp_path, monkeypatch):
    folder(tmp_path, "org/name")
    monkeypatch.chdir(tmp_path)
    assert locate("org/name").revision is None


def test_a_link_to_a_folder_keeps_its_name(tmp_path):
    (tmp_path / "current").symlink_to(folder(tmp_path, "v12"))
    assert locate(tmp_path / "current").id == "current"


@pytest.mark.parametrize("model", ["./absent", "/absent", "~/absent", "a/b/c", "../x/y"])
def test_what_can_only_be_a_folder_and_is_absent_is_named(model):
    with pytest.raises(ModelNotFound, match="there is no folder"):
        locate(model)


def test_a_folder_without_a_configuration_is_refused(tmp_path):
    with pytest.raises(BadFile, match=r"has no config\.json"):
        locate(tmp_path)


@contextmanager
def without_privileges():
    """Root may look everywhere; somebody else may not."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has other permissions")
def test_a_folder_that_lets_nobody_look_is_said_so(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # what lies above it may be closed to others as well
    closed = folder(tmp_path)
    closed.chmod(0o600)
    with (
        without_privileges(),
        pytest.raises(BadFile, match=r"config\.json cannot be read: Permission denied$"),
    ):
        locate("./model")
    closed.chmod(0o700)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_file_is_not_taken_for_an_id(tmp_path, monkeypatch, kind):
    folder(tmp_path)
    monkeypatch.chdir(tmp_path / "model")
    with pytest.raises(ModelNotFound, match=r"^'config\.json' is not a folder; a model is"):
        locate(kind("config.json"))


@pytest.mark.parametrize("model", [123, ["a"], b"a", True, object()], ids=type)
def test_what_is_no_text_is_refused_by_its_type(model):
    with pytest.raises(BadInput, match=f"or an id on the Hub, not {type(model).__name__}$"):
        locate(model)


def test_the_embedded_model_has_no_revisions():
    with pytest.raises(ModelNotFound, match=f"^{EMBEDDED} comes with Labelwise and has no rev"):
        locate(f"{EMBEDDED}@main")


@pytest.mark.parametrize(
    "model", ["", "a b", "org/name.git", "org/na\0me", "\ud800", "x" * 500, "org/--", "@main"]
)
def test_what_is_no_id_is_refused_in_one_line(model):
    with pytest.raises(ModelNotFound, match="neither a folder here nor an id") as refusal:
        locate(model)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize("revision", ["", "../../secret", "/etc", "a b", "a\nb"])
def test_what_is_no_revision_is_refused(revision):
    with pytest.raises(ModelNotFound, match="after @ comes a branch, a tag or a commit"):
        locate(f"org/name@{revision}")


def test_the_embedded_model_does_not_import_the_client_of_the_hub():
    code = "import sys; from labelwise.models.locate import locate; locate(); print(*sys.modules)"
    command = [sys.executable, "-c", code]
    modules = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    assert "labelwise.models.locate" in modules.split()
    assert "huggingface_hub" not in modules.split()


def test_the_needed_files_are_fetched_once_and_found_without_the_hub(tmp_path):
    with Hub() as hub:
        commit = hub.add("org/name", {**TEXT, **USELESS, "model.safetensors": b"weights"})
        files = sorted([*TEXT, "model.safetensors"])
        (first,), _ = ask(hub, tmp_path, "org/name")
        assert first == {"id": "org/name", "revision": commit, "files": files}
        assert hub.downloads == files

        hub.requests.clear()
        (second,), _ = ask(hub, tmp_path, "org/name")
        assert second == first
        assert hub.downloads == []
    (offline,), _ = ask(hub, tmp_path, "org/name", HF_HUB_OFFLINE="1")
    (unreachable, absent), _ = ask(hub, tmp_path, "org/name", "org/other")
    assert offline == unreachable == first
    assert absent["error"] == "ModelNotFound"
    assert absent["message"] == (
        "org/other is not in the Hub's cache, or not all of it, and the Hub cannot be reached: "
        "check the network and HF_ENDPOINT, or give the path of a folder"
    )


def test_weights_come_in_one_format(hub, tmp_path):
    parts = {f"model-0000{part}-of-00002.safetensors": b"part%d" % part for part in (1, 2)}
    index = json.dumps({"weight_map": dict(zip("ab", parts, strict=True))}).encode()
    old_parts = {name.replace("model-", "pytorch_model-"): b"old" + parts[name] for name in parts}
    old_index = json.dumps({"weight_map": dict(zip("ab", old_parts, strict=True))}).encode()
    new = {"model.safetensors.index.json": index, **parts}
    old = {"pytorch_model.bin.index.json": old_index, **old_parts}
    hub.add("org/pickled", {"config.json": b"{}", "pytorch_model.bin": b"pickled"})
    hub.add("org/parts", {"config.json": b"{}", **new, "pytorch_model.bin": b"pickled", **old})
    hub.add("org/old-parts", {"config.json": b"{}", **old})
    hub.add("org/none", {"config.json": b"{}", "tf_model.h5": b"tf"})
    hub.add("old-name", {"config.json": b"{}", "model.safetensors": b"weights"})
    names = ["org/pickled", "org/parts", "org/old-parts", "org/none", "old-name"]
    (pickled, both, older, none, bare), _ = ask(hub, tmp_path, *names)
    assert pickled["files"] == ["config.json", "pytorch_model.bin"]
    assert both["files"] == sorted(["config.json", "pytorch_model.bin.index.json", *new])
    assert older["files"] == sorted(["config.json", *old])
    assert none["error"] == "BadFile"
    assert "org/none holds no weights: looked for model.safetensors, " in none["message"]
    assert "tf_model.h5 holds TensorFlow weights. Load them with transformers 4" in none["message"]
    assert (bare["id"], bare["files"]) == ("old-name", ["config.json", "model.safetensors"])


def test_what_a_model_on_the_hub_is_is_known_before_its_weights_come(hub, tmp_path):
    config, weights = {"config.json": b"{}"}, {"model.safetensors": b"weights"}
    token = b'{"architectures": ["BertForTokenClassification"]}'
    hub.add("org/adapter", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"adapter"})
    hub.add("org/beside", {**config, **weights, "adapter_config.json": b"{}"})
    hub.add("org/embeds", {**config, **weights, "modules.json": b"[]"})
    hub.add("org/setfit", {**config, **weights, "config_setfit.json": b"{}", "modules.json": b"[]"})
    hub.add("org/tokens", {"config.json": token, **weights})
    hub.add("org/onnx", {**config, "onnx/model.onnx": b"onnx"})
    names = [f"org/{name}" for name in ("adapter", "beside", "embeds", "setfit", "tokens")]
    answers, _ = ask(hub, tmp_path, *names, "org/onnx")
    *kinds, onnx = [answer["message"] for answer in answers]
    for message, said in zip(
        kinds,
        ["an adapter", "an adapter", "sentence-transformers", "SetFit", "BertForTokenClass"],
        strict=True,
    ):
        assert said in message
    assert "onnx/model.onnx holds ONNX weights. Give the model that was exported" in onnx
    assert {answer["error"] for answer in answers[:-1]} == {"UnsupportedModel"}
    assert not any("safetensors" in name for name in hub.downloads)


def test_every_file_that_may_describe_a_tokenizer_is_fetched(hub, tmp_path):
    names = {"vocab.txt", "vocab.json", "merges.txt", *sentencepiece_files.NAMES}
    weights = {"config.json": b"{}", "model.safetensors": b"weights"}
    hub.add("org/name", {**weights, **dict.fromkeys(names, b"x"), "other.model": b"x"})
    (found,), _ = ask(hub, tmp_path, "org/name")
    assert set(found["files"]) == {*weights, *names}


@pytest.mark.parametrize("name", sentencepiece_files.NAMES)
def test_a_folder_is_another_model_when_its_tokenizer_changes(tmp_path, name):
    home = folder(tmp_path)
    shas = [locate(home).sha()]
    for content in (b"one", b"two"):
        (home / name).write_bytes(content)
        shas.append(locate(home).sha())
    assert len(set(shas)) == 3


def test_a_folder_is_the_same_model_whatever_lies_beside_its_files(tmp_path):
    """However large: none of it is read."""
    home = folder(tmp_path)
    for name in ("tokenizer.json", "model.safetensors"):
        (home / name).write_bytes(b"content")
    sha, stamp = locate(home).sha(), locate(home).stamp()
    unused = ["model-old.safetensors", "pytorch_model.bin", "vocab.txt", "model.safetensors.bak"]
    unused += ["model.safetensors.index.json", "tokenizer.model", "pytorch_model-1.bin"]
    for name in unused:
        with (home / name).open("wb") as file:
            file.truncate(2**40)
    began = time.perf_counter()
    assert (locate(home).sha(), locate(home).stamp()) == (sha, stamp)
    assert time.perf_counter() - began < 1


def test_a_file_that_is_too_large_to_be_read_is_not_read_for_its_hash_either(tmp_path):
    home = folder(tmp_path)
    with (home / "vocab.txt").open("wb") as file:
        file.truncate(2**40)
    began = time.perf_counter()
    assert locate(home).sha()
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_is_another_model_when_a_part_of_its_weights_changes(tmp_path, weights):
    home = folder(tmp_path)
    index = {"weight_map": {"a": "first.part", "b": "second.part", "c": "first.part"}}
    (home / f"{weights}.index.json").write_text(json.dumps(index))
    shas = []
    for first, second in ((b"1", b"2"), (b"1", b"3"), (b"2", b"3")):
        (home / "first.part").write_bytes(first)
        (home / "second.part").write_bytes(second)
        shas.append(locate(home).sha())
    (home / f"{weights}.index.json").write_text('{"weight_map": {"a": "first.part"}}')
    shas.append(locate(home).sha())
    (home / weights).write_bytes(b"whole")
    shas.append(locate(home).sha())
    assert len(set(shas)) == 5


def test_a_revision_is_a_branch_a_tag_or_a_commit(hub, tmp_path):
    weights = {"config.json": b"{}", "model.safetensors": b"weights"}
    first = hub.add("org/name", weights)
    branch = hub.add("org/name", {**weights, "vocab.txt": b"a"}, revision="refs/pr/1")
    last = hub.add("org/name", weights)
    names = [f"org/name@{revision}" for revision in (first, "refs/pr/1", "main", "nope", "f" * 40)]
    (old, other, main, absent, no_commit), _ = ask(hub, tmp_path, *names)
    assert [old["revision"], other["revision"], main["revision"]] == [first, branch, last]
    assert "vocab.txt" in other["files"]
    assert absent["error"] == no_commit["error"] == "ModelNotFound"
    assert absent["message"] == "org/name has no revision 'nope' on the Hub"


def test_who_may_not_read_a_model_is_told_of_the_access_token(hub, tmp_path):
    needed = {"access_token": "s3cret"}
    hub.add("org/private", {"config.json": b"{}", "model.safetensors": b"w"}, **needed)
    (private, absent), _ = ask(hub, tmp_path, "org/private", "org/absent")
    (wrong,), _ = ask(hub, tmp_path, "org/private", HF_TOKEN="wrong")  # noqa: S106
    (right,), _ = ask(hub, tmp_path, "org/private", HF_TOKEN="s3cret")  # noqa: S106
    assert private["message"] == wrong["message"]
    assert private["message"].startswith("org/private is gated: ask for access")
    assert "HF_TOKEN" in private["message"]
    assert absent["message"].startswith("there is no model org/absent on the Hub")
    assert right["files"] == ["config.json", "model.safetensors"]


def test_an_unfinished_download_is_not_used_offline_and_finished_online(hub, tmp_path):
    hub.add("org/name", {**TEXT, "model.safetensors": b"weights"})
    ask(hub, tmp_path, "org/name")
    (missing,) = tmp_path.glob("hub/models--org--name/snapshots/*/model.safetensors")
    missing.unlink()
    (offline, absent), _ = ask(hub, tmp_path, "org/name", "org/other", HF_HUB_OFFLINE="1")
    assert offline["error"] in {"ModelNotFound", "BadFile"}  # old clients do not know what lacks
    assert absent["error"] == "ModelNotFound"
    assert "or not all of it, and HF_HUB_OFFLINE is set" in absent["message"]
    (online,), _ = ask(hub, tmp_path, "org/name")
    assert online["files"] == sorted([*TEXT, "model.safetensors"])


def test_weights_are_fetched_after_all_else(hub, tmp_path):
    """An interrupted download is seen as such: it has no weights."""
    hub.add("org/name", {"model.safetensors": b"weights", **TEXT})
    ask(hub, tmp_path, "org/name")
    (*_, last) = (path for method, path in hub.requests if method == "GET")
    assert last.endswith("/model.safetensors")


def test_hostile_repositories_are_refused_in_one_line(hub, tmp_path):
    hub.add("org/broken", {"config.json": b"{}", "model.safetensors.index.json": b"[1"})
    hub.add("org/bare", {"model.safetensors": b"weights"})
    (broken, bare), _ = ask(hub, tmp_path, "org/broken", "org/bare")
    assert broken["error"] == bare["error"] == "BadFile"
    assert "\n" not in broken["message"] + bare["message"]
    assert "model.safetensors.index.json cannot be used" in broken["message"]
    assert "has no config.json" in bare["message"]


def test_an_index_names_files_and_nothing_else(hub, tmp_path):
    """The Hub's client takes names for patterns: a star would fetch all that there is."""
    shards = ["../../../../etc/passwd", "..", "*", "README.m?", "[R]EADME.md", "x" * 256, 3]
    maps = [*({"a": shard} for shard in shards), {}, [], None]
    for number, weight_map in enumerate(maps):
        content = json.dumps({"weight_map": weight_map}).encode()
        files = {**USELESS, "config.json": b"{}", "model.safetensors.index.json": content}
        hub.add(f"org/n{number}", files)
    answers, _ = ask(hub, tmp_path, *(f"org/n{number}" for number in range(len(maps))))
    assert [answer["error"] for answer in answers] == ["BadFile"] * len(maps)
    for answer, shard in zip(answers, shards, strict=False):
        assert f"it names {str(shard)[:80]!r}, which is not a file of its" in answer["message"]
    assert not any("\n" in answer["message"] for answer in answers)
    assert set(hub.downloads) == {"config.json", "model.safetensors.index.json"}


def test_a_cache_that_cannot_be_written_is_named(hub, tmp_path):
    hub.add("org/name", {"config.json": b"{}", "model.safetensors": b"weights"})
    (tmp_path / "file").write_text("no folder")
    (answer,), _ = ask(hub, tmp_path / "file", "org/name")
    assert answer["error"] == "BadFile"
    assert "HF_HOME" in answer["message"]


def test_progress_is_shown_to_those_who_ask_while_something_is_fetched(hub, tmp_path):
    hub.add("org/name", {**TEXT, "model.safetensors": b"weights"})
    _, shown = ask(hub, tmp_path, "org/name", "--progress", TQDM_POSITION="-1")
    _, nothing = ask(hub, tmp_path, "org/name", "--progress", TQDM_POSITION="-1")
    assert nothing == ""
    assert "%|" in shown
    assert "unauthenticated" not in shown


def test_the_embedded_model_is_found_again_in_another_installation():
    elsewhere = replace(locate(), folder=Path("/opt/other/builtin/minilm-l6-sst2"))
    assert elsewhere.again() == locate()


AGAIN = """
import pickle, sys
from labelwise.models.locate import locate

if sys.argv[1] == "dump":
    sys.stdout.write(pickle.dumps(locate("org/name").fixed()).hex())
else:
    found = pickle.loads(bytes.fromhex(sys.argv[2])).again()
    print(found.id, found.revision)
"""


def again(hub, home, *arguments):
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", AGAIN, *arguments],
        env=hub.environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def test_a_place_on_the_hub_is_found_again_by_its_commit(hub, tmp_path):
    first = hub.add("org/name", TEXT | {"model.safetensors": b"one"})
    place = again(hub, tmp_path / "one", "dump")
    hub.add("org/name", TEXT | {"model.safetensors": b"two"})
    hub.requests.clear()
    assert again(hub, tmp_path / "one", "load", place) == f"org/name {first}\n"
    assert hub.requests == []  # the folder is there
    shutil.rmtree(tmp_path / "one")
    assert again(hub, tmp_path / "two", "load", place) == f"org/name {first}\n"
    assert hub.requests
