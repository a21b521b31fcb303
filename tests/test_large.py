"""A checkpoint of more than two gigabytes, which is more than one protobuf message can hold."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from padded import config, padded_logits, random_weights, write_model, write_tokenizer

CLASSIFY = """
import json, sys
from labelwise import Classifier
scores = Classifier(sys.argv[1])("w7 w8 w9", function_to_apply="none")
with open("/proc/self/status") as file:
    status = dict(line.split(":", 1) for line in file)
megabytes = {key: int(status[key].split()[0]) / 1024 for key in ("VmRSS", "VmHWM")}
print(json.dumps(megabytes | {score.label: score.score for score in scores}))
"""


@pytest.mark.slow
def test_a_checkpoint_of_more_than_two_gigabytes_loads(tmp_path):
    """In the shape of xlm-roberta-large, in fp32."""
    values = config(
        "xlm-roberta",
        2,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        vocab_size=250_002,
    )
    weights = random_weights(values)
    write_tokenizer(write_model(tmp_path, values, weights), values)
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size > 2.2e9
    [expected] = padded_logits(values, weights, [([0, 7, 8, 9, 2], [0] * 5)])
    command = [sys.executable, "-c", CLASSIFY, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, check=True)  # noqa: S603
    found = json.loads(run.stdout)
    assert [found["class-0"], found["class-1"]] == pytest.approx(expected, abs=1e-4)
    assert found["VmRSS"] < 1.5 * size / 2**20 + 200
