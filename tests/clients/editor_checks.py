"""What editors send and insist on, in their own shapes: fields with nulls, lists read by strict parsers, probes."""
import json

from harness import CLIENT_KEY, METERED_KEY, MODEL, check, expect, require, user


def lines(s, path, body):
    status, _, text = s.request("POST", path, body)
    expect(status, 200, f"status of {path} ({text[:300]})")
    return [json.loads(line) for line in text.decode().splitlines()]


@check
def probes(s):
    """editors: GET and HEAD of the pages by which they find Ollama, with a key in the path too"""
    for path in ("/", "/api/version", "/api/tags"):
        for prefix, key in (("", CLIENT_KEY), (f"/k/{CLIENT_KEY}", None)):
            (got, _, body), (head, _, nothing) = (s.request(method, prefix + path, key=key) for method in ("GET", "HEAD"))
            expect((got, head, nothing), (200, 200, b""), f"statuses of {prefix}{path}, and the body of HEAD")
            require(body, f"no body of {path}")
    expect((s.request("HEAD", "/", key=None)[0], s.request("GET", "/api/tags", key=None)[0]), (200, 401), "statuses without a key")


@check
def lists(s):
    """editors: every field that Zed's, Roo's and Copilot's parsers of /api/tags, /api/show and /api/ps insist on"""
    tags = json.loads(s.request("GET", "/api/tags")[2])["models"]
    details = {"format", "family", "families", "parameter_size", "quantization_level"}
    for entry in tags:
        require({"name", "model", "modified_at", "size", "digest", "details"} <= set(entry) and details <= set(entry["details"]), f"entry {entry}")
        require(entry["name"].count(":") == 1 and len(entry["digest"]) == 64, f"name and digest of {entry}")
        # Continue names the model by another field; Zed drops the whole list when one of these fails.
        for field in ("model", "name"):
            shown = json.loads(s.request("POST", "/api/show", {field: entry["name"]})[2])
            info = shown["model_info"]
            context = info[f"{info['general.architecture']}.context_length"]
            expect(shown["parameters"], f"num_ctx {context}", "parameters")
            require({"completion", "tools"} <= set(shown["capabilities"]) and "general.basename" in info, f"shown: {shown}")
            expect(".Suffix" in shown["template"], "insert" in shown["capabilities"], "whether the template fills in the middle")
            require(details <= set(shown["details"]), f"details {shown['details']}")
    running = json.loads(s.request("GET", "/api/ps")[2])["models"]
    require(all({"name", "model", "expires_at", "size_vram", "digest", "details"} <= set(entry) for entry in running), f"running: {running}")
    version = json.loads(s.request("GET", "/api/version")[2])["version"]
    require(tuple(map(int, version.split("."))) >= (0, 13, 4), f"version {version}")


@check
def nulls(s):
    """editors: fields that are null or unknown, and max_tokens -1, are as if they were absent, in both chat dialects"""
    zed = {"model": MODEL, "messages": user("say:x"), "stream": True, "think": None, "keep_alive": -1, "tools": [], "format": None,
           "options": {"num_ctx": None, "num_predict": None, "stop": None, "temperature": None, "top_p": None, "made_up": 1}, "made_up": {}}
    parts = lines(s, "/api/chat", zed)
    require(all({"model", "created_at", "message", "done"} <= set(part) for part in parts), f"lines: {parts}")
    expect("".join(part["message"]["content"] for part in parts), "x", "answer")
    seen = s.agent.last()["payload"]["parameters"]
    expect({name: value for name, value in seen.items() if value not in ([], True)}, {}, "parameters at the agent")
    void = {"model": MODEL, "stream": True, "max_tokens": -1, "temperature": None, "stop": None, "tools": None, "seed": None, "made_up": [],
            "response_format": None, "messages": [{"role": "assistant", "content": "a", "anthropicReasoning": None, "tool_calls": None}, *user("say:x")],
            "stream_options": None, "reasoning_effort": None, "metadata": None, "user": None, "top_p": None, "presence_penalty": None}
    s.events(void)
    expect({**s.agent.last()["payload"]["parameters"], "stream": True}, {"stream": True}, "parameters at the agent")
    # A schema without a type, as Void has them.
    bare = {"type": "function", "function": {"name": "look", "parameters": {"properties": {}}}}
    s.events({"model": MODEL, "messages": user("say:x"), "tools": [bare]})
    expect(s.agent.last()["payload"]["parameters"]["tools"], [bare], "tools at the agent")


@check
def loading(s):
    """editors: a chat without messages, or a prompt that is empty, loads; keep_alive 0 unloads; no agent is asked"""
    before = len(s.agent.invocations)
    for path, empty in (("/api/chat", {"messages": []}), ("/api/generate", {})):
        for more, reason in (({}, "load"), ({"keep_alive": 0}, "unload")):
            *_, last = lines(s, path, {"model": MODEL} | empty | more)
            expect((last["done"], last["done_reason"]), (True, reason), f"answer of {path} with {more}")
    expect(len(s.agent.invocations), before, "invocations")


@check
def bodies(s):
    """editors: a body is JSON whatever its content type says, as curl -d sends it"""
    for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"):
        for path, body in (("/api/chat", {"stream": False}), ("/v1/chat/completions", {})):
            status, _, text = s.request("POST", path, {"model": MODEL, "messages": user("say:read")} | body, **{"Content-Type": kind})
            require(status == 200 and b'"read"' in text, f"{path} with {kind}: {status} {text[:300]}")


@check
def mistral_fill(s):
    """editors: Mistral's fill in the middle as Continue reads it: a content in every delta, and choices in every event"""
    body = {"model": MODEL, "prompt": "say:return x\n\nnever", "suffix": "}", "stop": ["\n\n"], "random_seed": 3, "stream": True}
    _, _, text = s.request("POST", "/v1/fim/completions", body)
    chunks = [json.loads(line[6:]) for line in text.decode().split("\n") if line.startswith("data: ") and line != "data: [DONE]"]
    expect("".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks), "return x", "streamed text")
    expect((chunks[-1]["choices"][0]["finish_reason"], chunks[-1]["usage"]["total_tokens"] > 0), ("stop", True), "the last chunk")
    payload = s.agent.last()["payload"]
    expect((payload["kind"], payload["suffix"], payload["parameters"]["seed"]), ("completion", "}", 3), "invocation")
    whole = json.loads(s.request("POST", "/v1/fim/completions", body | {"stream": False})[2])
    expect((whole["object"], whole["choices"][0]["message"]["content"]), ("chat.completion", "return x"), "whole answer")


@check
def lm_studio(s):
    """editors: LM Studio's lists as Zed's strict parser reads them, and its routes for answers"""
    models = json.loads(s.request("GET", "/api/v0/models")[2])["data"]
    for model in [*models, json.loads(s.request("GET", f"/api/v0/models/{MODEL}")[2])]:
        require(model["object"] == "model" and model["type"] in ("llm", "vlm", "embeddings") and model["compatibility_type"] in ("gguf", "mlx")
                and model["state"] in ("loaded", "loading", "not-loaded") and model["publisher"] and model["max_context_length"] > 0
                and "tool_use" in model["capabilities"], f"model {model}")
    lengths = {model["id"]: model["loaded_context_length"] for model in models}
    expect(lengths["my-gpt-4o"], 128000, "context of the alias")
    body = {"model": MODEL, "messages": user("say:there"), "max_tokens": -1, "stream": True}
    _, _, text = s.request("POST", "/api/v0/chat/completions", body)
    chunks = [json.loads(line[6:]) for line in text.decode().split("\n") if line.startswith("data: ") and line != "data: [DONE]"]
    expect("".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks), "there", "streamed text")
    for path, more in (("completions", {"prompt": "say:there"}), ("embeddings", {"input": "one"})):
        expect(s.request("POST", f"/api/v0/{path}", {"model": MODEL} | more)[0], 200, f"status of {path}")
    status, _, text = s.request("GET", "/api/v0/models/no-such")
    expect((status, json.loads(text)["error"]["code"]), (404, "model_not_found"), "unknown model")


@check
def limits(s):
    """editors: 429 with whole seconds in Retry-After, in Ollama's form too"""
    for _ in range(3):
        status, headers, body = s.request("POST", "/api/chat", {"model": MODEL, "messages": user("say:x"), "stream": False}, METERED_KEY)
    expect((status, headers["Retry-After"].isdigit(), type(json.loads(body)["error"])), (429, True, str), "answer")
