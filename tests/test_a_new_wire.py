"""A wire is one file: everything around a classification works for a toy of fixed width."""

from __future__ import annotations

import pytest

from labelwise.errors import BadInput
from labelwise.server.classify import classification
from labelwise.server.openapi import describe
from labelwise.server.routes import ROUTES
from labelwise.server.wires.wire import Wire
from labelwise.serving.classification import ClassifyRequest
from serving import EMBEDDED, ask, within

WIDTH = 20


def read(body, query, _):
    """Texts of 20 characters each, one after the other."""
    text = body.decode("ascii", "replace")
    if not text or len(text) % WIDTH:
        raise BadInput(f"send texts of {WIDTH} characters each; these are {len(text)}")
    texts = [text[start : start + WIDTH].rstrip() for start in range(0, len(text), WIDTH)]
    return ClassifyRequest(texts, top_k=1, warnings=[f"width; {w} is ignored" for w in query])


def write(_, result):
    return "".join(scores[0].label.ljust(WIDTH) for scores in result.scores).encode()


TEXT = {"text/plain": {"type": "string"}}
FIXED = Wire(name="fixed", summary="Fixed width.", read=read, write=write, body=TEXT, answer=TEXT)
ROUTE = classification(FIXED, "/fixed/{model:path}")
GOOD = b"a delight".ljust(WIDTH) + b"two hours lost".ljust(WIDTH)
LABELS = b"POSITIVE".ljust(WIDTH) + b"NEGATIVE".ljust(WIDTH)


@pytest.mark.parametrize("token", [None, "secret"])
def test_a_new_wire_gets_all_that_is_around_a_classification(token):
    with within(routes=(*ROUTES, ROUTE), access_token=token) as live:
        url, right = f"{live.url}/fixed/{EMBEDDED}", {"authorization": "Bearer secret"}
        first, again = (ask(f"{url}?odd=1", GOOD, headers=right) for _ in range(2))
        anew = ask(url, GOOD, headers=right | {"x-use-cache": "false"})
        assert first.body == again.body == anew.body == LABELS
        assert first.headers["content-type"].startswith("text/plain")
        assert first.headers["x-hf-warning"] == "width; odd is ignored"
        used = [one.headers["x-compute-type"] for one in (first, again, anew)]
        assert used == ["cpu", "cache", "cpu"]
        wrong = ask(url, b"good", headers=right)
        assert (wrong.status, "of 20 characters" in wrong.json["error"]) == (400, True)
        assert ask(url, GOOD).status == (401 if token else 200)
        counted = ask(f"{live.url}/metrics", headers=right).body.decode()
        assert f'{{model="{EMBEDDED}",outcome="400",route="fixed"}} 1.0' in counted
        assert ask(f"{live.url}/openapi.json", headers=right).json == describe((*ROUTES, ROUTE))
    assert "400" in describe((*ROUTES, ROUTE))["paths"]["/fixed/{model}"]["post"]["responses"]
