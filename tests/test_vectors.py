"""The wire, row by row: each test is one vector of the contract, its number in the name.

The embedded model answers under the id of the model that the vectors were recorded with. The
recorded scores themselves cannot be reached without its weights, so scores are compared with what
`Classifier` gives for the same text.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error

import numpy as np
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.utils import parse_ratelimit_headers

from labelwise import Classifier
from labelwise.models.scores import apply
from labelwise.serving.catalogue import Catalogue
from padded import config, padded_logits, random_weights, write_model, write_tokenizer
from serving import ask, command, until, within

NAME = "distilbert-base-uncased-finetuned-sst-2-english"
S = f"distilbert/{NAME}"
LIKE = "I like you"
LOVE = "I like you. I love you."
PARIS, LONDON = "Paris is the capital of France", "London is the capital of England"


@pytest.fixture(scope="module")
def live(embedded):
    with within(Catalogue.load([f"{S}={embedded}"])) as server:
        yield server


@pytest.fixture(scope="module")
def classify(embedded):
    """What the scores of the server are compared with."""
    return Classifier(embedded)


def post(live, body, path=f"/models/{S}", **more):
    return ask(live.url + path, body, **more)


def answered(answer):
    """The JSON of an answer that is good; what every good answer has is checked."""
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    return answer.json


def refused(answer, *statuses):
    """The message of an answer that is not, one of *statuses*."""
    assert answer.status in statuses, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert isinstance(answer.json["error"], str)
    return answer.json["error"]


def assert_scores(found, *expected):
    """*found*, JSON, is a list of labels and scores for each of *expected*, in the same order."""
    assert [[score["label"] for score in scores] for scores in found] == [
        [score.label for score in scores] for scores in expected
    ]
    for scores, others in zip(found, expected, strict=True):
        assert [score["score"] for score in scores] == pytest.approx(
            [score.score for score in others], abs=1e-5
        )


def test_row_01_one_text_with_empty_parameters(live, classify):
    answer = post(live, {"inputs": LIKE, "parameters": {}}, f"/hf-inference/models/{S}")
    assert_scores(answered(answer), classify(LIKE))
    assert [score["label"] for score in answer.json[0]] == ["POSITIVE", "NEGATIVE"]
    assert answer.headers["x-compute-type"] == "cpu"
    assert answer.headers["x-compute-characters"] == "10"
    assert re.fullmatch(r"\d+\.\d{3}", answer.headers["x-compute-time"])
    assert re.fullmatch(r"[0-9a-f]{40}", answer.headers["x-sha"])


def test_row_02_an_id_without_its_namespace(live, classify):
    assert_scores(answered(post(live, {"inputs": LOVE}, f"/models/{NAME}")), classify(LOVE))


@pytest.mark.parametrize("more", [{"options": {}}, {"model": NAME}], ids=["options", "model"])
def test_row_03_keys_beside_inputs_are_ignored(more, live, classify):
    assert_scores(answered(post(live, {"inputs": LOVE} | more, f"/models/{NAME}")), classify(LOVE))


def test_row_04_the_bare_address_asks_the_first_model(live, classify):
    assert_scores(answered(post(live, {"inputs": LIKE, "parameters": {}}, "/")), classify(LIKE))


@pytest.mark.parametrize(
    "path", ["/api/inference-proxy/hf-inference/models/", "/pipeline/text-classification/"]
)
def test_row_05_older_paths(path, live, classify):
    assert_scores(answered(post(live, {"inputs": LIKE}, path + S)), classify(LIKE))


def test_row_06_a_list_of_one(live, classify):
    assert_scores(answered(post(live, {"inputs": [LIKE]})), classify(LIKE))


def test_row_07_a_list_has_its_answers_in_order(live, classify):
    found = answered(post(live, {"inputs": [LIKE, "I hate you"]}))
    assert_scores(found, classify(LIKE), classify("I hate you"))
    assert [scores[0]["label"] for scores in found] == ["POSITIVE", "NEGATIVE"]


def test_row_08_top_k_limits_the_labels(live, classify):
    found = answered(post(live, {"inputs": LIKE, "parameters": {"top_k": 1}}))
    assert_scores(found, classify(LIKE, top_k=1))
    assert len(found[0]) == 1


def test_row_09_a_large_top_k_gives_all_labels(live, classify):
    found = answered(post(live, {"inputs": LIKE, "parameters": {"top_k": 99}}))
    assert_scores(found, classify(LIKE))


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "2", True], ids=repr)
def test_row_10_a_bad_top_k_is_named(top_k, live):
    answer = post(live, {"inputs": LIKE, "parameters": {"top_k": top_k}})
    assert "top_k" in refused(answer, 400)


@pytest.mark.parametrize("parameters", [None, {"top_k": None, "function_to_apply": None}], ids=repr)
def test_row_11_null_is_absent(parameters, live, classify):
    answer = post(live, {"inputs": LIKE, "parameters": parameters})
    assert_scores(answered(answer), classify(LIKE))


def test_row_12_sigmoid_scores_need_not_sum_to_1(live, classify):
    found = answered(post(live, {"inputs": "x", "parameters": {"function_to_apply": "sigmoid"}}))
    assert_scores(found, classify("x", function_to_apply="sigmoid"))
    logits = {score.label: score.score for score in classify("x", function_to_apply="none")}
    expected = {label: 1 / (1 + np.exp(-logit)) for label, logit in logits.items()}
    scores = {score["label"]: score["score"] for score in found[0]}
    assert scores == pytest.approx(expected, abs=1e-5)
    assert sum(scores.values()) != pytest.approx(1, abs=1e-3)
    assert found[0][0]["score"] > found[0][1]["score"]


@pytest.mark.parametrize("function", ["softmax", "none"])
def test_row_13_softmax_and_none(function, live, classify):
    found = answered(post(live, {"inputs": LIKE, "parameters": {"function_to_apply": function}}))
    assert_scores(found, classify(LIKE, function_to_apply=function))
    assert (found[0][1]["score"] < 0) == (function == "none")


@pytest.mark.parametrize("function", ["default", "argmax", "", 1, ["softmax"]], ids=repr)
def test_row_14_another_function_is_refused_with_the_three_that_are(function, live):
    answer = post(live, {"inputs": LIKE, "parameters": {"function_to_apply": function}})
    message = refused(answer, 400)
    assert all(name in message for name in ("softmax", "sigmoid", "none"))


KINDS = {
    "multi": (4, "multi_label_classification", "sigmoid"),
    "one-label": (1, None, "sigmoid"),
    "regression": (1, "regression", "none"),
}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    """A server of small random models, one of each kind that has a function of its own."""
    folders = tmp_path_factory.mktemp("kinds")
    for name, (labels, problem_type, _) in KINDS.items():
        values = config("bert", labels) | {"problem_type": problem_type}
        write_tokenizer(write_model(folders / name, values), values)
    names = [f"org/{name}={folders / name}" for name in KINDS]
    with within(Catalogue.load(names)) as server:
        yield server


@pytest.mark.parametrize("kind", KINDS)
def test_row_15_each_kind_of_model_has_its_function(kind, kinds):
    labels, _, function = KINDS[kind]
    values = config("bert", labels)
    ids = ([0, 7, 8, 2], [0, 0, 0, 0])  # as its tokenizer cuts "w7 w8"
    logits = padded_logits(values, random_weights(values), [ids])[0]
    expected = sorted(apply(function, logits), reverse=True)
    (found,) = answered(ask(f"{kinds.url}/models/org/{kind}", {"inputs": "w7 w8"}))
    assert [score["score"] for score in found] == pytest.approx(expected, abs=1e-5)
    assert {score["label"] for score in found} == {f"class-{n}" for n in range(labels)}


def test_row_16_a_list_of_pairs(live, classify):
    question = "What is Paris?"
    pairs = [{"text": question, "text_pair": second} for second in (PARIS, LONDON)]
    expected = classify([(question, PARIS), (question, LONDON)])
    assert_scores(answered(post(live, {"inputs": pairs})), *expected)


def test_row_17_one_pair(live, classify):
    found = answered(post(live, {"inputs": {"text": "a", "text_pair": "b"}}))
    assert_scores(found, classify(("a", "b")))


def test_row_18_quotation_marks_of_the_published_example_belong_to_the_text(live, classify):
    answer = post(live, rb'{"inputs": "\"I like you. I love you\""}')
    assert_scores(answered(answer), classify('"I like you. I love you"'))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'"It is a beautiful day outside"', "It is a beautiful day outside"),
        (b"Some", "Some"),
    ],
)
def test_row_19_a_bare_string_and_raw_text(body, text, live, classify):
    answer = post(live, body)
    assert_scores(answered(answer), classify(text))
    assert answer.headers["x-compute-characters"] == str(len(text))


def test_row_20_bytes_that_are_no_text(live):
    answer = post(live, b"\xc3\x28")
    assert answer.status == 400
    assert answer.body == (
        b"{\"error\":\"'utf-8' codec can't decode byte 0xc3 in position 0: "
        b'invalid continuation byte"}'
    )


@pytest.mark.parametrize(
    "body",
    [{}, {"parameters": {}}, {"inputs": None}, {"inputs": 5}, {"inputs": []}],
    ids=json.dumps,
)
def test_row_21_no_inputs(body, live):
    assert "inputs" in refused(post(live, body), 400)


def test_row_22_an_unknown_model(live):
    answer = post(live, {"inputs": LIKE}, "/models/org/nope")
    assert refused(answer, 404) == "Model org/nope does not exist"


@pytest.mark.parametrize("given", [None, "Bearer hf_wrong"], ids=["none", "wrong"])
def test_row_23_no_access_token_or_a_wrong_one(given, embedded):
    headers = {"authorization": given} if given else {}
    with within(Catalogue.load([f"{S}={embedded}"]), access_token="hf_right") as closed:  # noqa: S106
        answer = post(closed, {"inputs": LIKE}, headers=headers)
        right = post(closed, {"inputs": LIKE}, headers={"authorization": "Bearer hf_right"})
    assert refused(answer, 401) == "Invalid username or password."
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="Authentication required", charset="UTF-8"'
    )
    assert answered(right)


def test_row_24_overload():
    """Where the engine is busy and the queue is full, the next text is told when to come again."""
    with within(max_waiting_texts=1, cache_bytes=0) as busy:
        model, free, entered = busy.server.catalogue.first.model, threading.Event(), []
        run = model.run

        def blocked(texts, **how):
            entered.append(len(texts))
            assert free.wait(30)
            return run(texts, **how)

        model.run = blocked
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(post(busy, b"some", "/")))
            for _ in range(2)
        ]
        try:
            threads[0].start()
            until(lambda: entered)
            threads[1].start()
            until(lambda: busy.server.batcher._queue.texts == 1)
            answer = post(busy, b"more", "/")
        finally:
            free.set()
            for thread in threads:
                thread.join(30)
    assert [answer.status for answer in answers] == [200, 200]
    assert "busy" in refused(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["ratelimit"] == f'"inference";r=0;t={answer.headers["retry-after"]}'
    told = parse_ratelimit_headers(answer.headers)
    assert (told.remaining, told.reset_in_seconds) == (0, int(answer.headers["retry-after"]))
    assert (told.limit, told.window_seconds) == (1, 30)


def test_row_25_no_request_meets_a_model_that_is_still_loading(tmp_path, embedded):
    """Models are loaded before the port listens: a connection is refused, or answered in full."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    answers = []

    def answered_at_last():
        try:
            answers.append(ask(f"http://127.0.0.1:{port}/models/{S}", {"inputs": LIKE}))
        except urllib.error.URLError as error:
            assert isinstance(error.reason, ConnectionRefusedError)  # noqa: PT017
        return answers

    asking = threading.Thread(target=until, args=[answered_at_last])
    asking.start()  # before the server
    with command(tmp_path, "--port", str(port), f"{S}={embedded}"):
        asking.join(30)
    assert answered(answers[0])


def test_row_26_a_body_over_the_limit():
    with within(max_body_bytes=100) as small:
        answer = post(small, b"x" * 101, "/")
        assert answered(post(small, b"x" * 100, "/"))
    assert "100 bytes" in refused(answer, 413)


def test_row_27_a_long_text_is_cut_and_the_answer_says_so(live, classify):
    answer = post(live, {"inputs": "good " * 600})
    assert_scores(answered(answer), classify("good " * 600))
    assert re.match("truncation; 1 of 1 texts .* 512 ", answer.headers["x-hf-warning"])
    assert answered(post(live, {"inputs": ""}))


def test_row_28_truncation_and_max_length(live, classify):
    body = {"inputs": LIKE, "parameters": {"truncation": True, "max_length": 512}}
    assert_scores(answered(post(live, body)), classify(LIKE))


def test_row_29_a_page_of_another_site_may_ask(live):
    wanted = "authorization,content-type,user-agent,x-hf-bill-to"
    asking = {
        "origin": "https://example.com",
        "access-control-request-method": "POST",
        "access-control-request-headers": wanted,
    }
    preflight = ask(f"{live.url}/models/{S}", headers=asking, method="OPTIONS")
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == wanted
    answer = post(live, {"inputs": LIKE}, headers={"origin": "https://example.com"})
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    assert {"x-compute-type", "x-compute-time", "x-request-id"} <= set(exposed)


def test_row_30_the_python_client_asks_for_both(live):
    for url in (live.url, f"{live.url}/models/{S}", f"{live.url}/hf-inference/models/{S}"):
        client = InferenceClient(model=url, provider="hf-inference")
        assert client.health_check() is True
        assert client.get_endpoint_info()["model_id"] == S


def test_row_30_health_and_info(live):
    assert ask(f"{live.url}/health").status == 200
    assert answered(ask(f"{live.url}/info"))["model_id"] == S


def test_row_31_the_model_as_the_hub_describes_it(live):
    described = answered(ask(f"{live.url}/api/models/{S}"))
    assert (described["id"], described["pipeline_tag"]) == (S, "text-classification")


@pytest.mark.parametrize("expand", ["expand", "expand[]", "expand%5B%5D"])
def test_row_32_the_provider_of_a_model(expand, live):
    described = answered(ask(f"{live.url}/api/models/{S}?{expand}=inferenceProviderMapping"))
    mapping = {"status": "live", "providerId": S, "task": "text-classification"}
    assert described.pop("_id")
    assert described == {"id": S, "inferenceProviderMapping": {"hf-inference": mapping}}


def test_row_33_an_id_without_its_namespace_leads_to_the_whole_one(live):
    query = "?expand=inferenceProviderMapping"
    host, port = live.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(
            f"GET /api/models/{NAME}{query} HTTP/1.1\r\n"
            f"host: {host}\r\nconnection: close\r\n\r\n".encode()
        )
        head = connection.makefile("rb").read().decode().lower()
    assert head.startswith("http/1.1 307 ")
    assert f"\r\nlocation: /api/models/{S}{query}\r\n".lower() in head
    assert answered(ask(f"{live.url}/api/models/{NAME}{query}"))["id"] == S


def test_row_34_a_list_of_models_comes_in_pages(kinds):
    query = "inference=warm&pipeline_tag=text-classification&sort=trendingScore&limit=1"
    found, page = [], f"{kinds.url}/api/models?{query}"
    while page:
        answer = ask(page)
        assert len(answered(answer)) == 1
        found += [model["id"] for model in answer.json]
        link = re.fullmatch(r'<(https?://[^>]+)>;\s+rel="next"', answer.headers.get("link", ""))
        page = link[1] if link else None
        assert not page or page.startswith(kinds.url)
    assert found == [f"org/{kind}" for kind in KINDS]


def test_row_35_a_model_that_the_list_has_not(live):
    answer = ask(f"{live.url}/api/models/nope")
    assert refused(answer, 404) == "Repository not found"
    assert answer.headers["x-error-code"] == "RepoNotFound"


def test_row_36_tasks_and_the_caller(live):
    task = answered(ask(f"{live.url}/api/tasks"))["text-classification"]
    assert task["widgetModels"] == [S]
    assert task["models"][0]["id"] == S
    caller = answered(ask(f"{live.url}/api/whoami-v2"))
    assert caller["name"]
    assert caller["auth"]["accessToken"]["role"] == "read"


@pytest.mark.parametrize("path", ["/api/agent-harnesses", "/no/such/path", "/models", "//"])
def test_row_37_an_unknown_path_is_not_found(path, live):
    answer = ask(live.url + path)
    assert (answer.status, answer.json["error"]) == (404, "Not Found")


def test_row_38_the_python_client_end_to_end(live, tmp_path):
    program = (
        "import sys\n"
        "from huggingface_hub import InferenceClient\n"
        "found = InferenceClient(model=sys.argv[1]).text_classification('I like you')\n"
        "print(*[score.label for score in found])\n"
    )
    known = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, live.url],
        env=known | {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "POSITIVE NEGATIVE\n"


def test_row_39_the_javascript_client_accepts_the_answer(live, classify):
    """Its request, byte by byte, and its own check; the client itself needs Node."""
    headers = {
        "authorization": "Bearer hf_x",
        "content-type": "application/json",
        "user-agent": "@huggingface/inference/4.13.30",
        "accept": "*/*",
    }
    found = answered(post(live, b'{"inputs":"I like you"}', "/", headers=headers))
    assert_scores(found, classify(LIKE))
    assert len(found[0]) == 2
    for score in found[0]:
        assert isinstance(score["label"], str)
        assert isinstance(score["score"], float)


@pytest.mark.parametrize(
    ("inputs", "texts", "flat"),
    [
        ("test", ["test"], True),
        ([["a"], ["b"]], ["a", "b"], False),
        (["a", "b"], [("a", "b")], True),
    ],
    ids=repr,
)
def test_row_40_predict_as_text_embeddings_inference_has_it(inputs, texts, flat, live, classify):
    found = answered(post(live, {"inputs": inputs}, "/predict"))
    assert_scores([found] if flat else found, *classify(texts))


def test_every_row_has_its_test():
    rows = {int(name[9:11]) for name in globals() if name.startswith("test_row_")}
    assert rows == set(range(1, 41))
