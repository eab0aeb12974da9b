"""The official anthropic package, unmodified."""
import json

import anthropic
from harness import BRIDGE_KEY, CLIENT_KEY, METERED_KEY, MODEL, check, expect, raises, require, user
from openai_checks import OSLO, WEATHER
from scripted_agent import SEPARATORS

LOOK = {"name": "weather", "description": "The weather of a city", "input_schema": WEATHER["function"]["parameters"]}


def client(s, key=CLIENT_KEY):
    return anthropic.Anthropic(base_url=s.program.base, api_key=key, max_retries=0, timeout=30)


def ask(s, text, **more):
    return client(s).messages.create(model=MODEL, max_tokens=100, messages=user(text), **more)


def streamed(s, text, **more):
    """The message that the package puts together from a stream."""
    with client(s).messages.stream(model=MODEL, max_tokens=100, messages=user(text), **more) as stream:
        return stream.get_final_message()


@check
def messages(s):
    """anthropic: a message, whole and streamed, with usage"""
    for answer in (ask(s, "say:Hello, world"), streamed(s, "say:Hello, world")):
        expect([(block.type, block.text) for block in answer.content], [("text", "Hello, world")], "content")
        expect((answer.role, answer.model, answer.stop_reason, answer.usage.output_tokens), ("assistant", MODEL, "end_turn", 7), "answer")
        require(answer.id.startswith("msg_"), f"id {answer.id}")


@check
def on_the_wire(s):
    """anthropic: the events of a stream in their order, each under its name"""
    status, headers, body = s.request("POST", "/v1/messages?beta=true", {"model": MODEL, "messages": user("say:Hi"), "max_tokens": 9, "stream": True})
    expect((status, headers["Content-Type"].split(";")[0]), (200, "text/event-stream"), "status, Content-Type")
    s.names_the_invocation(headers["request-id"])
    records = [record.split("\n") for record in body.decode().removesuffix("\n\n").split("\n\n")]
    names = [name.removeprefix("event: ") for name, _ in records]
    expect(names, ["message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"], "events")
    expect([json.loads(data.removeprefix("data: "))["type"] for _, data in records], names, "types")


@check
def tools(s):
    """anthropic: tools called, whole and streamed, and their results given back"""
    for answer in (ask(s, OSLO, tools=[LOOK]), streamed(s, OSLO.replace("tool:", "tools:"), tools=[LOOK])):
        calls = [block for block in answer.content if block.type == "tool_use"]
        expect(([(c.name, c.input) for c in calls], answer.stop_reason),
               ([("weather", {"city": "Oslo", "days": [1, 2]})] * len(calls), "tool_use"), "calls")
    expect(len({call.id for call in calls}), 2, "number of ids")
    expect(s.agent.last()["payload"]["parameters"]["tools"][0]["function"]["name"], "weather", "tools at the agent")
    result = {"type": "tool_result", "tool_use_id": calls[0].id, "content": [{"type": "text", "text": "say:Rain"}]}
    said = [*user("Weather?"), {"role": "assistant", "content": [calls[0].model_dump(include={"type", "id", "name", "input"})]},
            {"role": "user", "content": [result]}]
    answer = client(s).messages.create(model=MODEL, max_tokens=9, messages=said, tools=[LOOK])
    expect(answer.content[0].text, "Rain", "answer to a tool's result")
    seen = s.agent.last()["payload"]["messages"]
    expect((seen[2]["role"], seen[2]["tool_call_id"]), ("tool", seen[1]["tool_calls"][0]["id"]), "messages at the agent")


@check
def parameters(s):
    """anthropic: system, images, thinking and parameters reach the agent in OpenAI's form; unknown ones do not"""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    said = [{"role": "user", "content": [{"type": "text", "text": "think:Hmm", "cache_control": {"type": "ephemeral"}}, image]}]
    answer = client(s).messages.create(
        model=MODEL, max_tokens=2048, messages=said, system=[{"type": "text", "text": "Be brief."}], stop_sequences=["<END>"],
        thinking={"type": "enabled", "budget_tokens": 1024}, extra_body={"made_up": [1], "top_k": None, "temperature": 0.5})
    expect([(block.type, getattr(block, "thinking", None) or block.text) for block in answer.content],
           [("thinking", "Hmm"), ("text", "done")], "content")
    payload = s.agent.last()["payload"]
    seen = {name: value for name, value in payload["parameters"].items() if name not in ("stream", "reasoning_effort")}
    expect(seen, {"max_tokens": 2048, "temperature": 0.5, "stop": ["<END>"]}, "parameters at the agent")
    system, asked = payload["messages"]
    expect((system["role"], asked["content"][1]["image_url"]["url"]), ("system", "data:image/png;base64,iVBORw0KGgo="), "messages at the agent")


@check
def text(s):
    """anthropic: stop is applied, split surrogates are joined, separators arrive"""
    for answer in (ask(s, "say:one two<END>three", stop_sequences=["<END>"]), streamed(s, "say:one two<END>three", stop_sequences=["<END>"])):
        # The other APIs do not tell by what an answer was cut.
        reason = ("end_turn", None) if s.upstream in ("openai", "ollama") else ("stop_sequence", "<END>")
        expect((answer.content[0].text, answer.stop_reason, answer.stop_sequence), ("one two", *reason), "answer that is cut")
    for command, wanted in (("surrogate", "<\U0001f600>"), ("separators", SEPARATORS), ("whole:One piece", "One piece")):
        expect((ask(s, command).content[0].text, streamed(s, command).content[0].text), (wanted, wanted), f"answers to {command}")


@check
def count_tokens(s):
    """anthropic: tokens are counted without asking the agent"""
    before = len(s.agent.invocations)
    count = client(s).messages.count_tokens(model=MODEL, messages=user("word " * 100)).input_tokens
    require(50 <= count <= 500 and len(s.agent.invocations) == before, f"{count} tokens")


@check
def errors(s):
    """anthropic: the package's classes for refusals, for an agent's errors, and in a stream"""
    raises(anthropic.AuthenticationError, lambda: client(s, "nobody").messages.create(model=MODEL, max_tokens=9, messages=user("x")))
    raises(anthropic.PermissionDeniedError, lambda: client(s, BRIDGE_KEY).messages.create(model=MODEL, max_tokens=9, messages=user("x")))
    error = raises(anthropic.NotFoundError, lambda: client(s).messages.create(model="no-such", max_tokens=9, messages=user("x")))
    expect((error.body["error"]["type"], "no-such" in error.message), ("not_found_error", True), f"error {error.message!r}")
    raises(anthropic.BadRequestError, lambda: client(s).messages.create(model=MODEL, max_tokens=9, messages=[{"role": "robot", "content": "x"}]))
    for code, kind in (("rate_limited", anthropic.RateLimitError), ("context_length", anthropic.BadRequestError),
                       ("overloaded", anthropic.OverloadedError), ("internal", anthropic.InternalServerError)):
        for call in (ask, streamed):
            error = raises(kind, lambda: call(s, f"error:{code}"))
            require(f"the agent says {code}" in error.message, f"the agent's message is lost: {error.message}")
            require(error.request_id and (code != "context_length" or "prompt is too long" in error.message), f"error {error.message!r}")
    error = raises(anthropic.APIStatusError, lambda: streamed(s, "late:internal"))
    require("the agent says internal" in error.message, f"message: {error.message}")
    metered = lambda: client(s, METERED_KEY).messages.create(model=MODEL, max_tokens=9, messages=user("say:x"))
    error = raises(anthropic.RateLimitError, lambda: [metered() for _ in range(3)])
    require(1 <= int(error.response.headers["retry-after"]) <= 30, f"retry-after: {error.response.headers['retry-after']}")
