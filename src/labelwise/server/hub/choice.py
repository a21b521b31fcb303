"""The choice of the models that a list is to have, and their order."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from labelwise.errors import BadInput
from labelwise.server.hub.asked import TASK, flag, values
from labelwise.server.hub.facts import author_of, parameters_of, tags_of, use_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request

    from labelwise.serving.catalogue import Entry

PROVIDER = "hf-inference"
_BOUND = re.compile(r"(min|max):(\d{1,15}(?:\.\d{1,9})?)([kmbt]?)", re.ASCII | re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_STRING = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_FLAG = {"type": "boolean"}
_ONE_BOUND = r"(min|max):[0-9]{1,15}(\.[0-9]{1,9})?[kmbtKMBT]?"
_BOUNDS = {"type": "string", "pattern": rf"^{_ONE_BOUND}(,{_ONE_BOUND})*$"}

ORDERS: dict[str, Callable[[Entry], Any]] = {
    "trendingScore": lambda entry: use_of(entry)["trendingScore"],
    "trending": lambda entry: use_of(entry)["trendingScore"],
    "lastModified": lambda entry: entry.model.files.newest,
    "createdAt": lambda entry: entry.model.files.oldest,
    "downloads": lambda entry: use_of(entry)["downloads"],
    "likes": lambda entry: use_of(entry)["likes"],
    "likes30d": lambda entry: use_of(entry)["likes"],
    "likes7d": lambda entry: use_of(entry)["likes"],
    "num_parameters": parameters_of,
}
PARAMETERS = [
    {"name": name, "in": "query", "description": description, "schema": kind}
    for name, kind, description in (
        ("search", _STRING, "Part of the id."),
        ("author", _STRING, "The namespace."),
        ("filter", _STRING, "A tag, as transformers, en or license:mit; may come several times."),
        ("pipeline_tag", _STRING, "The task."),
        ("inference", _STRING, "warm, or none is given."),
        ("inference_provider", _STRING, "hf-inference or all, or none is given."),
        ("gated", _FLAG, "true gives none: no model is gated here."),
        ("apps", _STRING, "A local application; none is given, for none runs classifiers."),
        ("num_parameters", _BOUNDS, "Bounds, as in min:10M,max:1B."),
        ("sort", {"enum": list(ORDERS)}, "The order; without it, that of the command line."),
        ("direction", {"enum": ["-1", "1"]}, "-1, the largest first, or 1."),
        ("cursor", _NUMBER, "The number of models before the first."),
        ("limit", _NUMBER, "The most models of a page."),
    )
]


def choose(entries: Iterable[Entry], request: Request) -> list[Entry]:
    """Those of *entries* that *request* asks for, in the order that it asks for.

    Raises:
        BadInput: A parameter of the query is not understood.
    """
    least, most = _bounds(request.query_params.get("num_parameters"))
    # A gated model asks for consent before it is given; local applications run other tasks.
    none = flag(request, "gated") or values(request, "apps")
    found = [
        entry
        for entry in entries
        if not none and _matches(entry, request) and least <= parameters_of(entry) <= most
    ]
    return _ordered(found, request)


def _matches(entry: Entry, request: Request) -> bool:
    """Whether *entry* has what the query asks for by name."""
    asked = request.query_params
    providers = ",".join(values(request, "inference_provider")).split(",")
    tags = [tag for tag in ",".join(values(request, "filter")).split(",") if tag]
    return (
        asked.get("pipeline_tag", TASK) == TASK
        and asked.get("inference", "warm") == "warm"
        and not {PROVIDER, "all", ""}.isdisjoint(providers)
        and asked.get("search", "").lower() in entry.id.lower()
        and asked.get("author", author_of(entry)) == author_of(entry)
        and set(tags_of(entry)).issuperset(tags)
    )


def _ordered(entries: list[Entry], request: Request) -> list[Entry]:
    """*entries* in the order that the query names; those that are equal in it stay as they are."""
    name = request.query_params.get("sort")
    direction = request.query_params.get("direction", "-1")
    if direction not in {"-1", "1"}:
        raise BadInput("direction must be -1, for the largest first, or 1")
    if name is None:
        return entries
    if name not in ORDERS:
        raise BadInput(f"sort must be one of {', '.join(ORDERS)}")
    return sorted(entries, key=ORDERS[name], reverse=direction == "-1")


def _bounds(asked: str | None) -> tuple[float, float]:
    """The least and the most parameters, as *asked* for."""
    found = {"min": 0.0, "max": float("inf")}
    for part in asked.split(",") if asked else ():
        bound = _BOUND.fullmatch(part.strip())
        if bound is None:
            raise BadInput("num_parameters must be bounds as in min:10M,max:1B")
        which, number, unit = bound.groups()
        found[which.lower()] = float(number) * _UNITS[unit.lower()]
    return found["min"], found["max"]
