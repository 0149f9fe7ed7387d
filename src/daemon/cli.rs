//! The command line of knockd.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::command_line::{self, CommandLine, CommandLineError, OptionAction, OptionSpec, UsageError};
use crate::new_door::{LockKind, NewDoorRequest};

/// The usage text, for `-h` and after errors.
pub const USAGE: &str = "\
usage: knockd [options]
options:
  -i, --interface <int>  network interface to listen on (default \"eth0\")
  -d, --daemon           run as a daemon
  -c, --config <file>    use an alternate config file
  -D, --debug            output debug messages
  -l, --lookup           lookup DNS names (may be a security risk)
  -p, --pidfile          use an alternate pidfile
  -g, --logfile          use an alternate logfile
  -v, --verbose          be verbose
  -4, --only-ip-v4       do not track ipv6
      --single           exit with 1 if another knockd runs with this pid or state file
      --check            check the config file, say what looks wrong, and exit
      --status           show how a running knockd is, and exit
      --json             with --status: as JSON
      --metrics          with --status: as metrics for Prometheus
      --simulate <file>  say what knockd would do about a capture, and exit
      --address <list>   with --simulate: the addresses of the host
      --new-door <name>  print a new door for both ends, and exit
      --otp              with --new-door, one-time passwords, not a sequence
      --spa              with --new-door, single packets
      --host <host>      with --new-door, what clients call this host
      --port <port>      with --new-door, the TCP port behind the door (22)
      --web[=<address>]  with --new-door, for browsers, by knock.html
      --qr               with --new-door, QR codes as well
      --all-directives   list the directives of the config file, and exit
      --guard            set up the firewall table of Guard, and exit
      --unguard          remove the firewall table of Guard, and exit
  -V, --version          display version
  -h, --help             this help

";

/// The text that `-V` prints.
pub const VERSION: &str = concat!(
    "knockd ",
    env!("CARGO_PKG_VERSION"),
    "\nCopyright (C) 2026 The knockd maintainers (MIT OR Apache-2.0)\n",
);

/// The default address of the page that knocks (`--web`).
const DEFAULT_PAGE: &str = "knock.html";

/// The default config file.
pub const CONFIG_FILE: &str = "/etc/knockd.conf";

/// The default pid file.
pub const PID_FILE: &str = "/var/run/knockd.pid";

/// The output format of `--status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFormat {
    /// A table, for people.
    Table,
    /// `--json`.
    Json,
    /// `--metrics`.
    Metrics,
}

/// The values of `--new-door` and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDoor {
    /// The door.
    pub request: NewDoorRequest,
    /// `--qr`: show QR codes as well.
    pub shows_codes: bool,
}

/// The parsed command line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Arguments {
    /// `-i`; overrides the configuration.
    pub interface: Option<String>,
    /// `-d`.
    pub daemon: bool,
    /// `-c`.
    pub config: PathBuf,
    /// `-D`.
    pub debug: bool,
    /// `-l`.
    pub lookup: bool,
    /// `-p`; the configuration overrides it.
    pub pid_file: PathBuf,
    /// `-g`; the configuration overrides it.
    pub log_file: Option<PathBuf>,
    /// `-v`.
    pub verbose: bool,
    /// `-4`.
    pub only_v4: bool,
    /// `--single`: do not start if another daemon is running.
    pub single: bool,
    /// `--check`.
    pub check: bool,
    /// `--status`, and the output format.
    pub status: Option<StatusFormat>,
    /// `--simulate`: the capture file; `-` is standard input.
    pub simulate: Option<PathBuf>,
    /// `--address`: the addresses of the host in the capture.
    pub addresses: Vec<IpAddr>,
    /// `--new-door`: the door to create.
    pub new_door: Option<NewDoor>,
    /// `-c` was given.
    pub is_config_given: bool,
    /// `-p` was given.
    pub is_pid_file_given: bool,
    /// `--all-directives`.
    pub directives: bool,
    /// `--guard`.
    pub guard: bool,
    /// `--unguard`.
    pub unguard: bool,
    /// Internal: this is the background process of `-d`.
    pub is_launched: bool,
    /// The folder we were started in, the base of relative paths.
    pub folder: PathBuf,
}

impl Arguments {
    /// Makes all paths absolute, so that they keep their meaning when the working directory changes.
    pub fn anchor_paths(&mut self) {
        let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
        for path in [&mut self.config, &mut self.pid_file].into_iter().chain(&mut self.log_file) {
            // An empty path means "none": it must not become the directory.
            if !path.as_os_str().is_empty() {
                *path = folder.join(&path);
            }
        }
        self.folder = folder;
    }
}

/// What to print when knockd exits at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EarlyExit {
    /// Print this to standard output, and exit with 0.
    Print(&'static str),
    /// The command line has an error that knockd 0.8 rejects too: print this reason, then the usage.
    ErrorWithUsage(String),
    /// An option that knockd 0.8 does not have is wrong: print this reason alone, so that no usage scrolls it
    /// off the screen.
    Error(String),
}

/// Options whose value must be UTF-8.
const UTF8_OPTIONS: [&str; 6] = ["interface", "address", "new-door", "host", "port", "web"];

/// The option that marks the background process of `-d`.
pub const LAUNCHED: &str = "--launched-by-knockd";
const LAUNCHED_NAME: &str = "launched-by-knockd";

/// The options; a test compares the manual with them.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::value("interface").short('i').in_0_8(),
    OptionSpec::switch("daemon").short('d').in_0_8(),
    OptionSpec::value("config").short('c').letter_alias().in_0_8(),
    OptionSpec::switch("debug").short('D').in_0_8(),
    OptionSpec::switch("lookup").short('l').in_0_8(),
    OptionSpec::value("pidfile").short('p').letter_alias().in_0_8(),
    OptionSpec::value("logfile").short('g').in_0_8(),
    OptionSpec::switch("verbose").short('v').in_0_8(),
    OptionSpec::switch("only-ip-v4").short('4').letter_alias().in_0_8(),
    OptionSpec::switch("single"),
    OptionSpec::switch("check"),
    OptionSpec::switch("status"),
    OptionSpec::value("simulate"),
    OptionSpec::value("address"),
    OptionSpec::switch("json"),
    OptionSpec::switch("metrics"),
    OptionSpec::switch("guard"),
    OptionSpec::switch("unguard"),
    OptionSpec::value("new-door"),
    OptionSpec::switch("otp"),
    OptionSpec::switch("spa"),
    OptionSpec::value("host"),
    OptionSpec::value("port"),
    OptionSpec::new("web", OptionAction::ValueOr(DEFAULT_PAGE)),
    OptionSpec::switch("qr"),
    OptionSpec::switch("all-directives"),
    OptionSpec::new("version", OptionAction::Version).short('V').in_0_8(),
    OptionSpec::new("help", OptionAction::Help).short('h').letter_alias().in_0_8(),
    // From knockd 0.8.2 (PR 84); has no effect: memory use is always low.
    OptionSpec::switch("save-mem").short('s').hidden(),
    OptionSpec::switch(LAUNCHED_NAME).hidden(),
];

/// Reads the command line, including the program's name.
///
/// # Errors
/// [`EarlyExit`] says what to print.
pub fn parse(words: &[OsString]) -> Result<Arguments, EarlyExit> {
    let line = command_line::read("knockd", OPTIONS, words).map_err(|error| match error {
        CommandLineError::Help => EarlyExit::Print(USAGE),
        CommandLineError::Version => EarlyExit::Print(VERSION),
        CommandLineError::Invalid(error) => usage_error(&error),
    })?;
    if UTF8_OPTIONS.into_iter().any(|name| line.value(name).is_some_and(|value| value.to_str().is_none())) {
        return Err(EarlyExit::ErrorWithUsage(
            "knockd: invalid UTF-8 was detected in one or more arguments".into(),
        ));
    }
    let path = |name| line.value(name).map(PathBuf::from);
    let format = match (line.has("json"), line.has("metrics")) {
        (true, true) => {
            return Err(EarlyExit::Error("knockd: --json and --metrics exclude each other".into()));
        }
        (true, false) => Some(StatusFormat::Json),
        (false, true) => Some(StatusFormat::Metrics),
        (false, false) => None,
    };
    if format.is_some() && !line.has("status") {
        return Err(EarlyExit::Error("knockd: --json and --metrics belong to --status".into()));
    }
    let addresses = text(&line, "address").unwrap_or_default();
    let addresses = addresses.split([',', ' ']).filter(|word| !word.is_empty()).map(|word| {
        let address = word.parse();
        address.map_err(|_| EarlyExit::Error(format!("knockd: --address: '{word}' is not an IP address")))
    });
    let addresses = addresses.collect::<Result<Vec<IpAddr>, EarlyExit>>()?;
    let non_empty = |path: &PathBuf| !path.as_os_str().is_empty();
    Ok(Arguments {
        interface: text(&line, "interface"),
        daemon: line.has("daemon"),
        config: path("config").unwrap_or_else(|| CONFIG_FILE.into()),
        debug: line.has("debug"),
        lookup: line.has("lookup"),
        pid_file: path("pidfile").filter(non_empty).unwrap_or_else(|| PID_FILE.into()),
        log_file: path("logfile").filter(non_empty),
        verbose: line.has("verbose"),
        only_v4: line.has("only-ip-v4"),
        single: line.has("single"),
        check: line.has("check"),
        status: line.has("status").then_some(format.unwrap_or(StatusFormat::Table)),
        simulate: path("simulate").filter(non_empty),
        addresses,
        new_door: new_door(&line)?,
        is_config_given: line.has("config"),
        is_pid_file_given: line.has("pidfile"),
        directives: line.has("all-directives"),
        guard: line.has("guard"),
        unguard: line.has("unguard"),
        is_launched: line.has(LAUNCHED_NAME),
        folder: PathBuf::new(),
    })
}

/// The door that `--new-door` and its options describe.
fn new_door(line: &CommandLine) -> Result<Option<NewDoor>, EarlyExit> {
    let refuse = |why: String| Err(EarlyExit::Error(format!("knockd: {why}")));
    let Some(name) = text(line, "new-door") else {
        return match ["otp", "spa", "host", "port", "web", "qr"].iter().find(|name| line.has(name)) {
            Some(option) => refuse(format!("--{option} belongs to --new-door")),
            None => Ok(None),
        };
    };
    // For example, an address after --web, which takes a value only with an equals sign.
    if let Some(word) = line.words.iter().chain(&line.rest).next() {
        return refuse(format!("--new-door: '{}' is one word too many", word.to_string_lossy()));
    }
    let kind = match (line.has("otp"), line.has("spa")) {
        (true, true) => return refuse("--otp and --spa exclude each other".to_owned()),
        (true, false) => LockKind::Otp,
        (false, true) => LockKind::Spa,
        (false, false) => LockKind::Sequence,
    };
    let port = text(line, "port").unwrap_or_else(|| "22".to_owned());
    let Some(port) = port.parse().ok().filter(|port| *port != 0) else {
        return refuse(format!("--port: '{port}' is not a number from 1 to 65535"));
    };
    let request = NewDoorRequest { name, kind, host: text(line, "host"), port, page: text(line, "web") };
    Ok(Some(NewDoor { request, shows_codes: line.has("qr") }))
}

/// The value of one of [`UTF8_OPTIONS`].
fn text(line: &CommandLine, name: &str) -> Option<String> {
    line.value(name).and_then(OsStr::to_str).map(str::to_owned)
}

fn usage_error(error: &UsageError) -> EarlyExit {
    // PR 76 of knockd added this option for debug output of TCP flags.
    let hint = match error.message.as_str() {
        "invalid option -- 'F'" => "; -D prints the packets and why they do not fit",
        _ => "",
    };
    let message = format!("knockd: {}{hint}", error.message);
    if error.is_in_0_8 { EarlyExit::ErrorWithUsage(message) } else { EarlyExit::Error(message) }
}
