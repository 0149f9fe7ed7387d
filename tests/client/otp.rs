//! One-time passwords: the client against the real daemon.

use std::fmt::Write;
use std::fs::{Permissions, set_permissions};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::client::around::{KNOCK, ends};
use crate::door::otp::{ip, otp};
use crate::plan::password::MARK;
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, CLIENT6, SERVER, SERVER6};
use crate::support::process::Finished;
use crate::support::seconds;
use crate::support::world::{SERVER_LINK, World, run};

trials![
    it_opens_doors_of_every_kind,
    it_opens_a_door_from_the_daemons_own_file,
    each_family_has_its_own_list,
    a_profile_may_have_a_seed,
    print_shows_the_current_list,
    the_last_second_of_a_period_is_waited_out,
    files_that_others_can_read_get_a_warning,
    errors_do_not_repeat_the_seed,
    a_wrong_clock_is_corrected,
    a_command_prints_the_source_address,
    a_stun_server_reports_the_source_address,
    a_forged_stun_answer_sends_nothing,
    a_retry_knocks_the_current_list,
];

/// A period so long that no test reaches its end, given `not_soon`.
pub const HOUR: u64 = 3600;

/// Waits until the last seconds of an hour are over.
pub fn not_soon() {
    let left = HOUR - unix().as_secs() % HOUR;
    if left < 8 {
        thread::sleep(Duration::from_secs(left));
    }
}

pub fn unix() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap()
}

/// Whether this is what `--print` shows, now or a moment ago.
fn is_list(shown: &str, text: &str, knocker: IpAddr) -> bool {
    let otp = otp(text);
    let period = otp.period(unix());
    [period, period.saturating_sub(1)].into_iter().any(|period| {
        let stages: Vec<String> = otp.list(period, knocker).iter().map(ToString::to_string).collect();
        shown == stages.join(" ") + "\n"
    })
}

pub fn private(folder: &Folder, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.write(name, text);
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

/// Seeds with bytes that a shell or a C string would not preserve.
pub const SEED: &str = "it's \"a\" $HOME %s \\0 `x`";

fn it_opens_doors_of_every_kind() {
    not_soon();
    let world = World::new();
    let mut sections = String::new();
    let mut doors = Vec::new();
    for digest in ["sha1", "sha256", "sha512"] {
        for protection in ["on", "off"] {
            let name = format!("{digest}-{protection}");
            // Each door has a seed of its own.
            let text = format!(
                "{SEED} {},{HOUR},{},{protection},tcp,udp,tcp",
                doors.len(),
                20_000 + 300 * doors.len()
            );
            writeln!(sections, "[{name}]\notp = {text}\notp_digest = {digest}").unwrap();
            doors.push((name, text, digest));
        }
    }
    let daemon = world.knockd(&sections).start();
    for (name, text, digest) in &doors {
        ends(&world.knock(&["--otp", text, "--otp-digest", digest, SERVER]), 0, "");
        daemon.wait_for(&format!("{CLIENT}: {name}: OPEN SESAME"));
    }
    // With IP protection, another address has another list.
    for (name, text, digest) in doors.iter().filter(|(name, ..)| name.ends_with("-on")) {
        ends(&world.knock(&["--otp", text, "--otp-digest", digest, SERVER6]), 0, "");
        daemon.wait_for(&format!("{CLIENT6}: {name}: OPEN SESAME"));
    }
    // A list that opened the door does not open it again.
    for (_, text, digest) in &doors {
        ends(&world.knock(&["--otp", text, "--otp-digest", digest, SERVER]), 0, "");
    }
    daemon.sync();
    let openings = daemon.lines().iter().filter(|line| line.ends_with("OPEN SESAME")).count();
    assert_eq!(openings, 9, "{:?}", daemon.lines());
}

fn it_opens_a_door_from_the_daemons_own_file() {
    not_soon();
    let world = World::new();
    let folder = Folder::new();
    let sections = format!(
        "[other]\none_time_sequences = @/once\n[home]\notp = {SEED},{HOUR},65400,ON,udp,tcp\notp_digest = sha256\notp_window = 0\n"
    );
    let knockd = world.knockd(&sections);
    knockd.folder().write("once", "1,2\n");
    let daemon = knockd.start();
    set_permissions(&daemon.config, Permissions::from_mode(0o600)).unwrap();
    let config = daemon.config.display().to_string();
    let said = world.knock(&["-v", "--config", &config, "--door", "home", SERVER]);
    ends(&said, 0, "");
    let first = said.stdout.lines().next().unwrap();
    let period = unix().as_secs() / HOUR;
    assert!(first.starts_with(&format!("one-time password for {CLIENT}, period {period} (")), "{first}");
    assert_eq!(said.stdout.lines().count(), 5, "{}", said.stdout);
    daemon.wait_for(&format!("{CLIENT}: home: OPEN SESAME"));
    // A file with only the line; the digest comes from the command line.
    let file = private(&folder, "seed", format!("# home\n{SEED},{HOUR},65400,on,udp,tcp\n"));
    let words = ["--otp-file", &file, "--otp-digest", "sha256", "-6", SERVER6];
    ends(&world.knock(&words), 0, "");
    daemon.wait_for(&format!("{CLIENT6}: home: OPEN SESAME"));
    for (door, said) in [("other", "door 'other' has no otp"), ("none", "no door 'none'")] {
        let wanted = format!("error: {config}: {said}\n");
        ends(&world.knock(&["--config", &config, "--door", door, SERVER]), 1, &wanted);
    }
}

fn each_family_has_its_own_list() {
    not_soon();
    let world = World::new();
    let text = format!("both,{HOUR},20000,on,tcp,udp");
    let daemon = world.knockd(&format!("[d]\notp = {text}\n")).start();
    for (address, knocker) in [(SERVER, CLIENT), (SERVER6, CLIENT6)] {
        let printed = world.knock(&["--otp", &text, "--print", address]);
        assert!(is_list(&printed.stdout, &text, ip(knocker)), "{}", printed.stdout);
        // A given address takes precedence over that of this machine.
        let other = if address == SERVER { "192.0.2.77" } else { "2001:db8::77" };
        let printed = world.knock(&["--otp", &text, "--source-ip", other, "--print", address]);
        assert!(is_list(&printed.stdout, &text, ip(other)), "{}", printed.stdout);
        ends(&world.knock(&["--otp", &text, address]), 0, "");
        daemon.wait_for(&format!("{knocker}: d: OPEN SESAME"));
    }
    let refused = world.knock(&["--otp", &text, "--source-ip", CLIENT, SERVER6]);
    let wanted = format!("error: --source-ip: {CLIENT} is of another family than {SERVER6}\n");
    ends(&refused, 1, &wanted);
    // The server sees the spoofed source.
    let words = ["--raw", "--source", "10.77.0.44", "--otp", &text, "--print", SERVER];
    assert!(is_list(&world.knock(&words).stdout, &text, ip("10.77.0.44")));
}

fn a_profile_may_have_a_seed() {
    not_soon();
    let world = World::new();
    let text = format!("{SEED} =#,{HOUR},20000,on,tcp,udp");
    let daemon = world.knockd(&format!("[d]\notp = {text}\notp_digest = sha512\n")).start();
    let folder = Folder::new();
    let profile = format!("[home]\nhost = {SERVER}\notp = {text}\nOTP_Digest = sha512\nsource_ip = auto\n");
    private(
        &folder,
        "knock.conf",
        format!("{profile}[both]\notp = {text}\nsequence = 1\n[bad]\notp = {MARK},x\n"),
    );
    let variable = format!("XDG_CONFIG_HOME={}", folder.path().display());
    let knock =
        |words: &[&str]| run(&world.client, "env", &[&[variable.as_str(), KNOCK][..], words].concat());
    ends(&knock(&["home"]), 0, "");
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
    let path = folder.join("knock.conf").display().to_string();
    let wanted = "line 7: a sequence and a one-time password exclude each other";
    ends(&knock(&["both"]), 1, &format!("error: {path}: {wanted}\n"));
    let wanted = "line 10: otp: change_time must be a number from 1 to 65535";
    ends(&knock(&["bad"]), 1, &format!("error: {path}: {wanted}\n"));
    // A file that others can read is not used.
    set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(knock(&["home"]).code(), Some(1));
}

fn print_shows_the_current_list() {
    not_soon();
    let world = World::new();
    let mut capture = world.capture();
    let text = format!("shown,{HOUR},65500,on,tcp,udp,tcp");
    let printed =
        world.knock(&["-v", "--otp", &text, "--print", SERVER, "--wait", "1", "--", "echo", "never"]);
    assert_eq!(printed.code(), Some(0));
    assert!(is_list(&printed.stdout, &text, ip(CLIENT)), "{}", printed.stdout);
    assert!(printed.stderr.starts_with("one-time password for 10.77.0.2, period "), "{}", printed.stderr);
    assert!(capture.read_for(seconds(0.3)).is_empty(), "it sent something");
    // The list can be given to a command line.
    let words: Vec<&str> = printed.stdout.split_whitespace().collect();
    let daemon = world.knockd(&format!("[d]\notp = {text}\n")).start();
    ends(&world.knock(&[&[SERVER][..], &words].concat()), 0, "");
    daemon.wait_for(&format!("{CLIENT}: d: OPEN SESAME"));
    // Other sequences can be printed as well.
    assert_eq!(world.knock(&["--print", SERVER, "7", "8:udp"]).stdout, "7:tcp 8:udp\n");
    let raw = ["--raw", "--print", SERVER, "7:tcp:psh+fin", "8:udp", "9"];
    assert_eq!(world.knock(&raw).stdout, "7:tcp:fin+psh 8:udp 9:tcp\n");
}

fn the_last_second_of_a_period_is_waited_out() {
    let world = World::v4_only();
    let text = "edge,4,20000,off,tcp,udp";
    let (mut waits, mut others) = (0, 0);
    // In the middle of a period, and in its last second.
    for milliseconds in [1500, 3400, 1500, 3400, 1500, 3400] {
        let into = u64::try_from(unix().as_millis() % 4000).unwrap();
        thread::sleep(Duration::from_millis((4000 + milliseconds - into) % 4000));
        let begin = unix();
        let printed = world.knock(&["-v", "--otp", text, "--print", SERVER]);
        let end = unix();
        let period: u64 =
            printed.stderr.split("period ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        let left = |time: Duration| Duration::from_secs(4 * (time.as_secs() / 4 + 1)).saturating_sub(time);
        assert_eq!(end.as_secs() / 4, period, "the list of a period that is not this one");
        if left(begin) < seconds(0.9) {
            assert_eq!(begin.as_secs() / 4 + 1, period);
            waits += 1;
        } else if left(begin) > seconds(1.3) {
            assert_eq!(begin.as_secs() / 4, period);
            assert!(end.checked_sub(begin).unwrap() < seconds(1.0), "it waited for nothing");
            others += 1;
        }
    }
    assert!(waits > 0 && others > 0, "{waits} {others}");
    // Waiting takes no CPU time.
    let begin = Instant::now();
    ends(&world.knock(&["--otp", "s,1,20000,off,tcp", "--print", SERVER]), 0, "");
    assert!(begin.elapsed() < seconds(10.0));
}

fn files_that_others_can_read_get_a_warning() {
    not_soon();
    let world = World::v4_only();
    let folder = Folder::new();
    let text = format!("{MARK},{HOUR},20000,off,tcp");
    let line = private(&folder, "line", &text);
    let config = private(&folder, "config", format!("[d]\notp = {text}\n"));
    for words in [&["--otp-file", &line][..], &["--config", &config, "--door", "d"]] {
        let words = [words, &["--print", SERVER]].concat();
        ends(&world.knock(&words), 0, "");
        for mode in [0o640, 0o604] {
            set_permissions(words[1], Permissions::from_mode(mode)).unwrap();
            let file = words[1];
            let warning = format!(
                "warning: {file} holds the secret of a door and can be read by others; chmod 600 {file} keeps it\n"
            );
            ends(&world.knock(&words), 0, &warning);
        }
        set_permissions(words[1], Permissions::from_mode(0o600)).unwrap();
    }
}

fn errors_do_not_repeat_the_seed() {
    let world = World::v4_only();
    let folder = Folder::new();
    let good = format!("{MARK},45,20000,on,tcp");
    let two = private(&folder, "two", format!("{good}\n{good}\n"));
    let broken = private(&folder, "broken", format!("[d]\notp = {MARK},45,20000,perhaps,tcp\n"));
    let fine = private(&folder, "fine", format!("[d]\notp = {good}\n"));
    let table: [(&[&str], &str); 16] = [
        (&["--otp", &good, SERVER, "7"], "a sequence and a one-time password exclude each other"),
        (&["--otp", &good, "--otp-file", &fine, SERVER], "--otp, --otp-file and --config exclude each other"),
        (&["--otp", &good, "--door", "d", SERVER], "--door needs --config"),
        (&["--config", &fine, SERVER], "--config needs --door"),
        (&["--otp-file", &two, SERVER], &format!("{two}: not one line with a one-time password")),
        (&["--otp-file", "/none", SERVER], "/none: No such file or directory"),
        (&["--otp-file", "/", SERVER], "/: Is a directory"),
        (
            &["--config", &broken, "--door", "d", SERVER],
            &format!("{broken}: config: section d: Invalid ip_protection value: PERHAPS. (line 2)"),
        ),
        (
            &["--otp", &format!("{MARK},45,20000,perhaps,tcp"), SERVER],
            "--otp: the fourth field is neither on nor off",
        ),
        (
            &["--otp", MARK, SERVER],
            "--otp: change_time is missing (otp = seed, change_time, base, on|off, protocol, ...)",
        ),
        (
            &["--otp", &good, "--otp-digest", "md5", SERVER],
            "--otp-digest: 'md5' is not sha1, sha256 or sha512",
        ),
        (
            &["--otp", &good, "--source-ip", "me", SERVER],
            "--source-ip: 'me' is not auto, an address, 'stun:SERVER stun:SERVER', 'stun:SERVER ADDRESS[/LENGTH]' or command:CMD",
        ),
        (
            &["--otp", &good, "--source-ip", "command:exit 3", SERVER],
            "--source-ip: command: it failed (exit status: 3)",
        ),
        (
            &["--otp", &good, "--source-ip", "command:echo me", SERVER],
            "--source-ip: command: its first line is no IP address",
        ),
        (&["--source-ip", "auto", SERVER, "7"], "--source-ip needs --otp, --otp-file or --config"),
        (&["--otp-digest", "sha1", SERVER, "7"], "--otp-digest needs --otp, --otp-file or --config"),
    ];
    let mut capture = world.capture();
    for (words, said) in table {
        let refused: Finished = world.knock(words);
        assert!(!(refused.stdout.clone() + &refused.stderr).to_lowercase().contains(&MARK.to_lowercase()));
        ends(&refused, 1, &format!("error: {said}\n"));
    }
    assert!(capture.read_for(seconds(0.2)).is_empty(), "half a list was sent");
}

fn a_wrong_clock_is_corrected() {
    not_soon();
    let world = World::v4_only();
    let text = format!("wrong,{HOUR},20000,off,tcp,tcp,tcp");
    let list = |hours: i64| {
        let otp = otp(&text);
        let period = otp.period(unix()).checked_add_signed(hours).unwrap();
        let stages: Vec<String> = otp.list(period, ip(CLIENT)).iter().map(ToString::to_string).collect();
        stages.join(" ") + "\n"
    };
    let printed = |words: &[&str]| {
        let finished = world.knock(&[words, &["--otp", &text, "--print", SERVER]].concat());
        assert_eq!((finished.code(), finished.stderr.as_str()), (Some(0), ""));
        finished.stdout
    };
    assert_eq!(printed(&[]), list(0));
    assert_eq!(printed(&["--clock-offset", "7200"]), list(2));
    assert_eq!(printed(&["--clock-offset", "-3600"]), list(-1));
    // A list of the day that the clock lost, for a door that has the right time.
    let daemon = world.knockd(&format!("[d]\notp = {text}\notp_window = 0\n")).start();
    ends(&world.knock(&["--otp", &text, "--clock-offset", "-86400", SERVER]), 0, "");
    ends(&world.knock(&["--otp", &text, "--clock-offset", "+0", SERVER]), 0, "");
    daemon.wait_for("d: OPEN SESAME");
    assert_eq!(daemon.raw_log().matches("OPEN SESAME").count(), 1, "{}", daemon.said());
    // In a profile.
    let folder = Folder::new();
    let profile = format!("[home]\nhost = {SERVER}\notp = {text}\nclock_offset = -3600\nprint\n");
    let path = private(&folder, "knock.conf", profile);
    let variable = format!("XDG_CONFIG_HOME={}", folder.path().display());
    let home = run(&world.client, "env", &[variable.as_str(), KNOCK, "home"]);
    assert_eq!(home.stdout, list(-1), "{path}: {home:?}");
    for wrong in ["soon", "1.5", "", "99999999999"] {
        let refused = world.knock(&["--otp", &text, "--clock-offset", wrong, SERVER]);
        let words = format!("error: --clock-offset: '{wrong}' is not a number of seconds");
        assert!(refused.code() == Some(1) && refused.stderr.starts_with(&words), "{refused:?}");
    }
}

fn a_command_prints_the_source_address() {
    not_soon();
    let world = World::v4_only();
    let text = format!("said,{HOUR},20000,on,tcp,udp");
    let command = "command:echo \"$(echo ' 192.0.2.9 ')\"; echo 192.0.2.10";
    let printed = world.knock(&["--otp", &text, "--source-ip", command, "--print", SERVER]);
    assert!(is_list(&printed.stdout, &text, ip("192.0.2.9")), "{}", printed.stderr);
    // If the address makes no difference, the command is not run.
    let off = format!("said,{HOUR},20000,off,tcp,udp");
    ends(&world.knock(&["--otp", &off, "--source-ip", "command:exit 3", "--print", SERVER]), 0, "");
}

/// A STUN server on the server's end of the cable; `answer` makes its answers from a request.
fn stun_server(world: &World, address: &str, answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) {
    let socket = world.server.run(|| UdpSocket::bind(address)).unwrap();
    socket.set_read_timeout(Some(seconds(8.0))).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2000];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            for datagram in answer(&buffer[..length]) {
                let _ = socket.send_to(&datagram, from);
            }
        }
    });
}

/// A binding success response (RFC 8489, 5 and 14.2), made here byte by byte.
fn binding(request: &[u8], address: IpAddr) -> Vec<u8> {
    let (cookie, id) = (&request[4..8], &request[4..20]);
    let mut value = match address {
        IpAddr::V4(v4) => [&[0, 1][..], &[0x21 ^ 0x12, 0x12 ^ 0x34], &v4.octets()].concat(),
        IpAddr::V6(v6) => [&[0, 2][..], &[0x21 ^ 0x12, 0x12 ^ 0x34], &v6.octets()].concat(),
    };
    value[4..].iter_mut().zip(id).for_each(|(byte, mask)| *byte ^= mask);
    // Software comes first, and has to be padded.
    let software = [&[0x80, 0x22, 0, 3][..], b"abc\0"].concat();
    let byte = |length: usize| u8::try_from(length).unwrap();
    let mapped = [&[0, 0x20, 0, byte(value.len())][..], &value].concat();
    let length = byte(software.len() + mapped.len());
    [&[1, 1, 0, length][..], cookie, &request[8..20], &software, &mapped].concat()
}

fn a_stun_server_reports_the_source_address() {
    not_soon();
    let world = World::new();
    let text = format!("stun,{HOUR},20000,on,tcp,udp");
    // The first request is lost; then come noise, the answer to another request, an error, and the answer.
    let asked = std::sync::atomic::AtomicU32::new(0);
    stun_server(&world, "10.77.0.1:3478", move |request| {
        assert_eq!((&request[..8], request.len()), (&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42][..], 20));
        if asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let good = binding(request, ip("198.51.100.7"));
        let (mut other, mut refusal) = (good.clone(), good.clone());
        other[12] ^= 1;
        refusal[1] = 0x11;
        let cut = (0..good.len()).map(|length| good[..length].to_vec());
        cut.chain([Vec::new(), vec![0xff; 1400], other, refusal, good.clone()]).collect()
    });
    stun_server(&world, "[fd77::1]:99", |request| vec![binding(request, ip("2001:db8::7"))]);
    run(&world.server, "ip", &["address", "add", "10.77.0.5/24", "dev", SERVER_LINK]);
    stun_server(&world, "10.77.0.5:99", |request| vec![binding(request, ip("198.51.100.7"))]);
    let print =
        |server: &str, host: &str| world.knock(&["--otp", &text, "--source-ip", server, "--print", host]);
    let printed = print("stun:10.77.0.1 stun:10.77.0.5:99", SERVER);
    assert!(is_list(&printed.stdout, &text, ip("198.51.100.7")), "{}", printed.stderr);
    let printed = print("stun:[fd77::1]:99 2001:db8::/64", SERVER6);
    assert!(is_list(&printed.stdout, &text, ip("2001:db8::7")), "{}", printed.stderr);
    let refused = print("stun:10.77.0.1:98 stun:10.77.0.5:99", SERVER);
    ends(&refused, 1, "error: --source-ip: stun:10.77.0.1:98: Connection refused\n");
    let refused = print("stun:10.77.0.1 stun:10.77.0.5:99", SERVER6);
    let wanted = "error: --source-ip: stun:10.77.0.1:3478: Address family for hostname not supported\n";
    ends(&refused, 1, wanted);
}

/// The list for an address of a forger's choice, knocked where the forger can read it, opens the door for the forger.
fn a_forged_stun_answer_sends_nothing() {
    not_soon();
    let world = World::v4_only();
    run(&world.server, "ip", &["address", "add", "10.77.0.5/24", "dev", SERVER_LINK]);
    stun_server(&world, "10.77.0.1:3478", |request| vec![binding(request, ip("198.51.100.7"))]);
    stun_server(&world, "10.77.0.5:3478", |request| vec![binding(request, ip("198.51.100.66"))]);
    let text = format!("stun,{HOUR},20000,on,tcp,udp");
    for (servers, why) in [
        ("stun:10.77.0.1", "one STUN server alone is not believed"),
        ("stun:10.77.0.1 stun:10.77.0.1:3478", "two names of STUN servers lead to 10.77.0.1"),
        (
            "stun:10.77.0.1 stun:10.77.0.5",
            "the STUN servers disagree, or an answer is forged: 198.51.100.7 198.51.100.66",
        ),
        (
            "stun:10.77.0.5 198.51.100.0/28",
            "the STUN server says 198.51.100.66, which is not where the answer has to be",
        ),
    ] {
        let mut capture = world.capture();
        let refused = world.knock(&["--otp", &text, "--source-ip", servers, SERVER]);
        assert_eq!((refused.code(), refused.stdout.as_str()), (Some(1), ""), "{servers}");
        assert!(refused.stderr.starts_with(&format!("error: --source-ip: {why}")), "{}", refused.stderr);
        let is_knock = |port: u16| (20000..=20255).contains(&port);
        let packets = capture.read_for(seconds(0.2));
        assert!(!packets.iter().any(|packet| is_knock(packet.port)), "a list was sent");
    }
}

fn a_retry_knocks_the_current_list() {
    let world = World::v4_only();
    let text = "again,3,20000,off,tcp,tcp";
    let words = ["-v", "--otp", text, "--wait", "9", "--timeout", "3.1", "--retries", "1", SERVER];
    let knocked = world.knock(&words);
    assert_eq!(knocked.code(), Some(3), "{}", knocked.stderr);
    let periods: Vec<u64> = knocked
        .stdout
        .lines()
        .filter_map(|line| line.split("period ").nth(1)?.split(' ').next()?.parse().ok())
        .collect();
    assert!(periods.len() == 2 && periods[0] < periods[1], "{}", knocked.stdout);
}
