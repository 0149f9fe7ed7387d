#!/bin/bash
# Counts the instructions of the benchmarks with callgrind: unlike times, they do
# not depend on the load of the machine.
#
#     tests/bench/instructions.sh             a table of all
#     tests/bench/instructions.sh BENCH       the functions that one spends them in,
#                                             such as engine::stranger::1000
#
# Needs valgrind, and builds the benchmarks with their symbols. Exit code: 0 if none takes
# more instructions than it may.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The benchmarks, each with the function whose instructions count; its preparation
# does not count. A number is the most instructions that it may take on x86_64: for a
# forged single packet a few more than it takes without instructions for SHA-256, which
# valgrind does not have. Most of them are the hash.
OBSERVE='knocking::engine::Engine::observe*'
BENCHES=(
    "wire::parse knocking::packet::parse*"
    "wire::forged_packet bench::wire::receive* 16000"
    "engine::stranger::1 $OBSERVE"
    "engine::stranger::1000 $OBSERVE"
    "engine::stranger::5000 $OBSERVE"
    "engine::begin_and_fail::1 $OBSERVE"
    "engine::begin_and_fail::1000 $OBSERVE"
    "engine::begin_and_fail::5000 $OBSERVE"
    "engine::flood::1 $OBSERVE"
    "engine::flood::5000 $OBSERVE"
    "engine::flood_at_the_same_beginning::1000 $OBSERVE"
    "engine::otp_wrong_port::1 $OBSERVE"
    "engine::otp_wrong_port::1000 $OBSERVE"
    "engine::otp_whole_list::1 $OBSERVE"
    "engine::otp_whole_list::1000 $OBSERVE"
    "engine::otp_period_change::1 $OBSERVE"
    "engine::otp_period_change::1000 $OBSERVE"
    "engine::otp_list knocking::door::otp::Otp::list*"
    "wire::interest::1 knocking::filter::interest::Interest::of*"
    "wire::interest::5000 knocking::filter::interest::Interest::of*"
    "wire::filter::1 knocking::filter::program*"
    "wire::filter::5000 knocking::filter::program*"
    "config::read::1 knocking::config::Config::parse_all*"
    "config::read::5000 knocking::config::Config::parse_all*"
    "config::put_in_force::5000 knocking::engine::Engine::new*"
)

command -v valgrind >/dev/null || {
    echo "instructions: valgrind is not installed" >&2
    exit 1
}
export CARGO_PROFILE_BENCH_STRIP=none CARGO_PROFILE_BENCH_DEBUG=1
program=$(cargo bench --bench bench --no-run --message-format=json |
    sed -n 's/.*"name":"bench".*"executable":"\([^"]*\)".*/\1/p' | tail -1) || program=''
[ -x "$program" ] || {
    echo "instructions: the benchmarks were not built" >&2
    exit 1
}
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT

# count BENCH FUNCTION ROUNDS: the instructions of so many rounds.
count() {
    local counted
    valgrind --tool=callgrind --callgrind-out-file="$here/out" --toggle-collect="$2" \
        "$program" "$1\$" --bench --sample-count "$3" --sample-size 1 >"$here/said" 2>&1 || {
        cat "$here/said" >&2
        return 1
    }
    counted=$(sed -n 's/.*Collected : *//p' "$here/said")
    [ "${counted:-0}" -gt 0 ] || {
        echo "instructions: nothing was counted for $1: is there such a benchmark, and $2?" >&2
        return 1
    }
    echo "$counted"
}

known=no
code=0
for line in "${BENCHES[@]}"; do
    read -r name function most <<<"$line"
    if [ $# = 0 ]; then
        # The difference of two runs leaves out what comes before the first round.
        few=$(count "$name" "$function" 10) || exit 1
        many=$(count "$name" "$function" 30) || exit 1
        each=$(((many - few) / 20))
        printf '%-34s %12d\n' "$name" $each
        if [ "$(uname -m)" = x86_64 ] && [ $each -gt "${most:-$each}" ]; then
            echo "instructions: $name may take $most" >&2
            code=1
        fi
    elif [ "$1" = "$name" ]; then
        known=yes
        count "$name" "$function" 30 >/dev/null || exit 1
        callgrind_annotate --auto=no "$here/out" 2>/dev/null | sed -n '/file:function/,$p' |
            sed -E 's/ \[[^]]*\]//; s#[^ ]*/(library|deps|src)/##' | sed -n 1,30p
    fi
done
if [ $# -gt 0 ] && [ $known = no ]; then
    echo "instructions: $1: there are: ${BENCHES[*]%% *}" >&2
    exit 1
fi
exit $code
