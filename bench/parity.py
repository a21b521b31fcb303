"""How far the engine's logits are from those of transformers, computed beside it in fp32.

Six model types, with random weights; texts of 1 to 512 ids, pairs where the type reads token
types; one label, two, several; and the scores of the whole path beside those of transformers' own
pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, pipeline
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

import models
from labelwise import Classifier
from labelwise.engine.cpus import Streams, available
from labelwise.engine.packing import pack
from labelwise.engine.tokenizer.tokenizer import Encoded
from padded import MODEL_TYPES, config
from report import Figure, finish, parser, read, say

if TYPE_CHECKING:
    from pathlib import Path

BOUND = 1e-4
LENGTHS = (1, 2, 3, 7, 16, 31, 64, 100, 129, 200, 333, 511, 512)
QUICK_LENGTHS = (1, 2, 64, 512)
SIZES = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "intermediate_size": 1024,
    "vocab_size": 2000,
}
FUNCTIONS = (None, "softmax", "sigmoid", "none")
SENTENCES = ["I like you. I love you", "", "No.", "a gorgeous , witty , seductive movie . " * 9]
PAIRS = [("Is it raining?", "It is."), ("One.", "Two " * 300)]


@dataclass(frozen=True, slots=True)
class Head:
    """How many labels a model has, and what its configuration calls its problem."""

    labels: int
    problem_type: str | None

    def __str__(self) -> str:
        return f"{self.labels} labels, {self.problem_type or 'no problem type'}"


HEADS = (
    Head(2, None),
    Head(28, "multi_label_classification"),
    Head(1, None),
    Head(1, "regression"),
    Head(3, "regression"),
    Head(5, "single_label_classification"),
)


def main() -> None:
    """Compare, print, and hold the differences against the bound."""
    options = read(parser(__doc__))
    disable_progress_bar()
    set_verbosity_error()  # it recommends what the texts here do on purpose
    torch.set_num_threads(available())
    lengths = QUICK_LENGTHS if options.quick else LENGTHS
    by_model: dict[str, float] = {}
    for model_type in MODEL_TYPES:
        for head in HEADS[:3]:
            values = configuration(model_type, head, **SIZES)
            by_model[f"{model_type}, {head}"] = compare_logits(values, options.folder, lengths)
    by_model["distilbert-base"] = compare_logits(models.DISTILBERT, options.folder, lengths)
    by_head = {str(head): compare_scores(head, options.folder) for head in HEADS}
    figures = [
        Figure("largest difference of a logit", "bound", max(by_model.values()), BOUND),
        Figure("largest difference of a score", "bound", max(by_head.values()), BOUND),
    ]
    details = {"logits": by_model, "scores": by_head, "lengths": lengths}
    finish("parity", options, figures, details, used=("torch", "transformers"))


def configuration(model_type: str, head: Head, **sizes: int) -> dict[str, Any]:
    """The ``config.json`` of a model of these *sizes* with this *head*."""
    narrow = {"embedding_size": 128} if model_type == "electra" else {}
    values = config(model_type, head.labels, **sizes, **narrow)
    return values | ({"problem_type": head.problem_type} if head.problem_type else {})


def compare_logits(values: dict[str, Any], folder: Path, lengths: tuple[int, ...]) -> float:
    """The largest difference over texts of these *lengths*, each alone and all in one batch."""
    at = models.folder(values, folder)
    texts = texts_for(values, lengths)
    expected = transformers_logits(at, texts)
    worst = 0.0
    for streams in {Streams(1, 1), Streams(1, available())}:
        runner = models.runner(at, streams)
        alone = np.concatenate([runner.run(pack([text])) for text in texts])
        for logits in (alone, runner.run(pack(texts))):
            worst = max(worst, float(np.abs(logits - expected).max()))
    say(f"{values['model_type']:12} {len(values['id2label']):2} labels: {worst:.1e} of a logit")
    return worst


def texts_for(values: dict[str, Any], lengths: tuple[int, ...]) -> list[Encoded]:
    """Texts of any ids the model knows; with token types, a second part that begins anywhere."""
    texts = models.texts(lengths, words=values["vocab_size"])
    if values["model_type"] not in {"bert", "electra"}:
        return texts
    random = np.random.default_rng(1)
    return [
        Encoded(
            text.ids, (np.arange(len(text)) >= random.integers(0, len(text) + 1)) * 1, len(text)
        )
        for text in texts
    ]


def transformers_logits(at: Path, texts: list[Encoded]) -> np.ndarray:
    """What transformers gives for each text by itself, ``(texts, labels)``."""
    model = AutoModelForSequenceClassification.from_pretrained(at, dtype=torch.float32).eval()
    rows = []
    for text in texts:
        feed = {"input_ids": torch.from_numpy(text.ids)[None]}
        feed["attention_mask"] = torch.ones_like(feed["input_ids"])
        if text.types.any():  # without them transformers takes all for 0
            feed["token_type_ids"] = torch.from_numpy(text.types)[None]
        with torch.inference_mode():
            rows.append(model(**feed).logits[0].numpy())
    return np.stack(rows)


def compare_scores(head: Head, folder: Path) -> float:
    """The largest difference from transformers' pipeline, over texts, pairs and functions."""
    sizes = SIZES | {"hidden_size": 64, "intermediate_size": 128, "vocab_size": models.WORDS}
    at = models.folder(configuration("bert", head, **sizes), folder)
    ours = Classifier(at)
    theirs = pipeline("text-classification", str(at), dtype=torch.float32, device="cpu")
    feeds: list[tuple[Any, Any]] = [(text, text) for text in SENTENCES]
    feeds += [(pair, {"text": pair[0], "text_pair": pair[1]}) for pair in PAIRS]
    worst = 0.0
    for function in FUNCTIONS:
        for text, feed in feeds:
            expected = theirs(
                feed, top_k=None, function_to_apply=function, truncation=True, max_length=512
            )
            wanted = {row["label"]: row["score"] for row in expected}
            got = {row.label: row.score for row in ours(text, function_to_apply=function)}
            assert wanted.keys() == got.keys()
            worst = max(worst, *(abs(got[label] - wanted[label]) for label in wanted))
    say(f"{head!s:46}: {worst:.1e} of a score")
    return worst


if __name__ == "__main__":
    main()
