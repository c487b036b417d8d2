"""What schemathesis is told about two tenants.

Some of its requests get a real id in place of the one it made up: the caller's
own, so that handlers are reached, or the other tenant's. Which, follows from
the request itself, so that a run can be repeated. A check of ours then looks
through every answer for what is the other tenant's.
"""

import json
import os
import zlib
from pathlib import Path

import schemathesis
from schemathesis.core.parameters import ParameterLocation

FACTS = json.loads(Path(os.environ["GALLEY_CONTRACT"]).read_text())
OWN, OTHER = FACTS["own"], FACTS["other"]


def ids(world, path):
    """The real values of a path's parameter, by what it is about."""
    about = path.split("/")[2]
    word = world["word"]
    return {
        "workflows": [world["workflow"], world["out"], world["broken"]],
        "why": [world["workflow"], world["out"], world["broken"], f"{world['broken']}.strategy"],
        "tasks": [f"{world['out']}.strategy", f"{world['broken']}.strategy"],
        "dead-letters": [f"{world['broken']}.strategy"],
        "posts": [world["post"], world["out_post"]],
        "approvals": [world["approval"], world["out_approval"]],
        "templates": [f"{word}_template"],
        "accounts": [f"{word}_account"],
        "schedules": [f"{word}_schedule"],
        "keys": [world["key"]],
        "queues": ["strategy", "content_creator"],
    }.get(about, [])


def names(world):
    """What an answer about a workspace would hold."""
    alone = ("id", "workflow", "out", "broken", "post", "out_post", "approval", "out_approval", "key", "token")
    return [world["word"], *(world[name] for name in alone)]


def made_up(case, location):
    """Whether a part of a request is an ordinary one that may be replaced."""
    return not (case.meta and case.meta.is_negative_at(location))


@schemathesis.hook
def before_call(context, case, kwargs):
    parameters, path = case.path_parameters or {}, case.operation.path
    dice = zlib.crc32(repr((case.method, path, parameters, case.query, case.body)).encode())
    world = (OWN, OTHER, OTHER, None)[dice % 4]
    if world is None or path.count("/") < 2:
        return
    pick = dice >> 3
    if parameters and made_up(case, ParameterLocation.PATH) and (known := ids(world, path)):
        case.path_parameters = {name: known[pick % len(known)] for name in parameters}
    if case.query and made_up(case, ParameterLocation.QUERY):
        for name, value in (("workflow", world["out"]), ("cursor", world["cursor"])):
            if name in case.query:
                case.query[name] = value
    if isinstance(case.body, dict) and made_up(case, ParameterLocation.BODY):
        if case.body.get("workspaceId"):
            case.body["workspaceId"] = world["id"]
        if "workflow" in case.body:
            case.body["workflow"] = world["broken"]


@schemathesis.check
def nothing_foreign(ctx, response, case):
    if FACTS["wide"]:
        return
    request = response.request
    sent = f"{request.url} {request.body!r}"
    told = response.text + str(response.headers)
    # The audit log repeats what its own people asked for before.
    known = names(OTHER) if "/audit" not in case.operation.path else [f"{OTHER['word']} canary", OTHER["token"]]
    for name in known:
        # Problems repeat what they were asked about.
        if name not in sent and name in told:
            raise AssertionError(f"the answer holds {name}, which is {OTHER['word']}'s")
    reached = case.path_parameters and any(
        value in ids(OTHER, case.operation.path) for value in case.path_parameters.values()
    )
    shared = case.operation.path.startswith("/v1/queues")
    if isinstance(case.body, dict) and case.body.get("workspaceId") == OTHER["id"]:
        reached = True
    if reached and not shared and response.status_code < 400:
        raise AssertionError(f"{response.status_code} for something of {OTHER['word']}'s")
