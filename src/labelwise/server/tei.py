"""``POST /predict`` as text-embeddings-inference has it, for its clients.

There two strings in a list are one pair, not two texts, so it cannot share a path with the other
routes. A single text has a flat answer, a list of texts a nested one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from labelwise.core.scores import apply, rank
from labelwise.errors import BadInput
from labelwise.server.caller import read_timeout, within
from labelwise.server.front import json_response
from labelwise.server.wire import Parameters, check_size, decode, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from labelwise.engine.text import Text

_Strings = Annotated[list[str], Meta(min_length=1, max_length=2)]  # a text, or a pair


class PredictQuery(msgspec.Struct):
    """Texts to classify, in the form of text-embeddings-inference."""

    inputs: str | Annotated[list[str | _Strings], Meta(min_length=1)]
    raw_scores: bool = False
    truncate: bool | None = None


async def predict(request: Request) -> Response:
    """All labels and scores, best first, of the first model."""
    server = request.app.state.server
    model = server.catalogue.first.model
    seconds = read_timeout(request, server.settings.request_timeout)
    query = decode(await server.bodies.read(request), PredictQuery)
    texts, single = _texts(query)
    settings = server.settings
    check_size(texts, most_texts=settings.max_texts, most_characters=settings.max_characters)
    async with within(request, seconds):
        parameters = Parameters(truncation=query.truncate)
        _, logits = await server.logits(model, texts, parameters, seconds)
    scores = apply("none" if query.raw_scores else model.function, logits)
    answers = [rank(row, model.labels) for row in scores]
    return json_response(write(answers[0] if single else answers))


def _texts(query: PredictQuery) -> tuple[list[Text], bool]:
    """The texts of *query*, and whether they are a single one."""
    inputs = query.inputs
    if isinstance(inputs, str):
        return [inputs], True
    if all(isinstance(item, str) for item in inputs):
        return [_text(inputs)], True
    return [_text(item) for item in inputs], False


def _text(strings: Sequence[str | list[str]]) -> Text:
    """One string, or two, as a text or a pair."""
    first, second, *more = [*strings, None] if len(strings) == 1 else strings
    if more or not isinstance(first, str) or isinstance(second, list):
        raise BadInput(
            "on /predict a list of strings is one text or one pair; several texts are lists of "
            'their own: [["first"], ["second"]]'
        )
    return first if second is None else (first, second)
