"""Live servers for tests: the command in a process of its own, or the application in a thread."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labelwise.engine.cpus import available, streams
from labelwise.engine.onnx.backend import Cpu
from labelwise.server.app import create_app
from labelwise.server.http import Bounds, Connections
from labelwise.server.routes import ROUTES
from labelwise.server.state import Server, server_in
from labelwise.serving.catalogue import Catalogue
from labelwise.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMBEDDED = "labelwise/minilm-l6-sst2"
LABELWISE = (sys.executable, "-m", "labelwise")


@dataclass
class Answer:
    """What a server answered."""

    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


def ask(url, body=None, *, headers=None, method=None, timeout=30) -> Answer:
    """Ask *url*: with a *body* (bytes, or anything else as JSON) it is a POST."""
    headers = headers or {}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers = {"content-type": "application/json"} | headers
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            return Answer(response.status, _lower(response.headers), response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, _lower(error.headers), error.read())


def _lower(headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@dataclass
class Live:
    """A server in a process of its own."""

    url: str
    process: subprocess.Popen
    log: Path  # what it prints


@contextmanager
def command(folder: Path, *arguments: str, environment=None, start=LABELWISE) -> Iterator[Live]:
    """``labelwise serve`` with *arguments* on a free port; *folder* is where it works.

    *start* is what stands before ``serve``.
    """
    log = folder / "serve.log"
    known = {k: v for k, v in os.environ.items() if not k.startswith("LABELWISE_")}
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            [*start, "serve", "--port", "0", *arguments],
            stderr=output,
            stdout=output,
            cwd=folder,
            env=known | (environment or {}),
        )
    try:
        yield Live(_address(process, log), process, log)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _address(process, log) -> str:
    """The address in the greeting, as soon as it is there."""
    for _ in range(600):
        found = re.search(r"serves at (http://[^\s\"]+\d)(:\n|\")", log.read_text())
        if found:
            return found[1]
        if process.poll() is not None:
            break
        threading.Event().wait(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")


@dataclass
class Within:
    """A server in this process, for tests that look inside or put something in its way."""

    url: str
    server: Server
    connections: Connections


@contextmanager
def within(
    catalogue: Catalogue | None = None, bounds=None, routes=ROUTES, **settings
) -> Iterator[Within]:
    """The application with *catalogue*, or the embedded model, in a thread of this process."""
    if catalogue is None:
        catalogue = Catalogue.load(backend=Cpu(streams(available(), copies=2)))
    app = create_app(catalogue, Settings(**settings), routes)
    with socket.create_server(("127.0.0.1", 0)) as address:
        connections = Connections(app, bounds or Bounds())
        started, stop = threading.Event(), asyncio.Event()

        async def serve():
            async with app.router.lifespan_context(app):
                loop = asyncio.get_running_loop()
                connections.start()
                listener = await loop.create_server(connections.make, sock=address)
                loops.append(loop)
                started.set()
                await stop.wait()
                listener.close()
                await connections.drain(20)

        loops = []
        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            assert started.wait(30)
            port = address.getsockname()[1]
            yield Within(f"http://127.0.0.1:{port}", server_in(app), connections)
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join(30)
            assert not thread.is_alive()


def until(happens, seconds=20) -> None:
    """Wait until *happens* gives something true; fail where it does not."""
    for _ in range(seconds * 100):
        if happens():
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"it did not happen in {seconds} s")
