"""``labelwise serve``: takes the port, loads the models, serves until it is told to end."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from labelwise import stops
from labelwise.engine import cpus
from labelwise.engine.onnx.backend import Cpu
from labelwise.errors import BadInput, one_line
from labelwise.server.app import create_app
from labelwise.server.http import Bounds, Connections
from labelwise.server.observe.logs import set_up
from labelwise.server.observe.watchdog import Watchdog
from labelwise.server.state import server_in
from labelwise.serving.catalogue import Catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from starlette.applications import Starlette

    from labelwise.settings import Settings

_log = logging.getLogger(__name__)

_BACKLOG = 65_535  # connections that the system may hold for us; it has a bound of its own
_OWN_FILES = 64
_LAST_CALL_SECONDS = 0.05
_GRACE_SECONDS = 5  # for sending what was answered last
# How long the interpreter lets one thread run while another waits. The usual 5 ms would be lost
# between two batches: an engine thread must get in while the event loop is busy.
_SWITCH_SECONDS = 0.0005


def serve(settings: Settings, config: Path | None = None) -> None:
    """Serve as *settings* say until SIGTERM or SIGINT; then finish what was admitted, and exit.

    The file *config* is where some of the settings come from. The exit code is 0 where every
    request got its answer, or its caller has left before.

    Raises:
        BadInput: The settings contradict each other, or the address cannot be taken.
        BadModel: A model cannot be found, read or run.
    """
    set_up(settings.log_format, requests=settings.log_requests)
    settings.needs_access_token()  # refuses what contradicts itself, before models are loaded
    bounds = Bounds(connections=min(Bounds.connections, _allowed_connections()))
    with _taken(settings.host, settings.port) as address:
        shows = sys.stderr is not None and sys.stderr.isatty()
        catalogue = Catalogue.load(
            settings.models,
            backend=Cpu(cpus.streams(cpus.available(), settings.copies)),
            dtype=settings.dtype,
            allow_unverified_int8=settings.allow_unverified_int8,
            progress=shows,
        )
        app = create_app(catalogue, settings)
        sys.setswitchinterval(_SWITCH_SECONDS)
        url = _url(settings.host, address.getsockname()[1])
        if settings.log_format == "json":
            greet = partial(_log_greeting, catalogue, url, config)
        else:
            greet = partial(_print_greeting, catalogue, url, settings, config)
        try:
            address.listen(_BACKLOG)
        except OSError as reason:  # another server was quicker: it listens on the same address
            raise _taken_by_another(settings.host, settings.port, reason) from None
        whole = _run(_serve(app, address, bounds, settings.request_timeout, greet))
    logging.shutdown()
    # A thread of the engine or of a tokenizer may be in the middle of work for a caller that has
    # left. The interpreter would wait for it.
    os._exit(0 if whole else 1)


def _run(main: Coroutine[Any, Any, bool]) -> bool:
    """Run *main* on the quickest event loop that there is."""
    try:
        import uvloop  # noqa: PLC0415 - not everywhere
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


async def _serve(
    app: Starlette,
    address: socket.socket,
    bounds: Bounds,
    request_timeout: float,
    greet: Callable[[], None],
) -> bool:
    """Serve *app* at *address* until a signal comes; whether every request got its answer."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()

    def stop(*_: object) -> None:
        if stopping:  # the second signal means at once
            os._exit(1)
        stopping.append(True)
        loop.call_soon_threadsafe(stopped.set)

    stopping: list[bool] = []
    for number in stops.SIGNALS:
        signal.signal(number, stop)
    connections = Connections(app, bounds)
    async with app.router.lifespan_context(app):
        connections.start()
        listener = await loop.create_server(connections.make, sock=address, backlog=_BACKLOG)
        watchdog = Watchdog(loop)
        greet()
        await stopped.wait()
        server_in(app).refuse_work()
        connections.draining = True
        await asyncio.sleep(_LAST_CALL_SECONDS)  # what has arrived gets an answer
        listener.close()
        whole = await connections.drain(request_timeout + _GRACE_SECONDS)
        watchdog.stop()
    return whole


def _allowed_connections() -> int:
    """The number of connections that this process may have, beside the files that it needs.

    Raises:
        BadInput: They are too few to serve anybody.
    """
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return Bounds.connections
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the usual is 1,024
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if open_files == resource.RLIM_INFINITY:
        return Bounds.connections
    if open_files < 2 * _OWN_FILES:
        raise BadInput(
            f"this process may open {open_files} files and connections, and needs "
            f"{2 * _OWN_FILES}; allow more, as with ulimit -n 4096"
        )
    return open_files - _OWN_FILES


def _taken(host: str, port: int) -> socket.socket:
    """A socket at the address *host* and *port*, which is ours but does not listen yet.

    Raises:
        BadInput: The address cannot be taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere the option lets two servers share a port
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as reason:
        raise _taken_by_another(host, port, reason) from None
    return taken


def _taken_by_another(host: str, port: int, reason: OSError) -> BadInput:
    if isinstance(reason, socket.gaierror) or reason.errno == errno.EADDRNOTAVAIL:
        return BadInput(
            f"{host!r} is no address of this machine: {reason.strerror}; "
            "give a name or an address alone, as in --host 127.0.0.1"
        )
    return BadInput(
        f"port {port} of {host!r} cannot be taken: {reason.strerror}; choose another with --port"
    )


def _url(host: str, port: int) -> str:
    """The address as a URL to open."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _log_greeting(catalogue: Catalogue, url: str, config: Path | None) -> None:
    _log.setLevel(logging.INFO)
    models = [entry.id for entry in catalogue]
    extra = {"url": url, "models": models, "config": config and str(config)}
    _log.info("Labelwise serves at %s", url, extra=extra)


def _print_greeting(
    catalogue: Catalogue, url: str, settings: Settings, config: Path | None
) -> None:
    models = "\n".join(f"  {entry.id}" for entry in catalogue)
    header = _header(settings)
    read = f"Settings are read from {one_line(str(config))}.\n" if config else ""
    greeting = (
        f"Labelwise serves at {url}:\n{models}\n{read}"
        f"Try: curl {url}{header} -d 'I like you. I love you'\n"
        "Ctrl-C ends it."
    )
    with suppress(OSError):  # a full disk under the log is no reason not to serve
        click.echo(greeting, err=True)


def _header(settings: Settings) -> str:
    """The option of curl for the access token, for a shell; empty where everybody may ask."""
    token = settings.read_access_token()
    if token is None:
        return ""
    file = settings.access_token_file
    if file is not None and file.read_bytes().partition(b"\n")[0] == token.encode():
        return f' -H "Authorization: Bearer $(head -n 1 {quote(str(file.absolute()))})"'
    if os.environ.get("LABELWISE_ACCESS_TOKEN") == token:
        return ' -H "Authorization: Bearer $LABELWISE_ACCESS_TOKEN"'
    return " -H 'Authorization: Bearer ACCESS-TOKEN'"  # the shell cannot get it as it is
