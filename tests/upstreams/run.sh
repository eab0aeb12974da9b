#!/bin/sh
# Has the program ask real servers of models: llama.cpp's, with a model that is made on the spot, and LiteLLM's proxy.
#
#   tests/upstreams/run.sh PROGRAM            llama.cpp
#   tests/upstreams/run.sh PROGRAM --litellm  LiteLLM, whose packages take some 750 MB and minutes to install
#
# Prints one line for each check; the first that fails ends the run with status 1. Packages are installed below the target directory.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
program=${1:?the program is not named}
which=llama
requirements=$here/requirements.txt
if [ "${2:-}" = --litellm ]; then
    which=litellm
    requirements=$here/requirements_litellm.txt
fi
venv=$target/$which-venv
. "$root/tests/venv.sh"
exec "$venv/bin/python" -B "$here/servers.py" "$which" "$program"
