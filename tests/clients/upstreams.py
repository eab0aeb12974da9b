#!/usr/bin/env python3
"""Drives a program whose models are those of another instance of it, which it asks as an OpenAI, an Ollama and an Anthropic server: each
client dialect on each kind of upstream. Started by run.sh --upstreams.

    upstreams.py PROGRAM [--all] [CHECK ...]      --all: go on after a failure; CHECK: only checks whose names contain such a word
"""
import http.client
import json
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

from clients import CONFIGURATION, ENVIRONMENT
from harness import BRIDGE_KEY, CHECKS, CLIENT_KEY, MODEL, Setting, check, expect, require, user
from program import Failed, Program
from programs import Unsupported
from scripted_agent import ScriptedAgent

KINDS = {"openai": "/v1", "ollama": "", "anthropic": ""}
ALIASES = 'models: { aliases: { my-gpt-4o: { model: scripted, context_length: 128000 } } }'
"""Of the program that is asked. The other one has the model alone."""

SUITES = {"openai_checks", "schema_checks", "ollama_checks", "anthropic_checks", "editor_checks", "program_checks"}
OWN = {"rate_limit", "sixty_a_minute", "key_in_the_path", "authentication", "limits", "loading", "pull"}
"""Checks of what a program does alone, whoever answers."""
WITHOUT = {
    "openai": {},
    "ollama": {
        "openai_checks.tools_whole": "no tool_choice",
        "openai_checks.parameters": "no parallel_tool_calls, no user",
        "openai_checks.errors_of_the_agent": "an error is a text",
        "openai_checks.errors_in_a_stream": "an error is a text",
        "schema_checks.responses": "a refusal has no text",
        "anthropic_checks.errors": "an error is a text",
    },
    "anthropic": {
        "openai_checks.parameters": "JSON without a schema is refused",
        "openai_checks.reasoning": "it thinks when it is asked to",
        "openai_checks.completions": "no gap is filled",
        "openai_checks.embeddings": "no embeddings",
        "schema_checks.embeddings_and_models": "no embeddings",
        "schema_checks.responses": "a refusal has no text",
        "ollama_checks.generate": "no gap is filled",
        "ollama_checks.options": "JSON without a schema is refused",
        "ollama_checks.fill": "no gap is filled",
        "ollama_checks.embed": "no embeddings",
        "editor_checks.nulls": "max_tokens is required",
        "editor_checks.mistral_fill": "no gap is filled",
        "editor_checks.lm_studio": "no embeddings",
        "program_checks.openai_node": "no gap is filled",
        "program_checks.ollama_js": "no gap is filled",
        "program_checks.ai_sdk": "no embeddings",
    },
}
"""Checks that ask for what an API has no form for, each with that."""
PROGRAMS = {"openai_node", "ollama_js", "ai_sdk"}
"""Of the programs that people use those that take seconds."""


@check
def no_form(s):
    """what the API of the upstream has no form for is named in x-ignored-parameters, or refused by its name"""
    given = {"seed": 3, "top_k": 4, "num_ctx": 2048, "temperature": 0.5}
    ignored = {"openai": {"top_k", "num_ctx"}, "ollama": set(), "anthropic": {"seed", "num_ctx"}}[s.upstream]
    status, headers, body = s.request("POST", "/api/chat", {"model": MODEL, "messages": user("say:x"), "stream": False, "options": given})
    expect((status, set(filter(None, (headers["x-ignored-parameters"] or "").split(", ")))), (200, ignored), f"status and ignored ({body[:200]})")
    seen = s.agent.last()["payload"]["parameters"]
    expect({name: seen.get(name) for name in given}, {name: None if name in ignored else value for name, value in given.items()}, "parameters at the agent")
    if s.upstream != "anthropic":
        return
    chat = {"model": MODEL, "messages": user("say:x")}
    for path, body, words in (("/v1/embeddings", {"model": MODEL, "input": "one"}, "embeddings"),
                              ("/v1/completions", {"model": MODEL, "prompt": "a", "suffix": "b"}, "suffix"),
                              ("/v1/chat/completions", chat | {"response_format": {"type": "json_object"}}, "response_format")):
        before = len(s.agent.invocations)
        status, _, text = s.request("POST", path, body)
        require(status == 400 and words in json.loads(text)["error"]["message"], f"{path}: {status} {text[:300]}")
        expect(len(s.agent.invocations), before, "invocations")


@check
def cancels(s):
    """a client that leaves a stream, or waits for an answer, closes the connection to the upstream: the agent behind it is cancelled"""
    for text, stream in (("chunks:100000:1", True), ("pause", True), ("hang", False)):
        before = len(s.agent.invocations)
        body = json.dumps({"model": MODEL, "messages": user(text), "stream": stream}).encode()
        client = http.client.HTTPConnection(s.program.base.removeprefix("http://"), timeout=30)
        client.request("POST", "/v1/chat/completions", body, {"Authorization": f"Bearer {CLIENT_KEY}"})
        id = s.agent.wait(lambda: s.agent.invocations[before:] and s.agent.invocations[-1]["id"], "an invocation")
        if stream:
            client.getresponse().read(1)
        client.sock and client.sock.shutdown(socket.SHUT_RDWR)
        client.close()
        expect(s.agent.cancelled(id)[1], "client_disconnected", f"reason after {text}")


def chosen(kind):
    """The checks that make sense here, by their full names."""
    for function in CHECKS:
        suite, name = function.__module__, function.__name__
        full = f"{suite}.{name}"
        if suite == "__main__":
            yield name, function
        elif suite in SUITES and name not in OWN and full not in WITHOUT[kind] and (suite != "program_checks" or name in PROGRAMS):
            yield full, function


def main():
    go_on = "--all" in sys.argv
    words = [word for word in sys.argv[2:] if word != "--all"]
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="mlp-upstreams-") as folder:
        running = []

        def start(name, more):
            home = Path(folder, name, "home")
            home.mkdir(parents=True)
            (home / "config.yaml").write_text(CONFIGURATION.replace(ALIASES, "") + more)
            running.append(Program(sys.argv[1], home, "--config", "config.yaml", environment=ENVIRONMENT))
            return running[-1]

        try:
            behind = start("behind", "")
            agent = ScriptedAgent(behind.websocket, BRIDGE_KEY, MODEL)
            for kind, path in KINDS.items():
                entry = f'upstreams: [{{ name: up, kind: {kind}, url: "{behind.base}{path}", key: "env:CLIENT_KEY", retries: 0, circuit: {{ failures: 0 }} }}]\n'
                s = Setting(start(kind, f"{ALIASES}\n{entry}"), agent, upstream=kind)
                for name, function in chosen(kind):
                    if words and not any(word in f"{kind} {name}" for word in words):
                        continue
                    began = time.monotonic()
                    try:
                        function(s)
                    except Unsupported as reason:
                        print(f"skip {kind} upstream, {function.__doc__}: {reason}", flush=True)
                        continue
                    except Exception as error:
                        print(f"FAIL {kind} upstream, {function.__doc__}\n     {name}: {error}", flush=True)
                        if not isinstance(error, Failed):
                            traceback.print_exc()
                        if not go_on:
                            print(s.program.tail())
                            return 1
                        failed += 1
                        continue
                    print(f"ok   {kind} upstream, {function.__doc__} ({time.monotonic() - began:.1f} s)", flush=True)
                    passed += 1
        finally:
            for program in running:
                program.process.kill()
    print(f"{passed} checks passed{f', {failed} failed' if failed else ''}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
