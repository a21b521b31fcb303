"""How fast the engine is, from ids to logits, beside what its users would pick instead.

Each contestant has the same random weights of DistilBERT-base, all processors, and a process of
its own. transformers and the padded export get texts padded to the longest, with a mask; Labelwise
gets them as they are.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import models
from labelwise.engine.cpus import available
from labelwise.engine.onnx.runtime import ort
from report import Figure, finish, parser, read, say
from timing import Contestant, apart, interleaved, summary, times_faster

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from labelwise.engine.tokenizer.tokenizer import Encoded

CLAIMS = {  # times faster than ..., for these texts
    ("sentences", "transformers"): 2.0,
    ("sentences", "padded export"): 2.0,
    ("one text", "transformers"): 1.4,
    ("one text", "padded export"): 1.0,
}
RUNS = {"sentences": 1, "one text": 10}  # in one turn
FUSED = {"Attention": 6, "BiasGelu": 6, "SkipLayerNormalization": 12}  # in a good export


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    options = read(parser(__doc__, rounds=15, quick=1))
    at = models.folder(models.DISTILBERT, options.folder)
    export = at / "padded.onnx"
    if not export.exists():
        apart(write_export, at, export)
    source, sentences = models.sentences()
    cases = {"sentences": sentences, "one text": models.texts([16])}
    say(f"{len(sentences)} sentences ({source}): {sum(map(len, sentences))} ids")
    with ExitStack() as running:
        contestants = {
            name: running.enter_context(Contestant(make, cases, *arguments))
            for name, make, *arguments in lineup(at, export)
        }
        check_answers(contestants, cases)
        turns = {case: measure(contestants, case, options.rounds) for case in cases}
    figures = [
        Figure(f"{case}, against {peer}", "ratio", speed_up(turns[case], peer), claim)
        for (case, peer), claim in CLAIMS.items()
    ]
    seconds = {
        case: {name: summary(theirs) for name, theirs in by_name.items()}
        for case, by_name in turns.items()
    }
    details = {"ids": sum(map(len, sentences)), "texts": source, "seconds": seconds}
    finish("engines", options, figures, details, used=("torch", "transformers"))


def lineup(at: Path, export: Path) -> list[tuple[Any, ...]]:
    """Every contestant: its name, the function that makes its cases, the function's arguments."""
    return [
        ("labelwise", labelwise, at),
        ("labelwise, one-thread streams", labelwise, at, models.one_thread_streams()),
        ("transformers", transformers, at),
        ("padded export, spinning", padded_export, export, "1"),
        ("padded export, not spinning", padded_export, export, "0"),
    ]


def measure(
    contestants: Mapping[str, Contestant], case: str, rounds: int
) -> dict[str, list[list[float]]]:
    """The turns of each contestant for *case*, as `interleaved` has them."""
    turns = {name: contestant.turn(case, RUNS[case]) for name, contestant in contestants.items()}
    measured = interleaved(turns, rounds)
    for name, theirs in measured.items():
        shown = ", ".join(f"{key} {value * 1e3:.2f}" for key, value in summary(theirs).items())
        say(f"{case:10} {name:32} ms: {shown}")
    return measured


def speed_up(turns: Mapping[str, list[list[float]]], peer: str) -> float:
    """How many times faster Labelwise is, as it comes, than the better of those called *peer*."""
    peers = [theirs for name, theirs in turns.items() if name.startswith(peer)]
    return min(times_faster(turns["labelwise"], theirs) for theirs in peers)


def check_answers(
    contestants: Mapping[str, Contestant], cases: Mapping[str, list[Encoded]]
) -> None:
    """All give the same logits: otherwise they do not do the same work."""
    for case in cases:
        answers = {name: contestant.answer(case) for name, contestant in contestants.items()}
        for name, logits in answers.items():
            difference = np.abs(logits - answers["labelwise"]).max()
            assert difference < 1e-3, f"{name} differs by {difference} on {case}"


def labelwise(
    cases: Mapping[str, list[Encoded]], at: Path, *streams: Any
) -> dict[str, Callable[[], np.ndarray]]:
    """The engine, with the streams that a user gets if none are given."""
    model = models.model(at, *streams)
    return {case: partial(model.logits, texts) for case, texts in cases.items()}


def transformers(
    cases: Mapping[str, list[Encoded]], at: Path
) -> dict[str, Callable[[], np.ndarray]]:
    """The library itself, with its defaults."""
    import torch  # noqa: PLC0415 - in this contestant's process alone
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    torch.set_num_threads(available())
    model = AutoModelForSequenceClassification.from_pretrained(at, dtype=torch.float32).eval()

    def run(feed: Mapping[str, torch.Tensor]) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = model(**feed).logits.numpy()
        return logits

    feeds = {case: padded(texts) for case, texts in cases.items()}
    return {
        case: partial(run, {name: torch.from_numpy(array) for name, array in feed.items()})
        for case, feed in feeds.items()
    }


def padded_export(
    cases: Mapping[str, list[Encoded]], export: Path, spinning: str
) -> dict[str, Callable[[], np.ndarray]]:
    """ONNX Runtime over the export, its threads waiting actively between nodes or not."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = available()
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    session = ort.InferenceSession(export, options, providers=["CPUExecutionProvider"])

    def run(feed: Mapping[str, np.ndarray]) -> np.ndarray:
        logits: np.ndarray = session.run(None, feed)[0]
        return logits

    return {case: partial(run, padded(texts)) for case, texts in cases.items()}


def padded(texts: list[Encoded]) -> dict[str, np.ndarray]:
    """*texts* as transformers has them: rows filled up to the longest, a mask of what is real."""
    longest = max(map(len, texts))
    rows = [np.pad(text.ids, (0, longest - len(text))) for text in texts]
    masks = [np.arange(longest) < len(text) for text in texts]
    return {"input_ids": np.stack(rows), "attention_mask": np.stack(masks).astype(np.int64)}


def write_export(at: Path, export: Path) -> None:
    """Export what transformers computes over the model in *at*, and have the runtime fuse it."""
    import torch  # noqa: PLC0415 - in a process of its own
    from onnxruntime.transformers import optimizer  # noqa: PLC0415
    from transformers import AutoModelForSequenceClassification  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    class Logits(torch.nn.Module):
        """The model with tensors for arguments and result, as the exporter wants it."""

        def __init__(self) -> None:
            super().__init__()
            self.model = AutoModelForSequenceClassification.from_pretrained(
                at, dtype=torch.float32, attn_implementation="eager"
            ).eval()

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    disable_progress_bar()
    say(f"exporting {at.name}, once")
    example = torch.ones(2, 16, dtype=torch.long)
    rows = {0: "texts", 1: "length"}
    plain, half = export.with_name("plain.onnx"), export.with_name("half.onnx")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Logits(),
            (example, example),
            plain,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_axes={"input_ids": rows, "attention_mask": rows, "logits": {0: "texts"}},
            dynamo=False,  # what this exporter writes, the optimizer knows how to fuse
            opset_version=17,
        )
    fused = optimizer.optimize_model(
        str(plain), model_type="bert", num_heads=12, hidden_size=768, opt_level=0
    )
    counts = fused.get_fused_operator_statistics()
    assert {kind: counts[kind] for kind in FUSED} == FUSED, f"not fully fused: {counts}"
    fused.save_model_to_file(str(half))
    plain.unlink()
    half.rename(export)


if __name__ == "__main__":
    main()
