#!/usr/bin/env python3
"""A client with `sampling` that answers as a model, on the official Python package of revision 2026-07-28, unmodified.

    agent_2026.py URL --key KEY --name NAME [--legacy] [--listen]

--legacy: it speaks 2025-11-25. --listen: it calls no tool, and is asked on the stream of its session. Its answers are those that
sampling.py expects. It ends with its standard input.
"""

import argparse
import sys

import anyio
import httpx2
import mcp_types as types
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client


class Model:
    """The model behind a client."""

    def __init__(self, name):
        self.name, self.cancelled = name, 0

    def said(self, text):
        content = types.TextContent(type="text", text=text)
        return types.CreateMessageResult(role="assistant", model=self.name, content=content, stop_reason="endTurn")

    async def sample(self, context, params):
        content = params.messages[-1].content
        block = content[0] if isinstance(content, list) else content
        if isinstance(block, types.ToolResultContent):
            return self.said(f"{self.name}: {block.content[0].text}")
        if params.tools:
            used = types.ToolUseContent(type="tool_use", id="call-1", name=params.tools[0].name, input={"zone": "UTC"})
            return types.CreateMessageResultWithTools(role="assistant", model=self.name, content=[used], stop_reason="toolUse")
        if block.text == "refuse":
            return types.ErrorData(code=-1, message="the person refuses")
        if block.text == "wait":
            try:
                await anyio.sleep(3)
            except anyio.get_cancelled_exc_class():
                self.cancelled += 1
                raise
        if block.text == "cancelled":
            return self.said(f"{self.name}: {self.cancelled}")
        return self.said(f"{self.name}: {block.text}")


async def serve(client):
    while not (await client.call_tool("serve", {"seconds": 2})).is_error:
        pass
    print("ended", flush=True)


async def main(given):
    model = Model(given.name)
    more = {
        "mode": "legacy" if given.legacy else "auto",
        "sampling_callback": model.sample,
        "sampling_capabilities": types.SamplingCapability(tools=types.SamplingToolsCapability()),
        "client_info": types.Implementation(name=given.name, version="1"),
    }
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {given.key}"}, timeout=30) as http:
        async with Client(streamable_http_client(given.url, http_client=http), cache=None, **more) as client:
            print(client.protocol_version, flush=True)
            async with anyio.create_task_group() as tasks:
                if not given.listen:
                    tasks.start_soon(serve, client)
                await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
                tasks.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key")
    parser.add_argument("--name")
    parser.add_argument("--legacy", action="store_true")
    parser.add_argument("--listen", action="store_true")
    anyio.run(main, parser.parse_args())
