# shellcheck shell=bash disable=SC2154 # variables of package.sh
# Debian's package; for contrib/package.sh. Debian 11, Ubuntu 22.04 and later install it
# (dpkg 1.20.6 knows remove-on-upgrade).

package_deb() {
    local name=$1 architecture dir file size
    dir=$work/deb
    case $name in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    armv7) architecture=armhf ;;
    riscv64) architecture=riscv64 ;;
    esac
    common "$dir" "$name"
    for file in knock knockd; do
        put 644 contrib/completions/_$file "$dir/usr/share/zsh/vendor-completions/_$file"
    done
    put 644 contrib/systemd/knockd.service "$dir/lib/systemd/system/knockd.service"
    put 644 "$PACKAGING/deb/default" "$dir/usr/share/knockd/default"
    documents "$dir/usr/share/doc/knockd"
    zipped <(deb_changelog) "$dir/usr/share/doc/knockd/changelog.Debian.gz"
    deb_copyright >"$work/copyright"
    put 644 "$work/copyright" "$dir/usr/share/doc/knockd/copyright"
    put 644 "$PACKAGING/deb/lintian-overrides" "$dir/usr/share/lintian/overrides/knockd"

    mkdir "$dir/DEBIAN"
    for file in postinst prerm postrm; do put 755 "$PACKAGING/deb/$file" "$dir/DEBIAN/$file"; done
    put 644 "$PACKAGING/deb/conffiles" "$dir/DEBIAN/conffiles"
    (cd "$dir" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum) >"$work/md5sums"
    put 644 "$work/md5sums" "$dir/DEBIAN/md5sums"
    # In kibibytes, without the rounding of this file system.
    size=$(find "$dir" -type f -printf '%s\n' | awk '{ sum += $1 } END { print int(sum / 1024) + 1 }')
    sed "s/@VERSION@-1/$VERSION-$RELEASE/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/; s/@MAINTAINER@/$MAINTAINER/" \
        "$PACKAGING/deb/control" >"$dir/DEBIAN/control"
    settle "$dir"
    file=$OUT/knockd_$VERSION-${RELEASE}_$architecture.deb
    dpkg-deb --root-owner-group -Zxz -b "$dir" "$file" >/dev/null
    rm -rf "$dir"
    made "$file"
}

deb_changelog() {
    cat <<TEXT
knockd ($VERSION-$RELEASE) unstable; urgency=medium

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
