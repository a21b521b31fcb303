"""The front matter of README.md, which a stranger may have written."""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter

import pytest

from labelwise.models.card import Card
from labelwise.models.files import Files


def card(folder, text):
    """What is read where README.md has this *text*."""
    folder.joinpath("README.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    return Card.read(Files(folder)).values


def front(text):
    return f"---\n{text}\n---\n# A model\n"


def test_texts_and_lists_of_texts_are_read(tmp_path):
    found = card(
        tmp_path, front("license: mit\nlanguage: [en, fr]\ntags:\n- a b\n- c\nwidget: [1]")
    )
    assert found == {"license": "mit", "language": ["en", "fr"], "tags": ["a b", "c"]}


def test_a_text_is_a_text_also_where_yaml_has_another_type_for_it(tmp_path):
    found = card(tmp_path, front("language: no\nlicense_name: 1.0\ntags: [2024-01-01, true, 0x10]"))
    assert found == {
        "language": "no",
        "license_name": "1.0",
        "tags": ["2024-01-01", "true", "0x10"],
    }


@pytest.mark.parametrize("begin", ["---\r\n", "\ufeff---\n", "--- \n"])
def test_the_fence_may_be_written_as_editors_do(tmp_path, begin):
    assert card(tmp_path, f"{begin}license: mit\r\n---\r\n") == {"license": "mit"}


def test_the_embedded_model_has_a_card(embedded):
    found = Card.read(Files(embedded))
    assert found.text("license") == "apache-2.0"
    assert found.texts("language") == ("en",)
    assert "sentiment-analysis" in found.texts("tags")
    assert found.text("license_name") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no front matter\n---\nlicense: mit\n---\n",
        "---\nlicense: mit\n",
        front("license: [mit"),
        front("license: {a: mit}"),
        front("- license"),
        front("license: !!python/object/apply:os.system ['true']\n[: x"),
        front("license: " + "x" * 201),
        front('license: "a\\x1b[31m"'),
        front("license:"),
        front("tags: [[a], {b: c}]"),
        front("tags: &a [*a]"),
        front("? [a]\n: b"),
        front("a: " + "[" * 30_000),
        front("license: \x00"),
        front("a" * 70_000 + ": b\nlicense: mit"),
        b"---\nlicense: \xff\xfe\x00\n---\n",
        front("%YAML 9.9\nx"),
    ],
)
def test_what_is_broken_or_means_something_else_is_left_out(tmp_path, text):
    started = perf_counter()
    assert card(tmp_path, text) == {}
    assert perf_counter() - started < 10


def test_what_is_built_of_itself_again_and_again_takes_no_time(tmp_path):
    """Of such lines a reader that builds values would never come to an end."""
    lists = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40)]
    merges = [f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 9)}]}}" for n in range(1, 40)]
    text = "\n".join(["a0: &a0 [x]", *lists, "b0: &b0 {x: y}", *merges, "license: mit"])
    assert card(tmp_path, front(text)) == {"license": "mit"}


def test_lists_are_bounded(tmp_path):
    assert len(card(tmp_path, front(f"tags: [{', '.join(map(str, range(500)))}]"))["tags"]) == 100


def test_a_file_of_gigabytes_is_read_no_further_than_its_beginning(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(front("license: mit"))
    os.truncate(path, 2**33)
    assert Card.read(Files(tmp_path)).values == {"license": "mit"}


def test_a_link_is_not_read(tmp_path):
    (tmp_path / "other").write_text(front("license: mit"))
    (tmp_path / "README.md").symlink_to(tmp_path / "other")
    assert Card.read(Files(tmp_path)).values == {}


def test_there_need_be_no_card(tmp_path):
    assert Card.read(Files(tmp_path)).values == {}
    Path(tmp_path, "README.md").mkdir()
    assert Card.read(Files(tmp_path)).values == {}
