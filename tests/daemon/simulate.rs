//! `knockd --simulate`: a capture of the client, of a real link, and lines; what it says, and its exit codes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::daemon::program;
use crate::support::folder::{Folder, read};
use crate::support::packet::{tcp, udp};

trials![
    what_the_client_would_send_opens_the_door,
    the_scenarios_give_the_same_lines,
    a_capture_with_ethernet_headers,
    with_debug_each_packet_says_why_not,
    nothing_opened_is_code_3,
    what_cannot_be_read_is_code_1,
    own_addresses_may_be_named,
    cut_and_random_files_are_errors,
    one_time_passwords_use_the_time_of_the_capture,
    single_packets_are_opened_with_their_keys,
];

const SSH: &str = "[ssh]\nsequence = 7000,8000:udp,9000\nstart_command = open %IP%\nstop_command = close %IP%\ncmd_timeout = 10\n";

struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Plays a file, or `input` if the file is `-`.
fn simulate(folder: &Folder, config: &str, file: &str, words: &[&str], input: &[u8]) -> Said {
    let config = folder.write("knockd.conf", config);
    let mut command = Command::new(program());
    command.arg("-c").arg(config).args(["--simulate", file]).args(words).current_dir(folder.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("knockd");
    // It may refuse before it has read everything.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    let output = child.wait_with_output().expect("an end");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Without the times and the sum at the end.
fn told(stdout: &str) -> Vec<&str> {
    stdout
        .lines()
        .filter(|line| line.len() > 12 && line.as_bytes()[6] == b'.')
        .map(|line| &line[12..])
        .collect()
}

/// A capture file: microseconds in this machine's order are `d4c3b2a1` on little-endian ones; written as such.
fn pcap(link: u32, packets: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    file.extend(link.to_le_bytes());
    for (seconds, microseconds, bytes) in packets {
        let length = u32::try_from(bytes.len()).unwrap();
        for word in [*seconds, *microseconds, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(bytes);
    }
    file
}

fn what_the_client_would_send_opens_the_door() {
    let folder = Folder::new();
    let words = [
        "--dry-run",
        "--raw",
        "--pcap",
        "knock.pcap",
        "--source",
        "192.0.2.9",
        "-d",
        "100",
        "198.51.100.1",
        "7000",
        "8000:udp",
        "9000",
    ];
    let knock =
        Command::new(env!("CARGO_BIN_EXE_knock")).args(words).current_dir(folder.path()).output().unwrap();
    assert!(knock.status.success(), "{knock:?}");
    let said = simulate(&folder, SSH, "knock.pcap", &[], b"");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{}", said.stdout);
    let wanted = [
        "192.0.2.9: ssh: Stage 1",
        "192.0.2.9: ssh: Stage 2",
        "192.0.2.9: ssh: Stage 3",
        "192.0.2.9: ssh: OPEN SESAME",
        "ssh: would run command: open 192.0.2.9",
        "192.0.2.9: ssh: command timeout",
        "ssh: would run command: close 192.0.2.9",
    ];
    assert_eq!(told(&said.stdout), wanted);
    let end = "3 packets, 3 of interest, 1 opening\n  ssh: furthest stage 3 of 3; 1 begun, 0 failed, 0 expired, 0 ignored, 1 opened\n";
    assert!(said.stdout.ends_with(end), "{}", said.stdout);
    // The stop command comes in its time.
    let times: Vec<&str> = said.stdout.lines().take(7).map(|line| &line[..6]).collect();
    assert_eq!((times[0], times[6]), ("     0", "    10"), "{}", said.stdout);
}

/// The simulation says what the engine and the openings say in the tests of the rules.
fn the_scenarios_give_the_same_lines() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/scenarios");
    let mut played = 0;
    for file in corpus.read_dir().unwrap().map(|entry| entry.unwrap().path()) {
        let text = read(&file);
        // `-D` has words of its own here, and a file of one-time sequences is not struck.
        if text.lines().any(|line| line == "debug" || line.contains(" struck ")) {
            continue;
        }
        let folder = Folder::new();
        let (head, steps) = text.rsplit_once("---\n").expect("doors and steps");
        let mut doors = String::new();
        let mut name = None;
        let mut contents = String::new();
        for line in head.lines() {
            if let Some(path) = line.strip_prefix("---") {
                if let Some(name) = name.replace(path.trim().to_owned()) {
                    folder.write(&name[1..], &contents);
                }
                contents.clear();
            } else if name.is_some() {
                contents.extend([line, "\n"]);
            } else {
                doors.extend([line, "\n"]);
            }
        }
        if let Some(name) = name {
            folder.write(&name[1..], &contents);
        }
        let doors = doors
            .replace("one_time_sequences = /", &format!("one_time_sequences = {}/", folder.path().display()));
        let expected: Vec<String> = steps
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once("=>"))
            .flat_map(|(_, lines)| {
                lines
                    .split(" | ")
                    .map(|line| line.trim().replace(": running command:", ": would run command:"))
                    .collect::<Vec<_>>()
            })
            .collect();
        // What is still to come at the end is played as well; commands that nobody ends run on.
        let never = format!("{text}\n# to the end\n");
        let has_endings =
            steps.contains(" ended ") || steps.contains(" killed ") || steps.contains(" not started:");
        if !has_endings && expected.iter().any(|line| line.contains("would run command")) {
            continue;
        }
        let said = simulate(&folder, &doors, "-", &["--address", "10.0.0.1,fd00::1"], never.as_bytes());
        assert!(matches!(said.code, Some(0 | 3)), "{}: {}", file.display(), said.stderr);
        // Here a used-up file is told at once; there it is told when the line was struck.
        let lines = told(&said.stdout).into_iter().map(str::trim_end);
        let lines: Vec<&str> = lines.filter(|line| !line.starts_with("no more sequences left")).collect();
        assert!(lines.len() >= expected.len(), "{}: {lines:#?}\n{expected:#?}", file.display());
        assert_eq!(lines[..expected.len()], expected, "{}", file.display());
        played += 1;
    }
    assert!(played > 50, "only {played} scenarios were played");
}

fn a_capture_with_ethernet_headers() {
    let folder = Folder::new();
    let packets = [tcp(7000), udp(8000), tcp(9000)].map(|packet| packet.frame());
    let times: Vec<_> = (1..).zip(packets).map(|(n, frame)| (1_700_000_000 + n, 250_000, frame)).collect();
    folder.write("link.pcap", pcap(1, &times));
    let said = simulate(&folder, SSH, "link.pcap", &[], b"");
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{}", said.stdout);
    assert!(
        said.stdout.starts_with("     0.000  10.77.0.2: ssh: Stage 1\n     1.000  10.77.0.2: ssh: Stage 2\n"),
        "{}",
        said.stdout
    );
}

fn with_debug_each_packet_says_why_not() {
    let folder = Folder::new();
    let config = "[ssh]\nsequence = 7000,8000:udp,9000\ntcpflags = syn\n[one]\nsequence = 1\ncooldown = 60\n[any]\nsequence = 7000,2\n";
    let lines = "0 192.0.2.9 > 198.51.100.1 tcp 22 syn
        0.1 192.0.2.9 > 198.51.100.1 tcp 9000 syn
        0.2 192.0.2.9 > 198.51.100.1 tcp 7000 syn
        0.3 192.0.2.9 > 198.51.100.1 tcp 9000 ack
        0.4 192.0.2.9 > 198.51.100.1 tcp 7000 syn
        0.5 192.0.2.8 > 198.51.100.1 tcp 1 syn
        0.6 192.0.2.8 > 198.51.100.1 tcp 1 syn
        0.7 192.0.2.8 > 203.0.113.5 tcp 1 syn
        1 192.0.2.7 > 198.51.100.1 tcp 7000 syn
        50
";
    let said = simulate(&folder, config, "-", &["-D", "--address", "198.51.100.1"], lines.as_bytes());
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{}", said.stdout);
    let why: Vec<&str> = told(&said.stdout).into_iter().filter(|line| line.starts_with("- ")).collect();
    let wanted = [
        "- not of interest: no door has 22:tcp",
        "- 9000:tcp begins no sequence, and 192.0.2.9 has no attempt under way",
        "- flags: ssh: packet is not SYN",
        "- ssh: failed: stage 2 is 8000:udp, got 7000:tcp",
        "- any: failed: stage 2 is 2:tcp, got 7000:tcp",
        "- one: ignored: Cooldown, Allow or Deny keeps 192.0.2.8 out for now",
        "- not of interest: 203.0.113.5 is no address of this host, nor a Target with 1:tcp",
    ];
    let mut sorted = (why.clone(), wanted.to_vec());
    sorted.0.sort_unstable();
    sorted.1.sort_unstable();
    assert_eq!(sorted.0, sorted.1, "{}", said.stdout);
    // Without -D no line tells the next stage.
    let said = simulate(&folder, config, "-", &[], lines.as_bytes());
    assert!(!said.stdout.contains("8000") && !said.stdout.contains("\n- "), "{}", said.stdout);
    assert!(
        said.stdout
            .contains("  ssh: furthest stage 1 of 3; 2 begun, 1 failed, 1 expired, 0 ignored, 0 opened\n"),
        "{}",
        said.stdout
    );
}

fn nothing_opened_is_code_3() {
    let folder = Folder::new();
    for (file, input) in
        [("-", &b""[..]), ("-", b"0 192.0.2.9 > 198.51.100.1 tcp 7000 syn\n"), ("empty.pcap", b"")]
    {
        folder.write("empty.pcap", pcap(101, &[]));
        let said = simulate(&folder, SSH, file, &[], input);
        assert_eq!((said.code, said.stderr.as_str()), (Some(3), ""), "{}", said.stdout);
        assert!(said.stdout.contains("0 openings\n"), "{}", said.stdout);
    }
}

fn what_cannot_be_read_is_code_1() {
    let folder = Folder::new();
    folder.write("other.pcap", pcap(147, &[]));
    folder.write("next.pcap", [&[0x0a, 0x0d, 0x0d, 0x0a][..], &[0; 40]].concat());
    for (file, input, sentence) in [
        ("missing.pcap", "", "missing.pcap: No such file or directory"),
        ("other.pcap", "", "other.pcap: packets of link type 147 are not known here"),
        (
            "next.pcap",
            "",
            "next.pcap: is a pcapng file, which is not read here; tcpdump -r FILE -w FILE.pcap",
        ),
        ("-", "nonsense\n", "-: line 1: 'nonsense' is not understood"),
        ("-", "2\n1\n", "-: line 2: its time is before that of the line above"),
        ("-", "1 ended 0: nothing\n", "-: line 1: no such command runs then"),
        ("-", "1 not closed\n", "-: line 1: that is not so"),
        ("-", "1 struck x: 1\n", "-: line 1: there is no door of this name"),
    ] {
        let said = simulate(&folder, SSH, file, &[], input.as_bytes());
        assert_eq!(said.code, Some(1), "{file} {input}: {}", said.stdout);
        assert!(said.stderr.starts_with(sentence), "{sentence}: {}", said.stderr);
    }
    let said = simulate(&folder, "nonsense", "-", &[], b"");
    assert_eq!(said.code, Some(1));
    let said = simulate(&folder, SSH, "-", &["--address", "here"], b"");
    assert!(said.stderr.contains("'here' is not an IP address") && said.code == Some(1), "{}", said.stderr);
}

fn own_addresses_may_be_named() {
    let folder = Folder::new();
    let lines = "0 192.0.2.9 > 198.51.100.1 tcp 7000 syn\n0.1 192.0.2.9 > 198.51.100.2 udp 8000\n0.2 192.0.2.9 > 198.51.100.1 tcp 9000 syn\n";
    let code = |words: &[&str]| simulate(&folder, SSH, "-", words, lines.as_bytes()).code;
    assert_eq!(code(&[]), Some(0));
    assert_eq!(code(&["--address", "198.51.100.1, 198.51.100.2"]), Some(0));
    assert_eq!(code(&["--address", "198.51.100.1"]), Some(3));
}

/// Whatever a file holds, it is played or refused with a sentence, and soon.
fn cut_and_random_files_are_errors() {
    let folder = Folder::new();
    let whole = pcap(1, &[(1, 0, tcp(7000).frame()), (2, 0, udp(8000).frame()), (3, 0, tcp(9000).frame())]);
    for length in (0..whole.len()).step_by(7) {
        let said = simulate(&folder, SSH, "-", &["-D"], &whole[..length]);
        assert!(matches!(said.code, Some(1 | 3)), "{length}: {:?} {}", said.code, said.stderr);
    }
    let random = crate::random::Random::new();
    for _ in 0..20 {
        let mut bytes = whole.clone();
        for _ in 0..8 {
            let at = usize::try_from(random.number() % bytes.len() as u64).unwrap();
            bytes[at] = random.byte();
        }
        let said = simulate(&folder, SSH, "-", &["-D"], &bytes);
        assert!(matches!(said.code, Some(0 | 1 | 3)), "{bytes:?}: {:?} {}", said.code, said.stderr);
    }
}

fn one_time_passwords_use_the_time_of_the_capture() {
    let folder = Folder::new();
    let list = |time: u64| {
        let otp = knocking::door::otp::Otp::parse(b"seed, 60, 20000, off, tcp, tcp").unwrap().unwrap();
        otp.list(otp.period(std::time::Duration::from_secs(time)), "192.0.2.9".parse().unwrap())
    };
    let config = "[otp]\notp = seed, 60, 20000, off, tcp, tcp\ncommand = true\n";
    let ports: Vec<u16> = list(1_600_000_000).iter().map(|stage| stage.port).collect();
    let lines = |clock: u64| {
        format!(
            "clock {clock}\n0 192.0.2.9 > 198.51.100.1 tcp {} syn\n0.1 192.0.2.9 > 198.51.100.1 tcp {} syn\n",
            ports[0], ports[1]
        )
    };
    assert_eq!(simulate(&folder, config, "-", &[], lines(1_600_000_000).as_bytes()).code, Some(0));
    assert_eq!(simulate(&folder, config, "-", &[], lines(1_700_000_000).as_bytes()).code, Some(3));
}

fn single_packets_are_opened_with_their_keys() {
    let folder = Folder::new();
    let config = "[spa]\nspa_key = k\nspa_hmac_key = h\nspa_open = tcp/22\ncommand = open %IP%\n";
    let frames = [udp(62201).data(&[b'+'; 204]).ip(), udp(62201).data(b"hello").ip()];
    let times: Vec<_> = (1..).zip(frames).map(|(n, ip)| (1_700_000_000 + n, 0, ip)).collect();
    folder.write("spa.pcap", pcap(101, &times));
    let said = simulate(&folder, config, "spa.pcap", &["-D"], b"");
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    assert!(said.stdout.contains("- spa: forged: made without the keys of the door\n"), "{}", said.stdout);
    assert!(said.stdout.contains("  spa: 0 opened, 1 forged, 0 sent again\n"), "{}", said.stdout);
}
