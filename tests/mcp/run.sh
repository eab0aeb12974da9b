#!/bin/sh
# Drives the gateway with the official MCP packages of Python and TypeScript, those up to revision 2025-11-25 and those of 2026-07-28,
# with the official inspector's command line, with clients that are generated from the OpenAPI pages, and with the official conformance
# suite. The servers behind it are those of servers/, on the official TypeScript SDK, and the program's own registry.
#
#   tests/mcp/run.sh [PROGRAM] [--server SERVER ...] [--revision REVISION ...] [--skip-sdk]
#   tests/mcp/run.sh --direct
#
# PROGRAM is the release build when it is left out. --server: the servers to ask: everything (both eras), only2025, only2026; the
# first two when none is named. --revision: the sets of the suite to run, 2025-11-25 and 2026-07-28; the first when none is named.
# --skip-sdk runs the suite alone. --direct asks the servers without a gateway, which proves the servers and the checks. Prints one
# line for each check and a summary; the exit status is 1 if anything failed. Packages are installed below the target directory.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
# The two packages of Python have one name.
requirements=$here/requirements_2026.txt
venv=$target/mcp-2026-venv
. "$root/tests/venv.sh"
requirements=$here/requirements.txt
venv=$target/mcp-venv
. "$root/tests/venv.sh"
exec "$venv/bin/python" -B "$here/gateway.py" --target "$target" "$@"
