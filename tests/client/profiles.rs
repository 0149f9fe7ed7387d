//! Profiles, and one-time sequence files on the client's side.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Instant;

use crate::client::around::{KNOCK, ends};
use crate::support::folder::Folder;
use crate::support::packet::{CLIENT, SERVER};
use crate::support::process::Finished;
use crate::support::seconds;
use crate::support::world::{World, run};

trials![
    a_profile_is_knocked_by_its_name,
    the_command_line_overrides_the_profile,
    a_profile_file_that_others_can_read_is_refused,
    files_in_a_folder_that_others_can_write_are_refused,
    root_uses_no_other_users_files,
    profiles_are_listed_without_their_sequences,
    errors_in_a_profile_name_the_line_and_no_secret,
    a_setting_that_is_overridden_causes_no_error,
    the_list_names_the_mistakes_of_every_section,
    a_mistake_in_another_section_does_not_matter,
    a_file_that_cannot_be_divided_into_sections_is_not_used,
    one_time_sequences_are_used_and_struck,
    a_dry_run_and_a_failure_strike_nothing,
    two_clients_use_two_lines,
    client_and_daemon_use_the_same_one_time_line,
];

/// A folder for profiles, with this file in it, readable for its owner only.
fn profiles(text: &str) -> Folder {
    let folder = Folder::new();
    let path = folder.write("knock.conf", text);
    set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    folder
}

fn knock_with(world: &World, folder: &Folder, words: &[&str]) -> Finished {
    let variable = format!("XDG_CONFIG_HOME={}", folder.path().display());
    run(&world.client, "env", &[&[variable.as_str(), KNOCK][..], words].concat())
}

const HOME: &str = "[home]\nhost = 10.77.0.1\nsequence = 1000, 2000:UDP ,3000\nverbose\n";

fn a_profile_is_knocked_by_its_name() {
    let world = World::new();
    let folder = profiles(&format!(
        "{HOME}\n[office]\nHost = {SERVER}\nsequence = 5:tcp:fin\nraw = yes\nsource_port = 77\nipv6 = no\n[{SERVER}]\nsequence = 9\n"
    ));
    let hits = format!("hitting tcp {SERVER}:1000\nhitting udp {SERVER}:2000\nhitting tcp {SERVER}:3000\n");
    let finished = knock_with(&world, &folder, &["home"]);
    ends(&finished, 0, "");
    assert_eq!(finished.stdout, hits);
    let finished = knock_with(&world, &folder, &["home", "--", "echo", "in"]);
    assert_eq!(finished.stdout, hits + "in\n");
    let finished = knock_with(&world, &folder, &["-v", "office"]);
    ends(&finished, 0, "");
    assert_eq!(finished.stdout, format!("hitting tcp {SERVER}:5 (fin) from {CLIENT}:77\n"));
    // Without `host` the name is the host.
    let finished = knock_with(&world, &folder, &["-v", SERVER]);
    assert_eq!(finished.stdout, format!("hitting tcp {SERVER}:9\n"));
}

fn the_command_line_overrides_the_profile() {
    let world = World::new();
    let folder = profiles(&format!("{HOME}delay = 60000\nipv4\nudp = no\n"));
    let begin = Instant::now();
    let finished = knock_with(&world, &folder, &["-d", "0", "-u", "home"]);
    ends(&finished, 0, "");
    assert!(begin.elapsed() < seconds(10.0) && !finished.stdout.contains("tcp"), "{}", finished.stdout);
    let finished = knock_with(&world, &folder, &["-d0", "-6", "home"]);
    assert_eq!(finished.code(), Some(1), "IPv6 was not forced");
    // With ports it is a host.
    let finished = knock_with(&world, &folder, &["-v", SERVER, "7"]);
    assert_eq!(finished.stdout, format!("hitting tcp {SERVER}:7\n"));
}

fn a_profile_file_that_others_can_read_is_refused() {
    let world = World::new();
    let folder = profiles(HOME);
    let path = folder.join("knock.conf");
    for mode in [0o640, 0o604, 0o620, 0o666] {
        set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for words in [&["home"][..], &["--list"]] {
            let refused = knock_with(&world, &folder, words);
            assert_eq!((refused.code(), refused.stdout.as_str()), (Some(1), ""));
            let wanted =
                format!("others may use this file (mode {mode:03o}), and it holds secrets; chmod 600 ");
            assert!(refused.stderr.contains(&wanted), "{}", refused.stderr);
        }
    }
    ends(&knock_with(&world, &folder, &["--insecure", "home"]), 0, "");
}

fn files_in_a_folder_that_others_can_write_are_refused() {
    let world = World::new();
    let folder = profiles(HOME);
    let files = ["lines", "otp"].map(|name| folder.write(name, "1000,45,20000,off,tcp\n"));
    let [lines, otp] = files.each_ref().map(|path| path.to_str().unwrap());
    folder.write("lines", "1000,2000\n3000\n");
    set_permissions(otp, Permissions::from_mode(0o600)).unwrap();
    set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let shown = folder.path().display();
    for (words, file) in [
        (&["home"][..], folder.join("knock.conf").to_str().unwrap()),
        (&["--one-time-sequences", lines, SERVER], lines),
        (&["--otp-file", otp, SERVER], otp),
    ] {
        let refused = knock_with(&world, &folder, words);
        let sentence = format!(
            "error: {file}: everybody can write the folder {shown}, and so replace what is in it; \
             chmod go-w {shown}, or use --insecure\n"
        );
        ends(&refused, 1, &sentence);
        ends(&knock_with(&world, &folder, &[&["--insecure"][..], words].concat()), 0, "");
    }
    set_permissions(folder.path(), Permissions::from_mode(0o1777)).unwrap();
    ends(&knock_with(&world, &folder, &["home"]), 0, "");
    set_permissions(lines, Permissions::from_mode(0o620)).unwrap();
    let refused = knock_with(&world, &folder, &["--one-time-sequences", lines, SERVER]);
    assert!(refused.stderr.contains("a group can write this file; chmod g-w "), "{}", refused.stderr);
}

/// A profile can name a command to run.
fn root_uses_no_other_users_files() {
    let world = World::new();
    let folder = profiles(HOME);
    let path = folder.join("knock.conf");
    if std::os::unix::fs::chown(&path, Some(61234), None).is_err() {
        eprintln!("not tried: no file can belong to user 61234 here");
        return;
    }
    for words in [&["home"][..], &["--insecure", "home"]] {
        let refused = knock_with(&world, &folder, words);
        let shown = path.display();
        let sentence = format!(
            "error: {shown}: this file belongs to user 61234, and root uses only its own; chown -h root {shown}\n"
        );
        ends(&refused, 1, &sentence);
    }
}

fn profiles_are_listed_without_their_sequences() {
    let world = World::new();
    let folder = profiles(&format!("{HOME}[b]\nsequence = 4711\n"));
    let listed = knock_with(&world, &folder, &["--list"]);
    ends(&listed, 0, "");
    let lines: Vec<Vec<&str>> = listed.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let path = folder.join("knock.conf").to_string_lossy().into_owned();
    assert_eq!(lines, [["home", SERVER, &path], ["b", "b", &path]]);
    let nothing = knock_with(&world, &Folder::new(), &["--list"]);
    assert_eq!((nothing.code(), nothing.stdout.as_str()), (Some(0), ""));
    let unknown = knock_with(&world, &folder, &["nobody"]);
    assert_eq!(unknown.code(), Some(1));
    let wanted =
        format!("error: no ports, and no profile 'nobody' in {path} or /etc/knock.conf (see knock --help)\n");
    assert_eq!((unknown.stderr, unknown.stdout.as_str()), (wanted, ""));
    let near = knock_with(&world, &folder, &["hoem"]);
    let wanted = "/etc/knock.conf; did you mean 'home'? (see knock --help)\n";
    assert!(near.stderr.ends_with(wanted) && near.stdout.is_empty(), "{}", near.stderr);
    // As in 0.8, an address without ports shows the usage.
    let host = knock_with(&world, &folder, &[SERVER]);
    assert!(host.code() == Some(1) && host.stdout.starts_with("usage: knock "), "{}", host.stderr);
}

fn errors_in_a_profile_name_the_line_and_no_secret() {
    let world = World::new();
    for (entries, wanted) in [
        ("sequence = 4711,70000", "line 2: sequence: a port is not between 0 and 65535"),
        ("sequence = 4711,", "line 2: sequence: a port is not between 0 and 65535"),
        ("sequence = 4711:sctp", "line 2: sequence: a protocol is neither tcp, udp nor icmp"),
        ("sequence = 4711:tcp:fin", "line 2: sequence: TCP flags in a stage need raw packets (--raw)"),
        (
            "sequence = 4711\none_time_sequences = /x",
            "line 3: a sequence and one-time sequences exclude each other",
        ),
        ("host = 4711", "line 1: profile 'p' has neither sequence, one_time_sequences, otp nor stanza"),
        ("sequence = 4711\nhost", "line 3: 'host' needs a value"),
        ("sequence = 4711\ndelay = -1", "line 3: delay cannot be negative"),
        ("sequence = 4711\nttl = 9", "line 3: ttl needs --raw"),
        ("sequence = 4711\nraw\nttl = 999", "line 4: ttl: '999' is not between 0 and 255"),
        ("sequence = 4711\nraw\ndf = maybe", "line 4: df: 'maybe' is neither yes nor no"),
        ("sequence = 4711\nraw\nflags = x", "line 4: 'x' is not a list of TCP flags"),
        ("sequence = 4711\nraw\nsource = x", "line 4: source: 'x' is no IP address"),
        ("sequence = 4711\nraw\ndata = hex:1", "line 4: data: not pairs of hexadecimal digits"),
        ("sequence = 4711\nraw\ntos = 1\ndscp = 1", "line 5: --tos and --dscp exclude each other"),
        ("sequence = 4711\njitter = soon", "line 3: jitter: 'soon' is not between 0 and 86400 milliseconds"),
        ("sequence = 4711\ncount = 0", "line 3: count: '0' is not between 1 and 10000"),
        ("sequence = 4711\nwait = 0", "line 3: port '0' is not between 1 and 65535"),
        ("sequence = 4711\nproxy = 22/udp", "line 3: '22/udp' cannot be awaited"),
        ("sequence = 4711\nretries = 1", "line 3: retries needs --wait or --proxy"),
        ("sequence = 4711\notp_digest = md5", "line 3: otp-digest: 'md5' is not sha1, sha256 or sha512"),
        ("sequence = 4711\nsource_ip = x", "line 3: source-ip: 'x' is not auto, an address"),
        ("sequence = 4711\ndoor = x", "line 3: door needs --config"),
        ("config = /x", "line 2: config needs --door"),
        ("otp_file = /no/such", "line 2: /no/such: No such file or directory"),
        ("sequence = 4711\ncolour = 4711", "line 3: unknown setting 'colour'"),
        ("sequence = 4711\nlist", "line 3: unknown setting\n"),
        ("sequence = 1\n4711,45,20000,on,tcp", "line 3: unknown setting\n"),
        ("sequence = 1\n4711==", "line 3: unknown setting\n"),
        ("sequence = 4711\nttl", "line 3: 'ttl' needs a value"),
        ("sequence = 4711\nraw = 4711", "line 3: 'raw' is yes or no"),
        ("sequence = 4711,nosuch4711", "Failed to resolve hostname 'p'\ngetaddrinfo: "),
        (
            "sequence = 4711,nosuch4711\nhost = 127.0.0.1",
            "line 2: sequence: port 2 of it is neither a number nor a service that this system knows: ",
        ),
    ] {
        let refused = knock_with(&world, &profiles(&format!("[p]\n{entries}\n")), &["p"]);
        assert_eq!(refused.code(), Some(1), "{entries}: {}", refused.stderr);
        assert!(refused.stderr.contains(wanted), "{entries}: {}", refused.stderr);
        assert!(!(refused.stderr + &refused.stdout).contains("4711"), "{entries} is repeated");
    }
}

/// An error is blamed on the value that was used.
fn a_setting_that_is_overridden_causes_no_error() {
    let world = World::new();
    let folder = profiles(&format!("{HOME}raw\nttl = 999\n"));
    let knock = |ttl: &str| knock_with(&world, &folder, &["--dry-run", "--ttl", ttl, "home"]);
    assert_eq!(knock("9").code(), Some(0), "{}", knock("9").stderr);
    ends(&knock("998"), 1, "error: --ttl: '998' is not between 0 and 255\n");
}

const MISTAKES: &str = "[a]\nsequence = 4711,70000\n[b]\nsequence = 4711\ncolour = 4711\n\
    [c]\nsequence = 4711\nraw\nttl = 999\n[d]\nhost = 4711\n[e]\nsequence = 4711\n[d]\nsequence = 4711\n";

fn the_list_names_the_mistakes_of_every_section() {
    let world = World::new();
    let folder = profiles(&format!("{HOME}{MISTAKES}"));
    let path = folder.join("knock.conf").to_string_lossy().into_owned();
    let listed = knock_with(&world, &folder, &["--list"]);
    assert_eq!(listed.code(), Some(1));
    let names: Vec<&str> = listed.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["home", "a", "b", "c", "d", "e", "d"]);
    let mistakes = [
        "line 6: sequence: a port is not between 0 and 65535",
        "line 9: unknown setting 'colour'",
        "line 13: ttl: '999' is not between 0 and 255",
        "line 14: profile 'd' has neither sequence, one_time_sequences, otp nor stanza",
        "line 18: there is an earlier section of this name",
    ];
    let wanted = mistakes.map(|mistake| format!("error: {path}: {mistake}\n")).concat();
    assert_eq!(listed.stderr, wanted);
    // Other options on the command line make no difference.
    assert_eq!(knock_with(&world, &folder, &["--list", "--ttl", "3"]).stderr, wanted);
}

fn a_mistake_in_another_section_does_not_matter() {
    let world = World::new();
    let folder = profiles(&format!("{HOME}{MISTAKES}"));
    let finished = knock_with(&world, &folder, &["home"]);
    ends(&finished, 0, "");
    assert_eq!(finished.stdout.lines().count(), 3, "{}", finished.stdout);
    // Of two sections with one name, neither is used.
    for (name, line) in [("a", 6), ("b", 9), ("c", 13), ("d", 18)] {
        let refused = knock_with(&world, &folder, &[name]);
        assert_eq!((refused.code(), refused.stdout.as_str()), (Some(1), ""), "{name}");
        assert!(refused.stderr.contains(&format!(": line {line}: ")), "{name}: {}", refused.stderr);
    }
}

/// `[x` was meant to be a heading, so `home` may contain lines of another profile.
fn a_file_that_cannot_be_divided_into_sections_is_not_used() {
    let world = World::new();
    let folder = profiles(&format!("{HOME}[x\nbogus line\n"));
    let path = folder.join("knock.conf").to_string_lossy().into_owned();
    for words in [&["home"][..], &["--list"]] {
        let refused = knock_with(&world, &folder, words);
        ends(&refused, 1, &format!("error: {path}: line 6: neither a section nor a setting\n"));
    }
}

const LINES: &str = "# one a day\n\n1111,1112:udp\r\n  2222\nfor 9999:sctp\n3333:udp";

fn one_time_sequences_are_used_and_struck() {
    let world = World::new();
    let folder = Folder::new();
    let path = folder.write("once", LINES);
    let file = path.to_string_lossy().into_owned();
    let use_one = || world.knock(&["-v", "--one-time-sequences", &file, SERVER]);
    let first = use_one();
    ends(&first, 0, "");
    assert_eq!(first.stdout, format!("hitting tcp {SERVER}:1111\nhitting udp {SERVER}:1112\n"));
    let struck = LINES.replace("1111,", "#111,");
    assert_eq!(folder.read("once"), struck);
    assert_eq!(use_one().stdout, format!("hitting tcp {SERVER}:2222\n"));
    assert_eq!(folder.read("once"), struck.replace("  2222", "# 2222"));
    let third = use_one();
    ends(&third, 0, &format!("{file}: line 5 is no sequence, skipped\n"));
    assert_eq!(third.stdout, format!("hitting udp {SERVER}:3333\n"));
    assert!(folder.read("once").ends_with("\nfor 9999:sctp\n#333:udp"));
    let empty = use_one();
    assert_eq!((empty.code(), empty.stdout.as_str()), (Some(1), ""));
    assert!(empty.stderr.ends_with(&format!("error: {file}: no unused sequence left\n")), "{}", empty.stderr);
}

fn a_dry_run_and_a_failure_strike_nothing() {
    let world = World::new();
    let folder = Folder::new();
    let path = folder.write("once", LINES);
    let file = path.to_string_lossy().into_owned();
    let option = ["--one-time-sequences", &file];
    let shown = world.knock(&[&option[..], &["--dry-run", SERVER]].concat());
    assert_eq!(shown.stdout, format!("would hit tcp {SERVER}:1111\nwould hit udp {SERVER}:1112\n"));
    let failed = world.knock(&[&option[..], &["--raw", "--data", "size:9000", SERVER]].concat());
    assert_eq!(failed.code(), Some(4), "{}", failed.stderr);
    let refused = world.knock(&[&option[..], &[SERVER, "7000"]].concat());
    ends(&refused, 1, "error: a sequence and one-time sequences exclude each other\n");
    assert_eq!(folder.read("once"), LINES);
    let udp = world.knock(&[&option[..], &["--dry-run", "-u", SERVER]].concat());
    assert_eq!(udp.stdout, shown.stdout.replace("tcp", "udp"));
    let hostless = world.knock(&option);
    ends(&hostless, 1, "");
    let missing = world.knock(&["--one-time-sequences", "/no/such", SERVER]);
    ends(&missing, 1, "error: /no/such: No such file or directory\n");
}

fn two_clients_use_two_lines() {
    let world = World::new();
    let folder = Folder::new();
    let lines = "1000\n2000\n3000\n4000\n5000\n6000\n7000\n8000\n";
    let path = folder.write("once", lines);
    let file = path.to_string_lossy().into_owned();
    let words = ["-v", "-d", "20", "--one-time-sequences", &file, SERVER];
    let client = &world.client;
    let mut hits: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(|| run(client, KNOCK, &words).stdout)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    hits.sort();
    let wanted: Vec<String> = (1..=8).map(|line| format!("hitting tcp {SERVER}:{line}000\n")).collect();
    assert_eq!(hits, wanted);
    assert_eq!(folder.read("once"), "#000\n".repeat(8));
}

fn client_and_daemon_use_the_same_one_time_line() {
    let world = World::new();
    let text = "1000,2000\n3000,4000:udp\n5000\n";
    let folder = profiles("");
    let path = folder.write("ours", text);
    let profile = format!("[d]\nhost = {SERVER}\none_time_sequences = {}\n", path.display());
    folder.write("knock.conf", profile);
    let theirs = folder.write("theirs", text);
    let daemon = world.knockd(&format!("[d]\none_time_sequences = {}\n", theirs.display())).start();
    for count in 1..=2 {
        ends(&knock_with(&world, &folder, &["d"]), 0, "");
        daemon.wait_for_times(count, &format!("{CLIENT}: d: OPEN SESAME"));
    }
    assert_eq!(folder.read("ours"), "#000,2000\n#000,4000:udp\n5000\n");
}
