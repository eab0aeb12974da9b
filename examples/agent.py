#!/usr/bin/env python3
"""An AI agent for MCP Local Provider. It repeats the last message, or calls the first of your tools; put your own into `answer`.
    pip install websockets
    python agent.py ws://127.0.0.1:8788/agent BRIDGE_KEY [MODEL]     (or set PROVIDER_URL and PROVIDER_TOKEN)
"""
import asyncio, contextlib, json, os, random, sys, websockets

async def answer(payload):
    """Yields the answer to the payload of a model_invoke, delta by delta. It is cancelled once nobody waits for the answer."""
    tools = payload.get("parameters", {}).get("tools")
    if tools and payload["messages"][-1]["role"] == "user":  # the result of a tool comes back with the role "tool"
        call = {"name": tools[0]["function"]["name"], "arguments": "{}"}
        yield {"tool_calls": [{"index": 0, "id": "call_0", "type": "function", "function": call}]}
        return
    asked = payload["messages"][-1].get("content") if "messages" in payload else payload.get("prompt")
    asked = " ".join(part.get("text", "") for part in asked) if isinstance(asked, list) else asked
    for word in f"The example agent heard: {asked or 'nothing'}".split():
        yield {"content": word + " "}
        await asyncio.sleep(0.03)

async def invoke(send, invocation, payload):
    """Streams one answer. A model_cancel cancels this task."""
    index, reason = 0, "stop"
    try:
        async for delta in answer(payload):
            await send(type="model_stream_chunk", id=invocation, chunk_index=index, delta=delta)
            index, reason = index + 1, "tool_calls" if "tool_calls" in delta else reason
        await send(type="model_stream_chunk", id=invocation, chunk_index=index, delta={}, finish_reason=reason)
    except Exception as error:
        with contextlib.suppress(websockets.ConnectionClosed):  # then the provider knows already
            await send(type="error", id=invocation, error={"code": "internal", "message": str(error)})

async def serve(socket, model, session):
    """Answers until the connection ends. `session` keeps the session token for the next connection."""
    running, send = {}, lambda **message: socket.send(json.dumps(message))
    if "token" not in session:
        await send(type="register", agent_id=model, label="Example agent", models=[model], capabilities={"tools": True})
    try:
        async for frame in socket:
            message = json.loads(frame)
            match message["type"]:
                case "registered" | "session_status":
                    session |= {"token": message["session_token"]} if "session_token" in message else {}
                    print(f"session {message['session_id']} is {message['status']}", flush=True)
                case "model_invoke":
                    running[message["id"]] = task = asyncio.create_task(invoke(send, message["id"], message["payload"]))
                    task.add_done_callback(lambda _, done=message["id"]: running.pop(done))
                case "model_cancel" if message["id"] in running:
                    running[message["id"]].cancel()
                case "ping":
                    await send(type="pong", timestamp=message.get("timestamp"))
                case "error":
                    print("the provider says:", message["error"]["message"], file=sys.stderr)
    finally:
        for task in running.values():
            task.cancel()

async def main(url, token, model="example"):
    session, pause = {}, 1
    while True:
        try:
            async with websockets.connect(url, additional_headers={"Authorization": "Bearer " + session.get("token", token)}) as socket:
                pause = 1
                await serve(socket, model, session)
        except websockets.InvalidStatus as refusal:
            if refusal.response.status_code in (401, 403, 404) and not session.pop("token", None):
                sys.exit(f"{url} refuses this agent: {refusal.response.body.decode(errors='replace').strip()}")
        except websockets.ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code in (1008, 4001, 4002):
                sys.exit(f"{url} ended the connection for good: {closed.rcvd.code} {closed.rcvd.reason}")
        except (OSError, websockets.InvalidHandshake) as error:
            print(f"{url} is not there, trying again: {error}", file=sys.stderr)
        await asyncio.sleep(random.uniform(0, pause))
        pause = min(pause * 2, 60)

if __name__ == "__main__":
    where = sys.argv[1:] or [os.environ.get("PROVIDER_URL", "ws://127.0.0.1:8788/agent"), os.environ.get("PROVIDER_TOKEN", "")]
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(*where) if len(where) > 1 else sys.exit(__doc__))
