"""Text classification on your own machine: labels and scores for texts.

>>> from labelwise import Classifier
>>> classify = Classifier()                      # the embedded model
>>> classify("I like you. I love you")[0].label
'POSITIVE'

Importing this package loads nothing heavy; the first use of ``Classifier`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labelwise.classifier import Classifier
    from labelwise.core.scores import Score

__version__ = "0.1.0"
__all__ = ["Classifier", "Score", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that ``import labelwise`` stays quick."""
    if name == "Classifier":
        from labelwise.classifier import Classifier  # noqa: PLC0415

        return Classifier
    if name == "Score":
        from labelwise.core.scores import Score  # noqa: PLC0415

        return Score
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
