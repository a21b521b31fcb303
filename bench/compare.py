"""Labelwise's server beside what its users would run instead, each at its best settings.

All have the same weights and the same texts, brought by the same callers, in turn. A server
whose turn it is not stands still. Labelwise computes every answer: it remembers none, save where
texts that come again are the point. Needs LABELWISE_SHARED, for the texts.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from contextlib import ExitStack
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

import models
from engines import write_export
from labelwise.models.locate import locate
from peers.lineup import CLAIMS, LINEUP, PEERS, QUICK_PEERS, REMEMBERING, TRIED, contestant
from peers.texts import case, mixture, one_of_16_ids, reviews, sentences
from report import Figure, finish, parser, read, say
from timing import apart, interleaved, middle, times_faster

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from peers.runtime import Runtime
    from peers.servers import Server
    from peers.texts import Case

Turns = dict[str, list[list[float]]]

CHECKED = 8  # texts of each case
P99_SECONDS = 0.25
ARRIVAL_SECONDS = 10.0
HALVINGS = 5
CLASSIFIER = models.DISTILBERT | {"architectures": ["DistilBertForSequenceClassification"]}
FINBERT = models.config(
    "bert",
    3,
    hidden_size=768,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=3072,
    vocab_size=models.WORDS,
)


def main() -> None:
    """Measure, print, and hold the figures against the claims."""
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leave no server behind
    at = classifier(options.folder)
    tokenizer = Tokenizer.from_file(str(at / "tokenizer.json"))
    cases = main_cases(tokenizer, quick=options.quick)
    if options.settings:
        return try_settings(at, cases, options)
    lineup = {name: LINEUP[name] for name in LINEUP if LINEUP[name][0] in options.only}
    turns = compare(lineup, at, cases, options)
    details: dict[str, Any] = {
        "settings": lineup,
        "cases": {each.name: described(each) | {"measured": shown(each, turns)} for each in cases},
    }
    if "toolkit" in options.only and not options.quick:
        details["beside the toolkit alone"] = beside_the_toolkit(at, tokenizer, options)
    finish("compare", options, figures(turns), details, ("torch", "transformers", "uvicorn"))
    return None


def arguments() -> Namespace:
    """The command line; `only` has Labelwise and the peers to measure."""
    made = parser(__doc__, rounds=5, quick=1)
    made.add_argument("--only", help=f"peers to measure, of {','.join(PEERS)}")
    made.add_argument("--settings", action="store_true", help="try the peers' settings instead")
    options = read(made)
    chosen = options.only.split(",") if options.only else QUICK_PEERS if options.quick else PEERS
    if unknown := set(chosen) - set(PEERS):
        made.error(f"no such peer: {', '.join(unknown)}; there are {', '.join(PEERS)}")
    options.only = ("labelwise", *chosen)
    return options


def classifier(within: Path) -> Path:
    """The folder of DistilBERT-base with random weights and an export, as all the peers read it."""
    at = models.folder(CLASSIFIER, within)
    settings = json.loads((at / "tokenizer_config.json").read_text())
    settings["model_input_names"] = ["input_ids", "attention_mask"]
    (at / "tokenizer_config.json").write_text(json.dumps(settings))
    if not (at / "model.onnx").exists():
        apart(write_export, at, at / "model.onnx")
    return at


def main_cases(tokenizer: Tokenizer, *, quick: bool) -> list[Case]:
    """The texts for all contestants."""
    short, long, alone = (96, 32, 20) if quick else (256, 64, 60)
    return [
        case("sentences", sentences(short), tokenizer),
        case("reviews", reviews(long, tokenizer), tokenizer),
        case("lone", [one_of_16_ids(tokenizer)] * alone, tokenizer, callers=1),
    ]


def compare(
    lineup: Mapping[str, Sequence[str]], at: Path, cases: Sequence[Case], options: Namespace
) -> dict[str, Turns]:
    """The turns of each contestant in each case; before, all must agree on the scores."""
    turns = {}
    with ExitStack() as running:
        contestants = {
            name: running.enter_context(contestant(chosen, at, cases, options.folder))
            for name, chosen in lineup.items()
        }
        for each in cases:
            check_scores(contestants, each)
            rounds = (options.rounds + 1) // 2 if each.name == "reviews" else options.rounds
            mine = {name: one.turn(each) for name, one in contestants.items()}
            turns[each.name] = interleaved(mine, rounds)
            for name, measured in shown(each, turns).items():
                say(f"{each.name:10} {name:20} {measured}")
    return turns


def check_scores(contestants: Mapping[str, Server | Runtime], each: Case) -> None:
    """All give the same scores: otherwise they do not do the same work."""
    found = {name: one.scores(each, CHECKED) for name, one in contestants.items()}
    for name, scores in found.items():
        difference = np.abs(scores - next(iter(found.values()))).max()
        assert difference < 1e-3, f"{name} differs by {difference} on {each.name}"


def figures(turns: Mapping[str, Turns]) -> list[Figure]:
    """How many times faster Labelwise is than the best of whom a claim names."""
    found = []
    for name, whom, claim in CLAIMS:
        ours, others = turns[name]["labelwise"], turns[name]
        ratios = [times_faster(ours, others[peer]) for peer in others if peer.startswith(whom)]
        if ratios:
            best = whom[0] if len(whom) == 1 else f"the best of {len(ratios)}"
            found.append(Figure(f"{name}, against {best}", "ratio", min(ratios), claim))
    return found


def described(each: Case) -> dict[str, Any]:
    """What a case is."""
    lengths = [len(ids) for ids in each.ids]
    return {
        "texts": len(each.part(0)),
        "callers": each.callers,
        "ids": {"least": min(lengths), "median": median(lengths), "most": max(lengths)},
    }


def shown(each: Case, turns: Mapping[str, Turns]) -> dict[str, dict[str, float]]:
    """What each contestant did: texts a second, or the milliseconds of a lone text."""
    found = {}
    for name, theirs in turns[each.name].items():
        seconds = middle(theirs)
        speed = {"p50 ms": seconds * 1e3} if each.callers == 1 else {}
        speed = speed or {"texts a second": len(each.part(0)) / seconds}
        ratio = times_faster(turns[each.name].get("labelwise", theirs), theirs)
        found[name] = {key: round(value, 2) for key, value in speed.items()}
        found[name] |= {"labelwise is times faster": round(ratio, 3)}
    return found


def beside_the_toolkit(at: Path, tokenizer: Tokenizer, options: Namespace) -> dict[str, Any]:
    """Other shapes, callers and texts, and arrivals that wait for nobody, for two servers."""
    lineup = {name: LINEUP[name] for name in ("labelwise", "toolkit")}
    fresh = sentences(128)
    cases = [
        case("sentences, 1 caller", fresh[:32], tokenizer, callers=1),
        case("sentences, 8 callers", fresh, tokenizer, callers=8),
    ]
    parts = options.rounds + 2  # one for a turn that does not count, one to check the scores
    repeated = case("three in ten repeated", mixture(96, parts), tokenizer, parts=parts)
    turns = compare(lineup, at, cases, options)
    turns |= compare(lineup | {"labelwise": REMEMBERING}, at, [repeated], options)
    cases.append(repeated)
    found = {each.name: described(each) | {"measured": shown(each, turns)} for each in cases}
    shapes = {"embedded model": locate().folder, "FinBERT": models.folder(FINBERT, options.folder)}
    for name, folder in shapes.items():
        alike = [case(name, fresh, tokenizer)]
        found[name] = described(alike[0]) | {
            "measured": shown(alike[0], compare(lineup, folder, alike, options))
        }
    found["arrivals"] = {name: highest_rate(name, at, cases[1], options) for name in lineup}
    return found


def highest_rate(name: str, at: Path, each: Case, options: Namespace) -> dict[str, float]:
    """The most texts a second that may arrive at random so that 99 in 100 take a quarter second."""
    with contestant(LINEUP[name], at, [each], options.folder) as server:
        least, most = 0.0, 1.2 * len(each.texts) / median(server.turn(each)())
        for _ in range(HALVINGS):
            rate = (least + most) / 2
            answers = server.arrivals(each, rate, ARRIVAL_SECONDS)
            waits = [one.seconds if one.status == 200 else math.inf for one in answers]
            p99 = quantiles(waits, n=100)[-1]
            say(f"{name}: {rate:.1f} arrivals a second, p99 {p99 * 1e3:.0f} ms")
            least, most = (rate, most) if p99 <= P99_SECONDS else (least, rate)
    return {"arrivals a second": round(least, 2), "not any more": round(most, 2)}


def try_settings(at: Path, cases: Sequence[Case], options: Namespace) -> None:
    """Print, as Markdown, what the settings of each peer bring."""
    print("| peer | settings | sentences/s | reviews/s | lone, p50 ms |\n" + "| --- " * 5 + "|")
    for peer in options.only[1:]:
        lineup = {" ".join(chosen[1:]): chosen for chosen in TRIED[peer]}
        turns = compare(lineup, at, cases, options)
        tables = [shown(each, turns) for each in cases]
        for settings in lineup:
            speeds = [next(iter(table[settings].values())) for table in tables]
            print(f"| {peer} | `{settings}` | " + " | ".join(map(str, speeds)) + " |", flush=True)


if __name__ == "__main__":
    main()
