"""The settings of the server. Each is written once, in `Settings`; `options` derives the rest."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import click
from click.types import convert_type
from msgspec import Struct

from labelwise.engine.files import exists, read_file, without_mark
from labelwise.errors import BadFile, BadInput

if TYPE_CHECKING:
    from labelwise.serving.listing import Listing

_LOCAL_NAME = re.compile(r"([a-z0-9-]+\.)*localhost", re.ASCII | re.IGNORECASE)
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", re.ASCII | re.IGNORECASE)
_HOST = re.compile(rf"{_HOST_NAME.pattern}(:\d{{1,5}})?", re.ASCII | re.IGNORECASE)


def seconds(value: str | float) -> float:
    """*value* as a number of seconds: finite and above 0."""
    with suppress(ValueError):
        if 0 < (number := float(value)) < inf:
            return number
    raise click.BadParameter(f"{value!r} is not a number of seconds above 0.")


def host_name(value: str) -> str:
    """*value* as in a Host header: a name or an address, and a port if only that one is meant."""
    with suppress(ValueError):
        return f"[{IPv6Address(value)}]"
    name, port = re.fullmatch(r"(\[[^]]*\]|.*?)\.?(:\d{1,5})?", value, re.DOTALL).groups("")  # type: ignore[union-attr]  # any text does
    if _HOST_NAME.fullmatch(name):
        return f"{name}{port}"
    with suppress(ValueError):
        if name.startswith("["):
            return f"[{IPv6Address(name[1:-1])}]{port}"
    name = re.sub(r"^\w+://|\.?([/?#].*)?$", "", value)  # of a URL
    instead = f"; give {name!r}" if _HOST.fullmatch(name) else ", such as labels.example.com"
    raise click.BadParameter(f"{value!r} is not the name of a host{instead}.")


def public_url(value: str) -> str:
    """*value* as the beginning of URLs: http or https, a host, perhaps a port and a path."""
    with suppress(ValueError):
        parts = urlsplit(value)
        plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme in {"http", "https"} and parts.hostname and plain and value.isprintable():
            _ = parts.port  # raises where it is none
            return value.rstrip("/")
    raise click.BadParameter(f"{value!r} is not such as https://labels.example.com.")


def network(value: str) -> str:
    """*value* as an address or a network of addresses, as in 10.0.0.0/8."""
    with suppress(ValueError):
        return str(ip_network(value))
    raise click.BadParameter(f"{value!r} is no address or network, such as 10.0.0.1 or 10.0.0.0/8.")


def _option(
    default: Any,
    help_text: str,
    kind: Any = click.STRING,
    *,
    absent: str = "none",
    secret: bool = False,
) -> Any:
    """A setting: its default, its help (*help_text*), and its kind on the command line.

    *absent* stands for a default of nothing. A *secret* is no flag, and in no ``repr``.
    """
    metadata = {"help": help_text, "kind": kind, "absent": absent}
    return field(default=default, repr=not secret, metadata=metadata)


class _Model(click.ParamType[Any]):
    """A model: a text, or a listing of the file."""

    name = "model"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, Struct) else click.STRING.convert(value, param, ctx)


_COUNT = click.IntRange(min=1)
_COUNT_OR_NONE = click.IntRange(min=0)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DTYPE = click.Choice(["float32", "int8"])
_LOG_FORMAT = click.Choice(["text", "json"])
_AUTH = click.Choice(["open", "required"])
_AUTH_ABSENT = "required; open on loopback without an access token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of the server. Each is a flag, an environment variable and a key of the file."""

    models: tuple[str | Listing, ...] = _option(
        (),
        "Folders or Hub ids ORG/NAME[@REVISION] to serve.",
        _Model(),
        absent="the embedded model",
    )
    dtype: Literal["float32", "int8"] = _option(
        "float32",
        "Number format to compute in; int8 needs a good report of labelwise compare-int8.",
        _DTYPE,
    )
    allow_unverified_int8: bool = _option(
        False,  # noqa: FBT003 - a default
        "Serve int8 also without a good report of labelwise compare-int8.",
        click.BOOL,
        absent="no",
    )
    copies: int = _option(
        2,
        "Copies of each model's weights in memory; 1 is a little slower.",
        click.IntRange(1, 2),
    )
    host: str = _option("127.0.0.1", "Address to listen on.")
    port: int = _option(8000, "Port to listen on; 0 takes a free one.", click.IntRange(0, 65_535))
    auth: Literal["open", "required"] | None = _option(
        None, "Whether callers need the access token.", _AUTH, absent=_AUTH_ABSENT
    )
    access_token_file: Path | None = _option(  # noqa: RUF009 - a Path does not change
        None, "File with the access token in its first line.", FILE
    )
    access_token: str | None = _option(None, "The access token itself.", secret=True)
    allowed_host: tuple[str, ...] = _option(
        (), "Another host name that callers may use for this server; repeatable.", host_name
    )
    public_url: str | None = _option(
        None, "URL that callers use, where a proxy stands in front.", public_url
    )
    trusted_proxies: tuple[str, ...] = _option(
        (),
        "Address or network of a proxy whose X-Forwarded-* headers are believed; repeatable.",
        network,
    )
    withhold_files: bool = _option(
        False,  # noqa: FBT003 - a default
        "Hand out no files of the models.",
        click.BOOL,
        absent="no",
    )
    max_body_bytes: int = _option(10_000_000, "Maximum bytes of a request.", _COUNT)
    max_texts: int = _option(1_024, "Maximum texts of a request.", _COUNT)
    max_characters: int = _option(1_000_000, "Maximum characters of a request.", _COUNT)
    max_waiting_texts: int = _option(2_048, "Maximum texts that wait.", _COUNT)
    max_waiting_seconds: float = _option(30.0, "Maximum seconds of work that wait.", seconds)
    cache_bytes: int = _option(
        64_000_000, "Maximum bytes of the cache of answers; 0 keeps none.", _COUNT_OR_NONE
    )
    request_timeout: float = _option(
        60.0, "Seconds that a request may take without x-request-timeout.", seconds
    )
    log_format: Literal["text", "json"] = _option("text", "Format of the log.", _LOG_FORMAT)
    log_requests: bool = _option(
        False,  # noqa: FBT003 - a default
        "Log a line for each request.",
        click.BOOL,
        absent="no",
    )
    log_probes: bool = _option(
        False,  # noqa: FBT003 - a default
        "With --log-requests, log also requests for health, readiness and metrics.",
        click.BOOL,
        absent="no",
    )

    def __post_init__(self) -> None:
        """Check all values, as the command line does.

        Raises:
            BadInput: One is out of its range, or of another kind.
        """
        for setting in fields(self):
            value = getattr(self, setting.name)
            if value != setting.default and not isinstance(setting.metadata["kind"], click.Path):
                object.__setattr__(self, setting.name, _checked(setting, value))

    def needs_access_token(self) -> bool:
        """Whether callers must show the access token.

        Raises:
            BadInput: The settings contradict each other, or open the server to others unsaid.
        """
        given = self.access_token is not None or self.access_token_file is not None
        how = "give --access-token-file FILE or set LABELWISE_ACCESS_TOKEN"
        if self.auth == "open" and given:
            raise BadInput("auth is open, but there is an access token; leave out one of the two")
        if self.auth == "required" and not given:
            raise BadInput(f"auth is required, but there is no access token; {how}")
        if not (self.auth or given or is_loopback(self.host)):
            raise BadInput(
                f"others may reach the host {self.host!r}, and there is no access token; "
                f"{how}, or let everybody in with --auth open"
            )
        return given

    def read_access_token(self) -> str | None:
        """The access token, given or from its file; None where there is neither.

        Raises:
            BadInput: There are both, the file cannot be read, or that is no access token.
        """
        if self.access_token is not None and self.access_token_file is not None:
            raise BadInput("access_token and access_token_file are both set; leave out one")
        if self.access_token_file is not None:
            content, source = read_small(self.access_token_file), str(self.access_token_file)
        elif self.access_token is not None:
            content, source = self.access_token.encode(errors="surrogatepass"), "access_token"
        else:
            return None
        token = content.split(b"\n", 1)[0].strip()
        if not token:
            raise BadInput(f"the first line of {source} is empty; the access token belongs there")
        if not re.fullmatch(rb"[!-~]+", token):
            raise BadInput(f"{source} holds no access token; use visible ASCII characters alone")
        return token.decode()


def _checked(setting: Field[Any], value: object) -> object:
    """*value* as the kind of *setting* reads it.

    Raises:
        BadInput: The kind does not read it.
    """
    kind = convert_type(setting.metadata["kind"])
    try:
        if isinstance(value, tuple):
            return tuple(kind(one) for one in value)
        read = kind(value)
    except click.BadParameter as reason:
        raise BadInput(f"{setting.name}: {reason.message}") from None
    if isinstance(value, float) and read != value:
        raise BadInput(f"{setting.name}: {value!r} is not a whole number.")
    return read


@lru_cache(256)  # the same few names come with every request
def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address without port, is this machine alone; nothing is asked.

    That is localhost, names that end in .localhost, 127.0.0.0/8, ::1 and [::1].
    """
    if host in {"::1", "[::1]"} or _LOCAL_NAME.fullmatch(host):
        return True
    try:
        return IPv4Address(host).is_loopback
    except ValueError:
        return False


def read_small(path: Path) -> bytes:
    """The content of a small file in UTF-8, without a byte-order mark at its beginning.

    Raises:
        BadInput: It is missing, too large, no regular file, must not be read, or is UTF-16.
    """
    try:
        if not exists(path):
            raise BadInput(f"{path} does not exist")
        return without_mark(read_file(path, most=1_000_000), str(path))
    except BadFile as reason:
        raise BadInput(str(reason)) from None
