#!/usr/bin/env python3
"""Asks the registry with the official Python package of the revisions with sessions, unmodified.

    registry_2025.py BASE --key KEY --owner KEY

BASE: the program's address, whose registry holds what registry.py has put there. --owner: a key that may change it.
"""

import argparse
import sys
from pathlib import Path

import anyio
import httpx
from mcp import ClientSession, McpError, types
from mcp.client.streamable_http import streamable_http_client
from pydantic import AnyUrl
from wire import Wire

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))
from registry import SECONDS, change, expect  # noqa: E402


async def code(awaitable):
    """The code of the error that a request ends with."""
    try:
        value = await awaitable
    except McpError as error:
        return error.error.code
    return f"none, but {value!r}"


async def checks(c, given, told):
    expect([tool.name for tool in (await c.list_tools()).tools], ["fail", "say", "twice"], "tools")
    said = await c.call_tool("say", {"text": "a b; $(id)"})
    expect((said.isError, said.content[0].text), (False, "a b; $(id)\n"), "what a command says")
    twice = await c.call_tool("twice", {"text": "x"})
    expect(twice.content[0].text.split(), ["again:", "x"], "what a chain says")
    expect([(await c.call_tool(tool, {})).isError for tool in ("fail", "say")], [True, True], "a failed run, and one with wrong arguments")
    expect(await code(c.call_tool("none", {})), -32602, "code of an unknown tool")
    expect([str(it.uri) for it in (await c.list_resources()).resources], ["note://1"], "resources")
    expect([it.uriTemplate for it in (await c.list_resource_templates()).resourceTemplates], ["word://{word}"], "templates")
    read = [(await c.read_resource(AnyUrl(uri))).contents[0].text for uri in ("note://1", "word://yes")]
    expect(read, ["the note", "the word yes"], "what is read")
    expect(await code(c.read_resource(AnyUrl("none://1"))), -32002, "code of an unknown resource")
    expect([prompt.name for prompt in (await c.list_prompts()).prompts], ["greet"], "prompts")
    expect((await c.get_prompt("greet", {"who": "you"})).messages[0].content.text, "Hello you, glad", "the prompt")
    reference = types.PromptReference(type="ref/prompt", name="greet")
    found = (await c.complete(reference, {"name": "mood", "value": "s"})).completion
    expect(found.values, ["sad"], "the completion")
    expect(await code(c.get_prompt("none")), -32602, "code of an unknown prompt")
    await c.subscribe_resource(AnyUrl("note://1"))
    note = {"uri": "note://1", "name": "note", "kind": "text", "text": "the note"}
    await anyio.to_thread.run_sync(change, given.base, "PUT", "/resources/note%3A%2F%2F1", note)
    expect([await told.receive(), await told.receive()], ["notifications/resources/list_changed", "notifications/resources/updated"], "what is told")


async def main(given):
    send, told = anyio.create_memory_object_stream(100)

    async def hear(message):
        if isinstance(message, types.ServerNotification):
            await send.send(message.root.method)

    wire = Wire()
    headers = {"Authorization": f"Bearer {given.key}"}
    with anyio.fail_after(SECONDS):
        async with (
            httpx.AsyncClient(headers=headers, timeout=SECONDS, transport=wire) as http,
            streamable_http_client(f"{given.base}/servers/registry/mcp", http_client=http) as (read, write, _),
            ClientSession(read, write, message_handler=hear) as session,
        ):
            await session.initialize()
            await wire.listening.wait()
            await checks(session, given, told)
    print("all holds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("--key")
    parser.add_argument("--owner")
    anyio.run(main, parser.parse_args())
