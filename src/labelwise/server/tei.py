"""``POST /predict`` as text-embeddings-inference has it, for its clients.

There two strings in a list are one pair, not two texts, so it cannot share a path with the other
routes. A single text has a flat answer, a list of texts a nested one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from labelwise.errors import BadInput
from labelwise.server.caller import held_bytes, read_timeout, within
from labelwise.server.front import json_response
from labelwise.server.visit import visit_of
from labelwise.server.wire import (
    SCORE_BYTES,
    Parameters,
    check_answer,
    check_size,
    decode,
    write_answer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from labelwise.core.catalogue import Entry
    from labelwise.engine.text import Text

_Strings = Annotated[list[str], Meta(min_length=1, max_length=2)]  # a text, or a pair
_Texts = Annotated[list[_Strings], Meta(min_length=1)]
# The type below cannot tell the two kinds of lists apart, as the schema can: `_texts` does.
_INPUTS = {"oneOf": [msgspec.json.schema(kind) for kind in (str, _Strings, _Texts)]}

# What to send instead of what came, by where it was found.
_ADVICE = {
    "inputs": "inputs must be a string, a list of one or two strings, or a list of such lists",
    "raw_scores": "raw_scores must be true or false",
    "truncate": "truncate must be true, false or null",
}


class PredictQuery(msgspec.Struct):
    """Texts to classify, in the form of text-embeddings-inference."""

    inputs: Annotated[
        str | Annotated[list[str | _Strings], Meta(min_length=1)],
        Meta(extra_json_schema=_INPUTS),
    ]
    raw_scores: bool = False
    truncate: bool | None = None


async def predict(request: Request) -> Response:
    """All labels and scores, best first, of the first model."""
    server = request.app.state.server
    entry: Entry = server.find(request)
    seconds = read_timeout(request, server.settings.request_timeout)
    body = await server.bodies.read(request)
    settings = server.settings
    async with within(request, seconds):
        with server.bodies.hold(len(body)):
            reading = partial(decode, body, PredictQuery, settings.max_texts, _ADVICE)
            query = await server.aside.run(len(body), reading)
            del body, reading
        texts, single = _texts(query)
        check_size(texts, most_texts=settings.max_texts, most_characters=settings.max_characters)
        count = check_answer(len(texts), len(entry.model.labels), None, " on the path /")
        truncation, raw = Parameters(truncation=query.truncate).cut, query.raw_scores
        with server.bodies.hold(held_bytes(texts)):
            rows = server.inference.rows(entry, texts, seconds, truncation=truncation)
            del query, texts  # they are let go as soon as they are ids
            found = await rows
        function = "none" if raw else entry.model.function
        labels = entry.model.labels
        writing = partial(write_answer, found.rows, function, labels, None, is_flat=single)
        scores, content = await server.aside.run(count * SCORE_BYTES, writing)
    visit = visit_of(request)
    visit.found, visit.scores = found, scores
    return json_response(content)


def _texts(query: PredictQuery) -> tuple[list[Text], bool]:
    """The texts of *query*, and whether they are a single one.

    Raises:
        BadInput: They are strings, but more than a pair has, or have lists among them.
    """
    inputs = query.inputs
    if isinstance(inputs, str):
        return [inputs], True
    strings = [item for item in inputs if isinstance(item, str)]
    if len(strings) == len(inputs) <= 2:
        return [_text(strings)], True
    if strings:
        raise BadInput(
            "on /predict a list of strings is one text or one pair; several texts are lists of "
            'their own: [["first"], ["second"]]'
        )
    return [_text(item) for item in inputs], False


def _text(strings: Sequence[str]) -> Text:
    """One string, or two, as a text or a pair."""
    return strings[0] if len(strings) == 1 else (strings[0], strings[1])
