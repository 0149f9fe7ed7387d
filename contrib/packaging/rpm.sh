# shellcheck shell=bash disable=SC2154 # variables of package.sh
# The packages for Fedora, RHEL and openSUSE; for contrib/package.sh. The two packages do
# not depend on each other, as Fedora's, so each has the program.

package_rpm() {
    local name=$1 architecture dir file doc
    dir=$work/rpm/root
    case $name in
    armv7) architecture=armv7hl ;;
    *) architecture=$name ;;
    esac
    common "$dir" "$name"
    rm "$dir/usr/bin/knock"
    put 755 "$STATIC/$name/knockd" "$dir/usr/bin/knock"
    rm -r "$dir/usr/share/knockd"
    for file in knock knockd; do
        put 644 contrib/completions/_$file "$dir/usr/share/zsh/site-functions/_$file"
    done
    put 600 knockd.conf "$dir/etc/knockd.conf"
    mkdir "$dir/etc/sysconfig"
    echo '# Options of the daemon, see knockd(1), for example: OPTIONS="-i eth1"
OPTIONS=""' >"$dir/etc/sysconfig/knockd"
    mkdir -p "$dir/usr/lib/systemd/system"
    # Fedora's names of the file and the variable.
    # shellcheck disable=SC2016 # for systemd
    sed 's,/etc/default/knockd,/etc/sysconfig/knockd,; s/KNOCKD_OPTS/OPTIONS/' \
        contrib/systemd/knockd.service >"$dir/usr/lib/systemd/system/knockd.service"
    documents "$dir/usr/share/doc/knock-server"
    doc=$dir/usr/share/doc/knock
    zipped "$work/notices" "$doc/THIRD-PARTY-NOTICES.gz"
    for file in LICENSE-APACHE LICENSE-MIT; do
        put 644 $file "$doc/$file"
        put 644 $file "$dir/usr/share/doc/knock-server/$file"
    done
    settle "$dir"
    rpmbuild --quiet -bb --target "$architecture-linux" --define "_topdir $work/rpm/top" \
        --define "knock_version $VERSION" --define "knock_release $RELEASE" --define "knock_root $dir" \
        --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
        --define '_buildhost reproducible' --define '__os_install_post %{nil}' \
        --define '_binary_payload w9.xzdio' \
        "$PACKAGING/rpm/knock.spec" >"$work/rpm.log" 2>&1 || die "rpmbuild failed: $(cat "$work/rpm.log")"
    for file in "$work"/rpm/top/RPMS/*/*.rpm; do
        mv "$file" "$OUT/"
        made "$OUT/${file##*/}"
    done
    rm -rf "$work/rpm"
}
