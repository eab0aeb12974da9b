"""The official conformance suite: which scenarios of a revision pass, of servers at one address, and of clients that log in."""

import json
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Scenarios that each revision scores. A suite that has fewer is not the one that was asked for.
SCORED = {"2025-11-25": 30, "2026-07-28": 37}
# Those of clients that log in, by OAuth.
LOGINS = {"2026-07-28": 25}


@dataclass
class Score:
    """What one run of the suite came to. `failed` has the sentences of each scored scenario that failed."""

    total: int
    failed: dict


def scored(suite, revision, side="server"):
    """The names of the scenarios of that side that count, in the suite's own list."""
    names, section = [], None
    for line in (suite / "requirements" / f"{revision}.yaml").read_text().splitlines():
        if line and not line.startswith((" ", "#")):
            section = line.rstrip(":")
        elif section == side and line.startswith("  - "):
            names.append(line.removeprefix("  - ").strip())
    return names


def run(installed, environment, url, revision, hopeless=frozenset()):
    """Runs the suite's set of a revision. A scenario that fails, and is not among the hopeless, is asked again by itself, twice at most:
    `server-stateless` gives a process that has just started 600 ms to say something, whatever else the machine does."""
    suite = installed / "node_modules/@modelcontextprotocol/conformance"
    names = scored(suite, revision)

    def ask(*which):
        """The checks of each scenario that ran, and what the suite printed."""
        with tempfile.TemporaryDirectory(prefix="mlp-suite-") as results:
            command = ["node", suite / "dist/index.js", "server", "--url", url, *which, "-o", results]
            command = [str(word) for word in command]
            done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900)
            seen = {}
            for file in Path(results).glob("server-*/checks.json"):
                # server-NAME-TIME, the time in 24 characters.
                seen[file.parent.name[len("server-") : -25]] = json.loads(file.read_text())
            return seen, (done.stdout + done.stderr)[-500:]

    def faults_of(name, seen, printed):
        checks = seen.get(name)
        if not checks:
            return [f"did not run: {printed}"]
        return [f"{one['id']}: {one.get('errorMessage')}" for one in checks if one["status"] == "FAILURE"]

    first = ask("--requirements", revision)
    failed = {}
    for name in names:
        faults, left = faults_of(name, *first), 0 if name in hopeless else 2
        while faults and left:
            print(f"    {name} is asked again: {'; '.join(faults)}", flush=True)
            faults, left = faults_of(name, *ask("--scenario", name, "--spec-version", revision)), left - 1
        if faults:
            failed[name] = faults
    return Score(len(names), failed)


def logins(installed, environment, command, revision):
    """Runs the suite's scenarios of OAuth against a client, which is a command; a few side by side."""
    suite = installed / "node_modules/@modelcontextprotocol/conformance"
    names = [name for name in scored(suite, revision, "client") if name.startswith("auth/")]

    def ask(name):
        with tempfile.TemporaryDirectory(prefix="mlp-suite-") as results:
            words = ["node", suite / "dist/index.js", "client", "--command", command, "--scenario", name]
            words = [str(word) for word in [*words, "--spec-version", revision, "-o", results]]
            done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        return None if done.returncode == 0 else (done.stdout + done.stderr)[-3000:]

    with ThreadPoolExecutor(4) as pool:
        seen = dict(zip(names, pool.map(ask, names)))
    return Score(len(names), {name: [fault] for name, fault in seen.items() if fault})
