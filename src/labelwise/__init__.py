"""Text classification on your own machine: labels and scores for texts.

>>> from labelwise import Classifier
>>> classify = Classifier()                      # the embedded model
>>> classify("I like you. I love you")[0].label
'POSITIVE'

Importing this package loads nothing heavy; the first use of ``Classifier`` does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelwise.classifier import Classifier, Scores
    from labelwise.errors import (
        BadFile,
        BadInput,
        BadModel,
        LabelwiseError,
        MissingWeight,
        ModelNotFound,
        UnsupportedModel,
    )
    from labelwise.models.scores import Score

__version__ = "0.1.0"
__all__ = [
    "BadFile",
    "BadInput",
    "BadModel",
    "Classifier",
    "LabelwiseError",
    "MissingWeight",
    "ModelNotFound",
    "Score",
    "Scores",
    "UnsupportedModel",
    "__version__",
]

_HOMES = {
    "Classifier": "labelwise.classifier",
    "Score": "labelwise.models.scores",
    "Scores": "labelwise.classifier",
}


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that ``import labelwise`` stays quick."""
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "labelwise.errors")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
