"""Live servers: routes, headers, limits, refusals, and who may ask."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from labelwise import Classifier
from labelwise.errors import BadInput
from labelwise.server.routes import ROUTES
from labelwise.serving.catalogue import Catalogue
from marks import slow
from padded import config, write_model, write_tokenizer
from serving import EMBEDDED, Answer, ask, command, within

HTTP_API = Path(__file__).parents[1] / "docs/http-api.md"
NAME = EMBEDDED.partition("/")[2]
MARK = "ZEBRA"  # stands for a text, which no error, header or log may repeat
DEEP = 100_000
INFERENCE = [route.path for route in ROUTES if route.name == "classify"]
OF_A_MODEL = [path for path in INFERENCE if "{model" in path]
SHARED = {route.path for route in ROUTES if route.cross_origin}
PUBLIC = {route.path for route in ROUTES if route.scope == "public"}
EXAMPLES = {(route.path, route.method): route.example for route in ROUTES}
ALL = list(EXAMPLES)
TEI = [route.path for route in ROUTES if route.name in {"predict", "vertex"}]
LIKE = {"inputs": "I like you"}
JSON = {"content-type": "application/json"}
ACCESS_TOKEN = "hf_right"  # noqa: S105
RIGHT_NOT = {"authorization": "Bearer hf_wrong"}


def small_model(folder):
    return write_tokenizer(write_model(folder, config("bert")), config("bert"))


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A server of several models; the embedded one is the first."""
    folder = small_model(tmp_path_factory.mktemp("model"))
    names = ["one/twin", "two/twin", "plain", "org/Odd-1.x__Y", "org/api", "org/a"]
    with within(Catalogue.load([EMBEDDED, *(f"{name}={folder}" for name in names)])) as server:
        yield server


@pytest.fixture(scope="module")
def many_labels(tmp_path_factory):
    """A server of a model with 4,000 labels."""
    values = config("bert", 4_000)
    folder = write_tokenizer(write_model(tmp_path_factory.mktemp("many"), values), values)
    with within(Catalogue.load([f"many={folder}"])) as server:
        yield server


@pytest.fixture(scope="module")
def guarded():
    with within(access_token=ACCESS_TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def narrow():
    """A server with low limits."""
    with within(max_body_bytes=2_000, max_texts=3, max_characters=1_000) as server:
        yield server


def post(live, body, path="/", **more):
    return ask(live.url + path, body, **more)


def at(path, model=EMBEDDED):
    """*path* as a caller writes it."""
    named = {"model": model, "revision": "main", "framework": "transformers"}
    named["path"] = "config.json" if re.search("resolve|raw", path) else ""
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: named[found[1]], path)


def exchange(live, method, path, body=None, headers=None):
    """The answer and its headers, those that come twice too; nothing is added to what is sent."""
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        found = Answer(response.status, dict(response.headers), response.read())
        return found, response.headers
    finally:
        connection.close()


def warnings_of(live, body):
    answer, headers = exchange(live, "POST", "/", json.dumps(body).encode())
    assert answer.status == 200, answer.body
    return headers.get_all("x-hf-warning", [])


def refused(answer, *statuses):
    """The message of an error, which is one line; *answer* has one of *statuses*."""
    assert answer.status in statuses, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert isinstance(answer.json["error"], str)
    assert "\n" not in answer.json["error"]
    return answer.json["error"]


def is_nested(found, texts=1):
    return len(found) == texts and all(
        {"label", "score"} == set(score) for scores in found for score in scores
    )


# Routes


@pytest.mark.parametrize(
    "model", [EMBEDDED, NAME, quote(EMBEDDED, safe=""), NAME.replace("-", "%2D")]
)
@pytest.mark.parametrize("path", OF_A_MODEL)
def test_every_path_of_a_model_answers(path, model, live):
    assert len(OF_A_MODEL) == 5
    answer = post(live, LIKE, at(path, model))
    assert is_nested(answer.json)
    assert [score["label"] for score in answer.json[0]] == ["POSITIVE", "NEGATIVE"]


@pytest.mark.parametrize("model", ["plain", "org/Odd-1.x__Y", "Odd-1.x__Y", "one/twin", "two/twin"])
@pytest.mark.parametrize("path", OF_A_MODEL)
def test_each_model_is_found_by_its_id(path, model, live):
    answer = post(live, {"inputs": "w7"}, at(path, model))
    assert sorted(score["label"] for score in answer.json[0]) == ["class-0", "class-1", "class-2"]


def test_a_name_that_two_models_share_is_refused_with_both(live):
    message = refused(post(live, LIKE, "/models/twin"), 404)
    assert message == "Model twin is ambiguous here: name one/twin or two/twin"
    assert refused(ask(f"{live.url}/api/models/twin"), 404) == "Repository not found"


def test_without_a_model_the_first_one_answers(live):
    assert post(live, LIKE).headers["x-sha"] == live.server.catalogue.first.sha
    assert live.server.catalogue.first.id == EMBEDDED


@pytest.mark.parametrize(
    "model",
    [
        "org/nope",
        f"{EMBEDDED}//",
        f"/{EMBEDDED}",
        EMBEDDED.upper(),
        "/",
        "%00",
        "%F0%9F%98%80",
        "%ff",
        "a%20b",
        "..%2f..%2fetc%2fpasswd",
        "%3Cscript%3E",
        "x" * 5_000,
    ],
    ids=lambda model: model[:30],
)
def test_an_unknown_model_is_not_found(model, live):
    answer = post(live, LIKE, f"/models/{model}")
    assert re.fullmatch("Model.* does not exist", refused(answer, 404))
    assert len(answer.body) < 1_500
    assert EMBEDDED in answer.json["message"]
    assert answer.headers["x-error-message"] == answer.json["message"]


def test_an_unknown_model_is_answered_with_some_that_are_served(live, guarded):
    answer = post(live, LIKE, "/models/org/nope")
    five = f"{EMBEDDED}, one/twin, two/twin, plain, org/Odd-1.x__Y"
    assert answer.json["message"] == f"served here: {five} and 2 more"
    assert EMBEDDED not in post(guarded, LIKE, "/models/org/nope").body.decode()


@pytest.mark.parametrize("model", [EMBEDDED, NAME])
@pytest.mark.parametrize("rest", ["pipeline/feature-extraction", "v1/chat/completions"])
def test_another_task_of_a_served_model_is_told_which_task_it_does(live, model, rest):
    answer = post(live, LIKE, f"/models/{model}/{rest}")
    assert refused(answer, 404) == f"Model {model}/{rest} does not exist"
    assert f"{EMBEDDED} does text-classification here" in answer.json["message"]


@pytest.mark.parametrize("path", [*OF_A_MODEL, "/predict"])
def test_a_slash_at_the_end_is_as_good_as_none(path, live):
    plain = post(live, LIKE, at(path))
    assert (plain.status, plain.json) == (200, post(live, LIKE, at(path) + "/").json)
    assert ask(f"{live.url}/health/").json == {"status": "ok"}


@pytest.mark.parametrize("prefix", ["/models", "/hf-inference/models"])
def test_a_model_has_its_own_health_and_info(prefix, live):
    for name, full in ((EMBEDDED, EMBEDDED), (NAME, EMBEDDED), ("org/a", "org/a")):
        url = f"{live.url}{prefix}/{name}"
        assert ask(f"{url}/health").json == {"status": "ok"}
        assert ask(f"{url}/info").json == ask(url).json
        assert ask(url).json["model_id"] == full
    unknown = f"{live.url}{prefix}/nope"
    assert {ask(unknown + rest).status for rest in ("", "/health", "/info")} == {404}


def test_a_model_is_not_called_like_a_route_behind_its_id(tmp_path):
    folder = small_model(tmp_path)
    for name in ("auth-check", "health", "info", "refs"):
        assert [one.id for one in Catalogue.load([f"{name}={folder}"])] == [name]
        with pytest.raises(
            BadInput, match=f"org/{name} cannot be the id of a model: a path that ends so"
        ):
            Catalogue.load([f"org/{name}={folder}"])


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/models",
        "/predict//",
        "/health//",
        "/docs",
        "/pipeline/fill-mask/a",
        "//",
        "/models/%0d%0ax-evil:%201",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_unknown_path_is_not_found(path, method, live):
    answer, _ = exchange(live, method, path)
    assert refused(answer, 404) == "Not Found"
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/helth", "/health"),
        ("/Metrics", "/metrics"),
        ("/model/org/m", "/models/{model}"),
        ("/hf_inference/models/org/m", "/hf-inference/models/{model}"),
        ("/api/model", "/api/models"),
        ("/v1/chat/completions", None),
        ("/" + "x" * 9_000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_unknown_path_is_answered_with_the_nearest_route(path, near, live):
    answer = ask(live.url + path)
    assert refused(answer, 404) == "Not Found"
    assert answer.json.get("message") == (f"the nearest route is {near}" if near else None)


def test_flat_is_for_one_text(live):
    nested, flat = (post(live, LIKE, f"/?flat={flag}").json for flag in ("false", "true"))
    assert flat == [pytest.approx(score) for score in nested[0]]
    assert is_nested(post(live, {"inputs": ["a"]}, "/?flat=true").json)
    assert isinstance(post(live, b"raw", f"/models/{EMBEDDED}?flat=true").json[0], dict)
    assert "flat must be true or false" in refused(post(live, LIKE, "/?flat=1"), 400)
    assert is_nested(post(live, LIKE, "/?other=1").json)


@pytest.mark.parametrize(("path", "method"), ALL)
def test_each_method_of_a_path_answers(path, method, live):
    url = live.url + at(path)
    answer = ask(url, EXAMPLES[path, method], method=method)
    assert answer.status == 200
    if method == "GET":
        head = ask(url, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-type"] == answer.headers["content-type"]


@pytest.mark.parametrize("path", dict.fromkeys(route.path for route in ROUTES))
def test_every_other_method_is_refused_with_those_that_are_not(path, live):
    known = {method for at_path, method in ALL if at_path == path}
    methods = {*known, "OPTIONS"} | ({"HEAD"} if "GET" in known else set())
    options = ask(live.url + at(path), method="OPTIONS")
    assert (options.status, options.body) == (204, b"")
    assert options.headers["allow"] == ", ".join(sorted(methods))
    for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"} - methods:
        answer, _ = exchange(live, method, at(path))
        assert answer.status == 405
        assert answer.headers["allow"] == options.headers["allow"]
        assert method == "HEAD" or method in refused(answer, 405)


@pytest.mark.parametrize("name", ["api", "a", "Odd-1.x__Y"])
def test_a_legacy_id_leads_to_the_whole_one(name, live):
    """Also where the name is part of the path before it."""
    answer, _ = exchange(live, "GET", f"/api/models/{name}/revision/main?expand=sha")
    assert answer.status == 307
    assert answer.headers["location"] == f"/api/models/org/{name}/revision/main?expand=sha"


def test_the_next_page_asks_for_the_same(live):
    asked = "limit=2&expand=sha&expand=private&filter=transformers&filter=text-classification"
    answer = ask(f"{live.url}/api/models?{asked}")
    page = re.fullmatch(r'<([^>]+)>; rel="next"', answer.headers["link"])[1]
    following = ask(page)
    assert [list(model) for model in answer.json] == [["_id", "id", "sha", "private"]] * 2
    assert [list(model) for model in following.json] == [["_id", "id", "sha", "private"]] * 2
    assert {model["id"] for model in answer.json}.isdisjoint(m["id"] for m in following.json)


# Inputs


@pytest.mark.parametrize(
    ("body", "texts"),
    [
        (b'{"inputs":"a"}', 1),
        (b'{"inputs":["a","b","c"]}', 3),
        (b'{"inputs":{"text":"a"}}', 1),
        (b'{"inputs":{"text":"a","text_pair":"b"}}', 1),
        (b'{"inputs":[{"text":"a","text_pair":"b"},{"text":"c"}]}', 2),
        (b'{"inputs":["a",{"text":"b"},["c","d"]]}', 3),
        (b'{"inputs":[["a","b"]]}', 1),
        (b'{"inputs":[["a","b"],["c","d"]]}', 2),
        (b'"a"', 1),
        (b'["a","b"]', 2),
        (b"raw text", 1),
        (b" begins with a blank", 1),
        (b"42", 1),
        (b"true", 1),
        (b"\xef\xbb\xbfraw text", 1),
        (b'\xef\xbb\xbf{"inputs":["a","b"]}', 2),
        (b'{"x":' + b"[" * 99 + b"]" * 99 + b',"inputs":"a","options":{},"model":5}', 1),
        (b'{"inputs":"a","parameters":null}', 1),
        (b'{"inputs":"a","parameters":{"top_k":null,"function_to_apply":null}}', 1),
        (b'{"inputs":["a"],"inputs":["a","b"]}', 2),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_every_form_of_inputs(body, texts, live):
    answer = post(live, body)
    assert answer.status == 200, answer.body
    assert is_nested(answer.json, texts)


@pytest.mark.parametrize(
    "kind", [None, "", "application/json", "text/plain", "image/png", "application/x-www-form"]
)
@pytest.mark.parametrize("body", [b'{"inputs":"good"}', b"good"])
def test_the_content_type_does_not_matter(kind, body, live):
    headers = {} if kind is None else {"content-type": kind}
    answer, _ = exchange(live, "POST", "/", body, headers)
    assert answer.json[0][0]["label"] == "POSITIVE"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "\0",
        "\ud800",
        "\udfff and more",
        "\ude00\ud83d",
        " " * 100_000,
        "\u202eright to left\u202c\u200f\u2066",
        "e" + "\u0301" * 1_000,
        "\ufeff",
        "\ufffd\uffff\U0010ffff",
        "\r\n\x07\x1b[31m\x7f",
        "😀" * 10_000,
    ],
    ids=lambda text: ascii(text)[:20],
)
def test_a_strange_text_is_a_text(text, live):
    for value in (text, [text, "a"], {"text": "a", "text_pair": text}):
        answer = post(live, {"inputs": value})  # escaped
        assert answer.status == 200, answer.body
    raw = json.dumps({"inputs": text}, ensure_ascii=False).encode(errors="replace")
    assert post(live, raw).status == 200
    assert post(live, {"inputs": "a", text: text, "parameters": {text: text}}).status == 200
    assert post(live, {"inputs": text}, "/predict").status == (200 if text else 400)


def test_half_of_a_surrogate_pair_leaves_the_rest_of_the_request_alone(live):
    body = {"inputs": ["\ud800", "a"], "parameters": {"top_k": 1, "\udc00": 1}}
    answer = post(live, body)
    assert [len(scores) for scores in answer.json] == [1, 1]
    assert warnings_of(live, body) == ["parameters; (not a name) is unknown and was ignored"]


# Warnings


def test_unknown_parameters_are_ignored_and_named(live):
    body = LIKE | {"parameters": {"top_k": 1, "padding": True, "return_all_scores": {"a": [1]}}}
    assert warnings_of(live, body) == [
        "parameters; padding is unknown and was ignored",
        "parameters; return_all_scores is unknown and was ignored",
    ]
    assert warnings_of(live, LIKE) == []


def test_what_is_no_name_is_not_repeated(live):
    names = [f"{MARK} two", "line\r\nx-evil: 1", "", "é", MARK * 20]
    for name in names:
        (warning,) = warnings_of(live, LIKE | {"parameters": {name: 1}})
        assert warning == "parameters; (not a name) is unknown and was ignored"
    many = {f"name{number}": number for number in range(1_000)}
    assert len(warnings_of(live, LIKE | {"parameters": many})) == 10


def test_texts_that_were_cut_are_counted(live):
    long = "good " * 600
    assert warnings_of(live, {"inputs": [long, "a", long * 2]}) == [
        f"truncation; 2 of 3 texts were longer than 512 tokens and were cut; {EMBEDDED} reads 512"
    ]


@pytest.mark.parametrize(
    ("parameters", "ids"),
    [
        ({}, 512),
        ({"truncation": None, "max_length": None}, 512),
        ({"truncation": True}, 512),
        ({"truncation": "longest_first"}, 512),
        ({"truncation": "only_first"}, 512),
        ({"max_length": 9_999}, 512),
        ({"truncation": True, "max_length": 100}, 100),
        ({"truncation": "only_first", "max_length": 100}, 100),
        ({"max_length": 1}, 4),
    ],
    ids=str,
)
def test_a_long_text_is_cut_to_what_fits(parameters, ids, live):
    answer = post(live, {"inputs": "good " * 600, "parameters": parameters})
    assert answer.headers["x-compute-tokens"] == str(ids)
    assert answer.headers["x-hf-warning"].startswith(
        f"truncation; 1 of 1 texts were longer than {ids}"
    )


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ({"truncation": False}, 512),
        ({"truncation": "do_not_truncate"}, 512),
        ({"truncation": False, "max_length": 9_999}, 512),
        ({"truncation": False, "max_length": 100}, 100),
        ({"truncation": "only_second"}, 512),
    ],
    ids=str,
)
def test_a_long_text_that_must_not_be_cut_is_refused_with_both_numbers(parameters, limit, live):
    body = {"inputs": ["a", "good " * 600], "parameters": parameters}
    assert f"text 2 has 602 tokens, more than the {limit} " in refused(post(live, body), 400)
    assert post(live, {"inputs": "short", "parameters": parameters}).status == 200


# Headers


def test_an_answer_says_what_it_cost(live, embedded):
    texts = ["I like you", "żółw 😀", ("a", "bc")]
    inputs = [*texts[:2], list(texts[2])]
    answer = post(live, {"inputs": inputs})
    expected = Classifier(embedded)(texts)
    assert answer.headers["x-compute-type"] == "cpu"
    assert answer.headers["x-compute-characters"] == str(10 + 6 + 3)
    assert answer.headers["x-compute-tokens"] == str(sum(scores.length for scores in expected))
    assert 0 <= float(answer.headers["x-compute-time"]) < 30
    assert answer.headers["x-sha"] == live.server.catalogue.first.sha
    again = post(live, {"inputs": inputs})
    assert again.headers["x-inference-id"] != answer.headers["x-inference-id"]
    assert again.headers["x-request-id"] != answer.headers["x-request-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 200),
        ("GET", "/health", 200),
        ("OPTIONS", "/", 204),
        ("POST", "/?flat=1", 400),
        ("POST", "/models/nope", 404),
        ("GET", "/nope", 404),
        ("PUT", "/", 405),
    ],
)
@pytest.mark.parametrize("header", ["x-request-id", "x-amzn-trace-id"])
def test_a_request_id_comes_back_on_every_answer(header, method, path, status, live):
    given = "Root=1-67dd50b2;self~!" if status != 200 else "i" * 200
    answer, headers = exchange(live, method, path, b"some", {header: given})
    assert answer.status == status
    assert headers.get_all("x-request-id") == [given]


def test_the_request_id_goes_before_that_of_the_trace(live):
    both = {"x-request-id": "first", "x-amzn-trace-id": "second"}
    assert post(live, LIKE, headers=both).headers["x-request-id"] == "first"


@pytest.mark.parametrize("given", ["", "i" * 201, "i" * 1_000, "two words", "é", "tab\there"])
def test_a_request_id_that_is_none_is_replaced(given, live):
    for path in ("/", "/nope"):
        _, headers = exchange(live, "POST", path, b"some", {"x-request-id": given})
        assert re.fullmatch(r"[0-9a-f-]{36}", headers["x-request-id"])


@pytest.mark.parametrize("path", dict.fromkeys(route.path for route in ROUTES))
def test_pages_of_other_sites_may_use_inference_and_lookups_alone(path, live):
    page = {"origin": "https://example.com"}
    preflight = page | {
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type",
    }
    asked = ask(live.url + at(path), headers=preflight, method="OPTIONS")
    good, wrong = (ask(live.url + at(path), b"", headers=page, method=m) for m in ("GET", "PUT"))
    shared = path in SHARED
    for answer in (asked, good, wrong):
        assert ("access-control-allow-origin" in answer.headers) is shared
        assert "access-control-allow-credentials" not in answer.headers
    assert ("access-control-allow-headers" in asked.headers) is shared
    plain = ask(live.url + at(path), method="OPTIONS")
    assert "access-control-allow-methods" not in plain.headers


def test_errors_can_be_read_by_pages_of_other_sites(live, guarded):
    for answer in (post(live, b""), post(live, LIKE, "/models/nope"), post(guarded, LIKE)):
        assert answer.status in {400, 401, 404}
        assert answer.headers["access-control-allow-origin"] == "*"


# Bad input


BRACKETS = b"[" * DEEP + b"]" * DEEP
BAD = {
    "raw bytes": (b"ZEBRA \xff", "'utf-8' codec"),
    "bytes in a string": (b'{"inputs":"ZEBRA\xc3("}', "'utf-8' codec"),
    "gzip": (b"\x1f\x8b\x08\x00ZEBRA", "'utf-8' codec"),
    "UTF-16": ('"ZEBRA"'.encode("utf-16"), "'utf-8' codec"),
    "empty": (b"", "empty"),
    "blank": (b" \n", "empty"),
    "truncated": (b'{"inputs":"ZEBRA"', "not valid JSON"),
    "truncated string": (b'{"inputs":"ZEBRA', "not valid JSON"),
    "trailing": (b'{"inputs":"ZEBRA"} ZEBRA', "not valid JSON"),
    "control character": (b'{"inputs":"ZEBRA\n"}', "not valid JSON"),
    "NaN": (b'{"inputs":"ZEBRA","x":NaN}', "not valid JSON"),
    "single quotes": (b"{'inputs':'ZEBRA'}", "not valid JSON"),
    "deep inputs": (b'{"inputs":' + BRACKETS + b"}", ""),
    "deep unknown key": (b'{"inputs":"ZEBRA","x":' + BRACKETS + b"}", "nested too deeply"),
    "deep parameters": (b'{"inputs":"ZEBRA","parameters":{"x":' + BRACKETS + b"}}", "too deeply"),
    "deep objects": (b'{"a":' * DEEP + b"1" + b"}" * DEEP, "nested too deeply"),
    "deep list": (BRACKETS, ""),
    "no inputs": (b'{"ZEBRA":"ZEBRA"}', "inputs is missing"),
    "empty list": (b'{"inputs":[]}', "inputs"),
    "null": (b"null", "null"),
    "null inputs": (b'{"inputs":null}', "inputs"),
    "number": (b'{"inputs":5}', "inputs"),
    "list with a number": (b'{"inputs":["ZEBRA",5]}', "inputs"),
    "list of three": (b'{"inputs":[["ZEBRA","b","c"]]}', "inputs"),
    "pair without a text": (b'{"inputs":{"text_pair":"ZEBRA"}}', "inputs"),
    "parameters": (b'{"inputs":"ZEBRA","parameters":"ZEBRA"}', "parameters"),
    **{
        f"{name} {value}": (
            b'{"inputs":"ZEBRA","parameters":{"%s":%s}}' % (name.encode(), value.encode()),
            f"{name} must be ",
        )
        for name, values in {
            "top_k": ["0", "-1", "1.5", "1e999", '"2"', "true", "[1]", '"ZEBRA"', "1" * 5_000],
            "function_to_apply": ['"default"', '"ZEBRA"', '"got `ZEBRA`"', "1", "{}"],
            "truncation": ['"ZEBRA"', "1"],
            "max_length": ["0", "-1", '"ZEBRA"'],
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize(("body", "says"), BAD.values(), ids=[name[:40] for name in BAD])
def test_bad_input_is_refused_with_what_is_wrong(body, says, live):
    for path in ("/", f"/models/{EMBEDDED}"):
        answer = post(live, body, path)
        assert says in refused(answer, 400)
        assert_unmarked(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"ZEBRA",
        b'{"inputs":["ZEBRA","b","c"]}',
        b'{"inputs":["ZEBRA",["b"]]}',
        b'{"inputs":"a","raw_scores":"ZEBRA"}',
        b'{"inputs":"a","truncate":"ZEBRA"}',
        b'{"inputs":"ZEBRA\xff"}',
        b'{"inputs":"a","x":' + BRACKETS + b"}",
        b"",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_bad_input_to_predict_is_refused(body, live):
    for path in TEI:
        answer = post(live, body, path, headers=JSON)
        assert refused(answer, 400, 422)
        assert_unmarked(answer)


def assert_unmarked(answer):
    """Assert that *answer* repeats nothing of a text."""
    assert MARK.encode() not in answer.body
    assert MARK not in str(answer.headers)


def test_predict_tells_what_all_other_routes_tell(live):
    body = {"inputs": "predict " * 600}
    first, again = (post(live, body, "/predict") for _ in range(2))
    anew = post(live, body, "/predict", headers={"x-use-cache": "false"})
    used = [one.headers["x-compute-type"] for one in (first, again, anew)]
    assert used == ["cpu", "cache", "cpu"]
    for answer in (first, again, anew):
        assert answer.headers["x-compute-tokens"] == "512"
        assert answer.headers["x-hf-warning"].startswith("truncation; 1 of 1 texts were longer")


def test_predict_loses_the_end_that_is_asked_for(live):
    long = "a delight " * 300 + "a terrible mess " * 200

    def best(direction):
        body = {"inputs": long, "truncation_direction": direction}
        return post(live, body, "/predict").json[0]["label"]

    assert {best(one) for one in ("Right", "right", None)} == {"POSITIVE"}
    assert {best(one) for one in ("Left", "left")} == {"NEGATIVE"}
    wrong = post(live, {"inputs": "a", "truncation_direction": "Up"}, "/predict")
    assert refused(wrong, 422) == "truncation_direction must be Left or Right"


@pytest.mark.parametrize("path", [*OF_A_MODEL, "/", *TEI])
@pytest.mark.parametrize("given", ["", "0", "-1", "nan", "inf", "1e999", "soon", "1,5", "0x1", "é"])
def test_a_bad_timeout_is_refused(given, path, live):
    answer, _ = exchange(live, "POST", at(path), b'{"inputs":"a"}', {"x-request-timeout": given})
    status = 422 if path in TEI else 400
    assert "x-request-timeout must be a number of seconds" in refused(answer, status)


@pytest.mark.parametrize("given", ["30", "2e1", "99999999"])
def test_a_good_timeout_is_one_in_seconds(given, live):
    assert post(live, LIKE, headers={"x-request-timeout": given}).status == 200


@pytest.mark.parametrize("path", ["/", "/predict"])
def test_an_answer_that_comes_too_late_is_none(path, live):
    new = {"inputs": f"nobody has asked for this on {path} before"}
    answer = post(live, new, path, headers={"x-request-timeout": "1e-300"})
    assert refused(answer, 504, 429)


def test_too_many_texts_or_characters_are_refused(narrow):
    for path in ("/", "/predict"):
        for inputs, says in (
            ([[MARK, "b"]] * 4, "4 texts in one request; send 3 at most"),
            ("Z" * 1_001, "1001 characters in one request; send 1000 at most"),
            ([["Z" * 500, "Z" * 501]], "1001 characters"),
        ):
            answer = post(narrow, {"inputs": inputs}, path)
            assert says in refused(answer, 422 if path in TEI else 413)
            assert_unmarked(answer)
        assert post(narrow, {"inputs": "Z" * 1_000}, path).status == 200


@pytest.mark.parametrize("path", ["/", f"/models/{EMBEDDED}", *TEI[:2]])
def test_a_body_over_the_limit_is_refused_however_it_comes(path, narrow):
    long = b'{"inputs":"' + MARK.encode() * 1_000 + b'"}'
    pieces = (long[start : start + 700] for start in range(0, len(long), 700))
    whole, _ = exchange(narrow, "POST", path, long, JSON)
    parts, _ = exchange(narrow, "POST", path, pieces, JSON)
    for answer in (whole, parts):
        assert "longer than 2000 bytes" in refused(answer, 413)
        assert_unmarked(answer)
    fits, _ = exchange(narrow, "POST", path, iter([b'{"inputs":', b'"a"}']), JSON)
    assert fits.status == 200


@pytest.mark.parametrize(
    ("header", "sent"),
    [
        ("content-length: 1000000000", b""),
        ("content-length: 2001", b""),
        ("content-length: 1000000000", b"x" * 5_000),
        ("transfer-encoding: chunked", b"bb8\r\n" + b"x" * 3_000 + b"\r\n"),
        ("transfer-encoding: chunked", b"ffffffff\r\n" + b"x" * 3_000),
    ],
)
def test_a_body_that_never_ends_is_answered_when_it_is_too_long(header, sent, narrow):
    head = f"POST / HTTP/1.1\r\nhost: localhost\r\n{header}\r\n\r\n"
    with raw(narrow, head.encode() + sent) as answers:
        assert b" 413 " in answers.readline()
        headers = http.client.parse_headers(answers)
        error = json.loads(answers.read(int(headers["content-length"])))["error"]
    assert "longer than 2000 bytes" in error


@contextmanager
def raw(live, sent):
    """What the server answers to the bytes *sent*, while the connection is open."""
    host = urlsplit(live.url)
    with socket.create_connection((host.hostname, host.port), 30) as connection:
        connection.sendall(sent)
        with connection.makefile("rb") as answers:
            yield answers


def test_a_caller_that_speaks_tls_is_told_to_the_log_once(tmp_path):
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256))
    with command(tmp_path) as live:
        for _ in range(3):
            with raw(live, hello) as answers:
                assert answers.readline().startswith(b"HTTP/1.1 400")
        assert post(live, LIKE).status == 200
        assert live.log.read_text().count("ask it with http://, or put a proxy with TLS") == 1


def test_pages_of_other_sites_may_read_every_header_that_is_described(live):
    described = {
        name for route in ROUTES if route.cross_origin for name in route.headers | route.sometimes
    }
    documented = {
        *re.findall(r"\bx-[a-z-]+|retry-after|ratelimit(?:-policy)?", HTTP_API.read_text().lower())
    }
    sent_alone = {"x-request-timeout", "x-use-cache", "x-amzn-trace-id", "x-forwarded-for"}
    exposed = {*post(live, LIKE).headers["access-control-expose-headers"].split(", ")}
    assert described | (documented - sent_alone) <= exposed
    assert {"link", "retry-after", "ratelimit", "x-error-code", "x-error-message"} <= exposed


# What nobody may read


def test_no_error_and_no_log_repeats_a_text(tmp_path):
    """Whatever is wrong with a request, and wherever in it the text stands."""
    limits = ["--max-characters", "10000", "--max-texts", "5", "--max-body-bytes", "1000000"]
    marked = f"{MARK} {MARK.lower()}"
    with command(tmp_path, *limits) as live:
        for body, _ in BAD.values():
            assert_unmarked(post(live, body))
            for path in TEI:
                assert_unmarked(post(live, body, path, headers=JSON))
        for body, headers in (
            ({"inputs": [MARK] * 6}, {}),
            ({"inputs": MARK * 3_000}, {}),
            ({"inputs": MARK * 300_000}, {}),
            ({"inputs": f"{MARK} " * 1_000, "parameters": {"truncation": False}}, {}),
            ({"inputs": f"{MARK} " * 1_000}, {}),
            ({"inputs": MARK, "parameters": {marked: marked}}, {}),
            ({"inputs": MARK}, {"x-request-timeout": MARK}),
            ({"inputs": MARK}, {"x-request-timeout": "1e-300"}),
            ({"inputs": MARK}, {"x-request-id": marked}),
            ({"inputs": MARK}, {"host": f"{MARK}.example"}),
            ({"inputs": MARK}, {"authorization": MARK}),
            ({"inputs": MARK}, {"content-type": MARK}),
        ):
            assert_unmarked(post(live, body, headers=headers))
        for path in (f"/?flat={MARK}", f"/{MARK}", f"/api/models?limit={MARK}", f"/?{MARK}={MARK}"):
            assert_unmarked(post(live, {"inputs": MARK}, path))
            assert_unmarked(ask(live.url + path))
        for broken in (
            b"ZEBRA\r\n\r\n",
            b"ZEBRA / HTTP/1.1\r\n\r\n",
            b"POST / HTTP/1.1\r\nZEBRA\r\n\r\n",
        ):
            with raw(live, broken) as answers:
                assert MARK.encode() not in answers.read()
        assert post(live, LIKE).status == 200
    assert MARK not in live.log.read_text().upper()


def test_an_engine_that_fails_repeats_no_text(caplog):
    def fail(_, **how):
        raise ValueError(MARK, how)

    with within() as live:
        model = live.server.catalogue.first.model
        model.run = fail
        engine = post(live, LIKE, headers={"x-request-id": "my-id"})
        del model.run
        model.encode = fail_to_encode
        unforeseen = post(live, LIKE, headers={"x-request-id": "my-id"})
        del model.encode
        assert post(live, LIKE).status == 200
    assert "(ValueError)" in refused(engine, 500)
    assert refused(unforeseen, 500).endswith("under request id my-id")
    assert "request my-id failed: KeyError at " in caplog.text
    assert MARK not in caplog.text
    assert_unmarked(engine)
    assert_unmarked(unforeseen)


def fail_to_encode(*_, **__):
    raise KeyError(MARK)


# Access


@pytest.mark.parametrize(("path", "method"), ALL)
def test_every_path_is_closed_without_an_access_token_unless_it_is_public(path, method, guarded):
    url, body = guarded.url + at(path), EXAMPLES[path, method]
    status = 200 if path in PUBLIC else 401
    assert ask(url, body, method=method).status == status
    if method == "GET":
        assert ask(url, method="HEAD").status == status
    right = {"authorization": f"Bearer {ACCESS_TOKEN}"}
    assert ask(url, body, method=method, headers=right).status == 200


def test_public_paths_are_few_and_exist():
    of_models = {path for path in PUBLIC if path.startswith("/api/") or path.endswith("/health")}
    of_old_clients = {"/status/{model:id}", "/framework/{framework}"}
    assert PUBLIC - of_models == {"/ping", "/ready", *of_old_clients}
    assert not any(path in PUBLIC for path, method in ALL if method != "GET")


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (f"Bearer {ACCESS_TOKEN}", 200),
        (f"bearer {ACCESS_TOKEN}", 200),
        (f"BEARER   {ACCESS_TOKEN} ", 200),
        (f"Bearer: {ACCESS_TOKEN}", 200),
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer:", 401),
        (ACCESS_TOKEN, 401),
        ("Bearer wrong", 401),
        (f"Bearer {ACCESS_TOKEN}x", 401),
        (f"Bearer {ACCESS_TOKEN[:-1]}", 401),
        (f"Bearer {ACCESS_TOKEN.upper()}", 401),
        (f"Bearer {ACCESS_TOKEN} {ACCESS_TOKEN}", 401),
        (f"Basic {ACCESS_TOKEN}", 401),
        ("Bearer é", 401),
        ("Bearer " + "x" * 5_000, 401),
    ],
)
def test_only_the_right_access_token_opens(given, status, guarded):
    answer = post(guarded, LIKE, headers={} if given is None else {"authorization": given})
    assert answer.status == status
    if status == 401:
        assert refused(answer, 401) == "Invalid username or password."
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert "Authorization: Bearer ACCESS_TOKEN" in answer.json["message"]


def test_a_wrong_access_token_is_told_from_none(guarded):
    """Python's client takes a 401 without these words for a model that is not there."""
    wrong, none = (ask(f"{guarded.url}/info", headers=given) for given in (RIGHT_NOT, {}))
    assert wrong.headers["x-error-message"] == "Invalid credentials in Authorization header"
    assert none.headers["x-error-message"] == none.json["message"] == wrong.json["message"]


def test_a_body_is_not_read_for_who_may_not_ask(guarded):
    head = b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000\r\n\r\n"
    with raw(guarded, head) as answers:
        assert b" 401 " in answers.readline()


def test_whoami_knows_the_access_token(guarded, live):
    headers = {"authorization": f"Bearer {ACCESS_TOKEN}"}
    assert ask(f"{guarded.url}/api/whoami-v2", headers=headers).json["name"] == "access-token"
    assert ask(f"{live.url}/api/whoami-v2").json["name"] == "anonymous"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    "given", ["a file", *slow("a file of Windows", "the environment", "the settings", "nobody")]
)
def test_the_command_that_the_greeting_shows_works(given, tmp_path):
    """Where it stands in the file of settings, or not alone in its line, a shell cannot know it."""
    arguments, environment = [], {}
    folder = tmp_path / "it's a folder $HOME"
    folder.mkdir()
    if given == "a file":
        (folder / "my token").write_text("secret\nsecond line\n")
        arguments = ["--access-token-file", "my token"]
    elif given == "a file of Windows":
        (folder / "token").write_bytes(b"secret\r\n")
        arguments = ["--access-token-file", "token"]
    elif given == "the environment":
        environment = {"LABELWISE_ACCESS_TOKEN": "secret"}
    elif given == "the settings":
        (folder / "labelwise.toml").write_text('access_token = "secret"')
    with command(folder, *arguments, environment=environment) as live:
        assert "secret" not in live.log.read_text()
        [line] = re.findall(r"^Try: (curl .*)$", live.log.read_text(), re.MULTILINE)
        assert ("ACCESS-TOKEN" in line) == (given in {"a file of Windows", "the settings"})
        line = line.replace("ACCESS-TOKEN", "secret")
        run = subprocess.run(  # noqa: S602
            f"{line} --silent",
            shell=True,
            cwd=tmp_path,
            env=os.environ | environment,
            capture_output=True,
            check=True,
        )
    assert json.loads(run.stdout)[0][0]["label"] == "POSITIVE"


def test_the_access_token_comes_from_a_file_or_the_environment(tmp_path, embedded):
    """And ``NAME=FOLDER`` gives a folder its id."""
    (tmp_path / "secret").write_text("from-file\nsecond line\n")
    models = [f"mine={embedded}", f"org/other={embedded}"]
    with command(tmp_path, "--access-token-file", "secret", *models) as live:
        assert post(live, LIKE).status == 401
        right = {"authorization": "Bearer from-file"}
        assert post(live, LIKE, headers=right).status == 200
        assert post(live, LIKE, "/models/mine", headers=right).status == 200
        assert post(live, LIKE, "/models/other", headers=right).status == 200
        about = ask(f"{live.url}/info", headers=right).json
        assert (about["model_id"], about["models"]) == ("mine", ["mine", "org/other"])
        assert "from-file" not in live.log.read_text()
    with command(tmp_path, environment={"LABELWISE_ACCESS_TOKEN": "from-environment"}) as live:
        assert post(live, LIKE).status == 401
        right = {"authorization": "Bearer from-environment"}
        assert post(live, LIKE, headers=right).status == 200


# Hosts


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:8000", 200),
        ("LocalHost:1", 200),
        ("a.localhost", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:8000", 200),
        ("127.9.9.9", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("model.example", 200),
        ("Model.Example:8000", 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("evil.model.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("127.0.0.1@evil.example", 403),
        ("10.0.0.1", 403),
        ("0.0.0.0", 403),  # noqa: S104
        ("[::]", 403),
        ("", 403),
    ],
)
def test_a_server_on_loopback_answers_for_its_own_names(host, status, named):
    for path, body in (("/", LIKE), ("/health", None), ("/nope", None)):
        answer = ask(named.url + path, body, headers={"host": host})
        assert answer.status == (404 if path == "/nope" and status == 200 else status)
        if status == 403:
            assert "--allowed-host" in refused(answer, 403)
            assert "access-control-allow-origin" not in answer.headers


@pytest.fixture(scope="module")
def named():
    with within(allowed_host=("model.example",)) as server:
        yield server


def test_a_server_for_others_answers_for_every_name():
    with within(host="0.0.0.0", auth="open") as server:  # noqa: S104
        assert post(server, LIKE, headers={"host": "evil.example"}).status == 200


# What keeps it from starting


@pytest.fixture
def taken():
    """A port that somebody listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield str(other.getsockname()[1])


def fails_to_start(folder, *arguments):
    """What ``labelwise serve`` says before it ends with exit code 2: one line."""
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "labelwise", "serve", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "Traceback" not in line
    return line


def test_a_port_that_is_taken_is_named(tmp_path, taken):
    assert f"port {taken} of '127.0.0.1' cannot be taken" in fails_to_start(
        tmp_path, "--port", taken
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("missing", "missing"),
        ("empty", "config.json"),
        ("org/x=empty", "config.json"),
        ("bad!id=model", "cannot be the id of a model"),
        ("model model", "two models are called model"),
        ("org/x=model org/x=model", "two models are called org/x"),
        ("--prot 1", "--prot"),
        ("--host 0.0.0.0", "--access-token-file"),
        ("--host http://localhost --auth open", "is no address of this machine"),
        ("--host 192.0.2.1 --auth open", "give a name or an address alone, as in --host"),
        ("--auth required", "there is no access token"),
        ("--access-token secret", "--access-token-file"),
        ("--access-token-file none", "'none' does not exist"),
    ],
)
def test_a_start_that_cannot_be_ends_in_one_line(arguments, says, tmp_path):
    (tmp_path / "empty").mkdir()
    small_model(tmp_path / "model")
    assert says in fails_to_start(tmp_path, "--port", "0", *arguments.split())


def test_an_answer_of_too_many_scores_is_refused_before_anything_is_computed(many_labels):
    texts = [f"w{number}" for number in range(40)]
    refused = ask(many_labels.url, {"inputs": texts})
    said = "40 texts with 4000 labels each are more than the 100000 scores of one answer; "
    assert refused.status == 413
    assert refused.json["error"] == f"{said}set top_k to 2500 or less, or send fewer texts"
    refused = ask(f"{many_labels.url}/predict", {"inputs": [[text] for text in texts]})
    assert refused.status == 422
    assert refused.json["error"] == (
        f"{said}set top_k to 2500 or less on the path /, or send fewer texts"
    )
    metrics = ask(f"{many_labels.url}/metrics").body.decode()
    assert 'labelwise_tokenization_seconds_count{model="many"} 0.0' in metrics
    found = ask(many_labels.url, {"inputs": texts, "parameters": {"top_k": 3}})
    assert [len(scores) for scores in found.json] == [3] * 40
