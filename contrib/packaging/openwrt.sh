# shellcheck shell=bash disable=SC2154 # variables of package.sh
# The packages for OpenWrt, with their feeds, without OpenWrt's SDK; for contrib/package.sh.
# OpenWrt names a package after the processor it was compiled for; the same program is
# packed once for each name that it runs on.

# The architecture names of OpenWrt 22.03 to 25.12 that a target's program runs on.
openwrt_names() {
    case $1 in
    x86_64) echo x86_64 ;;
    aarch64) echo aarch64_generic aarch64_cortex-a53 aarch64_cortex-a72 aarch64_cortex-a76 ;;
    # Not arm_cortex-a7 and arm_cortex-a9: those have no floating-point unit.
    armv7)
        echo arm_cortex-a5_vfpv4 arm_cortex-a7_neon-vfpv4 arm_cortex-a7_vfpv4 arm_cortex-a8_vfpv3 \
            arm_cortex-a9_neon arm_cortex-a9_vfpv3-d16 arm_cortex-a15_neon-vfpv4
        ;;
    riscv64) echo riscv64_generic riscv64_riscv64 ;;
    # Not mips_mips32 and mipsel_mips32, the first version of the instruction set.
    mips) echo mips_24kc ;;
    mipsel) echo mipsel_24kc mipsel_24kc_24kf mipsel_74kc ;;
    esac
}

# The installed files, below DIR.
openwrt_files() {
    local dir=$1 files=contrib/openwrt/files
    put 755 "$STATIC/$2/knockd" "$dir/usr/sbin/knockd"
    mkdir -p "$dir/usr/bin"
    ln -s ../sbin/knockd "$dir/usr/bin/knock"
    put 600 $files/knockd.config "$dir/etc/config/knockd"
    put 755 $files/knockd.init "$dir/etc/init.d/knockd"
    put 644 $files/knockd.keep "$dir/lib/upgrade/keep.d/knockd"
    put 644 $files/knockd-sets.nft "$dir/usr/share/nftables.d/table-pre/knockd.nft"
    put 644 $files/knockd-input.nft "$dir/usr/share/nftables.d/chain-pre/input/knockd.nft"
    zipped "$work/notices" "$dir/usr/share/licenses/knockd/THIRD-PARTY-NOTICES.gz"
    put 644 LICENSE-MIT "$dir/usr/share/licenses/knockd/LICENSE-MIT"
}

# The scripts of the package, below DIR. default_postinst enables and starts the init
# script, and reloads nothing while an image is being built.
openwrt_scripts() {
    mkdir -p "$1"
    cat >"$1/postinst" <<'SCRIPT'
#!/bin/sh
[ "${IPKG_NO_SCRIPT}" = 1 ] && exit 0
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
export root="${IPKG_INSTROOT}" pkgname=knockd
# Before the first door opens, the firewall needs the sets.
if [ -z "${IPKG_INSTROOT}" ] && [ -x /etc/init.d/firewall ]; then
	/etc/init.d/firewall reload
fi
default_postinst "$0" "$@"
SCRIPT
    cat >"$1/prerm" <<'SCRIPT'
#!/bin/sh
[ -s "${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "${IPKG_INSTROOT}/lib/functions.sh"
export root="${IPKG_INSTROOT}" pkgname=knockd
default_prerm "$0" "$@"
SCRIPT
    chmod 755 "$1/postinst" "$1/prerm"
}

DESCRIPTION='Port knocking: daemon and client, one static program'

package_ipk() {
    local name=$1 architecture dir size file
    dir=$work/ipk
    openwrt_files "$dir/data" "$name"
    openwrt_scripts "$dir/control"
    echo /etc/config/knockd >"$dir/control/conffiles"
    echo 2.0 >"$dir/debian-binary"
    size=$(find "$dir/data" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
    archive "$dir/data" . | gzip -9n >"$dir/data.tar.gz"
    for architecture in $(openwrt_names "$name"); do
        cat >"$dir/control/control" <<TEXT
Package: knockd
Version: $VERSION-r$RELEASE
Section: net
Architecture: $architecture
Installed-Size: $size
License: MIT OR Apache-2.0
Maintainer: The knockd maintainers <$MAINTAINER>
Description: $DESCRIPTION
TEXT
        archive "$dir/control" . | gzip -9n >"$dir/control.tar.gz"
        file=$OUT/openwrt/$architecture/knockd_$VERSION-r${RELEASE}_$architecture.ipk
        mkdir -p "${file%/*}"
        archive "$dir" ./debian-binary ./control.tar.gz ./data.tar.gz | gzip -9n >"$file"
        cp "$dir/control/control" "$work/control-$architecture"
        made "$file"
    done
    rm -rf "$dir"
}

package_apk() {
    local name=$1 architecture dir file
    dir=$work/apk
    openwrt_files "$dir/data" "$name"
    openwrt_scripts "$dir/scripts"
    # What OpenWrt's build adds, and its default_postinst and sysupgrade read.
    mkdir -p "$dir/data/lib/apk/packages"
    (cd "$dir/data" && find . ! -type d -printf '/%P\n' | sort) >"$work/list"
    mv "$work/list" "$dir/data/lib/apk/packages/knockd.list"
    echo /etc/config/knockd >"$dir/data/lib/apk/packages/knockd.conffiles"
    settle "$dir"
    for architecture in $(openwrt_names "$name"); do
        file=$OUT/openwrt/$architecture/knockd-$VERSION-r$RELEASE.apk
        mkdir -p "${file%/*}"
        apk mkpkg --info name:knockd --info "version:$VERSION-r$RELEASE" --info "arch:$architecture" \
            --info "description:$DESCRIPTION" --info 'license:MIT OR Apache-2.0' \
            --script "post-install:$dir/scripts/postinst" --script "post-upgrade:$dir/scripts/postinst" \
            --script "pre-deinstall:$dir/scripts/prerm" --files "$dir/data" --output "$file"
        made "$file"
    done
    rm -rf "$dir"
}

# The indexes of the feeds: opkg's Packages, and packages.adb of apk.
feeds() {
    local dir architecture file
    for dir in "$OUT"/openwrt/*/; do
        dir=${dir%/} architecture=${dir##*/}
        if [ -f "$work/control-$architecture" ]; then
            file=knockd_$VERSION-r${RELEASE}_$architecture.ipk
            {
                sed '/^Description/d' "$work/control-$architecture"
                printf 'Filename: %s\nSize: %s\nSHA256sum: %s\nDescription: %s\n\n' "$file" \
                    "$(stat -c %s "$dir/$file")" "$(sha256sum "$dir/$file" | cut -d' ' -f1)" "$DESCRIPTION"
            } >"$dir/Packages"
            gzip -9nc "$dir/Packages" >"$dir/Packages.gz"
            made "$dir/Packages" && made "$dir/Packages.gz"
            # usign's signatures are those of signify.
            if [ -n "${USIGN_KEY:-}" ]; then
                signify-openbsd -S -s "$USIGN_KEY" -m "$dir/Packages" -x "$dir/Packages.sig"
                made "$dir/Packages.sig"
            fi
        fi
        if [ -f "$dir/knockd-$VERSION-r$RELEASE.apk" ] && has apk; then
            if [ -n "${APK_KEY:-}" ]; then
                apk mkndx --sign "$APK_KEY" --allow-untrusted --output "$dir/packages.adb" "$dir"/*.apk
            else
                apk mkndx --allow-untrusted --output "$dir/packages.adb" "$dir"/*.apk
            fi
            made "$dir/packages.adb"
        fi
    done
}
