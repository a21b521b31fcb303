"""Record what transformers gives for small random models, in ``recorded_logits.json``.

Run once in an environment with the extra [parity]: ``python tests/record_logits.py``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers

from padded import MODEL_TYPES, config, write_model


def main() -> None:
    """Write the file."""
    recorded = {"transformers": transformers.__version__, "torch": torch.__version__}
    for model_type in MODEL_TYPES:
        values = config(model_type, num_hidden_layers=2, max_position_embeddings=40)
        with tempfile.TemporaryDirectory() as folder:
            write_model(Path(folder), values)
            model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
        recorded[model_type] = {"config": values, "cases": [case(model, n) for n in (1, 8, 30)]}
    recorded["embedded"] = embedded()
    path = Path(__file__).parent / "recorded_logits.json"
    path.write_text(json.dumps(recorded) + "\n")


def case(model: torch.nn.Module, length: int) -> dict[str, list[int] | list[float]]:
    """A random text of *length* ids and its logits."""
    random = np.random.default_rng(length)
    ids, types = random.integers(2, 300, length), np.zeros(length, np.int64)
    feed = {"input_ids": torch.from_numpy(ids)[None]}
    if model.config.model_type in {"bert", "electra"}:
        types[length // 2 :] = 1
        feed["token_type_ids"] = torch.from_numpy(types)[None]
    with torch.inference_mode():
        logits = model(**feed).logits[0].tolist()
    return {"ids": ids.tolist(), "types": types.tolist(), "logits": logits}


def embedded() -> list[dict[str, str | list[float]]]:
    """What the embedded model gives for a few texts, computed in fp32."""
    folder = Path(__file__).parents[1] / "src/labelwise/builtin/minilm-l6-sst2"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    load = transformers.AutoModelForSequenceClassification.from_pretrained
    model = load(folder, dtype=torch.float32).eval()
    answers = []
    for text in ["I like you. I love you", "A dull, endless film.", "", "naïve café ☕ 电影"]:
        with torch.inference_mode():
            logits = model(**tokenizer(text, return_tensors="pt")).logits[0].tolist()
        answers.append({"text": text, "logits": logits})
    return answers


if __name__ == "__main__":
    main()
