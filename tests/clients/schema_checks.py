"""OpenAI's answers against OpenAI's schema, strictly: no field of another type, none that is missing, none that is unknown.

The schema is that of the official package, whose types are generated from the published one. It cannot tell a null from a field that is
missing, so what the reference requires although it may be null is listed here. What this program says beyond the reference is listed too.
"""
import json
from typing import get_args

import pydantic
from harness import MODEL, check, expect, require, user
from openai.types import Completion, CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseFunctionCallArgumentsDoneEvent, ResponseStreamEvent
from openai_checks import OSLO, WEATHER
from program import Failed

RESPONSE = {"error", "incomplete_details", "instructions", "metadata", "model", "output", "parallel_tool_calls", "temperature", "tool_choice",
            "tools", "top_p"}
REQUIRED = {
    ChatCompletion: {(): {"usage"}, ("choices",): {"logprobs", "finish_reason"}, ("choices", "message"): {"content", "refusal"}},
    ChatCompletionChunk: {("choices",): {"logprobs", "finish_reason"}},
    Completion: {("choices",): {"logprobs", "finish_reason"}},
    Response: {(): RESPONSE},
    ResponseFunctionCallArgumentsDoneEvent: {(): {"name"}},
}
BEYOND = {
    # Reasoning under the two names in use.
    ChatCompletion: {("choices", "message"): {"reasoning_content", "reasoning"}, ("usage",): {"estimated"}},
    ChatCompletionChunk: {("choices", "delta"): {"reasoning_content", "reasoning"}, ("usage",): {"estimated"}},
    Completion: {("usage",): {"estimated"}},
    Model: {(): {"context_length", "max_model_len", "permission", "root", "parent"}},
    # In the reference's examples, though not in its schema.
    Response: {(): {"store"}, ("usage",): {"estimated"}},
    # Required by the reference, and not known to the package.
    ResponseFunctionCallArgumentsDoneEvent: {(): {"name"}},
}
EVENTS = {get_args(event.model_fields["type"].annotation)[0]: event for event in get_args(get_args(ResponseStreamEvent)[0])}
COMMANDS = ("say:Hello", OSLO.replace("tool:", "tools:"), "think:Hmm", "error:refused")
LOOK = {"type": "function", "name": "weather", "parameters": WEATHER["function"]["parameters"], "strict": False}


def within(value, path):
    """Every object that is reached from `value` by the keys of `path`; lists are gone through."""
    if isinstance(value, list):
        return [found for item in value for found in within(item, path)]
    if not path:
        return [value] if isinstance(value, dict) else []
    return within(value[path[0]], path[1:]) if path[0] in value else []


def hold(kind, value):
    """Refuses a value that is not of this kind."""
    told = json.dumps(value)
    for path, fields in REQUIRED.get(kind, {}).items():
        for found in within(value, path):
            expect(fields - set(found), set(), f"missing fields of {kind.__name__} {'.'.join(path)} in {told}")
    for path, fields in BEYOND.get(kind, {}).items():
        for found in within(value, path):
            for field in fields:
                found.pop(field, None)
    try:
        pydantic.TypeAdapter(kind).validate_json(json.dumps(value), strict=True, extra="forbid")
    except pydantic.ValidationError as error:
        raise Failed(f"{error} in {told}") from None


def answer(s, method, path, body=None, status=200):
    seen, _, text = s.request(method, path, body)
    expect(seen, status, f"status of {path} ({text[:500]})")
    return json.loads(text)


def events(s, path, body):
    status, _, text = s.request("POST", path, body | {"stream": True})
    expect(status, 200, f"status of {path}")
    data = [line[6:] for line in text.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(one) for one in data if one != "[DONE]"]


@check
def chat(s):
    """schema: chat completions and their chunks, with nulls where the reference has them"""
    for command in COMMANDS:
        body = {"model": MODEL, "messages": user(command), "tools": [WEATHER]}
        hold(ChatCompletion, answer(s, "POST", "/v1/chat/completions", body))
        for more in ({}, {"stream_options": {"include_usage": True}}):
            for chunk in events(s, "/v1/chat/completions", body | more):
                hold(ChatCompletionChunk, chunk)
                expect("usage" in chunk, bool(more), f"whether there is usage in {chunk}")


@check
def completions(s):
    """schema: completions and their chunks"""
    body = {"model": MODEL, "prompt": "say:Hello"}
    hold(Completion, answer(s, "POST", "/v1/completions", body))
    for chunk in events(s, "/v1/completions", body | {"stream_options": {"include_usage": True}}):
        # Null until the end, as in the reference's example; its schema is that of whole answers.
        for choice in chunk["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        hold(Completion, chunk)


@check
def embeddings_and_models(s):
    """schema: embeddings, models, a model"""
    hold(CreateEmbeddingResponse, answer(s, "POST", "/v1/embeddings", {"model": MODEL, "input": ["one", "three"]}))
    models = answer(s, "GET", "/v1/models")
    expect((models["object"], sorted(models)), ("list", ["data", "object"]), "list of models")
    for model in [*models["data"], answer(s, "GET", f"/v1/models/{MODEL}"), answer(s, "GET", "/v1/models/my-gpt-4o")]:
        hold(Model, model)


@check
def responses(s):
    """schema: responses and every event of their streams, numbered and in order"""
    for command in (*COMMANDS, "late:internal"):
        body = {"model": MODEL, "input": command, "tools": [LOOK]}
        if command != "late:internal":
            hold(Response, answer(s, "POST", "/v1/responses", body))
        stream = events(s, "/v1/responses", body)
        expect([event["sequence_number"] for event in stream], list(range(len(stream))), "sequence numbers")
        kinds = [event["type"] for event in stream]
        last = "response.failed" if command == "late:internal" else "response.completed"
        expect((kinds[:2], kinds[-1]), (["response.created", "response.in_progress"], last), f"events of {command}")
        for event in stream:
            for response in within(event, ("response",)):
                hold(Response, response)
            hold(EVENTS[event["type"]], event)


@check
def errors(s):
    """schema: errors have exactly the four fields of OpenAI's, before a stream and in it"""
    chat = "/v1/chat/completions"
    found = [answer(s, method, path, body, status) for method, path, body, status in (
        ("POST", chat, {"model": "no-such", "messages": user("x")}, 404),
        ("POST", chat, {"model": MODEL}, 400),
        ("POST", chat, {"model": MODEL, "messages": user("error:internal")}, 502),
        ("POST", "/v1/responses", {"model": MODEL, "input": "error:overloaded"}, 503),
        ("POST", "/v1/completions", {"model": MODEL, "prompt": [1]}, 400),
        ("GET", "/v1/models/no-such", None, 404),
        ("GET", "/v1/no-such", None, 404),
        ("DELETE", chat, None, 405),
    )]
    found.append(events(s, chat, {"model": MODEL, "messages": user("late:internal")})[-1])
    for error in found:
        expect((list(error), sorted(error["error"])), (["error"], ["code", "message", "param", "type"]), f"fields of {error}")
        kinds = {name: type(value).__name__ for name, value in error["error"].items() if value is not None}
        require(set(kinds.values()) == {"str"} and {"message", "type"} <= set(kinds), f"types in {error}")
