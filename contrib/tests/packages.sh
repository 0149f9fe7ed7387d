#!/bin/bash
# contrib/package.sh: installs its packages over Debian's knockd 0.8 and takes them away
# again, in a Debian of its own (chroot), first without and then with a running systemd.
# contrib/tests/run.sh makes the chroot and the packages beforehand, with a network.
# shellcheck disable=SC2317 # functions that are passed as arguments
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

HERE=/run/here
PATH=$PATH:$HERE/apk
OURS=$(echo $HERE/made/1/knockd_*_amd64.deb)
NEWER=$(echo $HERE/made/2/knockd_*_amd64.deb)
ROOT=$PWD/root
WANTS=etc/systemd/system/multi-user.target.wants/knockd.service
export DEBIAN_FRONTEND=noninteractive

# dpkg and systemd are slow on a busy machine: a minute instead of ten seconds.
soon() {
    local _
    for _ in {1..1200}; do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.05
    done
    "$@"
}

# ------------------------------------------- inside, run by the systemd of the chroot
main_pid() { systemctl show -P MainPID knockd; }
is_active() { systemctl -q is-active knockd; }
runs() { cmp "/proc/$(main_pid)/exe" "$1"; }
listens() { is_active && grep -q '^[0-9a-f]' /proc/net/packet; }
# A knock with knock 0.8 or ours.
opens() {
    local _
    rm -f /run/opened /run/closed
    for _ in {1..60}; do
        /usr/bin/knock -d 20 127.0.0.1 7001 7002
        for _ in {1..20}; do
            if test -e /run/opened; then return; fi
            sleep 0.05
        done
    done
    return 1
}
quietly_installs() { dpkg -i "$1" </dev/null; }
holds() {
    local what=$1
    shift
    if soon "$@"; then passed "$what"; else
        failed "$what" "$("$@" 2>&1; systemctl status --no-pager knockd 2>&1 | tail -n 15)"
    fi
}
inside() {
    local pid
    holds "Debian's knockd 0.8 runs" listens
    check "its door opens" opens
    check "upgrading the running service asks nothing" quietly_installs /packages/1/knockd_*_amd64.deb
    holds "afterwards the new program runs" listens
    check "it is the installed one" runs /usr/sbin/knockd
    check "it is ours" grep -q '^knockd 0\.9' <(/usr/sbin/knockd -V)
    check "the door of the old configuration opens" opens
    check "upgrading to a newer package while the door is open" quietly_installs /packages/2/knockd_*_amd64.deb
    holds "the upgrade closes the door" test -e /run/closed
    holds "and the newer one runs" listens

    pid=$(main_pid)
    cp /etc/knockd.conf /root/good
    echo nonsense >>/etc/knockd.conf
    said=$(dpkg -i /packages/1/knockd_*_amd64.deb 2>&1 </dev/null)
    same "a configuration with an error does not stop the upgrade" 0 $?
    same "the process that was running goes on" "$pid" "$(main_pid)"
    check "the upgrade says so" grep -q 'the process that was running goes on' <<<"$said"
    check "and names the line" grep -q 'nonsense\|line [0-9]' <<<"$said"
    cp /root/good /etc/knockd.conf
    check "it can be restarted when that is corrected" systemctl restart knockd
    holds "and runs" listens

    check "back to Debian's package" quietly_installs /packages/knockd_0.8*_amd64.deb
    systemctl restart knockd
    holds "0.8 runs" listens
    check "0.8's door opens" opens
    check "ours once more, by apt-get" apt-get -qq install -y --no-install-recommends /packages/1/knockd_*_amd64.deb
    holds "it runs" listens
    check "removing it" apt-get -qq remove -y knockd
    # What 0.8 forked to close its door in ten minutes is left to do so.
    holds "stops the daemon" lacks is_active
    check "purging it" apt-get -qq purge -y knockd
    check "it is not enabled any more" lacks test -L "/$WANTS"
}

# -------------------------------------- becomes the first process of the chroot
machine() {
    set -e
    ip link set lo up
    while mountpoint -q /sys/fs/cgroup; do umount -R /sys/fs/cgroup; done
    mount -t proc proc "$ROOT/proc"
    mount --bind /proc/sys "$ROOT/proc/sys"
    mount -o remount,bind,ro "$ROOT/proc/sys"
    mount --rbind /dev "$ROOT/dev"
    mount -t sysfs -o ro sysfs "$ROOT/sys"
    if [ "$1" = unified ]; then
        mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup"
    else
        mount -t tmpfs cgroup "$ROOT/sys/fs/cgroup"
        mkdir "$ROOT/sys/fs/cgroup/systemd" "$ROOT/sys/fs/cgroup/unified"
        mount -t cgroup -o none,name=systemd cgroup "$ROOT/sys/fs/cgroup/systemd"
        mount -t cgroup2 cgroup2 "$ROOT/sys/fs/cgroup/unified"
    fi
    mount -t tmpfs tmpfs "$ROOT/run"
    exec env -i container=chroot PATH="$PATH" chroot "$ROOT" /lib/systemd/systemd --system --unit=moves.target \
        --log-target=console --log-level=warning --show-status=no
}

case ${1:-} in
--inside)
    inside
    exit
    ;;
--machine) machine "$2" ;;
esac

# ------------------------------------------------------------------- outside
if [ ! -d $HERE/chroot ]; then
    skipped "packages" "$(cat $HERE/made-missing)"
    exit 0
fi

# fresh: a new copy of the chroot, with Debian's knockd 0.8.
layer=0
fresh() {
    layer=$((layer + 1))
    while umount "$ROOT" 2>/dev/null; do :; done
    mkdir -p "$ROOT" "layers"
    mountpoint -q layers || mount -t tmpfs tmpfs layers
    rm -rf "layers/$((layer - 1))"
    mkdir -p "layers/$layer/upper" "layers/$layer/work"
    mount -t overlay overlay -o "lowerdir=$HERE/chroot,upperdir=layers/$layer/upper,workdir=layers/$layer/work" "$ROOT"
    mkdir -p "$ROOT/packages"
    cp -r $HERE/made/. "$ROOT/packages/"
}
in_root() {
    env -i PATH="$PATH" LC_ALL=C DEBIAN_FRONTEND=noninteractive chroot "$ROOT" "$@" </dev/null
}
# What an administrator did with Debian's package.
edited() {
    cat >"$ROOT/etc/knockd.conf" <<'CONF'
# edited
[options]
	LogFile = /var/log/knockd.log

[door]
	Sequence = 7001,7002
	Seq_Timeout = 10
	TCPFlags = syn
	Start_Command = echo %IP% >/run/opened
	Cmd_Timeout = 600
	Stop_Command = echo %IP% >/run/closed
CONF
    printf 'START_KNOCKD=1\nKNOCKD_OPTS="-i lo"\n' >"$ROOT/etc/default/knockd"
    in_root systemctl enable knockd
}
is_edited() { grep -q '^# edited' "$ROOT/etc/knockd.conf" && grep -q '^KNOCKD_OPTS="-i lo"' "$ROOT/etc/default/knockd"; }
is_enabled() { [ -L "$ROOT/$WANTS" ] && in_root test -r "/$WANTS" && in_root systemctl -q is-enabled knockd; }
# What dpkg has left beside files that it could not replace.
beside() { (cd "$ROOT" && find etc -name '*.dpkg-*' -o -name '*.ucf-*'); }
# has VERSION
has() { in_root /usr/sbin/knockd -V 2>/dev/null | grep -q "^knockd $1"; }
moved() {
    check "$1: the edited files are kept" is_edited
    check "$1: the service is still enabled" is_enabled
    same "$1: nothing is left beside them" "" "$(beside)"
}
files() { (cd "$ROOT" && find etc usr lib var ! -type d ! -path 'var/lib/dpkg/*' ! -path 'var/log/*' ! -path 'var/cache/*' ! -path 'var/lib/apt/*' | sort); }

for deb in "$OURS" "$NEWER"; do check "there is $(basename "$deb")" test -f "$deb"; done

fresh
if ! in_root true; then
    skipped "packages" "the programs of the chroot cannot be run here"
    exit 0
fi
edited >/dev/null 2>&1
check "over Debian's package, without a question" in_root dpkg -i "/packages/1/${OURS##*/}"
check "the program is ours" has 0.9
moved "upgrade"
same "the configuration is for root only" 600 "$(stat -c %a "$ROOT/etc/knockd.conf")"
check "the init script is gone" lacks test -e "$ROOT/etc/init.d/knockd"
check "to a newer one of ours" in_root dpkg -i "/packages/2/${NEWER##*/}"
moved "ours to ours"
check "back to Debian's package, without a question" in_root dpkg -i "/packages/$(basename "$ROOT"/packages/knockd_0.8*_amd64.deb)"
check "the program is 0.8's" lacks has 0.9
moved "back"

fresh
edited >/dev/null 2>&1
check "with --force-confdef,confold (unattended-upgrades)" in_root dpkg --force-confdef --force-confold -i "/packages/1/${OURS##*/}"
moved "unattended"

fresh
in_root sh -c 'printf "# edited\n" >>/etc/init.d/knockd'
check "an init script that was changed" in_root dpkg -i "/packages/1/${OURS##*/}"
check "is kept beside" grep -q '# edited' "$ROOT/etc/init.d/knockd.dpkg-old"

fresh
in_root dpkg --purge knockd >/dev/null 2>&1
files >before
check "apt-get install, with nothing there before" in_root apt-get -qq install -y --no-install-recommends "/packages/1/${OURS##*/}"
same "a new installation is not enabled" disabled "$(in_root systemctl is-enabled knockd 2>/dev/null)"
same "its configuration is for root only" 600 "$(stat -c %a "$ROOT/etc/knockd.conf")"
check "its configuration has no error" in_root knockd --check
check "the client is there" in_root knock -V
check "man knockd.conf finds the manual" test -f "$(realpath "$ROOT/usr/share/man/man5/knockd.conf.5.gz")"
check "remove" in_root apt-get -qq remove -y knockd
check "remove keeps the configuration" test -f "$ROOT/etc/knockd.conf"
check "purge" in_root apt-get -qq purge -y knockd
files >after
same "purge leaves nothing" "" "$(diff before after)"

fresh
edited >/dev/null 2>&1
check "Debian's package, ours, purge" in_root sh -c "dpkg -i /packages/1/${OURS##*/} && dpkg --purge knockd"
files >after
same "purge leaves nothing of either" "" "$(diff before after)"

# ------------------------------------------------------------------ knockd-fleet
FLEET=$(basename $HERE/made/1/knockd-fleet_*_amd64.deb)
NEWER_FLEET=$(basename $HERE/made/2/knockd-fleet_*_amd64.deb)
fresh
in_root dpkg --purge knockd >/dev/null 2>&1
check "fleet: ours before it" in_root dpkg -i "/packages/1/${OURS##*/}"
files >before
check "fleet: installed" in_root apt-get -qq install -y --no-install-recommends "/packages/1/$FLEET"
check "fleet: the program runs" in_root /usr/sbin/knockd-fleet -V
same "fleet: a new installation is not enabled" disabled "$(in_root systemctl is-enabled knockd-fleet 2>/dev/null)"
refused "fleet: without a key it says what to do" 1 /etc/knockd-fleet.key in_root knockd-fleet --check
in_root sh -c 'umask 077; echo 0123456789abcdef0123456789abcdef >/etc/knockd-fleet.key; echo secret >/etc/knockd-fleet.password'
check "fleet: with the key and the password of its example it has no complaint" in_root knockd-fleet --check
check "fleet: the manual is there" test -f "$ROOT/usr/share/man/man8/knockd-fleet.8.gz"
check "fleet: it can be enabled" in_root systemctl enable knockd-fleet
echo 'Fleet = edited' >>"$ROOT/etc/knockd-fleet.conf"
check "fleet: upgrade, without a question" in_root dpkg -i "/packages/2/$NEWER_FLEET"
check "fleet: the edited configuration is kept" grep -q '^Fleet = edited' "$ROOT/etc/knockd-fleet.conf"
same "fleet: the service is still enabled" enabled "$(in_root systemctl is-enabled knockd-fleet 2>/dev/null)"
check "fleet: remove" in_root apt-get -qq remove -y knockd-fleet
check "fleet: remove keeps the configuration" test -f "$ROOT/etc/knockd-fleet.conf"
check "fleet: purge" in_root apt-get -qq purge -y knockd-fleet
files >after
same "fleet: purge leaves only what was made by hand" "> etc/knockd-fleet.key
> etc/knockd-fleet.password" "$(diff before after | grep '^[<>]')"

# ------------------------------------------------------------- running, by systemd
fresh
edited >/dev/null 2>&1
rm -f "$ROOT/etc/fstab"
printf '[Unit]\nDefaultDependencies=no\nWants=moves.service knockd.service\n' >"$ROOT/etc/systemd/system/moves.target"
mkdir "$ROOT/results" "$ROOT/contrib"
cp -r "$CONTRIB/tests" "$ROOT/contrib/"
: >"$ROOT/results/results"
printf '[Unit]\nDefaultDependencies=no\nAfter=knockd.service\n[Service]\nType=oneshot\nTimeoutStartSec=700
Environment=RESULTS=/results/results CONTRIB=/contrib KNOCKD=/usr/sbin/knockd KNOCK=/usr/bin/knock
ExecStart=/bin/bash /contrib/tests/packages.sh --inside\nExecStopPost=/bin/touch /results/ended
StandardOutput=file:/results/said\nStandardError=file:/results/said' >"$ROOT/etc/systemd/system/moves.service"
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    kind=unified
    groups=(/sys/fs/cgroup)
else
    kind=hybrid
    groups=(/sys/fs/cgroup/systemd /sys/fs/cgroup/unified)
    # Since 258, systemd refuses to start with version 1 of control groups.
    systemd=$(in_root systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    if [ "${systemd:-0}" -ge 258 ]; then
        kind=unified
        groups=(/sys/fs/cgroup/unified)
    fi
fi
group=knockd-packages-$(date +%s)
made=yes
for it in "${groups[@]}"; do mkdir "$it/$group" 2>/dev/null || made=no; done
if [ $made = yes ]; then
    (
        for it in "${groups[@]}"; do echo "$BASHPID" >"$it/$group/cgroup.procs"; done
        exec unshare --net --mount --uts --ipc --cgroup --pid --fork --kill-child \
            bash "$CONTRIB/tests/packages.sh" --machine "$kind" >machine.log 2>&1
    ) &
    machine=$!
    for _ in {1..7200}; do
        if [ -e "$ROOT/results/ended" ] || ! kill -0 $machine 2>/dev/null; then break; fi
        sleep 0.1
    done
    if [ -e "$ROOT/results/said" ]; then
        cat "$ROOT/results/said"
        cat "$ROOT/results/results" >>"$RESULTS"
        [ -e "$ROOT/results/ended" ] || failed "the moves under systemd finish" "$(tail -n 5 machine.log)"
    else
        skipped "the moves under systemd" "systemd does not run in the chroot here: $(tail -n 5 machine.log)"
    fi
    kill -KILL $machine 2>/dev/null
    wait $machine 2>/dev/null
    for it in "${groups[@]}"; do soon find "$it/$group" -depth -type d -exec rmdir {} + 2>/dev/null; done
else
    skipped "the moves under systemd" "control groups cannot be made here"
fi

# --------------------------------------------------------------------- lintian
if command -v lintian >/dev/null; then
    for deb in "$OURS" "$HERE/made/1/$FLEET"; do
        said=$(lintian --fail-on error,warning --allow-root -EI --pedantic "$deb" 2>&1)
        same "lintian finds no error and no warning in ${deb##*/}" "0 " "$? $(grep '^[EW]:' <<<"$said")"
    done
else
    skipped "lintian" "it is not installed"
fi

# ------------------------------------------------------------------------- rpm
if command -v rpm >/dev/null && ls $HERE/made/1/*.rpm >/dev/null 2>&1; then
    fresh
    in_root dpkg --purge knockd >/dev/null 2>&1
    of() { rpm --root "$ROOT" --dbpath /var/lib/rpm "$@"; }
    check "rpm: both packages can be installed" of -i --ignoresize --nodeps $HERE/made/1/*.rpm
    same "rpm: the configuration is for root only" 600 "$(stat -c %a "$ROOT/etc/knockd.conf")"
    check "rpm: the daemon runs" in_root /usr/sbin/knockd --check
    check "rpm: the client runs" in_root /usr/bin/knock -V
    check "rpm: the unit has Fedora's file of options" grep -q '^EnvironmentFile=-/etc/sysconfig/knockd' \
        "$ROOT/usr/lib/systemd/system/knockd.service"
    echo '# edited' >>"$ROOT/etc/knockd.conf"
    check "rpm: upgrade" of -U --ignoresize --nodeps $HERE/made/2/*.rpm
    check "rpm: the edited configuration is kept" grep -q '# edited' "$ROOT/etc/knockd.conf"
    check "rpm: the new example is beside it" grep -q '# of the newer release' "$ROOT/etc/knockd.conf.rpmnew"
    same "rpm: nothing else differs from the package" "/etc/knockd.conf" \
        "$(of -V --nodeps knock knock-server | awk '{ print $NF }')"
    check "rpm: erase" of -e --nodeps knock knock-server
    check "rpm: nothing runs afterwards" lacks test -e "$ROOT/usr/sbin/knockd"
else
    skipped "rpm" "rpm is not installed"
fi
if command -v dnf >/dev/null && command -v rpmbuild >/dev/null && ls $HERE/made/1/*.rpm >/dev/null 2>&1; then
    fresh
    in_root dpkg --purge knockd >/dev/null 2>&1
    # What this root lacks of a Fedora: a shell that rpm knows of, and a stand-in for its knock-server 0.8.
    mkdir -p fedora/files/etc/sysconfig fedora/files/usr/sbin
    printf '[options]\n\tUseSyslog\n[door]\n\tSequence = 7001,7002\n\tStart_Command = true\n' >fedora/files/etc/knockd.conf
    echo 'OPTIONS=""' >fedora/files/etc/sysconfig/knockd
    printf '#!/bin/sh\n' >fedora/files/usr/sbin/knockd
    cat >fedora/fedora.spec <<SPEC
Name: fedora-shell
Version: 1
Release: 1
Summary: A shell
License: MIT
BuildArch: noarch
Provides: /bin/sh
%description
A shell.
%package -n knock-server
Version: 0.8
Release: 9
Summary: Port knocking
%description -n knock-server
The daemon.
%install
cp -a $PWD/fedora/files/. %{buildroot}/
%files
%files -n knock-server
%attr(755,root,root) /usr/sbin/knockd
%config(noreplace) /etc/knockd.conf
%config(noreplace) /etc/sysconfig/knockd
SPEC
    check "dnf: a stand-in for Fedora's package" rpmbuild --quiet -bb --define "_topdir $PWD/fedora" fedora/fedora.spec
    with_dnf() {
        dnf -q -y --installroot="$ROOT" --releasever=40 --disablerepo='*' --nogpgcheck --setopt=reposdir="$PWD/none" \
            --setopt=cachedir="$PWD/dnf" --setopt=persistdir="$PWD/dnf" --setopt=logdir="$PWD/dnf" \
            --setopt=module_platform_id=platform:f40 "$@"
    }
    installed() { with_dnf list --installed | awk '/^knock/ { print $1, $2 }' | xargs; }
    check "dnf: it is there" with_dnf install fedora/RPMS/noarch/*.rpm
    printf '[door]\n\tSequence = 7001,7002\n\tStart_Command = true\n# edited\n' >"$ROOT/etc/knockd.conf"
    check "dnf: ours over it" with_dnf install $HERE/made/1/*.rpm
    same "dnf: they are installed" "knock.x86_64 0.9.0-1 knock-server.x86_64 0.9.0-1" "$(installed)"
    check "dnf: the edited configuration is kept" grep -q '# edited' "$ROOT/etc/knockd.conf"
    same "dnf: it is for root only from now on" 600 "$(stat -c %a "$ROOT/etc/knockd.conf")"
    check "dnf: the program has no complaint" in_root /usr/sbin/knockd --check
    check "dnf: upgrade" with_dnf upgrade $HERE/made/2/*.rpm
    same "dnf: the newer ones are installed" "knock.x86_64 0.9.0-2 knock-server.x86_64 0.9.0-2" "$(installed)"
    check "dnf: the edited configuration is kept again" grep -q '# edited' "$ROOT/etc/knockd.conf"
    check "dnf: remove" with_dnf remove knock knock-server
    same "dnf: they are gone" "" "$(installed)"
    check "dnf: the edited configuration is left" grep -q '# edited' "$ROOT/etc/knockd.conf.rpmsave"
    check "dnf: nothing runs afterwards" lacks test -e "$ROOT/usr/sbin/knockd"
else
    skipped "dnf" "dnf is not installed"
fi

# --------------------------------------------------------------------- OpenWrt
ipk=$(echo $HERE/made/1/openwrt/x86_64/*.ipk)
mkdir ipk
check "ipk: it is an archive of archives" tar -C ipk -xzf "$ipk"
mkdir ipk/data ipk/control
tar -C ipk/data -xzf ipk/data.tar.gz
tar -C ipk/control -xzf ipk/control.tar.gz
check "ipk: the program runs" ipk/data/usr/sbin/knockd -V
same "ipk: the configuration is kept at an upgrade" /etc/config/knockd "$(cat ipk/control/conffiles)"
check "ipk: BusyBox's shell reads its scripts" busybox sh -n ipk/control/postinst
same "ipk: all files belong to root" "0/0" "$(tar -tvzf ipk/data.tar.gz --numeric-owner | awk '{ print $2 }' | sort -u)"
index=$HERE/made/1/openwrt/x86_64/Packages
same "ipk: the feed has its sum" "$(sha256sum "$ipk" | cut -d' ' -f1)" "$(sed -n 's/^SHA256sum: //p' "$index")"
if [ -f "$HERE/made/usign.pub" ]; then
    feed=$HERE/made/2/openwrt/x86_64
    check "ipk: the signature of the feed is right" signify-openbsd -V -q -p "$HERE/made/usign.pub" -m "$feed/Packages" \
        -x "$feed/Packages.sig"
    sed 's/^Size: ./&1/' "$feed/Packages" >changed
    check "ipk: a changed feed is noticed" lacks signify-openbsd -V -q -p "$HERE/made/usign.pub" -m changed -x "$feed/Packages.sig"
else
    skipped "ipk: the signature of the feed" "signify-openbsd is not installed"
fi
skipped "ipk: installed, upgraded and removed by opkg" "opkg is missing, and neither Debian nor PyPI has it"
if command -v apk >/dev/null && ls $HERE/made/1/openwrt/x86_64/*.apk >/dev/null 2>&1; then
    # Scripts run in the root: Debian's, with OpenWrt's functions.
    fresh
    in_root dpkg --purge knockd >/dev/null 2>&1
    mkdir -p "$ROOT/lib/functions" "$ROOT/etc/config" "$ROOT/etc/apk/keys"
    # shellcheck disable=SC2016 # for the functions
    printf '%s\n' 'default_postinst() { echo "postinst $pkgname" >>/called; }' \
        'default_prerm() { echo "prerm $pkgname" >>/called; }' >"$ROOT/lib/functions.sh"
    feed() { apk --root "$ROOT" --no-network --repository "file://$HERE/made/$1/openwrt/x86_64/packages.adb" "${@:2}"; }
    has_apk() { apk --root "$ROOT" info -e "knockd=$1" | grep -qx knockd; }
    release=$(basename $HERE/made/1/openwrt/x86_64/*.apk .apk)
    newer=$(basename $HERE/made/2/openwrt/x86_64/*.apk .apk)
    check "apk: install from a feed" feed 1 --initdb --arch x86_64 --allow-untrusted add knockd
    check "apk: it is the first release" has_apk "${release#knockd-}"
    same "apk: OpenWrt's function enables and starts it" "postinst knockd" "$(cat "$ROOT/called")"
    same "apk: the configuration is for root only" 600 "$(stat -c %a "$ROOT/etc/config/knockd")"
    check "apk: the program runs" in_root /usr/sbin/knockd -V
    echo '# edited' >>"$ROOT/etc/config/knockd"
    said=$(feed 2 upgrade 2>&1)
    check "apk: without its key, a signed feed is refused" grep -q UNTRUSTED <<<"$said"
    check "apk: and nothing is upgraded" has_apk "${release#knockd-}"
    cp $HERE/made/apk.pem "$ROOT/etc/apk/keys/knockd.pem"
    check "apk: with the key, upgrade" feed 2 upgrade
    check "apk: it is the newer release" has_apk "${newer#knockd-}"
    check "apk: the edited configuration is kept" grep -q '^# edited' "$ROOT/etc/config/knockd"
    check "apk: the new example is beside it" grep -q '# of the newer release' "$ROOT/etc/config/knockd.apk-new"
    check "apk: remove" feed 2 del knockd
    check "apk: OpenWrt's function stops it first" grep -qx 'prerm knockd' "$ROOT/called"
    check "apk: nothing runs afterwards" lacks test -e "$ROOT/usr/sbin/knockd"
    check "apk: the edited configuration is left" grep -q '^# edited' "$ROOT/etc/config/knockd"
    same "apk: nothing else is left" etc/config/knockd \
        "$(cd "$ROOT" && find etc usr lib ! -type d -path '*knockd*' ! -path 'etc/apk/*' | sort | xargs)"
else
    skipped "apk: installed, upgraded and removed by apk" \
        "apk of apk-tools 3 is missing, Debian has none, and that of PyPI could not be had: $(tail -n 1 $HERE/apk.log 2>&1)"
fi

# ------------------------------------------------------------------------- OCI
image=$(echo $HERE/made/1/*-oci.tar)
mkdir image image.root
tar -C image -xf "$image"
layer_of() {
    python3 - "$1" <<'END_OF_PYTHON'
import hashlib, json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
def blob(it):
    path = folder / "blobs" / it["digest"].replace(":", "/")
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == path.name and len(data) == it["size"], it
    return path
index = json.loads((folder / "index.json").read_text())
manifest = json.loads(blob(index["manifests"][0]).read_text())
config = json.loads(blob(manifest["config"]).read_text())
assert config["config"]["Entrypoint"] == ["/usr/sbin/knockd"], config
print(blob(manifest["layers"][0]))
END_OF_PYTHON
}
if blob=$(layer_of image 2>&1); then
    passed "OCI: index, manifest and configuration fit together"
    tar -C image.root -xzf "$blob"
    printf '[door]\n\tSequence = 7001,7002\n\tTCPFlags = syn\n\tStart_Command = none\n' >image.root/etc/knockd.conf
    chmod 600 image.root/etc/knockd.conf
    mkdir image.root/dev
    : >image.root/dev/null
    mount --bind /dev/null image.root/dev/null
    ip link set lo up
    # SYS_CHROOT is for entering the image.
    setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,+net_raw,+sys_chroot \
        chroot image.root /usr/sbin/knockd -v -i lo >oci.said 2>&1 &
    daemon=$!
    holds_said() { grep -q "$1" oci.said; }
    check "OCI: it listens, with NET_RAW" soon holds_said '^listening on'
    image.root/usr/bin/knock -d 20 127.0.0.1 7001 7002
    if soon holds_said 'OPEN SESAME'; then passed "OCI: it sees a knock"; else failed "OCI: it sees a knock" "$(cat oci.said)"; fi
    kill $daemon
    wait $daemon 2>/dev/null
    umount image.root/dev/null
else
    failed "OCI: index, manifest and configuration fit together" "$blob"
fi
if command -v skopeo >/dev/null; then
    check "OCI: skopeo reads it" skopeo --tmpdir "$PWD" inspect "oci-archive:$image"
else
    skipped "OCI: skopeo" "it is not installed"
fi

# ------------------------------------------------------------------- the rest
check "the sums are right" bash -c "cd $HERE/made/1 && sha256sum --quiet -c SHA256SUMS"
same "a second run in another folder gives the same bytes" "" "$(diff $HERE/made/1/SHA256SUMS $HERE/made/again/SHA256SUMS)"
if command -v minisign >/dev/null; then
    minisign -G -W -f -p key.pub -s key >/dev/null
    cp $HERE/made/1/SHA256SUMS sums
    check "minisign: the sums can be signed" minisign -S -s key -t "knockd" -m sums
    check "minisign: and checked" minisign -V -p key.pub -m sums
    echo >>sums
    check "minisign: changed sums are noticed" lacks minisign -V -p key.pub -m sums
else
    skipped "minisign" "it is not installed"
fi

# The recipes that build from source: none of their systems is here, so only their version
# is checked, and that a shell reads them.
version=$("$KNOCKD" -V | sed -n '1s/^knockd //p')
for file in alpine/APKBUILD arch/PKGBUILD nix/default.nix homebrew/knock.rb termux/build.sh; do
    check "$file has the version of the program" grep -qF "$version" "$CONTRIB/packaging/$file"
done
check "openwrt/feed/Makefile has it too" grep -qx "PKG_VERSION:=$version" "$CONTRIB/openwrt/feed/Makefile"
check "bash reads the PKGBUILD" bash -n "$CONTRIB/packaging/arch/PKGBUILD"
check "BusyBox's shell reads the APKBUILD" busybox sh -n "$CONTRIB/packaging/alpine/APKBUILD"

# ----------------------------------------------------------------- completions
# completed WORD...: what bash offers for the last word
completed() {
    bash --norc -c '. "$0/completions/knock.bash"; . "$0/completions/knockd.bash"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
        function=$(complete -p "$1" | sed "s/.*-F \([^ ]*\).*/\1/")
        $function "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        echo "${COMPREPLY[*]}"' "$CONTRIB" "$@"
}
mkdir -p profiles/.config bin
ln -sf "$KNOCK" bin/knock
printf '[cellar]\nhost = 192.0.2.7\nsequence = 7000\n' >profiles/.config/knock.conf
chmod 600 profiles/.config/knock.conf
same "bash: options" "--otp --otp-file --otp-digest" "$(completed knock --ot)"
same "bash: values" "sha1 sha256 sha512" "$(completed knock --otp-digest '')"
same "bash: profiles" cellar "$(HOME=$PWD/profiles PATH=$PWD/bin:$PATH completed knock cel)"
same "bash: ports" "7000:tcp 7000:udp" "$(completed knock 192.0.2.7 7000)"
same "bash: interfaces" "lo" "$(completed knockd -i lo)"
for shell in zsh fish; do
    if command -v $shell >/dev/null; then
        case $shell in zsh) shell_files=("$CONTRIB"/completions/_*) ;; *) shell_files=("$CONTRIB"/completions/*.fish) ;; esac
        for file in "${shell_files[@]}"; do check "$shell reads ${file##*/}" $shell -n "$file"; done
    else
        skipped "completions in $shell" "it is not installed"
    fi
done
while umount "$ROOT" 2>/dev/null; do :; done
exit 0
