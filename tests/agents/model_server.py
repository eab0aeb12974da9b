"""A model for agents to ask: the four APIs that coding agents speak to their vendors, on one loopback port, without a
model behind them. What it answers is written in the prompt, as orders between pairs of percent signs:

    %%say TEXT%%          TEXT, word by word
    %%count N MS%%        the words w1 to wN, MS milliseconds apart
    %%think TEXT%%        TEXT as reasoning
    %%hang%%              one word, then silence until the client has gone
    %%fail STATUS%%       an error of that HTTP status
    %%call NAME JSON%%    a call of the offered tool whose name ends in NAME, with JSON as its arguments

The orders of the last line with any count. A turn that ends in results of tools is answered by `tool said: RESULT`, and one
without an order by `no order`. `GET /seen` tells what was asked: for each request its API, its size in bytes, the
names of the tools that were offered, the words that begin with `canary-`, and how it ended (`done`, `failed`, or
`left` when the client went away).

Standard library only. Prints `ready PORT` when it listens.
"""

import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ORDER = re.compile(r"%%(say|count|think|hang|fail|call)\b ?(.*?)%%")
USED_IN, USED_OUT = 11, 7


class Left(Exception):
    """The client has gone."""


def text_and_results(content):
    """The texts and the results of tools in a message's content, in the form of any of the APIs."""
    if isinstance(content, str):
        return [content], []
    texts, results = [], []
    for part in content or []:
        if not isinstance(part, dict):
            continue
        if part.get("type") == "tool_result":
            inner = part.get("content")
            results.append(inner if isinstance(inner, str) else " ".join(text_and_results(inner)[0]))
        elif "functionResponse" in part:
            results.append(json.dumps(part["functionResponse"].get("response")))
        elif isinstance(part.get("text"), str):
            texts.append(part["text"])
    return texts, results


def turns_of(api, body):
    """(role, texts, results) of each message, oldest first."""
    if api == "gemini":
        for message in body.get("contents", []):
            yield ("assistant" if message.get("role") == "model" else "user", *text_and_results(message.get("parts")))
    elif api == "responses":
        items = body.get("input", [])
        for item in [{"role": "user", "content": items}] if isinstance(items, str) else items:
            if item.get("type") == "function_call_output":
                output = item.get("output")
                yield "user", [], [output if isinstance(output, str) else " ".join(text_and_results(output)[0])]
            elif item.get("type", "message") == "message":
                yield (item.get("role"), *text_and_results(item.get("content")))
            elif item.get("type") in ("function_call", "reasoning"):
                yield "assistant", [], []
    else:
        for message in body.get("messages", []):
            texts, results = text_and_results(message.get("content"))
            if message.get("role") == "tool":
                texts, results = [], texts
            yield message.get("role"), texts, results


def orders_of(api, body):
    """What is to be answered."""
    texts = []
    for role, said, results in reversed(list(turns_of(api, body))):
        if role == "assistant":
            break
        if results:
            return [("say", "tool said: " + " | ".join(results))]
        if role == "user":
            texts = said + texts
    # The newest line with orders: agents put texts of their own around the person's, and a whole conversation may have
    # come as one text.
    for text in reversed(texts):
        for line in reversed(text.splitlines()):
            found = ORDER.findall(line)
            if found:
                return found
    return [("say", "no order")]


def tools_of(api, body):
    """The names of the offered tools."""
    for tool in body.get("tools") or []:
        if api == "gemini":
            yield from (each["name"] for each in tool.get("functionDeclarations", []))
        elif tool.get("type") == "namespace":
            yield from (tool["name"] + each["name"] for each in tool.get("tools", []))
        else:
            yield tool.get("name") or tool.get("function", {}).get("name") or ""


def example_of(schema):
    """The least value that a JSON Schema allows: some agents first ask which model is to answer."""
    kind = str(schema.get("type", "string")).lower()
    if "enum" in schema:
        return schema["enum"][0]
    if kind == "object":
        return {name: example_of(each) for name, each in schema.get("properties", {}).items()}
    return {"array": [], "integer": 1, "number": 1, "boolean": False}.get(kind, "because")


def words(text):
    return re.findall(r"\S+\s*", text)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = []
    lock = threading.Lock()

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/seen":
            with self.lock:
                self.reply(200, self.seen)
        elif path.endswith("/models"):
            self.reply(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in ("m1", "m2")]})
        else:
            self.reply(404, {"error": {"message": "not here"}})

    def do_POST(self):
        raw = self.rfile.read(int(self.headers.get("content-length", 0)))
        path = self.path.split("?")[0]
        body = json.loads(raw or b"{}")
        if path.endswith("count_tokens") or path.endswith(":countTokens"):
            self.reply(200, {"input_tokens": USED_IN, "totalTokens": USED_IN})
            return
        api = {"completions": "chat", "responses": "responses", "messages": "messages"}.get(path.rsplit("/", 1)[-1])
        if ":" in path.rsplit("/", 1)[-1]:
            api = "gemini"
        if api is None:
            self.reply(404, {"error": {"message": f"{path} is not here"}})
            return
        names = list(tools_of(api, body))
        # Gemini's name stands in the path.
        model = body.get("model") or path.rsplit("/", 1)[-1].split(":")[0]
        entry = {"api": api, "bytes": len(raw), "tools": names, "model": model, "end": None}
        entry["canaries"] = sorted({canary.decode() for canary in re.findall(rb"canary-\w+", raw)})
        with self.lock:
            self.seen.append(entry)
        streamed = body.get("stream", False) or ":stream" in path
        try:
            schema = body.get("generationConfig", {}).get("responseJsonSchema") or body.get("generationConfig", {}).get("responseSchema")
            orders = [("say", json.dumps(example_of(schema)))] if schema else orders_of(api, body)
            status = next((argument for verb, argument in orders if verb == "fail"), None)
            if status is not None:
                self.fail(int(status))
                entry["end"] = "failed"
                return
            answer = {"chat": Chat, "responses": Responses, "messages": Messages, "gemini": Gemini}[api](self, body, streamed)
            self.play(answer, orders, names)
            entry["end"] = "done"
        except (Left, BrokenPipeError, ConnectionResetError):
            entry["end"] = "left"
            self.close_connection = True

    def fail(self, status):
        error = {"type": "invalid_request_error", "code": status, "message": "the model failed as it was told", "status": "INVALID_ARGUMENT"}
        self.reply(status, {"type": "error", "error": error})

    def play(self, answer, orders, names):
        for verb, argument in orders:
            if verb == "say":
                for word in words(argument):
                    answer.text(word)
            elif verb == "count":
                count, pause = map(int, argument.split())
                for number in range(1, count + 1):
                    answer.text(f"w{number} ")
                    time.sleep(pause / 1000)
            elif verb == "think":
                for word in words(argument):
                    answer.think(word)
            elif verb == "hang":
                answer.text("waiting ")
                self.wait_until_left()
            elif verb == "call":
                name, _, given = argument.partition(" ")
                full = next((each for each in names if each.endswith(name)), None)
                if full is None:
                    answer.text(f"no tool {name} was offered")
                else:
                    answer.call(full, given or "{}")
        answer.end()

    def wait_until_left(self):
        self.connection.settimeout(120)
        try:
            if self.connection.recv(1) == b"":
                raise Left
        except TimeoutError:
            pass
        raise Left

    def reply(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def start_stream(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, data, name=None):
        text = data if isinstance(data, str) else json.dumps(data)
        self.wfile.write(((f"event: {name}\n" if name else "") + f"data: {text}\n\n").encode())
        self.wfile.flush()


class Answer:
    """An answer in the words of one API; whole ones are collected and sent at the end."""

    def __init__(self, handler, body, streamed):
        self.http, self.body, self.streamed = handler, body, streamed
        # Agents take two messages of one id for the same.
        self.id = len(Handler.seen)
        self.said, self.thought, self.calls = "", "", []
        if streamed:
            handler.start_stream()
            self.begin()

    def begin(self):
        pass

    def text(self, word):
        self.said += word
        if self.streamed:
            self.stream_text(word)

    def think(self, word):
        self.thought += word
        if self.streamed:
            self.stream_thought(word)

    def call(self, name, arguments):
        self.calls.append((f"call_{len(Handler.seen)}_{len(self.calls)}", name, arguments))
        if self.streamed:
            self.stream_call(*self.calls[-1])

    def end(self):
        if self.streamed:
            self.stream_end()
        else:
            self.http.reply(200, self.whole())


class Chat(Answer):
    def chunk(self, delta, finish=None, **more):
        base = {"id": f"c{self.id}", "object": "chat.completion.chunk", "created": 1, "model": self.body.get("model")}
        self.http.event({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more})

    def stream_text(self, word):
        self.chunk({"role": "assistant", "content": word})

    def stream_thought(self, word):
        self.chunk({"reasoning_content": word})

    def stream_call(self, identity, name, arguments):
        function = {"name": name, "arguments": arguments}
        self.chunk({"tool_calls": [{"index": len(self.calls) - 1, "id": identity, "type": "function", "function": function}]})

    def finish(self):
        return "tool_calls" if self.calls else "stop"

    def usage(self):
        return {"prompt_tokens": USED_IN, "completion_tokens": USED_OUT, "total_tokens": USED_IN + USED_OUT}

    def stream_end(self):
        self.chunk({}, self.finish(), usage=self.usage())
        self.http.event("[DONE]")

    def whole(self):
        calls = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in self.calls]
        message = {"role": "assistant", "content": self.said, **({"tool_calls": calls} if calls else {})}
        choice = {"index": 0, "message": message, "finish_reason": self.finish()}
        return {"id": f"c{self.id}", "object": "chat.completion", "created": 1, "model": self.body.get("model"), "choices": [choice], "usage": self.usage()}


class Responses(Answer):
    def emit(self, kind, **fields):
        self.http.event({"type": kind, **fields}, kind)

    def begin(self):
        self.items, self.message = [], None
        self.emit("response.created", response={"id": f"r{self.id}", "object": "response", "status": "in_progress", "output": []})

    def add(self, item):
        self.items.append(item)
        self.emit("response.output_item.added", output_index=len(self.items) - 1, item={**item, "status": "in_progress"})
        return len(self.items) - 1

    def stream_text(self, word):
        if self.message is None:
            self.message = self.add({"id": f"m{self.id}", "type": "message", "role": "assistant", "content": []})
        self.emit("response.output_text.delta", item_id=f"m{self.id}", output_index=self.message, content_index=0, delta=word)

    def stream_thought(self, word):
        if not self.items:
            self.add({"id": f"t{self.id}", "type": "reasoning", "summary": []})
            self.emit("response.reasoning_summary_part.added", item_id=f"t{self.id}", output_index=0, summary_index=0, part={"type": "summary_text", "text": ""})
        self.emit("response.reasoning_summary_text.delta", item_id=f"t{self.id}", output_index=0, summary_index=0, delta=word)

    def stream_call(self, identity, name, arguments):
        item = {"id": "f" + identity, "type": "function_call", "call_id": identity, "name": name, "arguments": arguments}
        for tool in self.body.get("tools") or []:
            if tool.get("type") == "namespace" and name.startswith(tool["name"]):
                item.update(namespace=tool["name"], name=name[len(tool["name"]):])
        self.emit("response.output_item.done", output_index=self.add(item), item={**item, "status": "completed"})

    def stream_end(self):
        if self.message is not None:
            item = self.items[self.message]
            item["content"] = [{"type": "output_text", "text": self.said, "annotations": []}]
            self.emit("response.output_item.done", output_index=self.message, item={**item, "status": "completed"})
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        usage = {"input_tokens": USED_IN, "output_tokens": USED_OUT, "total_tokens": USED_IN + USED_OUT, **details}
        self.emit("response.completed", response={"id": f"r{self.id}", "object": "response", "status": "completed", "output": self.items, "usage": usage})

    def whole(self):
        item = {"id": f"m{self.id}", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": self.said, "annotations": []}]}
        usage = {"input_tokens": USED_IN, "output_tokens": USED_OUT, "total_tokens": USED_IN + USED_OUT}
        return {"id": f"r{self.id}", "object": "response", "status": "completed", "output": [item], "usage": usage}


class Messages(Answer):
    def emit(self, kind, **fields):
        self.http.event({"type": kind, **fields}, kind)

    def begin(self):
        self.index, self.open = -1, None
        message = {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "model": self.body.get("model"), "content": []}
        usage = {"input_tokens": USED_IN, "output_tokens": 1}
        self.emit("message_start", message={**message, "stop_reason": None, "stop_sequence": None, "usage": usage})

    def block(self, kind, start):
        if self.open != kind or kind == "tool_use":
            self.close()
            self.index, self.open = self.index + 1, kind
            self.emit("content_block_start", index=self.index, content_block={"type": kind, **start})

    def close(self):
        if self.open:
            self.emit("content_block_stop", index=self.index)
            self.open = None

    def delta(self, kind, **fields):
        self.emit("content_block_delta", index=self.index, delta={"type": kind, **fields})

    def stream_text(self, word):
        self.block("text", {"text": ""})
        self.delta("text_delta", text=word)

    def stream_thought(self, word):
        self.block("thinking", {"thinking": "", "signature": ""})
        self.delta("thinking_delta", thinking=word)

    def stream_call(self, identity, name, arguments):
        self.block("tool_use", {"id": identity, "name": name, "input": {}})
        self.delta("input_json_delta", partial_json=arguments)

    def stop(self):
        return "tool_use" if self.calls else "end_turn"

    def stream_end(self):
        self.close()
        self.emit("message_delta", delta={"stop_reason": self.stop(), "stop_sequence": None}, usage={"output_tokens": USED_OUT})
        self.emit("message_stop")

    def whole(self):
        content = [{"type": "text", "text": self.said}] if self.said else []
        content += [{"type": "tool_use", "id": i, "name": n, "input": json.loads(a)} for i, n, a in self.calls]
        usage = {"input_tokens": USED_IN, "output_tokens": USED_OUT}
        return {"id": f"msg_{self.id}", "type": "message", "role": "assistant", "model": self.body.get("model"), "content": content, "stop_reason": self.stop(), "stop_sequence": None, "usage": usage}


class Gemini(Answer):
    def candidate(self, parts, finish=None):
        candidate = {"index": 0, "content": {"role": "model", "parts": parts}}
        if finish:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": USED_IN, "candidatesTokenCount": USED_OUT, "totalTokenCount": USED_IN + USED_OUT}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m1"}

    def stream_text(self, word):
        self.http.event(self.candidate([{"text": word}]))

    def stream_thought(self, word):
        self.http.event(self.candidate([{"text": word, "thought": True}]))

    def stream_call(self, identity, name, arguments):
        self.http.event(self.candidate([{"functionCall": {"id": identity, "name": name, "args": json.loads(arguments)}}]))

    def stream_end(self):
        self.http.event(self.candidate([{"text": ""}], "STOP"))

    def whole(self):
        parts = [{"text": self.said}] + [{"functionCall": {"id": i, "name": n, "args": json.loads(a)}} for i, n, a in self.calls]
        return self.candidate(parts, "STOP")


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 0), Handler)
    server.daemon_threads = True
    print("ready", server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
