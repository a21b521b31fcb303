"""``/openapi.json``: what it says is what the server does."""

from __future__ import annotations

import re

import msgspec
import pytest
import schemathesis
from hypothesis import settings
from schemathesis.checks import CHECKS, load_all_checks

from labelwise.server.app import OWN, SHARED
from labelwise.server.openapi import Score, describe
from labelwise.server.tei import PredictQuery
from labelwise.server.wire import Pair, Parameters, Query
from serving import EMBEDDED, ask, within

load_all_checks()
schema = schemathesis.openapi.from_dict(describe())
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
@settings(max_examples=20, derandomize=True)
def test_every_answer_is_as_documented(case, live):
    if len(str(case.path_parameters.get("model", ""))) % 2:  # every other id is one that is served
        case.path_parameters["model"] = EMBEDDED
    case.call_and_validate(base_url=live.url, excluded_checks=[REJECTS_ALL_ELSE])


def test_the_document_is_served_as_it_is(live):
    answer = ask(f"{live.url}/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == describe()
    assert answer.json["openapi"].startswith("3.1.")
    schema.validate()


@pytest.mark.parametrize("kind", [Query, Pair, Parameters, PredictQuery, Score])
def test_the_schemas_are_those_of_the_types(kind):
    described = describe()["components"]["schemas"][kind.__name__]
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


def test_every_path_but_those_of_the_hub_is_in_the_document():
    served = {
        (re.sub(r"\{(\w+):path\}", r"{\1}", path), method.lower())
        for path, methods in (SHARED | OWN).items()
        for method in methods
        if not path.startswith("/api/") and path != "/openapi.json"
    }
    paths = describe()["paths"]
    documented = {(path, method) for path, methods in paths.items() for method in methods}
    assert served <= documented
    assert documented - served == {("/api/inference-proxy/hf-inference/models/{model}", "post")}


def test_an_answer_has_the_headers_that_are_documented(live):
    answer = ask(live.url, {"inputs": "a"})
    documented = describe()["paths"]["/"]["post"]["responses"]["200"]["headers"]
    assert set(documented) <= set(answer.headers)
