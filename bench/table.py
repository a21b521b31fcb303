"""The figures of the README and of docs/speed.md, from what is in bench/results.

python bench/table.py          # print them
python bench/table.py --write  # put them into the two documents

"""

from __future__ import annotations

import json
import sys
from typing import Any

from report import RESULTS, ROOT

BEGIN, END = "<!-- figures: python bench/table.py --write -->\n", "<!-- end of figures -->\n"

# What is compared, by its name in compare.json, and what it is called in the README.
PEERS = {
    "labelwise": "**Labelwise**",
    "toolkit": "transformers' pipeline behind a server",
    "infinity, torch": "Infinity, torch",
    "infinity, onnx": "Infinity, ONNX",
    "litserve": "LitServe, batching transformers",
    "ort, as they come": "ONNX Runtime without a server, padded batches",
    "ort, sorted": "the same, all texts sorted by length first",
}
# A case of compare.json, the head of its column, and the measure of its cells.
CASES = [
    ("sentences", "32 callers, sentences: texts a second", "texts a second", "{:.0f}"),
    ("reviews", "32 callers, long reviews: texts a second", "texts a second", "{:.1f}"),
    ("lone", "one caller, 16 tokens: milliseconds", "p50 ms", "{:.1f}"),
]
# What else a newcomer asks: rows of docs/speed.md, and what they are called in the README.
ASKED = {
    "int8: itself in fp32": "in int8, beside itself in fp32",
    "known texts answered a second": "texts a second, all of them answered before",
    "first answer of `labelwise serve`": "from `labelwise serve` to the first answer",
    "memory with DistilBERT": "memory with DistilBERT",
    "an installation": "an installation on disk",
}
# benchmark, how its figure begins, what it is called in docs/speed.md, and how it is shown;
# of several figures that begin alike, the worst is shown
ROWS = [
    ("compare", "sentences, against toolkit", "sentences: transformers' pipeline, served", "x"),
    ("compare", "sentences, against infinity", "sentences: Infinity, torch or ONNX", "x"),
    ("compare", "sentences, against litserve", "sentences: LitServe, batching transformers", "x"),
    ("compare", "sentences, against ort, as", "sentences: ONNX Runtime in process, padded", "x"),
    ("compare", "sentences, against ort, sorted", "sentences: the same, sorted by length", "x"),
    ("compare", "reviews, against toolkit", "reviews: transformers' pipeline, served", "x"),
    ("compare", "reviews, against the best", "reviews: the best of all, but for sorting", "x"),
    ("compare", "lone, against the best", "one caller, 16 tokens: the best server", "x"),
    ("compare", "lone, against ort", "one caller, 16 tokens: ONNX Runtime in process", "x"),
    ("limits", "reviews", "reviews: of what matrix products alone allow", "%"),
    ("limits", "lone", "one caller: of the task alone behind bare HTTP", "%"),
    ("steady", "three", "three in ten texts repeated: itself without the cache", "x"),
    ("int8", "distilbert-base", "int8: itself in fp32", "x"),
    ("engines", "sentences, against transformers", "engine, 32 sentences: transformers", "x"),
    ("engines", "sentences, against padded export", "engine, 32 sentences: a padded export", "x"),
    ("rate", "effective rate", "effective rate, of the best matrix product", "%"),
    ("parity", "largest difference of a logit", "a logit, away from transformers", "e"),
    ("isolation", "", "a logit, alone or in company", "e"),
    ("int8", "embedded, labels", "labels of SST-2 dev that differ in int8", "%1"),
    ("footprint", "megabytes that an install", "an installation", "MB"),
    ("footprint", "seconds to a first answer", "first answer of the command", "s"),
    ("server", "seconds from start", "first answer of `labelwise serve`", "s"),
    ("server", "milliseconds that HTTP", "what HTTP adds to one text", "ms"),
    ("server", "share of time that the engine is busy, D", "engine busy with 32 callers", "%"),
    ("server", "milliseconds to /health", "`/health` meanwhile, 99 in 100", "ms"),
    ("steady", "known", "known texts answered a second", "n"),
    ("steady", "answers under", "neither 200 nor 429 at 5 times the load", "n"),
    ("steady", "growth", "growth of memory over 50,000 texts of 1 to 512 tokens", "%1"),
    ("footprint", "distilbert-base, megabytes", "memory with DistilBERT", "MB"),
    ("footprint", "embedded, megabytes", "memory with the embedded model", "MB"),
    (
        "footprint",
        "embedded, two copies, megabytes",
        "memory with the embedded model, served",
        "MB",
    ),
]
SHAPES = {
    "x": "{:.2f} times",
    "%": "{:.0%}",
    "e": "{:.0e}",
    "n": "{:,.0f}",
    "MB": "{:.0f} MB",
    "s": "{:.2f} s",
    "ms": "{:.2f} ms",
    "%1": "{:.1%}",
}


def main() -> None:
    """Print the tables, or write them into the documents."""
    for document, write in DOCUMENTS.items():
        if "--write" not in sys.argv:
            print(write())
            continue
        path = ROOT / document
        before, rest = path.read_text().split(BEGIN)
        path.write_text(before + BEGIN + write() + END + rest.split(END)[1])


def speeds() -> str:
    """Texts a second of everybody, and a few other figures, as Markdown; where it was measured."""
    compared = result("compare")
    heads = " | ".join(head for _, head, *_ in CASES)
    lines = [f"| | {heads} |", "| --- |" + " ---: |" * len(CASES)]
    for peer, words in PEERS.items():
        cells = [cell(compared, peer, *case) for case in CASES]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    lines += ["", "| Labelwise alone | |", "| --- | ---: |"]
    shown = {words: value for words, value, *_ in rows()}
    lines += [f"| {words} | {shown[row]} |" for row, words in ASKED.items()]
    return "\n".join([*lines, "", *where(compared)]) + "\n"


def cell(
    compared: dict[str, Any], peer: str, case: str, _head: str, measure: str, shape: str
) -> str:
    """What *peer* reached in a *case*, and how many times as fast Labelwise is."""
    found = compared["cases"][case]["measured"][peer]
    value = shape.format(found[measure])
    if peer == "labelwise":
        return f"**{value}**"
    times = f"{found['labelwise is times faster']:.2f} times"
    for name, figure in compared["figures"].items():
        about, _, against = name.partition(", against ")
        if about == case and peer.startswith(against) and not figure["met"]:
            times += f", **missed: {figure['claimed']:g} claimed**"
    return f"{value} ({times})"


def figures() -> str:
    """All figures beside what is claimed, as Markdown, and the run that each is from."""
    lines = ["| what | measured | claimed | run |", "| --- | ---: | ---: | --- |"]
    for words, value, claim, met, name in rows():
        run = result(name)
        missed = "" if met else ", **missed**"
        lines.append(
            f"| {words} | {value} | {claim}{missed} | "
            f"[{name}](../bench/results/{name}.json), {run['commit']}, {run['date'][:10]} |"
        )
    return "\n".join(lines) + "\n"


def rows() -> list[tuple[str, str, str, bool, str]]:
    """What each row of `ROWS` is about, measured, claimed, whether it is met, and its benchmark."""
    found = []
    for name, begin, words, shape in ROWS:
        figure = worst(result(name)["figures"], begin)
        sign = "at least" if figure["kind"] == "ratio" else "at most"
        value, claim = (SHAPES[shape].format(figure[key]) for key in ("value", "claimed"))
        found.append((words, value, f"{sign} {claim}", figure["met"], name))
    return found


def result(name: str) -> dict[str, Any]:
    """The document that the benchmark *name* ended with."""
    document: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return document


def worst(figures: dict[str, dict[str, Any]], begin: str) -> dict[str, Any]:
    """Of the figures whose names begin so, the one that is farthest on the wrong side."""
    found = [figure for name, figure in figures.items() if name.startswith(begin)]
    return max(found, key=lambda f: -f["value"] if f["kind"] == "ratio" else f["value"])


def where(run: dict[str, Any]) -> list[str]:
    """The machine, the versions and the commit of a *run*, as sentences."""
    machine = run["machine"]
    versions = ", ".join(
        f"{key} {machine[key]}" for key in ("onnxruntime", "torch", "transformers")
    )
    return [
        f"{machine['processors']} cores of {machine['processor']}, {versions};",
        f"the first table at commit {run['commit']}, {run['date'][:10]}.",
    ]


DOCUMENTS = {"README.md": speeds, "docs/speed.md": figures}

if __name__ == "__main__":
    main()
