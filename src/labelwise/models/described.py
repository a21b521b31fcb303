"""A model's description: all that is known of it without its weights in memory."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from labelwise.engine import architectures
from labelwise.engine.checkpoint.checkpoint import Checkpoint
from labelwise.engine.config import Config
from labelwise.engine.folder import check_folder
from labelwise.engine.tokenizer.tokenizer import Tokenizer
from labelwise.errors import LabelwiseError
from labelwise.models import agreement, cached
from labelwise.models.card import Card
from labelwise.models.files import Files
from labelwise.models.scores import default_function

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labelwise.models.locate import Location
    from labelwise.models.scores import Function


@dataclass(slots=True)
class Description:
    """Facts of a model; None where one cannot be told, and then *problem* says why."""

    id: str
    revision: str | None  # the commit; None for a folder and the embedded model
    folder: str
    size: int | None = None  # bytes on disk
    model_type: str | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)  # by the type they are stored as
    labels: Sequence[str] | None = None
    function: Function | None = None  # from logits to scores
    max_tokens: int | None = None  # of a text, special tokens included
    tokenizer: str | None = None  # how it cuts words
    license: str | None = None
    languages: Sequence[str] = ()
    library: str | None = None
    int8: bool | None = None  # what the report of compare-int8 says; None where there is none
    problem: str | None = None  # why it cannot be run here


def describe(location: Location) -> Description:
    """The description of the model at *location*, as far as its files can be read."""
    found = Description(location.id, location.revision, str(location.folder))
    try:
        _read_card(found, location)
        _read_model(found, location)
    except LabelwiseError as reason:
        found.problem = str(reason)
    return found


def _read_card(found: Description, location: Location) -> None:
    """Add size and card, which models have that cannot be run, too."""
    with suppress(LabelwiseError):  # the index of the weights, of which more is said later
        found.size = cached.size(location)
        card = Card.read(Files(location.folder))
        found.license, found.library = card.text("license"), card.text("library_name")
        found.languages = card.texts("language")


def _read_model(found: Description, location: Location) -> None:
    """Add what the other files say, in the order in which a model is loaded.

    Raises:
        LabelwiseError: It cannot be run.
    """
    check_folder(location.folder)
    config = Config.open(location.folder)
    found.model_type = config.model_type
    architecture = architectures.describe(config)
    with Checkpoint.open(location.folder, architecture.base) as checkpoint:
        found.parameters = checkpoint.parameters()
        found.labels = config.labels(checkpoint.rows(f"{architecture.head}.weight"))
    found.function = default_function(config.problem_type, len(found.labels))
    tokenizer = Tokenizer.open(location.folder, architecture.longest, config.model_type)
    found.max_tokens, found.tokenizer = tokenizer.limit, tokenizer.kind
    with suppress(LabelwiseError):  # a report that cannot be read is none
        report = agreement.find(location)
        found.int8 = report.suffices if report else None
