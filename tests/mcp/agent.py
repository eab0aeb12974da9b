#!/usr/bin/env python3
"""A client with `sampling` that answers as a model, on the official Python package up to revision 2025-11-25, unmodified.

    agent.py URL --key KEY --name NAME [--listen]

--listen: it calls no tool, and is asked on the stream of its session. Its answers are those that sampling.py expects. It ends with
its standard input.
"""

import argparse
import sys

import anyio
import httpx
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client


class Model:
    """The model behind a client."""

    def __init__(self, name):
        self.name, self.cancelled = name, 0

    def said(self, text):
        content = types.TextContent(type="text", text=text)
        return types.CreateMessageResult(role="assistant", model=self.name, content=content, stopReason="endTurn")

    async def sample(self, context, params):
        content = params.messages[-1].content
        block = content[0] if isinstance(content, list) else content
        if isinstance(block, types.ToolResultContent):
            return self.said(f"{self.name}: {block.content[0].text}")
        if params.tools:
            used = types.ToolUseContent(type="tool_use", id="call-1", name=params.tools[0].name, input={"zone": "UTC"})
            return types.CreateMessageResultWithTools(role="assistant", model=self.name, content=[used], stopReason="toolUse")
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


async def serve(session):
    while not (await session.call_tool("serve", {"seconds": 2})).isError:
        pass
    print("ended", flush=True)


async def main(given):
    model = Model(given.name)
    capabilities = types.SamplingCapability(tools=types.SamplingToolsCapability())
    about = types.Implementation(name=given.name, version="1")
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {given.key}"}, timeout=httpx.Timeout(30, read=300)) as http:
        async with streamable_http_client(given.url, http_client=http) as (read, write, _):
            async with ClientSession(read, write, sampling_callback=model.sample, sampling_capabilities=capabilities, client_info=about) as session:
                await session.initialize()
                async with anyio.create_task_group() as tasks:
                    if not given.listen:
                        tasks.start_soon(serve, session)
                    await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
                    tasks.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--key")
    parser.add_argument("--name")
    parser.add_argument("--listen", action="store_true")
    anyio.run(main, parser.parse_args())
