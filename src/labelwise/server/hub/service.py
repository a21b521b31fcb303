"""Look-ups of the service itself: its task, its caller, and the state of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labelwise.server.hub.asked import TASK, find_model
from labelwise.server.hub.facts import library_of
from labelwise.server.observe.record import record_of
from labelwise.server.responses import json_response
from labelwise.server.state import server_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


async def list_tasks(request: Request) -> Response:
    """The one task of this server, and its models; the first is the recommended one."""
    entries = server_of(request).models(request)
    task = {
        "id": TASK,
        "label": "Text Classification",
        "widgetModels": [entry.id for entry in entries[:1]],
        "models": [
            {"id": entry.id, "description": entry.listing.description or "Served here."}
            for entry in entries
        ],
    }
    return json_response({TASK: task})


async def who_am_i(request: Request) -> Response:
    """The caller: anybody, or the holder of the access token."""
    name = record_of(request).caller.name
    access_token = {"displayName": name, "role": "read"}
    return json_response(
        {
            "type": "user",
            "id": name,
            "name": name,
            "fullname": name,
            "email": None,
            "emailVerified": False,
            "canPay": False,
            "isPro": False,
            "periodEnd": None,
            "avatarUrl": "",
            "orgs": [],
            "auth": {"type": "access_token", "accessToken": access_token, "permissions": []},
        }
    )


async def auth_check(request: Request) -> Response:
    """Whether the caller may use a model: an answer, or the reason why not."""
    return json_response({"id": find_model(request).id})


async def model_status(request: Request) -> Response:
    """The state of a model, as old clients ask for it: loaded."""
    entry = find_model(request)
    return json_response(
        {
            "loaded": True,
            "state": "Loaded",
            "compute_type": entry.model.device,
            "framework": library_of(entry),
        }
    )


async def list_framework(request: Request) -> Response:
    """The models of one library, as old clients ask for them."""
    asked = request.path_params["framework"]
    found = [one for one in server_of(request).models(request) if library_of(one) == asked]
    return json_response([{"model_id": entry.id, "task": TASK} for entry in found])
