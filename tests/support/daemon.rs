//! The real daemon, started, watched and ended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::folder::{Folder, read};
use super::golden::difference;
use super::packet::udp;
use super::process::{self, Finished, Process};
use super::world::{SERVER_LINK, World};
use super::{holds_within, seconds};

/// How long something may take that is to happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The knocker at the door `sync`.
const SYNC: &str = "10.77.0.99";

/// A daemon to be started.
pub struct Knockd<'w> {
    world: &'w World,
    pub folder: Folder,
    sections: String,
    options: String,
    whole: Option<String>,
    interface: Option<String>,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    replaced: Vec<(PathBuf, String, PathBuf)>,
    through: Vec<OsString>,
    log: bool,
    sync: bool,
}

impl<'w> Knockd<'w> {
    pub(super) fn new(world: &'w World, sections: &str) -> Knockd<'w> {
        Knockd {
            world,
            folder: Folder::new(),
            sections: sections.to_owned(),
            options: String::new(),
            whole: None,
            interface: Some(SERVER_LINK.to_owned()),
            arguments: Vec::new(),
            variables: Vec::new(),
            replaced: Vec::new(),
            through: Vec::new(),
            log: true,
            sync: true,
        }
    }

    /// The folder the daemon starts in; `@` in its file.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// More sections.
    pub fn sections(mut self, text: &str) -> Self {
        self.sections += text;
        self
    }

    /// More lines for [options].
    pub fn options(mut self, lines: &str) -> Self {
        self.options += lines;
        self.options += "\n";
        self
    }

    /// The whole file, without a log and the door `sync`; only `@` is still replaced.
    pub fn file(mut self, text: &str) -> Self {
        self.whole = Some(text.to_owned());
        self.log = false;
        self.sync = false;
        self
    }

    /// More words for the command line.
    pub fn arguments(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(OsString::from));
        self
    }

    /// Another interface to listen on; None leaves `-i` out.
    pub fn interface(mut self, name: Option<&str>) -> Self {
        self.interface = name.map(str::to_owned);
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Shows the daemon the file `by` as `name` in `folder`; all else in that folder stays.
    pub fn replacing(mut self, folder: &str, name: &str, by: &Path) -> Self {
        self.replaced.push((folder.into(), name.to_owned(), by.to_owned()));
        self
    }

    /// Starts it through a command that executes the daemon: `env -i`, `nice`.
    pub fn through(mut self, words: &[&str]) -> Self {
        self.through.extend(words.iter().map(OsString::from));
        self
    }

    pub fn without_log(mut self) -> Self {
        self.log = false;
        self
    }

    /// Without the door `sync`: nothing but the given sections; `sync()` and `expect()` cannot be used then.
    pub fn without_sync(mut self) -> Self {
        self.sync = false;
        self
    }

    /// Starts it and waits until it listens.
    #[track_caller]
    pub fn start(self) -> RunningDaemon<'w> {
        let daemon = self.launch();
        daemon.wait_until_listening();
        daemon
    }

    /// Starts it with `-d` and waits until the daemon in the background listens.
    #[track_caller]
    pub fn start_in_background(self) -> RunningDaemon<'w> {
        let mut daemon = self.arguments(&["-d"]).launch();
        let status = process::wait(&mut daemon.child, PATIENCE).expect("-d does not go to the background");
        assert_eq!(status.code(), Some(0), "exit code of the starting process; {}", daemon.said());
        let pid_file = daemon.folder.join("pid");
        assert!(holds_within(PATIENCE, || read(&pid_file).ends_with('\n')), "no pid file; {}", daemon.said());
        daemon.pid = read(&pid_file).trim().parse().expect("a number in the pid file");
        daemon.wait_until_listening();
        daemon
    }

    /// Starts it and lets it run to its end.
    #[track_caller]
    pub fn finish(self) -> Finished {
        let mut daemon = self.launch();
        let Some(status) = process::wait(&mut daemon.child, PATIENCE) else {
            panic!("the daemon does not end; {}", daemon.said());
        };
        Finished { status, stdout: daemon.stdout(), stderr: daemon.stderr() }
    }

    /// Starts it and waits for nothing.
    pub fn launch(self) -> RunningDaemon<'w> {
        let log = self.folder.join("knockd.log");
        let config = self.folder.write("knockd.conf", self.text(&log));
        let file = |name| File::create(self.folder.join(name)).expect("a file for the output");
        let mut words = self.through.iter().cloned().chain([program()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        if let Some(interface) = &self.interface {
            command.args(["-i", interface]);
        }
        // Its own pid file, never the machine's.
        command.arg("-c").arg(&config).arg("-p").arg(self.folder.join("pid")).args(&self.arguments);
        command.env("LC_ALL", "C").envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr"));
        let child = self.world.server.run(|| {
            replace(&self.folder, &self.replaced);
            command.spawn()
        });
        let child = child.unwrap_or_else(|e| panic!("starting {}: {e}", program().display()));
        let pid = child.id().cast_signed();
        RunningDaemon { world: self.world, child, pid, folder: self.folder, config, log, sync: self.sync }
    }

    fn text(&self, log: &Path) -> String {
        let text = self.whole.clone().unwrap_or_else(|| {
            let log = if self.log { format!("logfile = {}", log.display()) } else { String::new() };
            let sync = if self.sync { "[sync]\nsequence = 65000:udp" } else { "" };
            // Tests sync more often than strangers may open a door of one knock.
            let rate = if self.sync && !is_original() { "open_rate = 0" } else { "" };
            format!("[options]\n{log}\n{}\n{}\n{sync}\n{rate}\n", self.options, self.sections)
        });
        text.replace('@', &self.folder.path().to_string_lossy())
    }
}

/// The daemon that is tested.
pub fn program() -> OsString {
    std::env::var_os("KNOCKD_UNDER_TEST").unwrap_or_else(|| env!("CARGO_BIN_EXE_knockd").into())
}

/// Whether the daemon that is tested is knockd 0.8, which does not know our directives.
fn is_original() -> bool {
    static IS_ORIGINAL: LazyLock<bool> = LazyLock::new(|| {
        let said = Command::new(program()).arg("-V").output().expect("the daemon's version");
        String::from_utf8_lossy(&said.stdout).contains("knockd 0.8")
    });
    *IS_ORIGINAL
}

/// Gives the calling thread its own mounts, in which other files replace those of system folders.
fn replace(scratch: &Folder, replaced: &[(PathBuf, String, PathBuf)]) {
    let none = None::<&str>;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    for (number, (folder, name, by)) in replaced.iter().enumerate() {
        if number == 0 {
            unshare(CloneFlags::CLONE_NEWNS).expect("a new mount namespace");
        }
        let (real, ours) = (scratch.join(&format!("real-{number}")), scratch.join(&format!("ours-{number}")));
        fs::create_dir(&real).and_then(|()| fs::create_dir(&ours)).expect("folders to mount on");
        mount(Some(folder), &real, none, bind, none).expect("binding a system folder");
        for entry in fs::read_dir(&real).expect("a system folder").flatten() {
            if entry.file_name().to_str() != Some(name) {
                symlink(entry.path(), ours.join(entry.file_name())).expect("a link to a system file");
            }
        }
        symlink(by, ours.join(name)).expect("a link to our file");
        mount(Some(&ours), folder, none, bind, none).expect("binding our folder");
    }
}

/// A running daemon. Dropping it ends the daemon and everything that it started.
pub struct RunningDaemon<'w> {
    world: &'w World,
    child: Child,
    /// The daemon's main process.
    pub pid: i32,
    pub folder: Folder,
    pub config: PathBuf,
    pub log: PathBuf,
    sync: bool,
}

impl RunningDaemon<'_> {
    /// The log without timestamps, empty lines, the start line and the lines of the door `sync`.
    #[track_caller]
    pub fn lines(&self) -> Vec<String> {
        lines_of(&self.log)
    }

    /// The whole log.
    pub fn raw_log(&self) -> String {
        read(&self.log)
    }

    pub fn stdout(&self) -> String {
        self.folder.read("stdout")
    }

    /// Standard output, without the lines about what the watcher or the resolver could not give up: an ordinary user's
    /// namespace has no other user that they could become.
    pub fn stdout_but_for_confinement(&self) -> String {
        let is_one = |line: &&str| ["watcher: ", "resolver: "].iter().any(|name| line.starts_with(name));
        self.stdout().split_inclusive('\n').filter(|line| !is_one(line)).collect()
    }

    pub fn stderr(&self) -> String {
        self.folder.read("stderr")
    }

    /// The text of a file in the daemon's folder; empty if there is none.
    pub fn read(&self, name: &str) -> String {
        self.folder.read(name)
    }

    /// Waits until the daemon has processed all packets sent before, by knocking at the door `sync`.
    #[track_caller]
    pub fn sync(&self) {
        assert!(self.sync, "this daemon has no door to sync with");
        let opened = || self.raw_log().matches(&format!("{SYNC}: sync: OPEN SESAME")).count();
        let before = opened();
        // Behind a flood, the kernel may drop it.
        let is_answered = (0..3).any(|_| {
            self.world.send([udp(65000).from(SYNC)]);
            holds_within(seconds(10.0), || opened() > before)
        });
        assert!(is_answered, "the daemon does not answer the sync knock; {}", self.said());
    }

    /// After a sync, the log must be exactly these lines (in any indentation), but for those `lines` leaves out.
    #[track_caller]
    pub fn expect(&self, wanted: &str) {
        self.sync();
        self.expect_log(wanted);
    }

    /// The same without a sync.
    #[track_caller]
    pub fn expect_log(&self, wanted: &str) {
        let wanted: Vec<&str> = wanted.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let same = holds_within(PATIENCE, || self.lines() == wanted);
        assert!(same, "the log differs: {}", difference(&wanted.join("\n"), &self.lines().join("\n")));
    }

    /// Waits for a log line that contains this.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        self.wait_for_times(1, text);
    }

    /// Waits for `count` such lines.
    #[track_caller]
    pub fn wait_for_times(&self, count: usize, text: &str) {
        let there = || lines_with_start(&self.log).iter().filter(|line| line.contains(text)).count();
        let enough = holds_within(PATIENCE, || there() >= count);
        assert!(enough, "{} of {count} log lines with {text:?}; {}", there(), self.said());
    }

    /// Waits until a file in the daemon's folder has this text.
    #[track_caller]
    pub fn wait_for_file(&self, name: &str, text: &str) {
        let same = holds_within(PATIENCE, || self.read(name) == text);
        assert!(same, "{name} is {:?}, not {text:?}; {}", self.read(name), self.said());
    }

    pub fn kill(&self, signal: Signal) {
        assert!(process::signal(self.pid, signal), "there is no daemon to send {signal} to");
    }

    /// Sends SIGTERM; returns the exit code.
    #[track_caller]
    pub fn stop(&mut self) -> Option<i32> {
        self.kill(Signal::SIGTERM);
        self.wait()
    }

    /// Waits for the end of the starting process (without `-d`, the daemon); returns its exit code, or None if
    /// a signal ended it.
    #[track_caller]
    pub fn wait(&mut self) -> Option<i32> {
        match process::wait(&mut self.child, PATIENCE) {
            Some(status) => status.code(),
            None => panic!("the daemon does not end; {}", self.said()),
        }
    }

    /// Whether the starting process still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("waiting for the daemon").is_none()
    }

    /// The processes below the daemon's main process, zombies included.
    pub fn descendants(&self) -> Vec<Process> {
        process::descendants(self.pid)
    }

    /// The process that faces the network, if there is one now.
    pub fn watcher(&self) -> Option<i32> {
        self.role("watcher")
    }

    /// The process that closes doors if the main process cannot, if there is one now.
    pub fn heir(&self) -> Option<i32> {
        self.role("heir")
    }

    fn role(&self, role: &str) -> Option<i32> {
        let is_one = |it: &Process| {
            let words = fs::read(format!("/proc/{}/cmdline", it.pid)).unwrap_or_default();
            it.parent == self.pid && words.starts_with(format!("knockd: {role}\0").as_bytes())
        };
        self.descendants().into_iter().find(is_one).map(|it| it.pid)
    }

    /// Kills the watcher, and waits until another one listens.
    #[track_caller]
    pub fn replace_watcher(&self) {
        let sockets = || {
            let text = fs::read_to_string(format!("/proc/{}/net/packet", self.pid)).unwrap_or_default();
            // Those that are bound to an interface: fields are sk, RefCnt, Type, Proto, Iface...
            text.lines().skip(1).filter(|line| line.split_whitespace().nth(3) != Some("0000")).count()
        };
        let (before, listening) = (self.watcher().expect("a watcher"), sockets());
        process::end(before);
        let is_replaced = || self.watcher().is_some_and(|pid| pid != before) && sockets() >= listening;
        assert!(holds_within(PATIENCE, is_replaced), "no other watcher listens; {}", self.said());
    }

    /// All its output so far, for failure messages.
    pub fn said(&self) -> String {
        format!("log: {:?} stdout: {:?} stderr: {:?}", self.raw_log(), self.stdout(), self.stderr())
    }

    #[track_caller]
    fn wait_until_listening(&self) {
        let listens = || (self.raw_log() + &self.stdout()).contains("listening on");
        let started = holds_within(PATIENCE, || listens() || !process::alive(self.pid)) && listens();
        assert!(started, "the daemon does not listen; {}", self.said());
    }
}

impl Drop for RunningDaemon<'_> {
    fn drop(&mut self) {
        let family = self.descendants();
        for pid in family.iter().map(|process| process.pid).chain([self.pid]) {
            if process::network_of(pid).is_some_and(|network| self.world.server.inode() == network) {
                process::end(pid);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The log lines of any file, as by `RunningDaemon::lines`.
#[track_caller]
pub fn lines_of(path: &Path) -> Vec<String> {
    let mut lines = lines_with_start(path);
    // Each start of a test with one-time passwords is a first one.
    let is_start = |line: &str| {
        line.starts_with("starting up, listening on") || line.starts_with("there was no state file")
    };
    lines.retain(|line| !line.contains(": sync: ") && !is_start(line));
    lines
}

#[track_caller]
fn lines_with_start(path: &Path) -> Vec<String> {
    let text = read(path);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter(|line| !line.is_empty()).map(|line| without_stamp(line).to_owned()).collect()
}

/// `[2026-11-22 13:05] text` without its timestamp.
#[track_caller]
fn without_stamp(line: &str) -> &str {
    let shape = |c: char| if c.is_ascii_digit() { '0' } else { c };
    let stamp: String = line.chars().take(18).map(shape).collect();
    assert!(stamp == "[0000-00-00 00:00]", "a log line without its timestamp: {line:?}");
    line[18..].strip_prefix(' ').unwrap_or(&line[18..])
}
