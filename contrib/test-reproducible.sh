#!/bin/bash
# Builds a static program twice, in two folders and with two homes, and compares the
# files: anyone who builds the commit of a release gets the bytes of the release.
#
#     contrib/test-reproducible.sh [TARGET]
#
# TARGET as in build-static.sh; default: x86_64. It needs what build-static.sh needs, user
# or mount namespaces, and twice as long: some ten minutes. Cargo's and rustup's folders
# are the same ones, mounted at another path for the second build, so that nothing is
# downloaded twice.
#
# Exit code: 0 if both builds gave the same bytes.
set -euo pipefail

# Builds in FOLDER, which has the sources in it; run in a mount namespace of its own.
build_elsewhere() {
    local folder=$1 name=$2
    mkdir -p "$folder/home/.cargo" "$folder/home/.rustup"
    mount --bind "${CARGO_HOME:-$HOME/.cargo}" "$folder/home/.cargo"
    mount --bind "${RUSTUP_HOME:-$HOME/.rustup}" "$folder/home/.rustup"
    export HOME=$folder/home CARGO_HOME=$folder/home/.cargo RUSTUP_HOME=$folder/home/.rustup
    export PATH="$CARGO_HOME/bin:$PATH"
    build "$folder" "$name"
}

build() {
    local folder=$1 name=$2
    cd "$folder/sources"
    # What the files can do is for build-static.sh to test.
    CARGO_TARGET_DIR=$folder/target OVERSIZE=1 UNTESTED=1 contrib/build-static.sh "$name"
}

if [ "${1:-}" = --elsewhere ]; then
    build_elsewhere "$2" "$3"
    exit
fi

name=${1:-x86_64}
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
one=$scratch/one other=$scratch/another/folder
mkdir -p "$one/sources" "$other"
tar -c --exclude=./.git --exclude=./target --exclude=./tests/fuzz/target . | tar -x -C "$one/sources"
cp -r "$one/sources" "$other/"

(build "$one" "$name")
unshare --user --map-root-user --mount bash "$one/sources/contrib/test-reproducible.sh" --elsewhere "$other" "$name"

if cmp "$one/target/static/$name/knockd" "$other/target/static/$name/knockd"; then
    sha256sum <"$one/target/static/$name/knockd"
    echo "test-reproducible: two folders and two homes give the same bytes"
else
    echo "test-reproducible: the two builds differ" >&2
    exit 1
fi
