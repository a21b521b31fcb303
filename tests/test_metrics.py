"""``/metrics`` and ``/ready``: what they say is what clients saw."""

from __future__ import annotations

import http.client
import json
import re
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as families

from labelwise.engine import cpus as processors
from labelwise.errors import LabelwiseError, Overloaded
from labelwise.models.model import Model
from labelwise.server import caller
from labelwise.server.observe.metrics import FAMILIES, REFUSALS
from labelwise.server.observe.record import NO_ROUTE
from labelwise.server.routes import ROUTES
from labelwise.serving.batcher import Batcher
from labelwise.serving.catalogue import Catalogue, Entry
from padded import config, write_model, write_tokenizer
from serving import EMBEDDED, ask, until, within

ACCESS_TOKEN = "hf_right"  # noqa: S105
RIGHT = {"authorization": f"Bearer {ACCESS_TOKEN}"}
HISTOGRAMS = [family.name for family in FAMILIES if family.kind == "histogram"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    return write_tokenizer(write_model(folder, config("bert")), config("bert"))


@pytest.fixture
def model(folder, monkeypatch):
    """A model on one stream, so that a test can hold up all of the engine."""
    monkeypatch.setattr(processors, "available", lambda: 1)
    return Model.load(folder)


def serving(model, **settings):
    """A server of *model*, called org/small, in this process."""
    return within(Catalogue([Entry("org/small", model, "0" * 40)]), **settings)


def samples(live, **headers):
    """What ``/metrics`` says: values by name and labels."""
    answer = ask(f"{live.url}/metrics", headers=headers)
    assert answer.status == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families(answer.body.decode())
        for sample in family.samples
    }


def value(found, name, **labels):
    """The one value of that name with all those *labels*."""
    (one,) = series(found, name, **labels).values()
    return one


def series(found, name, **labels):
    """The values of that name with all those *labels*."""
    wanted = set(labels.items())
    return {
        key: one
        for key, one in found.items()
        if key[0] == f"labelwise_{name}" and wanted <= set(key[1:])
    }


def outcomes(found):
    """How many requests had each outcome, by route; where there were any."""
    counts = Counter()
    for (_, *labels), number in series(found, "requests_total").items():
        counts[dict(labels)["route"], dict(labels)["outcome"]] += int(number)
    return +counts


@contextmanager
def held_up(live, model, **first):
    """Inside, the engine of *live* has a text that it does not finish; *first* is what asks."""
    may_go, runs, run = threading.Event(), threading.Event(), model.run

    def wait(texts, **how):
        runs.set()
        assert may_go.wait(60)
        return run(texts, **how)

    model.run = wait
    with ThreadPoolExecutor(1) as pool:
        try:
            call = pool.submit(ask, live.url, {"inputs": "w7"}, **first)
            until(runs.is_set)
            yield
        finally:
            may_go.set()
        assert call.result().status == 200
    model.run = run


def send(live, body, *, length=None, headers=""):
    """A connection on which a request was sent, of whose body *length* bytes were announced."""
    parts = urlsplit(live.url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=30)
    length = len(body) if length is None else length
    head = f"POST / HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def status(connection):
    with connection:
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status


# What is there


def test_every_series_is_there_at_zero_from_the_start(folder):
    catalogue = Catalogue.load([EMBEDDED, f"org/small={folder}"])
    with within(catalogue) as live:
        found = samples(live)
    counted = {key: one for key, one in found.items() if key[0].startswith("labelwise_")}
    assert counted.pop(("labelwise_build_info", ("version", live_version()))) == 1
    assert set(counted.values()) == {0}
    assert {family.name for family in FAMILIES} - {"build_info"} == {
        re.sub("_(bucket|sum|count)$", "", key[0].removeprefix("labelwise_")) for key in counted
    }
    for entry in catalogue:
        for name in HISTOGRAMS[1:]:
            assert value(found, f"{name}_count", model=entry.id) == 0
        for route in (one for one in ROUTES if one.asks_model):
            for outcome in route.outcomes.split():
                value(found, "requests_total", route=route.name, model=entry.id, outcome=outcome)
        labels = series(found, "labels_total", model=entry.id)
        assert {dict(key[1:])["label"] for key in labels} == set(entry.model.labels)
    assert found["process_resident_memory_bytes",] > 1e6


def live_version():
    from labelwise import __version__  # noqa: PLC0415

    return __version__


def test_routes_of_one_name_are_counted_alike():
    alike: dict[str, set[object]] = {}
    for route in ROUTES:
        alike.setdefault(route.name, set()).add((route.classifies, route.outcomes, route.scope))
    assert {name: len(kinds) for name, kinds in alike.items()} == dict.fromkeys(alike, 1)
    assert NO_ROUTE not in alike


def test_every_refusal_has_a_word():
    def kinds(root):
        return [root, *(one for kind in root.__subclasses__() for one in kinds(kind))]

    words = {kind.reason for kind in kinds(LabelwiseError)}
    assert words == {
        "",
        "too_large",
        "too_slow",
        "access_token",
        "head",
        "host",
        "target",
        "media_type",
    }
    assert words - {""} < set(REFUSALS)
    assert Overloaded("busy", 1, "texts").reason in REFUSALS


def test_servers_in_one_process_count_for_themselves(model):
    with serving(model) as one, serving(model) as other:
        ask(one.url, b"w7")
        assert value(samples(one), "texts_total") == 1
        assert value(samples(other), "texts_total") == 0


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=x", "text/plain; version=0.0.4; charset=utf-8"),
        (
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
        (
            "application/openmetrics-text;version=99.x",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        ),
    ],
)
def test_both_formats_can_be_read(accept, kind, model):
    with serving(model) as live:
        ask(live.url, b"w7")
        answer = ask(f"{live.url}/metrics", headers={"accept": accept})
    assert answer.headers["content-type"] == kind
    parse = openmetrics_families if "openmetrics" in kind else families
    found = list(parse(answer.body.decode()))
    assert {one.name for one in found} >= {
        f"labelwise_{family.name.removesuffix('_total')}" for family in FAMILIES
    }
    assert not any(one.name.endswith("_created") for family in found for one in family.samples)


def test_an_unknown_model_is_one_value_whatever_it_is_called(model):
    with serving(model) as live:
        before = set(samples(live))
        for name in ("org/nope", "a" * 3_000, "%00", "%F0%9F%98%80", "x%22y", "none"):
            assert ask(f"{live.url}/models/{name}", b"w7").status == 404
            assert ask(f"{live.url}/api/models/{name}").status == 404
            assert ask(f"{live.url}/{name}").status == 404
        found = samples(live)
    assert set(found) == before
    assert value(found, "requests_total", route="classify", model="unknown") == 6
    assert value(found, "requests_total", route="show_model", model="unknown") == 6
    assert outcomes(found)["none", "404"] == 6


def test_a_model_is_counted_under_its_whole_id(model):
    with serving(model) as live:
        for path in ("/", "/models/small", "/models/org/small", "/hf-inference/models/org%2Fsmall"):
            assert ask(live.url + path, b"w7").status == 200
        found = samples(live)
    served = {"route": "classify", "outcome": "200"}
    assert value(found, "requests_total", model="org/small", **served) == 4


def test_a_model_that_is_added_has_its_series(model):
    with serving(model) as live:
        live.server.metrics.add(Entry("org/other", model, "0" * 40))
        assert value(samples(live), "texts_total", model="org/other") == 0


def test_a_scrape_costs_an_access_token_where_there_is_one(model):
    with serving(model, access_token=ACCESS_TOKEN) as live:
        assert ask(f"{live.url}/metrics").status == 401
        found = samples(live, **RIGHT)
        assert outcomes(found) == {("metrics", "401"): 1}
        assert outcomes(samples(live, **RIGHT))["metrics", "200"] == 1


def test_the_documents_ask_for_series_that_there_are(model):
    document = (Path(__file__).parents[1] / "docs/operations.md").read_text("utf-8")
    with serving(model) as live:
        known = {key[0] for key in samples(live)}
    known |= {f"labelwise_{family.name}" for family in FAMILIES}
    assert set(re.findall(r"\b(?:labelwise|process)_[a-z_]+\b", document)) <= known


# Outcomes


def mixed(number):
    """The request of that *number*: path, body, headers, method."""
    kinds = [
        ("/", {"inputs": f"w{number % 50}"}, RIGHT, None),
        ("/predict", {"inputs": f"w{number % 40} w7"}, RIGHT, None),
        ("/models/org/small", {"inputs": ["w7"] * (number % 3 + 1)}, RIGHT, None),
        ("/", {"inputs": f"w{number} w9"}, RIGHT | {"x-request-timeout": "1e-9"}, None),
        ("/", {"inputs": []}, RIGHT, None),
        ("/", {"inputs": "w7"}, {}, None),
        ("/models/nope", {"inputs": "w7"}, RIGHT, None),
        ("/nope", None, RIGHT, None),
        ("/health", None, RIGHT, "PUT"),
        ("/predict", {"inputs": [["w7"]] * 9}, RIGHT, None),
        ("/", None, {}, "OPTIONS"),
        ("/info", None, RIGHT, "HEAD"),
        ("/info", None, RIGHT | {"host": "evil.example"}, None),
    ]
    return kinds[number % len(kinds)]


def test_the_count_of_each_outcome_is_that_of_the_callers(model):
    limits = {"max_waiting_texts": 4, "max_texts": 8, "cache_bytes": 0}
    with serving(model, access_token=ACCESS_TOKEN, **limits) as live:

        def one(number):
            path, body, headers, method = mixed(number)
            return ask(live.url + path, body, headers=headers, method=method).status

        with ThreadPoolExecutor(16) as pool:
            with held_up(live, model, headers=RIGHT):
                late = {"x-request-timeout": "0.3"} | RIGHT
                seen = Counter([ask(live.url, {"inputs": ["w7"] * 4}, headers=late).status])
                calls = [pool.submit(one, number) for number in range(104)]
                until(lambda: sum(call.done() for call in calls) >= 104 - 4)
            seen += Counter(call.result() for call in calls) + Counter({200: 1})
            seen += Counter(pool.map(one, range(104)))
        found = samples(live, **RIGHT)
    counted = Counter()
    for (_, outcome), number in outcomes(found).items():
        counted[int(outcome)] += number
    assert counted == seen
    assert set(seen) == {200, 204, 400, 401, 403, 404, 405, 422, 429, 504}
    refused = sum(value(found, "refusals_total", reason=why) for why in REFUSALS[:5])
    assert refused == seen[429]
    assert value(found, "refusals_total", reason="access_token") == seen[401]
    assert value(found, "refusals_total", reason="too_large") == seen[422]
    assert value(found, "refusals_total", reason="host") == seen[403]


def test_a_caller_that_leaves_is_counted_once(model):
    with serving(model, cache_bytes=0) as live:
        with send(live, b'{"inputs": "w', length=1000):
            until(lambda: live.server.bodies._held == 13)
        with held_up(live, model):
            with send(live, b'{"inputs": ["w8", "w9"]}'):
                until(lambda: "[2 texts, 6 tokens" in repr(live.server.batcher))
            until(lambda: "[0 texts, 0 tokens" in repr(live.server.batcher))
        until(lambda: outcomes(samples(live))["classify", "left"] == 2)
        found = samples(live)
    assert outcomes(found)["classify", "200"] == 1
    assert value(found, "texts_total") == 1


def test_an_engine_that_fails_is_counted(model):
    def fail(*_, **__):
        raise RuntimeError

    with serving(model) as live:
        model.run = fail
        assert ask(live.url, b"w7").status == 500
        del model.run
        model.encode = fail
        assert ask(live.url, b"w8").status == 500
        del model.encode
        found = samples(live)
    assert outcomes(found)["classify", "500"] == 2
    assert value(found, "engine_seconds_count") == 1
    assert value(found, "texts_total") == value(found, "request_seconds_count", route="classify")
    assert value(found, "texts_total") == 0


# Seconds, batches and texts


def test_what_is_counted_of_texts_is_what_was_asked(model):
    asked = [["w7"], ["w8 w9", "w10"], ["w11"] * 3, ["w12 w13 w14 w15"] * 2]
    with serving(model, cache_bytes=0) as live, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda texts: ask(live.url, {"inputs": texts}), asked * 5))
        answers.append(ask(f"{live.url}/predict", {"inputs": "w16"}))
        found = samples(live)
    requests, texts = len(answers), sum(map(len, asked)) * 5 + 1
    ids = sum(int(one.headers["x-compute-tokens"]) for one in answers[:-1]) + 3
    assert value(found, "texts_total") == texts
    assert value(found, "batch_tokens_sum") == ids
    for name in ("queue", "tokenization"):
        assert value(found, f"{name}_seconds_count") == requests
    assert value(found, "request_seconds_count", route="classify") == requests - 1
    assert value(found, "request_seconds_count", route="predict") == 1
    batches = value(found, "engine_seconds_count")
    assert batches == value(found, "batch_tokens_count") == value(found, "batch_jobs_count")
    assert requests <= value(found, "batch_jobs_sum") <= texts
    assert batches <= value(found, "batch_jobs_sum")


def test_the_parts_of_a_request_are_not_longer_than_the_whole(model):
    with serving(model, cache_bytes=0) as live:
        for number in range(20):
            assert ask(live.url, {"inputs": f"w{number + 5}"}).status == 200
        found = samples(live)
    parts = [value(found, f"{name}_seconds_sum") for name in ("tokenization", "queue", "engine")]
    assert min(parts) > 0
    assert sum(parts) <= value(found, "request_seconds_sum", route="classify")


def test_known_texts_are_hits_and_so_are_those_that_others_compute(model):
    with serving(model) as live, ThreadPoolExecutor(3) as pool:
        ask(live.url, {"inputs": ["w8", "w8"]})
        assert value(samples(live), "cache_hits_total") == 0
        ask(live.url, {"inputs": ["w8", "w9", "w8"]})
        assert value(samples(live), "cache_hits_total") == 2
        with held_up(live, model):  # it computes w7
            calls = [pool.submit(ask, live.url, {"inputs": "w7"}) for _ in range(3)]
            flights = live.server.inference._flights
            until(lambda: sum(flight.waiting for flight in set(flights.values())) == 4)
        assert {call.result().status for call in calls} == {200}
        ask(live.url, {"inputs": "w8", "options": {"use_cache": False}})
        found = samples(live)
    assert value(found, "cache_hits_total") == 2 + 3
    assert value(found, "texts_total") == 2 + 3 + 1 + 3 + 1
    assert value(found, "batch_tokens_sum") == 4 * 3
    assert value(found, "cache_texts") == 3
    assert value(found, "cache_bytes") > 3 * 600


def test_labels_are_those_that_were_answered(model):
    best, names = Counter(), ["softmax", "sigmoid", "none"]
    with serving(model) as live:
        for number in range(30):
            texts = [f"w{number + 5} w{index + 9}" for index in range(number % 4 + 1)]
            parameters = {"function_to_apply": names[number % 3], "top_k": number % 2 + 1}
            answer = ask(live.url, {"inputs": texts, "parameters": parameters})
            best.update(scores[0]["label"] for scores in answer.json)
        best.update(scores[0]["label"] for scores in ask(live.url, {"inputs": texts}).json)
        best[ask(f"{live.url}/predict", {"inputs": "w7"}).json[0]["label"]] += 1
        found = samples(live)
    counted = {dict(key[1:])["label"]: n for key, n in series(found, "labels_total").items()}
    assert Counter(counted) == best
    assert sum(counted.values()) == value(found, "texts_total")


def test_texts_that_were_cut_are_counted(model):
    with serving(model) as live:
        cut = {"inputs": ["w7 w8 w9", "w7"], "parameters": {"max_length": 4}}
        for _ in range(2):  # known ones too
            assert "1 of 2 texts" in ask(live.url, cut).headers["x-hf-warning"]
        assert value(samples(live), "truncated_texts_total") == 2


# Refusals and what waits


def reasons(live, **headers):
    found = series(samples(live, **headers), "refusals_total")
    return {dict(key[1:])["reason"]: int(number) for key, number in found.items() if number}


def test_each_reason_for_a_refusal_is_counted(model, monkeypatch):
    monkeypatch.setattr(caller, "_PAUSE_SECONDS", 0.3)
    limits = {"max_waiting_texts": 4, "max_waiting_seconds": 50.0, "max_body_bytes": 3_000}
    with serving(model, access_token=ACCESS_TOKEN, **limits) as live:
        batcher, url = live.server.batcher, live.url

        def post(*texts, **headers):
            return ask(url, {"inputs": texts}, headers=RIGHT | headers).status

        assert ask(url, b"w7").status == 401
        assert ask(url, b"w7", headers={"host": "evil.example"}).status == 403
        assert ask(url, b"w" * 4_000, headers=RIGHT).status == 413
        assert ask(url, b"w7", headers=RIGHT | {"content-encoding": "br"}).status == 415
        right = f"authorization: {RIGHT['authorization']}\r\n"
        assert status(send(live, b"w", length=9, headers=right)) == 408
        live.server.bodies._held += 80_000_000
        assert ask(url, b"w7", headers=RIGHT).status == 429
        live.server.bodies._held -= 80_000_000
        with ThreadPoolExecutor(1) as pool, held_up(live, model, headers=RIGHT):
            waiting = pool.submit(post, "w10", "w11")
            until(lambda: "[2 texts, 6 tokens" in repr(batcher))
            assert post("w12", "w13", "w14") == 429
            (line,) = batcher._queue.by_model.values()
            line.seconds_per_token = 20 / 6
            assert post("w15", **{"x-request-timeout": "9"}) == 429
            line.seconds_per_token = 49 / 6
            assert post("w16 w17 w18") == 429
            line.seconds_per_token = 1e-6
        assert waiting.result() == 200
        assert ask(f"{url}/{'a' * 20_000}", headers=RIGHT).status == 414
        assert ask(url, headers=RIGHT | {"x-long": "a" * 70_000}).status == 431
        bounds = live.connections.bounds
        live.connections.bounds = replace(bounds, connections=0)
        assert ask(url, b"w7", headers=RIGHT).status == 429
        live.connections.bounds = bounds
        live.server.refuse_work()
        assert ask(url, b"w7", headers=RIGHT).status == 429
        assert reasons(live, **RIGHT) == dict.fromkeys(REFUSALS, 1)


def test_what_waits_is_seen_and_goes(model):
    gauges = ("waiting_jobs", "waiting_texts", "waiting_tokens")
    with serving(model, cache_bytes=0) as live, ThreadPoolExecutor(2) as pool:

        def now():
            found = samples(live)
            return [value(found, name) for name in gauges]

        assert now() == [0, 0, 0]
        with held_up(live, model):
            assert value(samples(live), "running_batches") == 1
            calls = [pool.submit(ask, live.url, {"inputs": ["w8", "w9 w10"]}) for _ in range(2)]
            until(lambda: now() == [2, 4, 14])
        assert {call.result().status for call in calls} == {200}
        assert now() == [0, 0, 0]
        assert value(samples(live), "running_batches") == 0


# Ready


def test_ready_is_whether_a_request_would_be_taken(model, monkeypatch):
    with serving(model, max_waiting_texts=2, cache_bytes=0) as live, ThreadPoolExecutor(1) as pool:

        def ready():
            answer = ask(f"{live.url}/ready")
            assert "access-control-allow-origin" not in answer.headers
            return answer.status, answer.json

        assert ready() == (200, {"status": "ready"})
        with held_up(live, model):
            assert ready()[0] == 200
            full = pool.submit(ask, live.url, {"inputs": ["w8", "w9"]})
            until(live.server.batcher.overload)
            assert ready()[0] == 503
            assert "the server is busy" in ready()[1]["error"]
            assert ask(live.url, b"w10").status == 429
            assert ask(f"{live.url}/health").status == 200
        assert full.result().status == 200
        assert ready()[0] == 200
        with monkeypatch.context() as patched:
            patched.setattr(Batcher, "is_alive", lambda _: False)
            assert "the engine does not run" in ready()[1]["error"]
        live.server.refuse_work()
        assert ready() == (503, {"error": "the server is ending"})


def test_ready_says_when_there_is_more_work_than_may_wait(model):
    with serving(model, cache_bytes=0) as live, ThreadPoolExecutor(1) as pool:
        with held_up(live, model):
            waiting = pool.submit(ask, live.url, {"inputs": "w8"})
            until(lambda: "[1 texts, 3 tokens" in repr(live.server.batcher))
            (line,) = live.server.batcher._queue.by_model.values()
            line.seconds_per_token, pace = 1e6, line.seconds_per_token
            assert ask(f"{live.url}/ready").status == 503
            line.seconds_per_token = pace
            assert ask(f"{live.url}/ready").status == 200
        assert waiting.result().status == 200


def test_what_is_counted_is_there_before_the_answer(model):
    """Whoever has his answer finds it counted, over and over."""
    with serving(model) as live:
        for number in range(1, 30):
            assert ask(live.url, json.dumps(f"w{number + 5}").encode()).status == 200
            found = samples(live)
            assert outcomes(found)["classify", "200"] == number
            assert value(found, "engine_seconds_count") == number
