"""Count the right labels of a sentiment model on SST-2 and on the UCI sentences.

    python training/evaluate.py MODEL_FOLDER

reads the data below ``$LABELWISE_SHARED/data`` and needs torch and transformers.
The weights are computed in fp32, whatever type they are stored in.
Each count goes to stderr as it is known; the last line of stdout is one JSON document.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification

BATCH = 32
POSITIONS = 512  # ids that the model can read

# name -> file, and whether its first line names the columns
SETS = {
    "sst2 dev": ("sst2-glue/dev.tsv", True),
    "sst2 test": ("sst2-glue/test-labeled.tsv", True),
    "uci amazon": ("uci-sentiment-labelled/amazon_cells_labelled.txt", False),
    "uci imdb": ("uci-sentiment-labelled/imdb_labelled.txt", False),
    "uci yelp": ("uci-sentiment-labelled/yelp_labelled.txt", False),
}


@dataclass(frozen=True, slots=True)
class Example:
    """One text as ids, with [CLS] and [SEP], and its label: 0 negative, 1 positive."""

    ids: list[int]
    label: int


@dataclass(frozen=True, slots=True)
class Count:
    """How many of some texts got the right label."""

    right: int
    texts: int

    def __str__(self) -> str:
        return f"{self.right}/{self.texts} = {self.right / self.texts:.4f}"


def read_examples(
    path: Path, tokenizer: Tokenizer, *, max_tokens: int = POSITIONS, header: bool = True
) -> list[Example]:
    """The lines ``text TAB label`` of *path*, each text cut to *max_tokens* ids."""
    lines = path.read_text(encoding="utf-8").rstrip("\n").split("\n")[int(header) :]
    texts, labels = zip(*(line.rsplit("\t", 1) for line in lines), strict=True)
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    encodings = tokenizer.encode_batch(list(texts))
    return [Example(e.ids, int(label)) for e, label in zip(encodings, labels, strict=True)]


def padded(batch: list[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both (texts, longest) int64; 0 where there is no id."""
    rows = [torch.tensor(example.ids) for example in batch]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long()


@torch.inference_mode()
def count_right(model: BertForSequenceClassification, examples: list[Example]) -> Count:
    """How many *examples* the model labels right. Leaves it with dropout off."""
    model.eval()
    by_length = sorted(examples, key=lambda example: len(example.ids))
    right = 0
    for start in range(0, len(by_length), BATCH):
        batch = by_length[start : start + BATCH]
        ids, mask = padded(batch)
        best = model(input_ids=ids, attention_mask=mask).logits.argmax(-1).tolist()
        right += sum(label == example.label for label, example in zip(best, batch, strict=True))
    return Count(right, len(examples))


def load(folder: Path) -> tuple[BertForSequenceClassification, Tokenizer]:
    """The model of *folder* in fp32, and its tokenizer."""
    model = BertForSequenceClassification.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    )
    return model, Tokenizer.from_file(str(folder / "tokenizer.json"))


def main() -> None:
    """Count on each set, one after the other."""
    shared = os.environ.get("LABELWISE_SHARED")
    if len(sys.argv) != 2 or not shared:
        sys.exit("usage: LABELWISE_SHARED=FOLDER python training/evaluate.py MODEL_FOLDER")
    model, tokenizer = load(Path(sys.argv[1]))
    counts = {}
    for name, (file, header) in SETS.items():
        examples = read_examples(Path(shared, "data", file), tokenizer, header=header)
        counts[name] = count_right(model, examples)
        print(f"{name}: {counts[name]}", file=sys.stderr)
    print(json.dumps({name: asdict(count) for name, count in counts.items()}))


if __name__ == "__main__":
    main()
