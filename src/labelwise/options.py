"""Settings from the command line, the environment, and a file."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from dataclasses import Field, fields
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from labelwise.engine.files import exists
from labelwise.errors import BadInput
from labelwise.settings import FILE, Settings, read_small

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from click.types import OptionHelpExtra

    from labelwise.serving.listing import Listing

CONFIG = Path("labelwise.toml")
EPILOG = f"Each setting is also LABELWISE_<NAME> in the environment and a key of {CONFIG}."

_PREFIX = "LABELWISE_"
_OF_THE_TESTS = {"SHARED", "NO_SKIPS", "CLIENTS", "BASE_MODEL"}
_OF_KUBERNETES = re.compile(  # it sets them where a service has such a name
    r"(\w+_)?(SERVICE_HOST=|SERVICE_PORT(_\w+)?=|PORT_\d+_\w+=|PORT=\w+://)"
)
CONFIG_READ = f"{__name__}.config"  # where a context keeps the path of its file
_NUMBERS = {  # in a file
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
}
_TEXT = ((str,), "a text in quotes")
_LARGEST = 2**63  # number of a TOML file


def with_settings(command: Callable[[Settings], None]) -> Callable[..., None]:
    """*command* with an option for each setting and ``--config``; it is called with `Settings`."""

    @wraps(command)
    def run(**values: Any) -> None:
        _check_variables(os.environ)
        command(Settings(**values))

    decorated = click.option(
        "-m",
        "--model",
        cls=_ModelOption,
        metavar="MODEL",
        expose_value=False,
        help="The same as MODEL without a flag; repeatable.",
    )(run)
    decorated = click.option(
        "--config",
        cls=_Option,
        type=FILE,
        envvar=f"{_PREFIX}CONFIG",
        is_eager=True,  # the others take their defaults from it
        expose_value=False,
        callback=_read_config,
        help=f"File with settings.  [default: {CONFIG}, if there is one]",
    )(decorated)
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
        rows.append((*names, _default(setting), setting.metadata["help"]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


class _Option(click.Option):
    """An option whose errors name the place that its value came from."""

    def get_error_hint(self, ctx: click.Context | None) -> str:
        source = ctx and ctx.get_parameter_source(str(self.name))
        if source is ParameterSource.ENVIRONMENT:
            return str(self.envvar)
        if ctx and source is ParameterSource.DEFAULT_MAP:
            return f"{self.name} in {ctx.meta[CONFIG_READ]}"
        return super().get_error_hint(ctx)

    def get_help_extra(self, _: click.Context) -> OptionHelpExtra:
        return {}  # the help has the default already, and ranges are for errors


class _ModelOption(click.Option):
    """An option whose value counts as a MODEL that stands there without it, so order is kept."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        super().add_to_parser(parser, ctx)
        for flags in (parser._short_opt, parser._long_opt):  # noqa: SLF001 - click has no other way
            for flag in flags.keys() & set(self.opts):
                flags[flag].process = lambda value, state: state.largs.append(value)


def _parameter(setting: Field[Any]) -> Callable[[Any], Any]:
    """The decorator that adds *setting* to a command."""
    flag, variable, default = _flag(setting), _variable(setting), _default(setting)
    help_text, kind = setting.metadata["help"], setting.metadata["kind"]
    if setting.name == "models":
        return click.argument(setting.name, type=kind, metavar=flag, nargs=-1, envvar=variable)
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
        help=help_text if default == "none" else f"{help_text}  [default: {default}]",
    )


def _check_variables(environment: Mapping[str, str]) -> None:
    """Refuse a variable that is no setting but named like one: it may be meant as the lock.

    Raises:
        BadInput: There is one; the message names the nearest setting.
    """
    known = {"CONFIG", *(setting.name.upper() for setting in fields(Settings))}
    for variable, value in environment.items():
        name = variable.removeprefix(_PREFIX)
        if name in {variable, *known, *_OF_THE_TESTS} or not value:
            continue
        if _OF_KUBERNETES.match(f"{name}={value}"):
            continue
        near = get_close_matches(name, known, 1, cutoff=0.5)
        next_step = f"did you mean {_PREFIX}{near[0]}?" if near else "unset it, or see --help"
        raise BadInput(f"{variable} in the environment is no setting; {next_step}")


def _flag(setting: Field[Any]) -> str:
    return "[MODEL]..." if setting.name == "models" else f"--{setting.name.replace('_', '-')}"


def _variable(setting: Field[Any]) -> str:
    return f"{_PREFIX}{setting.name.upper()}"


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
        _check_meant(CONFIG)
        path = CONFIG
    if path is None or ctx.resilient_parsing:
        return
    content = read_small(path)
    try:
        values = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as reason:
        raise BadInput(f"{path} is not valid TOML: {reason}") from None
    ctx.meta[CONFIG_READ] = path
    ctx.default_map = {key: _checked(path, key, value) for key, value in values.items()}


def _check_meant(path: Path) -> None:
    """Check that the user put the file at *path* where it is found: it could open the server.

    Raises:
        BadInput: Somebody else owns it or may write it, or it came with a model.
    """
    found = path.stat()
    owners = {found.st_uid, path.lstat().st_uid}  # a link may lead to a file of the user's own
    ours = {0, os.getuid()} if hasattr(os, "getuid") else owners
    why = None
    if not owners <= ours:
        why = "belongs to another user"
    elif os.name == "posix" and found.st_mode & stat.S_IWOTH:
        why = "may be written by every user"
    elif exists(path.with_name("config.json")):
        why = "lies in the folder of a model, and may have come with it"
    if why:
        raise BadInput(f"{path} {why}; if it is meant, give it with --config {path}")


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
    if key == "models":
        return [_model(path, one) for one in values]
    types, expected = _NUMBERS.get(str(settings[key].type), _TEXT)
    for part in values:
        fits = type(part) in types  # TOML keeps true, 1, 1.0 and "1" apart, and so does this
        if not (fits and (part.isprintable() if types == (str,) else abs(part) < _LARGEST)):
            raise BadInput(f"{key} in {path} must be {'a list of texts' if many else expected}")
    return values if many else value


def _model(path: Path, value: Any) -> str | Listing:
    """A model of the file at *path*: a text, or a table.

    Raises:
        BadInput: It is neither.
    """
    if isinstance(value, dict):
        from labelwise.serving.listing import Listing  # noqa: PLC0415 - it needs NumPy

        return Listing.read(value, str(path))
    if not isinstance(value, str) or not value.isprintable():
        raise BadInput(f"models in {path} must be a list of texts, or of tables with a key model")
    return value
