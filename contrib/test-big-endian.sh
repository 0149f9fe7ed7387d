#!/bin/bash
# Runs the tests of the core on a big-endian machine: s390x, 64 bits, emulated by
# qemu-user-static. (build-static.sh tests MIPS, 32 bits.)
#
#     contrib/test-big-endian.sh [MODULE...]
#
# MODULE is a module of the tests; default: all that work under the user-mode
# emulator, which cannot create links between namespaces.
# It needs rustup, qemu-user-static, gcc-s390x-linux-gnu and
# libc6-dev-s390x-cross, and installs the Rust target.
#
# Exit code: 0 if every test passed.
set -euo pipefail

TARGET=s390x-unknown-linux-gnu
EMULATOR=qemu-s390x-static
MODULES=(door::otp packet::parse packet::craft opening::state filter::bpf filter::program engine::attempts engine::scenarios
    plan::password daemon::messages)

die() {
    printf 'test-big-endian: %s\n' "$*" >&2
    exit 1
}

cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"
for program in cargo rustup $EMULATOR s390x-linux-gnu-gcc; do
    command -v "$program" >/dev/null ||
        die "$program is missing: see https://rustup.rs, and apt-get install qemu-user-static gcc-s390x-linux-gnu libc6-dev-s390x-cross"
done
[ -d "$(rustc --print sysroot)/lib/rustlib/$TARGET" ] || rustup -q target add $TARGET
[ $# -gt 0 ] || set -- "${MODULES[@]}"

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! CARGO_TARGET_S390X_UNKNOWN_LINUX_GNU_LINKER=s390x-linux-gnu-gcc \
    cargo test --no-run --locked --test tests --target $TARGET 2>"$log"; then
    cat "$log" >&2
    die "the tests could not be built"
fi
tests=$(sed -n 's/^ *Executable tests.main\.rs (\(.*\))$/\1/p' "$log")
[ -x "$tests" ] || die "cargo did not print the path of the tests"

failed=()
for module in "$@"; do
    printf '\n==> %s\n' "$module"
    $EMULATOR -L /usr/s390x-linux-gnu "$tests" "$module::" | tee "$log" &&
        grep -q '^test result: ok\. [1-9]' "$log" || failed+=("$module")
done
[ ${#failed[@]} = 0 ] || die "failed: ${failed[*]}"
