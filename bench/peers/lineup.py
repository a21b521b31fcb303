"""Who is measured, with which settings, and which others were tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.engine.cpus import available
from peers.runtime import Runtime
from peers.servers import Server

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from peers.texts import Case

ALL = str(available())
TORCH = ("infinity", "--engine", "torch", "--bettertransformer")
ONNX = ("infinity", "--engine", "optimum", "--onnx-disable-optimize")  # the export is fused already

LINEUP = {  # by contestant: the peer, and its best settings of those below
    "labelwise": ("labelwise", "--dtype", "float32", "--cache-bytes", "0"),
    "toolkit": ("toolkit", ALL),
    "infinity, torch": TORCH,
    "infinity, onnx": ONNX,
    "litserve": ("litserve", "8", "0.005", "1"),
    "ort, as they come": ("ort", "arrival", "8"),
    "ort, sorted": ("ort", "sorted", "8"),
}
REMEMBERING = ("labelwise", "--dtype", "float32")  # as it comes, for texts that do come again
TRIED = {
    "toolkit": [("toolkit", "1"), ("toolkit", ALL)],
    "infinity": [
        TORCH,
        (*TORCH, "--batch-size", "8"),
        (*TORCH, "--lengths-via-tokenize"),
        (*TORCH[:-1], "--no-bettertransformer"),
        ONNX,
    ],
    "litserve": [
        ("litserve", "8", "0.005", "1"),
        ("litserve", "8", "0.01", "1"),
        ("litserve", "16", "0.01", "1"),
        ("litserve", "32", "0.02", "1"),
        ("litserve", "8", "0.01", ALL),
    ],
    "ort": [
        ("ort", "arrival", "4"),
        ("ort", "arrival", "8"),
        ("ort", "arrival", "32"),
        ("ort", "sorted", "4"),
        ("ort", "sorted", "8"),
        ("ort", "sorted", "32"),
    ],
}
PEERS = tuple(TRIED)
QUICK_PEERS = ("toolkit", "ort")

# the texts, the peers whose best is meant, how many times faster Labelwise is than that
CLAIMS = [
    ("sentences", ("toolkit",), 3.0),
    ("sentences", ("infinity",), 1.3),
    ("sentences", ("litserve",), 1.4),
    ("sentences", ("ort, as they come",), 1.4),
    ("sentences", ("ort, sorted",), 1.0),
    ("reviews", ("toolkit",), 1.5),
    ("reviews", ("toolkit", "infinity", "litserve", "ort, as they come"), 1.05),
    ("lone", ("toolkit", "infinity", "litserve"), 1.25),
    ("lone", ("ort, as they come",), 1.0),
]


def contestant(
    chosen: Sequence[str], at: Path, cases: Sequence[Case], folder: Path
) -> Server | Runtime:
    """The peer and settings of *chosen*, started over the model in *at*."""
    peer, *settings = chosen
    if peer == "ort":
        return Runtime(at, cases, *settings)
    return Server(peer, settings, at, folder)
