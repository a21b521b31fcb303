"""The routes of text-embeddings-inference: what its clients and its documents expect of them."""

from __future__ import annotations

import threading
import time

import pytest

from labelwise import Classifier
from labelwise.errors import EngineFailed, LabelwiseError, ModelNotFound
from labelwise.server.http import Connections
from labelwise.server.openapi import describe
from labelwise.server.routes import ROUTES
from labelwise.server.wires.tei import PredictFailure
from serving import EMBEDDED, ask, within

JSON = {"content-type": "application/json"}
PREDICT = ("/predict", "/invocations")
GOOD, BAD = "a delight", "two hours lost"
LONG = "a delight " * 300 + "a terrible mess " * 200
TIMES = ["compute", "total", "tokenization", "queue", "inference"]
HEADERS = {"x-compute-type", "x-compute-characters", "x-compute-tokens"}
HEADERS |= {f"x-{name}-time" for name in TIMES}
# The types of the values of TEI 1.9.3; None where a value may be null. All keys are there.
INFO = {
    "model_id": str,
    "model_sha": str | None,
    "model_dtype": str,
    "model_type": dict,
    "max_concurrent_requests": int,
    "max_input_length": int,
    "max_batch_tokens": int,
    "max_batch_requests": int | None,
    "max_client_batch_size": int,
    "auto_truncate": bool,
    "tokenization_workers": int,
    "version": str,
    "sha": str | None,
    "docker_label": str | None,
    "served_model_name": str,
}


@pytest.fixture(scope="module")
def live():
    with within(max_body_bytes=20_000, max_texts=40, max_characters=15_000) as server:
        yield server


@pytest.fixture(scope="module")
def classify(embedded):
    return Classifier(embedded)


def post(live, body, path="/predict", **more):
    return ask(live.url + path, body, **more)


def refused(answer, status, error_type):
    """The message of a refusal, whose form is that of TEI."""
    assert (answer.status, answer.json["error_type"]) == (status, error_type), answer.body
    assert answer.json.keys() - {"message"} == {"error", "error_type"}
    assert "\n" not in answer.json["error"]
    return answer.json["error"]


def instances(*inputs, **more):
    return {"instances": [{"inputs": one} | more for one in inputs]}


def wrapped(body):
    """The requests of each route for *body*, bytes or a request of `/predict`."""
    if isinstance(body, bytes):
        return [(path, body) for path in (*PREDICT, "/vertex")]
    return [*((path, body) for path in PREDICT), ("/vertex", {"instances": [body]})]


# Errors


@pytest.mark.parametrize(
    ("body", "status", "error_type"),
    [
        (b'{"inputs":"a"', 400, "Validation"),
        (b"some text", 400, "Validation"),
        (b"", 400, "Validation"),
        (b'{"inputs":"\xff"}', 400, "Validation"),
        (b'{"inputs":NaN}', 400, "Validation"),
        (b'{"inputs":' + b"[" * 5_000, 400, "Validation"),
        ({"inputs": ""}, 400, "Empty"),
        ({"inputs": ["", ""]}, 400, "Empty"),
        ({"inputs": [["a"], [""]]}, 400, "Empty"),
        ({}, 422, "Validation"),
        ({"inputs": 5}, 422, "Validation"),
        ({"inputs": []}, 422, "Validation"),
        ({"inputs": ["a", "b", "c"]}, 422, "Validation"),
        ({"inputs": "a", "raw_scores": "yes"}, 422, "Validation"),
        ({"inputs": "a", "truncation_direction": "LEFT"}, 422, "Validation"),
        ({"inputs": [["a"]] * 41}, 422, "Validation"),
        ({"inputs": "a" * 15_001}, 422, "Validation"),
        ({"inputs": "good " * 600, "truncate": False}, 422, "Validation"),
        ({"inputs": "a" * 20_001}, 413, "Validation"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_each_refusal_has_the_status_and_the_type_of_tei(body, status, error_type, live):
    for path, sent in wrapped(body):
        assert refused(post(live, sent, path, headers=JSON), status, error_type)


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded"])
def test_another_content_type_than_json_is_refused_with_the_one_to_send(kind, live):
    for path, body in wrapped({"inputs": "a"}):
        # An empty one is sent for none: the library would add one of its own.
        headers = {"content-type": kind or ""}
        said = refused(post(live, body, path, headers=headers), 415, "Validation")
        assert said.endswith("send the header content-type: application/json")


@pytest.mark.parametrize(
    "kind",
    ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.example+json"],
)
def test_every_content_type_that_is_json_is_taken(kind, live):
    assert post(live, {"inputs": "a"}, headers={"content-type": kind}).status == 200


def test_a_pair_with_one_empty_text_is_a_pair(live):
    assert post(live, {"inputs": ["", "a"]}).status == 200


def test_refusals_before_the_handler_have_the_form_of_the_wire():
    with within(access_token="right") as closed:  # noqa: S106
        for path in (*PREDICT, "/vertex"):
            url = closed.url + path
            assert refused(ask(url, {"inputs": "a"}), 401, "Validation")
            wrong = ask(url, method="GET")
            assert "use OPTIONS, POST" in refused(wrong, 405, "Validation")
            assert wrong.headers["allow"] == "OPTIONS, POST"
            assert refused(ask(url, headers={"host": "evil.example"}), 403, "Validation")
        for path in ("/", "/nope", "/info"):
            assert "error_type" not in ask(closed.url + path, {"inputs": "a"}).json


def test_overload_is_429_also_where_it_is_seen_before_the_route(monkeypatch):
    with within(max_waiting_texts=1, cache_bytes=0) as busy:
        busy.server.batcher._queue.reserve(1)
        for late in (False, True):
            always = property(lambda _, late=late: late, lambda *_: None)
            monkeypatch.setattr(Connections, "late", always, raising=False)
            for path, body in wrapped({"inputs": "more"}):
                answer = post(busy, body, path)
                assert "busy" in refused(answer, 429, "Overloaded")
                assert int(answer.headers["retry-after"]) >= 1


def test_a_model_that_fails_is_424_and_an_answer_that_is_late_504(monkeypatch):
    with within(cache_bytes=0) as live:
        model = live.server.catalogue.first.model

        def fail(*_, **__):
            raise RuntimeError

        monkeypatch.setattr(model, "run", fail)
        for path, body in wrapped({"inputs": "a"}):
            assert "the engine failed" in refused(post(live, body, path), 424, "Backend")
        assert post(live, {"inputs": "a"}, "/").status == 500
        monkeypatch.setattr(model, "run", lambda *_, **__: time.sleep(1))
        hurry = {"x-request-timeout": "0.2"}
        assert refused(post(live, {"inputs": "a"}, headers=hurry), 504, "Overloaded")
        monkeypatch.setattr(live.server.classification, "classify", fail)
        assert "internal error" in refused(post(live, {"inputs": "a"}), 500, "Backend")


def test_errors_of_unknown_kinds_keep_their_status():
    class OddError(LabelwiseError):
        status = 418

    assert PredictFailure.status(OddError) == 418
    assert PredictFailure.of(OddError("a")) == PredictFailure("a", error_type="Validation")
    assert PredictFailure.status(ModelNotFound) == 404
    assert PredictFailure.status(EngineFailed) == 424


def test_the_document_tells_the_statuses_of_each_wire_and_the_form_of_its_errors():
    paths = describe(ROUTES)["paths"]
    huggingface, *ours = (paths[path]["post"]["responses"] for path in ("/", *PREDICT, "/vertex"))
    for found in ours:
        assert {"400", "413", "415", "422", "424", "429", "504"} <= found.keys()
        for status, answer in found.items():
            if status != "200":
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/PredictFailure"}
    assert not {"422", "424"} & huggingface.keys()


def test_the_health_of_a_server_that_ends_has_the_type_too():
    with within() as live:
        assert ask(f"{live.url}/ping").json == ask(f"{live.url}/health").json == {"status": "ok"}
        live.server.draining = True
        for path in ("/ping", "/health"):
            assert refused(ask(live.url + path), 503, "Unhealthy") == "the server is ending"


# Times


def times(answer):
    """The milliseconds of each stage, by its name."""
    return {name: int(answer.headers[f"x-{name}-time"]) for name in TIMES}


def test_an_answer_has_the_eight_headers_in_milliseconds(live):
    for path, body in wrapped({"inputs": [[f"text {number}"] for number in range(40)]}):
        answer = post(live, body, path, headers={"x-use-cache": "false"})
        assert answer.headers.keys() >= HEADERS
        found = times(answer)
        assert found["total"] == found["compute"]
        stages = found["tokenization"] + found["queue"] + found["inference"]
        assert found["inference"] > 0
        assert 0 < stages <= found["total"]


def test_known_texts_spend_no_time_in_any_stage(live):
    post(live, {"inputs": "known"})
    answer = post(live, {"inputs": "known"})
    assert answer.headers["x-compute-type"] == "cache"
    assert list(times(answer).values())[2:] == [0, 0, 0]


def test_the_time_of_a_stage_is_that_of_the_stage(monkeypatch):
    """Each stage is held up for another time; then more requests come than run side by side."""
    with within(cache_bytes=0) as live:
        model = live.server.catalogue.first.model
        encode, run, entered = model.encode, model.run, threading.Event()

        def slow_run(texts, **how):
            entered.set()
            time.sleep(0.4)
            return run(texts, **how)

        def slow_encode(*texts, **how):
            time.sleep(0.2)
            return encode(*texts, **how)

        monkeypatch.setattr(model, "run", slow_run)
        monkeypatch.setattr(model, "encode", slow_encode)
        found = times(post(live, {"inputs": "alone"}))
        assert found["tokenization"] >= 200
        assert found["inference"] >= 400
        assert found["total"] >= found["tokenization"] + found["queue"] + found["inference"]
        monkeypatch.setattr(model, "encode", encode)
        answers = []
        count = model.backend.streams.count + 1
        asking = [
            threading.Thread(
                target=lambda n: answers.append(post(live, {"inputs": f"{n}"})), args=[n]
            )
            for n in range(count)
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join(30)
        assert max(times(answer)["queue"] for answer in answers) >= 200


def test_the_other_wire_has_seconds_and_no_stages(live):
    answer = post(live, {"inputs": "a"}, "/")
    assert "." in answer.headers["x-compute-time"]
    assert not answer.headers.keys() & {f"x-{name}-time" for name in TIMES[1:]}


# Texts that are cut


def test_a_text_that_must_not_be_cut_is_refused_in_words_of_the_wire(live):
    said = refused(post(live, {"inputs": "good " * 600, "truncate": False}), 422, "Validation")
    assert said == (
        "text 1 has 602 tokens, more than the 512 that the model reads, and it must not be "
        "truncated; shorten it, or let it be truncated"
    )


@pytest.mark.parametrize(
    ("direction", "end"),
    [("Left", -1), ("left", -1), ("Right", 0), ("right", 0), (None, 0)],
)
def test_a_long_text_has_the_scores_of_the_end_that_is_kept(direction, end, live, classify):
    words = LONG.split()
    kept = " ".join(words[:510] if end == 0 else words[-510:])  # a token each; two are the frame
    answer = post(live, {"inputs": LONG, "truncation_direction": direction})
    assert answer.headers["x-hf-warning"].startswith("truncation; 1 of 1 texts were longer")
    assert answer.headers["x-compute-tokens"] == "512"
    expected = [score.score for score in classify(kept)]
    assert [score["score"] for score in answer.json] == pytest.approx(expected, abs=1e-5)


# Neighbours of /predict


@pytest.mark.parametrize("inputs", [GOOD, [GOOD, BAD], [[GOOD], [BAD, GOOD]]], ids=repr)
def test_invocations_answers_as_predict_does(inputs, live):
    body = {"inputs": inputs, "raw_scores": True}
    assert post(live, body, "/invocations").json == post(live, body).json


def test_vertex_answers_each_instance_as_predict_does(live):
    inputs = [GOOD, [GOOD, BAD], [[GOOD], [BAD, GOOD]], [[BAD]], BAD]
    for more in ({}, {"raw_scores": True}, {"truncate": True, "truncation_direction": "left"}):
        answer = post(live, instances(*inputs, **more), "/vertex")
        assert answer.status == 200, answer.body
        alone = [post(live, {"inputs": one} | more).json for one in inputs]
        assert answer.json == {"predictions": alone}
    assert [isinstance(one[0], list) for one in alone] == [False, False, True, True, False]


def test_instances_that_say_the_same_in_other_words_go_together(live):
    said = [{}, {"truncate": None}, {"truncate": True}, {"raw_scores": False}]
    body = {"instances": [{"inputs": GOOD} | one for one in said]}
    assert len(post(live, body, "/vertex").json["predictions"]) == 4


@pytest.mark.parametrize(
    "other", [{"raw_scores": True}, {"truncate": False}, {"truncation_direction": "Left"}], ids=repr
)
def test_instances_that_differ_are_to_be_sent_apart(other, live):
    body = {"instances": [{"inputs": GOOD}, {"inputs": BAD} | other]}
    said = refused(post(live, body, "/vertex"), 422, "Validation")
    assert said == (
        "instances differ in raw_scores, truncate or truncation_direction; send those that "
        "differ in requests of their own"
    )


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"instances": [{"query": "a", "texts": ["b"]}]}, "only predict is served here"),
        ({"instances": [{"inputs": "a", "query": "a", "texts": []}]}, "only predict is served"),
        ({"instances": [{"query": "a"}]}, "inputs is missing"),
        ({"instances": [{"inputs": 5}]}, "inputs must be a string"),
        ({"instances": ["a"]}, "instances must be a list"),
        ({"instances": []}, "instances must be a list"),
        ({"instances": None}, "instances must be a list"),
        ({"inputs": "a"}, "instances is missing; instances must be a list"),
        ([], "instances must be a list"),
    ],
    ids=repr,
)
def test_vertex_says_which_instances_it_takes(body, says, live):
    assert says in refused(post(live, body, "/vertex"), 422, "Validation")


def test_the_texts_of_all_instances_count_together(live):
    body = instances(*[[["a"]] * 8] * 5, [["b"]])
    said = refused(post(live, body, "/vertex"), 422, "Validation")
    assert said == "41 texts in one request; send 40 at most"


# /info


def test_info_has_every_key_of_tei_with_its_type(live):
    found = ask(f"{live.url}/info").json
    for key, kind in INFO.items():
        assert isinstance(found[key], kind), key
        assert isinstance(found[key], bool) == (kind is bool)
    labels = found["model_type"]["classifier"]
    assert labels == {
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"},
        "label2id": {"NEGATIVE": 0, "POSITIVE": 1},
    }


def test_info_tells_the_true_limits(live):
    found = ask(f"{live.url}/info").json
    assert found["model_id"] == found["served_model_name"] == EMBEDDED
    entry = live.server.catalogue.first
    assert found["max_client_batch_size"] == 40
    assert found["max_concurrent_requests"] == live.server.settings.max_waiting_texts
    assert found["max_batch_tokens"] == entry.model.backend.batch_tokens
    assert (found["max_input_length"], found["auto_truncate"]) == (512, True)
    encoders = live.server.inference._encoders
    threads = sum(lane._pool._max_workers for lane in (encoders._short, encoders._long))
    assert found["tokenization_workers"] == threads
    assert post(live, {"inputs": [["a"]] * 40}).status == 200
