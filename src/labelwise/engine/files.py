"""The files of a model's folder, read with suspicion: what they are, and how long.

A folder from a stranger may hold pipes, devices, links to anywhere and files without end.
"""

from __future__ import annotations

import codecs
import json
from contextlib import ExitStack
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, BinaryIO

from labelwise.engine.nesting import check_depth
from labelwise.errors import BadFile, BadInput

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 64 * 2**20  # of any file but weights; 17 MB is the largest of the known models
MAX_OBJECT_BYTES = 8_000_000
_LFS_POINTER = b"version https://git-lfs"
_PAGES = (b"<!doctype html", b"<html")
_MARK_AND_SPACE = codecs.BOM_UTF8 + b" \t\r\n"
_BEGINNING_BYTES = 128

_OTHER_MARKS = {  # that of UTF-32 begins with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def exists(path: Path) -> bool:
    """Whether its folder lists *path*: a link to nowhere counts.

    Raises:
        BadFile: The folder does not let anybody look.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as reason:
        raise BadFile(f"{path} cannot be read: {reason.strerror}") from None
    return True


def open_any(path: Path) -> BinaryIO:
    """The regular file *path*, open for reading, whatever it holds.

    Raises:
        BadFile: It is missing, no regular file, or must not be read.
    """
    try:
        if not S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise BadFile(f"{path} is not a regular file")
        return path.open("rb")
    except FileNotFoundError:
        raise BadFile(f"{path} is missing; a model folder needs it") from None
    except OSError as reason:
        raise BadFile(f"{path} cannot be read: {reason.strerror}") from None


def open_file(path: Path) -> BinaryIO:
    """The regular file *path*, open for reading, to be used for what its name says.

    Raises:
        BadFile: As `open_any`, or something else was left in its place.
    """
    with ExitStack() as closing:
        file = closing.enter_context(open_any(path))
        try:
            check_content(path, file.read(_BEGINNING_BYTES))
            file.seek(0)
        except OSError as reason:
            raise BadFile(f"{path} cannot be read: {reason.strerror}") from None
        closing.pop_all()
    return file


def check_content(path: Path, content: bytes) -> None:
    """Let pass the *content* of a file, of which the first bytes are enough.

    Raises:
        BadFile: It is what a download left in the place of the file.
    """
    beginning = content[:_BEGINNING_BYTES]
    if beginning.startswith(_LFS_POINTER):
        raise BadFile(f"{path} is a Git LFS pointer, not the file itself. Run `git lfs pull`")
    if beginning.lstrip(_MARK_AND_SPACE).lower().startswith(_PAGES):
        raise BadFile(
            f"{path} is a web page, which a site sent in the place of the file. "
            "Download it again, with an access token if the site asks for one"
        )


def read_file(path: Path, most: int) -> bytes:
    """The content of the regular file *path*: *most* bytes at most.

    Raises:
        BadFile: As `open_file`, or it is longer; what it says of its length is not relied on.
    """
    with open_file(path) as file:
        try:
            content = file.read(most + 1)
        except OSError as reason:
            raise BadFile(f"{path} cannot be read: {reason.strerror}") from None
    if len(content) > most:
        raise BadFile(f"{path} is larger than {most:,} bytes; that is no {path.name}")
    return content


def read_lines(path: Path, most: int) -> list[str]:
    """The lines of a file in UTF-8, without their ends.

    Raises:
        BadFile: As `read_file`, or it is not UTF-8.
    """
    try:
        text = read_file(path, most).decode()
    except UnicodeDecodeError:
        raise BadFile(f"{path} cannot be used: it is not valid UTF-8") from None
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def read_object(path: Path, most: int = MAX_OBJECT_BYTES) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        BadFile: As `read_file`, or it is not a JSON object.
    """
    content = read_file(path, most)
    try:
        check_depth(content)
        value = json.loads(content)
    except ValueError:
        raise BadFile(f"{path} is not valid JSON") from None
    if not isinstance(value, dict):
        raise BadFile(f"{path} does not hold a JSON object")
    return value


def without_mark(content: bytes, source: str) -> bytes:
    """UTF-8 *content* without the byte-order mark that it may begin with.

    Raises:
        BadInput: The mark is that of another encoding; the message names *source*.
    """
    for mark, encoding in _OTHER_MARKS.items():
        if content.startswith(mark):
            raise BadInput(
                f"{source} is {encoding}; make UTF-8 of it, as iconv -f {encoding} -t UTF-8 does"
            )
    return content.removeprefix(codecs.BOM_UTF8)
