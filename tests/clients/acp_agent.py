#!/usr/bin/env python3
"""An agent on the official SDK of the Agent Client Protocol, which does what it is told.

The last line of a prompt that is a command decides; several joined with " && " run in order. Anything else is echoed.

    say:TEXT  think:TEXT  chunks:COUNT:SIZE  long:BYTES  model  history  sessions  environment:NAME  permission  error
    hang  exit:CODE  garbage  half  loose
"""
import asyncio
import os
import re
import sys
import uuid

import acp
from acp.schema import (AgentCapabilities, CloseSessionResponse, Implementation, InitializeResponse, NewSessionResponse, PermissionOption,
                        PromptCapabilities, PromptResponse, SessionCapabilities, SessionCloseCapabilities, SessionConfigOptionSelect,
                        SessionConfigSelectOption, SetSessionConfigOptionResponse, ToolCallUpdate, Usage)

COMMAND = re.compile(r"(say|think|chunks|long|model|history|sessions|environment|permission|error|hang|exit|garbage|half|loose)\b")


class Session:
    def __init__(self):
        self.model = "echo-1"
        self.prompts = []
        self.cancelled = asyncio.Event()


class EchoAgent(acp.Agent):
    def __init__(self):
        self.sessions = {}
        self.opened = 0

    def on_connect(self, conn):
        self.client = conn

    async def initialize(self, protocol_version, client_capabilities=None, client_info=None, **kwargs):
        return InitializeResponse(
            protocol_version=1,
            agent_info=Implementation(name="echo", title="Echo", version="1"),
            agent_capabilities=AgentCapabilities(prompt_capabilities=PromptCapabilities(image=True),
                                                 session_capabilities=SessionCapabilities(close=SessionCloseCapabilities())))

    async def new_session(self, cwd, mcp_servers=None, **kwargs):
        if not os.path.isabs(cwd) or os.listdir(cwd) or os.stat(cwd).st_mode & 0o077:
            raise acp.RequestError(-32602, f"{cwd} is not private and empty")
        name = uuid.uuid4().hex
        self.sessions[name] = Session()
        self.opened += 1
        return NewSessionResponse(session_id=name, config_options=[self.option("echo-1")])

    @staticmethod
    def option(model):
        options = [SessionConfigSelectOption(value=value, name=value) for value in ("echo-1", "echo-2")]
        return SessionConfigOptionSelect(id="model", name="Model", category="model", type="select", current_value=model, options=options)

    async def set_config_option(self, config_id, session_id, value, **kwargs):
        self.sessions[session_id].model = value
        return SetSessionConfigOptionResponse(config_options=[self.option(value)])

    async def close_session(self, session_id, **kwargs):
        self.sessions.pop(session_id, None)
        return CloseSessionResponse()

    async def cancel(self, session_id, **kwargs):
        self.sessions[session_id].cancelled.set()

    async def prompt(self, session_id, prompt, **kwargs):
        session = self.sessions[session_id]
        session.cancelled.clear()
        text = "\n".join(block.text for block in prompt if block.type == "text")
        session.prompts.append(text)
        lines = [re.sub(r"</?[\w-]+[^>]*>", "", line).strip() for line in text.splitlines()]
        lines = [line for line in lines if line]
        command = next((line for line in reversed(lines) if COMMAND.match(line)), "say:" + (lines[-1] if lines else ""))
        turn = asyncio.ensure_future(self.run(session_id, session, command))
        cancelled = asyncio.ensure_future(session.cancelled.wait())
        await asyncio.wait({turn, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        cancelled.cancel()
        if not turn.done():
            turn.cancel()
            return PromptResponse(stop_reason="cancelled")
        turn.result()
        return PromptResponse(stop_reason="end_turn", usage=Usage(input_tokens=11, output_tokens=7, total_tokens=18))

    async def say(self, session_id, text):
        await self.client.session_update(session_id, acp.update_agent_message_text(text))

    async def run(self, session_id, session, commands):
        for command in commands.split(" && "):
            name, _, value = command.partition(":")
            match name:
                case "say":
                    await self.say(session_id, value)
                case "think":
                    await self.client.session_update(session_id, acp.update_agent_thought_text(value))
                case "chunks":
                    count, size = map(int, value.split(":"))
                    for number in range(count):
                        await self.say(session_id, f"{number:0{size}}")
                case "long":
                    await self.say(session_id, "x" * int(value))
                case "model":
                    await self.say(session_id, session.model)
                case "history":
                    await self.say(session_id, f"{len(session.prompts)} prompts: " + " | ".join(session.prompts))
                case "sessions":
                    await self.say(session_id, str(self.opened))
                case "environment":
                    await self.say(session_id, os.environ.get(value, "unset"))
                case "permission":
                    options = [PermissionOption(option_id=kind, name=kind, kind=kind)
                               for kind in ("allow_always", "allow_once", "reject_once", "reject_always")]
                    call = ToolCallUpdate(tool_call_id="1", title="rm -rf /", kind="execute")
                    answer = await self.client.request_permission(session_id=session_id, tool_call=call, options=options)
                    await self.say(session_id, getattr(answer.outcome, "option_id", None) or answer.outcome.outcome)
                case "error":
                    raise acp.RequestError(-32603, "the model is tired")
                case "hang":
                    await asyncio.Event().wait()
                case "exit":
                    os._exit(int(value))
                case "garbage":
                    os.write(1, b"Hello!\n\xff\xfe{\n[1,2]\n{\"jsonrpc\":\"2.0\",\"method\":\"cursor/ask\",\"id\":\"x\"}\n" + b"z" * 1_048_576 + b"\n")
                case "half":
                    os.write(1, b'{"jsonrpc":"2.0","method":"session/up')
                    os._exit(0)
                case "loose":
                    # Nobody hears it any more, and it lives on.
                    os.close(1)
                    await asyncio.Event().wait()


if __name__ == "__main__":
    if "--exit" in sys.argv:
        sys.exit("this agent does not feel like it")
    asyncio.run(acp.run_agent(EchoAgent()))
