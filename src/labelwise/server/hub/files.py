"""Files of models, sent in pieces: none is in memory as a whole, or holds up the event loop."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.responses import Response

from labelwise.errors import FilesWithheld, LabelwiseError, NoSuchRange, NotInRepo
from labelwise.models.files import pointer
from labelwise.server.hub.asked import find_model, find_revision
from labelwise.server.hub.tree import hashes_of
from labelwise.server.state import server_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from labelwise.models.files import File, Hashes
    from labelwise.serving.catalogue import Entry

_PIECE_BYTES = 2**17
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)
PARAMETERS = [
    {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}
    for name, description in (
        ("range", "Part of the file, as in bytes=0-99; several parts are not given."),
        ("if-range", "The ETag of the file whose part is wanted; of another, all is given."),
        ("if-none-match", "The ETag of a file that need not be sent again."),
    )
]
HEADERS = {
    "etag": "The hash of the file: SHA-256 of large ones, else that of the blob in Git.",
    "x-repo-commit": "The commit of the model, or a hash of its files.",
    "accept-ranges": "bytes.",
}


async def resolve(request: Request) -> Response:
    """A file of a model, or a part of it."""
    return _answer(request, *await _find(request))


async def raw(request: Request) -> Response:
    """A file of a model as Git has it: a pointer in the place of a large one."""
    entry, file, hashes = await _find(request)
    if hashes.sha256 is None:
        return _answer(request, entry, file, hashes)
    return Response(pointer(hashes.sha256, file.size), headers=_headers(entry, hashes.oid))


def _answer(request: Request, entry: Entry, file: File, hashes: Hashes) -> Response:
    """The content of *file*, or as much of it as *request* asks for."""
    headers = _headers(entry, hashes.etag)
    if _is_known(request.headers.get("if-none-match", ""), headers["etag"]):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers | {"content-length": str(file.size)})
    reading, part = server_of(request).reading, None
    if request.headers.get("if-range", headers["etag"]) == headers["etag"]:
        part = _part(request.headers.get("range", ""), file.size)
    if part is None:
        return _Pieces(reading, file, range(file.size), 200, headers)
    span = f"bytes {part.start}-{part.stop - 1}/{file.size}"
    return _Pieces(reading, file, part, 206, headers | {"content-range": span})


async def _find(request: Request) -> tuple[Entry, File, Hashes]:
    """The model and the file that the path of *request* names.

    Raises:
        NotInRepo: There is none of that name.
        FilesWithheld: The server hands out none.
        FileChanged: It has changed since the model was loaded.
    """
    find_model(request)
    server = server_of(request)
    if server.settings.withhold_files:
        raise FilesWithheld("this server hands out no files of its models (withhold_files)")
    entry = find_revision(request)
    file = entry.model.files.get(request.path_params["path"])
    if file is None:
        raise NotInRepo(f"There is no such file in {entry.id}", "EntryNotFound", entry.sha)
    hashes = await hashes_of(request, file)
    async with server.reading:
        await asyncio.to_thread(file.read)  # has it changed since it was hashed?
    return entry, file, hashes


def _headers(entry: Entry, etag: str) -> dict[str, str]:
    """The headers of all answers with a file of *entry*."""
    return {
        "etag": f'"{etag}"',
        "x-repo-commit": entry.sha,
        "accept-ranges": "bytes",
        "content-type": "application/octet-stream",  # never a page for a browser to show
        "x-content-type-options": "nosniff",
    }


def _is_known(tags: str, etag: str) -> bool:
    """Whether *tags*, the header, says that the caller has the file already."""
    return any(tag.strip().removeprefix("W/") in {etag, "*"} for tag in tags.split(","))


def _part(asked: str, size: int) -> range | None:
    """The bytes that are *asked* for, in the words of the header; None where it is all.

    Raises:
        NoSuchRange: A file of *size* bytes has no such part.
    """
    found = _RANGE.fullmatch(asked.strip())
    first, last = found.groups() if found else ("", "")
    if not (first or last) or (first and last and int(last) < int(first)):
        return None
    begin = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if begin >= size:
        raise NoSuchRange(f"the file has {size} bytes; ask for a part of them", size)
    return range(begin, end)


class _Pieces(Response):
    """The bytes *part* of *file*, read as *reading* allows; no more when the caller has left.

    Where the file turns out to have changed, the answer breaks off: nothing else can say so then.
    """

    def __init__(
        self,
        reading: asyncio.Semaphore,
        file: File,
        part: range,
        status: int,
        headers: dict[str, str],
    ) -> None:
        super().__init__(None, status, headers | {"content-length": str(len(part))})
        self._reading = reading
        self._file = file
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the answer; ASGI."""
        leaving = asyncio.create_task(_wait_for_leaving(receive))
        left, body = self._part, {"type": "http.response.body"}
        try:
            start = {"type": "http.response.start", "status": self.status_code}
            await send(start | {"headers": self.raw_headers})
            while left and not leaving.done():
                most = min(len(left), _PIECE_BYTES)
                async with self._reading:
                    piece = await asyncio.to_thread(self._file.read, left.start, most)
                left = left[most:]
                await send(body | {"body": piece, "more_body": bool(left)})
            if not self._part:
                await send(body)
        finally:
            leaving.cancel()


async def _wait_for_leaving(receive: Receive) -> None:
    """Wait until the caller has left, or its answer is sent."""
    with suppress(LabelwiseError):  # a body that nobody asked for is broken
        while (await receive())["type"] != "http.disconnect":
            pass
