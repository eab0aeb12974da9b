#!/bin/sh
# Drives the program with the official client packages and with programs that people use (Codex CLI, Claude Code, llm …), unmodified,
# and with a scripted agent.
#
#   tests/clients/run.sh [PROGRAM [--all] [CHECK ...]]
#   tests/clients/run.sh PROGRAM --upstreams [--all] [CHECK ...]
#   tests/clients/run.sh PROGRAM --embedded
#
# PROGRAM is the release build, else the debug build, when it is left out. Prints one line for each check; the first that fails
# ends the run with status 1. Packages and programs are installed below the target directory. Some large ones run when they are named only:
# opencode, aider and cline. `--upstreams` has the program ask a second one of its kind, in each API. `--embedded` asks a program that embeds the engine, such as the example on tokio, in fewer checks.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
program=${1:-}
[ $# -eq 0 ] || shift
for built in "$target/release/mcp-local-provider" "$target/debug/mcp-local-provider"; do
    [ -n "$program" ] || [ ! -x "$built" ] || program=$built
done
if [ -z "$program" ] || [ ! -x "$program" ]; then
    echo "${program:-mcp-local-provider} is not there: run cargo build --release first, or name the program" >&2
    exit 2
fi

requirements=$here/requirements.txt
venv=$target/clients-venv
. "$root/tests/venv.sh"
checks=clients.py
case ${1:-} in
    --embedded) checks=embedded.py && shift ;;
    --upstreams) checks=upstreams.py && shift ;;
esac
exec "$venv/bin/python" -B "$here/$checks" "$program" "$@"
