# shellcheck shell=bash disable=SC2154 # variables of package.sh
# Debian's packages, of knockd and of knockd-fleet; for contrib/package.sh. Debian 11, Ubuntu 22.04
# and later install them (dpkg 1.20.6 knows remove-on-upgrade).

package_deb() {
    local name=$1 dir file
    dir=$work/deb
    common "$dir" "$name"
    for file in knock knockd; do
        put 644 contrib/completions/_$file "$dir/usr/share/zsh/vendor-completions/_$file"
    done
    put 644 contrib/systemd/knockd.service "$dir/lib/systemd/system/knockd.service"
    put 644 "$PACKAGING/deb/default" "$dir/usr/share/knockd/default"
    documents "$dir/usr/share/doc/knockd"
    debian "$dir" "$name" knockd "$PACKAGING/deb"
}

# knockd-fleet, a program of its own.
package_fleet() {
    local name=$1 dir
    dir=$work/deb
    put 755 "$STATIC/$name/knockd-fleet" "$dir/usr/sbin/knockd-fleet"
    put 644 contrib/fleet/knockd-fleet.conf "$dir/etc/knockd-fleet.conf"
    put 644 contrib/fleet/knockd-fleet.service "$dir/lib/systemd/system/knockd-fleet.service"
    zipped man/knockd-fleet.8 "$dir/usr/share/man/man8/knockd-fleet.8.gz"
    put 644 contrib/fleet/redis.acl "$dir/usr/share/doc/knockd-fleet/examples/redis.acl"
    zipped CHANGELOG.md "$dir/usr/share/doc/knockd-fleet/changelog.gz"
    zipped "$work/notices-fleet" "$dir/usr/share/doc/knockd-fleet/THIRD-PARTY-NOTICES.gz"
    debian "$dir" "$name" knockd-fleet "$PACKAGING/fleet"
}

# debian DIR TARGET PACKAGE PARTS: makes the package of the files below DIR, with the scripts and the
# control file in PARTS.
debian() {
    local dir=$1 name=$2 package=$3 parts=$4 architecture file size
    case $name in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    armv7) architecture=armhf ;;
    riscv64) architecture=riscv64 ;;
    esac
    zipped <(deb_changelog "$package") "$dir/usr/share/doc/$package/changelog.Debian.gz"
    deb_copyright >"$work/copyright"
    put 644 "$work/copyright" "$dir/usr/share/doc/$package/copyright"
    put 644 "$parts/lintian-overrides" "$dir/usr/share/lintian/overrides/$package"

    mkdir "$dir/DEBIAN"
    for file in postinst prerm postrm; do put 755 "$parts/$file" "$dir/DEBIAN/$file"; done
    put 644 "$parts/conffiles" "$dir/DEBIAN/conffiles"
    (cd "$dir" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum) >"$work/md5sums"
    put 644 "$work/md5sums" "$dir/DEBIAN/md5sums"
    # In kibibytes, without the rounding of this file system.
    size=$(find "$dir" -type f -printf '%s\n' | awk '{ sum += $1 } END { print int(sum / 1024) + 1 }')
    sed "s/@VERSION@-1/$VERSION-$RELEASE/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/; s/@MAINTAINER@/$MAINTAINER/" \
        "$parts/control" >"$dir/DEBIAN/control"
    settle "$dir"
    file=$OUT/${package}_$VERSION-${RELEASE}_$architecture.deb
    dpkg-deb --root-owner-group -Zxz -b "$dir" "$file" >/dev/null
    rm -rf "$dir"
    made "$file"
}

deb_changelog() {
    cat <<TEXT
$1 ($VERSION-$RELEASE) unstable; urgency=medium

  * The changes are in changelog.gz.

 -- The knockd maintainers <$MAINTAINER>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
TEXT
}

deb_copyright() {
    cat <<TEXT
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: knockd

Files: *
Copyright: 2026 The knockd maintainers
License: Expat or Apache-2.0
Comment:
 The program contains libraries; their licences are in THIRD-PARTY-NOTICES.gz.

License: Apache-2.0
 On Debian systems, the text of the Apache License, Version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.

License: Expat
$(sed '1,/^Copyright/d; /./,$!d; s/^$/./; s/^/ /' LICENSE-MIT | sed '1{/^ \.$/d}')
TEXT
}
