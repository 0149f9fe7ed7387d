//! The command line of knockd.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::PathBuf;

use crate::command_line::{self, Choice, CommandLine, Mistake, Takes, Unread};
use crate::new_door::{Kind, Wish};

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
const PAGE: &str = "knock.html";

/// The default config file.
pub const CONFIG_FILE: &str = "/etc/knockd.conf";

/// The default pid file.
pub const PID_FILE: &str = "/var/run/knockd.pid";

/// The output format of `--status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
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
    pub wish: Wish,
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
    pub status: Option<Form>,
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

/// What to do instead of running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Print this to standard output, and exit with 0.
    Print(&'static str),
    /// The command line has an error that knockd 0.8 rejects too: print this reason, then the usage.
    Refuse(String),
    /// An option that knockd 0.8 does not have is wrong: print this reason alone, so that no usage scrolls it
    /// off the screen.
    Explain(String),
}

/// Options whose value must be UTF-8.
const TEXTS: [&str; 6] = ["interface", "address", "new-door", "host", "port", "web"];

/// The option that marks the background process of `-d`.
pub const LAUNCHED: &str = "--launched-by-knockd";
const LAUNCHED_NAME: &str = "launched-by-knockd";

/// The options; a test compares the manual with them.
pub const OPTIONS: &[Choice] = &[
    Choice::value("interface").short('i').old(),
    Choice::switch("daemon").short('d').old(),
    Choice::value("config").short('c').first().old(),
    Choice::switch("debug").short('D').old(),
    Choice::switch("lookup").short('l').old(),
    Choice::value("pidfile").short('p').first().old(),
    Choice::value("logfile").short('g').old(),
    Choice::switch("verbose").short('v').old(),
    Choice::switch("only-ip-v4").short('4').first().old(),
    Choice::switch("single"),
    Choice::switch("check"),
    Choice::switch("status"),
    Choice::value("simulate"),
    Choice::value("address"),
    Choice::switch("json"),
    Choice::switch("metrics"),
    Choice::switch("guard"),
    Choice::switch("unguard"),
    Choice::value("new-door"),
    Choice::switch("otp"),
    Choice::switch("spa"),
    Choice::value("host"),
    Choice::value("port"),
    Choice::new("web", Takes::ValueOr(PAGE)),
    Choice::switch("qr"),
    Choice::switch("all-directives"),
    Choice::new("version", Takes::Version).short('V').old(),
    Choice::new("help", Takes::Help).short('h').first().old(),
    // From knockd 0.8.2 (PR 84); has no effect: memory use is always low.
    Choice::switch("save-mem").short('s').hidden(),
    Choice::switch(LAUNCHED_NAME).hidden(),
];

/// Reads the command line, including the program's name.
///
/// # Errors
/// [`Instead`] tells what to do instead.
pub fn parse(words: &[OsString]) -> Result<Arguments, Instead> {
    let line = command_line::read("knockd", OPTIONS, words).map_err(|unread| match unread {
        Unread::Help => Instead::Print(USAGE),
        Unread::Version => Instead::Print(VERSION),
        Unread::Wrong(mistake) => refused(&mistake),
    })?;
    if TEXTS.into_iter().any(|name| line.value(name).is_some_and(|value| value.to_str().is_none())) {
        return Err(Instead::Refuse("knockd: invalid UTF-8 was detected in one or more arguments".into()));
    }
    let path = |name| line.value(name).map(PathBuf::from);
    let form = match (line.has("json"), line.has("metrics")) {
        (true, true) => {
            return Err(Instead::Explain("knockd: --json and --metrics exclude each other".into()));
        }
        (true, false) => Some(Form::Json),
        (false, true) => Some(Form::Metrics),
        (false, false) => None,
    };
    if form.is_some() && !line.has("status") {
        return Err(Instead::Explain("knockd: --json and --metrics belong to --status".into()));
    }
    let addresses = text(&line, "address").unwrap_or_default();
    let addresses = addresses.split([',', ' ']).filter(|word| !word.is_empty()).map(|word| {
        let address = word.parse();
        address.map_err(|_| Instead::Explain(format!("knockd: --address: '{word}' is not an IP address")))
    });
    let addresses = addresses.collect::<Result<Vec<IpAddr>, Instead>>()?;
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
        status: line.has("status").then_some(form.unwrap_or(Form::Table)),
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
fn new_door(line: &CommandLine) -> Result<Option<NewDoor>, Instead> {
    let refuse = |why: String| Err(Instead::Explain(format!("knockd: {why}")));
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
        (true, false) => Kind::Otp,
        (false, true) => Kind::Spa,
        (false, false) => Kind::Sequence,
    };
    let port = text(line, "port").unwrap_or_else(|| "22".to_owned());
    let Some(port) = port.parse().ok().filter(|port| *port != 0) else {
        return refuse(format!("--port: '{port}' is not a number from 1 to 65535"));
    };
    let wish = Wish { name, kind, host: text(line, "host"), port, page: text(line, "web") };
    Ok(Some(NewDoor { wish, shows_codes: line.has("qr") }))
}

/// The value of one of [`TEXTS`].
fn text(line: &CommandLine, name: &str) -> Option<String> {
    line.value(name).and_then(OsStr::to_str).map(str::to_owned)
}

fn refused(mistake: &Mistake) -> Instead {
    // PR 76 of knockd added this option for debug output of TCP flags.
    let hint = match mistake.message.as_str() {
        "invalid option -- 'F'" => "; -D prints the packets and why they do not fit",
        _ => "",
    };
    let said = format!("knockd: {}{hint}", mistake.message);
    if mistake.is_old { Instead::Refuse(said) } else { Instead::Explain(said) }
}
