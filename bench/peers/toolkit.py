"""transformers' pipeline behind a server that runs one request at a time, in one worker thread.

This is the shape of Hugging Face's own inference toolkit: a queue of one, batches of one.

python toolkit.py FOLDER PORT THREADS
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
from transformers import pipeline

if TYPE_CHECKING:
    from starlette.requests import Request


def application(folder: str) -> Starlette:
    """``POST /`` with ``{"inputs": text, "parameters": {...}}``."""
    classify = pipeline("text-classification", folder, dtype=torch.float32, device="cpu")
    worker, one_at_a_time = ThreadPoolExecutor(1), asyncio.Semaphore(1)

    async def predict(request: Request) -> Response:
        body: dict[str, Any] = orjson.loads(await request.body())
        call = partial(classify, body["inputs"], **body.get("parameters", {}))
        async with one_at_a_time:
            found = await asyncio.get_running_loop().run_in_executor(worker, call)
        return Response(orjson.dumps(found), media_type="application/json")

    return Starlette(routes=[Route("/", predict, methods=["POST"])])


def main() -> None:
    """Serve until told to stop."""
    folder, port, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    uvicorn.run(application(folder), host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
