#!/usr/bin/env python3
"""Drives a Streamable HTTP endpoint with the official Python package, unmodified. The server behind it is servers/everything.mjs.

    sdk.py URL [--key KEY] [--gateway] [--only2026] [CHECK ...]

--key: the endpoint asks for this key. --gateway: each session has a server process of its own. --only2026: the server speaks
2026-07-28 alone, so it cannot ping. CHECK: only checks whose names contain such a word. One line for each check; the exit status is 1
if one failed.
"""

import argparse
import base64
import json
import sys
import time
import traceback
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import anyio
import httpx
from mcp import ClientSession, McpError, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.websocket import websocket_client
from pydantic import AnyUrl
from wire import Wire

CHECKS = []
SECONDS = 30
TEXTS = [
    "plain",
    "",
    "line\nline\r\n\ttab",
    "\u2028\u2029\u0000\u007f",
    "\U0001f600 \u00e9 \u4e2d\u6587",
    '"\\" {"id":1,"jsonrpc":"2.0"}',
    "data: x\n\nid: 9\n",
]


class Failed(Exception):
    """A check that did not hold; the message says what was seen."""


def check(function):
    """Adds a check. Its docstring is the line that is printed."""
    CHECKS.append(function)
    return function


def gateway_only(function):
    """Adds a check that only a gateway can pass."""
    function.gateway_only = True
    return check(function)


def expect(seen, wanted, what):
    if seen != wanted:
        raise Failed(f"{what} is {seen!r}, not {wanted!r}")


def require(truth, what):
    if not truth:
        raise Failed(what)


async def refused(awaitable):
    """The error that a request ends with."""
    try:
        value = await awaitable
    except McpError as error:
        return error.error
    raise Failed(f"no error, but {value!r}")


class Seen:
    """One client and all that it was told. The model and the person behind it answer with the name of the client."""

    def __init__(self, name):
        self.name = name
        self.wire = Wire()
        self.told = []
        self.logs = []
        self.asked = []
        self.action = "accept"
        self.changed = anyio.Event()
        self.session = None
        self.session_id = None

    def note(self, where, what):
        """Keeps what came, and wakes who waits for it."""
        where.append(what)
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    async def message(self, message):
        if isinstance(message, Exception):
            raise message
        if isinstance(message, types.ServerNotification):
            self.note(self.told, message.root)

    async def log(self, params):
        self.note(self.logs, (params.level, params.data))

    async def sample(self, context, params):
        self.note(self.asked, params.messages[0].content.text)
        content = types.TextContent(type="text", text=f"{self.name} answers")
        return types.CreateMessageResult(role="assistant", content=content, model=self.name, stopReason="endTurn")

    async def elicit(self, context, params):
        self.note(self.asked, params.message)
        content = {"response": self.name} if self.action == "accept" else None
        return types.ElicitResult(action=self.action, content=content)

    async def roots(self, context):
        return types.ListRootsResult(roots=[types.Root(uri=f"file:///{self.name}", name=self.name)])

    async def until(self, condition):
        """Waits until something came that makes `condition()` true; the time limit of the check ends it otherwise."""
        while not condition():
            await self.changed.wait()

    async def call(self, tool, more=None, **arguments):
        result = await self.session.call_tool(tool, arguments, **(more or {}))
        require(not result.isError, f"{tool} failed: {result.content}")
        return result.content[0].text

    def methods(self):
        return [message.method for message in self.told]


class Setting:
    """The endpoint under test."""

    def __init__(self, url, key, only2026):
        self.url, self.key, self.only2026 = url, key, only2026

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    @asynccontextmanager
    async def client(self, name="client", listen=True):
        """A client in a session of its own, which is deleted at the end."""
        seen = Seen(name)
        timeout = httpx.Timeout(SECONDS)
        async with (
            httpx.AsyncClient(headers=self.headers, timeout=timeout, transport=seen.wire) as http,
            streamable_http_client(self.url, http_client=http) as (read, write, session_id),
            self.session(seen, read, write) as seen.session,
        ):
            seen.initialized = await seen.session.initialize()
            seen.session_id = session_id()
            if listen:
                await seen.wire.listening.wait()
            yield seen

    @staticmethod
    def session(seen, read, write):
        """The package's session over any transport."""
        return ClientSession(
            read, write, timedelta(seconds=SECONDS), sampling_callback=seen.sample, elicitation_callback=seen.elicit,
            list_roots_callback=seen.roots, logging_callback=seen.log, message_handler=seen.message,
            client_info=types.Implementation(name="sdk.py", version="1"),
        )

    def beside(self, scheme, name):
        """The address of another transport of the same server, with the key in the path."""
        parts = urlsplit(self.url)
        key = f"/k/{self.key}" if self.key else ""
        return urlunsplit((scheme, parts.netloc, key + parts.path.removesuffix("mcp") + name, "", ""))

    async def post(self, message, session_id=None, **headers):
        """The answer to a plain POST."""
        sent = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"} | self.headers
        sent |= {"Mcp-Session-Id": session_id, "MCP-Protocol-Version": "2025-11-25"} if session_id else {}
        async with httpx.AsyncClient(timeout=SECONDS) as http:
            return await http.post(self.url, json=message, headers=sent | headers)


PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@check
async def refusals(s):
    """what is refused before a server hears of it: no key, a wrong key, a foreign page, no session, an unknown session"""
    if s.key:
        for key in ("", "Bearer nobody"):
            expect((await s.post(PING, Authorization=key)).status_code, 401, f"status with the key {key!r}")
    expect((await s.post(PING, Origin="http://elsewhere.example")).status_code, 403, "status for a foreign origin")
    expect((await s.post(PING)).status_code, 400, "status without a session")
    expect((await s.post(PING, "00000000-0000-0000-0000-000000000000")).status_code, 404, "status for an unknown session")


@check
async def initialize(s):
    """initialize: the newest 2025-era revision, and the server's capabilities and instructions"""
    async with s.client() as c:
        seen = c.initialized
        expect(seen.protocolVersion, "2025-11-25", "revision")
        expect(seen.instructions, "A server for tests.", "instructions")
        offered = seen.capabilities
        require(offered.logging is not None and offered.completions is not None, f"capabilities: {offered}")
        changes = (offered.tools.listChanged, offered.prompts.listChanged, offered.resources.listChanged, offered.resources.subscribe)
        expect(changes, (True,) * 4, "changes that are told")


@check
async def lists(s):
    """lists of tools, resources, templates and prompts; schemas come unchanged"""
    async with s.client() as c:
        tools = {tool.name: tool for tool in (await c.session.list_tools()).tools}
        require({"echo", "test_simple_text", "test_sampling"} <= set(tools), f"tools: {sorted(tools)}")
        schema = tools["json_schema_2020_12_tool"].inputSchema
        expect(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "$schema")
        expect((schema["$defs"]["address"]["$anchor"], schema["then"]), ("addressDef", {"required": ["phone"]}), "parts of a schema")
        expect(tools["sum"].outputSchema["required"], ["sum"], "required of an output schema")
        resources = {str(each.uri): each.mimeType for each in (await c.session.list_resources()).resources}
        expect(resources.get("test://static-binary"), "image/png", "type of a resource")
        templates = [each.uriTemplate for each in (await c.session.list_resource_templates()).resourceTemplates]
        expect(templates, ["test://template/{id}/data"], "templates")
        prompts = {each.name: [one.name for one in each.arguments or []] for each in (await c.session.list_prompts()).prompts}
        expect(prompts.get("test_prompt_with_arguments"), ["arg1", "arg2"], "arguments of a prompt")


@check
async def calls(s):
    """calls: texts of any characters, a picture, a sound, a resource, structured content, prompts"""
    async with s.client() as c:
        for text in TEXTS:
            expect(await c.call("echo", text=text), text, "text")
        mixed = await c.session.call_tool("test_multiple_content_types", {})
        expect([each.type for each in mixed.content], ["text", "image", "resource"], "types")
        sound = (await c.session.call_tool("test_audio_content", {})).content[0]
        expect((sound.mimeType, base64.b64decode(sound.data)[:4]), ("audio/wav", b"RIFF"), "sound")
        expect((await c.session.call_tool("sum", {"numbers": [1, 2.5, -4e3]})).structuredContent, {"sum": -3996.5}, "structured content")
        prompt = await c.session.get_prompt("test_prompt_with_arguments", {"arg1": "one", "arg2": "two"})
        require("one" in prompt.messages[0].content.text and "two" in prompt.messages[0].content.text, f"prompt: {prompt}")


@check
async def errors(s):
    """errors: a failing tool is a result, an unknown tool, resource, prompt and method is an error with its code"""
    async with s.client() as c:
        failed = await c.session.call_tool("test_error_handling", {})
        require(failed.isError and "fails" in failed.content[0].text, f"failing tool: {failed}")
        expect((await refused(c.session.call_tool("no_such_tool", {}))).code, -32602, "code for an unknown tool")
        error = await refused(c.session.read_resource(AnyUrl("test://no-such-resource")))
        # The SDK's server has the number of 2026-07-28 on sessions too; the gateway gives them that of sessions.
        code = -32002 if s.only2026 else -32602
        expect((error.code, (error.data or {}).get("uri")), (code, "test://no-such-resource"), "code and data for an unknown resource")
        expect((await refused(c.session.get_prompt("no_such_prompt"))).code, -32602, "code for an unknown prompt")
        answer = await s.post({"jsonrpc": "2.0", "id": "a string", "method": "no/such"}, c.session_id)
        body = answer.text if answer.headers["content-type"].startswith("application/json") else answer.text.rpartition("data: ")[2]
        body = json.loads(body)
        expect((body["id"], body["error"]["code"]), ("a string", -32601), "id and code for an unknown method")


@check
async def progress(s):
    """progress: every report in its order, before the result"""
    async with s.client() as c:
        seen = []

        async def report(progress, total, message):
            seen.append((progress, total, message))

        expect(await c.call("count", {"progress_callback": report}, steps=100, note="step"), "step", "result")
        expect(seen, [(n, 100, f"step {n}") for n in range(1, 101)], "reports")


@check
async def logs(s):
    """log messages: from the level on that was set, in their order"""
    async with s.client() as c:
        await c.session.set_logging_level("warning")
        await c.call("log_levels", note="one")
        await c.session.set_logging_level("debug")
        await c.call("log_levels", note="two")
        await c.until(lambda: len(c.logs) >= 13)
        levels = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
        expect(c.logs, [(n, f"one {n}") for n in levels[3:]] + [(n, f"two {n}") for n in levels], "messages")


@check
async def sampling(s):
    """sampling: the client's model is asked and its answer arrives, ten at once"""
    async with s.client("model") as c, anyio.create_task_group() as group:

        async def ask(number):
            expect(await c.call("test_sampling", prompt=f"question {number}"), "the model says: model answers", "answer")

        for number in range(10):
            group.start_soon(ask, number)
    expect(sorted(c.asked), sorted(f"question {n}" for n in range(10)), "questions")


@check
async def elicitation(s):
    """elicitation: accepted, declined and cancelled"""
    async with s.client("person") as c:
        expect(await c.call("test_elicitation", message="Who?"), 'accept: {"response":"person"}', "answer")
        for c.action in ("decline", "cancel"):
            expect(await c.call("test_elicitation", message="Who?"), f"{c.action}: {{}}", "answer")
        expect(c.asked, ["Who?"] * 3, "questions")


@check
async def roots(s):
    """roots: the server lists the client's"""
    async with s.client("home") as c:
        expect(json.loads(await c.call("roots")), [["file:///home", "home"]], "roots")
        await c.session.send_roots_list_changed()
        expect(json.loads(await c.call("roots")), [["file:///home", "home"]], "roots")


@check
async def pings(s):
    """ping: of the client and of the server"""
    async with s.client() as c:
        await c.session.send_ping()
        if not s.only2026:
            expect(json.loads(await c.call("ping_client")), {}, "answer to the server's ping")


@check
async def cancellation(s):
    """cancellation: the server hears which call is cancelled, and another goes on"""
    async with s.client() as c, anyio.create_task_group() as group:
        ids = {}

        async def wait(name):
            ids[name] = c.session._request_id
            await c.call("wait", name=name)

        for name in ("first", "second"):
            group.start_soon(wait, name)
            await c.call("begun", name=name)
        for name, left in (("first", ["second"]), ("second", [])):
            cancelled = types.CancelledNotification(params=types.CancelledNotificationParams(requestId=ids[name], reason="enough"))
            await c.session.send_notification(types.ClientNotification(cancelled))
            expect(await c.call("outcome", name=name), "cancelled", f"end of the {name}")
            expect(json.loads(await c.call("waiting")), left, "calls that go on")
        group.cancel_scope.cancel()


@check
async def completion(s):
    """completion: of a prompt's argument"""
    async with s.client() as c:
        reference = types.PromptReference(type="ref/prompt", name="test_prompt_with_arguments")
        found = (await c.session.complete(reference, {"name": "arg1", "value": "par"})).completion
        expect((found.values, found.total, found.hasMore), (["parallel", "parameter", "paris", "party"], 4, False), "values")


@check
async def resources(s):
    """resources: a text, bytes, a template"""
    async with s.client() as c:
        text = (await c.session.read_resource(AnyUrl("test://static-text"))).contents[0]
        expect((text.mimeType, text.text), ("text/plain", "a text that does not change"), "text")
        picture = (await c.session.read_resource(AnyUrl("test://static-binary"))).contents[0]
        expect(base64.b64decode(picture.blob)[1:4], b"PNG", "bytes")
        document = (await c.session.read_resource(AnyUrl("test://template/7%2F8/data"))).contents[0]
        expect(str(document.uri), "test://template/7%2F8/data", "address of a template's document")


@check
async def subscriptions(s):
    """subscriptions: a change is told to who subscribes, until unsubscribed"""
    async with s.client() as c:
        first, second = "test://watched-resource", "test://static-text"
        await c.call("touch", uri=first)
        for uri in (first, second):
            await c.session.subscribe_resource(AnyUrl(uri))
        await c.call("touch", uri=first)
        await c.until(lambda: c.told)
        await c.session.unsubscribe_resource(AnyUrl(first))
        for uri in (first, second):
            await c.call("touch", uri=uri)
        await c.until(lambda: len(c.told) >= 2)
        told = [(each.method, str(each.params.uri)) for each in c.told]
        expect(told, [("notifications/resources/updated", uri) for uri in (first, second)], "notifications")


@check
async def changed_lists(s):
    """changed lists: told for tools, resources and prompts, and the new ones are there"""
    async with s.client() as c:
        await c.call("grow", name="grown")
        wanted = {f"notifications/{kind}/list_changed" for kind in ("tools", "resources", "prompts")}
        await c.until(lambda: wanted <= set(c.methods()))
        require("grown" in {tool.name for tool in (await c.session.list_tools()).tools}, "the new tool is not listed")
        expect(await c.call("grown"), "grown", "answer of the new tool")
        expect((await c.session.read_resource(AnyUrl("test://grown"))).contents[0].text, "grown", "the new resource")
        expect((await c.session.get_prompt("grown")).messages[0].content.text, "grown", "the new prompt")


@check
async def parallel(s):
    """parallel: 50 calls at once, each with its own progress and its own answer"""
    async with s.client() as c, anyio.create_task_group() as group:

        async def count(number):
            seen = []

            async def report(progress, total, message):
                seen.append(message)

            expect(await c.call("count", {"progress_callback": report}, steps=5, note=f"n{number}"), f"n{number}", "answer")
            expect(seen, [f"n{number} {step}" for step in range(1, 6)], "reports")

        for number in range(50):
            group.start_soon(count, number)


@check
async def large(s):
    """large: a result of 5 MiB, an argument of 500 kB"""
    async with s.client() as c:
        text = await c.call("repeat", bytes=5 << 20)
        require(text == "0123456789abcdef" * (5 << 16), f"a result of {len(text)} bytes that is not what was asked for")
        text = "abcdefghij" * 50_000
        require(await c.call("echo", text=text) == text, "the argument came back changed")


@check
async def cut_call(s):
    """a call whose stream is cut in the middle of an event goes on where it was: nothing is lost, nothing comes twice"""
    async with s.client() as c, anyio.create_task_group() as group:
        seen = []

        async def report(progress, total, message):
            c.note(seen, progress)

        async def count():
            result.append(await c.call("count_in_two", {"progress_callback": report}, name="cut", steps=6))

        result = []
        c.wire.cut_at = b"cut 4"
        group.start_soon(count)
        await c.until(lambda: 6 in seen)
        await c.call("release", name="cut")
    expect((seen, result), (list(range(1, 13)), ["cut"]), "reports and result")
    expect(c.wire.cuts, 1, "cuts")
    require(any(method == "GET" and last for method, last in c.wire.sent), f"nothing was resumed: {c.wire.sent}")


@check
async def cut_listening(s):
    """a listening stream that is cut in the middle of an event is resumed: nothing is lost, nothing comes twice"""
    async with s.client() as c:
        uris = [f"test://cut-{number}" for number in range(6)]
        for uri in uris:
            await c.session.subscribe_resource(AnyUrl(uri))
        await c.call("touch", uri=uris[0])
        await c.until(lambda: c.told)
        c.wire.cut_at = b"test://cut-2"
        for uri in uris[1:]:
            await c.call("touch", uri=uri)
        await c.until(lambda: len(c.told) >= 6)
        expect([str(each.params.uri) for each in c.told], uris, "changes that were told")
        expect(c.wire.cuts, 1, "cuts")


@check
async def canaries(s):
    """two clients at once: nothing of one reaches the other, with equal ids, progress, questions, logs and changes"""
    async with s.client("albatross") as a, s.client("bittern") as b:

        async def play(c):
            for turn in range(10):
                note = f"{c.name} {turn}"

                async def report(progress, total, message, note=note):
                    require(message.startswith(note), f"{c.name} was told of {message!r}")

                expect(await c.call("echo", text=note), note, "echo")
                expect(await c.call("count", {"progress_callback": report}, steps=5, note=note), note, "result")
                expect(await c.call("test_sampling", prompt=note), f"the model says: {c.name} answers", "model")
                expect(await c.call("test_elicitation", message=note), f'accept: {{"response":"{c.name}"}}', "person")
                await c.call("log_levels", note=note)
                await c.session.subscribe_resource(AnyUrl(f"test://{c.name}/{turn}"))
                await c.call("touch", uri=f"test://{c.name}/{turn}")
            await c.call("grow", name=c.name)

        async with anyio.create_task_group() as group:
            group.start_soon(play, a)
            group.start_soon(play, b)
        for c, other in ((a, b), (b, a)):
            await c.until(lambda c=c: c.methods().count("notifications/resources/updated") >= 10)
            everything = repr((c.told, c.logs, c.asked))
            require(other.name not in everything, f"{c.name} was told of {other.name}")
            require(other.name not in {tool.name for tool in (await c.session.list_tools()).tools}, f"{c.name} lists a tool of {other.name}")
            expect((len(c.asked), {note.split()[0] for _, note in c.logs}), (20, {c.name}), f"questions and logs of {c.name}")


@gateway_only
async def processes(s):
    """a server process for each session"""
    async with s.client() as a, s.client() as b:
        require(await a.call("process") == await a.call("process"), "a session changed its process")
        require(await a.call("process") != await b.call("process"), "two sessions share a process")


@check
async def deleted(s):
    """a session that its client has deleted is gone: 404"""
    async with s.client() as c:
        expect((await s.post(PING, c.session_id)).status_code, 200, "status before")
    require(("DELETE", None) in c.wire.sent, "the client sent no DELETE")
    expect((await s.post(PING, c.session_id)).status_code, 404, "status after")


@gateway_only
async def transports(s):
    """other transports: HTTP+SSE and WebSocket carry calls and questions"""
    for name, transport in (("sse", sse_client(s.beside("http", "sse"))), ("ws", websocket_client(s.beside("ws", "ws")))):
        seen = Seen(name)
        async with transport as (read, write), s.session(seen, read, write) as seen.session:
            expect((await seen.session.initialize()).protocolVersion, "2025-11-25", f"revision over {name}")
            for text in TEXTS:
                expect(await seen.call("echo", text=text), text, f"text over {name}")
            expect(await seen.call("test_sampling", prompt="q"), f"the model says: {name} answers", "answer")
            expect(seen.asked, ["q"], f"questions over {name}")


def reason(error):
    """What went wrong, out of the groups that tasks put around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key")
    parser.add_argument("--gateway", action="store_true")
    parser.add_argument("--only2026", action="store_true")
    parser.add_argument("checks", nargs="*")
    given = parser.parse_intermixed_args()
    setting = Setting(given.url, given.key, given.only2026)
    possible = [each for each in CHECKS if given.gateway or not hasattr(each, "gateway_only")]
    # A loss ends no session of a WebSocket, so what is left of them would be taken for the other checks'.
    words = given.checks or [each.__name__ for each in possible if each is not transports]
    chosen = [each for each in possible if any(word in each.__name__ for word in words)]
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
            print(f"FAILED python {each.__name__}: {each.__doc__}\n    {said}", flush=True)
            if not isinstance(error, (Failed, TimeoutError)):
                traceback.print_exception(error, limit=-3, chain=False)
        else:
            print(f"ok python {each.__name__} ({time.monotonic() - began:.1f} s): {each.__doc__}", flush=True)
    print(f"{failed} of {len(chosen)} checks failed" if failed else f"{len(chosen)} checks passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(anyio.run(main))
