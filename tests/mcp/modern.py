#!/usr/bin/env python3
"""Drives an endpoint with the official Python package of revision 2026-07-28, unmodified. The server behind it is
servers/everything.mjs, which speaks any revision.

    modern.py URL [--key KEY] [CHECK ...]

--key: the endpoint asks for this key. CHECK: only checks whose names contain such a word; all but `cancellation` when none is
named. One line for each check; the exit status is 1 if one failed.
"""

import argparse
import json
import sys
import time
import traceback
from contextlib import asynccontextmanager

import anyio
import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import PromptsListChanged, ResourcesListChanged, ResourceUpdated, ToolsListChanged

CHECKS = []
SECONDS = 30
LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
TEXTS = ["plain", "", "line\nline\r\n\ttab", "\u2028\u2029\u0000\u007f", "\U0001f600 \u00e9 \u4e2d\u6587", '"\\" {"id":1}', "data: x\n\nid: 9\n"]


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


def check(function):
    """Adds a check. Its docstring is the line that is printed."""
    CHECKS.append(function)
    return function


def expect(seen, wanted, what):
    if seen != wanted:
        raise Failed(f"{what} is {seen!r}, not {wanted!r}")


async def refused(awaitable):
    """The error that a request ends with."""
    try:
        value = await awaitable
    except MCPError as error:
        return error.error
    raise Failed(f"no error, but {value!r}")


class Asked:
    """The model and the person behind a client, who answer with its name."""

    def __init__(self, name):
        self.name, self.action, self.questions, self.logs = name, "accept", [], []

    async def sample(self, context, params):
        self.questions.append(params.messages[0].content.text)
        content = types.TextContent(type="text", text=f"{self.name} answers")
        return types.CreateMessageResult(role="assistant", content=content, model=self.name, stop_reason="endTurn")

    async def elicit(self, context, params):
        self.questions.append(params.message)
        fields = params.requested_schema["properties"]
        content = {field: True if of["type"] == "boolean" else self.name for field, of in fields.items()}
        return types.ElicitResult(action=self.action, content=content if self.action == "accept" else None)

    async def roots(self, context):
        return types.ListRootsResult(roots=[types.Root(uri=f"file:///{self.name}", name=self.name)])

    async def log(self, params):
        self.logs.append((params.level, params.data))


class Setting:
    """The endpoint under test."""

    def __init__(self, url, key):
        self.url, self.headers = url, {"Authorization": f"Bearer {key}"} if key else {}

    @asynccontextmanager
    async def client(self, **more):
        """A client that finds the revision out for itself."""
        async with httpx2.AsyncClient(headers=self.headers, timeout=SECONDS) as http:
            async with Client(streamable_http_client(self.url, http_client=http), cache=None, **more) as client:
                expect(client.protocol_version, "2026-07-28", "revision")
                yield client

    @asynccontextmanager
    async def asked(self, name):
        """A client with a model, a person and roots."""
        who = Asked(name)
        callbacks = {"sampling_callback": who.sample, "elicitation_callback": who.elicit, "list_roots_callback": who.roots}
        async with self.client(**callbacks) as client:
            yield client, who


async def call(client, tool, progress=None, **arguments):
    result = await client.call_tool(tool, arguments, progress_callback=progress)
    if result.is_error:
        raise Failed(f"{tool} failed: {result.content}")
    return result.content[0].text


@check
async def discover(s):
    """discover: the server's name, instructions and capabilities"""
    async with s.client() as c:
        expect(c.instructions, "A server for tests.", "instructions")
        capabilities = c.server_capabilities
        expect((capabilities.tools.list_changed, capabilities.resources.subscribe), (True, True), "capabilities")


@check
async def lists(s):
    """lists of tools, resources, templates and prompts"""
    async with s.client() as c:
        tools = {tool.name: tool for tool in (await c.list_tools()).tools}
        expect(tools["sum"].output_schema["required"], ["sum"], "schema of a result")
        kinds = {resource.uri: resource.mime_type for resource in (await c.list_resources()).resources}
        expect(kinds["test://static-binary"], "image/png", "type of the picture")
        templates = (await c.list_resource_templates()).resource_templates
        expect([each.uri_template for each in templates], ["test://template/{id}/data"], "templates")
        prompts = {prompt.name: [each.name for each in prompt.arguments or []] for prompt in (await c.list_prompts()).prompts}
        expect(prompts["test_prompt_with_arguments"], ["arg1", "arg2"], "arguments of a prompt")


@check
async def calls(s):
    """calls: texts of any characters, structured content, a prompt, a resource, a completion"""
    async with s.client() as c:
        for text in TEXTS:
            expect(await call(c, "echo", text=text), text, "text")
        expect((await c.call_tool("sum", {"numbers": [1, 2.5, -4e3]})).structured_content, {"sum": -3996.5}, "structured content")
        prompt = await c.get_prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"})
        expect("one" in prompt.messages[0].content.text, True, "argument in the prompt")
        resource = (await c.read_resource("test://static-text")).contents[0]
        expect(resource.text, "a text that does not change", "resource")
        reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        found = (await c.complete(reference, {"name": "arg1", "value": "par"})).completion
        expect((found.values, found.total), (["parallel", "parameter", "paris", "party"], 4), "completion")


@check
async def errors(s):
    """errors: a failing tool is a result; an unknown tool, resource and prompt is an error with its code"""
    async with s.client() as c:
        expect((await c.call_tool("test_error_handling", {})).is_error, True, "error of a tool")
        expect((await refused(c.call_tool("no_such_tool", {}))).code, -32602, "code of an unknown tool")
        expect((await refused(c.read_resource("test://no-such-resource"))).code, -32602, "code of an unknown resource")
        expect((await refused(c.get_prompt("no_such_prompt"))).code, -32602, "code of an unknown prompt")


@check
async def progress(s):
    """progress: 50 calls at once, each with its own reports in their order"""
    async with s.client() as c, anyio.create_task_group() as group:

        async def count(number):
            seen = []

            async def report(progress, total, message):
                seen.append((progress, total, message))

            expect(await call(c, "count", report, steps=5, note=f"n{number}"), f"n{number}", "answer")
            expect(seen, [(step, 5, f"n{number} {step}") for step in range(1, 6)], "reports")

        for number in range(50):
            group.start_soon(count, number)


@check
async def logging(s):
    """logging: a request that names a level hears from that level on, one that names none hears nothing"""
    who = Asked("logs")
    async with s.client(logging_callback=who.log, log_level="warning") as c:
        await call(c, "log_levels", note="one")
    async with s.client(logging_callback=who.log) as c:
        await call(c, "log_levels", note="two")
    expect(who.logs, [(level, f"one {level}") for level in LEVELS[3:]], "messages")


@check
async def sampling(s):
    """sampling: the client's model is asked by rounds, ten calls at once"""
    async with s.asked("model") as (c, who), anyio.create_task_group() as group:

        async def ask(number):
            expect(await call(c, "test_sampling", prompt=f"question {number}"), "the model says: model answers", "answer")

        for number in range(10):
            group.start_soon(ask, number)
    expect(sorted(who.questions), sorted(f"question {number}" for number in range(10)), "questions")


@check
async def elicitation(s):
    """elicitation: accepted, declined and cancelled"""
    async with s.asked("person") as (c, who):
        expect(await call(c, "test_elicitation", message="Who?"), 'accept: {"response":"person"}', "answer")
        for who.action in ("decline", "cancel"):
            expect(await call(c, "test_elicitation", message="Who?"), f"{who.action}: {{}}", "answer")
        expect(who.questions, ["Who?"] * 3, "questions")


@check
async def roots(s):
    """roots: the server lists the client's"""
    async with s.asked("home") as (c, _):
        expect(json.loads(await call(c, "roots")), [["file:///home", "home"]], "roots")


@check
async def rounds(s):
    """rounds: a tool that asks three things at once, one that asks twice, one that keeps its state, and a prompt that asks"""
    async with s.asked("round") as (c, who):
        expect(await call(c, "test_input_required_result_multiple_inputs"), "round answers, round, of 1 roots", "answer")
        expect(await call(c, "test_input_required_result_multi_round"), "round likes round", "answer")
        expect(await call(c, "test_input_required_result_request_state"), "state-ok", "answer")
        prompt = await c.get_prompt("test_input_required_result_prompt")
        expect(prompt.messages[0].content.text, "The context is round", "prompt")
        questions = ["Say a greeting", "What is your name?", "What is your name?", "Which color do you like?", "Go on?", "In which context?"]
        expect(sorted(who.questions), sorted(questions), "questions")


@check
async def refusals(s):
    """a client that declares nothing is told what it would have to declare"""
    async with s.client() as c:
        error = await refused(c.call_tool("test_missing_capability", {}))
        expect((error.code, "sampling" in json.dumps(error.data)), (-32021, True), "error")


@check
async def cancellation(s):
    """cancellation: the server hears which call is taken back by closing its answer, and another goes on"""
    async with s.client() as c, anyio.create_task_group() as group:
        scopes = {}

        async def wait(name):
            with anyio.CancelScope() as scopes[name]:
                await call(c, "wait", name=name)

        for name in ("first", "second"):
            group.start_soon(wait, name)
            await call(c, "begun", name=name)
        for name, left in (("first", ["second"]), ("second", [])):
            scopes[name].cancel()
            expect(await call(c, "outcome", name=name), "cancelled", f"end of the {name}")
            expect(json.loads(await call(c, "waiting")), left, "calls that go on")


@check
async def subscriptions(s):
    """subscriptions: changes of resources, and changed lists, as they were asked for"""
    first, second = "test://watched-resource", "test://static-text"
    async with s.client() as c:
        async with c.listen(resource_subscriptions=[first]) as one, c.listen(resource_subscriptions=[first, second]) as both:
            await call(c, "touch", uri=second)
            expect(await anext(both), ResourceUpdated(second), "change")
            await call(c, "touch", uri=first)
            expect((await anext(one), await anext(both)), (ResourceUpdated(first),) * 2, "changes")
        async with c.listen(tools_list_changed=True, prompts_list_changed=True, resources_list_changed=True) as all_lists:
            name = f"grown-{time.monotonic_ns()}"
            await call(c, "grow", name=name)
            told = {await anext(all_lists) for _ in range(3)}
            expect(told, {ToolsListChanged(), PromptsListChanged(), ResourcesListChanged()}, "changed lists")
            expect(await call(c, name), name, "answer of the new tool")


@check
async def canaries(s):
    """two clients at once: nothing of one reaches the other"""
    async with s.asked("albatross") as (a, one), s.asked("bittern") as (b, other):

        async def play(c, who):
            for turn in range(10):
                note = f"{who.name} {turn}"

                async def report(progress, total, message, note=note):
                    expect(message.startswith(note), True, f"{message!r} is of {note!r}: it")

                expect(await call(c, "echo", text=note), note, "echo")
                expect(await call(c, "count", report, steps=5, note=note), note, "result")
                expect(await call(c, "test_sampling", prompt=note), f"the model says: {who.name} answers", "model")
                expect(await call(c, "test_elicitation", message=note), f'accept: {{"response":"{who.name}"}}', "person")

        async with anyio.create_task_group() as group:
            group.start_soon(play, a, one)
            group.start_soon(play, b, other)
        for who in (one, other):
            expect({question.split()[0] for question in who.questions}, {who.name}, "who was asked about")
            expect(len(who.questions), 20, "questions")


@check
async def sessions(s):
    """sessions: the same package as a client of 2025-11-25, over Streamable HTTP and HTTP+SSE"""
    async with httpx2.AsyncClient(headers=s.headers, timeout=SECONDS) as http:
        beside = s.url.removesuffix("mcp") + "sse"
        for transport in (streamable_http_client(s.url, http_client=http), sse_client(beside, headers=s.headers)):
            who = Asked("session")
            async with Client(transport, mode="legacy", cache=None, sampling_callback=who.sample, elicitation_callback=who.elicit) as c:
                expect(c.protocol_version, "2025-11-25", "revision")
                for text in TEXTS:
                    expect(await call(c, "echo", text=text), text, "text")
                expect(await call(c, "test_sampling", prompt="q"), "the model says: session answers", "model")
                expect(await call(c, "test_elicitation", message="Who?"), 'accept: {"response":"session"}', "person")


def reason(error):
    """What went wrong, out of the groups that tasks put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key")
    parser.add_argument("checks", nargs="*")
    given = parser.parse_intermixed_args()
    setting = Setting(given.url, given.key)
    # A process that never answers a call that was taken back may still log for it, so a gateway passes no log message on meanwhile.
    words = given.checks or [each.__name__ for each in CHECKS if each is not cancellation]
    chosen = [each for each in CHECKS if any(word in each.__name__ for word in words)]
    failed = 0
    for each in chosen:
        began = time.monotonic()
        try:
            with anyio.fail_after(SECONDS):
                await each(setting)
        except BaseException as error:
            error = reason(error)
            if isinstance(error, KeyboardInterrupt):
                raise
            failed += 1
            said = f"not done within {SECONDS} s" if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
            print(f"FAILED python, 2026-07-28, {each.__name__}: {each.__doc__}\n    {said}", flush=True)
            if not isinstance(error, (Failed, TimeoutError)):
                traceback.print_exception(error, limit=-3, chain=False)
        else:
            print(f"ok python, 2026-07-28, {each.__name__} ({time.monotonic() - began:.1f} s): {each.__doc__}", flush=True)
    print(f"{failed} of {len(chosen)} checks failed" if failed else f"{len(chosen)} checks passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
