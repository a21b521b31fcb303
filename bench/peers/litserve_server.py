"""transformers behind LitServe, which gathers requests into batches.

python litserve_server.py FOLDER PORT MAX_BATCH_SIZE BATCH_TIMEOUT WORKERS
"""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Classifier(litserve.LitAPI):
    """``POST /predict`` with ``{"input": text}``; a batch is padded to its longest text."""

    def __init__(self, folder: str, threads: int, **batching: Any) -> None:
        super().__init__(**batching)
        self.folder, self.threads = folder, threads

    def setup(self, device: str) -> None:
        """Load the model, in each worker."""
        torch.set_num_threads(self.threads)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        model = AutoModelForSequenceClassification.from_pretrained(self.folder, dtype=torch.float32)
        self.model = model.to(device).eval()
        self.labels = [name for _, name in sorted(model.config.id2label.items())]

    def decode_request(self, request: dict[str, str]) -> str:
        """The text of a request."""
        return request["input"]

    def batch(self, inputs: list[str]) -> list[str]:
        """The texts as they are: the tokenizer makes tensors of them."""
        return inputs

    def predict(self, x: list[str]) -> list[list[float]]:
        """The scores of each text."""
        encoded = self.tokenizer(x, padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            scores: list[list[float]] = self.model(**encoded).logits.softmax(-1).tolist()
        return scores

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        """One element a request."""
        return output

    def encode_response(self, output: list[float]) -> list[dict[str, Any]]:
        """The labels with their scores."""
        pairs = zip(self.labels, output, strict=True)
        return [{"label": label, "score": score} for label, score in pairs]


def main() -> None:
    """Serve until told to stop."""
    folder, port, size, timeout, workers = sys.argv[1:]
    threads = len(os.sched_getaffinity(0)) // int(workers)
    api = Classifier(folder, threads, max_batch_size=int(size), batch_timeout=float(timeout))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=int(workers))
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
