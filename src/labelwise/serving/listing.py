"""A listing: one model of the server's catalogue, as its operator lists it."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any, Self

import msgspec
from msgspec import Meta

from labelwise.engine.backend import Dtype
from labelwise.errors import BadInput
from labelwise.models.scores import Function

if TYPE_CHECKING:
    from collections.abc import Mapping

_Share = Annotated[float, Meta(ge=0, le=1)]
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_PLACE = re.compile(r".* - at `\$\.(\w+).*", re.DOTALL)


class Listing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model of the catalogue: its place, its id, and how it is served.

    The description of each key says what it must be, for errors and for the documents.
    """

    model: Annotated[str, Meta(min_length=1, description="the folder of the model, or its Hub id")]
    id: Annotated[str, Meta(description="a text: the id to serve it as, NAME or ORG/NAME")] = ""
    revision: Annotated[str, Meta(description="a text: a branch, a tag or a commit on the Hub")] = (
        ""
    )
    dtype: Annotated[
        Dtype | None, Meta(description='"float32" or "int8"; without it, that of the server')
    ] = None
    description: Annotated[
        str, Meta(max_length=1_000, description="a text of 1,000 characters at most, for lists")
    ] = ""
    function: Annotated[
        Function | None,
        Meta(description='"softmax", "sigmoid" or "none"; without it, the model\'s own'),
    ] = None
    temperature: Annotated[
        float,
        Meta(
            ge=0.001,
            le=1_000,
            description="a number from 0.001 to 1000, which logits are divided by",
        ),
    ] = 1.0
    thresholds: Annotated[
        dict[str, _Share],
        Meta(
            description="a table of labels, each with the least score, from 0 to 1, that is given"
        ),
    ] = {}
    private: Annotated[
        bool, Meta(description="true or false: whether only those see it who may use it")
    ] = False

    @classmethod
    def parse(cls, name: str) -> Self:
        """The listing of what the command line calls *name*: MODEL, or ID=MODEL.

        A folder whose name has an equals sign is itself.

        Raises:
            BadInput: The id is empty.
        """
        given, equals, rest = name.partition("=")
        if not equals or os.path.isdir(name):  # noqa: PTH112 - says no to whatever is no path
            return cls(model=name)
        if not given:
            raise BadInput(
                f"{name!r:.200} has no id before the equals sign; give the folder one: "
                "ORG/NAME=FOLDER"
            )
        return cls(model=rest, id=given)

    @classmethod
    def read(cls, table: Mapping[str, Any], where: str) -> Self:
        """The listing that *table* makes, which stands in the file *where*.

        Raises:
            BadInput: A key is missing, unknown, or has no such value.
        """
        try:
            return msgspec.convert(table, cls, strict=True)
        except msgspec.ValidationError as reason:
            raise BadInput(f"a model in {where}: {_explained(str(reason))}") from None

    @property
    def source(self) -> str:
        """The place of the model, with its revision, as `locate` takes it."""
        return f"{self.model}@{self.revision}" if self.revision else self.model

    @property
    def is_calibrated(self) -> bool:
        """Whether scores are other than those of the model itself."""
        return self.temperature != 1 or bool(self.thresholds)


def keys() -> dict[str, str]:
    """The keys of a listing, and for each what it must be."""
    schema = msgspec.json.schema(Listing)["$defs"]["Listing"]
    return {name: one["description"] for name, one in schema["properties"].items()}


def table() -> str:
    """The keys as a Markdown table."""
    rows = [("key", "what it is"), ("---", "---"), *((f"`{k}`", v) for k, v in keys().items())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _explained(reason: str) -> str:
    known = keys()
    if unknown := _UNKNOWN.fullmatch(reason):
        near = get_close_matches(unknown[1], known, 1)
        next_step = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"unknown key {unknown[1]!r:.40}; {next_step}"
    place = _PLACE.fullmatch(reason)
    name = place[1] if place else "model"
    return f"{name} must be {known[name]}"
