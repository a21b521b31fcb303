"""The group of all commands: a mistake ends in one line on standard error and exit code 2."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from difflib import get_close_matches
from errno import EPIPE
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from labelwise.errors import BadInput, LabelwiseError, lacks_memory, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_NO_MEMORY = (
    "there is too little memory; free some, allow this process more, or take a smaller model"
)
_LEAST_MEMORY = 300_000_000  # bytes of addresses; 400 MB are needed on a single processor


class Group(click.Group):
    """A group whose commands end every mistake of the user in one line and exit code 2."""

    def list_commands(self, _: click.Context) -> list[str]:
        """The names of the commands, in the order in which they were added."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that *args* name; an error names the nearest where there is none."""
        name = click.utils.make_str(args[0])
        if name not in self.commands and not name.startswith("-"):
            near = get_close_matches(name, self.commands, 1)
            next_step = f"did you mean {near[0]}?" if near else f"see {ctx.command_path} --help"
            raise BadInput(f"there is no command {name!r:.80}; {next_step}")
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command, also where nothing can be printed."""
        try:
            return super().main(*args, **extra)
        except OSError:  # not even the line of an error can be written
            sys.exit(2)
        finally:
            _discard_what_cannot_be_written()

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options."""
        with _ending_in_one_line():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was chosen."""
        with _ending_in_one_line():
            _check_memory()
            return super().invoke(ctx)


def do_each(models: Iterable[str], act: Callable[[str], object]) -> bool:
    """Do *act* with each of *models*, once, and say whether it went well with all.

    An error is one line, and does not stop the others.
    """
    well = True
    for model in dict.fromkeys(models):
        try:
            act(model)
        except LabelwiseError as error:
            well = False
            click.echo(f"Error: {error}", err=True)
    return well


@contextmanager
def _ending_in_one_line() -> Iterator[None]:
    """Errors of Labelwise and of click become click errors that print one line, without usage."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except Exception as error:
        said = _in_one_line(error)
        if said is None:
            raise
        raise click.UsageError(said) from error


def _in_one_line(error: Exception) -> str | None:
    """The line to print for *error*; none for what click ends by itself, or nobody expects."""
    if lacks_memory(error):
        return _NO_MEMORY
    if isinstance(error, LabelwiseError):
        return str(error)
    if isinstance(error, click.UsageError):
        return one_line(_said(error))
    if isinstance(error, OSError) and error.errno != EPIPE:  # the reader has seen enough
        return f"the output cannot be written: {error.strerror}"
    return None


def _check_memory() -> None:
    """Refuse to start where libraries would end the process while they are loaded.

    Raises:
        MemoryError: There is no room for them.
    """
    try:
        import resource  # noqa: PLC0415 - not everywhere
    except ImportError:
        return
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if 0 <= allowed < _LEAST_MEMORY:
        raise MemoryError


def _discard_what_cannot_be_written() -> None:
    """Empty the standard streams, or the interpreter tries again at its end and complains."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


def _said(error: click.UsageError) -> str:
    """The message of *error*; of an option that there is not, in our words."""
    if not isinstance(error, click.NoSuchOption):
        return error.format_message()
    next_step = "what is no option, but begins with -, stands after --"
    hidden = "--access-token"  # which would be refused
    near = [name for name in error.possibilities or () if name != hidden]
    if near:
        next_step = f"did you mean {near[0]}?"
    return f"there is no option {error.option_name!r}; {next_step}"


def _say_more(_: click.Context, __: click.Parameter, verbose: bool) -> None:  # noqa: FBT001
    log = logging.getLogger("labelwise")
    if verbose and not log.handlers:
        log.setLevel(logging.INFO)
        log.addHandler(logging.StreamHandler())


verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    expose_value=False,
    callback=_say_more,
    help="Say on standard error what is loaded.",
)
