"""One classification, for every wire: a `ClassifyRequest` in, a `ClassifyResult` out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from labelwise.engine.tokenizer.tokenizer import DEFAULT_TOKENIZATION, characters
from labelwise.errors import TooLarge
from labelwise.models.scores import answers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from labelwise.engine.tokenizer.tokenizer import Text, Tokenization
    from labelwise.models.scores import Function, Score
    from labelwise.serving.aside import Aside
    from labelwise.serving.cache import Row
    from labelwise.serving.catalogue import Entry
    from labelwise.serving.inference import Inference
    from labelwise.serving.queue import Stages

MAX_SCORES = 100_000  # of an answer: some 6 MB of JSON, and a tenth of a second to make
MAX_LOGITS = 10_000_000  # of a request: 40 MB
FEWER_SCORES = "set top_k to {} or less"
SCORE_BYTES = 60  # of JSON for a label and its score, or so


@dataclass(slots=True)
class ClassifyRequest:
    """Texts to classify, and how."""

    texts: list[Text]  # emptied as soon as they are tokens
    flat: bool = False  # the answer is the scores of the only text, without a list around them
    function: Function | None = None  # from logits to scores; the model's own where None
    top_k: int | None = None  # labels for each text; all where None
    tokenization: Tokenization = DEFAULT_TOKENIZATION
    bypass_cache: bool = False
    warnings: Sequence[str] = ()  # of the wire, about what it did not understand
    fewer_scores: str = FEWER_SCORES  # the advice where an answer would be too large


@dataclass(frozen=True, slots=True)
class ClassifyResult:
    """The scores of the texts of one request, and what it took to find them."""

    scores: list[list[Score]]  # of each text, best first
    device: str  # that computed them; "cache" where all were known
    characters: int  # of all texts
    tokens: int  # of all texts, as the model read them
    truncated: int  # texts of which the model did not read all
    hits: int  # texts that were known, or being computed for others
    stages: Stages
    warnings: Sequence[str] = field(default=())

    @property
    def bytes(self) -> int:
        """About how large it is as JSON."""
        return SCORE_BYTES * sum(map(len, self.scores))


class Classification:
    """Classifies the texts of requests, within bounds."""

    def __init__(
        self, inference: Inference, aside: Aside, *, max_texts: int, max_characters: int
    ) -> None:
        self._inference = inference
        self._aside = aside
        self._max_texts = max_texts
        self._max_characters = max_characters

    async def classify(
        self, entry: Entry, request: ClassifyRequest, seconds: float
    ) -> ClassifyResult:
        """Labels and scores for the texts of *request* from the model *entry*.

        A caller that does not wait longer than *seconds* must cancel this.

        Raises:
            BadInput: A text is too long and must not be cut, or a score cannot be written.
            TooLarge: They are too many texts, characters or scores.
            Overloaded: They are more than may wait, or would not be ready within *seconds*.
            LabelwiseError: The engine fails on one of the texts.
        """
        texts, top_k = request.texts, request.top_k
        size = check_size(texts, max_texts=self._max_texts, max_characters=self._max_characters)
        labels = entry.model.labels
        count = check_answer(len(texts), len(labels), top_k, request.fewer_scores)
        request.texts = []
        rows = self._inference.rows(
            entry,
            texts,
            seconds,
            tokenization=request.tokenization,
            bypass_cache=request.bypass_cache,
        )
        del texts  # they are let go as soon as they are tokens
        found = await rows
        ranking = partial(
            answers,
            [row.logits for row in found.rows],
            request.function or entry.function,
            labels,
            top_k,
            entry.calibration,
        )
        return ClassifyResult(
            scores=await self._aside.run(count * SCORE_BYTES, ranking),
            device="cache" if found.cached else entry.model.device,
            characters=size,
            tokens=sum(row.length for row in found.rows),
            truncated=sum(row.truncated for row in found.rows),
            hits=found.hits,
            stages=found.stages,
            warnings=[*request.warnings, *_truncation_warning(found.rows, entry)],
        )


def check_size(texts: Sequence[Text], *, max_texts: int, max_characters: int) -> int:
    """The number of characters of *texts*.

    Raises:
        TooLarge: They are too many texts, or have too many characters.
    """
    if len(texts) > max_texts:
        raise TooLarge(f"{len(texts)} texts in one request; send {max_texts} at most")
    length = characters(texts)
    if length > max_characters:
        raise TooLarge(f"{length} characters in one request; send {max_characters} at most")
    return length


def check_answer(
    texts: int, labels: int, top_k: int | None, fewer_scores: str = FEWER_SCORES
) -> int:
    """The number of scores of an answer: the *top_k* best of *labels* for each of *texts*.

    *fewer_scores* is the advice to set a lower top_k, with {} for the number.

    Raises:
        TooLarge: They are more than one answer may have.
    """
    if texts > 1 and texts * labels > MAX_LOGITS:
        raise TooLarge(
            f"{texts} texts in one request to a model of {labels} labels; "
            f"send {max(MAX_LOGITS // labels, 1)} at most"
        )
    most = MAX_SCORES // texts  # of one text
    given = min(labels, top_k or labels)
    if given > most:
        fewer = fewer_scores.format(most) if most else ""
        advice = ", or ".join(filter(None, (fewer, "send fewer texts" if texts > 1 else "")))
        raise TooLarge(
            f"{texts} texts with {given} labels each are more than the {MAX_SCORES} scores of one "
            f"answer; {advice}"
        )
    return texts * given


def _truncation_warning(rows: Sequence[Row], entry: Entry) -> list[str]:
    cut = [row.length for row in rows if row.truncated]
    if not cut:
        return []
    warning = (
        f"truncation; {len(cut)} of {len(rows)} texts were longer than {max(cut)} tokens and were "
        f"cut; {entry.id} reads {entry.model.tokenizer.limit}"
    )
    return [warning]
