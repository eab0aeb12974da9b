# Makes the virtual environment $venv with the packages of $requirements, anew where these have changed.
# To be sourced by a script that has set both.

if ! cmp -s "$requirements" "$venv/installed.txt"; then
    rm -rf "$venv"
    mkdir -p "$(dirname -- "$venv")"
    ${PYTHON:-python3} -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$requirements"
    cp "$requirements" "$venv/installed.txt"
fi
