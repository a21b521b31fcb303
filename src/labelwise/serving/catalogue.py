"""The models that a server offers, by id."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from labelwise.errors import BadInput, ModelNotFound
from labelwise.models import agreement
from labelwise.models.card import Card
from labelwise.models.locate import EMBEDDED, locate
from labelwise.models.model import Model
from labelwise.models.scores import AS_IT_IS, Calibration
from labelwise.serving.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from labelwise.engine.backend import Backend, Dtype
    from labelwise.models.scores import Function

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
    listing: Listing = field(default=Listing(model=EMBEDDED), compare=False)
    calibration: Calibration = field(default=AS_IT_IS, compare=False)

    @property
    def function(self) -> Function:
        """The function from logits to scores where a request names none."""
        return self.listing.function or self.model.function

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
        listings: Iterable[Listing | str] = (),
        *,
        backend: Backend | None = None,
        dtype: Dtype = "float32",
        allow_unverified_int8: bool = False,
        progress: bool = False,
    ) -> Catalogue:
        """The models of *listings*; the embedded one where there are none.

        A text is a model as `Classifier` takes it, or one with ``ID=`` before it. All are to run on
        the same *backend*, in *dtype* where a listing has none. *allow_unverified_int8* takes
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
        listed = [Listing.parse(one) if isinstance(one, str) else one for one in listings]
        return cls([load(one) for one in listed or [Listing(model=EMBEDDED)]])

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    @property
    def first(self) -> Entry:
        """The model for requests that name none."""
        return next(iter(self))

    def find(self, name: str, sees: Callable[[Entry], bool] = lambda _: True) -> Entry:
        """The model with the id *name*, or the only one whose id ends so after its namespace.

        Of models that the caller does not *see* nothing is told.

        Raises:
            ModelNotFound: There is none, or more than one; the advice names some that there are.
        """
        if name in self._entries and sees(self._entries[name]):
            return self._entries[name]
        seen = [entry for entry in self if sees(entry)]
        found = [entry for entry in seen if entry.id.rpartition("/")[2] == name]
        if len(found) == 1:
            return found[0]
        if found:
            ids = " or ".join(entry.id for entry in found)
            raise ModelNotFound(f"Model {name} is ambiguous here: name {ids}")
        raise ModelNotFound(f"Model {name:.200} does not exist", advice=_advice(name, seen))


def _advice(name: str, entries: Sequence[Entry]) -> str:
    """The one of *entries* that *name*, which is no id, may be meant as; or some of them."""
    for entry in entries:
        if name.startswith((f"{entry.id}/", f"{entry.id.rpartition('/')[2]}/")):
            return f"{entry.id} does text-classification here; leave out what follows its id"
    if not entries:
        return "no model is served here for everybody; send an access token"
    more = f" and {len(entries) - _MAX_NAMED} more" if len(entries) > _MAX_NAMED else ""
    return f"served here: {', '.join(entry.id for entry in entries[:_MAX_NAMED])}{more}"


def _load(
    listing: Listing,
    *,
    backend: Backend | None,
    dtype: Dtype,
    allow_unverified_int8: bool,
    progress: bool,
) -> Entry:
    """The model of *listing*, loaded."""
    location = locate(listing.source, progress=progress)
    served_as = listing.id or location.id
    dtype = listing.dtype or dtype
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
        agreement.check(location, listing.source)
    model = Model(replace(location, id=served_as), backend, dtype)
    strange = sorted(listing.thresholds.keys() - set(model.labels))
    if strange:
        few = ", ".join(model.labels[:_MAX_NAMED])
        raise BadInput(
            f"{served_as}: the model has no label {strange[0]!r:.100} for a threshold; its labels "
            f"are {few}{', ...' if len(model.labels) > _MAX_NAMED else ''}"
        )
    calibration = Calibration.of(listing.temperature, listing.thresholds, model.labels)
    card = Card.read(model.files)
    return Entry(served_as, model, location.sha(), card, listing, calibration)
