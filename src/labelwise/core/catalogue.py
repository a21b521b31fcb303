"""The models that a server offers, by id."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from labelwise.core.locate import EMBEDDED, FILES, locate
from labelwise.core.model import Model
from labelwise.engine.files import open_file
from labelwise.errors import BadInput, ModelNotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in memory and what it is served as."""

    id: str
    model: Model
    sha: str  # the commit on the Hub; for a folder, a hash of its files, as long as a commit's


class Catalogue:
    """The models that are served. It never changes; the first is the one that ``POST /`` asks."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        """Offer *entries*, at least one.

        Raises:
            BadInput: Two have the same id.
        """
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            if entry.id in self._entries:
                raise BadInput(
                    f"two models are called {entry.id}; give one another id: ORG/NAME=FOLDER"
                )
            self._entries[entry.id] = entry

    @classmethod
    def load(cls, names: Iterable[str] = (), *, progress: bool = False) -> Catalogue:
        """The models *names*, each as `Classifier` takes it or ``ID=`` before it; or the embedded.

        Raises:
            BadInput: An id cannot be used, or is used twice.
            BadModel: One cannot be found, read or run; the message says why.
        """
        return cls([_load(name, progress=progress) for name in names or [EMBEDDED]])

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def first(self) -> Entry:
        """The model for requests that name none."""
        return next(iter(self))

    def find(self, name: str) -> Entry:
        """The model with the id *name*, or the only one whose id ends so after its namespace.

        Raises:
            ModelNotFound: There is none, or more than one.
        """
        if name in self._entries:
            return self._entries[name]
        found = [entry for entry in self if entry.id.rpartition("/")[2] == name]
        if len(found) == 1:
            return found[0]
        if found:
            ids = " or ".join(entry.id for entry in found)
            raise ModelNotFound(f"Model {name} is ambiguous here: name {ids}")
        raise ModelNotFound(f"Model {name:.200} does not exist")


def _load(name: str, *, progress: bool) -> Entry:
    """The model that the user calls *name*, loaded."""
    given, equals, rest = name.partition("=")
    if equals and not os.path.isdir(name):  # noqa: PTH112 - says no to whatever is no path
        location = replace(locate(rest, progress=progress), id=given)
    else:
        location = locate(name, progress=progress)
    if not _ID.fullmatch(location.id):
        raise BadInput(
            f"{location.id!r:.200} cannot be the id of a model: an id is NAME or ORG/NAME, of "
            "letters, digits, - _ and .; give the folder one: ORG/NAME=FOLDER"
        )
    model = Model(location)
    return Entry(location.id, model, location.revision or _fingerprint(location.folder))


def _fingerprint(folder: Path) -> str:
    """What changes when a file of the model in *folder* does: 40 hexadecimal digits."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        shard = path.name.startswith(("model-", "pytorch_model-"))
        if (path.name in FILES or shard) and path.is_file():
            with open_file(path) as file:
                digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            total.update(f"{path.name} {digest.hexdigest()}\n".encode())
    return total.hexdigest()[:40]
