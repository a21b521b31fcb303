"""Comparing int8 with fp32: the texts, the report, and who is served because of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hub_server import Hub
from labelwise.engine.onnx.int8 import processor_class
from labelwise.errors import BadFile, BadInput
from labelwise.models import agreement
from labelwise.models.locate import EMBEDDED, locate
from labelwise.models.model import Model
from labelwise.offline import compare_int8, examples
from padded import config, write_model, write_tokenizer
from serving import ask, command

LABELS = ("NEGATIVE", "POSITIVE")
SST2 = Path(os.environ.get("LABELWISE_SHARED", ""), "data/sst2-glue/dev.tsv")
DEEP = "[" * 5_000 + "]" * 5_000  # more than every reader bears, or less
REPORT = f"labelwise-int8-{processor_class()}.json"


@pytest.fixture(autouse=True)
def data_folder(tmp_path_factory, monkeypatch):
    """Labelwise's data folder, which is empty."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("XDG_DATA_HOME", str(folder))
    return folder


def small(folder, **changes):
    values = config("bert") | changes
    return write_tokenizer(write_model(folder, values), values)


def words(count=40):
    random = np.random.default_rng(0)
    return [" ".join(f"w{n}" for n in random.integers(5, 300, 8)) for _ in range(count)]


def labelwise(*arguments, **environment):
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "labelwise", *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def refusal(*arguments):
    run = labelwise(*arguments)
    assert (run.returncode, run.stdout) == (2, "")
    [line] = run.stderr.splitlines()
    return line.removeprefix("Error: ")


def write(path, text):
    path.write_bytes(text.encode())
    return path


def test_a_line_is_a_text(tmp_path):
    found = examples.read(write(tmp_path / "a.txt", '\ufeffgood\r\nbad, "or" so\n\ncafé'))
    assert found.texts == ["good", 'bad, "or" so', "", "café"]
    assert found.labels is None


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", 'sentence\tlabel\n"good\t1\nso, so\t0\n'),
        ("a.csv", 'label,sentence\r\n1,"""good"\r\n0,"so, so"\r\n'),
        ("a.jsonl", '{"sentence": "\\"good", "label": 1}\n\n{"sentence": "so, so", "label": "0"}'),
    ],
)
def test_columns_have_names(name, content, tmp_path):
    found = examples.read(write(tmp_path / name, content), label="label")
    assert (found.texts, found.labels, found.column) == (
        ['"good', "so, so"],
        ["1", "0"],
        "sentence",
    )
    assert found.classes(LABELS, several=False) == [{1}, {0}]
    asked = examples.read(tmp_path / name, "sentence")
    assert (asked.texts, asked.labels) == (found.texts, None)


@pytest.mark.parametrize(
    ("cells", "names", "expected"),
    [
        (["1", " 0"], LABELS, [{1}, {0}]),
        (["positive", "NEGATIVE "], LABELS, [{1}, {0}]),
        (["1", "2"], ("1", "2", "3"), [{0}, {1}]),  # names, though they are numbers
        (["0", "2"], ("1", "2", "3"), [{0}, {2}]),  # numbers, for 0 is no name
    ],
)
def test_labels_are_names_or_else_numbers(cells, names, expected):
    found = examples.Examples(["x"] * len(cells), cells, "text", "a.tsv", [2, 3])
    assert found.classes(names, several=False) == expected


def test_several_labels_stand_between_commas(tmp_path):
    rows = [{"text": "a", "tags": [2, 0]}, {"text": "b", "tags": "1"}, {"text": "c", "tags": ""}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    found = examples.read(path, label="tags")
    assert found.classes(("x", "y", "z"), several=True) == [{0, 2}, {1}, set()]


@pytest.mark.parametrize(
    ("name", "content", "columns", "said"),
    [
        ("a.xlsx", "x", {}, "name it .txt, .tsv, .csv, .jsonl or .ndjson"),
        ("a.txt", "", {}, "holds no texts"),
        ("a.tsv", "text\tlabel\n", {}, "{} holds no texts below its first line"),
        ("a.txt", "x", {"label": "y"}, "leave out the columns"),
        ("a.csv", "one,two\n1,2\n", {}, "choose the column of the texts in {}: --text one or two"),
        ("a.csv", "text,sentence\n1,2\n", {}, "--text text or sentence"),
        (
            "a.csv",
            "a,b\n1,2\n",
            {"text": "c"},
            "{} has no column 'c'; its first line names a and b",
        ),
        ("a.csv", "text\n1\n", {"label": "c"}, "{} has no column 'c'; its first line names text"),
        ("a.csv", "a,b\n1,2\n", {}, "--text a or b"),
        ("a.tsv", "text\tb\n1\t2\n3\n", {"label": "b"}, "line 3 of {} has no label in a column"),
        ("a.csv", 'text\n"x', {}, "line 2 of {} cannot be read: "),
        (
            "a.csv",
            "text\na film, not good",
            {},
            "line 2 of {} has 2 cells, but the first line names",
        ),
        ("a.tsv", "text\tlabel\na\tb\tc", {}, "line 2 of {} has 3 cells, but the first line names"),
        ("a.jsonl", '{"text": "x"}\n{', {}, "line 2 of {} is not valid JSON"),
        ("a.jsonl", f'{{"text": "x", "y": {DEEP}}}', {}, "line 1 of {} is not valid JSON"),
        ("a.jsonl", "[1]", {}, "line 1 of {} is not a JSON object"),
        ("a.jsonl", '{"text": 5}', {}, "line 1 of {} has no text in a column 'text'"),
        ("a.jsonl", '{"text": "x", "y": true}', {"label": "y"}, "line 1 of {} has no label"),
    ],
)
def test_what_cannot_be_used_is_said_with_its_line(name, content, columns, said, tmp_path):
    path = write(tmp_path / name, content)
    with pytest.raises(BadInput) as caught:
        examples.read(path, **columns)
    assert said.format(path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_utf8_is_said(tmp_path):
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        examples.read(tmp_path / "a.txt")
    (tmp_path / "a.txt").write_bytes(b"fine\nsecret \xff")
    with pytest.raises(BadInput, match=r"a\.txt is not UTF-8$"):
        examples.read(tmp_path / "a.txt")


@pytest.mark.parametrize(
    "content",
    [
        "I really liked it\nThe second text\n",
        "I really liked it,1\nThe second text,0\n",
        "great,1\nbad,0\n",
        "great,-0.5\nbad,0\n",
        "great,\nbad,POSITIVE\n",
        ",great\n0,bad\n",
    ],
)
def test_a_first_line_of_data_does_not_pass_for_names(content, tmp_path):
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(BadInput) as caught:
        examples.read(path)
    assert f"the first line of {path} must name the columns, and looks like data" in (
        str(caught.value)
    )
    assert "great" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("review\ngood\n", None),
        ("The Review Text\ngood\n", None),
        (",text,1\n0,good,x\n", None),  # as pandas writes its index
        ("What did you think of it?\ngood\n", "What did you think of it?"),
    ],
)
def test_a_first_line_that_may_be_names_is_taken_for_them(content, text, tmp_path):
    assert examples.read(write(tmp_path / "a.csv", content), text).texts == ["good"]


@pytest.mark.parametrize("name", ["a.txt", "a.tsv", "a.csv", "a.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_data(name, tmp_path):
    content = '{"text": "good"}' if name.endswith("l") else "text\ngood"
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert examples.read(tmp_path / name).texts[-1] == "good"
    assert not examples.read(tmp_path / name).texts[0].startswith("\ufeff")
    (tmp_path / name).write_text(content, encoding="utf-16")
    with pytest.raises(BadInput, match=rf"{name} is UTF-16; make UTF-8 of it, as iconv"):
        examples.read(tmp_path / name)


@pytest.mark.parametrize(
    ("cells", "names", "several", "expected"),
    [
        (["it", "IT", "en"], ("it", "IT", "EN"), False, [{0}, {1}, {2}]),
        (["IT"], ("it", "de"), False, [{0}]),
        (["Arts, Entertainment", "News"], ("Arts, Entertainment", "News"), True, [{0}, {1}]),
        (["arts, entertainment"], ("Arts, Entertainment", "News"), True, [{0}]),
        (["a, b", "a,b", "b"], ("a", "b", "a, b"), True, [{2}, {0, 1}, {1}]),
        ([["a, b", "c"], "c"], ("a, b", "c"), True, [{0, 1}, {1}]),
        ([["1"], "0"], ("x", "y"), False, [{1}, {0}]),
        (["ΣΑΣ"], ("σας",), False, [{0}]),
    ],
)
def test_whole_names_as_they_are_written_come_first(cells, names, several, expected):
    found = examples.Examples(["x"] * len(cells), cells, "text", "a.csv", list(range(len(cells))))
    assert found.classes(names, several=several) == expected


@pytest.mark.parametrize(
    ("cell", "names", "said"),
    [
        ("It", ("it", "IT"), "the label may be it or IT; write one of them"),
        ("x", ("x", "x"), "the label may be x or x; write one of them"),
        ("postive", LABELS, "; did you mean POSITIVE?"),
        ("NEGATIV ", LABELS, "; did you mean NEGATIVE?"),
        ("it,postive", LABELS, "; did you mean POSITIVE?"),
    ],
)
def test_a_label_that_is_not_clear_is_said_with_what_is_near(cell, names, said):
    found = examples.Examples(["x"], [cell], "text", "a.csv", [2])
    with pytest.raises(BadInput) as caught:
        found.classes(names, several=True)
    assert str(caught.value).startswith("line 2 of a.csv: the label ")
    assert str(caught.value).endswith(said)


def test_the_line_that_is_named_is_the_one_that_does_not_fit():
    for cells in (["0", "1", "7"], ["POSITIVE", "negative", "x"], [["0"], ["0", "1"], ["7"]]):
        found = examples.Examples(["x"] * 3, cells, "text", "a.csv", [2, 3, 4])
        with pytest.raises(BadInput, match="line 4 of"):
            found.classes(LABELS, several=True)


@pytest.mark.parametrize("cell", ["2", "-1", "secret", "", "0,1", ["0", "1"]])
def test_an_unknown_label_is_said_by_its_line_and_not_shown(cell):
    found = examples.Examples(["x"], [cell], "text", "a.tsv", [7])
    with pytest.raises(BadInput) as caught:
        found.classes(LABELS, several=False)
    assert str(caught.value) == (
        "line 7 of a.tsv: the label is none of the model's, which are NEGATIVE and POSITIVE, "
        "or 0 to 1"
    )


def test_agreement_is_counted_text_by_text(tmp_path):
    location = locate(small(tmp_path))
    exact, inexact = Model(location), Model(location, dtype="int8")
    texts, told = words(), []
    logits = [model.logits(model.encode(texts)) for model in (exact, inexact)]
    best = [each.argmax(axis=1) for each in logits]
    right = [frozenset([number]) for number in best[0]]
    found = agreement.compare(exact, inexact, texts, right, told.append)
    assert sum(told) == found.texts == 40
    assert found.same_label == (best[0] == best[1]).mean()
    assert (found.accuracy_float32, found.accuracy_int8) == (1, found.same_label)
    assert 0 < found.mean_change < found.largest_change < 0.1
    assert found.times_faster > 0
    assert (found.model, found.revision) == (tmp_path.name, location.sha())
    assert found.processor == processor_class()
    assert agreement.compare(exact, inexact, texts[:1]).accuracy_int8 is None


def test_with_several_labels_all_that_apply_must_be_the_same(tmp_path):
    location = locate(small(tmp_path, problem_type="multi_label_classification"))
    exact, inexact = Model(location), Model(location, dtype="int8")
    applies = [model.logits(model.encode(words())) >= 0 for model in (exact, inexact)]
    right = [frozenset(np.flatnonzero(row)) for row in applies[0]]
    assert len(set(map(len, right))) > 1
    found = agreement.compare(exact, inexact, words(), right)
    assert found.same_label == (applies[0] == applies[1]).all(axis=1).mean()
    assert found.accuracy_float32 == 1


def test_numbers_have_no_labels_to_agree_on(tmp_path):
    location = locate(small(tmp_path, problem_type="regression"))
    with pytest.raises(BadInput, match="gives numbers; there are no labels to agree on"):
        agreement.compare(Model(location), Model(location, dtype="int8"), words(2))


def made(location, **changes):
    """A good report for the model at *location*."""
    found = agreement.Agreement(
        location.id, location.sha(), processor_class(), 100, 0.995, 0.1, 0.01, None, None, 1.5,
        "2026-01-01T00:00:00+00:00", "0.1.0",
    )  # fmt: skip
    return replace(found, **changes)


def test_the_report_of_a_users_model_lies_in_its_folder(tmp_path):
    location = locate(small(tmp_path))
    assert agreement.find(location) is None
    path = agreement.write(made(location), location)
    assert path == tmp_path / REPORT
    assert agreement.find(location) == made(location)
    agreement.check(location, str(tmp_path))


def test_the_report_of_a_model_of_the_hub_lies_in_the_data_folder(tmp_path, data_folder):
    location = replace(locate(small(tmp_path)), id="some/model", revision="c0ffee")
    path = agreement.write(made(location), location)
    assert path == data_folder / "labelwise/reports/some/model/c0ffee" / REPORT
    assert agreement.find(location) == made(location)
    assert agreement.find(replace(location, revision="decaf")) is None
    assert not (tmp_path / REPORT).exists()


def test_the_embedded_model_brings_its_report_and_a_newer_one_wins(data_folder, embedded):
    shipped = json.loads((embedded / "labelwise-int8-vnni.json").read_text())
    location = locate()
    assert (shipped["model"], shipped["revision"]) == (EMBEDDED, location.sha())
    assert (shipped["processor"], shipped["texts"]) == ("vnni", 872)
    assert shipped["same_label"] >= 0.99
    assert shipped["accuracy_float32"] - shipped["accuracy_int8"] <= 0.003
    assert (agreement.find(location) is not None) == (processor_class() == "vnni")
    path = agreement.write(made(location, same_label=0.5), location)
    assert data_folder in path.parents
    with pytest.raises(BadInput, match=r"50\.00%"):
        agreement.check(location, EMBEDDED)


def test_a_report_speaks_for_one_state_of_a_model_on_one_class_of_processor(tmp_path):
    location = locate(small(tmp_path))
    agreement.write(made(location, processor="other"), location)
    assert agreement.find(location) is None
    agreement.write(made(location), location)
    assert agreement.find(location)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"changed": 1}))
    assert agreement.find(location) is None


def test_without_a_report_the_command_to_run_is_named(tmp_path):
    location = locate(small(tmp_path / "my model"))
    with pytest.raises(BadInput) as caught:
        agreement.check(location, "./my model")
    command = "labelwise compare-int8 './my model' --data FILE"
    assert f"run: {command}, or insist with --allow-unverified-int8" in str(caught.value)


@pytest.mark.parametrize(("share", "passes"), [(0.99, True), (0.9899, False), (0.0, False)])
def test_99_of_100_texts_must_keep_their_label(share, passes, tmp_path):
    location = locate(small(tmp_path))
    agreement.write(made(location, same_label=share), location)
    if passes:
        agreement.check(location, "x")
        return
    with pytest.raises(
        BadInput, match=r"less than 99%; leave out int8, .* insist with --allow-unverified-int8"
    ):
        agreement.check(location, "x")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"same_label": 2}', b'{"x":' + DEEP.encode(), b"\xff"], ids=len
)
def test_a_broken_report_is_no_report_and_says_so(content, tmp_path):
    location = locate(small(tmp_path))
    (tmp_path / REPORT).write_bytes(content)
    with pytest.raises(BadFile, match="is no report of labelwise compare-int8"):
        agreement.check(location, "x")


def test_a_report_that_cannot_be_written_is_one_line(tmp_path):
    location = locate(small(tmp_path))
    (tmp_path / REPORT).mkdir()
    with pytest.raises(BadInput, match="cannot be written: Is a directory"):
        agreement.write(made(location), location)


def test_the_command_compares_shows_and_keeps(tmp_path):
    folder = small(tmp_path / "tickets")
    model = Model(locate(folder))
    best = model.logits(model.encode(words(60))).argmax(axis=1)
    rows = [f"{text}\tclass-{number}" for text, number in zip(words(60), best, strict=True)]
    data = write(tmp_path / "some.tsv", "\n".join(["text\tlabel", *rows]))
    run = labelwise("compare-int8", folder, "--data", data, "--label", "label")
    assert run.returncode == 0, run.stderr
    shown = run.stdout
    for part in ("texts", "60", "same label", "largest change", "mean change", "right in fp32",
                 "100.00%", "right in int8", "times", processor_class()):  # fmt: skip
        assert part in shown
    assert "The texts are those of the column text.\n" in run.stderr
    assert f"The report is in {folder / REPORT}.\n" in run.stderr
    as_json = labelwise("compare-int8", folder, "--data", data, "--text", "text", "--json")
    report = json.loads(as_json.stdout)
    assert report == json.loads((folder / REPORT).read_text())
    assert (report["accuracy_float32"], report["texts"]) == (None, 60)
    assert "column" not in as_json.stderr


def test_where_int8_is_slower_that_is_said_with_what_to_do(tmp_path, capsys):
    location = locate(small(tmp_path))
    compare_int8._show(made(location, times_faster=0.8))
    assert "int8 is slower here             0.80 times as fast" in capsys.readouterr().out
    compare_int8._show(made(location, times_faster=1.8))
    assert "int8 is faster                  1.80 times" in capsys.readouterr().out
    assert "leave out --dtype int8" in compare_int8._verdict(made(location, times_faster=0.99))
    assert "leave out" not in compare_int8._verdict(made(location, times_faster=1))
    slow_and_wrong = made(location, times_faster=0.8, same_label=0.5)
    assert "not served without --allow-unverified-int8" in compare_int8._verdict(slow_and_wrong)


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    folder = small(tmp_path / "model")
    data = write(tmp_path / "some.csv", "one,two\n1,2\n")
    assert "choose the column" in refusal("compare-int8", folder, "--data", data)
    assert "cannot be read" in refusal("compare-int8", folder, "--data", tmp_path / "none.txt")
    assert "'--data'" in refusal("compare-int8", folder)
    assert "there is no folder" in refusal(
        "compare-int8", "./nowhere", "--data", data, "--text", "one"
    )


def test_int8_is_served_and_used_only_with_a_good_report_or_force(tmp_path):
    folder = small(tmp_path / "model")
    named = f"labelwise compare-int8 {folder} --data FILE"
    assert named in refusal("classify", "-m", folder, "--dtype", "int8", "w9")
    assert named in refusal("serve", f"mine={folder}", "--port", "0", "--dtype", "int8")
    forced = labelwise(
        "classify", "-m", folder, "--dtype", "int8", "--allow-unverified-int8", "--json", "w9"
    )
    assert (forced.returncode, forced.stderr) == (0, "")
    agreement.write(made(locate(folder)), locate(folder))
    used = labelwise("classify", "-m", folder, "--dtype", "int8", "--json", "w9")
    assert (used.returncode, used.stdout) == (0, forced.stdout)
    exact = labelwise("classify", "-m", folder, "--json", "w9")
    assert json.loads(exact.stdout) != json.loads(used.stdout)
    agreement.write(made(locate(folder), same_label=0.9), locate(folder))
    assert "90.00% of 100 texts" in refusal("serve", folder, "--port", "0", "--dtype", "int8")


@pytest.mark.slow
def test_a_model_of_the_hub_is_compared_and_then_used(tmp_path, embedded, data_folder):
    files = {path.name: path.read_bytes() for path in embedded.iterdir() if path.suffix != ".md"}
    data = write(tmp_path / "some.txt", "A delight.\nTwo hours I will not get back.\n")
    with Hub() as hub:
        commit = hub.add("some/model", files)
        environment = hub.environment(tmp_path / "hub")
        refused = labelwise("classify", "-m", "some/model", "--dtype", "int8", "x", **environment)
        assert refused.returncode == 2
        assert "labelwise compare-int8 some/model --data FILE" in refused.stderr
        compared = labelwise("compare-int8", "some/model", "--data", data, **environment)
        assert compared.returncode == 0, compared.stderr
        used = labelwise("classify", "-m", "some/model", "--dtype", "int8", "x", **environment)
        assert used.returncode == 0, used.stderr
    assert (data_folder / "labelwise/reports/some/model" / commit / REPORT).is_file()


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_server_says_what_it_computes_in(dtype, tmp_path):
    with command(tmp_path, "--dtype", dtype, "--allow-unverified-int8") as live:
        told = ask(f"{live.url}/info").json
        assert (told["model_dtype"], told["device"]) == (dtype, "cpu")
        [[best, _]] = ask(live.url, {"inputs": "I like you. I love you"}).json
        assert (best["label"], best["score"] > 0.99) == ("POSITIVE", True)


@pytest.mark.skipif("LABELWISE_SHARED" not in os.environ, reason="no data")
@pytest.mark.slow
def test_the_shipped_report_is_what_the_command_finds():
    run = labelwise("compare-int8", EMBEDDED, "--data", SST2, "--label", "label", "--json")
    found = json.loads(run.stdout)
    expected = json.loads((locate().folder / "labelwise-int8-vnni.json").read_text())
    for key in ("model", "revision", "texts", "accuracy_float32"):
        assert found[key] == expected[key]
    assert found["same_label"] >= 0.99
    if processor_class() != "plain":
        assert found["mean_change"] == pytest.approx(expected["mean_change"], rel=0.05)
