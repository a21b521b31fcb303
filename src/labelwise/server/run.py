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
from typing import TYPE_CHECKING

import click
import uvicorn

from labelwise.core.catalogue import Catalogue
from labelwise.engine import processors
from labelwise.errors import BadInput
from labelwise.server.app import create_app
from labelwise.server.logs import set_up
from labelwise.server.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

    from labelwise.settings import Settings

_log = logging.getLogger(__name__)

# Callers keep connections for as long as a minute, and one that closes while a request is on its
# way loses the request.
_KEEP_ALIVE_SECONDS = 75
_GRACE_SECONDS = 5  # for sending what was answered last
# How long the interpreter lets one thread run while another waits. The usual 5 ms would be lost
# between two batches: an engine thread must get in while the event loop is busy.
_SWITCH_SECONDS = 0.0005


def serve(settings: Settings) -> None:
    """Serve as *settings* say until SIGTERM or SIGINT; then finish what was admitted.

    Raises:
        BadInput: The settings contradict each other, or the address cannot be taken.
        BadModel: A model cannot be found, read or run.
    """
    set_up(settings.log_format, requests=settings.log_requests)
    settings.needs_access_token()  # refuses what contradicts itself, before models are loaded
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)
    with _taken(settings.host, settings.port) as address:
        shows = sys.stderr is not None and sys.stderr.isatty()
        catalogue = Catalogue.load(
            settings.models,
            streams=processors.streams(processors.available(), settings.copies),
            dtype=settings.dtype,
            force=settings.force,
            progress=shows,
        )
        app = create_app(catalogue, settings)
        sys.setswitchinterval(_SWITCH_SECONDS)
        _allow_connections()
        url = _url(settings.host, address.getsockname()[1])
        if settings.log_format == "json":
            greet = partial(_log_greeting, catalogue, url)
        else:
            greet = partial(_print_greeting, catalogue, url, settings)
        try:
            _Server(app, settings.request_timeout, greet).run(sockets=[address])
        except OSError as reason:  # another server was quicker: it listens on the same address
            raise _taken_by_another(settings.host, settings.port, reason) from None


def _allow_connections() -> None:
    """Have as many connections as the system lets this process have; the usual is 1,024."""
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _end(*_: object) -> None:
    """End with 0, where the server does not run yet or has ended."""
    raise SystemExit(0)


class _Server(uvicorn.Server):
    """uvicorn, which greets when it listens, is watched, and refuses new work when it is to end."""

    def __init__(self, app: Starlette, request_timeout: float, greet: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            proxy_headers=False,  # any caller could write them
            server_header=False,
            ws="none",
            lifespan="on",
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=int(request_timeout) + _GRACE_SECONDS,
        )
        super().__init__(config)
        self._greet = greet
        self._end: Callable[[], None] = app.state.server.end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._watchdog = Watchdog(asyncio.get_running_loop())
        self._greet()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end()
        await super().shutdown(sockets)
        self._watchdog.stop()


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


def _log_greeting(catalogue: Catalogue, url: str) -> None:
    _log.setLevel(logging.INFO)
    models = [entry.id for entry in catalogue]
    _log.info("Labelwise serves at %s", url, extra={"url": url, "models": models})


def _print_greeting(catalogue: Catalogue, url: str, settings: Settings) -> None:
    models = "\n".join(f"  {entry.id}" for entry in catalogue)
    header = _header(settings)
    greeting = (
        f"Labelwise serves at {url}:\n{models}\n"
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
