"""Live servers with many callers, too many, slow ones, and ones that leave; and their end."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import numpy as np
import pytest

from labelwise.engine.cpus import available, streams
from labelwise.engine.onnx.backend import Cpu
from labelwise.models.locate import locate
from labelwise.models.model import Model
from labelwise.server import caller
from labelwise.serving import batcher as batcher_module
from labelwise.serving.catalogue import Catalogue, Entry
from marks import slow
from padded import config, padded_logits, random_weights, write_model, write_tokenizer
from serving import ask, command, until, within

EMPTY = "<Batcher [0 texts, 0 tokens waiting | 0 batches running]>"
VALUES = config("bert", hidden_act="gelu_new")
WEIGHTS = random_weights(VALUES)
LONG = "w8 " * 200  # so many characters that they become tokens in a thread
NONE = {"parameters": {"function_to_apply": "none"}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of a small model with random weights."""
    folder = write_model(tmp_path_factory.mktemp("models") / "small", VALUES, WEIGHTS)
    return write_tokenizer(folder, VALUES)


@pytest.fixture
def model(folder):
    """It, loaded as a server does."""
    return Model(locate(folder), Cpu(streams(available(), copies=2)))


def serving(model, **settings):
    """A server of *model* in this process."""
    return within(Catalogue([Entry("small", model, "0" * 40)]), **{"cache_bytes": 0} | settings)


class Engine:
    """What *model* runs, and a way to hold it up: with `closed`, each batch waits for `open`."""

    def __init__(self, model):
        self.runs = []  # how many texts each batch had
        self._open = threading.Event()
        self._open.set()
        self._run = model.run
        model.run = self.run

    def run(self, texts, **how):
        self.runs.append(len(texts))
        assert self._open.wait(60)
        return self._run(texts, **how)

    @contextmanager
    def closed(self, server):
        """Inside, the engine of *server* has one text that it does not finish."""
        self._open.clear()
        before = len(self.runs)
        with ThreadPoolExecutor(1) as pool:
            try:
                first = pool.submit(ask, server.url, {"inputs": "w7"})
                until(lambda: len(self.runs) > before)
                yield
            finally:
                self._open.set()
            assert first.result().status == 200


class Raw:
    """A caller that sends bytes as a test likes."""

    def __init__(self, url):
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def send(self, data):
        self._socket.sendall(data)

    def post(self, body, *, length=None):
        """Send a request with *body*, of which *length* bytes were announced."""
        length = len(body) if length is None else length
        self.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % length)
        self.send(body)

    def status(self):
        """The status of the answer; None where the connection is closed without one."""
        answer = http.client.HTTPResponse(self._socket)
        try:
            answer.begin()
            answer.read()
        except (http.client.HTTPException, ConnectionError):
            return None
        return answer.status


def words(random, length):
    """A text of so many words that the small tokenizer knows."""
    return " ".join(f"w{number}" for number in random.integers(5, VALUES["vocab_size"], length))


def expected(texts):
    """The logits of *texts*, from the padded specification."""
    ids = [[0, *(int(word[1:]) for word in text.split()), 2] for text in texts]
    order = sorted(range(len(texts)), key=lambda number: len(ids[number]))
    logits = {}
    for begin in range(0, len(order), 16):  # of like lengths, for less padding
        group = order[begin : begin + 16]
        rows = padded_logits(VALUES, WEIGHTS, [(ids[n], [0] * len(ids[n])) for n in group])
        logits.update(zip(group, rows, strict=True))
    return np.array([logits[number] for number in range(len(texts))])


def logits_of(answer):
    """The logits of each text in an *answer*, in the order of the labels."""
    return np.array(
        [[score for _, score in sorted((s["label"], s["score"]) for s in one)] for one in answer]
    )


# Many callers


def converse(url, requests):
    """Send *requests*, lists of texts, over one connection; their logits."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    answers = []
    for texts in requests:
        connection.request("POST", "/", json.dumps({"inputs": texts} | NONE))
        answer = connection.getresponse()
        assert answer.status == 200
        answers.append(logits_of(json.loads(answer.read())))
    connection.close()
    return np.concatenate(answers)


def conversations(clients, requests, *, seed):
    """For each of *clients* so many *requests* of one to four texts, most of them short."""
    random = np.random.default_rng(seed)
    return [
        [
            [
                words(random, int(random.geometric(0.03)) % 400 + 1)
                for _ in range(random.integers(1, 5))
            ]
            for _ in range(requests)
        ]
        for _ in range(clients)
    ]


@pytest.mark.parametrize(
    ("clients", "requests"), [(64, 3), pytest.param(64, 60, marks=pytest.mark.slow)]
)
def test_every_caller_gets_the_answers_to_its_own_texts(model, clients, requests):
    plan = conversations(clients, requests, seed=3)
    logits = expected([text for one in plan for texts in one for text in texts])
    assert len(np.unique(logits.round(4), axis=0)) == len(logits)  # each text shows in its answer
    with serving(model) as server, ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(lambda one: converse(server.url, one), plan))
        assert repr(server.server.batcher) == EMPTY
    np.testing.assert_allclose(np.concatenate(answers), logits, atol=1e-5)


def test_callers_of_several_models_get_the_answers_of_theirs(model, tmp_path):
    other = Model.load(
        write_tokenizer(write_model(tmp_path, VALUES, random_weights(VALUES, 1)), VALUES)
    )
    catalogue = Catalogue([Entry("a/small", model, "0" * 40), Entry("b/other", other, "1" * 40)])
    random = np.random.default_rng(1)
    texts = [words(random, length) for length in random.integers(1, 90, 60)]
    with within(catalogue) as server, ThreadPoolExecutor(12) as pool:

        def one(number):
            name = ("a/small", "b/other")[number % 2]
            answer = ask(f"{server.url}/models/{name}", {"inputs": texts[number]} | NONE)
            return logits_of(answer.json)[0]

        answers = np.array(list(pool.map(one, range(60))))
    for start, served in ((0, model), (1, other)):
        logits = served.logits(served.encode(texts[start::2]))
        np.testing.assert_allclose(answers[start::2], logits, atol=1e-5)


# Too many callers


def check_refusal(answer):
    """A refusal says when to come again, in all the ways in which clients look for it."""
    assert answer.status == 429
    seconds = answer.headers["retry-after"]
    assert int(seconds) >= 1
    assert answer.headers["ratelimit"] == f'"inference";r=0;t={seconds}'
    assert re.fullmatch(r'"inference";q=\d+;w=\d+', answer.headers["ratelimit-policy"])
    assert f"try again in {seconds} s" in answer.json["error"]


def test_more_callers_than_places_are_answered_or_told_when_to_come_again(model):
    random = np.random.default_rng(2)
    with serving(model, max_waiting_texts=8) as server, ThreadPoolExecutor(32) as pool:
        engine = Engine(model)
        with engine.closed(server):
            calls = [
                pool.submit(ask, server.url, {"inputs": [words(random, 20)] * (number % 4 + 1)})
                for number in range(32)
            ]
            # Two texts more would not fit, so all that find no place have been refused.
            until(lambda: sum(call.done() for call in calls) >= 32 - 8)
            assert ask(f"{server.url}/health").status == 200
            for call in calls:
                if call.done():
                    check_refusal(call.result())
        answers = [call.result() for call in calls]
        assert {answer.status for answer in answers} == {200, 429}
        assert repr(server.server.batcher) == EMPTY
        assert ask(server.url, {"inputs": ["w7"] * 8}).status == 200


def test_more_callers_than_places_without_end(model):
    """Nobody ever gets anything but an answer or a refusal, and callers that wait are served."""
    with serving(model, max_waiting_texts=6) as server, ThreadPoolExecutor(24) as pool:

        def caller(number):
            random, statuses = np.random.default_rng(number), Counter()
            while statuses[200] < 3:
                answer = ask(
                    server.url, {"inputs": [words(random, 60)] * int(random.integers(1, 4))}
                )
                statuses[answer.status] += 1
                if answer.status == 429:
                    check_refusal(answer)
                    threading.Event().wait(0.01)
            return statuses

        total = sum(pool.map(caller, range(24)), Counter())
        assert set(total) <= {200, 429}
        assert ask(f"{server.url}/health").status == 200
        assert repr(server.server.batcher) == EMPTY


def test_more_texts_than_places_are_too_many_and_not_a_reason_to_try_again(model):
    with serving(model, max_waiting_texts=8) as server:
        answer = ask(server.url, {"inputs": ["w7"] * 9})
        assert answer.status == 413
        assert "retry-after" not in answer.headers


@pytest.mark.parametrize("timeout", ["1e-9", "0.000001"])
def test_an_answer_that_cannot_be_in_time_is_not_computed(model, timeout):
    with serving(model) as server:
        engine = Engine(model)
        answer = ask(server.url, {"inputs": "w7"}, headers={"x-request-timeout": timeout})
        assert answer.status in {429, 504}
        until(lambda: repr(server.server.batcher) == EMPTY)
        assert engine.runs == []


def test_what_expires_while_it_waits_is_not_computed(model):
    with serving(model) as server:
        engine = Engine(model)
        with engine.closed(server):
            answer = ask(server.url, {"inputs": ["w7"] * 5}, headers={"x-request-timeout": "0.3"})
            assert answer.status == 504
            assert "not ready in 0.3 s" in answer.json["error"]
            until(lambda: "<Batcher [0 texts, 0 tokens" in repr(server.server.batcher))
        assert engine.runs == [1]


def test_a_caller_may_say_that_it_waits_for_ever(model):
    with serving(model) as server:
        answer = ask(server.url, {"inputs": "w7"}, headers={"x-request-timeout": "1e300"})
        assert answer.status == 200


# Callers that leave


def answered(server, count=1):
    """Whether the server goes on for others."""
    return all(ask(server.url, {"inputs": "w9"}).status == 200 for _ in range(count))


def test_a_caller_that_leaves_while_it_sends_leaves_nothing_behind(model):
    with serving(model) as server:
        bodies = server.server.bodies
        with Raw(server.url) as caller:
            caller.post(b'{"inputs": "w', length=1000)
            until(lambda: bodies._held == 13)
        until(lambda: (bodies._held, bodies._reading) == (0, set()))
        assert repr(server.server.batcher) == EMPTY
        assert answered(server)


def test_a_caller_that_leaves_while_its_text_becomes_ids_gives_its_place_back(model):
    with serving(model) as server:
        engine, encode = Engine(model), model.encode
        may_encode = threading.Event()

        def slowly(texts, *how, **options):
            assert may_encode.wait(30)
            return encode(texts, *how, **options)

        model.encode = slowly
        with Raw(server.url) as caller:
            caller.post(json.dumps({"inputs": ["w7", LONG]}).encode())
            until(lambda: "[2 texts, 0 tokens" in repr(server.server.batcher))
        until(lambda: repr(server.server.batcher) == EMPTY)
        may_encode.set()
        assert answered(server)
        assert engine.runs == [1]


def test_a_caller_that_leaves_while_its_texts_wait_has_them_never_computed(model):
    with serving(model) as server, ThreadPoolExecutor(1) as pool:
        engine = Engine(model)
        with engine.closed(server):
            other = pool.submit(ask, server.url, {"inputs": "w9"})
            until(lambda: "[1 texts, 3 tokens" in repr(server.server.batcher))
            with Raw(server.url) as caller:
                caller.post(b'{"inputs": ["w7", "w8", "w9"]}')
                until(lambda: "[4 texts, 12 tokens" in repr(server.server.batcher))
            until(lambda: "[1 texts, 3 tokens" in repr(server.server.batcher))
        assert other.result().status == 200
        assert engine.runs == [1, 1]
        assert repr(server.server.batcher) == EMPTY


def test_a_caller_that_leaves_while_its_batch_runs_harms_no_other(model):
    with serving(model) as server, ThreadPoolExecutor(2) as pool:
        engine = Engine(model)
        with ExitStack() as stack:
            with engine.closed(server):
                caller = stack.enter_context(Raw(server.url))
                caller.post(b'{"inputs": ["w7", "w8", "w9"]}')
                until(lambda: "[3 texts, 9 tokens" in repr(server.server.batcher))
                engine._open.set()  # its batch runs now, or has run
            stack.close()
            assert all(pool.map(lambda _: answered(server, 3), range(2)))
        until(lambda: repr(server.server.batcher) == EMPTY)


@pytest.mark.parametrize("clients", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_callers_that_leave_at_any_moment_do_not_change_the_answers_of_others(model, clients):
    random = np.random.default_rng(7)
    texts = [words(random, length) for length in random.integers(1, 120, clients)]
    logits = expected(texts)
    with serving(model) as server, ThreadPoolExecutor(2 * clients) as pool:

        def leave(number):
            body = json.dumps({"inputs": [texts[number]] * 3}).encode()
            for turn in range(5):
                with Raw(server.url) as caller:
                    caller.post(body[: len(body) * turn // 4], length=len(body))

        def stay(number):
            return converse(server.url, [[texts[number]]] * 5)

        leaving = [pool.submit(leave, number) for number in range(clients)]
        answers = list(pool.map(stay, range(clients)))
        for one in leaving:
            one.result()
        until(lambda: repr(server.server.batcher) == EMPTY)
        until(lambda: server.server.bodies._held == 0)
    for answer, row in zip(answers, logits, strict=True):
        np.testing.assert_allclose(answer, [row] * 5, atol=1e-5)


# Callers that are slow


def test_callers_that_send_byte_by_byte_hold_up_nobody(model):
    body = json.dumps({"inputs": "w7 w8 w9"}).encode()
    with serving(model) as server, ThreadPoolExecutor(8) as pool, ExitStack() as stack:
        slow = [stack.enter_context(Raw(server.url)) for _ in range(8)]
        for caller in slow:
            caller.post(body[:1], length=len(body))
        for byte in body[1:-1]:
            for caller in slow:
                caller.send(bytes([byte]))
            assert all(pool.map(lambda _: answered(server), range(8)))
        for caller in slow:
            caller.send(body[-1:])
        assert [caller.status() for caller in slow] == [200] * 8


def test_a_caller_that_never_sends_its_body_is_told_that_it_is_too_slow(model, monkeypatch):
    monkeypatch.setattr(caller, "_PAUSE_SECONDS", 0.2)
    with serving(model) as server, Raw(server.url) as silent, Raw(server.url) as half:
        silent.post(b"", length=100)
        half.post(b'{"inputs": "w', length=100)
        assert silent.status() == half.status() == 408
        assert server.server.bodies._held == 0
        assert answered(server)


# A text that the engine fails on, and threads that end


def failing(model, reason):
    """Have *model* raise *reason* where the word w299 is in a batch."""
    run = model.run

    def fail(texts, **how):
        if any(299 in text.ids for text in texts):
            raise reason
        return run(texts, **how)

    model.run = fail


def test_a_text_that_the_engine_fails_on_fails_alone(model, caplog):
    with serving(model) as server, ThreadPoolExecutor(16) as pool:
        engine = Engine(model)
        failing(model, ValueError("w299 is what the text said"))
        with engine.closed(server):
            texts = ["w299" if number == 5 else f"w{number + 10}" for number in range(16)]
            calls = [pool.submit(ask, server.url, {"inputs": text} | NONE) for text in texts]
            until(lambda: "[16 texts, 48 tokens" in repr(server.server.batcher))
        answers = [call.result() for call in calls]
        assert [answer.status for answer in answers] == [200] * 5 + [500] + [200] * 10
        assert answers[5].json["error"] == (
            "the engine failed on a text of 3 tokens (ValueError); leave that text out"
        )
        good = [number for number in range(16) if number != 5]
        np.testing.assert_allclose(
            np.concatenate([logits_of(answers[number].json) for number in good]),
            expected([texts[number] for number in good]),
            atol=1e-5,
        )
        assert repr(server.server.batcher) == EMPTY
    assert "w299" not in caplog.text


def test_an_engine_thread_that_ends_is_replaced(model, caplog):
    with serving(model) as server:
        failing(model, SystemExit())
        for _ in range(3):
            answer = ask(server.url, {"inputs": "w299"})
            assert answer.status == 500
            assert "send it again" in answer.json["error"]
            assert answered(server)
        until(lambda: ask(f"{server.url}/health").status == 200)
        assert repr(server.server.batcher) == EMPTY
    assert caplog.text.count("an engine thread ended (SystemExit); starting another") == 3


def test_the_server_is_not_well_while_a_batch_does_not_end(model, monkeypatch):
    with serving(model) as server:
        engine = Engine(model)
        with engine.closed(server):
            assert ask(f"{server.url}/health").json == {"status": "ok"}
            monkeypatch.setattr(batcher_module, "STUCK_SECONDS", 0)
            answer = ask(f"{server.url}/health")
            assert answer.status == 503
            assert "the engine does not run" in answer.json["error"]
            monkeypatch.undo()
        assert ask(f"{server.url}/health").status == 200


def test_the_server_says_that_it_is_well_while_it_is_busy(model):
    with serving(model) as server, ThreadPoolExecutor(8) as pool:
        random = np.random.default_rng(4)
        texts = [words(random, 300) for _ in range(60)]
        calls = [pool.submit(ask, server.url, {"inputs": texts}) for _ in range(8)]
        while not all(call.done() for call in calls):
            assert ask(f"{server.url}/health").status == 200
        assert {call.result().status for call in calls} == {200}


# The end of a server


def settle(url):
    """Return when the server has read what was sent to it before."""
    for _ in range(3):
        assert ask(f"{url}/health").status == 200


def refuses_connections(url):
    try:
        Raw(url).__exit__()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGINT)])
def test_what_was_admitted_is_answered_before_the_server_ends(tmp_path, number):
    random = np.random.default_rng(6)
    bodies = [
        json.dumps({"inputs": [words(random, 40) for _ in range(24)]}).encode() for _ in range(4)
    ]
    with command(tmp_path) as live, ExitStack() as stack:
        callers = [stack.enter_context(Raw(live.url)) for _ in bodies]
        for caller, body in zip(callers, bodies, strict=True):
            caller.post(body)
        settle(live.url)
        live.process.send_signal(number)
        until(lambda: refuses_connections(live.url))
        assert [caller.status() for caller in callers] == [200] * 4
        assert live.process.wait(20) == 0
        assert "Traceback" not in live.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, *slow(signal.SIGTERM)])
def test_a_caller_in_the_middle_of_its_body_does_not_keep_the_server_from_ending(
    folder, tmp_path, number
):
    with command(tmp_path, str(folder)) as live, Raw(live.url) as half, Raw(live.url) as idle:
        half.post(b'{"inputs": "w', length=1000)
        settle(live.url)
        live.process.send_signal(number)
        assert half.status() in {429, None}
        assert idle.status() is None
        assert live.process.wait(20) == 0  # the half is not waited for, which would be 30 s
        assert "Traceback" not in live.log.read_text()


def test_a_caller_that_goes_on_sending_does_not_keep_the_server_from_ending(folder, tmp_path):
    with command(tmp_path, str(folder)) as live, Raw(live.url) as steady:
        steady.post(b'{"inputs": "', length=9_000_000)
        settle(live.url)
        live.process.terminate()
        with suppress(ConnectionError):
            for _ in range(400):
                steady.send(b"x")
                threading.Event().wait(0.02)
        assert live.process.wait(2) == 0


def test_callers_that_try_again_survive_a_server_that_is_killed(folder, tmp_path):
    random = np.random.default_rng(8)
    texts = [[words(random, 12) for _ in range(30)] for _ in range(8)]
    answers = Counter()

    def caller(number, url):
        rows = []
        for text in texts[number]:
            while True:
                try:
                    answer = ask(url, {"inputs": text} | NONE)
                except OSError:  # as urllib has it for all that goes wrong with a connection
                    threading.Event().wait(0.02)
                    continue
                except http.client.HTTPException:
                    continue
                assert answer.status == 200
                break
            rows.append(logits_of(answer.json)[0])
            answers[number] += 1
        return rows

    with ThreadPoolExecutor(8) as pool:
        with command(tmp_path, str(folder)) as first:
            calls = [pool.submit(caller, number, first.url) for number in range(8)]
            until(lambda: sum(answers.values()) >= 40)
            os.kill(first.process.pid, signal.SIGKILL)
            assert first.process.wait(20) == -signal.SIGKILL
        port = re.search(r":(\d+)$", first.url)[1]
        with command(tmp_path, str(folder), "--port", port) as second:
            assert second.url == first.url
            rows = [call.result(60) for call in calls]
    logits = expected([text for one in texts for text in one])
    np.testing.assert_allclose(np.concatenate(rows), logits, atol=1e-5)


def test_a_server_that_ends_leaves_no_thread_behind(model):
    def threads():
        return [one.name for one in threading.enumerate() if one.name.startswith("labelwise")]

    with serving(model) as server:
        assert ask(server.url, {"inputs": LONG}).status == 200
        assert {name.rstrip("_0123456789") for name in threads()} == {
            "labelwise-engine",
            "labelwise-encode",
        }
    until(lambda: not threads())


def test_a_server_takes_as_many_connections_as_the_system_allows(folder, tmp_path):
    """More than the usual limit of a process, which is far below what may wait."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))  # what the server starts with
    try:
        live = command(tmp_path, str(folder))
        with live as server:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            with ExitStack() as stack:
                callers = [stack.enter_context(Raw(server.url)) for _ in range(100)]
                for caller in callers:
                    caller.post(b'{"inputs": "w1"}')
                assert [caller.status() for caller in callers] == [200] * 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
