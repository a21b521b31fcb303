"""The models that a server offers, by id."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from labelwise.errors import BadInput, ModelNotFound
from labelwise.models import agreement
from labelwise.models.card import Card
from labelwise.models.locate import EMBEDDED, locate
from labelwise.models.model import Model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from labelwise.engine.backend import Backend, Dtype

_MAX_NAMED = 5  # models in an error
_TAKEN_NAMES = {"auth-check", "health", "info", "refs"}  # of paths behind the id of a model
_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in memory and what it is served as."""

    id: str
    model: Model
    sha: str  # the commit on the Hub; for a folder, a hash of its files, as long as a commit's
    card: Card = field(default_factory=Card)

    @property
    def cache_namespace(self) -> str:
        """A name for all that decides the logits of a text: the model's files and its dtype."""
        return f"{self.sha} {self.model.dtype}"


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
    def load(
        cls,
        names: Iterable[str] = (),
        *,
        backend: Backend | None = None,
        dtype: Dtype = "float32",
        allow_unverified_int8: bool = False,
        progress: bool = False,
    ) -> Catalogue:
        """The models *names*, each as `Classifier` takes it or ``ID=`` before it; or the embedded.

        All are to run on the same *backend*. *allow_unverified_int8* takes
        models in int8 without a good report.

        Raises:
            BadInput: An id cannot be used, is used twice, or its model may not be had in *dtype*.
            BadModel: One cannot be found, read or run; the message says why.
        """
        load = partial(
            _load,
            backend=backend,
            dtype=dtype,
            allow_unverified_int8=allow_unverified_int8,
            progress=progress,
        )
        return cls([load(name) for name in names or [EMBEDDED]])

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def first(self) -> Entry:
        """The model for requests that name none."""
        return next(iter(self))

    def find(self, name: str) -> Entry:
        """The model with the id *name*, or the only one whose id ends so after its namespace.

        Raises:
            ModelNotFound: There is none, or more than one; the advice names some that there are.
        """
        if name in self._entries:
            return self._entries[name]
        found = [entry for entry in self if entry.id.rpartition("/")[2] == name]
        if len(found) == 1:
            return found[0]
        if found:
            ids = " or ".join(entry.id for entry in found)
            raise ModelNotFound(f"Model {name} is ambiguous here: name {ids}")
        raise ModelNotFound(f"Model {name:.200} does not exist", advice=self._advice(name))

    def _advice(self, name: str) -> str:
        """The id that *name*, which is none, may be meant as; or some that there are."""
        for entry in self:
            if name.startswith((f"{entry.id}/", f"{entry.id.rpartition('/')[2]}/")):
                return f"{entry.id} does text-classification here; leave out what follows its id"
        served = [entry.id for entry in self]
        more = f" and {len(served) - _MAX_NAMED} more" if len(served) > _MAX_NAMED else ""
        return f"served here: {', '.join(served[:_MAX_NAMED])}{more}"


def _load(
    name: str, *, backend: Backend | None, dtype: Dtype, allow_unverified_int8: bool, progress: bool
) -> Entry:
    """The model that the user calls *name*, loaded."""
    given, equals, rest = name.partition("=")
    renamed = equals and not os.path.isdir(name)  # noqa: PTH112 - says no to whatever is no path
    source = rest if renamed else name
    location = locate(source, progress=progress)
    served_as = given if renamed else location.id
    if not _ID.fullmatch(served_as):
        raise BadInput(
            f"{served_as!r:.200} cannot be the id of a model: an id is NAME or ORG/NAME, of "
            "letters, digits, - _ and .; give the folder one: ORG/NAME=FOLDER"
        )
    if served_as.partition("/")[2] in _TAKEN_NAMES:
        raise BadInput(
            f"{served_as:.200} cannot be the id of a model: a path that ends so is a route of its "
            "own; give the model another id: ORG/NAME=FOLDER"
        )
    if dtype == "int8" and not allow_unverified_int8:
        agreement.check(location, source)
    model = Model(replace(location, id=served_as), backend, dtype)
    return Entry(served_as, model, location.sha(), Card.read(model.files))
