#!/usr/bin/env python3
"""Drives a program whose models are those of another instance of it, which it asks as an OpenAI, an Ollama and an Anthropic server: each
client dialect on each kind of upstream. Started by run.sh --upstreams.

    upstreams.py PROGRAM [--all] [CHECK ...]      --all: go on after a failure; CHECK: only checks whose names contain such a word
"""
import sys
import tempfile
import time
import traceback
from pathlib import Path

from clients import CONFIGURATION, ENVIRONMENT
from harness import BRIDGE_KEY, CHECKS, CLIENT_KEY, MODEL, Setting
from program import Failed, Program
from programs import Unsupported
from scripted_agent import ScriptedAgent

KINDS = {"openai": "/v1", "ollama": "", "anthropic": ""}
ALIASES = 'models: { aliases: { my-gpt-4o: { model: scripted, context_length: 128000 } } }'
"""Of the program that is asked. The other one has the model alone."""

SUITES = {"openai_checks", "schema_checks", "ollama_checks", "anthropic_checks", "editor_checks", "program_checks"}
OWN = {"rate_limit", "sixty_a_minute", "key_in_the_path", "authentication", "limits", "loading", "pull"}
"""Checks of what a program does alone, whoever answers."""
PROGRAMS = {"openai_node", "ollama_js", "ai_sdk"}
"""Of the programs that people use those that take seconds."""


def chosen():
    """The checks that make sense here, by their full names."""
    for function in CHECKS:
        suite, name = function.__module__, function.__name__
        if suite in SUITES and name not in OWN and (suite != "program_checks" or name in PROGRAMS):
            yield f"{suite}.{name}", function


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
                for name, function in chosen():
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
