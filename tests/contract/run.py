"""Starts Galley, fills two workspaces, and lets schemathesis loose on the API
as each of them, with the other's real ids in its hands (hooks.py).

    run.py GALLEY EXAMPLES

Ends with 0 only if every answer was as the API's description says, and nothing
of one workspace was in an answer to the other.
"""

import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import requests

HERE = Path(__file__).parent
WORDS = ("zebra", "walrus")
PATIENCE = 90

# What each check asks is in docs/security.md. Left out: positive_data_acceptance
# (whether a template, an account or an agent exists is not in a schema).
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "ignored_auth",
    "nothing_foreign",
]

# An event stream ends with its workflow, and a workflow that waits for a person
# never does: its routes are asked below, by hand.
ENDLESS = ["watchWorkflow", "followMessages"]

# What takes a token of the deployment: run once more with one.
WIDE = ["createWorkspace", "listWorkspaces", "issueToken", "pauseQueue", "limitQueue", "resumeQueue"]


class Api:
    """The API, as somebody."""

    def __init__(self, url, token):
        self.url, self.token = url, token

    def ask(self, method, path, body=None, expected=range(200, 300), **more):
        headers = {"Authorization": f"Bearer {self.token}", "Idempotency-Key": secrets.token_hex(8)}
        answer = requests.request(method, self.url + path, headers=headers, json=body, timeout=30, **more)
        if answer.status_code not in expected:
            sys.exit(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer

    def get(self, path):
        return self.ask("GET", path).json()

    def post(self, path, body):
        return self.ask("POST", path, body).json()


def until(what, holds):
    ends = time.monotonic() + PATIENCE
    while not (found := holds()):
        if time.monotonic() > ends:
            sys.exit(f"waited {PATIENCE} s in vain until {what}")
        time.sleep(0.05)
    return found


def start(galley, folder):
    """Everything in its roles on private ports; the process and its dev file."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GALLEY_")}
    for name in ("DATABASE_URL", "REDIS_URL"):
        environment.pop(name, None)
    # Thousands of requests of one caller; nothing here is slow on purpose.
    for name in ("WORKSPACE_PER_MINUTE", "CALLER_PER_MINUTE", "UNFINISHED_WORKFLOWS"):
        environment[f"GALLEY_LIMITS_{name}"] = "0"
    environment["GALLEY_OFFLINE_DELAY_MS"] = "0"
    environment["GALLEY_AUDIT_SIGNING_KEY"] = "5a" * 32
    local = ["--api-addr", "127.0.0.1:0", "--preview-addr", "127.0.0.1:0", "--metrics-addr", "off"]
    log = open(folder / "galley.log", "wb")
    process = subprocess.Popen(
        [galley, "dev", "--no-demo", *local], cwd=folder, env=environment,
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )
    file = folder / ".galley" / "dev.json"

    def ready():
        if process.poll() is not None:
            sys.exit(f"galley did not start:\n{(folder / 'galley.log').read_text()}")
        return file.exists() and json.loads(file.read_text())

    return process, until("galley is ready", ready)


def fill(owner, preview, word):
    """A workspace with one of everything; all that is its own holds its word."""
    made = owner.post("/v1/workspaces", {"name": word})
    issue = {"workspaceId": made["id"], "subject": f"{word}_admin", "roles": ["admin"], "ttlSeconds": 3600}
    world = {"word": word, "id": made["id"], "token": owner.post("/v1/tokens", issue)["token"]}
    issue |= {"subject": f"{word}_producer", "roles": ["producer"]}
    world["producer"] = owner.post("/v1/tokens", issue)["token"]
    api = Api(owner.url, world["token"])
    world["key"] = api.post("/v1/keys", {"name": f"{word}_key", "roles": ["producer"], "ttlSeconds": 3600})["key"]["prefix"]
    kept = {"name": f"{word}_template", "steps": [{"name": "strategy", "agent": "strategy"}]}
    api.post("/v1/templates", kept)
    member = requests.post(
        f"{preview}/api/accounts", json={"handle": word, "displayName": word.title()}, timeout=30
    ).json()
    api.post("/v1/accounts", {
        "name": f"{word}_account", "platform": "preview", "contentPlatform": "mastodon",
        "settings": {"url": preview, "endpoint": "idempotent"}, "credential": member["token"],
    })
    brief = {
        "product": f"{word} canary", "goals": ["sell"], "audience": "all", "platforms": ["mastodon"],
        "accounts": [f"{word}_account"],
    }
    api.post("/v1/schedules", {
        "name": f"{word}_schedule", "cron": "0 9 * * *", "submit": {"template": kept["name"], "input": brief},
    })
    fail = {"name": "strategy", "agent": "strategy", "input": {"offline": {"fail": "permanent"}}}
    broken = {"definition": {"name": f"{word}_broken", "steps": [fail]}}
    publish = {"template": "campaign"}
    # One that is out, one that waits, one that is dead.
    for name, what in (("out", publish), ("workflow", publish), ("broken", broken)):
        world[name] = api.post("/v1/workflows", what | {"input": brief})["workflowId"]
    asked = until("two are asked", lambda: (a := api.get("/v1/approvals")["items"]) and len(a) == 2 and a)
    until("a step is dead", lambda: api.get("/v1/dead-letters")["items"])
    for question in asked:
        out = question["workflowId"] == world["out"]
        world["out_post" if out else "post"] = question["postId"]
        world["out_approval" if out else "approval"] = question["id"]
        if out:
            api.post(f"/v1/approvals/{question['id']}/approve", {"contentHash": question["contentHash"]})
    until("a post is out", lambda: api.get(f"/v1/workflows/{world['out']}")["state"] == "succeeded")
    world["cursor"] = api.get("/v1/workflows?limit=1")["nextCursor"]
    return world


def by_hand(owner, mine, theirs):
    """What schemathesis is kept from: streams, and a token that may not read."""
    api = Api(owner.url, mine["token"])
    for own, expected in ((theirs["workflow"], [404]), (theirs["out"], [404]), (mine["out"], [200])):
        told = "application/problem+json" if expected == [404] else "text/event-stream"
        for stream in ("events", "messages/live"):
            answer = api.ask("GET", f"/v1/workflows/{own}/{stream}", expected=expected)
            assert answer.headers["Content-Type"].startswith(told), answer.headers
            assert theirs["word"] not in answer.text, answer.text
    producer = Api(owner.url, mine["producer"])
    for path in ("/v1/audit", "/v1/keys", f"/v1/posts/{theirs['post']}/reject"):
        producer.ask("POST" if "reject" in path else "GET", path, expected=[403])


def untouched(owner, theirs, before):
    """The other workspace is as it was."""
    after = state_of(owner, theirs)
    if after != before:
        sys.exit(f"{theirs['word']} was changed from outside:\n{before}\n{after}")


def state_of(owner, world):
    api = Api(owner.url, world["token"])
    keys = ("id", "name", "prefix", "state", "status", "version", "revokedAt", "removedAt", "taskId", "mode")
    seen = {}
    for path in ("workflows", "posts", "approvals", "dead-letters", "accounts", "schedules", "templates", "keys"):
        items = api.get(f"/v1/{path}")["items"]
        seen[path] = [{key: item[key] for key in keys if key in item} for item in items]
    seen["automation"] = api.get("/v1/automation")
    return seen


def schemathesis(folder, url, token, own, other, examples, include):
    facts = folder / f"{own['word']}.json"
    facts.write_text(json.dumps({"own": own, "other": other, "wide": bool(include)}))
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "GALLEY_CONTRACT": str(facts), "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [
        str(Path(sys.executable).parent / "st"), "run", f"{url}/openapi.json",
        "--header", f"Authorization: Bearer {token}", "--checks", ",".join(CHECKS),
        "--phases", "examples,coverage,fuzzing", "--mode", "all", "--max-examples", str(examples),
        "--seed", "1", "--generation-deterministic", "--no-shrink",
        "--suppress-health-check", "all", "--request-timeout", "30", "--workers", "2",
        "--continue-on-failure", "--warnings", "off",
    ]
    if include:
        command += [part for name in include for part in ("--include-operation-id", name)]
    else:
        command += [part for name in ENDLESS for part in ("--exclude-operation-id", name)]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def main():
    galley, examples = sys.argv[1], int(sys.argv[2])
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="galley-contract-") as folder:
        folder = Path(folder)
        process, dev = start(galley, folder)
        try:
            owner = Api(dev["url"], dev["token"])
            zebra, walrus = (fill(owner, dev["preview"], word) for word in WORDS)
            print(f"ready after {time.monotonic() - began:.0f} s", flush=True)
            failed = []
            for mine, theirs in ((zebra, walrus), (walrus, zebra)):
                by_hand(owner, mine, theirs)
                before = state_of(owner, theirs)
                if schemathesis(folder, owner.url, mine["token"], mine, theirs, examples, []):
                    failed.append(mine["word"])
                untouched(owner, theirs, before)
            issue = {"workspaceId": zebra["id"], "subject": "wide", "roles": ["admin"], "ttlSeconds": 3600, "deployment": True}
            token = owner.post("/v1/tokens", issue)["token"]
            if schemathesis(folder, owner.url, token, zebra, walrus, examples, WIDE):
                failed.append("the deployment")
            owner.ask("GET", "/ready")
            print(f"{'FAILED as ' + ', '.join(failed) if failed else 'passed'} in {time.monotonic() - began:.0f} s")
            return 1 if failed else 0
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
