//! The command line of knockd, with the real program: the manners of `getopt_long`, `--check`, and what it says
//! when it refuses.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use knocking::daemon::cli::{USAGE, VERSION};

use crate::support::folder::{Folder, read};
use crate::support::namespace::Namespace;
use crate::support::process::Finished;
use crate::support::world::run;

trials![
    help_and_version,
    unknown_options_are_refused,
    values_must_be_there,
    flags_can_be_joined,
    values_can_be_joined_to_their_option,
    long_options_can_be_shortened,
    values_may_look_like_options_or_be_empty,
    stray_words_are_ignored,
    of_repeated_options_the_last_counts,
    the_configuration_is_read_before_the_interface_is_opened,
    called_knock_it_is_the_client,
    the_journal_gets_no_usage_behind_an_error,
    check_finds_a_file_in_order,
    check_shows_what_was_understood,
    check_refuses_what_a_start_would,
    check_warns,
    check_shows_doors_and_what_makes_them_weak,
    check_warns_of_files_that_others_can_read,
    files_that_others_can_write_are_refused,
    files_that_a_group_can_write_are_taken_with_a_warning,
    check_reads_the_shipped_file,
    check_does_not_touch_anything,
];

const SSH: &str = "[ssh]\nsequence = 9000,7000:udp,8000\ntcpflags = syn\nstart_command = true %IP%\n";
/// What `--check` shows of it.
const SSH_SHOWN: &str = "ssh: 3 knocks (tcp 9000, udp 7000, tcp 8000), stays open\n";

fn knockd(arguments: &[&str]) -> Finished {
    run(&Namespace::new(), env!("CARGO_BIN_EXE_knockd"), arguments)
}

/// Nothing on standard error, this on standard output.
fn assert_ok(finished: &Finished, stdout: &str) {
    assert_eq!((finished.code(), finished.stdout.as_str(), finished.stderr.as_str()), (Some(0), stdout, ""));
}

/// These words on standard error, and the usage.
fn assert_refused(finished: &Finished, stderr: &str) {
    let expected = format!("{stderr}\n");
    assert_eq!((finished.stderr.as_str(), finished.stdout.as_str()), (expected.as_str(), USAGE));
    assert_eq!(finished.code(), Some(1));
}

/// A folder with this configuration, which nobody else can read.
fn with(text: &str) -> (Folder, String) {
    let folder = Folder::new();
    let path = secret(&folder, "knockd.conf", text);
    (folder, path)
}

fn secret(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.write(name, text);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn help_and_version() {
    for words in [["-h"], ["--help"], ["--he"], ["-vh"], ["-hV"]] {
        assert_ok(&knockd(&words), USAGE);
    }
    for words in [["-V"], ["--version"], ["-Vh"]] {
        assert_ok(&knockd(&words), VERSION);
    }
    assert!(VERSION.starts_with(concat!("knockd ", env!("CARGO_PKG_VERSION"), "\nCopyright (C) ")));
    assert!(USAGE.starts_with("usage: knockd [options]\noptions:\n") && USAGE.ends_with("this help\n\n"));
}

fn unknown_options_are_refused() {
    assert_refused(&knockd(&["-x"]), "knockd: invalid option -- 'x'");
    assert_refused(&knockd(&["-vx"]), "knockd: invalid option -- 'x'");
    assert_refused(&knockd(&["-v=1"]), "knockd: invalid option -- '='");
    assert_refused(
        &knockd(&["-F"]),
        "knockd: invalid option -- 'F'; -D prints the packets and why they do not fit",
    );
    assert_refused(&knockd(&["--nonsense"]), "knockd: unrecognized option '--nonsense'");
    assert_refused(&knockd(&["--nonsense=7"]), "knockd: unrecognized option '--nonsense'");
}

fn values_must_be_there() {
    for (word, letter) in [("-i", 'i'), ("-c", 'c'), ("-p", 'p'), ("-g", 'g'), ("-vc", 'c')] {
        assert_refused(&knockd(&[word]), &format!("knockd: option requires an argument -- '{letter}'"));
    }
    for (word, name) in [("--interface", "interface"), ("--config", "config"), ("--logf", "logfile")] {
        assert_refused(&knockd(&[word]), &format!("knockd: option '--{name}' requires an argument"));
    }
    assert_refused(&knockd(&["--verbose=yes"]), "knockd: option '--verbose' doesn't allow an argument");
    // The usage would push the reason off the screen: it follows where knockd 0.8 printed it.
    for (words, why) in [
        (&["--simulate"][..], "option '--simulate' requires an argument"),
        (&["--status=now"], "option '--status' doesn't allow an argument"),
        (&["--json"], "--json and --metrics belong to --status"),
        (&["--status", "--json", "--metrics"], "--json and --metrics exclude each other"),
        (&["--address", "here", "--simulate", "-"], "--address: 'here' is not an IP address"),
    ] {
        let finished = knockd(words);
        assert_eq!((finished.code(), finished.stderr), (Some(1), format!("knockd: {why}\n")), "{words:?}");
        assert_eq!(finished.stdout, "", "{words:?}");
    }
}

fn flags_can_be_joined() {
    let (_folder, path) = with("[options]\ninterface = eth9\n[ssh]\nsequence = 1\nstart_command = true\n");
    // -i lo makes the file's interface a word that is passed over; -D shows what was understood.
    let joined = knockd(&["--check", "-vDi", "lo", "-c", &path]);
    let apart = knockd(&["--check", "-v", "-D", "-i", "lo", "-c", &path]);
    assert_eq!((joined.code(), &joined.stdout), (Some(0), &apart.stdout));
    assert!(joined.stdout.contains("config: ssh: sequence: 1:tcp\n"), "{joined:?}");
    assert!(!joined.stdout.contains("config: interface:"), "{joined:?}");
    assert!(knockd(&["--check", "-Dc", &path]).stdout.contains("config: interface: eth9\n"));
}

fn values_can_be_joined_to_their_option() {
    let (_folder, path) = with(SSH);
    let ok = format!("{path}: ok, 1 door\n{SSH_SHOWN}");
    assert_ok(&knockd(&["--check", &format!("--config={path}")]), &ok);
    assert_ok(&knockd(&["--check", &format!("-c{path}")]), &ok);
    assert_ok(&knockd(&["--check", &format!("-4c{path}")]), &ok);
}

/// As getopt has it: the word after an option that takes one is its value, whatever it looks like.
fn values_may_look_like_options_or_be_empty() {
    for word in ["-V", "-h", "--"] {
        let refused = knockd(&["--check", "-c", word]);
        let wanted = format!("{word}: No such file or directory\n");
        assert!(refused.stderr.ends_with(&wanted), "{}", refused.stderr);
        assert_eq!(refused.code(), Some(1));
    }
    let (_folder, path) = with(SSH);
    assert_ok(
        &knockd(&["--check", "-g", "", "-p", "", "-c", &path]),
        &format!("{path}: ok, 1 door\n{SSH_SHOWN}"),
    );
    let refused = knockd(&["-i", "-x", "-c", &path]);
    assert!(refused.stderr.contains("-x") && !refused.stderr.contains("requires"), "{}", refused.stderr);
    let refused = knockd(&["-c", ""]);
    assert_eq!((refused.code(), refused.stderr.as_str()), (Some(1), ": No such file or directory\n"));
    assert_ok(&knockd(&["--config=", "-h"]), USAGE);
}

fn long_options_can_be_shortened() {
    let (_folder, path) = with(SSH);
    let ok = format!("{path}: ok, 1 door\n{SSH_SHOWN}");
    assert_ok(&knockd(&["--che", "--con", &path, "--verb", "--only"]), &ok);
    assert_ok(&knockd(&["--check", &format!("--co={path}")]), &ok);
    // This was so before there was --check.
    assert_ok(&knockd(&["--che", &format!("--c={path}")]), &ok);
    // These were so before there were --host, --port and --otp.
    assert_ok(&knockd(&["--h"]), USAGE);
    assert_ok(&knockd(&["--check", "--p", "pid", "--o", "-c", &path]), &ok);
    // What may be several options is none.
    for (word, possible) in [("--ver", "'--verbose' '--version'"), ("--d", "'--daemon' '--debug'")] {
        let words = format!("knockd: option '{word}' is ambiguous; possibilities: {possible}");
        assert_refused(&knockd(&[word]), &words);
    }
}

fn stray_words_are_ignored() {
    let (_folder, path) = with(SSH);
    let ok = format!("{path}: ok, 1 door\n{SSH_SHOWN}");
    assert_ok(&knockd(&["stray", "--check", "words", "-c", &path, "here"]), &ok);
    assert_ok(&knockd(&["--check", "-c", &path, "--", "-x", "--nonsense"]), &ok);
}

fn of_repeated_options_the_last_counts() {
    let (_folder, path) = with(SSH);
    let ok = format!("{path}: ok, 1 door\n{SSH_SHOWN}");
    assert_ok(&knockd(&["--check", "--check", "-c", "/nowhere", "-vv", "-v", "--config", &path]), &ok);
    let finished = knockd(&["--check", "-c", &path, "-c", "/nowhere"]);
    assert_eq!(
        (finished.code(), finished.stderr.as_str()),
        (Some(1), "/nowhere: No such file or directory\n")
    );
}

fn the_configuration_is_read_before_the_interface_is_opened() {
    assert_refused(&knockd(&["-c", "/nowhere", "-i", "none0"]), "/nowhere: No such file or directory");
    let (_folder, path) = with("[ssh]\nsequence = 70000\n");
    assert_refused(
        &knockd(&["-c", &path, "-i", "none0"]),
        "config: section ssh: port 70000 is invalid: a port is a number from 0 to 65535 (line 2)",
    );
    let (_folder, path) = with(SSH);
    let finished = knockd(&["-c", &path, "-i", "none0"]);
    assert!(finished.stderr.starts_with("could not open none0: "), "{finished:?}");
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(1), ""));
}

fn called_knock_it_is_the_client() {
    let folder = Folder::new();
    let link = folder.join("knock");
    symlink(env!("CARGO_BIN_EXE_knockd"), &link).unwrap();
    let as_client = run(&Namespace::new(), link.to_str().unwrap(), &["-V"]);
    assert!(as_client.stdout.starts_with("knock "), "{as_client:?}");
    assert_eq!(as_client.stdout, run(&Namespace::new(), env!("CARGO_BIN_EXE_knock"), &["-V"]).stdout);
    for name in ["knocker", "port-knockd"] {
        let link = folder.join(name);
        symlink(env!("CARGO_BIN_EXE_knockd"), &link).unwrap();
        assert_ok(&run(&Namespace::new(), link.to_str().unwrap(), &["-V"]), VERSION);
    }
}

fn the_journal_gets_no_usage_behind_an_error() {
    let (_folder, path) = with("[ssh]\nsequence\n");
    // As systemd does it: both are one stream, and the variable says which.
    let script = "{ JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2)$1 \"$2\" -c \"$3\"; } >said 2>&1; code=$?; cat said; exit $code";
    let start = |other: &str, path: &str| {
        let words = ["-c", script, "sh", other, env!("CARGO_BIN_EXE_knockd"), path];
        let finished = run(&Namespace::new(), "sh", &words);
        assert_eq!(finished.code(), Some(1), "{finished:?}");
        finished.stdout
    };
    let said = start("", &path);
    assert!(said.starts_with("config: line 2: ") && said.matches('\n').count() == 1, "{said}");
    assert_eq!(start("", "/nonexistent"), "/nonexistent: No such file or directory\n");
    // The variable of somebody else's stream.
    assert!(start("0", &path).ends_with(USAGE));
}

fn check_finds_a_file_in_order() {
    let (folder, path) = with(SSH);
    assert_ok(&knockd(&["--check", "-c", &path]), &format!("{path}: ok, 1 door\n{SSH_SHOWN}"));
    let two = secret(&folder, "two.conf", "[a]\nsequence = 1:udp\n[b]\nsequence = 2:udp\n");
    let shown = "a: 1 knock (udp 1), runs nothing\nb: 1 knock (udp 2), runs nothing\n";
    assert_ok(&knockd(&["--check", "-c", &two]), &format!("{two}: ok, 2 doors\n{shown}"));
}

fn check_shows_what_was_understood() {
    let (_folder, path) = with(SSH);
    let understood = "config: new section: 'ssh'\nconfig: ssh: sequence: 9000:tcp,7000:udp,8000:tcp\n\
                      config: tcp flag: SYN\nconfig: ssh: start_command: true %IP%\n";
    assert_ok(
        &knockd(&["--check", "-D", "-c", &path]),
        &format!("{understood}{path}: ok, 1 door\n{SSH_SHOWN}"),
    );
}

fn check_refuses_what_a_start_would() {
    let (folder, path) = with("[ssh]\nsequence = 1\nnonsense = 1\n");
    let refused = |path: &str, words: &str| {
        let finished = knockd(&["--check", "-c", path]);
        let expected = (Some(1), "", format!("{words}\n"));
        assert_eq!((finished.code(), finished.stdout.as_str(), finished.stderr), expected);
    };
    refused(&path, "config: line 3: syntax error: 'nonsense' is not a directive");
    refused("/nowhere", "/nowhere: No such file or directory");
    refused(&format!("{path}/below"), &format!("{path}/below: Not a directory"));
    let once = secret(&folder, "once.conf", "[once]\none_time_sequences = /nowhere\n");
    refused(&once, "/nowhere: No such file or directory: one_time_sequences of line 2");
    // An option of a patched knockd 0.8.
    let (_folder, fine) = with(SSH);
    assert_ok(
        &knockd(&["-s", "--check", "--save-mem", "-c", &fine]),
        &format!("{fine}: ok, 1 door\n{SSH_SHOWN}"),
    );
}

fn check_warns() {
    let folder = Folder::new();
    let list = secret(&folder, "list", " 1,2\n 3,4\n");
    let warned = |text: &str, warnings: &[&str]| {
        let path = secret(&folder, "knockd.conf", text);
        let finished = knockd(&["--check", "-c", &path]);
        let warnings: Vec<String> = warnings.iter().map(|it| it.replace('@', &list)).collect();
        let got: Vec<&str> = finished.stderr.lines().collect();
        assert_eq!(got, warnings, "{text}");
        assert!(finished.code() == Some(0) && finished.stdout.contains(": ok, "), "{finished:?}");
    };
    warned("", &["warning: There is no door: nothing will ever be opened."]);
    warned(
        "[a]\nsequence = 1\n[b]\nsequence = 1,2\n",
        &[
            "warning: Door 'b' begins with the whole sequence of door 'a': whoever opens 'b' opens 'a' on the way.",
        ],
    );
    warned(
        "[a]\nsequence = 1\nstop_command = x\n",
        &["warning: Door 'a' has a stop command but no start command: neither will ever be run."],
    );
    warned(
        "[a]\nsequence = 1,2\nseq_timeout = 0\n",
        &["warning: Door 'a' can never open: its seq_timeout leaves no time for a second knock."],
    );
    warned(
        "[a]\nsequence = ssh\n",
        &[
            "warning: A port in the sequence of door 'a' is not a number, or 0; 'ssh' is read as port 0: write the number of each port, as in 7000, 8000:udp.",
        ],
    );
    warned(
        &format!("[a]\none_time_sequences = {list}\n"),
        &["warning: The one-time file of door 'a' has 2 usable lines left (@)."],
    );
}

/// What is said of doors as many have them, and each door in a line: on standard output.
fn check_shows_doors_and_what_makes_them_weak() {
    let folder = Folder::new();
    let list = secret(&folder, "list", "7000:udp,9000:udp,8000:udp\n1\n2\n3\n4\n");
    let shown = |text: &str, lines: &[&str]| {
        let path = secret(&folder, "knockd.conf", text);
        let finished = knockd(&["--check", "-c", &path]);
        assert_eq!(finished.code(), Some(0), "{finished:?}");
        let (remarks, doors) = finished.stdout.split_once(&format!("{path}: ok, ")).expect("the verdict");
        let got: Vec<&str> = remarks.lines().chain(doors.lines().skip(1)).collect();
        assert_eq!(got, lines, "{text}");
    };
    shown(
        "[a]\nsequence = 19132:udp\nstart_command = true %IP%\nstop_command = true $KNOCKD_IP\n",
        &[
            "warning: One packet opens door 'a': every scan does, and a forged packet does for any address; give it more knocks, unless it only wakes something up.",
            "a: 1 knock (udp 19132), open 10 s",
        ],
    );
    shown(
        "[a]\nsequence = 7000:udp,7500:udp,8000:udp\n[b]\nsequence = 9:udp,8:udp,7:udp\n",
        &[
            "warning: The ports of door 'a' rise, so that a scan in that order opens it; put them out of order.",
            "warning: The ports of door 'b' fall, so that a scan in that order opens it; put them out of order.",
            "warning: All ports of door 'b' are below 1024, which scans try first; take ports from 1024 to 65535.",
            "a: 3 knocks (udp 7000, udp 7500, udp 8000), runs nothing",
            "b: 3 knocks (udp 9, udp 8, udp 7), runs nothing",
        ],
    );
    shown(
        "[a]\nsequence = 9000,7000,8000\nstart_command = /no/such/program\nrepeat = 2 in 20\n",
        &[
            "warning: Every TCP segment is a knock at door 'a', those of connections in use too, as it has no tcpflags; write tcpflags = syn.",
            "warning: The start_command of door 'a' has neither %IP% nor KNOCKD_IP: what it does, it does for everybody; open for %IP% only, unless a script that it calls does that.",
            "warning: A command of door 'a' begins with a program that is not there, or that nobody can run: /no/such/program.",
            "a: 3 knocks (tcp 9000, tcp 7000, tcp 8000), 2 times in 20 s, stays open",
        ],
    );
    shown(
        "[a]\notp = 8RO/dS8KDJDppNpNzyGhrkw3,60,20000,off,tcp\ntcpflags = syn\n[b]\notp = mjslTNIrZXzWww/vzkll1525,30,65500,on,udp,udp,udp\n",
        &[
            "warning: A scan of 256 ports opens the OTP of door 'a', which has one port; name more protocols, and on.",
            "a: OTP, 1 knock in 20000-20255, a new list every 60 s, runs nothing",
            "b: OTP, 6 knocks in 65500-65535 and 0-219, a new list every 30 s, runs nothing",
        ],
    );
    let open = folder.join("everybody");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, PermissionsExt::from_mode(0o1777)).unwrap();
    let open = open.display();
    shown(
        &format!("[options]\npidfile = {open}/pid\n[a]\none_time_sequences = {list}\n"),
        &[
            &format!(
                "warning: The pid file {open}/pid is in a folder that everybody can write, so that others can be there first; /run or /var/lib is better."
            ),
            "a: one of 5 lines left, runs nothing",
        ],
    );
}

fn check_warns_of_files_that_others_can_read() {
    let folder = Folder::new();
    let list = secret(&folder, "list", "1\n2\n3\n4\n5\n");
    let path = secret(&folder, "knockd.conf", &format!("[a]\none_time_sequences = {list}\n"));
    for (file, mode, is_open) in [
        (&path, 0o600, false),
        (&path, 0o644, true),
        (&path, 0o640, true),
        (&path, 0o711, false),
        (&list, 0o604, true),
    ] {
        std::fs::set_permissions(file, PermissionsExt::from_mode(mode)).unwrap();
        let words = format!(
            "warning: {file} holds the secret of a door and can be read by others; chmod 600 {file} keeps it.\n"
        );
        let finished = knockd(&["--check", "-c", &path]);
        assert_eq!(finished.stderr, if is_open { words } else { String::new() }, "{file} {mode:o}");
        assert_eq!(finished.code(), Some(0));
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    }
}

/// Anyone who can write one of them decides what runs as root.
fn files_that_others_can_write_are_refused() {
    let folder = Folder::new();
    let inner = folder.join("inner");
    std::fs::create_dir(&inner).unwrap();
    let list = secret(&folder, "inner/list", "1\n2\n3\n4\n5\n");
    let more = secret(&folder, "more", &format!("[a]\none_time_sequences = {list}\n"));
    let path = secret(&folder, "knockd.conf", &format!("[options]\ninclude = {more}\n"));
    let folder = folder.path().to_str().unwrap();
    let include = format!("config: line 2: include {more}");
    let of = ": one_time_sequences of line 2";
    for (changed, mode, sentence) in [
        (&path, 0o602, format!("{path}: everybody can write this file; chmod go-w {path}")),
        (&more, 0o602, format!("{include}: everybody can write this file; chmod go-w {more}")),
        (&more, 0o620, format!("{include}: a group can write this file; chmod g-w {more}")),
        (&list, 0o602, format!("{more}: {list}: everybody can write this file; chmod go-w {list}{of}")),
        (
            &format!("{folder}/inner"),
            0o777,
            format!(
                "{more}: {list}: everybody can write the folder {folder}/inner, and so replace what is in it; \
                 chmod go-w {folder}/inner{of}"
            ),
        ),
    ] {
        let before = std::fs::metadata(changed).unwrap().permissions();
        std::fs::set_permissions(changed, PermissionsExt::from_mode(mode)).unwrap();
        for words in [&["--check", "-c", &path][..], &["-i", "lo", "-c", &path]] {
            let finished = knockd(words);
            assert_eq!(finished.stderr, format!("{sentence}\n"), "{changed} {mode:o}");
            assert_eq!(finished.code(), Some(1));
        }
        std::fs::set_permissions(changed, before).unwrap();
    }
    std::fs::set_permissions(&inner, PermissionsExt::from_mode(0o1777)).unwrap();
    assert_eq!(knockd(&["--check", "-c", &path]).stderr, "");
}

/// knockd 0.8 took them.
fn files_that_a_group_can_write_are_taken_with_a_warning() {
    let folder = Folder::new();
    let list = secret(&folder, "list", "1\n2\n3\n4\n5\n");
    let path = secret(&folder, "knockd.conf", &format!("[a]\none_time_sequences = {list}\n"));
    for file in [&path, &list] {
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o620)).unwrap();
        let finished = knockd(&["--check", "-c", &path]);
        let warning = format!(
            "warning: {file}: a group can write this file; chmod g-w {file}. Its members decide which commands knockd runs.\n"
        );
        assert_eq!((finished.code(), finished.stderr), (Some(0), warning));
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    }
}

fn check_reads_the_shipped_file() {
    let (_folder, path) = with(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("knockd.conf")));
    let finished = knockd(&["--check", "-c", &path]);
    assert!(finished.code() == Some(0) && finished.stdout.contains(": ok, "), "{finished:?}");
    assert_eq!(finished.stderr, "");
}

/// Neither an interface that is not there matters, nor is a log or a pid file made or a line struck.
fn check_does_not_touch_anything() {
    let folder = Folder::new();
    let list = secret(&folder, "list", "1\n2\n3\n4\n5\n");
    let (log, pid) = (folder.join("log"), folder.join("pid"));
    let text = format!(
        "[options]\nlogfile = {}\npidfile = {}\n[a]\none_time_sequences = {list}\n",
        log.display(),
        pid.display()
    );
    let path = secret(&folder, "knockd.conf", &text);
    let finished = knockd(&["--check", "-d", "-i", "none0", "-c", &path]);
    assert!(finished.code() == Some(0) && finished.stderr.is_empty(), "{finished:?}");
    assert!(finished.stdout.ends_with("ok, 1 door\na: one of 5 lines left, runs nothing\n"), "{finished:?}");
    assert!(!log.exists() && !pid.exists());
    assert_eq!(folder.read("list"), "1\n2\n3\n4\n5\n");
}
