"""The official ollama package, unmodified."""
import json

import ollama
import openai
from harness import CLIENT_KEY, MODEL, check, expect, raises, require, user
from openai_checks import OSLO, WEATHER
from scripted_agent import SEPARATORS


def ask(s, text, **more):
    return s.ollama.chat(model=MODEL, messages=user(text), **more)


@check
def chat(s):
    """ollama: chat, whole and streamed, with true counts and timings"""
    answer = ask(s, "say:Hello, world")
    expect((answer.message.content, answer.done, answer.done_reason, answer.model), ("Hello, world", True, "stop", MODEL), "answer")
    expect((answer.prompt_eval_count, answer.eval_count), (11, 7), "counts")
    require(answer.total_duration > 0 and answer.created_at, f"total_duration {answer.total_duration}, created_at {answer.created_at}")
    parts = list(ask(s, "say:Hello, world", stream=True))
    expect("".join(p.message.content or "" for p in parts), "Hello, world", "streamed text")
    expect([p.done for p in parts], [False] * (len(parts) - 1) + [True], "done")
    require(len(parts) > 4, f"{len(parts)} parts: the pieces were not streamed")
    expect((parts[-1].done_reason, parts[-1].eval_count), ("stop", 7), "done_reason and eval_count of the last part")


@check
def on_the_wire(s):
    """ollama: the bytes of a stream, which is on unless it is switched off"""
    status, headers, body = s.request("POST", "/api/chat", {"model": MODEL, "messages": user("separators")})
    expect((status, headers["Content-Type"]), (200, "application/x-ndjson"), "status, Content-Type")
    s.names_the_invocation(headers["X-Request-ID"])
    require(not any(c.encode() in body for c in "\u2028\u2029\u0085"), "a raw line separator is in the bytes")
    lines = body.decode().split("\n")
    expect((lines[-1], "" in lines[:-1]), ("", False), "end of the body, blank lines")
    for line in map(json.loads, lines[:-1]):
        expect((line["model"], line["message"]["role"], type(line["message"]["content"]), "created_at" in line),
               (MODEL, "assistant", str, True), f"model, role, content, created_at of {line}")


@check
def generate(s):
    """ollama: generate, whole and streamed; an empty prompt loads"""
    expect(s.ollama.generate(model=MODEL, prompt="say:Hello").response, "Hello", "whole answer")
    parts = list(s.ollama.generate(model=MODEL, prompt="say:Hello, world", stream=True))
    expect(("".join(p.response for p in parts), parts[-1].done, parts[-1].done_reason), ("Hello, world", True, "stop"), "streamed answer")
    expect((parts[-1].prompt_eval_count, parts[-1].eval_count), (11, 7), "counts")
    before = len(s.agent.invocations)
    loaded = s.ollama.generate(model=MODEL)
    expect((loaded.done, loaded.done_reason, loaded.response), (True, "load", ""), "answer to an empty prompt")
    expect(ask(s, "say:x") and len(s.agent.invocations) - before, 1, "invocations since")
    s.ollama.generate(model=MODEL, prompt="say:x", suffix="after", options={"num_predict": 9, "stop": ["\n\n"]})
    payload = s.agent.last()["payload"]
    expect((payload["kind"], payload["prompt"], payload["suffix"], payload["parameters"]["max_tokens"], payload["parameters"]["stop"]),
           ("completion", "say:x", "after", 9, ["\n\n"]), "fill in the middle at the agent")


@check
def tools(s):
    """ollama: tool calls have dicts as arguments, whole and streamed, and come back so"""
    call = ask(s, OSLO, tools=[WEATHER]).message.tool_calls[0]
    expect((call.function.name, dict(call.function.arguments)), ("weather", {"city": "Oslo", "days": [1, 2]}), "name and arguments")
    parts = list(ask(s, OSLO.replace("tool:", "tools:"), tools=[WEATHER], stream=True))
    calls = [c for p in parts for c in p.message.tool_calls or []]
    expect([dict(c.function.arguments) for c in calls], [{"city": "Oslo", "days": [1, 2]}] * 2, "streamed arguments")
    expect(parts[-1].done, True, "done of the last part")
    messages = [*user("Weather?"), {"role": "assistant", "content": "", "tool_calls": [c.model_dump() for c in calls[:1]]},
                {"role": "tool", "tool_name": "weather", "content": "say:Rain"}]
    expect(s.ollama.chat(model=MODEL, messages=messages, tools=[WEATHER]).message.content, "Rain", "answer to a tool's result")
    seen = s.agent.last()["payload"]["messages"]
    expect(json.loads(seen[1]["tool_calls"][0]["function"]["arguments"]), {"city": "Oslo", "days": [1, 2]}, "arguments at the agent")
    expect(seen[2].get("tool_call_id"), seen[1]["tool_calls"][0]["id"], "tool_call_id at the agent")


@check
def options(s):
    """ollama: options, format, think, images and keep_alive"""
    ask(s, "say:x", options={"num_predict": 5, "temperature": 0.2, "seed": 4, "num_ctx": 2048, "top_k": 10}, format="json", keep_alive=-1)
    seen = s.agent.last()["payload"]["parameters"]
    wanted = {"max_tokens": 5, "temperature": 0.2, "seed": 4, "num_ctx": 2048, "top_k": 10, "response_format": {"type": "json_object"}}
    if s.upstream == "openai":
        del wanted["num_ctx"], wanted["top_k"]
    expect({k: v for k, v in seen.items() if k != "stream"}, wanted, "parameters at the agent")
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    ask(s, "say:x", format=schema)
    form = s.agent.last()["payload"]["parameters"]["response_format"]
    expect((form["type"], form["json_schema"]["schema"]), ("json_schema", schema), "response_format at the agent")
    answer = ask(s, "think:Hmm", think=True)
    expect((answer.message.content, answer.message.thinking), ("done", "Hmm"), "content and thinking")
    s.ollama.chat(model=MODEL, messages=[{"role": "user", "content": "say:x", "images": ["iVBORw0KGgo="]}])
    content = s.agent.last()["payload"]["messages"][0]["content"]
    require({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}} in content, f"content at the agent: {content}")


@check
def text(s):
    """ollama: split surrogates are joined, U+2028 and its like arrive, stop is applied"""
    for command, wanted in (("surrogate", "<\U0001f600>"), ("separators", SEPARATORS), ("whole:One piece", "One piece")):
        expect(ask(s, command).message.content, wanted, f"whole answer to {command}")
        expect("".join(p.message.content or "" for p in ask(s, command, stream=True)), wanted, f"streamed answer to {command}")
    expect(ask(s, "say:one two<END>three", options={"stop": ["<END>"]}).message.content, "one two", "answer that is cut")


@check
def lists(s):
    """ollama: list, show, ps, version, name:latest, and the root page"""
    entry = next((m for m in s.ollama.list().models if m.model == f"{MODEL}:latest"), None)
    require(entry, f"models are {[m.model for m in s.ollama.list().models]}")
    require(entry.digest and entry.modified_at and entry.size is not None and entry.details.family, f"entry: {entry}")
    for name in (MODEL, f"{MODEL}:latest"):
        shown = s.ollama.show(name)
        require({"completion", "tools"} <= set(shown.capabilities), f"capabilities of {name}: {shown.capabilities}")
        architecture = shown.modelinfo["general.architecture"]
        require(shown.modelinfo[f"{architecture}.context_length"] > 0, f"model_info: {shown.modelinfo}")
    expect(s.ollama.chat(model=f"{MODEL}:latest", messages=user("say:here")).message.content, "here", "answer of name:latest")
    require(f"{MODEL}:latest" in [m.model for m in s.ollama.ps().models], f"ps: {s.ollama.ps()}")
    version = json.loads(s.request("GET", "/api/version")[2])["version"]
    require(tuple(map(int, version.split("."))) >= (0, 13, 4), f"version {version}")
    expect(s.request("GET", "/")[2], b"Ollama is running", "root page")
    expect(s.request("HEAD", "/")[0], 200, "status of HEAD /")


@check
def pull(s):
    """ollama: pulling a model that is here succeeds, streamed and whole; another one is refused in words"""
    expect([s.ollama.pull(MODEL).status, [part.status for part in s.ollama.pull(f"{MODEL}:latest", stream=True)]], ["success", ["success"]], "status")
    for action in (lambda: s.ollama.pull("no-such"), lambda: s.ollama.delete(MODEL)):
        error = raises(ollama.ResponseError, action)
        expect((error.status_code, "agents" in error.error), (501, True), f"error {error.error!r}")


@check
def key_in_the_path(s):
    """ollama: a key in the host's path"""
    client = ollama.Client(host=f"{s.program.base}/k/{CLIENT_KEY}")
    expect(client.chat(model=MODEL, messages=user("say:in")).message.content, "in", "answer")
    require(client.list().models, "no models")


@check
def nothing_but_the_host(s):
    """ollama and openai where programs look for an Ollama: without a key, and with a key that guides make up"""
    client = ollama.Client(host=s.program.last)
    require(client.list().models, "no models")
    expect("".join(part.message.content for part in client.chat(model=MODEL, messages=user("say:Hello, world"), stream=True)), "Hello, world", "answer")
    guided = openai.OpenAI(base_url=f"{s.program.last}/v1", api_key="ollama", max_retries=0, timeout=30)
    expect(guided.chat.completions.create(model=MODEL, messages=user("say:in")).choices[0].message.content, "in", "answer to the key `ollama`")


@check
def errors(s):
    """ollama: ResponseError with the right status, before and in a stream"""
    bare = ollama.Client(host=s.program.base)
    expect(raises(ollama.ResponseError, lambda: bare.chat(model=MODEL, messages=user("x"))).status_code, 401, "status without a key")
    error = raises(ollama.ResponseError, lambda: s.ollama.chat(model="no-such", messages=user("x")))
    expect((error.status_code, "no-such" in error.error), (404, True), f"status of an unknown model, named in {error.error!r}")
    expect(raises(ollama.ResponseError, lambda: s.ollama.show("no-such")).status_code, 404, "status of show")
    for code, status in (("rate_limited", 429), ("overloaded", 503), ("context_length", 400), ("internal", 502), ("timeout", 504)):
        for stream in (False, True):
            action = (lambda: list(ask(s, f"error:{code}", stream=True))) if stream else (lambda: ask(s, f"error:{code}"))
            error = raises(ollama.ResponseError, action)
            expect((error.status_code, f"the agent says {code}" in error.error), (status, True), f"status of {code} ({error.error}), stream={stream}")
    got = []

    def read():
        for part in ask(s, "late:internal", stream=True):
            got.append(part.message.content)

    error = raises(ollama.ResponseError, read)
    expect(("".join(got), "the agent says internal" in error.error), ("so far ", True), f"text before the error {error.error!r}")


@check
def fill(s):
    """ollama: a gap filled by generate with a suffix, raw and streamed"""
    parts = list(s.ollama.generate(model=MODEL, prompt="say:return x", suffix="}", raw=True, options={"num_predict": 300}, stream=True))
    expect(("".join(part.response for part in parts), parts[-1].done), ("return x", True), "answer")
    expect(s.agent.last()["payload"]["suffix"], "}", "suffix")


@check
def embed(s):
    """ollama: embed and embeddings"""
    answer = s.ollama.embed(model=MODEL, input=["one", "three"])
    expect([vector[0] for vector in answer.embeddings], [3, 5], "vectors")
    require(answer.total_duration > 0 and answer.prompt_eval_count == 4, f"answer: {answer}")
    expect(list(s.ollama.embeddings(model=MODEL, prompt="seven").embedding)[:2], [5, -0.5], "the older form")
