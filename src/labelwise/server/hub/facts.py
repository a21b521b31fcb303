"""Facts of a model that lists show, filter by and order by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.server.hub.asked import TASK

if TYPE_CHECKING:
    from labelwise.serving.catalogue import Entry

_LIBRARY = "transformers"


def use_of(_: Entry) -> dict[str, int]:
    """The downloads, likes and trend of a model, as the Hub counts them. Here nothing does yet."""
    return dict.fromkeys(("downloads", "downloadsAllTime", "likes", "trendingScore"), 0)


def tags_of(entry: Entry) -> list[str]:
    """All that *entry* may be filtered by."""
    card, names = entry.card, [file.name for file in entry.model.files]
    kinds = {"safetensors": ".safetensors", "pytorch": ".bin"}
    found = [
        library_of(entry),
        *(kind for kind, end in kinds.items() if any(name.endswith(end) for name in names)),
        entry.model.model_type,
        TASK,
        *card.texts("tags"),
        *card.texts("language"),
        *(f"dataset:{name}" for name in card.texts("datasets")),
        *(f"base_model:{name}" for name in card.texts("base_model")),
        *(f"license:{name}" for name in card.texts("license")),
    ]
    return list(dict.fromkeys(found))


def library_of(entry: Entry) -> str:
    """The library that *entry* is made for."""
    return entry.card.text("library_name") or _LIBRARY


def parameters_of(entry: Entry) -> int:
    """The count of all numbers in the weights of *entry*."""
    return sum(entry.model.parameters.values())


def author_of(entry: Entry) -> str:
    """The namespace of *entry*; empty where it has none."""
    return entry.id.rpartition("/")[0]
