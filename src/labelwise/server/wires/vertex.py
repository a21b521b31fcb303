"""``POST /vertex`` as text-embeddings-inference has it, for Vertex AI.

Its body is a list of instances, each of which is a body of ``/predict``; its answer a list of
predictions, each of which is an answer of ``/predict``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Annotated, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from labelwise.errors import BadInput
from labelwise.server.wires import tei
from labelwise.server.wires.json_bodies import decode
from labelwise.server.wires.wire import Score, Wire
from labelwise.serving.classification import ClassifyRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labelwise.engine.tokenizer.tokenizer import Text
    from labelwise.serving.classification import ClassifyResult

_ADVICE = {
    "instances": 'instances must be a list, as in [{"inputs": "your text"}]',
    **tei.ADVICE,
}


class VertexQuery(msgspec.Struct):
    """Texts to classify, in the form of Vertex AI. The instances differ in their inputs alone."""

    instances: Annotated[list[tei.PredictQuery], Meta(min_length=1)]


class VertexAnswer(msgspec.Struct):
    """The answer to each instance, in their order."""

    predictions: list[list[Score | list[Score]]]


class _Keys(msgspec.Struct):
    """The keys of an instance that tell that texts are to be ranked."""

    query: msgspec.Raw | UnsetType = UNSET
    texts: msgspec.Raw | UnsetType = UNSET


class _Instances(msgspec.Struct):
    instances: list[_Keys]


@dataclass(slots=True)
class _VertexRequest(ClassifyRequest):
    """The texts of all instances."""

    counts: Sequence[int | None] = ()  # of the texts of each instance; None for a single one


def read(body: bytes, _: Mapping[str, str], max_texts: int) -> ClassifyRequest:
    """The request that *body* makes, of *max_texts* texts at most.

    Raises:
        BadInput: It makes none, or its instances cannot be answered together.
        TooLarge: It has far more values than *max_texts* texts need.
    """
    for keys in decode(body, _Instances, max_texts, _ADVICE).instances:
        if keys.query is not UNSET and keys.texts is not UNSET:
            raise BadInput(
                "an instance has query and texts; only predict is served here, not rerank: send "
                '{"inputs": [["the query", "a text"]]}'
            )
    instances: list[tei.PredictQuery] = decode(body, VertexQuery, max_texts, _ADVICE).instances
    first = instances[0]
    texts: list[Text] = []
    counts: list[int | None] = []
    for instance in instances:
        if (instance.function, instance.tokenization) != (first.function, first.tokenization):
            raise BadInput(
                "instances differ in raw_scores, truncate or truncation_direction; send those that "
                "differ in requests of their own"
            )
        some, single = instance.texts()
        texts += some
        counts.append(None if single else len(some))
    return _VertexRequest(
        texts,
        function=first.function,
        tokenization=first.tokenization,
        fewer_scores=tei.FEWER_SCORES,
        counts=counts,
    )


def write(request: ClassifyRequest, result: ClassifyResult) -> bytes:
    """The scores of *result* as JSON, the answers of each instance of *request* together."""
    counts = cast("_VertexRequest", request).counts
    scores = iter(result.scores)
    predictions = [
        next(scores) if count is None else list(islice(scores, count)) for count in counts
    ]
    return msgspec.json.encode({"predictions": predictions})


WIRE = Wire(
    name="vertex",
    summary="The same as /predict, in the form of Vertex AI.",
    read=read,
    write=write,
    body={"application/json": VertexQuery},
    example={"instances": [{"inputs": "I like you. I love you"}]},
    answer={"application/json": VertexAnswer},
    json_only=True,
    failure=tei.PredictFailure,
    times=tei.TIMES,
)
