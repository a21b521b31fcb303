"""How near the server is to what the machine and HTTP allow, in the two cases of `compare.py` that
leave the least to gain: long texts, and one short text at a time.

For long texts the limit is the products alone: five of DistilBERT's six layers as a chain of
products over the same numbers of rows, without biases, norms, activations or attention, and then as
much longer as attention's operations would take at the same rate. For the short text it is the
task and nothing else (JSON to a text, ids, logits, scores, JSON) behind uvicorn, with the engine on
one thread: nothing is checked, queued, counted or explained in headers. The same with ids and
answer prepared shows what HTTP itself takes. Needs LABELWISE_SHARED, for the texts.
"""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import uvicorn
from tokenizers import Tokenizer

import models
from compare import classifier, main_cases
from labelwise.engine.cpus import Streams, available
from labelwise.engine.onnx import format as onnx_format
from labelwise.engine.onnx.runtime import ort
from labelwise.engine.packing import Packed, pack, split
from peers.lineup import LINEUP, contestant
from peers.load import HOST, closed_loop
from peers.servers import asked
from report import Figure, finish, parser, read, say
from server import free_port
from timing import Contestant, interleaved, middle, times_faster

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from labelwise.engine.onnx.runner import Runner
    from labelwise.engine.tokenizer.tokenizer import Encoded
    from peers.texts import Case
    from timing import Turn

WIDTH, INNER = 768, 3072
LAYERS = 5  # that every id goes through; of the sixth only first ids need anything
PRODUCTS = [(WIDTH, WIDTH)] * 4 + [(WIDTH, INNER), (INNER, WIDTH)]  # of a layer
REVIEWS, LONE = 0.85, 0.9
ANSWER = b'[[{"label":"LABEL_0","score":0.5},{"label":"LABEL_1","score":0.5}]]'


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    options = read(parser(__doc__, rounds=5, quick=1))
    at = classifier(options.folder)
    tokenizer = Tokenizer.from_file(str(at / "tokenizer.json"))
    cases = {each.name: each for each in main_cases(tokenizer, quick=options.quick)}
    figures, details = [], {}
    for name, found in {
        "reviews": long_texts(at, cases["reviews"], options),
        "lone": short_text(at, cases["lone"], options),
    }.items():
        claim = REVIEWS if name == "reviews" else LONE
        figures.append(Figure(f"{name}, share of the limit", "ratio", found["share"], claim))
        details[name] = found
        say(f"{name}: {found}")
    finish("limits", options, figures, details, ("torch", "transformers", "uvicorn"))


def long_texts(at: Path, case: Case, options: Namespace) -> dict[str, float]:
    """Texts a second of the server, the pipeline and the products, and their ratios."""
    lengths = [len(ids) for ids in case.ids]
    more = attention(lengths) / products_of(sum(lengths))
    names = ("labelwise", "toolkit")
    with (
        contestant(LINEUP["labelwise"], at, [case], options.folder) as ours,
        contestant(LINEUP["toolkit"], at, [case], options.folder) as theirs,
        Contestant(chain, lengths) as products,
    ):
        turns = interleaved(
            {
                **dict(zip(names, (ours.turn(case), theirs.turn(case)), strict=True)),
                "products": products.turn("all", 1),
            },
            options.rounds,
        )
    rates = {f"{name}, texts a second": len(lengths) / middle(turns[name]) for name in turns}
    limit = times_faster(turns["products"], turns["toolkit"]) / (1 + more)
    return {
        **rates,
        "attention's operations for one of the products": more,
        "share": (1 + more) / times_faster(turns["products"], turns["labelwise"]),
        "the limit is times the toolkit": limit,
        "labelwise is times the toolkit": times_faster(turns["labelwise"], turns["toolkit"]),
    }


def products_of(ids: int) -> int:
    """Operations of all products over so many *ids*."""
    return 2 * ids * LAYERS * sum(inputs * outputs for inputs, outputs in PRODUCTS)


def attention(lengths: list[int]) -> int:
    """Operations of attention within texts of these *lengths*: scores, and what they weigh."""
    return sum(2 * 2 * length**2 * WIDTH * LAYERS for length in lengths)


def chain(lengths: list[int]) -> Mapping[str, Callable[[], Any]]:
    """The products over texts of these *lengths*, in the engine's batches, one to a processor."""
    random = np.random.default_rng(0)
    nodes, weights, states = [], [], "states"
    for number, (inputs, outputs) in enumerate(PRODUCTS * LAYERS):
        weight = random.standard_normal((outputs, inputs), np.float32) / np.float32(inputs**0.5)
        weights.append(onnx_format.tensor(f"weight_{number}", weight))
        there = f"states_{number}"
        nodes.append(
            onnx_format.node("Gemm", [states, f"weight_{number}"], [there], there, transB=1)
        )
        states = there
    graph = onnx_format.graph(
        "products",
        nodes,
        [onnx_format.tensor_type("states", onnx_format.FLOAT, "rows", WIDTH)],
        [onnx_format.tensor_type(states, onnx_format.FLOAT, "rows", WIDTH)],
        weights,
    )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False
    message = onnx_format.model(graph, {"": 18})
    session = ort.InferenceSession(message, options, providers=["CPUExecutionProvider"])
    batches = split(lengths, models.BATCH_TOKENS, available())
    rows = sorted((sum(lengths[batch]) for batch in batches), reverse=True)
    inputs_of = {count: random.standard_normal((count, WIDTH), np.float32) for count in rows}
    pool = ThreadPoolExecutor(available())

    def multiply(count: int) -> None:
        session.run(None, {"states": inputs_of[count]})

    return {"all": lambda: list(pool.map(multiply, rows))}


def short_text(at: Path, case: Case, options: Namespace) -> dict[str, float]:
    """Milliseconds of a text by the server, by the runtime in process, and behind bare HTTP."""
    requests = [asked("labelwise", text) for text in case.texts]
    with (
        contestant(LINEUP["labelwise"], at, [case], options.folder) as ours,
        contestant(LINEUP["ort, as they come"], at, [case], options.folder) as runtime,
        Contestant(bare, at, case.ids[0]) as behind,
        Contestant(task, at) as working,
    ):
        bare_turn: Turn = partial(closed_loop, behind.answer("port"), requests, 1)
        task_turn: Turn = partial(closed_loop, working.answer("port"), requests, 1)
        turns = interleaved(
            {
                "labelwise": ours.turn(case),
                "runtime in process": runtime.turn(case),
                "engine in process": behind.turn("engine", len(requests)),
                "engine behind bare HTTP": bare_turn,
                "task behind bare HTTP": task_turn,
            },
            options.rounds * 2,
        )
    limit, mine = turns["engine behind bare HTTP"], turns["labelwise"]
    theirs, least = turns["runtime in process"], turns["task behind bare HTTP"]
    return {
        **{f"{name}, ms": middle(turns[name]) * 1e3 for name in turns},
        "share": 1 / times_faster(least, mine),
        "share of the engine behind bare HTTP": 1 / times_faster(limit, mine),
        "the limit is times the runtime": times_faster(limit, theirs),
        "the task is times the runtime": times_faster(least, theirs),
        "labelwise is times the runtime": times_faster(mine, theirs),
    }


def bare(at: Path, text: Encoded) -> Mapping[str, Callable[[], Any]]:
    """A server that runs *text* for every request and answers the same; and its port."""
    runner, packed = models.runner(at, Streams(1, available())), pack([text])

    async def answer(_: bytes, run: Callable[[Packed], Awaitable[np.ndarray]]) -> bytes:
        await run(packed)
        return ANSWER

    return {"port": lambda: listening(runner, answer), "engine": lambda: runner.run(packed)}


def task(at: Path) -> Mapping[str, Callable[[], Any]]:
    """A server that does for each request what its answer needs, and nothing else; and its port."""
    runner = models.runner(at, Streams(1, available()))
    tokenizer = Tokenizer.from_file(str(at / "tokenizer.json"))

    async def answer(body: bytes, run: Callable[[Packed], Awaitable[np.ndarray]]) -> bytes:
        ids = np.array(tokenizer.encode(msgspec.json.decode(body)["inputs"]).ids)
        logits = await run(Packed(ids, np.zeros_like(ids), np.array([0, len(ids)])))
        scores = np.exp(logits[0] - logits[0].max())
        scores /= scores.sum()
        labels = [{"label": f"LABEL_{n}", "score": float(score)} for n, score in enumerate(scores)]
        return msgspec.json.encode([sorted(labels, key=lambda each: -each["score"])])

    return {"port": lambda: listening(runner, answer)}


def listening(runner: Runner, answer: Callable[..., Awaitable[bytes]]) -> int:
    """The port of a server that answers a body with what *answer* makes of it on one thread."""
    engine, port = ThreadPoolExecutor(1), free_port()
    kind = (b"content-type", b"application/json")

    async def run(packed: Packed) -> np.ndarray:
        return await asyncio.get_running_loop().run_in_executor(engine, runner.run, packed)

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        body = await answer((await receive())["body"], run)
        headers = [kind, (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(
        app, host=HOST, port=port, log_config=None, access_log=False, ws="none", lifespan="off"
    )
    Thread(target=uvicorn.Server(config).run, daemon=True).start()
    while socket.socket().connect_ex((HOST, port)):
        time.sleep(0.05)
    return port


if __name__ == "__main__":
    main()
