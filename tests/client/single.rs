//! Single packets as the real client sends them.

use std::collections::HashSet;
use std::net::IpAddr;

use knocking::door::digest::Digest;
use knocking::door::spa::fields::{Fields, Kind, RequestedAccess};
use knocking::door::spa::sealed::Keys;

use crate::client::around::{KNOCK, ends};
use crate::client::knocking::{QUIET, QUIET6, quiet_world};
use crate::client::otp::{private, unix};
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, SERVER, Seen};
use crate::support::process::Finished;
use crate::support::seconds;
use crate::support::world::{World, run};

trials![
    a_stanza_is_one_packet_each_time,
    the_command_line_and_a_profile_say_what_to_ask_for,
    both_families_get_a_packet_of_their_own,
    raw_packets_carry_it_too,
    a_dry_run_shows_neither_key_nor_packet,
    nothing_is_sent_that_a_server_would_refuse,
];

fn keys() -> Keys {
    Keys::new(b"4711secret", b"0815secret", Digest::Sha256).unwrap()
}

/// A home directory with this stanza, `[door]`, in its .fwknoprc.
fn home(lines: &str) -> Folder {
    let folder = Folder::new();
    let text =
        format!("[door]\nSPA_SERVER {QUIET}\nKEY 4711secret\nHMAC_KEY 0815secret\nACCESS tcp/22\n{lines}");
    private(&folder, ".fwknoprc", text);
    folder
}

fn knock_from(world: &World, home: &Folder, words: &[&str]) -> Finished {
    let variables = [format!("HOME={}", home.path().display()), "LOGNAME=alice".to_owned()];
    let variables = ["-u", "SPOOF_USER", "-u", "XDG_CONFIG_HOME", &variables[0], &variables[1], KNOCK];
    run(&world.client, "env", &[&variables[..], words].concat())
}

/// The packets that these words put on the wire, opened.
#[track_caller]
fn sent(world: &World, home: &Folder, count: usize, words: &[&str]) -> Vec<(Seen, Fields)> {
    let mut capture = world.capture();
    ends(&knock_from(world, home, words), 0, "");
    capture.until(count, seconds(3.0));
    let seen = capture.read_for(seconds(0.03)).to_vec();
    assert_eq!(seen.len(), count, "{seen:?}");
    seen.into_iter()
        .map(|seen| {
            let opened = keys().open(&seen.data).unwrap_or_else(|why| panic!("{why}: {seen:?}"));
            (seen, opened.fields)
        })
        .collect()
}

fn ports(fields: &Fields) -> Vec<String> {
    let RequestedAccess::Ports(ports) = &fields.message.access else { panic!("{fields:?}") };
    ports.iter().map(|port| format!("{}/{}", port.protocol, port.port)).collect()
}

fn a_stanza_is_one_packet_each_time() {
    let world = quiet_world();
    let home = home("");
    let mut all = HashSet::new();
    let mut randoms = HashSet::new();
    for words in [&["-n", "door"][..], &["--stanza", "DOOR"], &["-n", "door", "--count", "3"]] {
        for (seen, fields) in sent(&world, &home, if words.len() > 2 { 3 } else { 1 }, words) {
            assert_eq!((seen.protocol, seen.port, seen.destination), ("udp", 62201, QUIET.parse().unwrap()));
            assert_eq!((fields.user.as_str(), fields.kind), ("alice", Kind::Access));
            assert_eq!(
                (fields.message.address, ports(&fields)),
                (IpAddr::from([0; 4]), vec!["tcp/22".to_owned()])
            );
            assert!(unix().as_secs() - fields.time <= 10, "{fields:?}");
            all.insert(seen.data);
            randoms.insert(fields.random);
        }
    }
    assert_eq!((all.len(), randoms.len()), (5, 5), "packets that are alike");
    // A port that stays closed is knocked at again, with another packet.
    let mut capture = world.capture();
    let again = ["-n", "door", "--wait", "9", "--timeout", "0.1", "--retries", "2", SERVER];
    assert_eq!(knock_from(&world, &home, &again).code(), Some(3));
    let seen = capture.read_for(seconds(0.1)).to_vec();
    let packets: HashSet<Vec<u8>> =
        seen.into_iter().filter(|seen| seen.port == 62201).map(|seen| seen.data).collect();
    assert_eq!(packets.len(), 3);
}

fn the_command_line_and_a_profile_say_what_to_ask_for() {
    let world = quiet_world();
    let home = home(
        "FW_TIMEOUT 17\nSPA_SERVER_PORT 4000\nSPA_SOURCE_PORT 4001\nSPOOF_USER bob\n[other]\nSPA_SERVER x\n",
    );
    let words = ["-n", "door", "--spa", "udp/51820,tcp/443", "--allow-ip", "192.0.2.7"];
    let (seen, fields) = sent(&world, &home, 1, &words).remove(0);
    assert_eq!((seen.port, seen.source_port), (4000, 4001));
    assert_eq!((fields.user.as_str(), fields.timeout, fields.kind), ("bob", Some(17), Kind::TimedAccess));
    assert_eq!(
        (fields.message.address.to_string(), ports(&fields).join(",")),
        ("192.0.2.7".to_owned(), words[3].to_owned())
    );
    let (_, fields) = sent(&world, &home, 1, &["-n", "door", "--allow-ip", "auto"]).remove(0);
    assert_eq!(fields.message.address.to_string(), CLIENT);
    std::fs::create_dir(home.join(".config")).unwrap();
    let file = home.join("elsewhere").display().to_string();
    private(&home, "elsewhere", "[x]\nKEY 4711secret\nHMAC_KEY 0815secret\n");
    let profile =
        format!("[here]\nhost = {QUIET}\nstanza = x\nfwknoprc = {file}\nspa = tcp/80\nallow_ip = source\n");
    private(&home, ".config/knock.conf", profile);
    let (seen, fields) = sent(&world, &home, 1, &["here"]).remove(0);
    assert_eq!(
        (seen.destination.to_string(), ports(&fields).join(",")),
        (QUIET.to_owned(), "tcp/80".to_owned())
    );
    let (_, fields) = sent(&world, &home, 1, &["--spa", "tcp/81", "here"]).remove(0);
    assert_eq!(ports(&fields), ["tcp/81"]);
}

fn both_families_get_a_packet_of_their_own() {
    let world = quiet_world();
    let home = home("");
    let (seen, fields) = sent(&world, &home, 1, &["-n", "door", QUIET6]).remove(0);
    assert_eq!(
        (seen.destination.to_string(), fields.message.address.to_string()),
        (QUIET6.to_owned(), "::".to_owned())
    );
    let (_, fields) = sent(&world, &home, 1, &["-n", "door", "--allow-ip", "2001:db8::7"]).remove(0);
    assert_eq!(fields.message.address.to_string(), "2001:db8::7");
}

fn raw_packets_carry_it_too() {
    let world = quiet_world();
    let home = home("SPA_SOURCE_PORT 53\n");
    let (seen, _) =
        sent(&world, &home, 1, &["-n", "door", "--raw", "--source", "10.77.0.9", "--ttl", "9"]).remove(0);
    assert_eq!((seen.source.to_string(), seen.source_port), ("10.77.0.9".to_owned(), 53));
    let refused = knock_from(&world, &home, &["-n", "door", "--raw", "--data", "x"]);
    ends(&refused, 1, "error: --data: a single packet has data of its own\n");
}

fn a_dry_run_shows_neither_key_nor_packet() {
    let world = quiet_world();
    let home = home("FW_TIMEOUT 5\n");
    let mut capture = world.capture();
    let shown = knock_from(&world, &home, &["-n", "door", "--dry-run"]);
    ends(&shown, 0, "");
    let (line, time) = shown.stdout.trim_end().rsplit_once(' ').unwrap();
    let wanted = "would send a packet of 204 bytes to udp 10.77.0.50:62201: alice asks to let the sender's address in to tcp/22 for 5 s, at";
    assert_eq!(line, wanted);
    assert!(unix().as_secs() - time.parse::<u64>().unwrap() <= 10);
    let raw = knock_from(&world, &home, &["-n", "door", "--dry-run", "--raw"]);
    ends(&raw, 0, "");
    assert!(raw.stdout.contains("alice asks to let"), "{}", raw.stdout);
    for shown in [&shown, &raw] {
        assert!(!shown.stdout.contains("secret"), "{}", shown.stdout);
    }
    assert!(raw.stdout.contains("xxxxxxxx"), "the bytes of no packet: {}", raw.stdout);
    assert_eq!(capture.read_for(seconds(0.1)).len(), 0);
    let said = knock_from(&world, &home, &["-v", "-n", "door"]);
    assert!(
        said.stdout.starts_with("sending a packet of 204 bytes to udp 10.77.0.50:62201: alice asks"),
        "{}",
        said.stdout
    );
}

fn nothing_is_sent_that_a_server_would_refuse() {
    let world = quiet_world();
    let home = home("");
    let path = home.join(".fwknoprc").display().to_string();
    let broken = home.join("broken").display().to_string();
    private(
        &home,
        "broken",
        "[a]\nKEY 4711secret\n[b]\nKEY 4711secret\nHMAC_KEY 0815secret\nUSE_GPG Y\n[c]\nKEY 4711secret\nHMAC_KEY 0815secret\n[d]\nKEY 4711secret\nHMAC_KEY 0815secret\nACCESS tcp/1\nALLOW_IP resolve\n",
    );
    let many: Vec<String> = (0..13).map(|port| format!("tcp/{}", 10_000 + port)).collect();
    let mut capture = world.capture();
    let of = |name| ["-n", name, "--fwknoprc", &broken];
    for (words, said) in [
        (&["-n", "nobody"][..], format!("error: {path}: stanza 'nobody': there is no stanza of this name\n")),
        (
            &["-n", "door", "--spa", "22"],
            "error: --spa: '22' is not a list of ports such as tcp/22,udp/53\n".to_owned(),
        ),
        (
            &["-n", "door", "--spa", &many.join(",")],
            "error: the packet would have 417 bytes, and servers take 396: ask for fewer ports\n".to_owned(),
        ),
        (
            &["-n", "door", "--allow-ip", "x"],
            "error: --allow-ip: 'x' is not source, auto, an address, 'stun:SERVER stun:SERVER', 'stun:SERVER ADDRESS[/LENGTH]' or command:CMD\n"
                .to_owned(),
        ),
        (
            &["-n", "door", "--print"],
            "error: --print shows sequences, and a single packet has none: use --dry-run\n".to_owned(),
        ),
        (&["-n", "door", SERVER, "22"], "error: a sequence and a stanza exclude each other\n".to_owned()),
        (&["--spa", "tcp/22", SERVER, "22"], "error: --spa needs --stanza (-n)\n".to_owned()),
        (
            &of("a"),
            format!(
                "error: {broken}: stanza 'a': there is neither HMAC_KEY nor HMAC_KEY_BASE64, and packets without an HMAC are not supported: make one with 'fwknop --key-gen', for both ends\n"
            ),
        ),
        (&of("b"), format!("error: {broken}: stanza 'b': line 6: USE_GPG: GnuPG is not supported\n")),
        (&of("c"), format!("error: {broken}: stanza 'c': it has no ACCESS: name the ports with --spa\n")),
        (
            &of("d"),
            format!(
                "error: {broken}: stanza 'd': it asks a web page for our address, which knock does not do: use --allow-ip source, 'stun:SERVER stun:SERVER' or command:CMD\n"
            ),
        ),
        (
            &["-n", "c", "--fwknoprc", &broken, "--spa", "tcp/22"],
            format!("error: {broken}: stanza 'c': it has no SPA_SERVER: name a host\n"),
        ),
    ] {
        ends(&knock_from(&world, &home, words), 1, &said);
    }
    std::fs::set_permissions(home.join(".fwknoprc"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    let open = knock_from(&world, &home, &["-n", "door"]);
    assert!(
        open.stderr.contains("others may use this file (mode 644)") && open.code() == Some(1),
        "{}",
        open.stderr
    );
    assert_eq!(capture.read_for(seconds(0.1)).len(), 0);
    ends(&knock_from(&world, &home, &["-n", "door", "--insecure"]), 0, "");
}
