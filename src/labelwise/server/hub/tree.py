"""The files of a model and their one commit, as the Hub lists them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import parse_qs

import msgspec

from labelwise.errors import BadInput, NotInRepo
from labelwise.models.files import pointer
from labelwise.server.hub.asked import BRANCH, date, find_model, find_revision, flag
from labelwise.server.responses import json_response
from labelwise.server.state import server_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from labelwise.models.files import File, Hashes
    from labelwise.serving.catalogue import Entry

_TITLE = "The files that are served"
RECURSIVE = {
    "name": "recursive",
    "in": "query",
    "description": "true gives files in folders too, of which there are none.",
    "schema": {"type": "boolean"},
}
LAST_COMMIT = {
    "name": "expand",
    "in": "query",
    "description": "true gives the commit of each file too.",
    "schema": {"type": "boolean"},
}


class Paths(msgspec.Struct):
    """The files to tell of."""

    paths: Annotated[str | list[str], msgspec.Meta(description="One path, or a list.")]
    expand: Annotated[
        bool | None, msgspec.Meta(description="true gives the commit of each file too.")
    ] = None


async def tree(request: Request) -> Response:
    """The files of a model, with sizes and hashes."""
    entry = find_revision(request)
    if request.path_params.get("path"):
        raise NotInRepo(f"There is no such folder in {entry.id}", "EntryNotFound", entry.sha)
    expand = bool(flag(request, "expand"))
    files = [await _described(request, entry, file, expand) for file in entry.model.files]
    return json_response(files)


async def paths_info(request: Request) -> Response:
    """Those files of a model that the body names, with sizes and hashes."""
    entry = find_revision(request)
    server = server_of(request)
    body = await server.bodies.read(request)
    asked = await server.aside.run(len(body), lambda: _read_paths(body))
    paths = [asked.paths] if isinstance(asked.paths, str) else asked.paths
    files = [file for path in dict.fromkeys(paths) if (file := entry.model.files.get(path))]
    expand = bool(asked.expand)
    return json_response([await _described(request, entry, file, expand) for file in files])


async def refs(request: Request) -> Response:
    """The one branch of a model, main."""
    entry = find_model(request)
    branch = {"name": BRANCH, "ref": f"refs/heads/{BRANCH}", "targetCommit": entry.sha}
    return json_response({"branches": [branch], "converts": [], "tags": [], "pullRequests": []})


async def commits(request: Request) -> Response:
    """The one commit of a model, the one that is served."""
    entry = find_revision(request)
    commit = {
        **_commit(entry),
        "message": "",
        "authors": [],
        "formatted": {"title": _TITLE, "message": ""},
    }
    return json_response([commit], headers={"x-total-count": "1"})


async def siblings(request: Request, entry: Entry) -> list[dict[str, Any]]:
    """The files of *entry*, as the description of a model has them with sizes and hashes."""
    found = []
    for file in entry.model.files:
        hashes = await hashes_of(request, file)
        known = {"rfilename": file.name, "size": file.size, "blobId": hashes.oid}
        found.append(known | _lfs(file, hashes, "sha256"))
    return found


async def hashes_of(request: Request, file: File) -> Hashes:
    """The hashes of *file*, which are computed once, beside the event loop.

    Raises:
        FileChanged: It has changed since the model was loaded.
    """
    found = server_of(request).hasher.start(file)
    return await asyncio.shield(asyncio.wrap_future(found))


async def _described(request: Request, entry: Entry, file: File, expand: bool) -> dict[str, Any]:  # noqa: FBT001
    """*file* as a tree has it; with *expand*, its commit too."""
    hashes = await hashes_of(request, file)
    known = {"type": "file", "oid": hashes.oid, "size": file.size, "path": file.name}
    known |= _lfs(file, hashes, "oid")
    if expand:
        known["lastCommit"] = _commit(entry)
    return known


def _lfs(file: File, hashes: Hashes, name: str) -> dict[str, Any]:
    """The facts of a large *file*, whose SHA-256 is called *name*; none of a small one."""
    if hashes.sha256 is None:
        return {}
    size = len(pointer(hashes.sha256, file.size))
    return {"lfs": {name: hashes.sha256, "size": file.size, "pointerSize": size}}


def _commit(entry: Entry) -> dict[str, Any]:
    return {"id": entry.sha, "title": _TITLE, "date": date(entry.model.files.newest)}


def _read_paths(body: bytes) -> Paths:
    """The paths that *body* names: JSON, as JavaScript's client sends it, or a form, as Python's.

    Raises:
        BadInput: It is neither.
    """
    try:
        if body.lstrip()[:1] == b"{":
            return msgspec.json.decode(body, type=Paths)
        form = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=1_000)
    except (ValueError, msgspec.DecodeError, RecursionError):
        raise BadInput(
            'the body must name files: {"paths": ["config.json"]}, or paths=config.json of a form, '
            "1000 at most"
        ) from None
    return Paths(form.get("paths", []), form.get("expand", [""])[-1].lower() == "true")
