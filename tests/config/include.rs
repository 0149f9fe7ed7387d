//! A configuration of several files.

use std::fs;

use nix::sys::signal::Signal;

use crate::support::daemon::Knockd;
use crate::support::packet::tcp;
use crate::support::world::World;
use crate::support::{holds_within, pause, seconds};

trials![
    included_files_are_read_in_order_of_their_names,
    include_paths_are_relative_to_the_including_file,
    errors_name_file_and_line,
    an_error_in_the_including_file_names_it_too,
    files_that_cannot_be_included_are_refused,
    sighup_reads_included_files_again,
    check_warns_of_included_files_that_others_can_read,
    a_seed_is_not_shared_across_files,
];

/// A daemon whose folder has these files in `doors.d`.
fn with_files<'w>(world: &'w World, files: &[(&str, &str)]) -> Knockd<'w> {
    let knockd = world.knockd("[first]\nsequence = 1\ncommand = true").options("include = doors.d/*.conf");
    fs::create_dir(knockd.folder().join("doors.d")).unwrap();
    for (name, text) in files {
        knockd.folder().write(&format!("doors.d/{name}"), text);
    }
    knockd
}

fn included_files_are_read_in_order_of_their_names() {
    let world = World::new();
    let files = [
        ("20-b.conf", "[b]\nsequence = 2\ncommand = true"),
        ("10-a.conf", "[a]\nsequence = 2\ncommand = true"),
        ("30-c.conf.off", "nonsense"),
        (".hidden.conf", "nonsense"),
    ];
    let daemon = with_files(&world, &files).start();
    world.send([tcp(1), tcp(2)]);
    daemon.wait_for("b: running command");
    let opened: Vec<String> = daemon.lines().into_iter().filter(|line| line.contains("SESAME")).collect();
    let wanted = ["first", "a", "b"].map(|door| format!("10.77.0.2: {door}: OPEN SESAME"));
    assert_eq!(opened, wanted);
}

fn include_paths_are_relative_to_the_including_file() {
    let world = World::new();
    let files = [("a.conf", "[options]\ninclude = more/b\n[a]\nsequence = 3")];
    let knockd = with_files(&world, &files);
    fs::create_dir(knockd.folder().join("doors.d/more")).unwrap();
    knockd.folder().write("doors.d/more/b", "[b]\nsequence = 4\ncommand = true");
    let daemon = knockd.start();
    world.send([tcp(4)]);
    daemon.wait_for("b: running command");
}

fn errors_name_file_and_line() {
    let world = World::new();
    let refusals = [
        (
            "[a]\nsequence = 1\nnonsense = 1\n",
            "a.conf: config: line 3: syntax error: 'nonsense' is not a directive",
        ),
        (
            "sequence = 1\n",
            "a.conf: config: line 1: all directives must belong to a section: 'sequence' stands before the first one, such as [options]",
        ),
        (
            "[a]\ncommand = true\n",
            "a.conf: error: section 'a' has an empty knock sequence (line 1): write Sequence = PORT, PORT, ... or One_Time_Sequences or OTP",
        ),
    ];
    for (text, message) in refusals {
        let knockd = with_files(&world, &[("a.conf", text)]);
        let message = format!("{}/doors.d/{message}\n", knockd.folder().path().display());
        let refused = knockd.finish();
        assert_eq!((refused.code(), refused.stderr), (Some(1), message));
    }
}

/// With an include, the first file is one of several.
fn an_error_in_the_including_file_names_it_too() {
    let world = World::new();
    let knockd = with_files(&world, &[("a.conf", "[a]\nsequence = 1\n")]).sections("\nnonsense = 1\n");
    let folder = knockd.folder().path().display().to_string();
    let refused = knockd.finish();
    assert!(refused.stderr.starts_with(&format!("{folder}/knockd.conf: config: line ")), "{refused:?}");
}

fn files_that_cannot_be_included_are_refused() {
    let world = World::new();
    for (pattern, message) in [
        ("@/none.conf", "include @/none.conf: No such file or directory"),
        ("@/knockd.conf", "include @/knockd.conf: is read already"),
        ("knockd.con*", "include @/knockd.conf: is read already"),
        ("@/***", "include @/***: wildcards are either regular `*` or recursive `**`"),
    ] {
        let knockd = world.knockd("").file(&format!("[options]\n\ninclude = {pattern}\n"));
        let folder = knockd.folder().path().display().to_string();
        let message = format!("config: line 3: {}\n", message.replace('@', &folder));
        let refused = knockd.finish();
        assert_eq!((refused.code(), refused.stderr), (Some(1), message));
    }
    // A pattern that matches no file is fine.
    let daemon = with_files(&world, &[]).start();
    world.send([tcp(1)]);
    daemon.wait_for("first: running command");
}

fn sighup_reads_included_files_again() {
    let world = World::new();
    let daemon = with_files(&world, &[("a.conf", "[a]\nsequence = 2\ncommand = echo a >> @/x")]).start();
    daemon.folder.write("doors.d/a.conf", "[a]\nsequence = 5\ncommand = true");
    daemon.folder.write("doors.d/b.conf", "[b]\nsequence = 6\ncommand = true");
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("re-reading config file");
    pause(0.5);
    world.send([tcp(5), tcp(6)]);
    daemon.wait_for("a: running command: true");
    daemon.wait_for("b: running command: true");
    // With a broken file the old configuration stays.
    daemon.folder.write("doors.d/b.conf", "[b]\nsequence = 70000");
    daemon.kill(Signal::SIGHUP);
    daemon.wait_for("doors.d/b.conf: config: section b:");
    daemon.wait_for("keeping the configuration that was in force");
    world.send([tcp(6)]);
    daemon.wait_for_times(2, "b: running command: true");
}

fn check_warns_of_included_files_that_others_can_read() {
    let world = World::new();
    let knockd = with_files(&world, &[("a.conf", "[a]\nsequence = 2")]);
    let path = knockd.folder().join("doors.d/a.conf").display().to_string();
    let daemon = knockd.arguments(&["--check"]).launch();
    let warning = format!("{path} holds the secret of a door and can be read by others");
    assert!(holds_within(seconds(30.0), || daemon.stderr().contains(&warning)), "{}", daemon.said());
}

/// Sections of one name are one door to their owner, wherever they stand.
fn a_seed_is_not_shared_across_files() {
    let world = World::new();
    let otp = |name: &str| format!("[{name}]\notp = lvnhd1FzTjXFNuCCZk2QpWyB,60,20000,on,tcp,udp\n");
    let (a, b) = (otp("a"), format!("\n{}", otp("b")));
    let finished = with_files(&world, &[("a.conf", &a), ("b.conf", &b)]).finish();
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    let told = "/doors.d/b.conf: config: section b: the seed of otp is that of door a (line 2)";
    assert!(finished.stderr.contains(told), "{finished:?}");
    assert!(!finished.stderr.contains("lvnhd1"), "{finished:?}");
    let daemon = with_files(&world, &[("a.conf", &a), ("b.conf", &a)]).start();
    daemon.wait_for("listening on");
}
