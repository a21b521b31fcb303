"""A small Hugging Face Hub on 127.0.0.1: the endpoints that a client needs to download a model.

with Hub() as hub:
    commit = hub.add("org/name", {"config.json": b"{}"})
    subprocess.run(command, env=hub.environment(tmp_path))
    assert hub.downloads == ["config.json"]
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

_ID = r"(?P<id>[^/]+(?:/[^/]+)?)"
_LISTING = re.compile(rf"/api/models/{_ID}/(?P<what>revision|tree)/(?P<revision>[^/]+)/?")
_FILE = re.compile(rf"/{_ID}/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_LARGE = (".bin", ".gguf", ".safetensors")  # are kept with Git LFS
# What the real one sends to those without an access token.
_WARNING = "unauthenticated; You are sending unauthenticated requests. Set an access token."


@dataclass
class Repository:
    """One model on the Hub: its commits, and who may read it."""

    access_token: str | None = None  # None: everybody may
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # branch or tag -> commit


class Hub:
    """The server; `requests` holds (method, path) of each request that came, in order."""

    def __init__(self):
        self.repositories = {}
        self.requests = []
        self.user_agents = set()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name, files, *, revision="main", access_token=None):
        """Make *files* a new commit of the model *name*, at its branch *revision*.

        The commit's hash is given back. With *access_token*, only its bearer may read the model.
        """
        repository = self.repositories.setdefault(name, Repository())
        repository.access_token = access_token
        content = repr((name, revision, len(repository.commits), sorted(files.items())))
        commit = hashlib.sha1(content.encode(), usedforsecurity=False).hexdigest()
        repository.commits[commit] = dict(files)
        repository.names[revision] = commit
        return commit

    @property
    def downloads(self):
        """The names of the files that were sent, sorted, each as often as it was."""
        sent = (_FILE.fullmatch(path) for method, path in self.requests if method == "GET")
        return sorted(match["file"] for match in sent if match)

    def environment(self, home, **changes):
        """The environment of a process whose client uses this Hub, with *home* for its cache."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        kept |= {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
        return kept | changes

    def __enter__(self):
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self._answer()

    def do_HEAD(self):
        self._answer()

    def log_message(self, *_):
        pass

    def _answer(self):
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, unquote(path)))
        self.hub.user_agents.add(self.headers["User-Agent"])
        status, headers, body = self._response(path)
        if "Authorization" not in self.headers:
            headers["X-HF-Warning"] = _WARNING
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _response(self, path):
        match = _LISTING.fullmatch(path) or _FILE.fullmatch(path)
        if match is None:
            return _refusal(HTTPStatus.NOT_FOUND, "EntryNotFound")
        wanted = {key: unquote(value) for key, value in match.groupdict().items()}
        repository = self.hub.repositories.get(wanted["id"])
        if repository is None:
            return _refusal(HTTPStatus.NOT_FOUND, "RepoNotFound")
        if repository.access_token and not self._is_from_bearer(repository.access_token):
            return _refusal(HTTPStatus.UNAUTHORIZED, "GatedRepo")
        commit = repository.names.get(wanted["revision"], wanted["revision"])
        files = repository.commits.get(commit)
        if files is None:
            return _refusal(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        if "what" in wanted:
            return _listing(wanted["what"], wanted["id"], commit, files)
        return self._file(commit, wanted["file"], files.get(wanted["file"]))

    def _is_from_bearer(self, access_token):
        return self.headers["Authorization"] == f"Bearer {access_token}"

    def _file(self, commit, name, content):
        if content is None:
            return _refusal(HTTPStatus.NOT_FOUND, "EntryNotFound")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_etag(name, content)}"'}
        part = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        if part is None:
            return HTTPStatus.OK, headers, content
        start = int(part[1])
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return HTTPStatus.PARTIAL_CONTENT, headers, content[start:]


def _listing(what, name, commit, files):
    if what == "tree":
        listing = [
            {"type": "file", "path": file, "size": len(content), **_hashes(file, content, "oid")}
            for file, content in files.items()
        ]
    else:
        siblings = [
            {"rfilename": file, "size": len(content), **_hashes(file, content, "blobId")}
            for file, content in files.items()
        ]
        listing = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
    return HTTPStatus.OK, {"Content-Type": "application/json"}, json.dumps(listing).encode()


def _refusal(status, code):
    return status, {"X-Error-Code": code, "X-Error-Message": code}, b""


def _hashes(name, content, key):
    """The hash of a file in Git at *key*, and that of its content where it is kept with Git LFS."""
    if not name.endswith(_LARGE):
        return {key: _in_git(content)}
    found, size = hashlib.sha256(content).hexdigest(), len(content)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{found}\nsize {size}\n"
    name_of_hash = "oid" if key == "oid" else "sha256"
    lfs = {name_of_hash: found, "size": size, "pointerSize": len(pointer)}
    return {key: _in_git(pointer.encode()), "lfs": lfs}


def _etag(name, content):
    return hashlib.sha256(content).hexdigest() if name.endswith(_LARGE) else _in_git(content)


def _in_git(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
