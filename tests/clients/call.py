"""What one release of huggingface_hub makes of Labelwise: its calls and their outcomes, as JSON.

    HF_ENDPOINT=<guarded> python call.py '{"open": URL, "guarded": URL, "full": URL, ...}'

Runs in an environment of the client's own, with nothing else of this project. ``open`` lets
everybody in, ``guarded`` wants the access token, and ``full`` takes no text for now.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import AsyncInferenceClient, HfApi, InferenceClient

AT = json.loads(sys.argv[1])
TEXT, LONG, MODEL, ACCESS_TOKEN = AT["text"], AT["long"], AT["model"], AT["access_token"]
OPEN, GUARDED, FULL = AT["open"], AT["guarded"], AT["full"]
NAME = MODEL.partition("/")[2]
ROUTER = "router.huggingface.co"


def now(text: Any = TEXT, *, top_k=None, function_to_apply=None, **client: Any):
    """A call of a client that is made for it."""

    def call():
        return InferenceClient(**client).text_classification(
            text, top_k=top_k, function_to_apply=function_to_apply
        )

    return call


def later(*, times: int = 1, **client: Any):
    """As `now`, of the client for asyncio: so many calls at once, and the answer to the last."""

    async def calls():
        async with AsyncInferenceClient(**client) as asked:
            answers = [asked.text_classification(TEXT) for _ in range(times)]
            return (await asyncio.gather(*answers))[-1]

    return lambda: asyncio.run(calls())


def endpoint(**client: Any) -> InferenceClient:
    """A client that asks a server for its health: it does with the provider alone."""
    return InferenceClient(provider="hf-inference", **client)


def listed(**asked: Any):
    return lambda: [model.id for model in HfApi().list_models(**asked)]


# Every way to ask for the same.
PLAIN = {
    "url as model": now(model=OPEN),
    "url as base_url": now(base_url=OPEN),
    "url of a model": now(model=f"{OPEN}/models/{MODEL}"),
    "url and access token": now(model=GUARDED, token=ACCESS_TOKEN),
    "url and api_key": now(base_url=GUARDED, api_key=ACCESS_TOKEN),
    "softmax": now(model=OPEN, function_to_apply="softmax"),
    "async": later(model=OPEN),
    "async, base_url": later(base_url=OPEN),
    "async, access token": later(model=GUARDED, token=ACCESS_TOKEN),
    "async, eight at once": later(model=OPEN, times=8),
}
OTHER = {
    "top_k": now(model=OPEN, top_k=1),
    "sigmoid": now(model=OPEN, function_to_apply="sigmoid"),
    "none": now(model=OPEN, function_to_apply="none"),
    "pair": now({"text": TEXT, "text_pair": TEXT}, model=OPEN),
    "long": now(LONG, model=OPEN),
    "bad parameter": now(model=OPEN, function_to_apply="default"),
    "no text": now([], model=OPEN),
    "no access token": now(model=GUARDED),
    "wrong access token": now(model=GUARDED, token="wrong"),  # noqa: S106
    "wrong access token, async": later(model=GUARDED, token="wrong"),  # noqa: S106
    "unknown model": now(model=f"{OPEN}/models/org/nope"),
    "too large": now("a" * 20_000_000, model=OPEN),
    "too many": now(["a"] * 1025, model=OPEN),
    "busy": now(model=FULL),
    "busy, async": later(model=FULL),
}
# By the name of the model: the client goes to the router then.
PLAIN_BY_ID = {
    "id": now(provider="hf-inference", model=MODEL, token=ACCESS_TOKEN),
    "id, provider left out": now(model=MODEL, token=ACCESS_TOKEN),
    "id without namespace": now(provider="hf-inference", model=NAME, token=ACCESS_TOKEN),
    "no model": now(provider="hf-inference", token=ACCESS_TOKEN),
}
# Of releases whose transport for asyncio can be replaced.
PLAIN_BY_ID_ASYNC = {
    "async, id": later(provider="hf-inference", model=MODEL, token=ACCESS_TOKEN),
    "async, id, provider left out": later(model=MODEL, token=ACCESS_TOKEN),
}
OTHER_BY_ID = {"id, no access token": now(model=MODEL)}
LOOKUPS = {
    "unknown id": now(model="org/nope", token=ACCESS_TOKEN),
    "health": endpoint(model=OPEN).health_check,
    "info": endpoint(model=GUARDED, token=ACCESS_TOKEN).get_endpoint_info,
    "model_info": lambda: vars(HfApi().model_info(MODEL)),
    "model_info without namespace": lambda: vars(HfApi().model_info(NAME)),
    "model_info, expanded": lambda: vars(HfApi().model_info(MODEL, expand=["inference"])),
    "model_info of unknown": lambda: HfApi().model_info("org/nope"),
    "list_models": listed(
        pipeline_tag="text-classification", inference="warm", sort="trending_score", limit=5
    ),
    "list_models, one": listed(limit=1),
    "list_models, search": listed(search="second"),
    "whoami": HfApi(token=ACCESS_TOKEN).whoami,
    "whoami, wrong access token": HfApi(token="wrong").whoami,  # noqa: S106
}


def lead_here() -> bool:
    """Lead what goes to the router to the guarded server; whether asyncio's calls are led too."""
    if hasattr(huggingface_hub, "configure_http_backend"):
        _lead_requests()
        return False
    _lead_httpx()
    return True


def _lead_httpx() -> None:
    try:
        import httpx2 as httpx  # noqa: PLC0415 - the newest releases
    except ImportError:
        import httpx  # noqa: PLC0415
    to, usual = urlsplit(GUARDED), {"follow_redirects": True, "timeout": None}

    def led(request):
        if request.url.host == ROUTER:
            request.url = request.url.copy_with(scheme="http", host=to.hostname, port=to.port)
            request.headers["host"] = to.netloc
        return request

    class Transport(httpx.HTTPTransport):
        def handle_request(self, request):
            return super().handle_request(led(request))

    class AsyncTransport(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            return await super().handle_async_request(led(request))

    huggingface_hub.set_client_factory(lambda: httpx.Client(transport=Transport(), **usual))
    huggingface_hub.set_async_client_factory(
        lambda: httpx.AsyncClient(transport=AsyncTransport(), **usual)
    )


def _lead_requests() -> None:
    import requests  # noqa: PLC0415 - only the older releases have it

    class Adapter(requests.adapters.HTTPAdapter):
        def send(self, request, **how):
            request.url = request.url.replace(f"https://{ROUTER}", GUARDED)
            return super().send(request, **how)

    def session():
        made = requests.Session()
        made.mount("https://", Adapter())
        return made

    huggingface_hub.configure_http_backend(session)


class Notes(logging.Handler):
    """What the client logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        logging.getLogger("huggingface_hub").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def outcomes(calls) -> dict[str, dict[str, Any]]:
    """By name, what each call gives, or what its user is told."""
    return {name: _outcome(call) for name, call in calls.items()}


def _outcome(call) -> dict[str, Any]:
    notes.lines = []
    try:
        return {"value": call(), "logged": notes.lines}
    except Exception as error:  # noqa: BLE001 - it is what the test wants to see
        response = getattr(error, "response", None)
        return {
            "error": type(error).__name__,
            "message": str(error),
            "status": getattr(response, "status_code", getattr(error, "status", None)),
            "request_id": getattr(error, "request_id", None),
        }


notes = Notes()
plain, other = outcomes(PLAIN), outcomes(OTHER)
if lead_here():
    plain |= outcomes(PLAIN_BY_ID_ASYNC)
plain |= outcomes(PLAIN_BY_ID)
other |= outcomes(OTHER_BY_ID)
found = {
    "version": huggingface_hub.__version__,
    "plain": plain,
    "other": other,
    "lookups": outcomes(LOOKUPS),
}
print(json.dumps(found, default=str))  # noqa: T201
