"""What the documents show is what happens."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

import labelwise
from hub_server import Hub
from labelwise import errors
from labelwise.engine import architectures
from padded import config, write_model, write_tokenizer
from serving import ask, command

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("src/**/README.md")]
    if path.name != "LOG.md"
]
SHOWN = "http://127.0.0.1:8000"  # the address of a server in the documents
NUMBER = re.compile(r"-?\d+\.\d+")
COMMIT = re.compile(r"\b(?=\w*\d)[0-9a-f]{7,40}\b")
PLACE = re.compile(r"^folder .*\n(?: {8,}.*\n)*", re.MULTILINE)  # of a model on this machine


def blocks(language):
    found = [
        pytest.param(block, id=f"{path.relative_to(ROOT)}-{number}")
        for path in DOCUMENTS
        for number, block in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.MULTILINE | re.DOTALL)
        )
    ]
    assert found
    return found


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The address of a server as the documents start it, on another port."""
    with command(tmp_path_factory.mktemp("docs")) as live:
        yield live.url


@pytest.mark.parametrize("block", blocks("python"))
def test_python_examples_run(block, url):
    for name in re.findall(r"^(?:from|import) (transformers|pandas)\b", block, re.MULTILINE):
        pytest.importorskip(name)
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", block.replace(SHOWN, url)],
        env=os.environ | {"HF_HUB_DISABLE_TELEMETRY": "1"},  # else the client asks its Hub for more
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.clients
@pytest.mark.parametrize("block", blocks("js"))
def test_javascript_examples_run(block, url, tmp_path):
    folder = os.environ.get("LABELWISE_CLIENTS") or pytest.skip("LABELWISE_CLIENTS is not set")
    (tmp_path / "node_modules").symlink_to(Path(folder, "js", "node_modules"))
    (tmp_path / "example.mjs").write_text(block.replace(SHOWN, url))
    run = subprocess.run(
        ["node", "example.mjs"],  # noqa: S607
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.stdout, run.stderr) == ("POSITIVE\n", "")


@pytest.mark.parametrize("block", blocks("console"))
def test_console_examples_print_what_is_shown(block, url, cache):
    line, shown = block.removeprefix("$ ").split("\n", 1)
    program, *arguments = shlex.split(line.replace(SHOWN, url))
    if program == "curl":  # which is not everywhere; tests/test_clients.py has it where it is
        assert_alike(asked(*arguments).json, json.loads(shown))
        return
    assert program == "labelwise"
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "labelwise", *arguments],
        env=cache,
        capture_output=True,
        text=True,
        check=True,
    )
    texts = [PLACE.sub("", COMMIT.sub("C", text)) for text in (run.stdout, shown)]
    printed, shown = ([line.rstrip() for line in text.split("\n")] for text in texts)
    assert [NUMBER.sub("N", line) for line in printed] == [NUMBER.sub("N", line) for line in shown]
    numbers = [[float(n) for n in NUMBER.findall("\n".join(x))] for x in (printed, shown)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-4)


@pytest.fixture(scope="module")
def pulled(tmp_path_factory):
    """A Hub with two models, and a cache that has one of them."""
    values = config("bert", vocab_size=20_000) | {"id2label": {0: "bill", 1: "bug", 2: "other"}}
    made = write_tokenizer(write_model(tmp_path_factory.mktemp("made"), values), values)
    files = {path.name: path.read_bytes() for path in made.iterdir()}
    files["README.md"] = b"---\nlicense: apache-2.0\nlanguage: en\n---\n"
    home = tmp_path_factory.mktemp("cache")
    with Hub() as hub:
        for name in ("acme/tickets", "acme/spam"):
            hub.add(name, files)
        pull = [sys.executable, "-m", "labelwise", "pull", "acme/tickets"]
        subprocess.run(pull, env=hub.environment(home), capture_output=True, check=True)  # noqa: S603
        yield hub, home


@pytest.fixture
def cache(pulled, tmp_path):
    """The environment of a command that has a copy of that cache, two hours later."""
    hub, home = pulled
    shutil.copytree(home, tmp_path / "home", symlinks=True)
    for blob in tmp_path.glob("home/hub/*/blobs/*"):
        os.utime(blob, (time.time() - 7500,) * 2)
    return hub.environment(tmp_path / "home")


def asked(address, *options):
    """What curl gets that is given this."""
    given = dict(zip(options[::2], options[1::2], strict=True))
    assert given.keys() <= {"-d", "-H"}
    headers = dict([given["-H"].split(": ")]) if "-H" in given else None
    return ask(address, given["-d"].encode() if "-d" in given else None, headers=headers)


def assert_alike(found, shown):
    """The same JSON, but for the last digits of scores."""
    if isinstance(shown, float):
        assert found == pytest.approx(shown, abs=1e-5)
    elif isinstance(shown, list):
        assert len(found) == len(shown)
        for one, other in zip(found, shown, strict=True):
            assert_alike(one, other)
    elif isinstance(shown, dict):
        assert found.keys() == shown.keys()
        for key, value in shown.items():
            assert_alike(found[key], value)
    else:
        assert found == shown


def test_generated_parts_are_what_the_code_says(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    generate = import_module("generate")
    for (document, part), write in generate.PARTS.items():
        text = (ROOT / "docs" / document).read_text("utf-8")
        assert generate.replaced(text, part, write()) == text, "run: python docs/generate.py"


def test_every_module_has_its_line_in_the_architecture():
    text = (ROOT / "docs/architecture.md").read_text()
    package = ROOT / "src/labelwise"
    for path in package.rglob("*.py"):
        name = str(path.relative_to(package))
        if not path.name.startswith("__") and "architectures/" not in name:
            assert f"| `{name}` |" in text


def test_the_readme_names_every_model_type():
    text = (ROOT / "README.md").read_text().lower()
    assert [kind for kind in architectures.supported() if kind not in text] == []


def test_links_between_documents_lead_somewhere():
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_public_names_are_those_that_are_listed():
    assert [name for name in labelwise.__all__ if not hasattr(labelwise, name)] == []
    with pytest.raises(AttributeError, match="no attribute 'Klassifier'"):
        _ = labelwise.Klassifier


def test_every_error_that_a_classifier_raises_is_a_public_name():
    public = {getattr(labelwise, name) for name in labelwise.__all__ if name in vars(errors)}
    assert public == {
        errors.LabelwiseError,
        errors.BadInput,
        errors.BadModel,
        *errors.BadModel.__subclasses__(),
    }
    assert set(labelwise.__all__) <= set(dir(labelwise))


@pytest.fixture
def tables(monkeypatch):
    """The program that writes the tables of figures."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    return import_module("table")


def test_the_figures_of_the_documents_are_those_of_the_results(tables):
    for document, write in tables.DOCUMENTS.items():
        part = tables.BEGIN + write() + tables.END
        assert part in (ROOT / document).read_text(), "run: python bench/table.py --write"


def test_a_figure_that_misses_its_claim_is_marked(tables):
    missed = [words for words, _, _, met, _ in tables.rows() if not met]
    assert [row for row in tables.figures().splitlines() if "**missed**" in row] == [
        row
        for row in tables.figures().splitlines()
        if any(f"| {words} |" in row for words in missed)
    ]
    compared = {
        "cases": {"lone": {"measured": {"a, b": {"ms": 3.04, "labelwise is times faster": 1.5}}}},
        "figures": {
            "lone, against a": {"met": False, "claimed": 1.75},
            "lone, against b": {"met": False, "claimed": 9},
            "long, against a": {"met": False, "claimed": 9},
        },
    }
    shown = tables.cell(compared, "a, b", "lone", "", "ms", "{:.1f}")
    assert shown == "3.0 (1.50 times, **missed: 1.75 claimed**)"


def test_the_table_of_speeds_is_short(tables):
    rows = [line for line in tables.speeds().splitlines() if line.startswith("| ")]
    assert len(rows) <= 2 * 2 + 12


def test_the_readme_begins_with_the_commands_that_ci_runs():
    """``.ci/newcomer`` takes the first three blocks of a line each as they stand."""
    readme, ci = ((ROOT / name).read_text() for name in ("README.md", ".ci/run"))
    environment, serve, test, *_ = re.findall(r"^```sh\n(.*)\n```$", readme, re.MULTILINE)
    assert environment == "python3 -m venv .venv"
    assert serve.endswith("&& .venv/bin/labelwise serve")
    assert test.endswith("&& .venv/bin/python -m pytest")
    assert ci.rstrip().endswith("python -m pytest")
