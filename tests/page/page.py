#!/usr/bin/env python3
"""Starts the program and the browser's checks. Started by run.sh; see there."""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / name) for name in ("clients", "mcp")]
from gateway import KEY, Report, checks, node_environment, npm_install  # noqa: E402
from program import Failed, Program  # noqa: E402

TRANSPORTS = ["http", "socket", "rest"]


def configuration():
    """The program's file, as JSON, which is YAML too."""
    return json.dumps(
        {
            "listen": {"http": ["127.0.0.1:0"]},
            "auth": {"keys": [{"name": "person", "key": "env:CLIENT_KEY", "role": "client", "allow": ["mcp"]}]},
            "mcpServers": {"forms": {"command": "node", "args": [str(HERE / "server.mjs")]}},
            "data_dir": "./data",
        }
    )


def run(report, given):
    """The checks of one program."""
    folder = given.target.absolute() / "page"
    npm_install(folder, HERE / "package.json")
    for name in ("checks.mjs", "person.mjs"):
        (folder / name).write_text((HERE / name).read_text())
    pictures = folder / given.program.name
    pictures.mkdir(exist_ok=True)
    (folder / "browser").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mlp-page-") as home:
        file = Path(home, "config.yaml")
        file.write_text(configuration())
        program = Program(given.program, home, "--config", str(file), environment={"CLIENT_KEY": KEY, "PATH": node_environment()["PATH"]})
        try:
            # The package unpacks the browser into the folder for temporary files.
            environment = {**node_environment(), "TMPDIR": str(folder / "browser")}
            command = ["node", folder / "checks.mjs", program.base, KEY, pictures, *given.transport]
            checks(report, given.program.name, command, environment)
            if report.failed:
                print(program.tail(), flush=True)
        finally:
            status = program.stop()
            report.add(status == 0, f"exit status of the program: {status}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--transport", action="append", choices=TRANSPORTS)
    parser.add_argument("program", nargs="?", type=Path)
    given = parser.parse_intermixed_args()
    given.transport = given.transport or TRANSPORTS
    given.program = (given.program or given.target / "release/mcp-local-provider").absolute()
    if not os.access(given.program, os.X_OK):
        print(f"{given.program} is not there: run cargo build --release first, or name the program", file=sys.stderr)
        return 2
    report = Report()
    began = time.monotonic()
    try:
        run(report, given)
    except Failed as failure:
        report.add(False, str(failure))
    print(f"\nSummary, after {time.monotonic() - began:.0f} s:", *report.lines, sep="\n    ", flush=True)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
