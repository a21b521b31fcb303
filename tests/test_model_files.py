"""The files of a model that may be handed out: which, and with which hashes."""

from __future__ import annotations

import hashlib
import json
import os
from errno import EMFILE

import pytest

from labelwise.errors import BadFile, FileChanged
from labelwise.models.files import File, Files, Hasher, pointer

COMMIT = "a" * 40


@pytest.fixture
def hasher():
    made = Hasher()
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path):
    """A folder with files of a model and others."""
    home = tmp_path / "model"
    home.mkdir()
    for name in ("config.json", "tokenizer.json", "vocab.txt", "model.safetensors", "README.md"):
        (home / name).write_text(name)
    for name in ("secret.txt", ".env", "pytorch_model.bin", "training_args.bin", "run.py"):
        (home / name).write_text("secret")
    (home / "onnx").mkdir()
    (home / "onnx" / "config.json").write_text("other")
    return home


def names(folder):
    return [file.name for file in Files(folder)]


def test_the_files_are_those_that_are_read_the_vocabulary_and_the_card(folder):
    expected = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "vocab.txt"]
    assert names(folder) == expected


def test_weights_in_parts_come_with_their_index(folder):
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "one.safetensors").write_text("1")
    (folder / "two.safetensors").write_text("2")
    (folder / "three.safetensors").write_text("3")
    found = {"model.safetensors.index.json", "one.safetensors", "two.safetensors"}
    assert set(names(folder)) - found == {"README.md", "config.json", "tokenizer.json", "vocab.txt"}
    assert found < set(names(folder))


def test_an_index_cannot_name_a_file_of_another_folder(folder):
    (folder / "model.safetensors").unlink()
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../x.safetensors"}}))
    with pytest.raises(BadFile):
        Files(folder)


@pytest.mark.parametrize("target", ["secret.txt", "../outside", "/etc/hostname", "config.json"])
def test_a_link_is_no_file_of_the_model(folder, target):
    (folder.parent / "outside").write_text("secret")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to(target)
    assert "README.md" not in names(folder)


def test_links_in_a_circle_pipes_and_folders_are_no_files(folder):
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("README.md")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").mkdir()
    assert names(folder) == ["model.safetensors", "tokenizer.json"]


def test_a_link_to_the_folder_itself_is_followed(folder):
    link = folder.parent / "link"
    link.symlink_to(folder)
    assert names(link) == names(folder)


def snapshot(home, repository="models--org--name"):
    """A snapshot in the Hub's cache: its config.json is a link."""
    found = home / repository / "snapshots" / COMMIT
    found.mkdir(parents=True)
    (home / repository / "blobs").mkdir()
    (home / repository / "blobs" / "1").write_text("blob")
    (found / "config.json").symlink_to("../../blobs/1")
    return found


def test_a_snapshot_of_the_hub_has_links_to_its_own_blobs(tmp_path):
    found = snapshot(tmp_path)
    [file] = Files(found)
    assert file.read(0, 10) == b"blob"
    other = snapshot(tmp_path, "models--org--other")
    (other / "README.md").symlink_to(found.parents[1] / "blobs" / "1")
    (other / "vocab.txt").symlink_to("../../../../outside")
    (tmp_path / "outside").write_text("secret")
    (other.parents[1] / "blobs" / "2").symlink_to(tmp_path / "outside")
    (other / "vocab.json").symlink_to("../../blobs/2")
    assert names(other) == ["config.json"]


def test_blobs_of_what_is_no_repository_are_elsewhere(tmp_path):
    assert names(snapshot(tmp_path, "org--name")) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("longer than before"),
        lambda path: os.utime(path, (1, 1)),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("secret.txt")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["size", "time", "gone", "link", "pipe", "folder"],
)
def test_a_file_that_has_changed_is_not_opened(folder, hasher, change):
    file = Files(folder).get("config.json")
    change(folder / "config.json")
    with pytest.raises(FileChanged, match=r"^config\.json has changed since the model was loaded"):
        file.read()
    with pytest.raises(FileChanged):
        hasher.start(file).result(10)


def test_a_file_that_this_process_may_not_open_for_now_has_not_changed(folder, monkeypatch):
    file = Files(folder).get("config.json")
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(OSError(EMFILE, "too many")))
    with pytest.raises(OSError, match="too many"):
        file.read()


def test_the_error_does_not_say_where_the_file_lies(folder):
    file = Files(folder).get("config.json")
    (folder / "config.json").unlink()
    with pytest.raises(FileChanged) as refused:
        file.read()
    assert str(folder) not in str(refused.value)


def test_parts_of_a_file_are_read(folder):
    file = Files(folder).get("config.json")
    assert (file.read(), file.read(7), file.read(0, 6)) == (b"", b"", b"config")
    assert (file.read(7, 2), file.read(7, 100), file.read(99, 1)) == (b"js", b"json", b"")


def test_the_hashes_are_those_of_git_and_its_large_files(folder, hasher):
    files = Files(folder)
    small = hasher.start(files.get("config.json")).result(10)
    # `git hash-object --stdin` of the same bytes, and of the pointer below.
    assert (small.oid, small.sha256) == ("0cffcb348ff9cec9cd41492a9e5c5a41d86ce96e", None)
    assert small.etag == small.oid
    large = hasher.start(files.get("model.safetensors")).result(10)
    assert large.etag == large.sha256 == hashlib.sha256(b"model.safetensors").hexdigest()
    assert b"size 17" in pointer(large.sha256, 17)
    assert large.oid == "2a9d07eee368602131c79c9a87b2c2e55dd00500"


def test_a_file_is_large_by_its_name_or_its_size(tmp_path):
    large = {"model.safetensors": 1, "a.bin": 1, "spiece.model": 1, "tokenizer.json": 20_000_000}
    small = {"tokenizer.json": 1_000_000, "README.md": 0}
    for sizes, expected in ((large, True), (small, False)):
        for name, size in sizes.items():
            assert File(name, tmp_path / name, size, 0).is_large is expected


def test_a_file_is_hashed_once(folder, hasher):
    first, second = (Files(folder).get("model.safetensors") for _ in range(2))
    assert first is not second
    assert hasher.start(first) is hasher.start(second)
    os.utime(folder / "model.safetensors", (5, 5))
    assert hasher.start(Files(folder).get("model.safetensors")) is not hasher.start(first)


def test_a_file_that_could_not_be_hashed_is_tried_again(folder, hasher):
    file = Files(folder).get("config.json")
    away = folder / "away"
    (folder / "config.json").rename(away)
    with pytest.raises(FileChanged):
        hasher.start(file).result(10)
    away.rename(folder / "config.json")
    assert hasher.start(file).result(10).oid


def test_hashing_ends_with_the_server(folder):
    with (folder / "model.safetensors").open("wb") as weights:
        weights.truncate(2**36)  # takes no room
    hasher = Hasher()
    started = hasher.start(Files(folder).get("model.safetensors"))
    hasher.close()
    hasher._pool.shutdown(wait=True)
    assert started.done()


def test_the_dates_are_those_of_the_files(folder):
    for number, name in enumerate(names(folder)):
        os.utime(folder / name, (1_000 + number, 1_000 + number))
    os.utime(folder / "secret.txt", (9_000, 9_000))
    files = Files(folder)
    assert (files.oldest, files.newest) == (1_000, 1_004)
