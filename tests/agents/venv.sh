# Sets `venv` to the virtual environment of the agents' packages below $target, and makes it where requirements.txt has changed.
# To be sourced by a script that has set `root` and `target`.

requirements=$root/tests/agents/requirements.txt
venv=$target/agents-venv
if ! cmp -s "$requirements" "$venv/installed.txt"; then
    rm -rf "$venv"
    mkdir -p "$target"
    ${PYTHON:-python3} -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi
