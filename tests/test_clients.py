"""Clients as their users have them, unmodified, and what they make of a live server.

The newest huggingface_hub comes with Labelwise. An older one of each kind and the JavaScript client
are in folders of ``LABELWISE_CLIENTS``; ``.ci/run`` installs them there.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from labelwise import Classifier
from labelwise.serving.catalogue import Catalogue
from labelwise.settings import Settings
from serving import EMBEDDED, ask, within

TEXT = "I like you. I love you"
LONG = "word " * 1000
ACCESS_TOKEN = "right"  # noqa: S105
SECOND = "org/second"
SCRIPTS = Path(__file__).parent / "clients"
TOO_LARGE = "the body is longer than 10000000 bytes; send fewer texts a request"
HUGE = b"a" * 20_000_000

VERSIONS = {"hub": "", "hub-1x": "1.", "hub-03x": "0.3", "js": "4."}  # how each begins
aside = pytest.mark.clients
HUBS = ["hub", pytest.param("hub-1x", marks=aside), pytest.param("hub-03x", marks=aside)]
JS = pytest.param("js", marks=aside)


@dataclass(frozen=True)
class Asked:
    """A request as a server saw it; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Notebook:
    """An ASGI application that notes what it is asked before *app* answers."""

    app: Any
    lines: list[Asked] = field(default_factory=list)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            self.lines.append(Asked(scope["method"], scope["path"], headers))
        await self.app(scope, receive, send)


@dataclass
class Servers:
    """Servers of the same models: one for all, one with an access token, one that is busy."""

    open: str
    guarded: str
    full: str
    notebooks: list[Notebook]  # of each


@dataclass
class Run:
    """What a client made of the servers: its outcomes by name, and what each server was asked."""

    version: str
    plain: dict[str, dict[str, Any]]
    other: dict[str, dict[str, Any]]
    lookups: dict[str, dict[str, Any]]
    asked: list[list[Asked]]

    def posts(self) -> list[Asked]:
        """All calls that reached a server."""
        return [asked for server in self.asked for asked in server if asked.method == "POST"]


@pytest.fixture(scope="module")
def entry():
    return Catalogue.load().first


@pytest.fixture(scope="module")
def classify():
    return Classifier()


@pytest.fixture(scope="module")
def servers(entry):
    notebooks, urls = [], []
    with ExitStack() as stack:
        for access_token in (None, ACCESS_TOKEN, None):
            catalogue = Catalogue([entry, replace(entry, id=SECOND)])
            server = stack.enter_context(within(catalogue, access_token=access_token))
            notebooks.append(Notebook(server.connections.app))
            server.connections.app = notebooks[-1]  # for connections from now on
            urls.append(server.url)
        stack.enter_context(
            server.server.batcher.reserve(
                server.server.catalogue.first.model, Settings().max_waiting_texts
            )
        )
        yield Servers(*urls, notebooks)


@pytest.fixture(scope="module")
def runs(servers, tmp_path_factory):
    """What gives the run of a client by its name; each client runs once."""

    @cache
    def get(name):
        return run(name, servers, tmp_path_factory.mktemp(name))

    return get


@pytest.fixture(params=[*HUBS, JS])
def client(request, runs):
    return runs(request.param)


@pytest.fixture(params=HUBS)
def hub(request, runs):
    return runs(request.param)


@pytest.fixture(params=[JS])
def js(request, runs):
    return runs(request.param)


def run(name, servers, home) -> Run:
    """The run of the client *name* against *servers*; *home* is an empty folder of its own."""
    program, folder = _program(name)
    for notebook in servers.notebooks:
        notebook.lines = []
    asked = {
        "open": servers.open,
        "guarded": servers.guarded,
        "full": servers.full,
        "model": EMBEDDED,
        "text": TEXT,
        "long": LONG,
        "access_token": ACCESS_TOKEN,
    }
    finished = subprocess.run(  # noqa: S603
        [*program, json.dumps(asked)],
        cwd=folder or home,
        env={
            "PATH": os.environ["PATH"],
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HOME": str(home),
            "HF_HOME": str(home),
            "HF_ENDPOINT": servers.guarded,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found = json.loads(finished.stdout.splitlines()[-1])
    return Run(**found, asked=[notebook.lines for notebook in servers.notebooks])


def _program(name) -> tuple[list[str], Path | None]:
    """The command that runs the client *name*, and the folder that it must run in."""
    script = str(SCRIPTS / "call.py")
    if name == "hub":
        return [sys.executable, script], None
    if "LABELWISE_CLIENTS" not in os.environ:
        pytest.skip(f"LABELWISE_CLIENTS is not set: the folder with the client {name}")
    folder = Path(os.environ["LABELWISE_CLIENTS"]) / name
    if name == "js":
        return ["node", str(SCRIPTS / "call.mjs")], folder
    return [str(folder / "bin" / "python"), script], None


def is_like(scores, expected) -> bool:
    """Whether *scores*, as objects of JSON, are those of the engine but for rounding."""
    return [score["label"] for score in scores] == [score.label for score in expected] and [
        score["score"] for score in scores
    ] == pytest.approx([score.score for score in expected], abs=1e-5)


def test_each_client_is_the_release_that_it_stands_for(request, client):
    name = request.node.callspec.params["client"]
    assert client.version.startswith(VERSIONS[name])


def test_every_way_of_asking_gives_all_labels_best_first(client, classify):
    expected = classify(TEXT)
    assert [score.label for score in expected] == ["POSITIVE", "NEGATIVE"]
    assert len(client.plain) >= 12
    for way, outcome in client.plain.items():
        assert "value" in outcome, (way, outcome)
        assert is_like(outcome["value"], expected), way


def test_top_k_limits_the_labels(client, classify):
    assert is_like(client.other["top_k"]["value"], classify(TEXT, top_k=1))


@pytest.mark.parametrize("function", ["sigmoid", "none"])
def test_the_function_is_applied_that_the_client_names(client, classify, function):
    expected = classify(TEXT, function_to_apply=function)
    assert is_like(client.other[function]["value"], expected)


def test_a_pair_passes_through_the_client(client, classify):
    assert is_like(client.other["pair"]["value"], classify((TEXT, TEXT)))


def test_a_text_that_is_too_long_for_the_model_is_classified(client, classify):
    assert is_like(client.other["long"]["value"], classify(LONG))


@pytest.mark.parametrize("hub", HUBS[:2], indirect=True)
def test_the_user_is_told_once_that_a_text_was_cut(hub):
    assert hub.other["long"]["logged"] == [
        f"1 of 1 texts were longer than 512 tokens and were cut; {EMBEDDED} reads 512"
    ]


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("bad parameter", 400, "function_to_apply must be one of softmax, sigmoid, none"),
        ("no text", 400, "inputs holds an empty list, or a list that is no pair of two strings"),
        ("no access token", 401, "Invalid username or password."),
        ("wrong access token", 401, "Invalid username or password."),
        ("id, no access token", 401, "Invalid username or password."),
        ("unknown model", 404, "Model org/nope does not exist"),
        ("too large", 413, TOO_LARGE),
        ("too many", 413, "1025 texts in one request; send 1024 at most"),
        ("busy", 429, "the server is busy: 2048 texts wait already; try again in 1 s"),
    ],
)
def test_the_user_reads_what_the_server_says(client, name, status, message):
    outcome = client.other[name]
    assert outcome["status"] == status
    assert outcome["message"].endswith(message)
    assert re.fullmatch(r"[0-9a-f-]{36}", outcome["request_id"])


def test_an_error_of_the_hub_client_names_the_request_that_it_sent(hub):
    sent = [post.headers.get("x-amzn-trace-id") for post in hub.posts()]
    for name in ("bad parameter", "no access token", "too large", "busy"):
        assert sent.count(hub.other[name]["request_id"]) == 1


@pytest.mark.parametrize("hub", HUBS[:2], indirect=True)
@pytest.mark.parametrize("name", ["busy", "busy, async"])
def test_the_user_of_a_busy_server_reads_how_long_to_wait(hub, name):
    message = hub.other[name]["message"]
    assert "429 Too Many Requests" in message
    assert "\nRetry after 1 seconds" in message


def test_the_client_for_asyncio_fails_as_the_other_does(hub):
    assert hub.other["wrong access token, async"]["status"] == 401
    assert hub.other["busy, async"]["status"] == 429


def test_javascript_shows_the_error_behind_its_own_words(js):
    assert js.other["busy"]["error"] == "ProviderApiError"
    assert js.other["busy"]["message"].startswith("Failed to perform inference: the server is busy")


def test_a_page_of_another_site_reads_the_error_and_the_request_id(js):
    outcome = js.other["wrong access token, page"]
    assert outcome["message"] == "Failed to perform inference: Invalid username or password."
    assert re.fullmatch(r"[0-9a-f-]{36}", outcome["request_id"])
    preflight = [asked for asked in js.asked[1] if asked.method == "OPTIONS"][-1]
    assert preflight.headers["access-control-request-headers"] == (
        "authorization,content-type,user-agent,x-hf-bill-to"
    )


def test_no_call_is_sent_twice(client):
    at_once = 7 if "async, eight at once" in client.plain else 0  # beyond the one
    assert len(client.posts()) == len(client.plain) + len(client.other) + at_once
    busy = [name for name in client.other if name.startswith("busy")]
    assert [asked.path for asked in client.asked[2]] == ["/"] * len(busy)


def test_a_client_with_the_name_of_a_model_asks_by_it(client):
    paths = [post.path for post in client.posts()]
    assert f"/hf-inference/models/{EMBEDDED}" in paths


def test_an_unknown_model_is_not_found_before_anything_is_sent(client):
    outcome = client.lookups["unknown id"]
    assert outcome["status"] == 404
    assert "Repository not found" in outcome["message"].replace("Not Found", "not found")
    assert not [post for post in client.posts() if post.path.startswith("/hf-inference/models/org")]


def test_the_hub_client_finds_the_server_well(hub):
    assert hub.lookups["health"]["value"] is True
    info = hub.lookups["info"]["value"]
    assert (info["model_id"], info["models"]) == (EMBEDDED, [EMBEDDED, SECOND])


def test_the_hub_client_looks_up_a_model_without_an_access_token(hub):
    model = hub.lookups["model_info"]["value"]
    assert (model["id"], model["author"]) == (EMBEDDED, "labelwise")
    assert model["pipeline_tag"] == "text-classification"
    assert re.fullmatch("[0-9a-f]{40}", model["sha"])
    assert hub.lookups["model_info without namespace"]["value"]["id"] == EMBEDDED
    assert hub.lookups["model_info, expanded"]["value"]["inference"] == "warm"
    assert hub.lookups["model_info of unknown"]["error"] == "RepositoryNotFoundError"
    looked = [asked for asked in hub.asked[1] if asked.path.startswith("/api/models")]
    assert not [asked for asked in looked if "authorization" in asked.headers]


def test_the_hub_client_lists_the_models_that_are_served(hub):
    assert hub.lookups["list_models"]["value"] == [EMBEDDED, SECOND]
    assert hub.lookups["list_models, one"]["value"] == [EMBEDDED]
    assert hub.lookups["list_models, search"]["value"] == [SECOND]


def test_the_hub_client_learns_whose_access_token_it_has(hub):
    assert hub.lookups["whoami"]["value"]["auth"]["accessToken"]["role"] == "read"
    wrong = hub.lookups["whoami, wrong access token"]
    assert (wrong["status"], wrong["message"]) == (401, "Invalid user token.")


def test_a_list_of_texts_over_http_gives_one_list_each(servers, classify):
    answer = ask(servers.open, {"inputs": [TEXT, "I hate you"]})
    first, second = answer.json
    assert is_like(first, classify(TEXT))
    assert is_like(second, classify("I hate you"))


def curl(*arguments, body=None):
    """The status and the JSON that curl prints for *arguments*."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    printed = subprocess.run(  # noqa: S603
        [program, "-sS", "--noproxy", "*", "-w", r"\n%{http_code}", *arguments],
        input=body,
        capture_output=True,
        timeout=60,
        check=True,
    ).stdout
    answer, _, status = printed.rpartition(b"\n")
    return int(status), json.loads(answer)


JSON = ("-H", "Content-Type: application/json", "-d", json.dumps({"inputs": TEXT}))
SHOWN = ("-H", f"Authorization: Bearer {ACCESS_TOKEN}")
CHUNKED = ("-H", "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "arguments",
    [("-d", TEXT), JSON, (*CHUNKED, "-d", TEXT), ("-X", "POST", "-T", "-")],
    ids=["a text", "JSON", "in chunks", "from standard input"],
)
def test_curl_gets_an_answer(servers, classify, arguments):
    status, answer = curl(servers.open, *arguments, body=TEXT.encode())
    assert status == 200
    assert is_like(answer[0], classify(TEXT))


def test_curl_shows_its_access_token(servers, classify):
    status, answer = curl(servers.guarded, *SHOWN, "-d", TEXT)
    assert status == 200
    assert is_like(answer[0], classify(TEXT))
    status, answer = curl(servers.guarded, "-d", TEXT)
    assert (status, answer["error"]) == (401, "Invalid username or password.")
    assert "Authorization: Bearer" in answer["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data-binary", "@-"),
        ("-H", "Expect:", "--data-binary", "@-"),
        (*CHUNKED, "--data-binary", "@-"),
        ("-X", "POST", "-T", "-"),
    ],
    ids=["asks first", "does not ask first", "in chunks", "as it comes"],
)
def test_curl_reads_that_a_body_is_too_large(servers, arguments):
    assert curl(servers.open, *arguments, body=HUGE) == (413, {"error": TOO_LARGE})


@pytest.fixture
def connection(servers):
    made = http.client.HTTPConnection(urlsplit(servers.open).netloc, timeout=60)
    yield made
    made.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "in chunks"])
def test_a_connection_can_be_used_after_a_body_that_was_too_large(connection, chunked):
    body = iter([HUGE[:65_536]] * 300) if chunked else HUGE
    connection.request("POST", "/", body, encode_chunked=chunked, headers=_chunked(chunked))
    response = connection.getresponse()
    assert (response.status, json.load(response)) == (413, {"error": TOO_LARGE})
    connection.request("POST", "/", TEXT)
    response = connection.getresponse()
    assert response.status == 200
    assert len(json.load(response)[0]) == 2


def _chunked(chunked):
    return {"Transfer-Encoding": "chunked"} if chunked else {}


@pytest.mark.parametrize(
    ("server", "path", "status"),
    [("open", "", 413), ("guarded", "", 401), ("open", "/models/org/nope", 404)],
)
def test_who_sends_all_before_reading_and_then_closes_can_read_a_refusal(
    servers, server, path, status
):
    """As urllib does: a connection that the server closes too early would lose the answer."""
    answer = ask(getattr(servers, server) + path, HUGE)
    assert answer.status == status
    assert answer.json["error"]
