"""The errors that Labelwise raises on purpose.

    LabelwiseError
    ├── BadInput             the caller's text, parameter or option
    └── BadModel             the model cannot be found, read or run
        ├── ModelNotFound    no such folder, Hub id or revision, or no way to reach the Hub
        ├── BadFile          a file of the model is missing, broken, hostile or unreadable
        ├── MissingWeight    the checkpoint lacks a weight that the model needs
        └── UnsupportedModel the file is fine; the engine does not know this kind of model

Every message is one line that says what came and what to do next.
None holds the text of a request or a secret.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    """*text* as one line with nothing in it that a terminal would act upon."""
    return "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))


class LabelwiseError(Exception):
    """The root of the tree. Never raised directly."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))  # names of files and weights come from strangers


class BadInput(LabelwiseError, ValueError):  # noqa: N818 - the noun says whose mistake it is
    """The caller's text, parameter or option cannot be used."""


class BadModel(LabelwiseError):  # noqa: N818
    """The model cannot be found, read or run. Never raised directly."""


class ModelNotFound(BadModel):
    """No such folder, Hub id or revision, or the Hub cannot be reached."""


class BadFile(BadModel):
    """A file of the model is missing, broken, hostile or unreadable."""


class MissingWeight(BadModel):
    """The checkpoint lacks a weight that the model needs."""


class UnsupportedModel(BadModel):
    """The files are sound, but the engine does not know this kind of model."""
