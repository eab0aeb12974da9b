"""An agent that does what the prompt says, in a thread of its own, and remembers all that it was sent.

The last message that is no instruction is a command, or has one between ⟦ and ⟧, so that a program may wrap the prompt into text of its own:
    say:TEXT             TEXT in pieces of three characters
    whole:TEXT           TEXT as one model_result
    second:TEXT          TEXT in the second dialect of the protocol
    think:TEXT           TEXT as reasoning_content, then "done"
    tool:NAME:JSON       a call of the tool NAME, its arguments in pieces
    tools:NAME:JSON      two calls of it
    error:CODE           an error before the first chunk; rate_limited asks for 7 s
    late:CODE            one chunk, then an error
    chunks:N:MS          N numbered chunks, MS milliseconds apart
    reordered:TEXT       TEXT with every pair of chunks swapped and every chunk sent twice
    surrogate            an emoji whose UTF-16 halves are in two chunks
    separators           U+2028, U+2029 and U+0085
    pause                one chunk, then silence
    hang                 silence
    die                  one chunk, then the connection drops

A marked call of a tool that the caller does not offer is not made: programs quote the prompt when they ask for a title.
"""
import asyncio
import json
import re
import threading
import time

import contract
from program import Failed
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

SEPARATORS = "a\u2028b\u2029c\u0085d"
USAGE = {"prompt_tokens": 11, "completion_tokens": 7}
INFINITE = 10**9


class ScriptedAgent:
    """Connects, registers `model` unless it is given a `session` whose token it connects with, and answers until `close`."""

    def __init__(self, url, token, model, session=None):
        self.model = model
        self.session = None
        self.closed = None
        self.invocations = []
        self.cancels = []
        self.statuses = []
        self.faults = []
        self.errors = []
        self._seen = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._tasks = {}
        self._socket = None
        self._thread = threading.Thread(target=self._run, args=(url, token, session), daemon=True)
        self._thread.start()
        self.wait(lambda: self.session or self.closed, "an answer to register")
        if self.session is None:
            raise Failed(f"the agent could not connect: {self.closed}")

    def wait(self, condition, what, seconds=10):
        """Waits until `condition()` is true, and returns its value."""
        with self._seen:
            if not self._seen.wait_for(condition, seconds):
                raise Failed(f"the agent waited {seconds} s for {what}; it got {len(self.invocations)} invocations, cancels {self.cancels}")
            return condition()

    def last(self):
        """The newest model_invoke."""
        return self.wait(lambda: self.invocations and self.invocations[-1], "an invocation")

    def cancelled(self, invocation, seconds=5):
        """(time, reason) of the model_cancel of an invocation, once it is there."""
        found = lambda: next(((at, reason) for at, id, reason in self.cancels if id == invocation), None)
        return self.wait(found, f"model_cancel of {invocation}", seconds)

    def kill(self):
        """Drops the connection without a close frame."""
        self._loop.call_soon_threadsafe(lambda: self._socket.transport.abort())

    def close(self):
        """Ends the connection in order."""
        asyncio.run_coroutine_threadsafe(self._socket.close(), self._loop)
        self._thread.join(10)

    def _run(self, url, token, session):
        try:
            self._loop.run_until_complete(self._serve(url, token, session))
        except ConnectionClosed as error:
            self._note(lambda code=error.rcvd.code if error.rcvd else "lost": setattr(self, "closed", code))
        except Exception as error:
            self._note(lambda reason=error: setattr(self, "closed", reason))
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))

    def _note(self, change):
        with self._seen:
            change()
            self._seen.notify_all()

    async def _send(self, **message):
        fault = contract.fault("from_agent", message)
        if fault:
            self.faults.append(f"this agent itself sent {fault}")
        # Raw line separators and escaped surrogates, as the two kinds of JSON writers have them.
        text = json.dumps(message, ensure_ascii=False)
        await self._socket.send(json.dumps(message) if any("\ud800" <= c <= "\udfff" for c in text) else text)

    async def _serve(self, url, token, session):
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(url, additional_headers=headers, max_size=None) as self._socket:
            if session:
                self._note(lambda: setattr(self, "session", session))
            else:
                await self._send(type="register", agent_id=f"agent-{self.model}", label="Scripted", models=[self.model],
                                 max_concurrency=256, capabilities={"tools": True, "vision": True, "embeddings": True})
            async for frame in self._socket:
                message = json.loads(frame)
                self._note(lambda: self._take(message))
                if message["type"] == "model_invoke":
                    task = asyncio.create_task(self._answer(message["id"], message["payload"]))
                    self._tasks[message["id"]] = task
        self._note(lambda: setattr(self, "closed", self._socket.close_code))

    def _take(self, message):
        fault = contract.fault("from_provider", message)
        if fault:
            self.faults.append(fault)
        match message["type"]:
            case "registered":
                self.session = message
            case "model_invoke":
                unknown = set(message["payload"].get("parameters", {})) - contract.PARAMETERS
                if unknown:
                    self.faults.append(f"parameters that the schema does not name: {sorted(unknown)}")
                self.invocations.append(message)
            case "model_cancel":
                self.cancels.append((time.monotonic(), message["id"], message["reason"]))
                if message["id"] in self._tasks:
                    self._tasks[message["id"]].cancel()
            case "session_status":
                self.statuses.append((message["status"], message["reason"]))
            case "error":
                self.errors.append(message["error"])

    async def _answer(self, id, payload):
        if payload["kind"] == "embedding":
            vectors = [[len(text), -0.5, 1 / 3] for text in payload["input"]]
            await self._send(type="model_result", id=id, status="ok", result={"embeddings": vectors, "usage": {"prompt_tokens": 4}})
            return
        content = payload.get("prompt")
        if payload["kind"] == "chat":
            # Claude Code tells about its surroundings behind the question.
            content = next((m["content"] for m in reversed(payload["messages"]) if m["role"] not in ("system", "developer")), None)
        if isinstance(content, list):
            content = "\n".join(part["text"] for part in content if part["type"] == "text")
        marked = re.search("⟦(.*)⟧", content or "", re.S)
        command, _, rest = (marked[1] if marked else content or "say:").partition(":")
        if marked and command in ("tool", "tools"):
            offered = [tool["function"]["name"] for tool in payload["parameters"].get("tools", [])]
            if rest.partition(":")[0] not in offered:
                command, rest = "say", "there is no such tool"
        await getattr(self, f"_do_{command}", self._do_say)(id, rest)

    async def _chunk(self, id, index, delta, finish=None, **more):
        await self._send(type="model_stream_chunk", id=id, chunk_index=index, delta=delta, finish_reason=finish, **more)

    async def _stream(self, id, deltas, finish="stop"):
        index = -1
        for index, delta in enumerate(deltas):
            await self._chunk(id, index, delta)
        await self._chunk(id, index + 1, {}, finish, usage=USAGE)

    async def _do_say(self, id, text):
        await self._stream(id, [{"content": text[at:at + 3]} for at in range(0, len(text), 3)])

    async def _do_whole(self, id, text):
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        await self._send(type="model_result", id=id, status="ok", result={"choices": [choice], "usage": USAGE})

    async def _do_second(self, id, text):
        await self._send(type="model_stream_chunk", id=id, chunk={"delta": {"content": text}, "finish_reason": None}, finished=False)
        await self._send(type="model_stream_chunk", id=id, chunk={"delta": {}, "finish_reason": "stop"}, finished=True)

    async def _do_think(self, id, text):
        await self._stream(id, [{"reasoning_content": text}, {"content": "done"}])

    async def _do_tool(self, id, call, calls=1):
        name, _, arguments = call.partition(":")
        deltas = []
        for index in range(calls):
            head = {"index": index, "id": f"call_{id}_{index}", "type": "function", "function": {"name": name, "arguments": ""}}
            deltas.append({"tool_calls": [head]})
            for at in range(0, len(arguments), 4):
                deltas.append({"tool_calls": [{"index": index, "function": {"arguments": arguments[at:at + 4]}}]})
        await self._stream(id, deltas, "tool_calls")

    async def _do_tools(self, id, call):
        await self._do_tool(id, call, calls=2)

    async def _do_error(self, id, code):
        detail = {"code": code, "message": f"the agent says {code}"} | ({"retry_after": 7} if code == "rate_limited" else {})
        await self._send(type="model_result", id=id, status="error", error=detail)

    async def _do_late(self, id, code):
        await self._chunk(id, 0, {"content": "so far "})
        await self._send(type="error", id=id, error={"code": code, "message": f"the agent says {code}"})

    async def _do_chunks(self, id, rest):
        count, _, pause = rest.partition(":")
        for index in range(int(count)):
            await self._chunk(id, index, {"content": f"{index} "})
            await asyncio.sleep(int(pause or 0) / 1000)
        await self._chunk(id, int(count), {}, "stop", usage=USAGE)

    async def _do_reordered(self, id, text):
        for at in range(0, len(text), 2):
            for index in (at + 1, at, at + 1):
                if index < len(text):
                    await self._chunk(id, index, {"content": text[index]})
        await self._chunk(id, len(text), {}, "stop")

    async def _do_surrogate(self, id, _):
        await self._stream(id, [{"content": "<\ud83d"}, {"content": "\ude00>"}])

    async def _do_separators(self, id, _):
        await self._stream(id, [{"content": SEPARATORS}])

    async def _do_pause(self, id, _):
        await self._chunk(id, 0, {"role": "assistant", "content": "first "})

    async def _do_die(self, id, _):
        await self._do_pause(id, _)
        self._socket.transport.abort()

    async def _do_hang(self, id, _):
        await asyncio.sleep(INFINITE)
