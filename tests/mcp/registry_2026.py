#!/usr/bin/env python3
"""Asks the registry with the official Python package of revision 2026-07-28, unmodified.

    registry_2026.py BASE --key KEY --owner KEY [--legacy]

BASE: the program's address, whose registry holds what registry.py has put there. --owner: a key that may change it. --legacy: it speaks
2025-11-25.
"""

import argparse
import sys
from pathlib import Path

import anyio
import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import ResourceUpdated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients"))
from registry import SECONDS, change, expect  # noqa: E402


async def code(awaitable):
    """The code of the error that a request ends with."""
    try:
        value = await awaitable
    except MCPError as error:
        return error.error.code
    return f"none, but {value!r}"


async def checks(c, given):
    expect([tool.name for tool in (await c.list_tools()).tools], ["fail", "say", "twice"], "tools")
    said = await c.call_tool("say", {"text": "a b; $(id)"})
    expect((said.is_error, said.content[0].text), (False, "a b; $(id)\n"), "what a command says")
    twice = await c.call_tool("twice", {"text": "x"})
    expect(twice.content[0].text.split(), ["again:", "x"], "what a chain says")
    expect([(await c.call_tool(tool, {})).is_error for tool in ("fail", "say")], [True, True], "a failed run, and one with wrong arguments")
    expect(await code(c.call_tool("none", {})), -32602, "code of an unknown tool")
    expect([str(it.uri) for it in (await c.list_resources()).resources], ["note://1"], "resources")
    expect([it.uri_template for it in (await c.list_resource_templates()).resource_templates], ["word://{word}"], "templates")
    read = [(await c.read_resource(uri)).contents[0].text for uri in ("note://1", "word://yes")]
    expect(read, ["the note", "the word yes"], "what is read")
    expect(await code(c.read_resource("none://1")), -32002 if given.legacy else -32602, "code of an unknown resource")
    expect([prompt.name for prompt in (await c.list_prompts()).prompts], ["greet"], "prompts")
    expect((await c.get_prompt("greet", {"who": "you"})).messages[0].content.text, "Hello you, glad", "the prompt")
    found = (await c.complete(types.PromptReference(name="greet"), {"name": "mood", "value": "s"})).completion
    expect(found.values, ["sad"], "the completion")
    expect(await code(c.get_prompt("none")), -32602, "code of an unknown prompt")
    if given.legacy:
        return
    async with c.listen(resource_subscriptions=["note://1"]) as events:
        note = {"uri": "note://1", "name": "note", "kind": "text", "text": "the note"}
        await anyio.to_thread.run_sync(change, given.base, "PUT", "/resources/note%3A%2F%2F1", note)
        expect(await anext(events), ResourceUpdated("note://1"), "what is told")


async def main(given):
    mode = "legacy" if given.legacy else "auto"
    url = f"{given.base}/servers/registry/mcp"
    with anyio.fail_after(SECONDS):
        async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {given.key}"}, timeout=SECONDS) as http:
            async with Client(streamable_http_client(url, http_client=http), cache=None, mode=mode) as client:
                expect(client.protocol_version, "2025-11-25" if given.legacy else "2026-07-28", "revision")
                await checks(client, given)
    print("all holds")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("base")
    parser.add_argument("--key")
    parser.add_argument("--owner")
    parser.add_argument("--legacy", action="store_true")
    anyio.run(main, parser.parse_args())
