"""The specification of the engine: a padded forward pass in NumPy, as transformers has it.

Slow, obvious, and used by tests alone. Also makes small random models in Hugging Face's layout.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

if TYPE_CHECKING:
    from pathlib import Path

MODEL_TYPES = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
ROBERTA_TYPES = ("camembert", "roberta", "xlm-roberta")

Weights = dict[str, np.ndarray]
Ids = tuple[Sequence[int], Sequence[int]]  # ids and token types of one text


def config(model_type: str, labels: int = 3, **changes: Any) -> dict[str, Any]:
    """The ``config.json`` of a small model; *changes* use BERT's names for the sizes."""
    sizes = {
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 80,
        "vocab_size": 300,
        "max_position_embeddings": 514 if model_type in ROBERTA_TYPES else 512,
        "hidden_act": "gelu",
        **changes,
    }
    if model_type == "distilbert":
        spelt = {
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
        }
        sizes = {spelt.get(key, key): value for key, value in sizes.items()}
    if model_type in ROBERTA_TYPES:
        sizes = {"type_vocab_size": 1, "pad_token_id": 1, "layer_norm_eps": 1e-5, **sizes}
    if model_type == "electra":
        sizes = {"embedding_size": 24, **sizes}
    names = {str(number): f"class-{number}" for number in range(labels)}
    return {"model_type": model_type, "id2label": names, **sizes}


def random_weights(config: dict[str, Any], seed: int = 0) -> Weights:
    """Weights for *config* whose logits are of the order of 1 and differ from text to text."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes(config).items():
        scale = 1.6 / math.sqrt(shape[-1]) if len(shape) == 2 and "embeddings" not in name else 0.3
        centre = 1.0 if name.endswith("orm.weight") else 0.0
        weights[name] = (centre + scale * random.standard_normal(shape)).astype(np.float32)
    return weights


def write_model(folder: Path, config: dict[str, Any], weights: Weights | None = None) -> Path:
    """*folder* with *config* and *weights* (random where None), without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights or random_weights(config), folder / "model.safetensors")
    return folder


def write_tokenizer(folder: Path, config: dict[str, Any], longest: int = 512) -> Path:
    """A tokenizer beside the model: each word ``w5``, ``w6``, ... is the id of its number."""
    roberta = config["model_type"] in ROBERTA_TYPES
    first, pad, last, unknown = (
        ("<s>", "<pad>", "</s>", "<unk>") if roberta else ("[CLS]", "[PAD]", "[SEP]", "[UNK]")
    )
    words = [first, pad, last, unknown, "<mask>"]
    words += [f"w{number}" for number in range(len(words), config["vocab_size"])]
    numbers = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    between, second = (f"{last} {last}", 0) if roberta else (last, 1)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {between} $B:{second} {last}:{second}",
        special_tokens=[(first, 0), (last, 2)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    kind: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
    }
    kind |= {"unk_token": unknown, "pad_token": pad, "cls_token": first, "sep_token": last}
    types = ["token_type_ids"] if config["model_type"] in {"bert", "electra"} else []
    kind["model_input_names"] = ["input_ids", *types, "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    return folder


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The name and shape of every weight, in a fixed order."""
    names = Names(config)
    width, inner, narrow = names.width, names.inner, names.narrow
    found: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (outputs, inputs), (outputs,)

    def norm(name: str, size: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = (size,), (size,)

    for table, rows in names.tables.items():
        found[f"{table}.weight"] = (rows, narrow)
    norm(names.embedding_norm, narrow)
    if narrow != width:
        linear("electra.embeddings_project", width, narrow)
    for number in range(names.layers):
        query, key, value, output, first_norm, up, down, last_norm = names.layer(number)
        for part in (query, key, value, output):
            linear(part, width, width)
        norm(first_norm, width)
        linear(up, inner, width)
        linear(down, width, inner)
        norm(last_norm, width)
    hidden, last = names.head
    linear(hidden, width, width)
    linear(last, len(config["id2label"]), width)
    return found


class Names:
    """What each model type calls its sizes and weights."""

    def __init__(self, config: dict[str, Any]) -> None:
        kind = config["model_type"]
        self.distil = kind == "distilbert"
        prefix = {"camembert": "roberta", "xlm-roberta": "roberta"}.get(kind, kind)
        sizes = ("dim", "n_layers", "n_heads", "hidden_dim", "activation")
        if not self.distil:
            sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads")
            sizes += ("intermediate_size", "hidden_act")
        self.width, self.layers, self.heads, self.inner, self.act = (config[key] for key in sizes)
        self.narrow = config.get("embedding_size", self.width)
        self.epsilon = 1e-12 if self.distil else config.get("layer_norm_eps", 1e-12)
        self.prefix = prefix
        tables = f"{prefix}.embeddings"
        self.embedding_norm = f"{tables}.LayerNorm"
        self.tables = {
            f"{tables}.word_embeddings": config["vocab_size"],
            f"{tables}.position_embeddings": config["max_position_embeddings"],
        }
        if not self.distil:
            self.tables[f"{tables}.token_type_embeddings"] = config.get("type_vocab_size", 2)
        self.head = {
            "bert": ("bert.pooler.dense", "classifier"),
            "distilbert": ("pre_classifier", "classifier"),
        }.get(kind, ("classifier.dense", "classifier.out_proj"))
        self.head_act = {"distilbert": "relu", "electra": "gelu"}.get(kind, "tanh")

    def layer(self, number: int) -> list[str]:
        """Query, key, value, output, norm, up, down, norm."""
        if self.distil:
            layer = f"distilbert.transformer.layer.{number}"
            parts = (
                "attention.q_lin attention.k_lin attention.v_lin attention.out_lin sa_layer_norm"
            )
            parts += " ffn.lin1 ffn.lin2 output_layer_norm"
        else:
            layer = f"{self.prefix}.encoder.layer.{number}"
            parts = "attention.self.query attention.self.key attention.self.value"
            parts += " attention.output.dense attention.output.LayerNorm"
            parts += " intermediate.dense output.dense output.LayerNorm"
        return [f"{layer}.{part}" for part in parts.split()]


def activate(name: str, x: np.ndarray) -> np.ndarray:
    """The activation *name* of *x*."""
    if name == "gelu":
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    if name in {"gelu_new", "gelu_fast", "gelu_pytorch_tanh"}:
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    if name == "quick_gelu":
        return x / (1 + np.exp(-1.702 * x))
    if name in {"silu", "swish"}:
        return x / (1 + np.exp(-x))
    return {"relu": lambda y: np.maximum(y, 0), "tanh": np.tanh}[name](x)


def in_integers(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, largest: int) -> np.ndarray:
    """``x @ weight.T + bias`` from whole numbers: a scale for each row of *x* and of *weight*."""
    steps = np.maximum(np.abs(weight).max(1, keepdims=True) / largest, 1e-30)
    row_steps = np.maximum(np.abs(x).max(-1, keepdims=True) / 127, 1e-30)
    return (np.rint(x / row_steps) @ np.rint(weight / steps).T) * row_steps * steps[:, 0] + bias


def padded_logits(
    config: dict[str, Any], weights: Weights, texts: Sequence[Ids], largest: int | None = None
) -> np.ndarray:
    """The logits of *texts*, ``(texts, labels)``, in float64, padded to the longest and masked.

    With *largest*, products before the last layer are taken of integers; those of weights are
    *largest* at most.
    """
    names, width = Names(config), max(len(ids) for ids, _ in texts)
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    padding = config.get("pad_token_id", 0)
    ids = np.array([[*ids, *[padding] * (width - len(ids))] for ids, _ in texts])
    types = np.array([[*types, *[0] * (width - len(types))] for _, types in texts])
    mask = np.array([[0.0] * len(ids) + [-np.inf] * (width - len(ids)) for ids, _ in texts])

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def inexact(x: np.ndarray, name: str) -> np.ndarray:
        return in_integers(x, w[f"{name}.weight"], w[f"{name}.bias"], largest)

    project = linear if largest is None else inexact

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        spread = np.sqrt((centred**2).mean(-1, keepdims=True) + names.epsilon)
        return centred / spread * w[f"{name}.weight"] + w[f"{name}.bias"]

    def heads(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], names.heads, -1).swapaxes(1, 2)

    positions = np.broadcast_to(np.arange(width), ids.shape)
    if config["model_type"] in ROBERTA_TYPES:
        real = ids != padding
        positions = np.cumsum(real, 1) * real + padding
    if config.get("type_vocab_size", 2) == 1:
        types = np.zeros_like(ids)
    rows = [ids, positions, types]
    tables = zip(names.tables, rows, strict=False)
    x = norm(sum(w[f"{table}.weight"][row] for table, row in tables), names.embedding_norm)
    if names.narrow != names.width:
        x = project(x, "electra.embeddings_project")
    for number in range(names.layers):
        query, key, value, output, first_norm, up, down, last_norm = names.layer(number)
        if number == names.layers - 1:
            project = linear
        q, k, v = (heads(project(x, part)) for part in (query, key, value))
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(q.shape[-1]) + mask[:, None, None]
        weight = np.exp(scores - scores.max(-1, keepdims=True))
        gathered = (weight / weight.sum(-1, keepdims=True)) @ v
        gathered = gathered.swapaxes(1, 2).reshape(x.shape)
        x = norm(x + project(gathered, output), first_norm)
        x = norm(x + project(activate(names.act, project(x, up)), down), last_norm)
    hidden, last = names.head
    return linear(activate(names.head_act, linear(x[:, 0], hidden)), last)
