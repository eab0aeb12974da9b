#!/bin/sh
# Builds mcp-local-provider-blocking as one small file that needs nothing of the system it runs on, and prints its path.
# With musl where the toolchain has that target, with glibc otherwise.
#
#   deploy/static.sh [ARCHITECTURE]
#
# ARCHITECTURE is this machine's when it is left out; aarch64, say, needs a linker for that. The variable FEATURES has the cargo
# features: `program` when it is left out; `tls` is for a program that dials `wss://` too, `registry` for one with a registry.
set -eu

cd "$(dirname -- "$0")/.."
architecture=${1:-$(uname -m)}
target=$architecture-unknown-linux-musl
if [ ! -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ]; then
    target=$architecture-unknown-linux-gnu
fi
# The target is named even where it is this machine's, so that the flags do not reach build scripts and macros. A static
# program cannot look functions up by name, so that chance would come from /dev/urandom, which a bare image may lack.
RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\" \
    -C link-arg=-Wl,-T,deploy/static.ld -C link-arg=-Wl,--no-eh-frame-hdr -C link-arg=-Wl,-z,pack-relative-relocs" \
    cargo build --quiet --locked --profile size --target "$target" --package mcp-local-provider-blocking \
    --no-default-features --features "${FEATURES:-program}"
echo "${CARGO_TARGET_DIR:-target}/$target/size/mcp-local-provider-blocking"
