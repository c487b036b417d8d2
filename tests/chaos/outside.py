"""The fleet's worker in Python: the example, with an agent of the harness that does a little and writes down every
execution, as those in Rust do (agents.rs), and what the calls it pays for cost (bills.rs)."""
import json, os, random, re, sys, threading, time

sys.path.insert(0, sys.argv[1])
import worker

EXECUTIONS, TOKEN, GATEWAYS = os.environ["GALLEY_CHAOS_EXECUTIONS"], sys.argv[2], sys.argv[3:]
BILLS = os.path.join(os.path.dirname(EXECUTIONS), "bills.jsonl")
# The most a call costs, millionths of a US dollar; one of so many answers is lost.
BOUND, LOST = 900, 8


class LostAnswer(Exception):
    """The provider's answer was lost: nobody knows what it cost."""


def append(path, noted):
    with open(path, "ab", buffering=0) as file:  # one write: a kill does not cut it
        file.write(b"\n" + json.dumps(noted).encode() + b"\n")


def bank(step):
    """A provider: it charges in the moment it writes that down, whoever lives to hear of it."""
    time.sleep(random.uniform(0, 0.12))
    micros = random.randint(0, BOUND)
    append(BILLS, {"workspace": step["workspaceId"], "workflow": step["workflowId"], "step": step["step"], "micros": micros})
    time.sleep(random.uniform(0, 0.12))
    if random.randrange(LOST) == 0:
        raise LostAnswer("the provider's answer was lost")
    return None, micros


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
    append(EXECUTIONS, noted)
    orders = step["input"]["params"] or {}
    time.sleep(orders.get("slowMs", 0) / 1000)
    for number in range(orders.get("paid", 0)):
        worker.pay(step, number, "bank", "m", BOUND, lambda: bank(step))
    return {"call": call, "step": step["step"], "items": []}


while not os.path.exists(TOKEN):
    time.sleep(0.1)
os.environ["GALLEY_WORKER_TOKEN"] = open(TOKEN).read()
os.environ["GALLEY_GATEWAY_URL"] = GATEWAYS[0]
threading.Thread(target=orphaned, daemon=True).start()
retry = {"maxAttempts": 4, "maxCrashes": 12, "backoffMs": 100, "maxBackoffMs": 1000, "timeoutMs": 15000}
worker.serve("outside", [{"agent": "scholar", "description": "of the fault harness, in Python", "retry": retry}], {"scholar": scholar})
