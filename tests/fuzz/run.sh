#!/usr/bin/env bash
# Builds the fuzz targets, one for each reader of untrusted input, and runs each.
#
#     tests/fuzz/run.sh [--runs N | --seconds S] [--seed N] [TARGET...]
#
# Needs cargo and a C++ compiler, but neither cargo-fuzz nor nightly: the compiler's
# coverage counters also work on stable.  Without TARGET it runs all of them; each begins
# with its seeds (from tests/corpus and tests/fuzz/seeds) and the inputs of earlier runs
# (tests/fuzz/corpus).  With --seed the inputs are the same each time: the random numbers,
# and those of earlier runs are left out.  Prints a table, and exits with 1 if a target
# failed: the inputs that made it fail are in tests/fuzz/artifacts.
set -euo pipefail

fuzz=$(cd "$(dirname "$0")" && pwd)
tests=$(dirname "$fuzz")
bound=-runs=100000
random=0
targets=()

fail() {
    printf 'fuzz: %s\n' "$*" >&2
    exit 1
}

# Whether the word is a number above 0.
is_number() {
    [[ $1 =~ ^[1-9][0-9]*$ ]] || fail "'$1' is not a number above 0"
}

while [ $# -gt 0 ]; do
    case $1 in
    --runs)
        is_number "${2-}"
        bound=-runs=$2
        shift
        ;;
    --seconds)
        is_number "${2-}"
        bound=-max_total_time=$2
        shift
        ;;
    --seed)
        is_number "${2-}"
        random=$2
        shift
        ;;
    -*) fail "usage: tests/fuzz/run.sh [--runs N | --seconds S] [--seed N] [TARGET...]" ;;
    *)
        [ -f "$fuzz/fuzz_targets/$1.rs" ] || fail "there is no target $1 in $fuzz/fuzz_targets"
        targets+=("$1")
        ;;
    esac
    shift
done
if [ ${#targets[@]} = 0 ]; then
    for source in "$fuzz"/fuzz_targets/*.rs; do
        targets+=("$(basename "$source" .rs)")
    done
fi

# The compiler options of cargo-fuzz without the sanitizer, which only nightly has and
# which finds nothing in code without unsafe.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares"

# A separate folder: the other flags would cause a full rebuild in the usual one.
built=${CARGO_TARGET_DIR:+$(realpath -m "$CARGO_TARGET_DIR")/fuzz}
built=${built:-$fuzz/target}

build() {
    local host
    host=$("${1:-rustc}" "${@:2}" -vV | sed -n 's/^host: //p')
    [ -n "$host" ] || return 1
    programs=$built/$host/release
    # --target keeps the flags away from build scripts and macros.
    "${cargo[@]}" build --manifest-path "$fuzz/Cargo.toml" --target-dir "$built" \
        --release --locked --target "$host" --bins
}

echo "fuzz: building ${#targets[@]} targets"
cargo=(cargo)
if ! build rustc; then
    echo "fuzz: not with $(rustc --version); trying nightly" >&2
    cargo=(cargo +nightly)
    build rustc +nightly || fail "neither this toolchain nor nightly can build the targets: nothing was run"
fi

seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT

# Copies seeds from the corpus of the other tests.
seed() {
    local target=$1 number=0 file line
    mkdir -p "$seeds/$target"
    case $target in
    config)
        for file in "$tests"/corpus/config/*.conf "$tests"/../knockd.conf; do
            cp "$file" "$seeds/config/"
        done
        # A scenario begins with doors.
        for file in "$tests"/corpus/scenarios/*.txt; do
            sed '/^---$/,$d' "$file" >"$seeds/config/$(basename "$file")"
        done
        ;;
    spa)
        # A digit says what follows: a packet, a text, a file.
        while read -r line; do
            number=$((number + 1))
            printf '0%s' "$line" >"$seeds/spa/packet$number"
        done < <(sed -n 's/^ *"packet": "\(.*\)",$/\1/p' "$tests/corpus/spa/vectors.json")
        while read -r line; do
            number=$((number + 1))
            printf '1%s' "${line%:*}" >"$seeds/spa/text$number"
        done < <(sed -n 's/^ *"text": "\(.*\)",$/\1/p' "$tests/corpus/spa/vectors.json")
        for file in "$tests"/corpus/spa/*.conf "$tests"/corpus/spa/*.rc; do
            { printf 2 && cat "$file"; } >"$seeds/spa/$(basename "$file")"
        done
        ;;
    captures)
        # The steps of a scenario stand behind its doors.
        for file in "$tests"/corpus/scenarios/*.txt; do
            sed '1,/^---$/d; s/ *=>.*//' "$file" >"$seeds/captures/$(basename "$file")"
        done
        ;;
    sequences)
        cp "$tests"/corpus/config/files/* "$seeds/sequences/"
        while read -r line; do
            number=$((number + 1))
            printf '%s' "$line" >"$seeds/sequences/$number"
        done < <(sed -n 's/^[[:blank:]]*\(sequence\|otp\)[[:blank:]]*=[[:blank:]]*//Ip' \
            "$tests"/corpus/config/*.conf "$tests"/corpus/scenarios/*.txt | sort -u)
        ;;
    esac
}

# Prints a dictionary: the words that the sources behind a target compare with.
dictionary() {
    local sources
    case $1 in
    config) sources=("$tests"/../src/config/*.rs "$tests"/../src/door/{otp,knock}.rs) ;;
    sequences) sources=("$tests"/../src/door/{otp,knock}.rs "$tests"/../src/plan/*.rs) ;;
    spa) sources=("$tests"/../src/config/{access,fwknop}.rs "$tests/../src/plan/fwknoprc.rs") ;;
    captures) sources=("$tests/../src/simulation/steps.rs") ;;
    state) sources=("$tests"/../src/opening/{record,state}.rs) ;;
    *) return ;;
    esac
    grep -hoE '"[A-Za-z0-9_:/-]+"' "${sources[@]}" | sort -u
}

# figure WORD LOG: the number behind a word in libFuzzer's last line about coverage.
figure() {
    sed -n "s/.* $1: \([0-9]*\).*/\1/p" "$2" | tail -n 1
}

table=()
found=0
for target in "${targets[@]}"; do
    seed "$target"
    corpus=$fuzz/corpus/$target
    [ "$random" = 0 ] || corpus=$seeds/corpus/$target
    artifacts=$fuzz/artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    folders=("$corpus" "$seeds/$target")
    [ -d "$fuzz/seeds/$target" ] && folders+=("$fuzz/seeds/$target")
    options=("$bound" -seed="$random" -artifact_prefix="$artifacts/" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1)
    [ "$target" = config ] && options+=(-max_len=8192)
    dictionary "$target" >"$seeds/$target.dict"
    [ -s "$seeds/$target.dict" ] && options+=(-dict="$seeds/$target.dict")
    log=$seeds/$target.log
    printf 'fuzz: %s\n' "$target"
    code=0
    "$programs/$target" "${options[@]}" "${folders[@]}" >"$log" 2>&1 || code=$?
    findings=0
    if [ "$code" != 0 ]; then
        findings=1
        found=$((found + 1))
        grep -v -e '^#[0-9]' -e '^ *[0-9]*: ' -e '^ *at ' "$log" | tail -n 30
        printf 'fuzz: %s FAILED (code %d); the input: %s\n' "$target" "$code" \
            "$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)"
        printf 'fuzz: again: %s INPUT\n' "$programs/$target"
    fi
    table+=("$(printf '%-10s %12s %10s %8s %9s %8s %9d' "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
        "$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")" \
        "$(figure cov "$log")" "$(figure ft "$log")" "$(figure corp "$log")" "$findings")")
done

printf '\n%-10s %12s %10s %8s %9s %8s %9s\n' target inputs inputs/s edges features corpus findings
printf '%s\n' "${table[@]}"
[ "$found" = 0 ] || fail "$found of ${#targets[@]} targets found something: see above"
