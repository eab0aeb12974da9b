#!/usr/bin/env python3
"""Drives a running program with the official client packages. Started by run.sh; see there.

    clients.py PROGRAM [--all] [CHECK ...]      --all: go on after a failure; CHECK: only checks whose names contain such a word
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from importlib.metadata import version
from pathlib import Path

import contract
import ollama
import openai
from harness import (BRIDGE_KEY, CHECKS, CLIENT_KEY, METERED_KEY, MODEL, OPERATOR_KEY, OWNER_KEY, PACED_KEY, Setting, check, eventually, expect,
                     raises, require, user)
from program import Failed, Program, own_environment
from programs import Unsupported
from scripted_agent import ScriptedAgent

ENVIRONMENT = {"CLIENT_KEY": CLIENT_KEY, "BRIDGE_KEY": BRIDGE_KEY, "OPERATOR_KEY": OPERATOR_KEY, "METERED_KEY": METERED_KEY,
               "PACED_KEY": PACED_KEY, "OWNER_KEY": OWNER_KEY}
CONFIGURATION = """
listen: { http: ["127.0.0.1:0"], ollama: "127.0.0.1:0" }
auth:
  keys:
    - { name: editor, key: "env:CLIENT_KEY", role: client }
    - { name: bridge, key: "env:BRIDGE_KEY", role: bridge }
    - { name: operator, key: "env:OPERATOR_KEY", role: operator }
    - { name: metered, key: "env:METERED_KEY", role: client, requests_per_minute: 2 }
    - { name: owner, key: "env:OWNER_KEY", role: admin }
    - { name: paced, key: "env:PACED_KEY", role: client, requests_per_minute: 60 }
limits: { requests_per_minute: 1000000, tokens_per_minute: 1000000000, burst: 1000000 }
sessions: { approval: automatic }
models: { aliases: { my-gpt-4o: { model: scripted, context_length: 128000 } } }
audit: { file: ../audit.jsonl }
data_dir: ./data
"""


@check
def examples(s):
    """docs/agent-protocol.md: every example is valid against the schema"""
    found = list(contract.examples())
    require(len(found) > 30, f"only {len(found)} examples were found")
    for direction, message in found:
        fault = contract.fault(direction, message)
        require(fault is None, fault)


@check
def no_agent(s):
    """no agent: 503 whose message says what to do, while lists and health answer"""
    for ask in (lambda: s.openai.chat.completions.create(model=MODEL, messages=user("x")),
                lambda: s.openai.chat.completions.create(model=MODEL, messages=user("x"), stream=True)):
        error = raises(openai.InternalServerError, ask)
        expect((error.status_code, error.code), (503, "no_agent"), "status and code")
        require("/agent" in error.message or "--demo" in error.message, f"the message does not say what to do: {error.message}")
    error = raises(ollama.ResponseError, lambda: s.ollama.chat(model=MODEL, messages=user("x")))
    expect(error.status_code, 503, "status for ollama")
    s.openai.models.list()
    s.ollama.list()
    s.ollama.ps()
    status, _, body = s.request("GET", "/health", key=None)
    health = json.loads(body)
    require(status == 200 and {"status", "version", "uptime_seconds", "active_sessions", "timestamp"} <= set(health), f"health: {status} {body}")
    expect(health["active_sessions"], 0, "active_sessions")


@check
def agent_connects(s):
    """an agent is refused without a good token, and registers with the bridge's"""
    for key in ("nobody", CLIENT_KEY):
        try:
            ScriptedAgent(s.program.websocket, key, MODEL)
        except Failed as refusal:
            wanted = "401" if key == "nobody" else "403"
            require(wanted in str(refusal), f"refusal of {key!r}: {refusal}")
        else:
            raise Failed(f"the token {key!r} was accepted")
    s.agent = ScriptedAgent(s.program.websocket, BRIDGE_KEY, MODEL)
    expect(s.agent.session["status"], "active", "state of the session")
    require(not s.agent.faults, f"frames against the schema: {s.agent.faults}")


import openai_checks  # noqa: E402, F401  the order of imports is the order of checks
import registry_checks  # noqa: E402, F401
import schema_checks  # noqa: E402, F401
import ollama_checks  # noqa: E402, F401
import anthropic_checks  # noqa: E402, F401
import editor_checks  # noqa: E402, F401
import operator_checks  # noqa: E402, F401
import program_checks  # noqa: E402, F401
import link_checks  # noqa: E402, F401  its last checks end the agent and the program


@check
def demo(s):
    """--demo: no file, no question; the lines that it prints to paste stream"""
    with tempfile.TemporaryDirectory(prefix="mlp-demo-") as home:
        program = Program(sys.argv[1], home, "--demo", "--listen", "127.0.0.1:0")
        try:
            find = lambda: [line.strip() for line in program.lines if re.match(r"\s*(curl -N|python3 -c) ", line)]
            eventually(lambda: len(find()) >= 3, "three lines to paste", 5)
            for command in find():
                if command.startswith("curl") and not shutil.which("curl"):
                    continue
                command = re.sub(r"^python3 ", f"{sys.executable} ", command)
                pasted = subprocess.Popen(["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                times, text = [], b""
                while piece := os.read(pasted.stdout.fileno(), 65536):
                    times.append(time.monotonic())
                    text += piece
                expect(pasted.wait(60), 0, f"exit status of {command} ({pasted.stderr.read()[-500:]})")
                require(len(times) > 5, f"{command} did not stream: {len(times)} pieces, {text[-300:]}")
        finally:
            status = program.stop()
        expect(status, 0, "exit status after SIGTERM")


@check
def port_taken(s):
    """a port that is taken: one clear sentence and a status that is not 0"""
    with tempfile.TemporaryDirectory(prefix="mlp-taken-") as home:
        program = Program(sys.argv[1], home, "--demo", "--listen", "127.0.0.1:0")
        try:
            address = program.base.removeprefix("http://")
            second = subprocess.run(
                [Path(sys.argv[1]).resolve(), "--listen", address], cwd=home, capture_output=True, text=True, timeout=20, env=own_environment(home))
            require(second.returncode != 0, "exit status 0")
            require(address in second.stderr, f"the address is not named: {second.stderr}")
        finally:
            program.stop()


def main():
    go_on = "--all" in sys.argv
    words = [word for word in sys.argv[2:] if word != "--all"]
    always = {"agent_connects"}
    with tempfile.TemporaryDirectory(prefix="mlp-clients-") as home:
        Path(home, "config.yaml").write_text(CONFIGURATION)
        s = None
        try:
            s = Setting(Program(sys.argv[1], home, "--config", "config.yaml", environment=ENVIRONMENT))
            s.measured["ready"] = f"{s.program.seconds_to_ready * 1000:.0f} ms after start"
            passed = failed = 0
            for function in CHECKS:
                name = f"{function.__module__}.{function.__name__}"
                asked = any(word in name for word in words)
                if function.__name__ not in always and not asked and (words or hasattr(function, "by_name")):
                    continue
                try:
                    function(s)
                except Unsupported as reason:
                    print(f"skip {function.__doc__}: {reason}", flush=True)
                    continue
                except Exception as error:
                    print(f"FAIL {function.__doc__}\n     {name}: {error}", flush=True)
                    if not isinstance(error, Failed):
                        traceback.print_exc()
                    for fault in (s.agent.faults[:3] if s.agent else []):
                        print(f"     and the agent got {fault}")
                    print(s.program.tail())
                    if not go_on:
                        return 1
                    failed += 1
                    continue
                print(f"ok   {function.__doc__}", flush=True)
                passed += 1
            for what, value in s.measured.items():
                print(f"     {what}: {value}")
            print(f"{passed} checks passed{f', {failed} failed' if failed else ''}: "
                  + ", ".join(f"{name} {version(name)}" for name in ("openai", "ollama", "anthropic")))
            return 1 if failed else 0
        except Failed as error:
            print(f"FAIL the program starts\n     {error}")
            return 1
        finally:
            if s and s.program.process.poll() is None:
                s.program.process.kill()


if __name__ == "__main__":
    sys.exit(main())
