"""The figures of the README, from what is in bench/results.

python bench/table.py          # print the table
python bench/table.py --write  # put it into the README

"""

from __future__ import annotations

import json
import sys
from typing import Any

from report import RESULTS, ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- figures: python bench/table.py --write -->\n", "<!-- end of figures -->\n"

# benchmark, how its figure begins, what it is called in the README, and how it is shown;
# of several figures that begin alike, the worst is shown
ROWS = [
    ("compare", "sentences, against toolkit", "transformers' pipeline behind a server", "x"),
    ("compare", "sentences, against infinity", "Infinity, torch or ONNX", "x"),
    ("compare", "sentences, against litserve", "LitServe, batching transformers", "x"),
    ("compare", "sentences, against ort, as", "ONNX Runtime in process, padded batches", "x"),
    (
        "compare",
        "sentences, against ort, sorted",
        "the same, all texts sorted by length first",
        "x",
    ),
    ("compare", "reviews, against toolkit", "reviews up to 512 ids: the pipeline", "x"),
    ("compare", "reviews, against the best", "the best of all, but for sorting", "x"),
    ("compare", "lone, against the best", "one caller, 16 ids: the best server", "x"),
    ("compare", "lone, against ort", "ONNX Runtime in process", "x"),
    ("limits", "reviews", "reviews: of what the products alone allow", "%"),
    ("limits", "lone", "one caller: of the task alone behind bare HTTP", "%"),
    ("steady", "three", "three in ten texts repeated: itself without the cache", "x"),
    ("int8", "distilbert-base", "int8: itself in fp32", "x"),
    (
        "engines",
        "sentences, against transformers",
        "the engine alone, 32 sentences: transformers",
        "x",
    ),
    ("engines", "sentences, against padded export", "a padded ONNX export", "x"),
    ("rate", "effective rate", "effective rate, of the best product", "%"),
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
    ("steady", "growth", "growth of memory over 50,000 texts of 1 to 512 ids", "%1"),
    ("footprint", "distilbert-base, megabytes", "DistilBERT in memory", "MB"),
    ("footprint", "embedded, megabytes", "the embedded model in memory", "MB"),
    ("footprint", "embedded, two copies, megabytes", "the same in a server", "MB"),
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
    """Print the table, or write it into the README."""
    if "--write" not in sys.argv:
        print(table())
        return
    before, rest = README.read_text().split(BEGIN)
    README.write_text(before + BEGIN + table() + END + rest.split(END)[1])


def table() -> str:
    """The figures as Markdown, and where they were measured."""
    names = dict.fromkeys(name for name, *_ in ROWS)
    results = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in names}
    lines = ["| what | measured | claimed |", "| --- | --- | --- |"]
    for name, begin, words, shape in ROWS:
        found = worst(results[name]["figures"], begin)
        sign = "at least" if found["kind"] == "ratio" else "at most"
        value, claim = (SHAPES[shape].format(found[key]) for key in ("value", "claimed"))
        lines.append(f"| {words} | {value} | {sign} {claim} |")
    return "\n".join([*lines, "", *where(results["engines"])]) + "\n"


def worst(figures: dict[str, dict[str, Any]], begin: str) -> dict[str, Any]:
    """Of the figures whose names begin so, the one that is farthest on the wrong side."""
    found = [figure for name, figure in figures.items() if name.startswith(begin)]
    return max(found, key=lambda f: -f["value"] if f["kind"] == "ratio" else f["value"])


def where(result: dict[str, Any]) -> list[str]:
    """The machine and the versions, as a sentence."""
    machine = result["machine"]
    versions = ", ".join(
        f"{key} {machine[key]}" for key in ("onnxruntime", "torch", "transformers")
    )
    return [
        f"{machine['processors']} cores of {machine['processor']}, {versions};",
        f"commit {result['commit']}, {result['date'][:10]}.",
        "Each run stands whole in [bench/results](bench/results).",
    ]


if __name__ == "__main__":
    main()
