"""The classifier in process: one model, called like a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

from labelwise.core.model import Model
from labelwise.core.scores import Score, apply, rank, read_function, read_top_k
from labelwise.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

    from labelwise.core.model import Dtype
    from labelwise.engine.text import Encoded, Text


class Scores(list[Score]):
    """The scores of one text, best first, and whether the model read all of it."""

    __slots__ = ("length", "truncated")

    def __init__(self, scores: Sequence[Score], *, length: int, truncated: bool) -> None:
        super().__init__(scores)
        self.length = length  # ids of the whole text, special ids included
        self.truncated = truncated  # whether the model read only the beginning


class Classifier:
    """Labels and scores for texts, from one model in this process.

    >>> classify = Classifier()
    >>> [score.label for score in classify("A fine film.", top_k=1)]
    ['POSITIVE']

    Safe to call from several threads.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        dtype: Dtype = "float32",
        progress: bool = False,
    ) -> None:
        """Load *model*: a folder, a Hub id ``ORG/NAME[@REVISION]``, or None for the embedded one.

        With the *dtype* "int8" it is quicker and nearly as exact. Nobody asks here how nearly:
        ``labelwise quantize`` says it, and the command line and the server insist on that.
        *progress* shows bars on standard error while files come from the Hub.

        Raises:
            BadInput: There is no such *dtype*.
            BadModel: It cannot be found, read or run; the message says why.
        """
        self.model = Model.load(model, dtype=dtype, progress=progress)

    @overload
    def __call__(
        self, inputs: Text, *, top_k: int | None = None, function_to_apply: str | None = None
    ) -> Scores: ...

    @overload
    def __call__(
        self,
        inputs: list[str] | list[tuple[str, str]] | list[Text],
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
    ) -> list[Scores]: ...

    def __call__(
        self,
        inputs: Text | list[str] | list[tuple[str, str]] | list[Text],
        *,
        top_k: int | None = None,
        function_to_apply: str | None = None,
    ) -> Scores | list[Scores]:
        """The scores of a text, best first; of a list of texts, a list of them in the same order.

        A text is a string, or a tuple of two for a pair. A text longer than the model reads is
        truncated, pairs longest first, and its scores say so (``truncated``).

        Args:
            inputs: One text, or a list of texts.
            top_k: How many labels to give for each text; all where None.
            function_to_apply: "softmax", "sigmoid" or "none"; the model's own where None.

        Raises:
            BadInput: An argument is of the wrong kind.
        """
        best, function = read_top_k(top_k), read_function(function_to_apply) or self.model.function
        alone = isinstance(inputs, str | tuple)
        texts = [inputs] if isinstance(inputs, str | tuple) else inputs
        if not isinstance(texts, list):
            raise BadInput(
                "a classifier takes a string, a tuple of two strings, or a list of them; "
                f"this is {type(inputs).__name__}"
            )
        encoded = self.model.encode(texts)
        scores = apply(function, self.model.logits(encoded))
        results = [self._result(*row, best) for row in zip(encoded, scores, strict=True)]
        return results[0] if alone else results

    def _result(self, text: Encoded, scores: np.ndarray, top_k: int | None) -> Scores:
        ranked = rank(scores, self.model.labels, top_k)
        return Scores(ranked, length=text.full_length, truncated=text.truncated)
