"""``/openapi.json``: what it says is what the server does."""

from __future__ import annotations

import re

import msgspec
import pytest
import schemathesis
from hypothesis import settings
from schemathesis.checks import CHECKS, load_all_checks

from labelwise.server.openapi import describe
from labelwise.server.routes import ROUTES
from labelwise.server.wires.huggingface import Pair, Parameters, Query
from labelwise.server.wires.tei import PredictQuery
from labelwise.server.wires.vertex import VertexQuery
from labelwise.server.wires.wire import Score
from serving import EMBEDDED, ask, within

load_all_checks()
schema = schemathesis.openapi.from_dict(describe(ROUTES))
# 504 is the honest answer to a caller who waits for less time than any text takes.
schema.config.checks.not_a_server_error.expected_statuses = ["2xx", "3xx", "4xx", "504"]
# Bodies that are no JSON are texts, and unknown headers are nobody's business: nothing to reject.
# What is rejected stands in test_wire.py.
(REJECTS_ALL_ELSE,) = CHECKS.get_by_names(["negative_data_rejection"])


@pytest.fixture(scope="module")
def live():
    with within() as server:
        yield server


@schema.parametrize()
@settings(max_examples=10, derandomize=True)
def test_every_answer_is_as_documented(case, live):
    if len(str(case.path_parameters.get("model", ""))) % 2:  # every other id is one that is served
        case.path_parameters["model"] = EMBEDDED
    if case.path == "/vertex":
        agree(case.body)
    case.call_and_validate(base_url=live.url, excluded_checks=[REJECTS_ALL_ELSE])


def agree(body):
    """Have all instances of *body* say the same of their texts, which no schema can ask for."""
    instances = body.get("instances") if isinstance(body, dict) else None
    if isinstance(instances, list) and all(isinstance(one, dict) for one in instances):
        keys = ("raw_scores", "truncate", "truncation_direction")
        said = {key: one[key] for one in instances[:1] for key in keys if key in one}
        for one in instances:
            for key in keys:
                one.pop(key, None)
            one.update(said)


def test_the_document_is_served_as_it_is(live):
    answer = ask(f"{live.url}/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == describe(ROUTES)
    assert answer.json["openapi"].startswith("3.1.")
    schema.validate()


@pytest.mark.parametrize("kind", [Query, Pair, Parameters, PredictQuery, VertexQuery, Score])
def test_the_schemas_are_those_of_the_types(kind):
    described = describe(ROUTES)["components"]["schemas"][kind.__name__]
    assert list(described["properties"]) == list(fields(kind))
    assert described["required"] == [name for name, required in fields(kind).items() if required]


def test_a_score_is_answered_as_it_is_described(live):
    [[best, *_]] = ask(live.url, {"inputs": "a"}).json
    assert list(best) == list(fields(Score))
    assert msgspec.convert(best, Score, strict=True)


def fields(kind):
    """The names of the fields of *kind*, and whether each must be there."""
    found = {field.name: field.required for field in msgspec.inspect.type_info(kind).fields}
    assert found
    return found


def test_every_route_is_in_the_document_once():
    paths = describe(ROUTES)["paths"]
    documented = {(path, method) for path, methods in paths.items() for method in methods}
    assert documented == {
        (re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path), route.method.lower()) for route in ROUTES
    }
    names = [one["operationId"] for methods in paths.values() for one in methods.values()]
    assert len(set(names)) == len(ROUTES)


@pytest.mark.parametrize("path", ["/", "/predict"])
def test_an_answer_has_the_headers_that_are_documented(path, live):
    answer = ask(live.url + path, {"inputs": "a"})
    documented = describe(ROUTES)["paths"][path]["post"]["responses"]["200"]["headers"]
    always = {name for name, header in documented.items() if header["required"]}
    assert always <= set(answer.headers)
    assert {name for name in answer.headers if name.startswith("x-")} <= set(documented)
    warned = ask(live.url + path, {"inputs": "good " * 600})
    assert set(documented) <= set(warned.headers)
