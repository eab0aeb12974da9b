"""Asks models behind which official MCP clients are, which answer at `/mcp/agent` (sampling)."""

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from program import Failed, Program

HERE = Path(__file__).resolve().parent
CLIENT, BRIDGE = "the-key-of-the-editor", "the-key-of-the-agents"
SECONDS = 30
TOOLS = [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}}}}]


def configuration():
    """The program's file. A request that nobody answers fails soon."""
    return json.dumps(
        {
            "listen": {"http": ["127.0.0.1:0"]},
            "auth": {"keys": [{"name": "editor", "key": CLIENT, "role": "client"}, {"name": "agents", "key": BRIDGE, "role": "bridge"}]},
            "limits": {"requests_per_minute": 1_000_000, "burst": 1_000_000},
            "timeouts": {"first_chunk": "5s"},
            "audit": {"file": "audit.jsonl"},
            "data_dir": "./data",
        }
    )


def get(base, path):
    request = urllib.request.Request(base + path, headers={"Authorization": f"Bearer {CLIENT}"})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)


def ask(base, model, text, timeout=SECONDS, **more):
    """The status and the body of a chat completion."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    headers = {"Authorization": f"Bearer {CLIENT}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{base}/v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def said(answer):
    status, body = answer
    if status != 200:
        raise Failed(f"status {status}: {body}")
    return body["choices"][0]["message"]["content"]


def expect(seen, wanted, what):
    if seen != wanted:
        raise Failed(f"{what} is {seen!r}, not {wanted!r}")


def until(condition, what, seconds=SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"it does not come to that: {what}")
        time.sleep(0.05)


@contextmanager
def agent(base, name, command, environment):
    """A client that answers for the model `name`, until it is left."""
    command = [str(word) for word in [*command, f"{base}/mcp/agent", "--key", BRIDGE, "--name", name]]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        is_there = lambda: name in {model["id"] for model in get(base, "/v1/models")["data"]}  # noqa: E731
        until(lambda: is_there() or process.poll() is not None, f"{name} is a model")
        if process.poll() is not None:
            raise Failed(f"{name} ended: {process.stderr.read()[-2000:]}")
        yield process
    finally:
        process.kill()
        process.communicate()


def texts(base, name):
    """Twelve requests: more than a call has rounds, and more than one call in time."""
    for number in range(12):
        expect(said(ask(base, name, f"text {number} \u00e9\n")), f"{name}: text {number} \u00e9\n", "answer")
    status, _ = ask(base, name, "streamed", stream=False)
    expect(status, 200, "status")


def tools(base, name):
    status, body = ask(base, name, "what time?", tools=TOOLS)
    expect(status, 200, "status")
    choice = body["choices"][0]
    expect(choice["finish_reason"], "tool_calls", "end")
    call = choice["message"]["tool_calls"][0]
    expect((call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])), ("call-1", "clock", {"zone": "UTC"}), "call")
    messages = [{"role": "user", "content": "what time?"}, choice["message"], {"role": "tool", "tool_call_id": "call-1", "content": "noon"}]
    expect(said(ask(base, name, "", messages=messages, tools=TOOLS)), f"{name}: noon", "answer")


def cancel(base, name, hears):
    """A request that its client gives up is taken back, and the next one is answered. `hears`: the package tells its model."""
    try:
        ask(base, name, "wait", timeout=1)
        raise Failed("the request was answered")
    except (TimeoutError, urllib.error.URLError):
        pass
    heard = lambda: said(ask(base, name, "cancelled"))  # noqa: E731
    if hears:
        # The next request may be there before anybody has noticed that the client left.
        until(lambda: heard() == f"{name}: 1", "the model hears that the request was taken back")
    else:
        expect(heard(), f"{name}: 0", "requests that the model heard to be taken back")


def refuse(base, name, ends):
    """A refused request. `ends`: the package has no way to say so in this revision, ends its call, and the request fails."""
    status, body = ask(base, name, "refuse")
    if ends:
        expect((status, body["error"]["code"] in ("agent_timeout", "agent_lost")), (status, True), f"error {body}")
        expect(status in (502, 504), True, f"status {status}")
    else:
        expect((status, body["choices"][0]["finish_reason"]), (200, "content_filter"), "end")


def two(base, name, command, environment):
    """Two clients at once, with names of their own, which are no models any more once they have left."""
    names = {f"{name}-albatross", f"{name}-bittern"}
    with agent(base, f"{name}-albatross", command, environment), agent(base, f"{name}-bittern", command, environment):
        for number in range(5):
            for each in names:
                expect(said(ask(base, each, f"{number}")), f"{each}: {number}", "answer")
    # One that left between two calls may come back for a minute.
    until(lambda: not names & {model["id"] for model in get(base, "/v1/models")["data"]}, "they are no models", 70)


def run(report, given, folder, environment):
    """All packages, in both eras."""
    older, newer = [sys.executable, "-B", HERE / "agent.py"], [folder.parent / "mcp-2026-venv/bin/python", "-B", HERE / "agent_2026.py"]
    node = ["node", folder / "agent.mjs"]
    # The name, the command, whether the model hears of a cancel, and whether a refusal ends the call.
    agents = [
        ("python-2025", older, False, False),
        ("python-2025-listen", [*older, "--listen"], False, False),
        ("python-2026-legacy", [*newer, "--legacy"], True, False),
        ("python-2026", newer, False, True),
        ("typescript-2025", node, True, False),
        ("typescript-2025-listen", [*node, "--listen"], True, False),
        ("typescript-2026-legacy", [*node, "--package", "2026", "--legacy"], True, False),
        ("typescript-2026", [*node, "--package", "2026"], False, True),
    ]
    with tempfile.TemporaryDirectory(prefix="mlp-sampling-") as home:
        file = Path(home, "config.yaml")
        file.write_text(configuration())
        running = Program(given, home, "--config", str(file))
        base = running.base
        for name, command, hears, ends in agents:
            try:
                with agent(base, name, command, environment) as process:
                    for what, check in (
                        ("text", lambda: texts(base, name)),
                        ("tools", lambda: tools(base, name)),
                        ("cancel", lambda: cancel(base, name, hears)),
                        ("refused", lambda: refuse(base, name, ends)),
                    ):
                        outcome(report, f"sampling, {name}, {what}", check, process)
                outcome(report, f"sampling, {name}, two at once", lambda: two(base, name, command, environment))
            except Failed as failure:
                report.add(False, f"sampling, {name}: {failure}")
        status = running.stop()
        report.add(status == 0, f"exit status of the program with sampling clients: {status}")


def outcome(report, what, check, process=None):
    began = time.monotonic()
    try:
        check()
    except (Failed, OSError, KeyError) as failure:
        more = process.stderr.read()[-1500:] if process and process.poll() is not None else ""
        report.add(False, f"{what}: {type(failure).__name__}: {failure} {more}")
    else:
        report.add(True, f"{what} ({time.monotonic() - began:.1f} s)")
