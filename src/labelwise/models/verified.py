"""The files of a model compared with the hashes that they should have."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from labelwise.engine.files import open_any, read_lines
from labelwise.errors import BadFile, BadInput
from labelwise.models.files import git_hash
from labelwise.models.locate import EMBEDDED, api, hub_errors, quiet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from labelwise.models.locate import Location

SUMS = "SHA256SUMS"  # of the files of the embedded model, beside them
_MAX_SUMS_BYTES = 65_536
_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # a blob's in Git, or SHA-256
_BLOCK_BYTES = 2**20
_TIMEOUT = 10  # seconds

Source = Literal["hub", "cache", "package"]  # of the hashes
State = Literal["same", "differs", "missing", "outside", "unreadable", "extra", "unchecked"]


@dataclass(frozen=True, slots=True)
class Checked:
    """A file, and whether it is the right one."""

    name: str
    state: State
    expected: str | None  # its hash as it should be
    found: str | None  # and as it is

    @property
    def is_bad(self) -> bool:
        """Whether it is not as it should be."""
        return self.state not in {"same", "unchecked"}


@dataclass(frozen=True, slots=True)
class Verification:
    """The result for one model."""

    id: str
    revision: str | None
    source: Source
    files: list[Checked]

    @property
    def bad(self) -> list[Checked]:
        """The files that are not as they should be."""
        return [file for file in self.files if file.is_bad]


def verify(
    location: Location,
    *,
    offline: bool = False,
    done: Callable[[str, int, int], object] = lambda *_: None,
) -> Verification:
    """Compare the files of the model at *location* with their hashes.

    Those of a model of the Hub are looked up there; where it cannot be asked, or *offline*, they
    are the names of the blobs in its cache. *done* is told the name of a file, how many bytes of it
    were read, and how many it has.

    Raises:
        BadInput: It is a folder, whose hashes nobody knows.
    """
    folder, source = location.folder, "package"
    if location.id == EMBEDDED:
        expected = _listed(folder / SUMS)
    elif location.revision is None:
        raise BadInput(
            f"{location.folder} is a folder of yours; there are no hashes to compare it with"
        )
    else:
        names = _names(folder)
        known = None if offline else _on_hub(location)
        source = "cache" if known is None else "hub"
        there = _of_blobs(folder, names) if known is None else known
        expected = {name: there.get(name) for name in names}
    files = [_checked(folder, name, expected[name], source, done) for name in sorted(expected)]
    return Verification(location.id, location.revision, source, files)  # type: ignore[arg-type]


def _names(folder: Path) -> list[str]:
    """The names of all files in *folder*, with ``/`` between folders."""
    return [
        Path(where, name).relative_to(folder).as_posix()
        for where, _, names in os.walk(folder)
        for name in names
    ]


def _listed(path: Path) -> Mapping[str, str | None]:
    """The hashes in a file as ``sha256sum`` writes it."""
    pairs = [line.partition("  ") for line in read_lines(path, _MAX_SUMS_BYTES) if line]
    return {name: found for found, _, name in pairs}


def _on_hub(location: Location) -> Mapping[str, str | None] | None:
    """The hashes that the Hub has; None where it cannot be asked."""
    with quiet(), suppress(*hub_errors()):
        info = api().model_info(
            location.id, revision=location.revision, files_metadata=True, timeout=_TIMEOUT
        )
        return {
            file.rfilename: file.lfs["sha256"] if file.lfs else file.blob_id
            for file in info.siblings or ()
        }
    return None


def _of_blobs(folder: Path, names: list[str]) -> Mapping[str, str | None]:
    """The names of the blobs that the files *names* of *folder* are links to.

    A cache on a system without links has copies instead, and no hashes.
    """
    found = {}
    for name in names:
        with suppress(OSError):
            blob = (folder / name).readlink().name
            found[name] = blob if _HASH.fullmatch(blob) else None
    return found


def _checked(
    folder: Path,
    name: str,
    expected: str | None,
    source: str,
    done: Callable[[str, int, int], object],
) -> Checked:
    """The file *name* of *folder*, compared with the hash *expected*."""
    path = folder / name
    if not path.exists():
        return Checked(name, "missing", expected, None)
    home = folder.resolve() if source == "package" else folder.resolve().parents[2]  # the cache
    if not path.resolve().is_relative_to(home):
        return Checked(name, "outside", expected, None)
    if expected is None:
        return Checked(name, "extra" if source == "hub" else "unchecked", None, None)
    try:
        found = _hash(path, expected, lambda read, size: done(name, read, size))
    except (BadFile, OSError):
        return Checked(name, "unreadable", expected, None)
    return Checked(name, "same" if found == expected else "differs", expected, found)


def _hash(path: Path, like: str, done: Callable[[int, int], object]) -> str:
    """The hash of a file, made in the same way as the hash *like*."""
    with open_any(path) as file:
        size, read = os.fstat(file.fileno()).st_size, 0
        total = hashlib.sha256() if len(like) == 64 else git_hash(size)
        while block := file.read(_BLOCK_BYTES):
            total.update(block)
            read += len(block)
            done(read, size)
    return total.hexdigest()
