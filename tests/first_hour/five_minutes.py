"""Records the first five minutes of a new user with both windows, for docs/first-five-minutes.md.

The person has Gemini CLI installed. It is the agent of tests/agents here, since a login and a vendor's model are not there for
a test; what the program shows is the same.
"""

import difflib
import os
import re
import socket
import subprocess
from pathlib import Path

from agents import require
from bench import Terminal
from program import own_environment

PAGE = Path(__file__).parents[2] / "docs" / "first-five-minutes.md"
PROMPT = "Say hello. %%say Hello! What shall we build?%%"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(bench, port):
    """That of a person with `gemini` in PATH. The port is not the usual one, which may be taken here."""
    folder = bench.home / "bin"
    folder.mkdir()
    adapter = folder / "gemini"
    adapter.write_text(f"#!/bin/sh\nMODEL_URL='{bench.model.url}/v1' exec {' '.join(bench.sdk)}\n")
    adapter.chmod(0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin", "MLP_LISTEN__HTTP": f"127.0.0.1:{port}"}


def record(bench):
    """Both windows, as (title, text)."""
    port = free_port()
    own = environment(bench, port)
    first = Terminal(bench, "--agent", "gemini", environment=own)
    shown = "$ mcp-local-provider --agent gemini\n" + first.until("Hello, who are you?") + first.until("\n")
    program = Path(bench.path).resolve()
    second = ""
    for words in (["list"], ["run", "gemini", PROMPT], ["keys", "add", "editor"], ["ps"], ["status"], ["stop"]):
        # A person who tries this has another prompt, and a model that needs no order.
        typed = [f'"{word.split(" %%")[0]}"' if " " in word else word for word in words]
        ran = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=bench.home, env=own_environment(bench.home) | own, timeout=60,
        )
        require(ran.returncode == 0, f"{words} ends with {ran.returncode}: {ran.stdout}")
        second += f"$ mcp-local-provider {' '.join(typed)}\n{ran.stdout}\n"
    shown += first.until("shutting down\n")
    first.rest()
    return tidy(bench, port, shown), tidy(bench, port, second)


def tidy(bench, port, text):
    """The text with the same times, names and keys in each recording."""
    for pattern, instead in (
        (r"\x1b\[[0-9;]*m", ""),
        (re.escape(str(bench.home)), "/home/you"),
        (rf"\b{port}\b", "8788"),
        (r"mcp-local-provider-blocking", "mcp-local-provider"),
        (r"mlp-[0-9A-Za-z_-]{20,}", "mlp-…"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-01-01T12:00:00Z"),
        (r"\b(duration_ms|first_token_ms|prompt_tokens)=\d+", r"\1=…"),
        (r'session="[0-9a-f]+"', 'session="…"'),
        (r"request_id=[0-9a-f]+", "request_id=…"),
        # Where the machine has much else to do, the agent needs longer to start than usual.
        (r"[^\n]*the agent has printed no line and not answered `initialize`[^\n]*\n", ""),
        (r"\bfor \d+ s\b", "for 2 s"),
        (r"[ \t]+\n", "\n"),
    ):
        text = re.sub(pattern, instead, text)
    return text.strip() + "\n"


def told_at_once(text):
    """The lines in their order, and apart those of the log, which threads of their own write at any moment."""
    log = re.compile(r"2026-01-01T12:00:00Z +[A-Z]+ ")
    lines = text.splitlines()
    return [line for line in lines if not log.match(line)], sorted(line for line in lines if log.match(line))


def page(first, second):
    return f"""# The first five minutes

A terminal with the program, and a second one beside it. `tests/first_hour/five_minutes.py` recorded them, and a test compares
them with what the program shows now. Keys, times and ids differ each time and are shortened here.

The first window: Gemini CLI is installed (`mcp-local-provider doctor` says how), and the program starts it.

```console
{first}```

The second window: the person's own commands find the program and its keys by themselves.

```console
{second}```
"""


def compare(bench):
    now = page(*record(bench))
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(now)
    before = PAGE.read_text() if PAGE.exists() else ""
    changed = [difflib.unified_diff(*both, "docs", "now", lineterm="", n=1) for both in zip(told_at_once(before), told_at_once(now))]
    changed = "\n".join(line for lines in changed for line in lines)
    require(not changed, f"what a person sees is not what {PAGE.name} shows:\n{changed}")
    return f"{now.count(chr(10))} lines"
