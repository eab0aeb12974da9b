"""What happens when a client or an agent goes away, and what the program writes down."""
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import contract
import ollama
import openai
from harness import BRIDGE_KEY, CLIENT_KEY, METERED_KEY, MODEL, OPERATOR_KEY, check, eventually, expect, raises, require, user
from program import Failed
from scripted_agent import ScriptedAgent

WITHIN = 0.1
"""Seconds in which an agent must hear of a client that left, and a client of an agent that died. The least of a few tries counts: a busy
machine can delay the measuring itself."""


def least(s, name, measure, tries=5):
    """Measures up to `tries` times until one is within the limit."""
    seconds = min_seconds = None
    for _ in range(tries):
        seconds = measure()
        min_seconds = seconds if min_seconds is None else min(seconds, min_seconds)
        if min_seconds <= WITHIN:
            break
    s.measured[name] = f"{max(min_seconds, 0) * 1000:.1f} ms"
    require(min_seconds <= WITHIN, f"{name} took {min_seconds * 1000:.0f} ms, more than {WITHIN * 1000:.0f} ms, {tries} times")


def leaves(s, begin):
    """Begins a request, leaves it, and returns the seconds until the agent heard of it."""
    before = len(s.agent.invocations)
    leave = begin()
    id = s.agent.wait(lambda: s.agent.invocations[before:] and s.agent.invocations[-1]["id"], "an invocation")
    left = time.monotonic()
    leave()
    at, reason = s.agent.cancelled(id)
    expect(reason, "client_disconnected", "reason")
    # Frames keep their order: after the next answer, everything that belongs to this exchange has arrived.
    s.openai.chat.completions.create(model=MODEL, messages=user("say:x"))
    expect([c[1] for c in s.agent.cancels].count(id), 1, "number of model_cancel")
    return at - left


def chat_stream(s, prompt):
    client = s.openai
    stream = client.chat.completions.create(model=MODEL, messages=user(prompt), stream=True)
    chunks = iter(stream)
    for chunk in chunks:
        if chunk.choices[0].delta.content:
            break
    return stream.close


@check
def client_leaves_a_busy_stream(s):
    """a client that leaves a busy stream leads to one model_cancel within 100 ms"""
    least(s, "client left a busy stream, agent told", lambda: leaves(s, lambda: chat_stream(s, "chunks:1000000:1")))


@check
def client_leaves_a_silent_stream(s):
    """a client that leaves a silent stream leads to one model_cancel within 100 ms"""
    least(s, "client left a silent stream, agent told", lambda: leaves(s, lambda: chat_stream(s, "pause")))


@check
def client_leaves_before_the_first_token(s):
    """a client that leaves before the first token leads to one model_cancel within 100 ms, streamed or not"""
    def begin(stream):
        import httpx
        client = httpx.Client()
        thread = threading.Thread(target=lambda: request(client, stream), daemon=True)
        thread.start()
        sockets = lambda: [c for c in client._transport._pool.connections]
        return lambda: close(sockets())

    def request(client, stream):
        import httpx
        try:
            client.post(f"{s.program.base}/v1/chat/completions", headers={"Authorization": f"Bearer {CLIENT_KEY}"},
                        json={"model": MODEL, "messages": user("hang"), "stream": stream}, timeout=30)
        except (httpx.HTTPError, OSError, RuntimeError):
            pass

    def close(connections):
        import socket
        for connection in connections:
            connection._connection._network_stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)

    for stream in (True, False):
        least(s, f"client left before the first token (stream={stream}), agent told", lambda: leaves(s, lambda: begin(stream)))


@check
def agent_dies(s):
    """an agent killed in mid-stream: each client gets an error event within 100 ms, and the stream ends"""
    def once():
        agent = ScriptedAgent(s.program.websocket, BRIDGE_KEY, "mortal")
        ends, ready = [], [threading.Event() for _ in range(4)]

        def read(number):
            try:
                if number % 2:
                    for chunk in s.openai.chat.completions.create(model="mortal", messages=user("pause"), stream=True):
                        if chunk.choices[0].delta.content:
                            ready[number].set()
                else:
                    for part in s.ollama.chat(model="mortal", messages=user("pause"), stream=True):
                        if part.message.content:
                            ready[number].set()
                ends.append((time.monotonic(), "ended without an error"))
            except (openai.APIError, ollama.ResponseError) as error:
                ends.append((time.monotonic(), f"{type(error).__name__}: {error}"))

        threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(4)]
        for thread in threads:
            thread.start()
        for event in ready:
            require(event.wait(10), f"no first chunk; ends {ends}")
        killed = time.monotonic()
        agent.kill()
        for thread in threads:
            thread.join(10)
            require(not thread.is_alive(), "a stream did not end within 10 s of the agent's death")
        expect(sorted({what.split(":")[0] for _, what in ends}), ["APIError", "ResponseError"], f"exceptions ({ends})")
        require(not agent.faults, f"frames against the schema: {agent.faults}")
        return max(at for at, _ in ends) - killed

    least(s, "agent died, four clients told", once)
    error = raises(openai.InternalServerError, lambda: s.openai.chat.completions.create(model="mortal", messages=user("say:x")))
    expect((error.status_code, error.code), (503, "no_agent"), "status and code when the model's agent is gone")


@check
def agent_dies_before_the_first_token(s):
    """an agent killed before the first token: 502 agent_lost"""
    agent = ScriptedAgent(s.program.websocket, BRIDGE_KEY, "mortal-2")
    threading.Thread(target=lambda: agent.wait(lambda: agent.invocations, "an invocation") and agent.kill(), daemon=True).start()
    error = raises(openai.InternalServerError, lambda: s.openai.chat.completions.create(model="mortal-2", messages=user("hang")))
    expect((error.status_code, error.code), (502, "agent_lost"), "status and code")


@check
def session_ends(s):
    """a session that is revoked in mid-stream ends its streams and cancels at the agent"""
    agent = ScriptedAgent(s.program.websocket, BRIDGE_KEY, "short-lived")
    session = agent.session["session_id"]
    stream = s.openai.chat.completions.create(model="short-lived", messages=user("pause"), stream=True)
    next(iter(stream))
    status, _, body = s.request("POST", "/control/revoke", {"session_id": session}, OPERATOR_KEY)
    expect((status, json.loads(body).get("status")), (200, "revoked"), f"status and state ({body})")
    raises(openai.APIError, lambda: list(stream))
    expect(agent.cancelled(agent.last()["id"])[1], "session_ended", "reason")
    expect(agent.statuses, [("revoked", "revoked")], "session_status at the agent")
    require(not agent.faults, f"frames against the schema: {agent.faults}")
    expect(s.request("POST", "/control/approve", {"session_id": session}, OPERATOR_KEY)[0], 409, "status of approve afterwards")
    expect(s.request("POST", "/control/revoke", {"session_id": "no-such"}, OPERATOR_KEY)[0], 404, "status for an unknown session")
    agent.close()


@check
def sessions(s):
    """the list of sessions is for bridges and operators, and holds no token"""
    expect(s.request("GET", "/control/sessions")[0], 403, "status for a client's key")
    for key in (BRIDGE_KEY, OPERATOR_KEY):
        status, _, body = s.request("GET", "/control/sessions", key=key)
        listed = json.loads(body)
        mine = next((entry for entry in listed["sessions"] if entry["session_id"] == s.agent.session["session_id"]), None)
        require(status == 200 and mine, f"{status} {body}")
        expect((mine["status"], mine["models"], mine["in_flight"]), ("active", [MODEL], 0), "entry")
        require(s.agent.session["session_token"].encode() not in body, "a session token is in the list")
    expect(s.request("GET", "/control/sessions", key=None)[0], 401, "status without a key")


@check
def pinned_session(s):
    """X-MCP-Session picks a session, and 404 when it cannot"""
    body = {"model": MODEL, "messages": user("say:x")}
    session = s.agent.session["session_id"]
    status, headers, _ = s.request("POST", "/v1/chat/completions", body, **{"X-MCP-Session": session})
    expect((status, headers["X-Session-ID"]), (200, session), "status and X-Session-ID")
    expect(s.request("POST", "/v1/chat/completions", body, **{"X-MCP-Session": "no-such"})[0], 404, "status for an unknown session")


@check
def registration_by_http(s):
    """POST /control/register gives a token with which an agent connects without register; a newer link replaces it"""
    status, _, body = s.request("POST", "/control/register", {"agent_id": "http-agent", "models": ["by-http"]}, BRIDGE_KEY)
    registered = json.loads(body)
    expect((status, registered["registered"], registered["status"]), (200, registered["session_id"], "active"), f"answer {body}")
    require(not contract.fault("from_provider", {"type": "registered", **registered}), f"answer: {body}")
    again = {"agent_id": "http-agent", "session_id": registered["session_id"], "session_token": registered["session_token"], "models": ["by-http"]}
    expect(s.request("POST", "/control/register", again, BRIDGE_KEY)[0], 200, "again, as a bridge that was started anew")
    other = {"agent_id": "x", "session_token": registered["session_token"]}
    expect(s.request("POST", "/control/register", other, BRIDGE_KEY)[0], 409, "another session with that token")
    status, _, body = s.request("POST", "/control/register", {"models": []}, BRIDGE_KEY)
    require(status == 400 and b"agent_id" in body, f"without agent_id: {status} {body}")
    agents = [ScriptedAgent(s.program.websocket, registered["session_token"], "by-http", session=registered)]
    eventually(lambda: "by-http" in [m.id for m in s.openai.models.list()], "the model by-http")
    ask = lambda: s.openai.chat.completions.create(model="by-http", messages=user("say:hello")).choices[0].message.content
    expect(ask(), "hello", "answer")
    agents.append(ScriptedAgent(s.program.websocket, registered["session_token"], "by-http", session=registered))
    expect(agents[0].wait(lambda: agents[0].closed, "its replacement"), 4001, "close code of the older link")
    expect(ask(), "hello", "answer over the newer link")
    for agent in agents:
        require(not agent.faults, f"frames against the schema: {agent.faults}")
    s.request("POST", "/control/revoke", {"session_id": registered["session_id"]}, BRIDGE_KEY)
    expect(agents[1].wait(lambda: agents[1].closed, "the end of its session"), 1008, "close code after revoke")
    try:
        ScriptedAgent(s.program.websocket, registered["session_token"], "by-http", session=registered)
    except Failed as refusal:
        require("403" in str(refusal), f"refusal of a revoked session's token: {refusal}")
    else:
        raise Failed("the token of a revoked session was accepted")


@check
def orphans(s):
    """the session of an agent that died is not given to another agent that has the same key"""
    first = ScriptedAgent(s.program.websocket, BRIDGE_KEY, "orphaned")
    first.kill()
    links = lambda: [x["link"] for x in json.loads(s.request("GET", "/control/sessions", key=OPERATOR_KEY)[2])["sessions"]
                     if x["session_id"] == first.session["session_id"]]
    eventually(lambda: links() == [None], "the link to be seen as lost")
    second = ScriptedAgent(s.program.websocket, BRIDGE_KEY, "unrelated")
    expect(links(), [None], "link of the session whose agent is gone")
    error = raises(openai.InternalServerError, lambda: s.openai.chat.completions.create(model="orphaned", messages=user("say:x")))
    expect((error.status_code, error.code), (503, "no_agent"), "status and code")
    again = ScriptedAgent(s.program.websocket, first.session["session_token"], "orphaned", session=first.session)
    eventually(lambda: links() != [None], "the session to be attached again")
    expect(s.openai.chat.completions.create(model="orphaned", messages=user("say:back")).choices[0].message.content, "back", "answer")
    expect((len(again.invocations), len(second.invocations)), (1, 0), "invocations of the agent and of the other one")
    for agent in (again, second):
        agent.close()


@check
def example_agent(s):
    """examples/agent.py registers, streams word by word, calls a tool, is cancelled, and says why it is refused"""
    script = Path(__file__).resolve().parents[2] / "examples" / "agent.py"
    refused = subprocess.run([sys.executable, script, s.program.websocket, "wrong"], capture_output=True, text=True, timeout=20)
    require(refused.returncode != 0 and "refuses this agent" in refused.stderr, f"with a wrong token: {refused}")
    agent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"PROVIDER_URL": s.program.websocket, "PROVIDER_TOKEN": BRIDGE_KEY})
    try:
        require("is active" in agent.stdout.readline(), "no session")
        stream = s.openai.chat.completions.create(model="example", messages=user("one two three"), stream=True)
        pieces = [c.choices[0].delta.content for c in stream if c.choices and c.choices[0].delta.content]
        expect("".join(pieces).strip(), "The example agent heard: one two three", "answer")
        require(len(pieces) >= 5, f"only {len(pieces)} pieces")
        tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
        called = s.openai.chat.completions.create(model="example", messages=user("how is it outside?"), tools=tools).choices[0]
        expect((called.finish_reason, called.message.tool_calls[0].function.name), ("tool_calls", "weather"), "tool call")
        result = {"role": "tool", "tool_call_id": called.message.tool_calls[0].id, "content": "sunny"}
        told = s.openai.chat.completions.create(model="example", messages=user("how is it outside?") + [called.message, result], tools=tools)
        expect(told.choices[0].message.content.strip(), "The example agent heard: sunny", "answer to a tool's result")
        stream = s.openai.chat.completions.create(model="example", messages=user("word " * 1000), stream=True)
        next(iter(stream))
        stream.close()
        expect(s.ollama.chat(model="example", messages=user("and now")).message.content.strip(),
               "The example agent heard: and now", "answer after a cancel")
        in_flight = lambda: [x["in_flight"] for x in json.loads(s.request("GET", "/control/sessions", key=OPERATOR_KEY)[2])["sessions"]
                             if "example" in x["models"]]
        eventually(lambda: in_flight() == [0], "no exchange to be in flight at the example agent")
    finally:
        agent.terminate()
        agent.wait(10)


@check
def frames(s):
    """every frame that the agent got is valid against the schema, and it was told of no error"""
    require(not s.agent.faults, "\n".join(s.agent.faults[:5]))
    expect(s.agent.errors, [], "errors that the agent was told")
    expect(s.agent.closed, None, "end of the agent's connection")
    s.measured["frames held against the schema"] = len(s.agent.invocations) + len(s.agent.cancels) + 1


@check
def nothing_secret_is_written(s):
    """the audit file is JSON lines with digests; it and the log hold no key, no token, no prompt, no answer"""
    path = s.program.home / "audit.jsonl"
    eventually(lambda: path.exists() and path.stat().st_size > 1000, "an audit file")
    text = path.read_text()
    records = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    require(len(records) > 50, f"only {len(records)} audit records")
    require(any("prompt_sha256" in record or "sha256" in json.dumps(record) for record in records), f"no digest in {records[-1]}")
    secrets = (CLIENT_KEY, BRIDGE_KEY, OPERATOR_KEY, METERED_KEY, s.agent.session["session_token"], "Hello, world", "one two")
    for where, content in (("audit file", text), ("output", "\n".join(s.program.lines))):
        for secret in secrets:
            require(secret not in content, f"{secret!r} is in the {where}")


@check
def the_end(s):
    """SIGTERM closes the agent's link with 1001 and ends the program with status 0"""
    expect(s.program.stop(), 0, "exit status")
    expect(s.agent.wait(lambda: s.agent.closed, "the end"), 1001, "close code")
