"""An agent on the official Python SDK of the Agent Client Protocol: it hands each prompt to a model, with the memory of its
session, and calls the tools of the MCP servers that the session names.

    MODEL_URL=http://127.0.0.1:PORT/v1 python sdk_agent.py
"""

import asyncio
import json
import os
import uuid
from contextlib import AsyncExitStack

import acp
import httpx2
import openai
from acp import schema
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

MODELS = ("m1", "m2")


class Session:
    """The memory, the tools and the model of one session."""

    def __init__(self):
        self.messages, self.tools, self.callers, self.model = [], [], {}, MODELS[0]
        self.turn = None
        self.stack = AsyncExitStack()

    async def connect(self, server):
        headers = {header.name: header.value for header in server.headers or []}
        http = await self.stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30, read=300)))
        streams = await self.stack.enter_async_context(streamable_http_client(server.url, http_client=http))
        client = await self.stack.enter_async_context(ClientSession(streams[0], streams[1]))
        await client.initialize()
        for tool in (await client.list_tools()).tools:
            self.callers[tool.name] = client
            function = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
            self.tools.append({"type": "function", "function": function})


class SdkAgent(acp.Agent):
    """One process, many sessions, one prompt a session."""

    def __init__(self):
        self.sessions = {}
        self.model = openai.AsyncOpenAI(base_url=os.environ["MODEL_URL"], api_key="none", max_retries=0)

    def on_connect(self, conn):
        self.client = conn

    async def initialize(self, protocol_version, client_capabilities=None, client_info=None, **_):
        capabilities = schema.AgentCapabilities(
            mcp_capabilities=schema.McpCapabilities(http=True),
            session_capabilities=schema.SessionCapabilities(close=schema.SessionCloseCapabilities()),
        )
        return schema.InitializeResponse(protocol_version=1, agent_capabilities=capabilities, auth_methods=[])

    async def new_session(self, cwd, additional_directories=None, mcp_servers=None, **_):
        session = Session()
        for server in mcp_servers or []:
            await session.connect(server)
        name = uuid.uuid4().hex
        self.sessions[name] = session
        return schema.NewSessionResponse(session_id=name, config_options=[self.option(session)])

    def option(self, session):
        options = [schema.SessionConfigSelectOption(value=name, name=name.upper()) for name in MODELS]
        return schema.SessionConfigOptionSelect(
            id="model", name="Model", category="model", type="select", current_value=session.model, options=options
        )

    async def set_config_option(self, config_id, session_id, value, **_):
        session = self.sessions[session_id]
        session.model = value
        return schema.SetSessionConfigOptionResponse(config_options=[self.option(session)])

    async def prompt(self, session_id, prompt, **_):
        session = self.sessions[session_id]
        session.messages.append({"role": "user", "content": "".join(block.text for block in prompt)})
        session.turn = asyncio.current_task()
        used = [0, 0]
        try:
            while await self.ask(session_id, session, used):
                pass
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            return schema.PromptResponse(stop_reason="cancelled")
        except openai.APIStatusError as error:
            raise acp.RequestError(-32603, "the model failed", {"status": error.status_code}) from error
        finally:
            session.turn = None
        usage = schema.Usage(input_tokens=used[0], output_tokens=used[1], total_tokens=sum(used))
        return schema.PromptResponse(stop_reason="end_turn", usage=usage)

    async def ask(self, session_id, session, used):
        """One call of the model. True when it called tools, whose results it has to hear."""
        more = {"tools": session.tools} if session.tools else {}
        stream = await self.model.chat.completions.create(
            model=session.model, messages=session.messages, stream=True, stream_options={"include_usage": True}, **more
        )
        text, calls = "", []
        async with stream:
            async for chunk in stream:
                if chunk.usage:
                    used[0] += chunk.usage.prompt_tokens
                    used[1] += chunk.usage.completion_tokens
                for choice in chunk.choices:
                    if thought := getattr(choice.delta, "reasoning_content", None):
                        await self.client.session_update(session_id, acp.update_agent_thought_text(thought))
                    if choice.delta.content:
                        text += choice.delta.content
                        await self.client.session_update(session_id, acp.update_agent_message_text(choice.delta.content))
                    calls += choice.delta.tool_calls or []
        message = {"role": "assistant", "content": text}
        session.messages.append(message)
        if not calls:
            return False
        message["tool_calls"] = [call.model_dump(include={"id", "type", "function"}) for call in calls]
        for call, result in zip(calls, await asyncio.gather(*(self.call(session, call) for call in calls)), strict=True):
            session.messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        return True

    async def call(self, session, call):
        result = await session.callers[call.function.name].call_tool(call.function.name, json.loads(call.function.arguments))
        return "".join(block.text for block in result.content)

    async def cancel(self, session_id, **_):
        turn = self.sessions[session_id].turn
        if turn:
            turn.cancel()

    async def close_session(self, session_id, **_):
        session = self.sessions.pop(session_id, None)
        if session and session.turn:
            session.turn.cancel()
        return schema.CloseSessionResponse()


asyncio.run(acp.run_agent(SdkAgent(), use_unstable_protocol=True))
