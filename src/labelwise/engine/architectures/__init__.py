"""One module for each model type, named after it with ``-`` as ``_``.

A module has one function, ``describe(config) -> Architecture``. The modules of this folder are the
list of what is supported: nothing else needs to know of a new one.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from labelwise.errors import UnsupportedModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from labelwise.engine.blocks import Blocks, State
    from labelwise.engine.config import Config


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model's way from tokens to logits."""

    vocabulary: int  # rows of the word table: every id is smaller
    longest: int  # most tokens of one text, special tokens included
    build: Callable[[Blocks], State]  # -> logits, (texts, labels)
    base: str  # what the names of all weights but the head's begin with
    head: str  # the name of the last product: its weight has a row for each class
    types: int = 1  # kinds of tokens that are told apart; with 1, those of a second text are not
    # The RoBERTa family counts positions from the id of its padding, and passes over that id.
    padding_id: int | None = None


def supported() -> list[str]:
    """The model types that have a module here, sorted."""
    return sorted(module.name.replace("_", "-") for module in iter_modules(__path__))


def describe(config: Config) -> Architecture:
    """The architecture of *config*.

    Raises:
        UnsupportedModel: There is no module for its type; the message lists those there are.
    """
    if config.model_type not in supported():
        raise UnsupportedModel(
            f"model type {config.model_type!r:.40} is not supported; "
            f"supported: {', '.join(supported())}"
        )
    if config.values.get("is_decoder"):
        raise UnsupportedModel("config.json: is_decoder is set; only encoders can classify here")
    config.choice("position_embedding_type", "absolute", ["absolute"])
    module = import_module(f"{__name__}.{config.model_type.replace('-', '_')}")
    architecture: Architecture = module.describe(config)
    return architecture
