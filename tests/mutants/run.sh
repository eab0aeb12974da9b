#!/usr/bin/env bash
# Puts a fault into a copy of the sources, one patch of this folder after the other, and fails unless the simulation finds
# each within ten seconds of a processor, from seeds that nobody has tried. Which inputs are drawn is chance, so a fault that is
# not found is looked for thirty-nine times more. A fault that changes no behaviour is found by a test of core's, which its patch names in
# a line `Test: NAME`. README.md tells the behaviour that each patch breaks.
#
#   tests/mutants/run.sh [--twelfth | NAME ...]
#
# All patches when none is named. --twelfth: every twelfth one, of which the commit says the first, so that each is tried in every few commits;
# the others must fit still. Two copies are built and searched side by side. They stay below the target directory with their
# builds, so that the next run is shorter.
set -Eeuo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/mutants
seconds=10
searches=40

# The builds are for the copies alone: the program that they make is not to be found where the others are. A fault may leave
# something unused.
export CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 RUSTFLAGS=-Awarnings
export RUST_BACKTRACE=0

# Goes on in one of the copies, `first` or `second`.
enter() {
    copy=$target/$1/source
    export CARGO_TARGET_DIR=$target/$1/build
    mkdir -p "$copy" "$CARGO_TARGET_DIR"
}

# The sources as they are here, and nothing else.
fill() {
    rm -rf "$copy"
    mkdir -p "$copy"
    cd "$root"
    git ls-files -z --cached --others --exclude-standard -- '*.rs' '*.toml' '*.txt' '*.json' '*.html' '*.css' '*.js' Cargo.lock |
        while IFS= read -r -d '' file; do
            # What is deleted and not yet committed is listed too.
            [ ! -e "$file" ] || printf '%s\0' "$file"
        done | tar --create --null --files-from=- | tar --extract --touch --directory "$copy"
}

build() {
    (cd "$copy" && cargo build --quiet --locked -p mcp-local-provider-tests --bin world)
}

# The test that a patch names; nothing where the simulation finds its fault.
test_of() {
    sed -n '/^--- /q;s/^Test: //p' "$1"
}

# Status 0 when the test fails, as `find` has it, and 2 when it cannot be run.
fails() {
    local told
    (cd "$copy" && cargo test --quiet --locked -p mcp-local-provider-core --lib --no-run) || return 2
    if told=$(cd "$copy" && cargo test --quiet --locked -p mcp-local-provider-core --lib -- --exact "$1" 2>&1); then
        # One that does not exist passes too.
        grep -q '^test result: ok\. 1 passed' <<<"$told" || return 2
        echo "the test $1 passes"
        return 1
    fi
    echo "the test $1 failed"
}

seed() {
    od -An -N6 -tu8 /dev/urandom | tr -d ' '
}

# A fault may also end the program or let it hang.
find_fault() {
    timeout $((6 * $1 + 20)) "$CARGO_TARGET_DIR/debug/world" find "$1" "$(seed)"
}

# The sources without a fault hold, and the tests that patches name pass.
check_whole() {
    local patch test told status=0
    build
    told=$(find_fault 5) || status=$?
    echo "without a mutant: $told"
    if [ "$status" -ne 1 ]; then
        echo "the world breaks by itself; see to that first" >&2
        exit 1
    fi
    for patch in "${patches[@]}"; do
        test=$(test_of "$patch")
        [ -n "$test" ] || continue
        status=0
        told=$(fails "$test") || status=$?
        echo "without a mutant: $told"
        if [ "$status" -ne 1 ]; then
            echo "$test does not pass by itself; see to that first" >&2
            exit 1
        fi
    done
}

# Tries the patches, and fails when the fault of one is not found.
try() {
    local patch name test told status again missed=0
    for patch in "$@"; do
        name=$(basename "$patch" .patch)
        test=$(test_of "$patch")
        if ! patch --silent --directory="$copy" --strip=1 --fuzz=2 --no-backup-if-mismatch <"$patch"; then
            echo "$name: the patch does not fit any more; make it anew" >&2
            exit 1
        fi
        status=0
        if [ -n "$test" ]; then
            told=$(fails "$test") || status=$?
            if [ "$status" -eq 2 ]; then
                echo "$name: $test cannot be run" >&2
                exit 1
            fi
        else
            build
            for again in $(seq "$searches"); do
                status=0
                told=$(find_fault "$seconds") || status=$?
                [ "$status" -eq 1 ] || break
                echo "$name: $told; search $again of $searches"
            done
        fi
        case $status in
            0) echo "$name: found after $told" ;;
            1) missed=$((missed + 1)) && echo "$name: NOT FOUND" ;;
            *) echo "$name: found, the world ended with status $status" ;;
        esac
        # A file that is restored must be newer than what was built of the mutant.
        sed -n 's|^+++ b/||p' "$patch" | while IFS= read -r file; do
            cp "$root/$file" "$copy/$file"
            touch "$copy/$file"
        done
    done
    [ "$missed" -eq 0 ]
}

# Those in core first: each of the others needs core only once more.
if [ $# -gt 0 ] && [ "$1" != --twelfth ]; then
    patches=("${@/#/$here/}")
    patches=("${patches[@]/%/.patch}")
else
    mapfile -t patches < <(
        grep -l '^+++ b/core/' "$here"/*.patch
        grep -L '^+++ b/core/' "$here"/*.patch
    )
fi

for patch in "${patches[@]}"; do
    name=$(basename "$patch" .patch)
    if ! grep -qF "\`$name\`" "$here/README.md"; then
        echo "$name: README.md does not tell the behaviour that it breaks" >&2
        exit 1
    fi
done

enter first
fill
if [ "${1:-}" = --twelfth ]; then
    for patch in "${patches[@]}"; do
        if ! patch --silent --dry-run --directory="$copy" --strip=1 --fuzz=2 <"$patch" >/dev/null; then
            echo "$(basename "$patch" .patch): the patch does not fit any more; make it anew" >&2
            exit 1
        fi
    done
    commit=$(git -C "$root" rev-parse --short=8 HEAD)
    first=$((16#${commit:0:8} % 12))
    twelfth=()
    for at in "${!patches[@]}"; do
        [ $((at % 12)) -ne "$first" ] || twelfth+=("${patches[at]}")
    done
    echo "${#twelfth[@]} of ${#patches[@]} patches, which is every twelfth from the one at $first"
    patches=("${twelfth[@]}")
fi
check_whole
# What the sources need is not built once more.
if [ ! -e "$target/second/build/debug" ] && [ "${#patches[@]}" -gt 1 ]; then
    mkdir -p "$target/second"
    cp -a "$CARGO_TARGET_DIR/." "$target/second/build"
fi
odd=() even=()
for at in "${!patches[@]}"; do
    if ((at % 2)); then odd+=("${patches[at]}"); else even+=("${patches[at]}"); fi
done
both=()
(try "${even[@]}") &
both+=($!)
if [ "${#odd[@]}" -gt 0 ]; then
    (
        enter second
        fill
        try "${odd[@]}"
    ) &
    both+=($!)
fi
status=0
for one in "${both[@]}"; do
    wait "$one" || status=1
done
exit "$status"
