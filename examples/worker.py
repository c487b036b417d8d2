#!/usr/bin/env python3
"""A complete Galley worker in Python, with nothing but the standard library; docs/workers.md tells the protocol.

    GALLEY_GATEWAY_URL=http://127.0.0.1:8082 GALLEY_WORKER_TOKEN=... python3 worker.py
"""
import http.client, json, os, signal, sys, threading, time, urllib.error, urllib.request


class Over(Exception):
    """The session, or the step, is somebody else's now."""


class NoMoney(Exception):
    """No budget has room for the next call: why, and what it may cost."""


def call(over, path, timeout=30, **body):
    headers = {"Authorization": "Bearer " + os.environ["GALLEY_WORKER_TOKEN"], "Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["GALLEY_GATEWAY_URL"] + "/v1/" + path, json.dumps(body).encode(), headers)
    failed = False
    while not over.is_set():  # every call may be repeated: an answer that was lost is given again
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code in (409, 410):
                raise Over from error
            if error.code == 402:
                raise NoMoney(json.load(error)["detail"], body["boundMicros"]) from error
            if error.code < 500 and error.code != 429:
                sys.exit(error.read().decode())  # a mistake of ours: no repeat cures it
        except (OSError, http.client.HTTPException, ValueError) as error:
            if not failed:
                print(f"{path}: {error}; trying again", file=sys.stderr)
            failed = True
        over.wait(0.5)
    raise Over


def beat(told, over, held, gone):
    pause, fence = told["heartbeatMs"] / 1000, None
    while not over.is_set():
        silent = threading.Timer(told["fenceMs"] / 1000, over.set)  # unheard for too long: stop everything
        silent.daemon = True
        silent.start()
        try:
            gone.update(call(over, "heartbeat", timeout=pause, session=told["session"], holding=list(held))["stop"])
        except Over:
            over.set()
        if fence:
            fence.cancel()
        fence = silent
        over.wait(pause)


def pay(step, number, provider, model, bound, make):
    """A call that costs something: `make()` answers (answer, cost). Its bound is reserved before it, its bill settled after."""
    asked, cost = {"lease": step["lease"], "call": number}, None  # None: nobody can know
    call(threading.Event(), "reserve", provider=provider, model=model, boundMicros=bound, **asked)
    try:
        answer, cost = make()
        return answer
    finally:  # a bill is real, whoever holds the step by now
        call(threading.Event(), "settle", costMicros=cost, **asked)


def attempt(agent, step, cancelled):
    try:
        return "complete", {"output": agent(step, cancelled)}
    except Over:
        raise
    except NoMoney as error:  # it waits for money and goes on by itself; this was no attempt
        why, needed = error.args
        return "fail", {"class": "waiting_budget", "message": why, "retry": "unfunded", "neededMicros": needed}
    except Exception as error:
        return "fail", {"class": type(error).__name__.lower(), "message": str(error)}


def work(session, agents, over, held, gone):
    for step in call(over, "lease", session=session, holding=held)["steps"]:
        lease, began = step["lease"], time.monotonic()
        held.append(lease)
        cancelled = lambda: over.is_set() or lease in gone
        try:
            path, report = attempt(agents[step["agent"]], step, cancelled)
            if not cancelled():  # or nobody waits for it any more
                call(over, path, lease=lease, durationMs=int((time.monotonic() - began) * 1000), **report)
        except Over:
            pass
        held.remove(lease)


def serve(name, offers, agents):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        over, held, gone = threading.Event(), [], set()
        told = call(over, "connect", worker=name, agents=offers, pid=os.getpid())
        threading.Thread(target=beat, args=(told, over, held, gone), daemon=True).start()
        try:
            while True:
                work(told["session"], agents, over, held, gone)
        except Over:
            over.set()  # and begin anew
        except SystemExit:
            call(over, "close", session=told["session"], holding=held)  # what it holds goes back
            raise


def summarise(step, cancelled):
    text = step["input"]["brief"]["text"]
    return {"summary": text.split(". ")[0].rstrip(".") + ".", "words": len(text.split())}


if __name__ == "__main__":
    for name in ("GALLEY_GATEWAY_URL", "GALLEY_WORKER_TOKEN"):
        if not os.environ.get(name):
            sys.exit(f"set {name}; docs/workers.md tells where it comes from")
    if not os.environ["GALLEY_GATEWAY_URL"].startswith(("http://", "https://")):
        sys.exit("GALLEY_GATEWAY_URL is the gateway's address, such as http://127.0.0.1:8082")
    text = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    summary = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}
    offer = {"agent": "summarise", "description": "The first sentence of a text", "outputSchema": summary}
    offer["inputSchema"] = {"type": "object", "properties": {"brief": text}}
    serve("python", [offer], {"summarise": summarise})
