"""Hugging Face's text-classification call: its bodies, its parameters, its answers.

The types here decode requests, and the same types are the schemas of ``/openapi.json``.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from labelwise.engine.tokenizer.tokenizer import Text, Tokenization, Truncation
from labelwise.errors import BadInput
from labelwise.models.parameters import ADVICE, read_truncation
from labelwise.models.scores import Function
from labelwise.server.wires.json_bodies import Whole, as_text, decode, decoder, shown
from labelwise.server.wires.wire import ANSWERS, Wire, encode
from labelwise.serving.classification import ClassifyRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    """A text, with a second one where the model compares two."""

    text: str
    text_pair: str | None = None


class Parameters(msgspec.Struct):
    """Parameters of a classification. A parameter that is null or absent has its default."""

    function_to_apply: Annotated[
        Function | None,
        Meta(description="From logits to scores. Default: the model's own function."),
    ] = None
    top_k: Annotated[
        Whole | None,
        Meta(description="The most labels in the answer, the best first. Default: all."),
    ] = None
    truncation: Annotated[
        bool | Truncation | None,
        Meta(
            description="What a text that is longer than the model reads loses: its end (true, the "
            "default), that of one text of a pair, or nothing: then the request is refused."
        ),
    ] = None
    max_length: Annotated[
        Whole | None,
        Meta(description="Fewer tokens than the model reads."),
    ] = None

    @property
    def tokenization(self) -> Tokenization:
        """The way in which texts become tokens."""
        return Tokenization(read_truncation(self.truncation), max_length=self.max_length)


Item = str | Pair | Annotated[list[str], Meta(min_length=2, max_length=2)]
Items = Annotated[list[Item], Meta(min_length=1)]


class Query(msgspec.Struct):
    """Texts to classify: one, or a list; each a string or a pair."""

    inputs: Annotated[
        str | Pair | Items,
        Meta(description="A text, a pair of texts, or a list of them."),
    ]
    parameters: Parameters | None = None
    options: Annotated[
        msgspec.Raw | UnsetType,  # nothing of it is made into objects, whatever it is
        Meta(description="use_cache: false computes the answer anew; all else is ignored."),
    ] = UNSET

    @property
    def bypass_cache(self) -> bool:
        """Whether the answer is to be computed even if it is known."""
        if self.options is UNSET:
            return False
        try:
            return bytes(decoder(_Options).decode(self.options).use_cache) == b"false"
        except msgspec.DecodeError:
            return False

    @property
    def texts(self) -> list[Text]:
        """All texts, in the order of their answers."""
        items = self.inputs if isinstance(self.inputs, list) else [self.inputs]
        return [_text(item) for item in items]

    @property
    def is_single(self) -> bool:
        """Whether the inputs are one text, not a list."""
        return not isinstance(self.inputs, list)


class _Received(Query):
    """A query as it comes, with the parameters that stand beside `parameters` by mistake."""

    function_to_apply: msgspec.Raw | UnsetType = UNSET
    top_k: msgspec.Raw | UnsetType = UNSET
    truncation: msgspec.Raw | UnsetType = UNSET
    max_length: msgspec.Raw | UnsetType = UNSET


class _Options(msgspec.Struct):
    """The one option that counts."""

    use_cache: msgspec.Raw = msgspec.Raw(b"true")


class _Names(msgspec.Struct):
    """The names of the parameters that came, known or not."""

    parameters: dict[str, msgspec.Raw] | UnsetType | None = UNSET


_Body = _Received | str | Items
_KNOWN = Parameters.__struct_fields__

# The inputs and parameters of other tasks, whose callers would take labels for their own answer.
_OF_OTHER_TASKS = {
    name: f"{name} belongs to {task}, and this server does text-classification: send inputs, "
    f"with none or some of the parameters {', '.join(_KNOWN)}"
    for task, names in {
        "zero-shot-classification": "candidate_labels hypothesis_template multi_label",
        "token-classification": "aggregation_strategy ignore_labels stride",
        "fill-mask": "targets",
        "question-answering": "question context align_to_words doc_stride max_answer_len "
        "max_question_len max_seq_len handle_impossible_answer",
        "table-question-answering": "table query sequential",
        "sentence-similarity": "source_sentence sentences",
        "conversational": "past_user_inputs generated_responses",
        "summarization or translation": "generate_parameters clean_up_tokenization_spaces",
        "translation": "src_lang tgt_lang",
        "text-generation": "max_new_tokens min_new_tokens do_sample temperature top_p typical_p "
        "return_full_text repetition_penalty frequency_penalty best_of stop",
        "visual-question-answering": "image",
    }.items()
    for name in names.split()
}
# What to send instead of what came, by where it was found.
_ADVICE = {
    "inputs": "inputs must be a string, an object with text and text_pair, or a list of them",
    **ADVICE,
    "parameters": "parameters must be an object",
    **_OF_OTHER_TASKS,
}


def read(body: bytes, query: Mapping[str, str], max_texts: int) -> ClassifyRequest:
    """The request that *body* and the *query* of its URL make, of *max_texts* texts at most.

    Raises:
        BadInput: They make none.
        TooLarge: The body has far more values than *max_texts* texts need.
    """
    flat = query.get("flat", "false")
    if flat not in {"true", "false"}:
        raise BadInput("the query parameter flat must be true or false")
    asked, warnings = read_query(body, max_texts)
    parameters = asked.parameters or Parameters()
    return ClassifyRequest(
        asked.texts,
        flat=flat == "true" and asked.is_single,
        function=parameters.function_to_apply,
        top_k=parameters.top_k,
        tokenization=parameters.tokenization,
        bypass_cache=asked.bypass_cache,
        warnings=warnings,
    )


def read_query(body: bytes, max_texts: int) -> tuple[Query, list[str]]:
    """The query in *body*, and warnings about the parameters that were ignored.

    A body that begins with a brace, a bracket or a quotation mark is JSON; any other is the text.

    Raises:
        BadInput: It is neither JSON nor text in UTF-8, or not a query.
        TooLarge: It has far more values than *max_texts* need.
    """
    body = body.removeprefix(codecs.BOM_UTF8)
    stripped = body.strip()
    if stripped in {b"", b"null"}:
        came = "null" if stripped else "empty"
        raise BadInput(f'the body is {came}; send {{"inputs": "your text"}}')
    if stripped[:1] not in b'{["':
        return Query(as_text(body)), []
    query = decode(body, _Body, max_texts, _ADVICE)
    if not isinstance(query, _Received):
        return Query(query), []
    return query, [*_unknown(query, body, max_texts), *_misplaced(query)]


def _unknown(query: Query, body: bytes, max_texts: int) -> Iterator[str]:
    """Warnings about parameters in *body*, the JSON of *query*, that are not known.

    Raises:
        BadInput: One belongs to another task.
    """
    names = None
    if query.parameters is not None:
        names = decode(body, _Names, max_texts, _ADVICE).parameters
    unknown = [name for name in names or () if name not in _KNOWN]
    for name in unknown:
        if name in _OF_OTHER_TASKS:
            raise BadInput(_OF_OTHER_TASKS[name])
    for name in unknown[:10]:
        yield f"parameters; {shown(name)} is unknown and was ignored"


def _misplaced(query: _Received) -> Iterator[str]:
    """Warnings about parameters that stand beside `parameters`."""
    for name in _KNOWN:
        if getattr(query, name) is not UNSET:
            yield f"parameters; {name} was ignored: it belongs in the object parameters"


def _text(item: Item) -> Text:
    if isinstance(item, str):
        return item
    if isinstance(item, list):
        return (item[0], item[1])
    return item.text if item.text_pair is None else (item.text, item.text_pair)


# A text that may come bare: behind its blanks something begins that is no JSON.
_BARE = r"""^[ \t-\r]*[^ \t-\r{\["\ufeff]"""
_NO_JSON_TEXT = {
    "type": ["number", "boolean"],
    "description": "Read as text, digit by digit.",
}

WIRE = Wire(
    name="classify",
    summary="Labels and scores for the texts of a request, best first.",
    read=read,
    write=encode,
    body={
        "application/json": (Query, str, Items, _NO_JSON_TEXT),
        "text/plain": {"type": "string", "pattern": _BARE},
    },
    example={"inputs": "I like you. I love you", "parameters": {"top_k": 1}},
    answer=ANSWERS,
    parameters=[
        {
            "name": "flat",
            "in": "query",
            "description": "Answer a single text with a flat list, as the published page has it.",
            "schema": {"type": "boolean", "default": False},
        }
    ],
)
