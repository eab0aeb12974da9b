"""Asks the program's own registry with the official packages: tools, prompts and resources of one's own, changes that are told,
and a subscription."""

import json
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

from program import Failed, Program

HERE = Path(__file__).resolve().parent
OWNER, CLIENT = "the-key-of-the-owner", "the-key-of-the-client"
SECONDS = 30
TEXT = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
ENTRIES = {
    "tools": [
        {"name": "say", "description": "Says it.", "kind": "command", "command": ["/bin/echo", "{{ args.text }}"], "input_schema": TEXT},
        {"name": "fail", "kind": "command", "command": ["/bin/false"]},
        {"name": "twice", "kind": "chain", "steps": [
            {"id": "one", "tool": "say", "arguments": {"text": "{{ args.text }}"}},
            {"id": "two", "tool": "say", "arguments": {"text": "again: {{ steps.one.text }}"}},
        ]},
    ],
    "resources": [
        {"uri": "note://1", "name": "note", "kind": "text", "text": "the note"},
        {"uri_template": "word://{word}", "name": "word", "kind": "text", "text": "the word {{ args.word }}"},
    ],
    "prompts": [
        {"name": "greet", "arguments": [{"name": "who", "required": True}, {"name": "mood", "type": "enum", "values": ["glad", "sad"], "default": "glad"}],
         "messages": [{"role": "user", "content": "Hello {{ who }}, {{ mood }}"}]},
    ],
}


def configuration():
    """The program's file."""
    keys = [
        {"name": "owner", "key": OWNER, "role": "admin"},
        {"name": "client", "key": CLIENT, "role": "client", "allow": ["mcp", "registry"]},
    ]
    return json.dumps(
        {
            "listen": {"http": ["127.0.0.1:0"]},
            "auth": {"keys": keys},
            "registry": {"commands": ["/bin/echo", "/bin/false"]},
            "audit": {"file": "audit.jsonl"},
            "data_dir": "./data",
        }
    )


def change(base, method, path, body):
    """Changes the registry as its owner."""
    headers = {"Authorization": f"Bearer {OWNER}", "Content-Type": "application/json"}
    request = urllib.request.Request(base + path, json.dumps(body).encode(), headers, method=method)
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)


def run(report, given, folder, environment):
    """The checks of each package, in the eras that it speaks. `environment` is that of Node."""
    older, newer = [sys.executable, "-B", HERE / "registry_2025.py"], [folder.parent / "mcp-2026-venv/bin/python", "-B", HERE / "registry_2026.py"]
    clients = [("Python SDK", older), ("Python SDK of 2026-07-28", newer), ("Python SDK of 2026-07-28, with a session", [*newer, "--legacy"])]
    node = ["node", folder / "registry.mjs"]
    clients += [("TypeScript SDK", [*node, "--sessions"]), ("TypeScript SDK of 2026-07-28", node)]
    with tempfile.TemporaryDirectory(prefix="mlp-registry-") as home:
        file = Path(home, "config.yaml")
        file.write_text(configuration())
        running = Program(given, home, "--config", str(file))
        try:
            for kind, entries in ENTRIES.items():
                change(running.base, "POST", f"/{kind}", entries)
            for name, command in clients:
                words = [*command, running.base, "--key", CLIENT, "--owner", OWNER]
                done = subprocess.run([str(word) for word in words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * SECONDS)
                last = (done.stdout + done.stderr).strip()[-1500:]
                report.add(done.returncode == 0, f"registry, {name}: {last}")
        except (OSError, subprocess.TimeoutExpired) as error:
            report.add(False, f"registry: {type(error).__name__}: {error}")
            print(running.tail(), flush=True)
        status = running.stop()
        report.add(status == 0, f"exit status of the program with a registry: {status}")


def expect(seen, wanted, what):
    if seen != wanted:
        raise Failed(f"{what} is {seen!r}, not {wanted!r}")
