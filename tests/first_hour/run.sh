#!/bin/sh
# Plays the first hour of a new user: agents that are slow to start, that crash, that are busy,
# that take memory, and what clients see meanwhile.
#
#   tests/first_hour/run.sh [PROGRAM]
#
# PROGRAM is the release build when it is left out. The agent is the one of tests/agents on the official SDK of the Agent
# Client Protocol, whose packages are in a virtual environment below the target directory.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
program=${1:-$target/release/mcp-local-provider}
if [ ! -x "$program" ]; then
    echo "$program is not there: run cargo build --release first, or name the program" >&2
    exit 2
fi
requirements=$root/tests/agents/requirements.txt
venv=$target/agents-venv
. "$root/tests/venv.sh"
exec "$venv/bin/python" -B "$here/first_hour.py" "$program"
