"""The fleet's worker in Python: the example, with an agent of the harness that does a little and writes down every
execution, as those in Rust do (agents.rs)."""
import json, os, random, re, sys, threading, time

sys.path.insert(0, sys.argv[1])
import worker

EXECUTIONS, TOKEN, GATEWAYS = os.environ["GALLEY_CHAOS_EXECUTIONS"], sys.argv[2], sys.argv[3:]


def orphaned(parent=os.getppid()):
    while os.getppid() == parent:
        # The next call goes to any gateway.
        os.environ["GALLEY_GATEWAY_URL"] = random.choice(GATEWAYS)
        time.sleep(0.3)
    os._exit(1)


def calls(result):
    parts = result if isinstance(result, list) else [result]
    return [part["call"] for part in parts if isinstance(part, dict) and isinstance(part.get("call"), str)]


def scholar(step, cancelled):
    call, text = "%016x" % random.getrandbits(64), json.dumps(step["input"], ensure_ascii=False)
    noted = {
        "call": call,
        "workflow": step["workflowId"],
        "step": step["step"],
        "key": step["effectKey"],
        "at_ms": time.time_ns() // 1_000_000,
        "saw": {name: calls(result) for name, result in step["input"]["results"].items()},
        "heard": [message["content"]["call"] for message in step["inbox"]["messages"]],
        "canaries": sorted(set(re.findall(r"canary-[A-Za-z0-9-]*\.", text))),
    }
    with open(EXECUTIONS, "ab", buffering=0) as file:
        file.write(b"\n" + json.dumps(noted).encode() + b"\n")
    time.sleep((step["input"]["params"] or {}).get("slowMs", 0) / 1000)
    return {"call": call, "step": step["step"], "items": []}


while not os.path.exists(TOKEN):
    time.sleep(0.1)
os.environ["GALLEY_WORKER_TOKEN"] = open(TOKEN).read()
os.environ["GALLEY_GATEWAY_URL"] = GATEWAYS[0]
threading.Thread(target=orphaned, daemon=True).start()
retry = {"maxAttempts": 4, "maxCrashes": 12, "backoffMs": 100, "maxBackoffMs": 1000, "timeoutMs": 15000}
worker.serve("outside", [{"agent": "scholar", "description": "of the fault harness, in Python", "retry": retry}], {"scholar": scholar})
