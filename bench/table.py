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

# benchmark, figure, what it is called in the README, and how it is shown
ROWS = [
    ("engines", "sentences, against transformers", "32 sentences, against transformers", "x"),
    ("engines", "sentences, against padded export", "32 sentences, against an ONNX export", "x"),
    ("engines", "one text, against transformers", "a text of 16 ids, against transformers", "x"),
    ("engines", "one text, against padded export", "the same, against an ONNX export", "x"),
    ("rate", "effective rate, against the best product", "effective rate", "%"),
    ("rate", "mixed lengths, distilbert, default streams", "mixed lengths against equal ones", "x"),
    ("parity", "largest difference of a logit", "largest difference of a logit", "e"),
    ("isolation", "distilbert-base, difference of a logit", "the same, alone or in company", "e"),
    ("footprint", "megabytes that an install adds", "an installation", "MB"),
    ("footprint", "seconds to a first answer", "first answer of the command", "s"),
    ("footprint", "distilbert-base, megabytes in memory", "DistilBERT in memory", "MB"),
]
SHAPES = {
    "x": "{:.2f}",
    "%": "{:.0%}",
    "e": "{:.0e}",
    "MB": "{:.0f} MB",
    "s": "{:.2f} s",
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
    for name, figure, words, shape in ROWS:
        found = results[name]["figures"][figure]
        sign = "at least" if found["kind"] == "ratio" else "at most"
        value, claim = (SHAPES[shape].format(found[key]) for key in ("value", "claimed"))
        lines.append(f"| {words} | {value} | {sign} {claim} |")
    return "\n".join([*lines, "", *where(results["engines"])]) + "\n"


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
