#!/bin/bash
# Builds static programs for routers and other machines: one file that is knockd
# and acts as knock when called by that name.
#
#     contrib/build-static.sh [TARGET...]
#     contrib/build-static.sh --tests TARGET
#
# The second form builds the tests alone, and prints the path of their program: what
# contrib/test-kernels.sh runs on emulated machines.
#
# TARGET is x86_64, aarch64, armv7, riscv64, mips or mipsel (both soft float, with
# MIPS16e: OpenWrt's ath79 and ramips); default: all of them. The files are
# target/static/TARGET/knockd.
#
# It needs rustup, a C compiler, binutils, Python 3 (for zig, which provides the C
# library for targets that Rust has none for) and util-linux; for MIPS and x86_64 also binutils
# for it, where they are not the machine's own (binutils-mips-linux-gnu, binutils-mipsel-linux-gnu,
# binutils-x86-64-linux-gnu). It installs targets,
# rust-src and llvm-tools of the Rust toolchain, and zig into target/static/tools. With
# qemu-user-static it also runs each file, up to a real knock, and the tests of the
# core, built for the same machine with the same linker and C library (packets,
# filters, one-time passwords and others: MODULES below). UNTESTED=1 skips those
# tests; OVERSIZE=1 lets a file be too large.
#
# The standard library is rebuilt without the code that prints panics and backtraces:
# that is a third of the program, a stripped program has no backtraces to print, and no
# input leads to a panic; one would end the process at once. The hashed data is short, so
# the compact hash implementations are fast enough; SHA-2 also uses the instructions that some
# processors have for it (4 kB), because forged single packets cost little else. For the same
# reason, the few functions that each packet of a flood runs through are optimised for speed
# (`optimize(speed)` in the sources, 2 kB): a third less processor time for a forged packet. A small
# program also keeps memory use small: nearly all memory of an idle daemon is its code.
#
# All files are position-independent (except on MIPS, and where zig provides the C
# library) with full RELRO and without an executable stack. On MIPS nothing is relocated at the
# start, which RELRO would protect afterwards. The files hold no path of this machine: the same
# commit and toolchain (rust-toolchain.toml) give the same bytes in any folder; for MIPS and x86_64,
# the same release of binutils as well.
#
# Exit code: 0 if every file was built, passed, and is small enough.
set -euo pipefail

# The largest allowed file size in bytes: 1 MiB.
CEILING=1048576
ZIG=ziglang==0.15.2
# SHA-256 of its wheels for x86_64 and aarch64 machines, from PyPI.
ZIG_SHA256=(806316453d1ede7174ed3fefb8e5348154629089c3bb5fe812dfd0e172fac130 edc0aa60ec964a4cf462d40f68d7de242ddf37fd9a80f2afaee6397059463230)
# The tests that run under the user-mode emulator, which cannot create links between
# namespaces.
MODULES=(door::otp packet::parse packet::craft opening::state filter::bpf filter::program engine::attempts engine::scenarios
    plan::password daemon::messages)

die() {
    printf 'build-static: %s\n' "$*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

triple() {
    case $1 in
    x86_64 | aarch64 | mips | mipsel) echo "$1-unknown-linux-musl" ;;
    armv7) echo armv7-unknown-linux-musleabihf ;;
    riscv64) echo riscv64gc-unknown-linux-musl ;;
    *) die "$1: unknown target; the targets are x86_64, aarch64, armv7, riscv64, mips and mipsel" ;;
    esac
}

# zig's name for the target, with the processor that Rust assumes for it.
zig_target() {
    case $1 in
    mips*) echo "-target $1-linux-musleabi" ;;
    armv7) echo "-target thumb-linux-musleabihf -mcpu=generic+v7a+vfp3-d32+thumb2-neon" ;;
    *) echo "-target $1-linux-musl" ;;
    esac
}

emulator() {
    case $1 in
    armv7) echo qemu-arm-static ;;
    *) echo "qemu-$1-static" ;;
    esac
}

# ------------------------------------------------------------------- running

# inside runs in its own namespaces, as root there.
inside() {
    local program=$1 emulator=$2 here said code=0
    here=$(mktemp -d)
    mount -t tmpfs tmpfs "$here"
    cp "$program" "$here/knockd"
    ln -s knockd "$here/knock"
    if [ -n "$emulator" ]; then
        # Register the emulator with the kernel, for this namespace only: knockd executes
        # itself for its second process, under another name (flag P preserves it). The
        # magic is the start of the file; the mask leaves out the bytes that differ between
        # files for the same machine.
        local header magic='' mask='' byte at=0
        header=$(od -An -v -tx1 -N20 "$program")
        for byte in $header; do
            magic="$magic\\x$byte"
            case $at in
            [0-6] | 18 | 19) mask="$mask\\xff" ;;
            *) mask="$mask\\x00" ;;
            esac
            at=$((at + 1))
        done
        mkdir "$here/binfmt"
        if ! mount -t binfmt_misc binfmt_misc "$here/binfmt" ||
            ! printf '%s' ":emulated:M:0:$magic:$mask:$(command -v "$emulator"):PF" >"$here/binfmt/register"; then
            echo "this kernel cannot register an emulator for one namespace (needs 6.7)"
            return 1
        fi
    fi
    ip link set lo up
    cat >"$here/conf" <<END
[door]
	Sequence = 7001,7002:udp,7003
	TCPFlags = syn
	Start_Command = echo %IP% >$here/opened
END
    timeout 30 "$here/knockd" -v -i lo -c "$here/conf" >"$here/said" 2>&1 &
    local daemon=$! _
    for _ in {1..100}; do
        if grep -q listening "$here/said" || ! kill -0 $daemon 2>/dev/null; then break; fi
        sleep 0.1
    done
    if ! grep -q listening "$here/said"; then
        # qemu-user (10.0 and before, big-endian, Linux 6.7 and later) leaves the last
        # attribute of each interface in the wrong byte order; getifaddrs loops on it.
        said=$(tail -n 1 "$here/said")
        echo "knockd does not start listening (${said:-it prints nothing and hangs})"
        return 1
    fi
    timeout 20 "$here/knock" -d 50 127.0.0.1 7001 7002:udp 7003 || code=$?
    for _ in {1..50}; do
        [ ! -s "$here/opened" ] || break
        sleep 0.1
    done
    if [ "$(cat "$here/opened" 2>/dev/null)" != 127.0.0.1 ]; then
        echo "the knock (code $code) did not open the door: $(tail -n 1 "$here/said")"
        return 1
    fi
}

if [ "${1:-}" = --inside ]; then
    inside "$2" "$3"
    exit
fi

# Checks that a file runs. Prints what went wrong.
try() {
    local file=$1 emulator=$2 run=() said
    [ -z "$emulator" ] || run=("$emulator")
    said=$(timeout 60 "${run[@]}" "$file" --version 2>&1) || { echo "--version: $said"; return 1; }
    case $said in knockd\ [0-9]*) ;; *) echo "--version prints: $said" && return 1 ;; esac
    said=$(timeout 60 "${run[@]}" "$file" --check -c knockd.conf 2>&1) || { echo "--check: $said"; return 1; }
    ln -sf knockd "${file%/*}/knock"
    if [ -n "$emulator" ]; then run+=(-0 knock); fi
    said=$(timeout 60 "${run[@]}" "${file%/*}/knock" -h 2>&1) || true
    case $said in *"usage: knock "*) ;; *) echo "knock -h prints: $said" && return 1 ;; esac
}

knocks() {
    timeout -k 1 90 unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc \
        bash "$0" --inside "$@" 2>&1
}

# ------------------------------------------------------------------ building

cd "$(dirname "$0")/.."
export PATH="$PATH:$HOME/.cargo/bin"
if ! has cargo || ! has rustup; then die "rustup is missing: see https://rustup.rs"; fi
has readelf || die "readelf is missing: apt-get install binutils"
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/static"
target=$(cd "$target" && pwd)

only_tests=
if [ "${1:-}" = --tests ]; then
    only_tests=yes
    shift
    [ $# = 1 ] || die "--tests takes one target"
fi
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(x86_64 aarch64 armv7 riscv64 mips mipsel)
for name in "${targets[@]}"; do triple "$name" >/dev/null; done

sysroot=$(rustc --print sysroot)
host=$(rustc -vV | sed -n 's/^host: //p')
sources=$sysroot/lib/rustlib/src/rust/library/Cargo.lock
[ -e "$sources" ] || rustup -q component add rust-src ||
    die "the sources of the standard library are missing: rustup component add rust-src"
# Building them needs unstable compiler options; this enables them on a stable compiler.
export RUSTC_BOOTSTRAP=1
options=(--release --locked --bin knockd "-Zbuild-std=std,panic_abort" -Zbuild-std-features=optimize_for_size)
export CARGO_UNSTABLE_PANIC_IMMEDIATE_ABORT=true CARGO_PROFILE_RELEASE_PANIC=immediate-abort
# Rust's own linker supports every target and merges identical functions. The source
# locations of panics and the derived Debug output are never printed. A function that is
# called once becomes part of its caller only if it needs little stack: in a large stack
# frame each access takes three bytes more. What the code generator does for speed by default,
# at this level of optimisation too, is turned off: constants stay in loops instead of registers
# that are spilled around them, addresses are computed anew instead of step by step, blocks
# are put in an order that needs few jumps, and switches become tables from 16 cases on.
# Code that repeats becomes a function of its own (on x86_64 contrib/outline sees to that), functions that
# differ in constants alone become one, and constants are not kept in registers. On aarch64, functions share the code that saves and
# restores registers.
small=(-inline-max-stacksize=256 -disable-machine-licm -disable-lsr -apply-ext-tsp-for-size
    -split-spill-mode=size -min-jump-table-entries=16 -enable-machine-outliner=always
    -enable-global-merge-func -disable-constant-hoisting -homogeneous-prolog-epilog)
# The program is optimised twice: rustc does it once and leaves the machine code to the linker,
# which does it again.
twice=(-Clinker-plugin-lto -Clink-arg=-plugin-opt=-enable-merge-functions
    "${small[@]/#/-Clink-arg=-plugin-opt=}")
flags=(-Ctarget-feature=+crt-static -Cforce-unwind-tables=no -Clinker=rust-lld -Clink-arg=--icf=all
    "${small[@]/#/-Cllvm-args=}" -Zlocation-detail=none
    "--remap-path-prefix=$sysroot=/rust" "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo"
    "--remap-path-prefix=$PWD=/src"
    --cfg=has_optimize_attribute
    '--cfg=sha2_backend_soft="compact"'
    '--cfg=aes_backend="soft"' '--cfg=aes_backend_soft="compact"')
export CARGO_PROFILE_RELEASE_OPT_LEVEL=z CARGO_PROFILE_RELEASE_STRIP=false

# Builds zig's C library for a target that Rust has none for; prints the directory with
# crt1.o, libc.a and the other files of it.
libraries() {
    local name=$1 tools=$target/static/tools folder=$target/static/libraries/$1 file
    "$tools/bin/python3" -c 'import ziglang' 2>/dev/null || {
        echo "installing $ZIG into $tools"
        echo "$ZIG ${ZIG_SHA256[*]/#/--hash=sha256:}" >"$tools.txt"
        python3 -m venv "$tools" && "$tools/bin/pip" -q install --only-binary :all: --require-hashes -r "$tools.txt"
    } >&2 || die "zig could not be installed (is python3-venv installed, and can PyPI be reached?)"
    rm -rf "$folder"
    mkdir -p "$folder"
    echo 'int main(void) { return 0; }' >"$folder/main.c"
    # zig builds the files when the first program is linked with them, and prints where.
    # shellcheck disable=SC2046 # split the output of zig_target
    ZIG_VERBOSE_LINK=1 "$tools/bin/python3" -m ziglang cc $(zig_target "$name") -static -Oz \
        "$folder/main.c" -lunwind -o "$folder/main" 2>"$folder/said" ||
        die "zig cannot build the C library for $name: $(tail -n 1 "$folder/said")"
    for file in crt1.o libc.a libzigc.a libcompiler_rt.a libunwind.a; do
        ln -s "$(tr ' ' '\n' <"$folder/said" | grep "/$file\$" | tail -n 1)" "$folder/$file"
        [ -e "$folder/$file" ] || die "zig has no $file for $name"
    done
    echo "$folder"
}

# Makes cross link with a script of this folder, which needs binutils for a machine: `links_with SCRIPT MACHINE`.
links_with() {
    export BINUTILS=$2- LLVM=$sysroot/lib/rustlib/$host/bin
    has "${BINUTILS}ld" || die "${BINUTILS}ld is missing: apt-get install binutils-${2/_/-}"
    [ -x "$LLVM/llc" ] || rustup -q component add llvm-tools ||
        die "LLVM's llc is missing: rustup component add llvm-tools"
    own+=("-Clinker=$PWD/contrib/$1" -Clinker-flavor=ld.lld)
    # The tests as well: optimised for size, and as one unit.
    [ "$verb" = rustc ] || own+=(-Clinker-plugin-lto)
    export CARGO_PROFILE_TEST_OPT_LEVEL=z CARGO_PROFILE_TEST_LTO=fat CARGO_PROFILE_TEST_CODEGEN_UNITS=1
}

# Runs cargo for a target: `cross TARGET rustc|test OPTION...`.
cross() {
    local name=$1 verb=$2 triple folder file own=("${flags[@]}")
    triple=$(triple "$name")
    shift 2
    if ! [ -d "$sysroot/lib/rustlib/$triple/lib" ] && ! rustup -q target add "$triple" >/dev/null 2>&1; then
        # Rust has no C library for MIPS; those of other targets may not be downloadable here.
        folder=$(libraries "$name") || return 1
        # Without rcrt1.o, and on MIPS undefined weak symbols of a static PIE would get the
        # load address instead of null.
        own+=(-Clink-self-contained=no "-Lnative=$folder" -Crelocation-model=static)
        for file in crt1.o libzigc.a libcompiler_rt.a; do own+=("-Clink-arg=$folder/$file"); done
    fi
    case $name in
    mips*)
        # MIPS16e code, a third smaller than MIPS32 code. It is generated when the program is linked.
        # Delay slots get instructions from the next block too, and values are computed where LLVM's
        # optimiser left them. Merging functions that differ in constants makes it larger.
        export LLC_OPTIONS="${small[*]/-enable-global-merge-func/} -disable-machine-sink -disable-mips-df-succbb-search=0"
        links_with mips16.py "$name-linux-gnu"
        own+=(-Crelro-level=off)
        ;;
    x86_64)
        # Code that repeats becomes a function of its own when the program is linked, more of it than
        # LLVM can do. More code repeats if values are not kept for later, if all functions begin with their
        # stack frame, and if structures are copied as they are. Merging functions that differ in constants
        # makes it larger.
        # Instructions that address variables by a frame pointer are shorter, and code repeats more often
        # with it; functions that call none do without. In one that uses the red zone, each small constant
        # takes 10 bytes instead of 3.
        LLC_OPTIONS=${small[*]/-enable-global-merge-func/}
        export LLC_OPTIONS="${LLC_OPTIONS/outliner=always/outliner=never} -disable-machine-cse -enable-shrink-wrap=false
            -x86-disable-avoid-SFB -disable-early-taildup"
        links_with outline/link.py x86_64-linux-gnu
        own+=(-Zunstable-options -Cforce-frame-pointers=non-leaf -Cno-redzone=yes)
        ;;
    # Thumb-2: most instructions take two bytes instead of four. The C library may be ARM code.
    armv7) own+=(-Ctarget-feature=+thumb-mode) ;;
    # The linker makes calls of 8 bytes into those of 4.
    riscv64) own+=(-Ctarget-feature=+relax) ;;
    esac
    if [ -z "${folder:-}" ]; then
        # Relative relocations in a few hundred bytes instead of 24 each.
        own+=(-Crelocation-model=pic -Clink-arg=--pack-dyn-relocs=relr)
        if [ "$name" != x86_64 ]; then
            # rustc itself makes static programs position-independent for x86_64 alone.
            folder=$sysroot/lib/rustlib/$triple/lib/self-contained
            own+=(-Clink-self-contained=no "-Lnative=$folder" -Clink-arg=-pie
                -Clink-arg=--no-dynamic-linker -Clink-arg=-ztext)
            for file in rcrt1.o crti.o crtn.o; do own+=("-Clink-arg=$folder/$file"); done
        fi
    fi
    # Tests print what they compare.
    [ "$verb" = test ] || own+=(-Zfmt-debug=none)
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f' && printf '%s' "${own[*]}") cargo "$verb" --target "$triple" "$@"
}

# Builds the tests for a target; prints the path of the program, or what went wrong.
tests_of() {
    local said program
    export CARGO_PROFILE_TEST_OPT_LEVEL=1 CARGO_PROFILE_TEST_DEBUG=0 CARGO_TERM_COLOR=never
    said=$(cross "$1" test --no-run --locked --test tests "-Zbuild-std=std,panic_abort" -Zpanic-abort-tests 2>&1) || {
        printf '%s\n' "$said" >&2
        echo "the tests could not be built, see above"
        return 1
    }
    program=$(sed -n 's/^ *Executable tests.main\.rs (\(.*\))$/\1/p' <<<"$said")
    [ -x "$program" ] || { echo "cargo did not print the path of the tests"; return 1; }
    echo "$program"
}

# Builds the tests for a target and runs those in MODULES; prints how many passed, or
# what went wrong.
core_tests() {
    local name=$1 emulator=$2 run=() program module said passed=0
    [ -z "$emulator" ] || run=("$emulator")
    program=$(tests_of "$name") || { echo "$program"; return 1; }
    for module in "${MODULES[@]}"; do
        said=$(timeout 900 "${run[@]}" "$program" "$module::" 2>&1) || {
            printf '%s\n' "$said" >&2
            echo "the tests of $module failed, see above"
            return 1
        }
        said=$(sed -n 's/^test result: ok\. \([1-9][0-9]*\) passed.*/\1/p' <<<"$said")
        [ -n "$said" ] || { echo "found no tests of $module"; return 1; }
        passed=$((passed + said))
    done
    echo "$passed"
}

if [ -n "$only_tests" ]; then
    tests_of "${targets[0]}"
    exit
fi

table=() failures=0
for name in "${targets[@]}"; do
    printf '\n==> %s\n' "$name"
    if ! (cross "$name" rustc "${options[@]}" -- "${twice[@]}"); then
        table+=("$name|-|-|-|could not be built, see above")
        failures=$((failures + 1))
        continue
    fi
    mkdir -p "$target/static/$name"
    file=$target/static/$name/knockd
    # On MIPS, strip leaves a debugger table of 100 kB, and Rust's does not read what the binutils wrote.
    case $name in
    mips*) objcopy=$name-linux-gnu-objcopy ;;
    *) objcopy=$sysroot/lib/rustlib/$host/bin/rust-objcopy ;;
    esac
    LD_LIBRARY_PATH=$sysroot/lib "$objcopy" --strip-all \
        -R .pdr -R .mdebug.abi32 -R .gnu.attributes -R .comment "$target/$(triple "$name")/release/knockd" "$file"
    size=$(stat -c %s "$file")

    result='' ran=$(uname -m) emulator='' tests='-'
    if LC_ALL=C readelf -lW "$file" | grep -q INTERP || LC_ALL=C readelf -dW "$file" | grep -q NEEDED; then
        result='is not static'
    fi
    if LC_ALL=C readelf -lW "$file" | grep -q 'GNU_STACK.*E '; then result='has an executable stack'; fi
    if LC_ALL=C readelf -hW "$file" | grep -q 'Type: *DYN'; then
        LC_ALL=C readelf -lW "$file" | grep -q GNU_RELRO || result='has no RELRO'
    elif [ -d "$sysroot/lib/rustlib/$(triple "$name")/lib" ]; then
        result='is not position-independent'
    fi
    if grep -aqF -e "$HOME/" -e "$PWD/" "$file"; then result='has a path of this machine in it'; fi
    if LC_ALL=C readelf -SW "$file" | grep -q '\.symtab'; then result='is not stripped'; fi
    if [ "$size" -gt $CEILING ] && [ -z "${OVERSIZE:-}" ]; then result="is larger than $CEILING bytes"; fi
    if [ "$name" != "$(uname -m)" ]; then
        emulator=$(emulator "$name")
        ran=$emulator
    fi
    if [ -n "$result" ]; then
        failures=$((failures + 1))
    elif [ -n "$emulator" ] && ! has "$emulator"; then
        ran='-' result='not run: apt-get install qemu-user-static'
    elif ! result=$(try "$file" "$emulator"); then
        failures=$((failures + 1))
    elif [ -z "${UNTESTED:-}" ] && ! tests=$(core_tests "$name" "$emulator"); then
        result=$tests tests='-'
        failures=$((failures + 1))
    elif result=$(knocks "$file" "$emulator"); then
        result='runs, and a knock opens a door'
    elif [ -z "$emulator" ]; then
        failures=$((failures + 1))
    else
        # This may be a fault of the emulator.
        result="runs; a knock could not be tested: $(printf '%s' "$result" | tail -n 1)"
    fi
    table+=("$name|$size|$ran|$tests|$result")
done

printf '\n%-8s | %7s | %-20s | %12s | %s\n' target bytes 'ran under' 'tests passed' result
for row in "${table[@]}"; do
    IFS='|' read -r name size ran tests result <<<"$row"
    printf '%-8s | %7s | %-20s | %12s | %s\n' "$name" "$size" "$ran" "$tests" "$result"
done
[ $failures = 0 ]
