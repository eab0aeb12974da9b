#!/bin/sh
# Puts agents behind the program and asks them with the official openai package.
#
#   tests/agents/run.sh [PROGRAM [AGENT ...]]
#
# PROGRAM is the release build when it is left out. Without a name, the agent on the official SDK of the Agent Client
# Protocol is asked, and of the presets those whose programs are on the PATH: opencode, gemini, codex, claude. None of
# them needs an account: their model is a small server of ours. The packages are installed into a virtual environment
# below the target directory.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
program=${1:-$target/release/mcp-local-provider}
[ $# -eq 0 ] || shift
if [ ! -x "$program" ]; then
    echo "$program is not there: run cargo build --release first, or name the program" >&2
    exit 2
fi

requirements=$root/tests/agents/requirements.txt
venv=$target/agents-venv
. "$root/tests/venv.sh"
exec "$venv/bin/python" -B "$here/agents.py" "$program" "$@"
