"""Models and their files as the Hub has them: what its client makes of them, and who gets what."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from labelwise import Classifier
from labelwise.models.card import Card
from labelwise.models.files import File, Files
from labelwise.models.model import Model
from labelwise.serving.catalogue import Catalogue, Entry
from padded import config, write_model, write_tokenizer
from serving import EMBEDDED, Answer, ask, until, within

MODEL, TWIN, NAME = "org/small", "acme/twin", "small"
ACCESS_TOKEN = "hf_right"  # noqa: S105
RIGHT = {"authorization": f"Bearer {ACCESS_TOKEN}"}
SECRET = "SECRET"  # noqa: S105 - of files that nobody may have
CARD = "---\nlicense: mit\nlanguage: [en, fr]\ndatasets: sst2\ntags: [mood]\n---\n# A model\n"
OPEN = Path("/proc/self/fd")
SCRIPT = Path(__file__).parent / "clients" / "files.py"
GIVEN = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


def write(folder):
    """A small model in *folder*, with a card, beside what is no part of it."""
    values = config("bert", num_hidden_layers=1) | {"architectures": ["BertForX"]}
    write_tokenizer(write_model(folder, values), values)
    (folder / "README.md").write_text(CARD)
    for name in ("secret.txt", ".env", "optimizer.pt"):
        (folder / name).write_text(SECRET)
    (folder.parent / "outside.json").write_text(SECRET)
    (folder / "vocab.txt").symlink_to("../outside.json")
    for number, name in enumerate((*GIVEN, "vocab.txt")):
        os.utime(folder / name, (1_600_000_000 + number % 5,) * 2)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("models") / "small")


@pytest.fixture(scope="module")
def catalogue(folder):
    return Catalogue.load([EMBEDDED, f"{MODEL}={folder}", f"{TWIN}={folder}"])


@pytest.fixture(scope="module")
def live(catalogue):
    with within(catalogue) as server:
        yield server


@pytest.fixture(scope="module")
def guarded(catalogue):
    with within(catalogue, access_token=ACCESS_TOKEN) as server:
        yield server


@pytest.fixture(scope="module")
def commit(catalogue):
    return catalogue.find(MODEL).sha


def hashed(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def environment(url, home):
    """That of a process whose client of the Hub asks the server at *url*."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    asks = {"HF_ENDPOINT": url, "HF_TOKEN": ACCESS_TOKEN, "HF_HOME": str(home)}
    quiet = {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return kept | asks | quiet | {"NO_PROXY": "127.0.0.1"}


def run(url, home, *arguments, python=sys.executable):
    """What a Python process prints at last whose client asks the server at *url*."""
    finished = subprocess.run(  # noqa: S603
        [str(python), *arguments],
        env=environment(url, home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def called(server, commit, home, **how):
    """The outcomes of the calls of the script, by their names."""
    asked = {"model": MODEL, "name": NAME, "commit": commit, "home": str(home)}
    asked["access_token"] = ACCESS_TOKEN
    return run(server.url, home, str(SCRIPT), json.dumps(asked), **how)


@pytest.fixture(scope="module")
def calls(guarded, commit, tmp_path_factory):
    return called(guarded, commit, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def value(calls):
    """What gives the value of a call by its name."""

    def get(name):
        assert "value" in calls[name], (name, calls[name])
        return calls[name]["value"]

    return get


# Lists


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("all", [EMBEDDED, MODEL, TWIN]),
        ("filter by licence", [MODEL, TWIN]),
        ("filter by two", [MODEL, TWIN]),
        ("filter by nothing that is there", []),
        ("data set", [EMBEDDED, MODEL, TWIN]),
        ("author", [MODEL]),
        ("search", [MODEL]),
        ("gated", []),
        ("not gated", [EMBEDDED, MODEL, TWIN]),
        ("apps", []),
        ("few parameters", [MODEL, TWIN]),
        ("many parameters", [EMBEDDED]),
        ("provider", [EMBEDDED, MODEL, TWIN]),
        ("other provider", []),
        ("newest first", [EMBEDDED, MODEL, TWIN]),
        ("trending", [EMBEDDED, MODEL]),
    ],
)
def test_the_client_lists_the_models_that_it_asks_for(value, asked, found):
    assert value(asked) == found


def test_the_client_is_told_which_orders_there_are(calls):
    assert calls["odd order"]["error"] == "BadRequestError"
    assert (
        "sort must be one of trendingScore, trending, lastModified" in calls["odd order"]["message"]
    )


def test_the_client_gets_more_fields_of_a_list(value, folder):
    [full] = value("full")
    assert [file["rfilename"] for file in full["siblings"]] == GIVEN
    assert full["library_name"] == "transformers"
    tags = ["transformers", "safetensors", "bert", "text-classification", "mood", "en", "fr"]
    assert full["tags"] == [*tags, "dataset:sst2", "license:mit"]
    [with_config] = value("config")
    assert with_config["config"] == {"architectures": ["BertForX"], "model_type": "bert"}
    assert with_config["siblings"] is None
    [with_card] = value("card")
    assert (with_card["card_data"]["license"], with_card["card_data"]["language"]) == (
        "mit",
        ["en", "fr"],
    )
    [expanded] = value("expanded")
    total = sum(weights(folder).values())
    assert expanded["safetensors"] == {"parameters": weights(folder), "total": total}
    assert (expanded["downloads_all_time"], expanded["trending_score"]) == (0, 0)


def weights(folder):
    """Numbers in the weights of *folder* by type, as its file says itself."""
    content = (folder / "model.safetensors").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    counts = {}
    for name, tensor in header.items():
        if name != "__metadata__":
            count = 1
            for length in tensor["shape"]:
                count *= length
            counts[tensor["dtype"]] = counts.get(tensor["dtype"], 0) + count
    return counts


@pytest.mark.parametrize("name", ["trendingScore", "trending", "lastModified", "createdAt"])
@pytest.mark.parametrize("direction", ["", "&direction=-1", "&direction=1"])
def test_an_order_is_kept_and_equal_models_stay_in_theirs(live, name, direction):
    found = ids(ask(f"{live.url}/api/models?sort={name}{direction}"))
    by_date = name in {"lastModified", "createdAt"} and direction == "&direction=1"
    assert found == ([MODEL, TWIN, EMBEDDED] if by_date else [EMBEDDED, MODEL, TWIN])


@pytest.mark.parametrize("name", ["downloads", "likes", "likes7d", "likes30d", "num_parameters"])
def test_the_other_orders_of_the_hub_are_known(live, name):
    assert ids(ask(f"{live.url}/api/models?sort={name}")) == [EMBEDDED, MODEL, TWIN]


def ids(answer):
    assert answer.status == 200, answer.body
    return [model["id"] for model in answer.json]


@pytest.mark.parametrize(
    ("query", "advice"),
    [
        ("sort=ZEBRA", "sort must be one of trendingScore, trending, "),
        ("direction=ZEBRA", "direction must be -1, for the largest first, or 1"),
        ("expand=ZEBRA", "expand must be one of author, baseModels, cardData, "),
        ("expand=sha&expand%5B%5D=ZEBRA", "expand must be one of "),
        ("gated=ZEBRA", "the query parameter gated must be true or false"),
        ("full=ZEBRA", "the query parameter full must be true or false"),
        ("num_parameters=ZEBRA", "num_parameters must be bounds as in min:10M,max:1B"),
        ("num_parameters=min:1e9", "num_parameters must be bounds"),
        ("gated=true&sort=ZEBRA", "sort must be one of"),
    ],
)
def test_what_is_not_understood_is_refused_with_the_choices(live, query, advice):
    answer = ask(f"{live.url}/api/models?{query}")
    assert answer.status == 400
    assert advice in answer.json["error"]
    assert "ZEBRA" not in answer.json["error"]


def test_fields_without_a_value_are_left_out(live):
    answer = ask(f"{live.url}/api/models/{MODEL}?expand=gguf&expand=spaces&expand=sha")
    assert list(answer.json) == ["_id", "id", "sha"]


def test_two_ids_on_one_folder_are_two_models(live):
    found = [ask(f"{live.url}/api/models/{name}").json for name in (MODEL, TWIN)]
    assert found[0]["_id"] != found[1]["_id"]
    assert found[0]["sha"] == found[1]["sha"]
    assert [one["_id"] for one in found] == [
        ask(f"{live.url}/api/models/{name}").json["_id"] for name in (MODEL, TWIN)
    ]


def test_the_dates_are_those_of_the_files(live):
    found = ask(f"{live.url}/api/models/{MODEL}").json
    assert found["createdAt"] == "2020-09-13T12:26:40.000Z"
    assert found["lastModified"] == "2020-09-13T12:26:44.000Z"


@pytest.mark.parametrize("seconds", [-(10**10), 10**12])
def test_a_date_that_is_none_does_no_harm(catalogue, monkeypatch, seconds, live):
    monkeypatch.setattr(catalogue.find(MODEL).model.files, "newest", seconds)
    assert ask(f"{live.url}/api/models/{MODEL}").status == 200


# Models and files


def test_the_client_sees_the_files_of_a_model(value, folder, commit):
    info = value("info")
    assert (info["sha"], info["gated"], info["private"]) == (commit, False, False)
    assert info["safetensors"]["total"] == sum(weights(folder).values())
    files = {file["rfilename"]: file for file in value("info with files")}
    assert list(files) == GIVEN
    for name, file in files.items():
        assert file["size"] == (folder / name).stat().st_size
    large = files["model.safetensors"]["lfs"]
    assert large["sha256"] == hashed(folder / "model.safetensors")
    assert [name for name, file in files.items() if file["lfs"]] == ["model.safetensors"]
    assert value("files") == value("files of a name") == GIVEN
    assert value("info of a name") == MODEL


def test_the_client_sees_the_tree(value, folder, commit):
    tree = {file["path"]: file for file in value("tree")}
    assert list(tree) == GIVEN
    assert tree["config.json"]["blob_id"] == blob(folder / "config.json")
    assert tree["config.json"]["last_commit"]["oid"] == commit
    assert tree["model.safetensors"]["lfs"]["sha256"] == hashed(folder / "model.safetensors")
    assert [file["path"] for file in value("paths")] == ["config.json"]
    assert value("paths")[0] == tree["config.json"]
    assert value("one path") == ["README.md"]
    assert value("no path") == []


def blob(path):
    """The name of a file in Git."""
    content = path.read_bytes()
    head = b"blob %d\0" % len(content)
    return hashlib.sha1(head + content, usedforsecurity=False).hexdigest()


def test_the_client_sees_one_branch_with_one_commit(value, commit):
    [branch] = value("refs")["branches"]
    assert (branch["name"], branch["target_commit"]) == ("main", commit)
    assert value("refs")["tags"] == value("refs")["pull_requests"] == []
    [found] = value("commits")
    assert (found["commit_id"], found["authors"]) == (commit, [])
    assert found["created_at"].startswith("2020-09-13")


def test_the_commits_can_be_counted(live):
    """As JavaScript's client does."""
    answer = ask(f"{live.url}/api/models/{MODEL}/commits/main?limit=1")
    assert answer.headers["x-total-count"] == "1" == str(len(answer.json))


def test_a_revision_may_be_short_but_not_too_short(value, calls, commit):
    assert value("info at a short commit") == commit
    assert calls["info at a commit too short"]["error"] == "RevisionNotFoundError"
    assert calls["info at a request to merge"]["error"] == "RevisionNotFoundError"
    assert value("revision exists") == [True, False, False]


def test_the_client_knows_what_exists(value, calls):
    assert value("exists") == [True, True, False, False, False]
    assert calls["tree of a folder"]["error"] == "RemoteEntryNotFoundError"


def test_the_client_knows_whether_it_may_use_a_model(value, calls):
    assert value("allowed") is None
    assert calls["not allowed"]["error"] == "HfHubHTTPError"
    assert "Invalid username or password." in calls["not allowed"]["message"]
    assert calls["allowed, unknown"]["error"] == "RepositoryNotFoundError"


def test_the_client_knows_whose_access_token_it_has(value):
    found = value("whoami")
    assert found["name"] == found["auth"]["accessToken"]["displayName"] == "access-token"
    known = {"emailVerified": False, "canPay": False, "isPro": False, "periodEnd": None}
    assert known.items() <= found.items()
    assert (found["avatarUrl"], found["auth"]["permissions"]) == ("", [])


# Downloads


def test_the_client_downloads_a_file(value, calls, folder, commit):
    assert value("one file") == hashed(folder / "config.json")
    found = value("metadata")
    assert found["etag"] == hashed(folder / "model.safetensors")
    assert found["commit_hash"] == commit
    assert found["size"] == (folder / "model.safetensors").stat().st_size
    assert calls["no such file"]["error"] == "RemoteEntryNotFoundError"
    assert calls["no such revision"]["error"] == "RevisionNotFoundError"
    assert calls["no such model"]["error"] == "RepositoryNotFoundError"
    assert "401" in calls["one file, wrong access token"]["message"]


def test_the_client_downloads_a_snapshot(value, folder, commit):
    expected = {name: hashed(folder / name) for name in GIVEN}
    assert value("snapshot") == {"commit": commit, "files": expected}
    assert value("snapshot at a short commit") == value("snapshot")
    some = {name: one for name, one in expected.items() if name.endswith(".json")}
    assert value("snapshot of some") == {"commit": commit, "files": some}


def test_the_client_goes_on_where_it_was(value, folder):
    assert value("resumed") == hashed(folder / "model.safetensors")


def test_the_hashes_let_the_client_verify_a_snapshot(value):
    assert value("verified") == {"mismatches": [], "missing": []}


def test_labelwise_takes_a_model_from_labelwise(guarded, folder, commit, tmp_path):
    program = (
        "import json; from labelwise import Classifier; from labelwise.models.locate import locate;"
        f"place = locate('{MODEL}'); found = Classifier('{MODEL}')('w7 w9');"
        "print(json.dumps([place.revision, [[one.label, one.score] for one in found]]))"
    )
    revision, found = run(guarded.url, tmp_path, "-c", program)
    assert revision == commit
    expected = Classifier(folder)("w7 w9")
    assert found == [[one.label, pytest.approx(one.score, abs=1e-5)] for one in expected]


@pytest.mark.parity
def test_transformers_takes_a_model_from_labelwise(guarded, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    program = (
        "import json, torch; from transformers import AutoTokenizer as T;"
        "from transformers import AutoModelForSequenceClassification as M;"
        f"inputs = T.from_pretrained('{EMBEDDED}')('I like you', return_tensors='pt');"
        f"model = M.from_pretrained('{EMBEDDED}', dtype=torch.float32).eval();"
        "found = model(**inputs).logits.softmax(-1)[0];"
        "print(json.dumps(sorted(found.tolist())))"
    )
    expected = sorted(score.score for score in Classifier()("I like you"))
    assert run(guarded.url, tmp_path, "-c", program) == pytest.approx(expected, abs=1e-4)


@pytest.mark.clients
@pytest.mark.parametrize("client", ["hub-1x", "hub-03x"])
def test_older_clients_find_the_same(client, guarded, commit, tmp_path, value):
    clients = os.environ.get("LABELWISE_CLIENTS") or pytest.skip("LABELWISE_CLIENTS is not set")
    found = called(guarded, commit, tmp_path, python=Path(clients, client, "bin", "python"))
    for name in (
        *("all", "filter by licence", "search", "newest first", "files", "exists", "one file"),
        *("revision exists", "one path", "no path", "allowed", "snapshot", "resumed"),
    ):
        assert found[name] == {"value": value(name)}, name
    assert found["no such revision"]["error"] == "RevisionNotFoundError"
    assert found["no such file"]["error"].endswith("EntryNotFoundError")
    assert found["no such model"]["error"] == "RepositoryNotFoundError"


@pytest.mark.clients
def test_javascript_finds_models_and_files(guarded, folder, commit, tmp_path):
    clients = os.environ.get("LABELWISE_CLIENTS") or pytest.skip("LABELWISE_CLIENTS is not set")
    asked = {"url": guarded.url, "model": MODEL, "access_token": ACCESS_TOKEN}
    finished = subprocess.run(  # noqa: S603
        ["node", str(SCRIPT.with_suffix(".mjs")), json.dumps(asked | {"home": str(tmp_path)})],  # noqa: S607
        cwd=Path(clients, "js"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    run = json.loads(finished.stdout.splitlines()[-1])
    assert run["version"].startswith("2.")
    refused = run["outcomes"].pop("no access token")
    assert refused["status"] == 401
    assert refused["error"].startswith("Invalid username or password.")
    found = {name: outcome.get("value", outcome) for name, outcome in run["outcomes"].items()}
    assert [model["name"] for model in found["list"]] == [MODEL, TWIN]
    assert found["list"][0]["safetensors"]["parameters"] == found["header"] == weights(folder)
    assert found["info"]["sha"] == commit
    assert [file["path"] for file in found["files"]] == GIVEN
    assert [file["path"] for file in found["paths"]] == ["config.json"]
    assert ([one["oid"] for one in found["commits"]], found["count"]) == ([commit], 1)
    assert found["exists"] == [True, False]
    assert found["download"] == (folder / "config.json").read_text()
    assert found["missing"] is None
    assert found["weights"]["etag"] == f'"{hashed(folder / "model.safetensors")}"'
    assert found["weights"]["size"] == (folder / "model.safetensors").stat().st_size
    snapshot = {path.name: hashed(path) for path in Path(found["snapshot"]).iterdir()}
    assert snapshot == {name: hashed(folder / name) for name in GIVEN}
    assert found["caller"] == "access-token"


# The answer to a request for a file


def file_at(live, name="model.safetensors", headers=None, method="GET", revision="main"):
    return ask(f"{live.url}/{MODEL}/resolve/{revision}/{name}", headers=headers, method=method)


@pytest.mark.parametrize("name", GIVEN)
def test_a_file_comes_whole_with_its_hash_and_its_commit(live, folder, commit, name):
    answer, head = file_at(live, name), file_at(live, name, method="HEAD")
    assert answer.body == (folder / name).read_bytes()
    tag = hashed(folder / name) if name.endswith(".safetensors") else blob(folder / name)
    for one in (answer, head):
        assert one.status == 200
        assert one.headers["etag"] == f'"{tag}"'
        assert one.headers["x-repo-commit"] == commit
        assert one.headers["accept-ranges"] == "bytes"
        assert one.headers["content-length"] == str(len(answer.body))
        assert one.headers["content-type"] == "application/octet-stream"
        assert one.headers["x-content-type-options"] == "nosniff"
    assert head.body == b""


@pytest.mark.parametrize(
    ("asked", "begin", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=5-5", 5, 6),
        ("bytes=100-", 100, None),
        ("bytes=-10", -10, None),
        ("bytes=7-999999999999999999", 7, None),
        ("bytes=-999999999999999999", 0, None),
        ("Bytes=3-4", 3, 5),
    ],
)
def test_a_part_of_a_file_is_a_part(live, folder, asked, begin, end):
    whole = (folder / "model.safetensors").read_bytes()
    expected = whole[begin:end]
    answer = file_at(live, headers={"range": asked})
    assert (answer.status, answer.body) == (206, expected)
    first = whole.index(expected) if begin < 0 else begin
    last = first + len(expected) - 1
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert answer.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize(
    "asked",
    [
        *("bytes=", "bytes=-", "bytes=9-3", "bytes=a-b", "bytes=0-1,5-6", "lines=0-1", "bytes=1"),
        *("bytes=²-³", "bytes=" + "9" * 30 + "-", "bytes=1-2-3", "x"),
    ],
)
def test_what_asks_for_no_part_gets_all(live, folder, asked):
    answer = file_at(live, headers={"range": asked})
    assert (answer.status, len(answer.body)) == (200, (folder / "model.safetensors").stat().st_size)


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=-0", "bytes=999999999-9999999999"])
def test_a_part_that_is_not_there_is_refused(live, folder, asked):
    answer = file_at(live, headers={"range": asked})
    size = (folder / "model.safetensors").stat().st_size
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{size}"
    assert answer.json["error"] == f"the file has {size} bytes; ask for a part of them"


def test_a_part_of_another_file_is_not_given(live):
    tag = file_at(live, method="HEAD").headers["etag"]
    part = {"range": "bytes=0-9"}
    assert file_at(live, headers=part | {"if-range": tag}).status == 206
    for other in ('"other"', f"W/{tag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert file_at(live, headers=part | {"if-range": other}).status == 200


def test_a_file_that_the_caller_has_is_not_sent_again(live):
    tag = file_at(live, method="HEAD").headers["etag"]
    for known in (tag, f"W/{tag}", "*", f'"a", {tag}'):
        for method in ("GET", "HEAD"):
            answer = file_at(live, headers={"if-none-match": known}, method=method)
            assert (answer.status, answer.body) == (304, b"")
            assert answer.headers["etag"] == tag
    assert file_at(live, headers={"if-none-match": '"a"'}).status == 200


def test_git_has_a_pointer_in_the_place_of_a_large_file(live, folder):
    """JavaScript's client asks so whether a file exists."""
    for method in ("GET", "HEAD"):
        small, large, none = (
            ask(f"{live.url}/{MODEL}/raw/main/{name}", method=method)
            for name in ("config.json", "model.safetensors", "secret.txt")
        )
        assert (small.status, large.status, none.status) == (200, 200, 404)
    small, large = (
        ask(f"{live.url}/{MODEL}/raw/main/{name}") for name in ("config.json", "model.safetensors")
    )
    assert small.body == (folder / "config.json").read_bytes()
    path = folder / "model.safetensors"
    assert large.body.decode() == (
        "version https://git-lfs.github.com/spec/v1\n"
        f"oid sha256:{hashed(path)}\nsize {path.stat().st_size}\n"
    )
    [found] = ask(f"{live.url}/api/models/{MODEL}/paths-info/main", {"paths": path.name}).json
    assert large.headers["etag"] == f'"{found["oid"]}"'
    assert found["lfs"]["pointerSize"] == len(large.body)


def test_a_connection_can_be_used_after_a_file(live, folder):
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=30)
    for headers in ({}, {"range": "bytes=1-3"}, {"range": "bytes=999999999-"}, {}):
        for method in ("GET", "HEAD"):
            connection.request(method, f"/{MODEL}/resolve/main/model.safetensors", headers=headers)
            connection.getresponse().read()
    connection.request("GET", f"/{MODEL}/resolve/main/README.md")
    assert connection.getresponse().read() == (folder / "README.md").read_bytes()
    connection.close()


def test_an_unknown_file_revision_and_model_are_told_apart(live, commit):
    for path, code in (
        (f"/{MODEL}/resolve/main/nope.json", "EntryNotFound"),
        (f"/{NAME}/resolve/{commit[:7]}/nope.json", "EntryNotFound"),
        (f"/{MODEL}/resolve/v1/config.json", "RevisionNotFound"),
        (f"/{MODEL}/resolve/refs%2Fpr%2F1/config.json", "RevisionNotFound"),
        (f"/{MODEL}/resolve/{commit[:6]}/config.json", "RevisionNotFound"),
        (f"/{MODEL}/resolve/{'0' * 40}/config.json", "RevisionNotFound"),
        (f"/api/models/{MODEL}/tree/v1", "RevisionNotFound"),
        (f"/api/models/{MODEL}/tree/main/onnx/x", "EntryNotFound"),
        (f"/api/models/{MODEL}/commits/v1", "RevisionNotFound"),
        ("/org/nope/resolve/main/config.json", "RepoNotFound"),
        ("/nope/resolve/v1/config.json", "RepoNotFound"),
        ("/api/models/org/nope/tree/main", "RepoNotFound"),
        ("/api/models/org/nope/refs", "RepoNotFound"),
        ("/api/models/org/nope/auth-check", "RepoNotFound"),
        ("/status/org/nope", "RepoNotFound"),
    ):
        for method in ("GET", "HEAD"):
            answer = ask(live.url + path, method=method)
            assert (answer.status, answer.headers["x-error-code"]) == (404, code), path
            assert answer.headers["x-error-message"]
            assert ("x-repo-commit" in answer.headers) is (code == "EntryNotFound")
            assert method == "HEAD" or answer.json["error"] == answer.headers["x-error-message"]


# Access


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "x"}])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_files_are_for_those_who_may_classify(guarded, method, headers):
    for path in (
        f"/{MODEL}/resolve/main/config.json",
        f"/{MODEL}/raw/main/config.json",
        f"/{MODEL}/resolve/main/nope.json",
        "/org/nope/resolve/main/config.json",
        f"/api/models/{MODEL}/auth-check",
    ):
        answer = ask(guarded.url + path, headers=headers, method=method)
        assert answer.status == 401
        assert "etag" not in answer.headers
        assert SECRET.encode() not in answer.body
    assert ask(guarded.url, b"w7", headers=headers).status == 401


def test_names_and_hashes_are_for_everybody(guarded, commit):
    for path in ("", f"/tree/{commit}", "/refs", "/commits/main", "/revision/main?blobs=true"):
        assert ask(f"{guarded.url}/api/models/{MODEL}{path}").status == 200


def test_bodies_are_read_of_those_alone_who_have_the_access_token(guarded):
    url = f"{guarded.url}/api/models/{MODEL}/paths-info/main"
    assert ask(url, {"paths": []}).status == 401
    assert ask(url, {"paths": []}, headers=RIGHT).status == 200


def test_a_server_may_withhold_its_files(catalogue):
    with within(catalogue, access_token=ACCESS_TOKEN, withhold_files=True) as live:
        for name in ("config.json", "nope.json"):
            answer = file_at(live, name, RIGHT)
            assert answer.status == 403
            assert answer.json["error"] == (
                "this server hands out no files of its models (withhold_files)"
            )
            assert answer.headers["x-error-message"] == answer.json["error"]
        assert file_at(live, "config.json").status == 401
        assert ask(f"{live.url}/{MODEL}/raw/main/config.json", headers=RIGHT).status == 403
        assert ask(f"{live.url}/org/nope/resolve/main/a", headers=RIGHT).status == 404
        assert ask(f"{live.url}/api/models/{MODEL}/auth-check", headers=RIGHT).status == 200


def test_pages_of_other_sites_cannot_read_files(live):
    answer = file_at(live, "config.json", {"origin": "https://example.com"})
    assert "access-control-allow-origin" not in answer.headers


# Nothing else is handed out


def raw(live, target, method="GET"):
    """The answer to *target* as it is: nothing on the way makes another path of it."""
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=30)
    try:
        connection.putrequest(method, target, skip_accept_encoding=True)
        connection.endheaders()
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


@pytest.mark.parametrize(
    "name",
    [
        "secret.txt",
        ".env",
        "optimizer.pt",
        "vocab.txt",
        "../outside.json",
        "..%2foutside.json",
        "%2e%2e%2foutside.json",
        "..%252foutside.json",
        "..%5coutside.json",
        "%2e%2e/%2e%2e/outside.json",
        "./secret.txt",
        "x/../secret.txt",
        "config.json/../secret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "secret.txt%00config.json",
        "config.json%00",
        "config.json//",
        "/config.json",
        "config%0a.json",
        "CONFIG.JSON",
        "%ff",
        "",
        "a" * 5_000,
    ],
    ids=lambda name: name[:30],
)
def test_nothing_but_the_files_of_the_model_is_handed_out(live, name):
    for revision in ("main", "HEAD"):
        answer = raw(live, f"/{MODEL}/resolve/{revision}/{name}")
        assert answer.status == 404
        assert SECRET.encode() not in answer.body
        assert len(answer.body) < 200
        tree = raw(live, f"/api/models/{MODEL}/tree/{revision}/{name}")
        assert tree.status == (404 if name else 200)
    body = {"paths": [name, name.replace("%2f", "/").replace("%00", "\0")]}
    assert ask(f"{live.url}/api/models/{MODEL}/paths-info/main", body).json == []


@pytest.mark.parametrize("model", ["..", "%2e%2e", "org%2f..%2forg%2fsmall", "org/small/.."])
def test_a_model_is_named_by_its_id_alone(live, model):
    assert raw(live, f"/{model}/resolve/main/config.json").status == 404


def test_an_encoded_slash_in_an_id_is_a_slash(live):
    assert raw(live, f"/{MODEL.replace('/', '%2F')}/resolve/main/config.json").status == 200


# Files that change


@pytest.fixture
def changing(tmp_path):
    """A server of a model whose files the test may change, and its folder."""
    folder = write(tmp_path / "small")
    model = Model.load(folder)
    with within(Catalogue([Entry(MODEL, model, "b" * 40, Card.read(model.files))])) as live:
        yield live, folder


def note_files(live, folder):
    """Have the model's files be those that *folder* has now."""
    live.server.catalogue.first.model.files = Files(folder)


def test_a_file_that_has_changed_is_not_handed_out_under_the_old_commit(changing):
    live, folder = changing
    assert file_at(live, "config.json").status == 200
    (folder / "config.json").write_text('{"new": true}')
    (folder / "tokenizer.json").unlink()
    for name in ("config.json", "tokenizer.json"):
        answer = file_at(live, name)
        assert answer.status == 409
        assert answer.json["error"] == (
            f"{name} has changed since the model was loaded; start the server again to serve it "
            "as it is now"
        )
        assert "etag" not in answer.headers
        assert file_at(live, name, method="HEAD").status == 409
    assert ask(f"{live.url}/api/models/{MODEL}/tree/main").status == 409
    assert file_at(live, "README.md").status == 200
    assert ask(f"{live.url}/api/models/{MODEL}").status == 200
    assert ask(live.url, b"w7").status == 200


def test_what_is_put_there_later_is_not_handed_out(changing):
    live, folder = changing
    (folder / "merges.txt").write_text(SECRET)
    assert file_at(live, "merges.txt").status == 404


def test_an_answer_breaks_off_where_its_file_changes_meanwhile(changing):
    live, folder = changing
    path = folder / "README.md"
    path.write_bytes(b"x" * 60_000_000)
    note_files(live, folder)
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=30)
    connection.request("GET", f"/{MODEL}/resolve/main/README.md")
    response = connection.getresponse()
    assert response.status == 200
    os.truncate(path, 59_000_000)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()
    assert ask(live.url, b"w7").status == 200


def test_nobody_waits_while_a_large_file_is_hashed_and_sent(changing):
    live, folder = changing
    (folder / "README.md").write_bytes(b"x" * 100_000_000)
    note_files(live, folder)
    read = []
    with ExitStack() as stack:
        for _ in range(3):
            thread = threading.Thread(
                target=lambda: read.append(len(file_at(live, "README.md").body))
            )
            thread.start()
            stack.callback(thread.join)
        answered = 0
        while len(read) < 3:
            assert ask(live.url, b"w7", timeout=5).status == 200
            answered += 1
    assert read == [100_000_000] * 3
    assert answered > 3
    assert len(live.server.hasher._known) == 1


def test_a_caller_that_leaves_has_no_more_of_the_file_read(changing, monkeypatch):
    live, folder = changing
    (folder / "README.md").write_bytes(b"x" * 100_000_000)
    note_files(live, folder)
    reads, read = [], File.read
    monkeypatch.setattr(File, "read", lambda *asked: reads.append(asked) or read(*asked))
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=30)
    connection.request("GET", f"/{MODEL}/resolve/main/README.md")
    connection.getresponse().read(10)
    connection.close()
    until(lambda: not [task for task in live.connections.tasks if not task.done()])
    assert 1 < len(reads) < 100_000_000 // 2**18


@pytest.mark.skipif(not OPEN.is_dir(), reason="this system does not list open files")
def test_a_slow_caller_holds_no_file_open(changing):
    live, folder = changing
    (folder / "README.md").write_bytes(b"x" * 100_000_000)
    note_files(live, folder)
    connection = http.client.HTTPConnection(urlsplit(live.url).netloc, timeout=30)
    connection.request("GET", f"/{MODEL}/resolve/main/README.md")
    assert connection.getresponse().status == 200
    until(lambda: str(folder / "README.md") not in {linked(path) for path in OPEN.iterdir()})
    connection.close()


def linked(path):
    try:
        return str(path.readlink())
    except OSError:  # it is closed meanwhile
        return ""


# Bodies that name files


@pytest.mark.parametrize(
    "body",
    [
        b'{"paths": ["config.json", "config.json"]}',
        b' {"paths": "config.json", "expand": false, "more": [1]}',
        b"paths=config.json&expand=False",
        b"paths=nope&paths=config.json&paths=config.json",
    ],
)
def test_files_are_named_as_json_or_as_a_form(live, body):
    answer = ask(f"{live.url}/api/models/{MODEL}/paths-info/HEAD", body)
    [file] = answer.json
    assert (file["path"], file["type"]) == ("config.json", "file")
    assert "lastCommit" not in file


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"{}", b'{"paths": 1}', b'{"paths": [1]}', b'{"paths": "\xff"}'),
        *(b"\xff\xfe", b"paths=x&" * 2_000, b'{"paths": [], "x": ' + b"[" * 100_000 + b"}"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_names_no_files_is_refused(live, body):
    answer = ask(f"{live.url}/api/models/{MODEL}/paths-info/main", body)
    assert answer.status == 400
    assert answer.json["error"].startswith("the body must name files: ")


def test_a_body_that_is_too_long_is_refused(live):
    answer = ask(f"{live.url}/api/models/{MODEL}/paths-info/main", b"paths=" + b"a" * 11_000_000)
    assert answer.status == 413


# Old clients


def test_an_old_client_learns_that_a_model_is_loaded(live):
    answer = ask(f"{live.url}/status/{NAME}")
    assert answer.json == {
        "loaded": True,
        "state": "Loaded",
        "compute_type": "cpu",
        "framework": "transformers",
    }
    found = ask(f"{live.url}/framework/transformers").json
    assert [one["model_id"] for one in found] == [EMBEDDED, MODEL, TWIN]
    assert {one["task"] for one in found} == {"text-classification"}
    assert ask(f"{live.url}/framework/diffusers").json == []
