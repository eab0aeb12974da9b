#!/bin/sh
# Drives the test page of the gateway in a headless Chromium, which comes with an npm package, over each transport of the page.
#
#   tests/page/run.sh [PROGRAM] [--transport TRANSPORT ...]
#
# PROGRAM is the release build when it is left out. --transport: http, socket or rest; all of them when none is named. CHROMIUM names
# another browser of that family. Prints one line for each check; the exit status is 1 if anything failed. Pictures of the page, light and dark,
# are in the folder `page` of the target directory. The virtual environment, which has Node, is that of tests/mcp.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
requirements=$root/tests/mcp/requirements.txt
venv=$target/mcp-venv
. "$root/tests/venv.sh"
exec "$venv/bin/python" -B "$here/page.py" --target "$target" "$@"
