"""The server over time: under five times the load that it can bear, over many requests of all
lengths, and where texts come again.

Known texts and memory with the embedded model, the rest in the shape of DistilBERT: five times what
the small one can do is more than callers on the same processors can send.
"""

from __future__ import annotations

import random
import resource
import time
from collections import Counter
from contextlib import ExitStack
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families
from tokenizers import Tokenizer

import models
from labelwise.models.locate import locate
from labelwise.settings import Settings
from peers.load import closed_loop, get, open_loop, request
from peers.servers import Server
from peers.texts import case, mixture
from report import Figure, finish, parser, read, say
from server import WORDS
from server import sentences as words
from timing import interleaved, middle, times_faster

if TYPE_CHECKING:
    from argparse import Namespace
    from pathlib import Path

CALLERS = 32
OVERLOAD = 5  # times what the server can do
CONNECTIONS = 4_000  # twice as many as texts may wait, and not more than the server takes
COMPUTING = ("--cache-bytes", "0")
GROWTH, HITS_A_SECOND, REPEATS_GAIN = 0.03, 3_000, 1.35
TEXTS = 128  # a turn


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    options = read(parser(__doc__, rounds=7, quick=2))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    seconds, long, hits = (5, 3_000, 3_000) if options.quick else (60, 50_000, 20_000)
    with server(options) as plain:
        known = known_texts(plain, hits, options.rounds)
    with server(options, *COMPUTING) as computing:
        memory = many_lengths(computing, long)
    large = models.folder(models.DISTILBERT, options.folder)
    with Server("labelwise", COMPUTING, large, options.folder) as computing:
        pressed = overload(computing, seconds)
    again = repeats(large, options)
    figures = [
        Figure("answers under overload that are neither 200 nor 429", "bound", pressed["other"], 0),
        Figure(
            "outcomes under overload that /metrics counts otherwise",
            "bound",
            pressed["counted otherwise"],
            0,
        ),
        Figure(
            "99 in 100 under overload, of the seconds that a request may take",
            "bound",
            pressed["p99 seconds"] / Settings().request_timeout,
            1,
        ),
        Figure("growth of memory", "bound", memory["growth"], GROWTH),
        Figure("known texts a second", "ratio", known, HITS_A_SECOND),
        Figure(
            "three in ten repeated, remembered against computed",
            "ratio",
            again["times faster"],
            REPEATS_GAIN,
        ),
    ]
    details = {"overload": pressed, "memory": memory, "known": known, "repeats": again}
    finish(
        "steady", options, figures, details, used=["starlette", "httptools", "uvloop", "msgspec"]
    )


def server(options: Namespace, *settings: str) -> Server:
    """The server with the embedded model and these *settings*."""
    return Server("labelwise", settings, locate().folder, options.folder)


def overload(pressed: Server, seconds: float) -> dict[str, Any]:
    """What becomes of texts that come five times faster than they can be answered."""
    texts = [request("/", {"inputs": text}) for text in words(1_000, most=40)]
    with pressed.awake() as port:
        closed_loop(port, texts[:200], CALLERS)
        began = time.perf_counter()
        closed_loop(port, texts, CALLERS)
        capacity = len(texts) / (time.perf_counter() - began)
        before = outcomes(port)
        answered = open_loop(port, texts, OVERLOAD * capacity, seconds, CONNECTIONS)
        after = outcomes(port)
    counted = Counter(str(one.status) for one in answered)
    otherwise = {
        outcome: after[outcome] - before[outcome] - counted[outcome]
        for outcome in after | before | counted
    }
    cuts = quantiles([one.seconds for one in answered if one.status == 200], n=100)
    found = {
        "capacity, texts a second": capacity,
        "arrivals a second": len(answered) / seconds,
        "outcomes": dict(counted),
        "other": counted.total() - counted["200"] - counted["429"],
        "counted otherwise": sum(map(abs, otherwise.values())),
        "p50 seconds": cuts[49],
        "p99 seconds": cuts[98],
    }
    say(f"overload: {found}")
    return found


def outcomes(port: int) -> Counter[str]:
    """How many requests for labels the server says that it had, by outcome.

    Those that were refused from their head alone have no route.
    """
    found = Counter[str]()
    for family in text_string_to_metric_families(get(port, "/metrics").decode()):
        for sample in family.samples:
            if sample.name != "labelwise_requests_total":
                continue
            if sample.labels["route"] in {"classify", "none"}:
                found[sample.labels["outcome"]] += round(sample.value)
    return found


def many_lengths(computing: Server, count: int) -> dict[str, Any]:
    """How much memory grows while *count* texts of 1 to 512 ids are classified."""
    tokens = models.log_uniform(count, 1, 510)
    seen = []
    for number in range(5):  # the first is the warm-up
        part = tokens[number * count // 5 : (number + 1) * count // 5]
        chance = random.Random(number)  # noqa: S311 - the same ones in each run
        texts = [" ".join(chance.choices(WORDS, k=length)) for length in part]
        with computing.awake() as port:
            closed_loop(port, [request("/", {"inputs": text}) for text in texts], CALLERS)
        seen.append(computing.memory())
        say(f"memory after {(number + 1) * len(texts)} texts: {seen[-1]:.1f} MB")
    return {"megabytes": seen, "growth": max(seen[1:]) / seen[0] - 1}


def known_texts(plain: Server, count: int, rounds: int) -> float:
    """How many texts a second are answered that the server knows; the median of the rounds."""
    asked = [request("/", {"inputs": text}) for text in words(100, most=40)]
    many = asked * (count // len(asked))
    rates = []
    with plain.awake() as port:
        closed_loop(port, asked, CALLERS, remembered=len(asked))
        for _ in range(rounds):
            began = time.perf_counter()
            closed_loop(port, many, CALLERS, remembered=len(many))
            rates.append(len(many) / (time.perf_counter() - began))
            say(f"known texts: {rates[-1]:.0f} a second")
    return median(rates)


def repeats(at: Path, options: Namespace) -> dict[str, float]:
    """How much faster texts of which three in ten came before are answered if they are known."""
    tokenizer = Tokenizer.from_file(str(locate().folder / "tokenizer.json"))
    parts = options.rounds + 1  # one for a turn that does not count
    mixed = case("three in ten repeated", mixture(TEXTS, parts), tokenizer, CALLERS, parts)
    with ExitStack() as running:
        both = {
            "remembered": Server("labelwise", (), at, options.folder),
            "computed": Server("labelwise", COMPUTING, at, options.folder),
        }
        for one in both.values():
            running.enter_context(one)
        turns = interleaved({name: one.turn(mixed) for name, one in both.items()}, options.rounds)
    found = {name: TEXTS / middle(theirs) for name, theirs in turns.items()}
    found["times faster"] = times_faster(turns["remembered"], turns["computed"])
    say(f"three in ten repeated: {found}")
    return found


if __name__ == "__main__":
    main()
