"""The official conformance suite against one address: which scenarios of a revision pass."""

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

# Scenarios that each revision scores. A suite that has fewer is not the one that was asked for.
SCORED = {"2025-11-25": 30, "2026-07-28": 37}


@dataclass
class Score:
    """What one run of the suite came to. `failed` has the sentences of each scored scenario that failed."""

    total: int
    failed: dict


def scored(suite, revision):
    """The names of the server's scenarios that count, in the suite's own list."""
    names, section = [], None
    for line in (suite / "requirements" / f"{revision}.yaml").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            section = line.rstrip(":")
        elif section == "server" and line.startswith("  - "):
            names.append(line.removeprefix("  - ").strip())
    return names


def run(installed, environment, url, revision):
    """Runs the suite's set of a revision."""
    suite = installed / "node_modules/@modelcontextprotocol/conformance"
    names = scored(suite, revision)
    with tempfile.TemporaryDirectory(prefix="mlp-suite-") as results:
        command = ["node", suite / "dist/index.js", "server", "--url", url, "--requirements", revision, "-o", results]
        command = [str(word) for word in command]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
        seen = {}
        for file in Path(results).glob("server-*/checks.json"):
            # server-NAME-TIME, the time in 24 characters.
            seen[file.parent.name[len("server-") : -25]] = json.loads(file.read_text())
    failed = {}
    for name in names:
        checks = seen.get(name)
        faults = [f"{one['id']}: {one.get('errorMessage')}" for one in checks or [] if one["status"] == "FAILURE"]
        if not checks:
            faults = [f"did not run: {(done.stdout + done.stderr)[-500:]}"]
        if faults:
            failed[name] = faults
    return Score(len(names), failed)
