"""The files of a model that may be handed out, as they were when it was loaded, and their hashes.

They are those that Labelwise reads, the vocabulary also beside ``tokenizer.json``, and README.md.
No other file of the folder is looked at, and a link leads nowhere, but for those in the Hub's
cache: a snapshot there consists of links to the blobs of its own repository.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from errno import EMFILE, ENFILE
from stat import S_ISREG
from threading import Event
from typing import TYPE_CHECKING

from labelwise.engine.checkpoint.checkpoint import INDEX, weight_files
from labelwise.engine.folder import WEIGHTS
from labelwise.errors import FileChanged
from labelwise.models.locate import FILES, README

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_READ = [name for name in FILES if name not in WEIGHTS and not name.endswith(INDEX)]
_LARGE_ENDINGS = (".safetensors", ".bin", ".model")  # which the Hub keeps with Git LFS
_LARGE_BYTES = 10 * 2**20
_BLOCK_BYTES = 2**20
_FLAGS = os.O_RDONLY
for _name in ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK"):  # each is not everywhere
    _FLAGS |= getattr(os, _name, 0)


@dataclass(frozen=True, slots=True)
class File:
    """A file of a model, and what tells whether it is still the same."""

    name: str
    path: Path  # of its content; no link
    size: int
    changed: int  # nanoseconds since 1970

    @property
    def is_large(self) -> bool:
        """Whether the Hub would keep it with Git LFS."""
        return self.name.endswith(_LARGE_ENDINGS) or self.size > _LARGE_BYTES

    def read(self, first: int = 0, most: int = 0) -> bytes:
        """The bytes from *first* on, *most* at most. Nothing stays open.

        Raises:
            FileChanged: It is another file than when the model was loaded, or none.
        """
        descriptor = self._open()
        try:  # few calls: at each, this thread may have to wait for the others
            os.lseek(descriptor, first, os.SEEK_SET)
            found = os.read(descriptor, most)
            self._check(descriptor)
        except OSError:
            raise self._change() from None
        finally:
            os.close(descriptor)
        if len(found) < min(most, self.size - first):
            raise self._change()
        return found

    def blocks(self) -> Iterator[bytes]:
        """All bytes, block by block.

        Raises:
            FileChanged: As `read`.
        """
        descriptor = self._open()
        try:
            self._check(descriptor)
            while block := os.read(descriptor, _BLOCK_BYTES):
                yield block
            self._check(descriptor)
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        """A descriptor for reading; no link is followed, and no writer of a pipe waited for."""
        try:
            return os.open(self.path, _FLAGS)
        except OSError as reason:
            if reason.errno in {EMFILE, ENFILE}:  # too many are open
                raise
            raise self._change() from None

    def _check(self, descriptor: int) -> None:
        """Let pass the file behind *descriptor* where it is still this one."""
        stat = os.fstat(descriptor)
        found = (S_ISREG(stat.st_mode), stat.st_size, stat.st_mtime_ns)
        if found != (True, self.size, self.changed):
            raise self._change()

    def _change(self) -> FileChanged:
        return FileChanged(
            f"{self.name} has changed since the model was loaded; start the server again to "
            "serve it as it is now"
        )


class Files:
    """The files of the model in one folder, by name. What is in memory never changes."""

    def __init__(self, folder: Path) -> None:
        """Note which files *folder* has now.

        Raises:
            BadFile: The index of the weights cannot be read.
        """
        home = folder.resolve()
        names = {README, *_READ, *(path.name for path in weight_files(folder))}
        found = [(name, stat) for name in sorted(names) if (stat := _stat(home / name))]
        times = [stat.st_mtime for _, stat in found]
        self.oldest = min(times, default=0.0)  # seconds since 1970
        self.newest = max(times, default=0.0)
        self._files = {
            name: File(name, path, stat.st_size, stat.st_mtime_ns)
            for name, stat in found
            if (path := _place(home, name))
        }

    def __iter__(self) -> Iterator[File]:
        return iter(self._files.values())

    def get(self, name: str) -> File | None:
        """The file *name*; None where there is none of that name to be handed out."""
        return self._files.get(name)


@dataclass(frozen=True, slots=True)
class Hashes:
    """The hashes of a file by which clients of the Hub know it."""

    oid: str  # of the blob in Git: of a large file, that of the pointer to it
    sha256: str | None  # of a large file

    @property
    def etag(self) -> str:
        """The one that the Hub gives in ``ETag``."""
        return self.sha256 or self.oid


class Hasher:
    """Hashes files in a thread of its own, each once. Its methods are for one thread to call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "labelwise-hashes")  # starts it when it is needed
        self._known: dict[File, Future[Hashes]] = {}
        self._ends = Event()

    def start(self, file: File) -> Future[Hashes]:
        """The hashes of *file*, as soon as they are there; FileChanged where it has changed."""
        found = self._known.get(file)
        if found is None or (found.done() and found.exception()):
            found = self._known[file] = self._pool.submit(_hashes, file, self._ends)
        return found

    def close(self) -> None:
        """End the thread, also within a file."""
        self._ends.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


def pointer(sha256: str, size: int) -> bytes:
    """The file that stands in Git for a large one."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
    )


def _hashes(file: File, ends: Event) -> Hashes:
    """The hashes of *file*, unless the server *ends* before.

    Raises:
        FileChanged: It has changed, or changes meanwhile.
        CancelledError: The server ends.
    """
    total = hashlib.sha256() if file.is_large else git_hash(file.size)
    for block in file.blocks():
        if ends.is_set():
            raise CancelledError
        total.update(block)
    if not file.is_large:
        return Hashes(total.hexdigest(), None)
    stands = pointer(total.hexdigest(), file.size)
    blob = git_hash(len(stands))
    blob.update(stands)
    return Hashes(blob.hexdigest(), total.hexdigest())


def git_hash(size: int) -> hashlib._Hash:
    """The hash that Git makes of a file of so many bytes, before the first."""
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def _stat(path: Path) -> os.stat_result | None:
    """The state of the regular file *path*, also behind a link; None where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat if S_ISREG(stat.st_mode) else None


def _place(home: Path, name: str) -> Path | None:
    """The place of the content of *name* in the folder *home*; None where that is elsewhere."""
    path = home / name
    try:
        place = path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        return None
    repository = home.parent.parent
    is_snapshot = home.parent.name == "snapshots" and repository.name.startswith("models--")
    inside = place == path or (is_snapshot and place.parent == repository / "blobs")
    return place if inside else None
