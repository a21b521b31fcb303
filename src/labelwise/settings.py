"""The settings of the server. Each is written once, in `Settings`; the rest derives from there."""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from functools import wraps
from ipaddress import IPv4Address
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from labelwise.engine.files import exists, read_file
from labelwise.errors import BadFile, BadInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.types import OptionHelpExtra

CONFIG = Path("labelwise.toml")
EPILOG = f"Each option is also LABELWISE_<NAME> in the environment and a key of {CONFIG}."

_CONFIG_READ = f"{__name__}.config"  # where a context keeps the path of its file
_NUMBERS = {  # in a file
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
}
_TEXT = ((str,), "a text in quotes")
_LARGEST = 2**63  # number of a TOML file
_LOCAL_NAME = re.compile(r"([a-z0-9-]+\.)*localhost", re.ASCII | re.IGNORECASE)


def seconds(value: str | float) -> float:
    """*value* as a number of seconds: finite and above 0."""
    with suppress(ValueError):
        if 0 < (number := float(value)) < inf:
            return number
    raise click.BadParameter(f"{value!r} is not a number of seconds above 0.")


def _option(
    default: Any, says: str, kind: Any = click.STRING, *, absent: str = "none", secret: bool = False
) -> Any:
    """A setting: its default, what it *says* to users, and its kind on the command line.

    *absent* stands for a default of nothing. A *secret* is no flag, and in no ``repr``.
    """
    metadata = {"says": says, "kind": kind, "absent": absent}
    return field(default=default, repr=not secret, metadata=metadata)


_COUNT = click.IntRange(min=1)
_COUNT_OR_NONE = click.IntRange(min=0)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DTYPE = click.Choice(["float32", "int8"])
_AUTH = click.Choice(["open", "required"])
_AUTH_ABSENT = "required; open on loopback without an access token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server runs. Each field is a flag, an environment variable and a key of the file."""

    models: tuple[str, ...] = _option(
        (), "Folders or Hub ids ORG/NAME[@REVISION] to serve.", absent="the embedded model"
    )
    dtype: Literal["float32", "int8"] = _option(
        "float32", "What to compute in; int8 only what labelwise quantize found good.", _DTYPE
    )
    force: bool = _option(
        False,  # noqa: FBT003 - a default
        "Serve int8 whatever is known of it.",
        click.BOOL,
        absent="no",
    )
    host: str = _option("127.0.0.1", "Address to listen on.")
    port: int = _option(8000, "Port to listen on; 0 takes a free one.", click.IntRange(0, 65_535))
    auth: Literal["open", "required"] | None = _option(
        None, "Whether callers must show the access token.", _AUTH, absent=_AUTH_ABSENT
    )
    access_token_file: Path | None = _option(  # noqa: RUF009 - a Path does not change
        None, "File whose first line is the access token.", _FILE
    )
    access_token: str | None = _option(None, "The access token itself.", secret=True)
    allowed_host: tuple[str, ...] = _option(
        (), "One more name that callers may use for this server; repeatable."
    )
    max_body_bytes: int = _option(10_000_000, "Most bytes in a request.", _COUNT)
    max_texts: int = _option(1_024, "Most texts in a request.", _COUNT)
    max_characters: int = _option(1_000_000, "Most characters in a request.", _COUNT)
    max_waiting_texts: int = _option(2_048, "Most texts that wait.", _COUNT)
    max_waiting_seconds: float = _option(30.0, "Most seconds of work that wait.", seconds)
    cache_bytes: int = _option(
        64_000_000, "Most memory for answers that may come again; 0 keeps none.", _COUNT_OR_NONE
    )
    request_timeout: float = _option(
        60.0, "Seconds for a request without x-request-timeout.", seconds
    )

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
            content, source = _read(self.access_token_file), str(self.access_token_file)
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


def with_settings(command: Callable[[Settings], None]) -> Callable[..., None]:
    """*command* with an option for each setting and ``--config``; it is called with `Settings`."""

    @wraps(command)
    def run(**values: Any) -> None:
        command(Settings(**values))

    decorated = click.option(
        "--config",
        cls=_Option,
        type=_FILE,
        envvar="LABELWISE_CONFIG",
        is_eager=True,  # the others take their defaults from it
        expose_value=False,
        callback=_read_config,
        help=f"File with settings.  [default: {CONFIG}, if there is one]",
    )(run)
    for setting in reversed(fields(Settings)):
        decorated = _parameter(setting)(decorated)
    return decorated


def table(*beginnings: str) -> str:
    """The settings as a Markdown table: those whose names begin so, or all."""
    rows = [("flag", "environment variable", "key", "default", "what it is"), ("---",) * 5]
    for setting in fields(Settings):
        if not setting.name.startswith(beginnings or ("",)):
            continue
        flag = f"`{_flag(setting)}`" if setting.repr else "none"
        names = (flag, f"`{_variable(setting)}`", f"`{setting.name}`")
        rows.append((*names, _default(setting), setting.metadata["says"]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


class _Option(click.Option):
    """An option whose errors name the place that its value came from."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        source = ctx and ctx.get_parameter_source(str(self.name))
        if source is ParameterSource.ENVIRONMENT:
            return str(self.envvar)
        if ctx and source is ParameterSource.DEFAULT_MAP:
            return f"{self.name} in {ctx.meta[_CONFIG_READ]}"
        return super().get_error_hint(ctx)

    def get_help_extra(self, _: click.Context) -> OptionHelpExtra:
        return {}  # the help has the default already, and ranges are for errors


def _parameter(setting: Field[Any]) -> Callable[[Any], Any]:
    """The decorator that adds *setting* to a command."""
    flag, variable, default = _flag(setting), _variable(setting), _default(setting)
    says, kind = setting.metadata["says"], setting.metadata["kind"]
    if setting.name == "models":
        return click.argument(setting.name, metavar=flag, nargs=-1, envvar=variable)
    return click.option(
        flag,
        cls=_Option,
        type=kind,
        default=setting.default,
        is_flag=kind is click.BOOL,
        multiple=setting.default == (),
        envvar=variable,
        metavar="N" if isinstance(kind, click.IntRange) else None,
        hidden=not setting.repr,
        callback=None if setting.repr else _refuse_flag,
        help=says if default == "none" else f"{says}  [default: {default}]",
    )


def _flag(setting: Field[Any]) -> str:
    return "[MODEL]..." if setting.name == "models" else f"--{setting.name.replace('_', '-')}"


def _variable(setting: Field[Any]) -> str:
    return f"LABELWISE_{setting.name.upper()}"


def _default(setting: Field[Any]) -> str:
    default = setting.default or setting.metadata["absent"]
    return f"{default:_}" if isinstance(default, int) and default >= 10_000 else str(default)


def _refuse_flag(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if ctx.get_parameter_source(str(option.name)) is ParameterSource.COMMANDLINE:
        raise BadInput(
            f"{option.opts[0]} would be seen by every user of this machine; "
            f"set {option.envvar}, or give {option.opts[0]}-file FILE"
        )
    return value


def _read_config(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the values of the file the defaults of *ctx*."""
    if path is None and exists(CONFIG):
        path = CONFIG
    if path is None or ctx.resilient_parsing:
        return
    content = _read(path)
    try:
        values = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as reason:
        raise BadInput(f"{path} is not valid TOML: {reason}") from None
    ctx.meta[_CONFIG_READ] = path
    ctx.default_map = {key: _checked(path, key, value) for key, value in values.items()}


def _checked(path: Path, key: str, value: Any) -> Any:
    """The *value* of a file; one text where there may be several becomes a list.

    Raises:
        BadInput: There is no such key, or its values are of another type.
    """
    settings = {setting.name: setting for setting in fields(Settings)}
    if key not in settings:
        near = get_close_matches(key, settings, 1)
        next_step = f"did you mean {near[0]}?" if near else f"there are {', '.join(settings)}"
        raise BadInput(f"{path} has an unknown key {key!r}; {next_step}")
    many = settings[key].default == ()
    values = value if many and isinstance(value, list) else [value]
    types, expected = _NUMBERS.get(str(settings[key].type), _TEXT)
    for part in values:
        fits = type(part) in types  # TOML keeps true, 1, 1.0 and "1" apart, and so does this
        if not (fits and (part.isprintable() if types == (str,) else abs(part) < _LARGEST)):
            raise BadInput(f"{key} in {path} must be {'a list of texts' if many else expected}")
    return values if many else value


def _read(path: Path) -> bytes:
    """What a small file holds.

    Raises:
        BadInput: It is missing, too large, no regular file, or must not be read.
    """
    try:
        if not exists(path):
            raise BadInput(f"{path} does not exist")
        return read_file(path, most=1_000_000)
    except BadFile as reason:
        raise BadInput(str(reason)) from None
