"""How much of the machine the engine uses, and what lengths and batch sizes do to its speed.

The effective rate counts 2 operations for each weight of the layers and each real id, the last
layer in full and attention scores not at all; it stands beside the best product of the same runtime
on as many threads.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import models
from labelwise.engine.cpus import available
from labelwise.engine.onnx import format as onnx_format
from labelwise.engine.onnx.runtime import ort
from labelwise.engine.packing import pack
from report import Figure, finish, parser, read, say
from timing import interleaved, middle, side_by_side, times_faster, turn

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS, INPUTS, OUTPUTS = 256, 768, 3072  # of the product that the rate is held against
BATCHES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096)  # ids
TEXT = 24  # ids of each text of those batches
SHAPES = {"distilbert": models.DISTILBERT, "minilm": models.MINILM}


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    options = read(parser(__doc__, rounds=9, quick=3))
    batches = BATCHES[:4] if options.quick else BATCHES
    figures, rates, mixed = [], effective_rate(options.folder, options.rounds), {}
    figures.append(
        Figure("effective rate, against the best product", "ratio", rates["share"], 0.85)
    )
    for name in SHAPES:
        mixed[name] = mixed_lengths(name, options.folder, options.rounds)
        for streams, found in mixed[name].items():
            ratio = found["mixed over equal"]
            figures.append(Figure(f"mixed lengths, {name}, {streams}", "ratio", ratio, 0.8))
    details = {
        "operations_per_second": rates,
        "ids_per_second_by_lengths": mixed,
        "ids_per_second_by_batch": by_batch(options.folder, batches, options.rounds),
    }
    finish("rate", options, figures, details)


def effective_rate(folder: Path, rounds: int) -> dict[str, float]:
    """Operations a second on the 32 sentences, all one-thread streams running, and of products.

    The "share" is what the engine reaches of the better product, round by round.
    """
    count = available()
    engine = models.runner(models.folder(models.DISTILBERT, folder), models.one_thread_streams())
    _, sentences = models.sentences()
    packed = pack(sentences)
    products = [product() for _ in range(count)]
    operations = {
        "engine": 2 * models.weights_in(models.DISTILBERT, layers_only=True) * len(packed.ids),
        "product, one session": 2 * ROWS * INPUTS * OUTPUTS,
        "product, own sessions": 2 * ROWS * INPUTS * OUTPUTS,
    }
    contestants = {
        "engine": side_by_side([partial(engine.run, packed)] * count, runs=2),
        "product, one session": side_by_side(products[:1] * count, runs=40),
        "product, own sessions": side_by_side(products, runs=40),
    }
    measured = interleaved(contestants, rounds)
    rates = {name: operations[name] / middle(turns) for name, turns in measured.items()}
    for name, rate in rates.items():
        say(f"{name:24} {rate / 1e9:8.1f} GFLOP/s on {count} threads, {len(packed.ids)} ids")
    rates["share"] = min(
        operations["engine"] / operations[name] * times_faster(measured["engine"], turns)
        for name, turns in measured.items()
        if name != "engine"
    )
    return rates


def product() -> Callable[[], Any]:
    """[256 x 768] x [768 x 3072] on one thread, the second matrix constant, as in a layer."""
    random = np.random.default_rng(0)
    weight = random.standard_normal((INPUTS, OUTPUTS)).astype(np.float32)
    graph = onnx_format.graph(
        "product",
        [onnx_format.node("MatMul", ["states", "weight"], ["product"], "product")],
        [onnx_format.tensor_type("states", onnx_format.FLOAT, "rows", INPUTS)],
        [onnx_format.tensor_type("product", onnx_format.FLOAT, "rows", OUTPUTS)],
        [onnx_format.tensor("weight", weight)],
    )
    message = onnx_format.model(graph, {"": 18})
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(message, options, providers=["CPUExecutionProvider"])
    states = random.standard_normal((ROWS, INPUTS)).astype(np.float32)
    return lambda: session.run(None, {"states": states})


def mixed_lengths(name: str, folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Ids a second on 16 texts of 8 to 256 ids and on 16 equal texts of as many; their ratio."""
    lengths = models.log_uniform(16, 8, 256)
    total = int(lengths.sum())
    equal = [total // 16 + (number < total % 16) for number in range(16)]
    at = models.folder(SHAPES[name], folder)
    texts = {"mixed": models.texts(lengths), "equal": models.texts(equal)}
    usual, single = models.model(at), models.runner(at, models.one_thread_streams())
    count = single.streams.count
    contestants = {}
    for kind, those in texts.items():
        run = partial(single.run, pack(those))
        contestants["one-thread streams", kind] = side_by_side([run] * count)
        contestants["default streams", kind] = turn(partial(usual.logits, those))
    rates: dict[str, dict[str, float]] = {}
    measured = interleaved(contestants, rounds)
    for (streams, kind), turns in measured.items():
        rate = total / middle(turns)
        rates.setdefault(streams, {})[kind] = rate
        say(f"{name:12} {streams:20} {kind:6} {rate:8.0f} ids/s, {total} ids")
    for streams, found in rates.items():
        mixed_turns, equal_turns = measured[streams, "mixed"], measured[streams, "equal"]
        found["mixed over equal"] = times_faster(mixed_turns, equal_turns)
    return rates


def by_batch(folder: Path, batches: tuple[int, ...], rounds: int) -> dict[str, dict[int, float]]:
    """Ids a second by the ids of a batch, where every stream has a batch to run."""
    at = models.folder(models.DISTILBERT, folder)
    usual, single = models.model(at).runner, models.runner(at, models.one_thread_streams())
    contestants = {}
    for ids in batches:
        whole, rest = divmod(ids, TEXT)
        packed = pack(models.texts([TEXT] * whole + [rest] * (rest > 0)))
        runs = max(1, 256 // ids)
        for name, runner in (("one-thread streams", single), ("default streams", usual)):
            run = partial(runner.run, packed)
            contestants[name, ids] = side_by_side([run] * runner.streams.count, runs)
    table: dict[str, dict[int, float]] = {}
    for (name, ids), turns in interleaved(contestants, rounds).items():
        table.setdefault(name, {})[ids] = ids / middle(turns)
        say(f"batches of {ids:5} ids, {name:20} {table[name][ids]:8.0f} ids/s")
    return table


if __name__ == "__main__":
    main()
