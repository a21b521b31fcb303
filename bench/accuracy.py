"""How many sentences of SST-2 the embedded model labels right, called as users call it.

The count on the dev sentences is held against the model's own card.
"""

from __future__ import annotations

import re
import sys
from time import perf_counter
from typing import Any

import models
from labelwise import Classifier
from report import Figure, finish, parser, read, say

PARTS = {"dev": "dev", "test": "test-labeled"}  # the card's name -> the file's


def main() -> None:
    """Count, print, and hold the count against the card."""
    options = read(parser(__doc__))
    classifier = Classifier()
    parts = ["dev"] if options.quick else list(PARTS)
    counts = {part: count(classifier, part) for part in parts}
    card = (classifier.model.location.folder / "README.md").read_text(encoding="utf-8")
    figures = []
    for part, found in counts.items():
        stated, texts = stated_in(card, part)
        assert found["texts"] == texts, f"the card counts {texts} texts of {part}"
        away = abs(found["right"] - stated)
        figures.append(Figure(f"{part}, sentences away from the card", "bound", away, 1))
    finish("accuracy", options, figures, {"counts": counts})


def count(classifier: Classifier, part: str) -> dict[str, Any]:
    """How many texts of a *part* of SST-2 get their label, and how fast."""
    rows = models.sst2(PARTS[part])
    began = perf_counter()
    results = classifier([text for text, _ in rows], top_k=1)
    seconds = perf_counter() - began
    ids = sum(scores.length for scores in results)
    names = ("NEGATIVE", "POSITIVE")
    pairs = zip(results, rows, strict=True)
    right = sum(scores[0].label == names[label] for scores, (_, label) in pairs)
    share = right / len(rows)
    say(f"SST-2 {part}: {right} of {len(rows)} = {share:.4f}, {ids / seconds:.0f} ids/s")
    return {"right": right, "texts": len(rows), "accuracy": share, "ids": ids, "seconds": seconds}


def stated_in(card: str, part: str) -> tuple[int, int]:
    """How many are right, and of how many, as the model's *card* has it for a *part* of SST-2."""
    found = re.search(rf"^\| SST-2 {part} \| (\d+) of (\d+) \|", card, re.MULTILINE)
    if found is None:
        sys.exit(f"the model card states no count for SST-2 {part}")
    return int(found[1]), int(found[2])


if __name__ == "__main__":
    main()
