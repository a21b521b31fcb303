"""The classifier in process: one model, called like a function."""

from __future__ import annotations

from itertools import count, islice
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict, Unpack, overload

from labelwise.engine.tokenizer.tokenizer import Tokenization
from labelwise.errors import BadInput, one_line
from labelwise.inputs import read_inputs
from labelwise.models.model import Model
from labelwise.models.parameters import (
    check_batch_size,
    check_device,
    check_padding,
    check_return_all_scores,
    read_function,
    read_max_length,
    read_top_k,
    read_truncation,
)
from labelwise.models.scores import Score, apply, rank

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from labelwise.engine.backend import Dtype
    from labelwise.engine.tokenizer.tokenizer import Text, Truncation
    from labelwise.inputs import Collection
    from labelwise.models.scores import Function

# The most texts that are taken from an iterator before their scores are given: enough to fill
# batches on every stream.
TEXTS_AT_ONCE = 256


class Scores(list[Score]):
    """The scores of one text, best first, and whether the model read all of it."""

    __slots__ = ("length", "truncated")

    def __init__(self, scores: Sequence[Score], *, length: int, truncated: bool) -> None:
        super().__init__(scores)
        # Tokens of the whole text, special tokens included. Of one that is far too long not all is
        # read, and this is the least that it has.
        self.length = length
        self.truncated = truncated  # whether the model read only the beginning


class Options(TypedDict, total=False):
    """Options of a classification; the names are those of transformers' pipeline."""

    top_k: int | None
    function_to_apply: str | None
    truncation: bool | Truncation | None
    max_length: int | None
    padding: bool | str | None
    batch_size: int | None
    return_all_scores: bool | None


class Classifier:
    """Labels and scores for texts, from one model in this process.

    >>> classify = Classifier()
    >>> classify("A fine film.", top_k=1)[0]["label"]
    'POSITIVE'

    Safe to call from several threads. Pickles as the place of its model, from which the copy loads
    it: of a model from the Hub the commit, of a folder the whole path.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        dtype: Dtype = "float32",
        device: object = None,
        progress: bool = False,
    ) -> None:
        """Load *model*: a folder, a Hub id ``ORG/NAME[@REVISION]``, or None for the embedded one.

        With the *dtype* "int8" it is quicker and nearly as exact. Nobody asks here how nearly:
        ``labelwise compare-int8`` says it, and the command line and the server insist on that.
        *device* is the processor, whether it is left out or given as "cpu" or -1.
        *progress* shows bars on standard error while files come from the Hub.

        Raises:
            BadInput: There is no such *dtype*, or no such *device* here.
            BadModel: It cannot be found, read or run; the message says why.
        """
        check_device(device)
        self.model = Model.load(model, dtype=dtype, progress=progress)
        self._place = self.model.location.fixed()

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"model": self.model.dtype}

    def __setstate__(self, state: dict[str, Any]) -> None:
        model = Model(state["_place"].again(), dtype=state["model"])
        vars(self).update(state, model=model)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the model's logits."""
        return self.model.labels

    def __repr__(self) -> str:
        count = f"{len(self.labels)} label{'s' * (len(self.labels) != 1)}"
        name = one_line(self.model.location.id)  # of a folder: any text
        return f"<{type(self).__name__} [{name}, {count}, {self.model.dtype}]>"

    @overload
    def __call__(  # type: ignore[overload-overlap]  # the first that fits: a string is a collection
        self, inputs: Text | Mapping[str, str | None], **options: Unpack[Options]
    ) -> Scores: ...

    @overload
    def __call__(  # type: ignore[overload-overlap]  # as above
        self, inputs: Collection, **options: Unpack[Options]
    ) -> list[Scores]: ...

    @overload
    def __call__(self, inputs: Iterable[Any], **options: Unpack[Options]) -> Iterator[Scores]: ...

    def __call__(
        self, inputs: object, **options: Unpack[Options]
    ) -> Scores | list[Scores] | Iterator[Scores]:
        """The scores of a text, best first; of many texts, those of each in the same order.

        A text is a string; a pair of texts is a tuple of two, or a mapping with ``text`` and
        ``text_pair``. Many are anything that gives them one by one: for what has a length, as a
        list, a set or a column, the answer is a list. For what has none, as a generator, it is
        an iterator, which takes at most 256 texts before it gives their scores.

        A text longer than the model reads is truncated, pairs longest first, and its scores say
        so (``truncated``).

        Args:
            inputs: One text, or many.
            **options: All may be left out.
                top_k: How many labels to give for each text; all where None.
                function_to_apply: "softmax", "sigmoid" or "none"; the model's own where None.
                truncation: What a text that is too long loses: its end (True, None,
                    "longest_first"), that of one text of a pair ("only_first", "only_second"),
                    or nothing: then it is refused (False, "do_not_truncate").
                max_length: Fewer tokens than the model reads.
                padding, batch_size, return_all_scores: Change nothing; for those who come from
                    transformers.

        Raises:
            BadInput: An argument is of the wrong kind. What is wrong with a text of an iterator
                is raised when its turn comes.
        """
        asked = _Asked.read(options, self.model.function)
        given = read_inputs(inputs)
        if isinstance(given, str | tuple):
            return self._classify([given], asked)[0]
        return self._classify(given, asked) if isinstance(given, list) else self._each(given, asked)

    def _each(self, texts: Iterator[Text], asked: _Asked) -> Iterator[Scores]:
        first = 1
        while some := list(islice(texts, TEXTS_AT_ONCE)):
            yield from self._classify(some, asked, first)
            first += len(some)

    def _classify(self, texts: Sequence[Text], asked: _Asked, first: int = 1) -> list[Scores]:
        encoded = self.model.encode(texts, asked.tokenization, numbers=count(first))
        rows = apply(asked.function, self.model.logits(encoded))
        return [
            Scores(
                rank(row, self.model.labels, asked.top_k),
                length=text.full_length,
                truncated=text.truncated,
            )
            for text, row in zip(encoded, rows, strict=True)
        ]


class _Asked(NamedTuple):
    """The options that change an answer, checked."""

    top_k: int | None
    function: Function
    tokenization: Tokenization

    @classmethod
    def read(cls, options: Options, own: Function) -> Self:
        """*options* for a model whose *own* function is the default.

        Raises:
            BadInput: One is not known, or has a value that it cannot have.
        """
        names = Options.__annotations__
        for name in options:
            if name not in names:
                raise BadInput(f"there is no option {name!r:.40}; there are {', '.join(names)}")
        top_k = read_top_k(options.get("top_k"))
        check_padding(options.get("padding"))
        check_batch_size(options.get("batch_size"))
        check_return_all_scores(options.get("return_all_scores"), top_k)
        return cls(
            top_k=top_k,
            function=read_function(options.get("function_to_apply")) or own,
            tokenization=Tokenization(
                read_truncation(options.get("truncation")),
                max_length=read_max_length(options.get("max_length")),
            ),
        )
