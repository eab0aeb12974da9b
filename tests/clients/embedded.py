#!/usr/bin/env python3
"""Drives a program that embeds the engine, and needs no keys, with the official openai package. Started by run.sh --embedded."""
import sys
import tempfile
from pathlib import Path

import openai
from harness import MODEL, expect, require, user
from program import Program
from scripted_agent import ScriptedAgent

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}


def ask(client, text, **more):
    return client.chat.completions.create(model=MODEL, messages=user(text), **more)


def streamed(client, _):
    """a streamed answer comes in pieces"""
    pieces = [chunk.choices[0].delta.content for chunk in ask(client, "say:Hello there", stream=True) if chunk.choices]
    pieces = [piece for piece in pieces if piece]
    expect("".join(pieces), "Hello there", "text")
    require(len(pieces) > 2, f"{len(pieces)} pieces")


def whole(client, _):
    """a whole answer has its text and usage"""
    answer = ask(client, "say:Hello there")
    expect(answer.choices[0].message.content, "Hello there", "text")
    require(answer.usage.total_tokens > 0, "no usage")


def tools(client, _):
    """a tool is called, streamed and whole"""
    call = ask(client, 'tool:weather:{"city":"Oslo"}', tools=[WEATHER]).choices[0].message.tool_calls[0]
    expect((call.function.name, call.function.arguments), ("weather", '{"city":"Oslo"}'), "call")
    arguments, finish = "", None
    for chunk in ask(client, 'tool:weather:{"city":"Oslo"}', tools=[WEATHER], stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for part in choice.delta.tool_calls or []:
                arguments += part.function.arguments or ""
    expect((arguments, finish), ('{"city":"Oslo"}', "tool_calls"), "streamed call")


def leaving(client, agent):
    """a client that leaves is told to the agent, and the next one is answered"""
    with ask(client, "pause", stream=True) as stream:
        next(iter(stream))
        invocation = agent.invocations[-1]["id"]
    agent.cancelled(invocation)
    expect(ask(client, "say:still here").choices[0].message.content, "still here", "text")


def errors(client, _):
    """errors have their status and code"""
    try:
        ask(client, "error:overloaded")
    except openai.APIStatusError as error:
        require(error.status_code in (429, 503, 529), f"status {error.status_code}")
    else:
        require(False, "no error")
    try:
        client.chat.completions.create(model="nobody", messages=user("x"))
    except openai.NotFoundError as error:
        expect(error.code, "model_not_found", "code")
    else:
        require(False, "no error for a model that is not there")


def main():
    checks = [streamed, whole, tools, leaving, errors]
    with tempfile.TemporaryDirectory() as home:
        program = Program(sys.argv[1], home)
        try:
            agent = ScriptedAgent(program.websocket, "none", MODEL)
            client = openai.OpenAI(base_url=f"{program.base}/v1", api_key="none", max_retries=0, timeout=30)
            for check in checks:
                check(client, agent)
                print(f"ok   {check.__doc__}", flush=True)
            agent.close()
        finally:
            program.process.kill()
    print(f"{len(checks)} checks passed: {Path(sys.argv[1]).name}, openai {openai.__version__}")


main()
