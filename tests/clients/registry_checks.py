"""The official openai package asks an integration of the registry, which has no form of its own in any API."""
import json

from harness import MODEL, OWNER_KEY, check, expect, require, user
from openai_checks import WEATHER
from programs import Unsupported

TOOL = {
    "name": "ask",
    "description": "Asks somebody",
    "kind": "prompt",
    "model": MODEL,
    # What it says is what the agent is told to say next.
    "prompt": "say:say:{{ args.text }}",
    "input_schema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}
CALL = 'tool:ask:{"text":"für dich"}'


def made(s, path, body):
    status, _, answer = s.request("POST", path, body, OWNER_KEY, **{"Content-Type": "application/json"})
    if status == 404:
        raise Unsupported("this build has no registry")
    require(status in (201, 409), f"POST {path}: {status} {answer}")


def registered(s):
    made(s, "/tools", TOOL)
    made(s, "/integrations", {"name": "clerk", "tools": ["ask"], "model": {"provider": "agent", "model_name": MODEL}})
    return "integration/clerk"


@check
def integration(s):
    """openai: an integration of the registry, whose tool runs in the program, whole and streamed"""
    model = registered(s)
    require(model in [it.id for it in s.openai.models.list()], "it is not in the list of models")
    answer = s.openai.chat.completions.create(model=model, messages=user(CALL))
    choice = answer.choices[0]
    expect((choice.message.content, choice.finish_reason, choice.message.tool_calls), ("für dich", "stop", None), "answer")
    expect((answer.model, answer.usage.total_tokens), (model, 36), "model and usage of two rounds")
    chunks = list(s.openai.chat.completions.create(model=model, messages=user(CALL), stream=True))
    choices = [choice for chunk in chunks for choice in chunk.choices]
    expect("".join(choice.delta.content or "" for choice in choices), "für dich", "text")
    expect([choice.finish_reason for choice in choices if choice.finish_reason], ["stop"], "finish reasons")
    require(not any(choice.delta.tool_calls for choice in choices), "calls of the program's own tools are told")


@check
def callers_tools(s):
    """openai: an integration hands on what is the caller's tool"""
    answer = s.openai.chat.completions.create(
        model=registered(s), messages=user('tool:weather:{"city":"Oslo"}'), tools=[WEATHER])
    call = answer.choices[0].message.tool_calls[0]
    expect((call.function.name, json.loads(call.function.arguments)), ("weather", {"city": "Oslo"}), "call")
    expect(answer.choices[0].finish_reason, "tool_calls", "finish reason")
