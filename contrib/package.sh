#!/bin/bash
# Makes packages from the static program of contrib/build-static.sh.
#
#     contrib/package.sh FORMAT... [TARGET...]
#
# FORMAT is deb, rpm, ipk, apk, oci or tar, or `all`; or fleet, which is Debian's package of
# knockd-fleet, and not among `all`, since it is built for x86_64 only. TARGET is a target of
# build-static.sh (default: all of them; deb, rpm and oci leave MIPS out). The packages are
# in target/packages, with the list of parts (CycloneDX) and SHA256SUMS.
#
# They need: deb: dpkg-deb. rpm: rpmbuild. apk: apk of apk-tools 3 (Alpine 3.23 has it).
# oci, notices and lists: Python 3. A format whose tool is missing is an error; with `all`
# it is left out, and the last lines say so.
#
#     STATIC=DIR         package DIR/TARGET/knockd (and knockd-fleet) instead of building it
#     MINISIGN_KEY=FILE  sign SHA256SUMS with this secret key of minisign (SHA256SUMS.minisig)
#     APK_KEY=FILE       sign the index of the .apk feed with this key (openssl, prime256v1)
#     USIGN_KEY=FILE     sign the index of the .ipk feed with this key of signify
#     RELEASE=N          the number behind the version; default: 1
#     SOURCE_DATE_EPOCH  the time of all files in the packages; default: the last commit
#
# The same commit, toolchain and SOURCE_DATE_EPOCH give the same bytes, in any folder.
#
# Exit code: 0 if everything that was asked for was made.
set -euo pipefail

cd "$(dirname "$0")/.."
export LC_ALL=C TZ=UTC PATH="$PATH:$HOME/.cargo/bin:/usr/sbin:/sbin"
umask 022
PACKAGING=contrib/packaging
ALL_FORMATS=(tar deb rpm ipk apk oci)
ALL_TARGETS=(x86_64 aarch64 armv7 riscv64 mips mipsel)
RELEASE=${RELEASE:-1}
# The field is required. Reports go to the project's page, not to an address.
MAINTAINER=knockd@users.noreply.github.com

die() {
    printf 'package: %s\n' "$*" >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0"
}

# ------------------------------------------------------------------- arguments
formats=() targets=() only_what_can_be=no
for word in "$@"; do
    case $word in
    -h | --help) usage && exit ;;
    all) formats=("${ALL_FORMATS[@]}") only_what_can_be=yes ;;
    tar | deb | rpm | ipk | apk | oci | fleet) formats+=("$word") ;;
    x86_64 | aarch64 | armv7 | riscv64 | mips | mipsel) targets+=("$word") ;;
    *) die "$word is neither a format (${ALL_FORMATS[*]} all fleet) nor a target (${ALL_TARGETS[*]})" ;;
    esac
done
[ ${#formats[@]} -gt 0 ] || { usage >&2 && exit 1; }
[ ${#targets[@]} -gt 0 ] || targets=("${ALL_TARGETS[@]}")

VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || echo)}"
[ -n "$SOURCE_DATE_EPOCH" ] || die "this is no git checkout: set SOURCE_DATE_EPOCH to the time of the release"
export SOURCE_DATE_EPOCH
target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/packages"
target=$(cd "$target" && pwd)
OUT=$target/packages

left_out=()
# needs FORMAT COMMAND: whether the format can be made.
needs() {
    has "$2" && return
    [ $only_what_can_be = yes ] || die "$1 needs $2, which is missing"
    left_out+=("$1 (needs $2)")
    return 1
}

wanted=()
for format in "${formats[@]}"; do
    case $format in
    deb | fleet) needs "$format" dpkg-deb || continue ;;
    rpm) needs rpm rpmbuild || continue ;;
    apk) needs apk apk || continue ;;
    esac
    wanted+=("$format")
done
has python3 || die "python3 is missing"
[ -z "${MINISIGN_KEY:-}" ] || has minisign || die "MINISIGN_KEY is set, but minisign is missing"

# put MODE FILE DESTINATION: installs a file.
put() {
    install -D -m "$1" "$2" "$3"
}

# -------------------------------------------------------------- the program
fleet_is_wanted=no
case " ${wanted[*]} " in *' fleet '*) fleet_is_wanted=yes ;; esac
if [ -z "${STATIC:-}" ]; then
    UNTESTED=1 contrib/build-static.sh "${targets[@]}" || die "the programs could not be built, see above"
    STATIC=$target/static
    # A package of its own, without the tricks of build-static.sh: it need not be small.
    if [ $fleet_is_wanted = yes ]; then
        [ "${targets[*]}" = x86_64 ] || die "knockd-fleet is built for x86_64 only: name that target, or give STATIC"
        triple=x86_64-unknown-linux-musl
        (cd contrib/fleet && cargo build --release --locked --target $triple --target-dir "$target/fleet") ||
            die "knockd-fleet could not be built, see above"
        put 755 "$target/fleet/$triple/release/knockd-fleet" "$STATIC/x86_64/knockd-fleet"
    fi
fi
for name in "${targets[@]}"; do [ -f "$STATIC/$name/knockd" ] || die "$STATIC/$name/knockd is missing"; done
if [ $fleet_is_wanted = yes ]; then
    for name in "${targets[@]}"; do [ -f "$STATIC/$name/knockd-fleet" ] || die "$STATIC/$name/knockd-fleet is missing"; done
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The licences of the libraries in the program, and the list of its parts. Both name
# the parts of the Linux program, which are the same for all targets.
python3 $PACKAGING/parts.py notices >"$work/notices"
python3 $PACKAGING/parts.py sbom >"$work/sbom"
if [ $fleet_is_wanted = yes ]; then (cd contrib/fleet && python3 ../packaging/parts.py notices) >"$work/notices-fleet"; fi

# zipped FILE DESTINATION
zipped() {
    mkdir -p "${2%/*}"
    gzip -9nc "$1" >"$2"
}

# What every Linux package has, below DIR: the program, its link, manuals, completions.
# The program's folder is /usr/sbin and the client's /usr/bin.
common() {
    local dir=$1 name=$2 page
    put 755 "$STATIC/$name/knockd" "$dir/usr/sbin/knockd"
    mkdir -p "$dir/usr/bin"
    ln -s ../sbin/knockd "$dir/usr/bin/knock"
    put 755 contrib/knock_helper.sh "$dir/usr/sbin/knock_helper.sh"
    ln -s knock_helper.sh "$dir/usr/sbin/knock_helper_ipt.sh"
    for page in knock knockd; do zipped man/$page.1 "$dir/usr/share/man/man1/$page.1.gz"; done
    mkdir -p "$dir/usr/share/man/man5"
    ln -s ../man1/knockd.1.gz "$dir/usr/share/man/man5/knockd.conf.5.gz"
    for page in knock knockd; do
        put 644 contrib/completions/$page.bash "$dir/usr/share/bash-completion/completions/$page"
        put 644 contrib/completions/$page.fish "$dir/usr/share/fish/vendor_completions.d/$page.fish"
    done
    put 644 knockd.conf "$dir/usr/share/knockd/knockd.conf"
    put 644 contrib/packaging/logrotate "$dir/etc/logrotate.d/knockd"
}

# The documents, below DIR.
documents() {
    local dir=$1
    put 644 README.md "$dir/README.md"
    zipped CHANGELOG.md "$dir/changelog.gz"
    zipped "$work/notices" "$dir/THIRD-PARTY-NOTICES.gz"
    mkdir -p "$dir/examples"
    cp -r contrib/fail2ban "$dir/examples/"
    put 644 contrib/nftables.conf "$dir/examples/nftables.conf"
    put 644 contrib/systemd/knockd-guard.service "$dir/examples/knockd-guard.service"
}

# Gives all files below DIR the time of the release.
settle() {
    find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

# archive DIR: the files below DIR as a tar file that is the same everywhere.
archive() {
    tar -C "$1" --format=gnu --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c "${@:2}"
}

# shellcheck source=contrib/packaging/deb.sh
. $PACKAGING/deb.sh
# shellcheck source=contrib/packaging/rpm.sh
. $PACKAGING/rpm.sh
# shellcheck source=contrib/packaging/openwrt.sh
. $PACKAGING/openwrt.sh

package_tar() {
    local name=$1 folder page
    folder=knockd-$VERSION-$name
    local dir=$work/tar/$folder
    put 755 "$STATIC/$name/knockd" "$dir/knockd"
    ln -s knockd "$dir/knock"
    mkdir -p "$dir/man"
    for page in knock.1 knockd.1; do put 644 man/$page "$dir/man/$page"; done
    cp -r contrib/completions "$dir/completions"
    mkdir "$dir/contrib"
    cp -r contrib/fail2ban contrib/nftables.conf contrib/openwrt contrib/systemd contrib/web \
        contrib/knock_helper.sh contrib/knockd.sh "$dir/contrib/"
    cp knockd.conf LICENSE-APACHE LICENSE-MIT README.md CHANGELOG.md SECURITY.md "$dir/"
    cp "$work/notices" "$dir/THIRD-PARTY-NOTICES"
    archive "$work/tar" "$folder" | gzip -9n >"$OUT/$folder.tar.gz"
    rm -rf "$work/tar"
    made "$OUT/$folder.tar.gz"
}

package_oci() {
    local name=$1 file
    file=$OUT/knockd-$VERSION-$name-oci.tar
    python3 $PACKAGING/oci.py "$name" "$VERSION" "$STATIC/$name/knockd" "$work/notices" "$file"
    made "$file"
}

files=()
made() {
    files+=("${1#"$OUT"/}")
    printf '%9s  %s\n' "$(stat -c %s "$1")" "${1#"$OUT"/}"
}

# ------------------------------------------------------------------ packages
for format in "${wanted[@]}"; do
    for name in "${targets[@]}"; do
        case $format-$name in
        deb-mips* | rpm-mips* | oci-mips* | fleet-mips*) ;; # these systems run on no such machine
        *) "package_$format" "$name" ;;
        esac
    done
done
case " ${wanted[*]} " in *' ipk '* | *' apk '*) feeds ;; esac
cp "$work/sbom" "$OUT/knockd-$VERSION.cdx.json"
made "$OUT/knockd-$VERSION.cdx.json"

(cd "$OUT" && printf '%s\n' "${files[@]}" | sort | xargs sha256sum >SHA256SUMS)
if [ -n "${MINISIGN_KEY:-}" ]; then
    # Verify with: minisign -V -p knockd.pub -m SHA256SUMS && sha256sum -c SHA256SUMS
    minisign -S -s "$MINISIGN_KEY" -t "knockd $VERSION" -m "$OUT/SHA256SUMS"
fi
printf '%d files, in %s\n' "${#files[@]}" "$OUT"
[ ${#left_out[@]} = 0 ] || printf 'LEFT OUT: %s\n' "${left_out[@]}"
