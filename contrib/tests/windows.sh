#!/bin/bash
# The client as a Windows program, run by wine: at our daemon, over a cable. The
# program is built with mingw-w64 (cargo build --target x86_64-pc-windows-gnu); wine
# shows that it starts, reads its files and knocks, not how the network of Windows
# itself sends.
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$CONTRIB/tests/lib.sh"

PROGRAM=${KNOCK_EXE:-}
SERVER=10.83.0.1
if [ ! -f "$PROGRAM" ]; then
    skipped "knock.exe" "it was not built: rustup target add x86_64-pc-windows-gnu, and mingw-w64 from Debian"
    exit 0
fi
if ! command -v wine >/dev/null; then
    skipped "knock.exe" "wine is not there, nor within reach"
    exit 0
fi
cable eth0 eth0

cat >knockd.conf <<'END_OF_DOORS'
[plain]
    Sequence = 7001, 7002, 7003
    TCPFlags = syn
[udp]
    Sequence = 7101:udp, 7102:tcp, 7103:udp
[otp]
    OTP = gT7rWc2kXq9nZb4vLm5D, 60, 20000, on, tcp, udp, tcp
[profile]
    Sequence = 7201, 7202:udp, 7203
[ping]
    Sequence = 1000:icmp, 7401, 333:icmp
[silent]
    Sequence = 1400:icmp, 0:icmp, 7501, 1:icmp
[once]
    Sequence = 7301, 7302
END_OF_DOORS
chmod 600 knockd.conf
"$KNOCKD" -i eth0 -c knockd.conf -g knockd.log -p "$PWD/knockd.pid" >said 2>&1 &
soon grep -q 'listening on eth0' knockd.log || failed "the daemon listens" "$(cat said)"
mkdir www && echo page >www/index.html
busybox httpd -f -p 8080 -h www &

# Debian 12's wine has no bcryptprimitives.dll, which Rust takes its random numbers from.
mkdir program && cp "$PROGRAM" program/knock.exe
cat >prng.c <<'END_OF_C'
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return RtlGenRandom(data, (ULONG)length); }
END_OF_C
check "a stand-in for bcryptprimitives.dll" \
    x86_64-w64-mingw32-gcc -shared -o program/bcryptprimitives.dll prng.c -ladvapi32

export WINEPREFIX=$PWD/wine WINEDEBUG=-all WINEDLLOVERRIDES='mscoree=;mshtml='
at_client timeout 240 wine wineboot --init >boot.said 2>&1 || true
windows() {
    at_client timeout 100 wine program/knock.exe "$@"
}
check "it starts" windows -V
# opens DOOR WORDS...: the words make it open the door
# wine has once sent nothing without a word: it gets three tries.
opens() {
    local door=$1 said='' try
    shift
    for try in 1 2 3; do
        said+="try $try: $(windows "$@" 2>&1) exit code $?"$'\n'
        if soon grep -q "10.83.0.2: $door: OPEN SESAME" knockd.log; then
            [ "$try" = 1 ] || printf '%s\n' "$said" | sed 's/^/          | /'
            passed "knock.exe opens: $door"
            return
        fi
    done
    failed "knock.exe opens: $door" "$said$(tail -n 5 knockd.log)"
}
opens plain $SERVER 7001 7002 7003
opens udp $SERVER 7101:udp 7102 7103:udp
opens otp --otp gT7rWc2kXq9nZb4vLm5D,60,20000,on,tcp,udp,tcp $SERVER
# wine sends pings from another process: the pause keeps them in order where the machine is busy.
opens ping --delay 500 $SERVER 1000:icmp 7401 333:icmp
sysctl -q -w net.ipv4.icmp_echo_ignore_all=1
opens silent --delay 500 $SERVER 1400:icmp 0:icmp 7501 1:icmp
sysctl -q -w net.ipv4.icmp_echo_ignore_all=0

# Debian 12's wine has no ICMPv6 requests: a stand-in for the library prints what it is asked for.
cat >echo.c <<'END_OF_C'
#include <winsock2.h>
#include <windows.h>
#include <stdio.h>
__declspec(dllexport) HANDLE WINAPI IcmpCreateFile(void) { return INVALID_HANDLE_VALUE; }
__declspec(dllexport) HANDLE WINAPI Icmp6CreateFile(void) { return (HANDLE)6; }
__declspec(dllexport) BOOL WINAPI IcmpCloseHandle(HANDLE requests) { return requests == (HANDLE)6; }
__declspec(dllexport) DWORD WINAPI IcmpSendEcho2Ex(HANDLE requests, HANDLE event, void *routine, void *context,
    DWORD from, DWORD to, void *data, WORD length, void *options, void *answer, DWORD room, DWORD timeout) { return 0; }
static void address(unsigned char *bytes) {
    printf("%d ", *(short *)bytes);
    for (int i = 2; i < 24; i++) printf("%02x", bytes[i]);
    printf("%%%lu ", *(DWORD *)(bytes + 24));
}
__declspec(dllexport) DWORD WINAPI Icmp6SendEcho2(HANDLE requests, HANDLE event, void *routine, void *context,
    unsigned char *from, unsigned char *to, unsigned char *data, WORD length, void *options, char *answer, DWORD room,
    DWORD timeout) {
    address(from);
    address(to);
    printf("%d", length);
    if (length) printf(" %d-%d", data[0], data[length - 1]);
    puts(requests == (HANDLE)6 && event && !routine && !options && room > length ? "" : " wrong");
    fflush(stdout);
    memset(answer, 1, room);
    if (length) SetEvent(event);
    SetLastError(ERROR_IO_PENDING);
    return 0;
}
END_OF_C
mkdir program6 && cp program/* program6/
check "a stand-in for the ICMPv6 requests of iphlpapi.dll" \
    x86_64-w64-mingw32-gcc -shared -o program6/iphlpapi.dll echo.c
said=$(WINEDLLOVERRIDES="$WINEDLLOVERRIDES;iphlpapi=n" at_client timeout 100 \
    wine program6/knock.exe 'fe80::1%7' 0:icmp 1400:icmp 2>&1 | tr -d '\r')
any='23 00000000000000000000000000000000000000000000%0'
server='23 000000000000fe800000000000000000000000000001%7'
same "pings by ICMPv6: addresses, lengths, data" "$any $server 0
$any $server 1400 0-119" "$said"

appdata=$(find "$WINEPREFIX/drive_c/users" -maxdepth 4 -type d -path '*/AppData/Roaming' | head -n 1)
mkdir -p "$appdata/knock"
printf '[home]\nhost = %s\nsequence = 7201, 7202:udp, 7203\n' $SERVER >"$appdata/knock/knock.conf"
opens profile home
printf '# two\n7301,7302\n' >once.txt
opens once --one-time-sequences once.txt $SERVER
same "it strikes the line that it used" '# two
#301,7302' "$(cat once.txt)"

check "--wait is 0 when the port answers" windows --wait 8080 --timeout 20 $SERVER 7001
refused "--wait is 3 when it does not" 3 'did not open' windows --wait 8081 --timeout 1 $SERVER 7001
said=$(windows --wait 8080 $SERVER 7001 -- cmd /c 'echo went in' 2>/dev/null | tr -d '\r')
same "the command runs" 'went in' "$said"
refused "--raw is refused with the reason" 2 'needs Linux' windows --raw $SERVER 7001
exit 0
