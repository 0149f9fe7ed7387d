//! The command line of knockd.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::new_door::{Kind, Wish};

/// What `-h` prints, and what follows a refusal.
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

/// What `-V` prints.
pub const VERSION: &str = concat!(
    "knockd ",
    env!("CARGO_PKG_VERSION"),
    "\nCopyright (C) 2026 The knockd maintainers (MIT OR Apache-2.0)\n",
);

/// The page that knocks, where nothing is said of its address.
const PAGE: &str = "knock.html";

/// The pid file where nothing else is said.
const PID_FILE: &str = "/var/run/knockd.pid";

/// How a status is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As a table, for people.
    Table,
    /// `--json`.
    Json,
    /// `--metrics`.
    Metrics,
}

/// What `--new-door` and its options ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDoor {
    /// The door.
    pub wish: Wish,
    /// `--qr`: QR codes are shown as well.
    pub shows_codes: bool,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Arguments {
    /// `-i`: beats the configuration.
    pub interface: Option<String>,
    /// `-d`.
    pub daemon: bool,
    /// `-c`.
    pub config: PathBuf,
    /// `-D`.
    pub debug: bool,
    /// `-l`.
    pub lookup: bool,
    /// `-p`; the configuration beats it.
    pub pid_file: PathBuf,
    /// `-g`; the configuration beats it.
    pub log_file: Option<PathBuf>,
    /// `-v`.
    pub verbose: bool,
    /// `-4`.
    pub only_v4: bool,
    /// `--single`: do not start beside another daemon.
    pub single: bool,
    /// `--check`.
    pub check: bool,
    /// `--status`, and in which form.
    pub status: Option<Form>,
    /// `--simulate`: what to play; `-` is standard input.
    pub simulate: Option<PathBuf>,
    /// `--address`: whose packets those are.
    pub addresses: Vec<IpAddr>,
    /// `--new-door`: a door to be made up.
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
    /// Not for users: this is the process behind `-d`.
    pub is_launched: bool,
    /// Where we were started: what relative paths are relative to.
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

/// What else the command line may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// Print this to standard output, and all is well.
    Print(&'static str),
    /// It is wrong in a way that knockd 0.8 knows too; this is why, and the usage follows.
    Refuse(String),
    /// An option that knockd 0.8 does not have is wrong; this is why, and nothing pushes it off the screen.
    Explain(String),
}

/// The options of knockd 0.8.
const OLD_OPTIONS: [&str; 11] = [
    "interface",
    "daemon",
    "config",
    "debug",
    "lookup",
    "pidfile",
    "logfile",
    "verbose",
    "only-ip-v4",
    "version",
    "help",
];

/// The option that marks the process behind `-d`.
pub const LAUNCHED: &str = "--launched-by-knockd";

/// The command line as clap sees it; the manual is held against it by a test.
#[must_use]
pub fn command() -> Command {
    let flag = |name: &'static str, short: char| {
        Arg::new(name).long(name).short(short).action(ArgAction::SetTrue).overrides_with(name)
    };
    let word = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue).overrides_with(name);
    let text = |name: &'static str| Arg::new(name).long(name).allow_hyphen_values(true).overrides_with(name);
    let path = |name: &'static str, short: char| {
        // Whatever comes next is the value, as with getopt; that of a path refuses an empty one.
        let arg = Arg::new(name).long(name).short(short).value_parser(value_parser!(OsString));
        arg.allow_hyphen_values(true).overrides_with(name)
    };
    Command::new("knockd")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .arg(text("interface").short('i'))
        .arg(flag("daemon", 'd'))
        // The aliases are abbreviations of knockd 0.8 that would be ambiguous with the new names.
        .arg(path("config", 'c').alias("c").default_value("/etc/knockd.conf"))
        .arg(flag("debug", 'D'))
        .arg(flag("lookup", 'l'))
        .arg(path("pidfile", 'p').alias("p").default_value(PID_FILE))
        .arg(path("logfile", 'g'))
        .arg(flag("verbose", 'v'))
        .arg(flag("only-ip-v4", '4').alias("o"))
        .arg(word("single"))
        .arg(word("check"))
        .arg(word("status"))
        .arg(
            Arg::new("simulate")
                .long("simulate")
                .value_parser(value_parser!(OsString))
                .allow_hyphen_values(true)
                .overrides_with("simulate"),
        )
        .arg(text("address"))
        .arg(word("json"))
        .arg(word("metrics"))
        .arg(word("guard"))
        .arg(word("unguard"))
        .arg(text("new-door"))
        .arg(word("otp"))
        .arg(word("spa"))
        .arg(text("host"))
        .arg(text("port"))
        .arg(text("web").num_args(0..=1).require_equals(true).default_missing_value(PAGE))
        .arg(word("qr"))
        .arg(word("all-directives"))
        .arg(Arg::new("version").long("version").short('V').action(ArgAction::Version))
        .arg(Arg::new("help").long("help").short('h').alias("h").action(ArgAction::Help))
        // Of knockd 0.8.2 (PR 84): nothing to do, memory is always saved.
        .arg(flag("save-mem", 's').hide(true))
        .arg(Arg::new("launched").long(&LAUNCHED[2..]).hide(true).action(ArgAction::SetTrue))
        // Stray words are ignored, as knockd 0.8 does.
        .arg(Arg::new("words").num_args(0..).value_parser(value_parser!(OsString)).hide(true))
}

/// Reads the command line, the program's name included.
///
/// # Errors
/// [`Instead`] says what to do instead.
pub fn parse(words: &[OsString]) -> Result<Arguments, Instead> {
    let matches = command().try_get_matches_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp => Instead::Print(USAGE),
        ErrorKind::DisplayVersion => Instead::Print(VERSION),
        _ => in_the_words_of_getopt(&error, words.last()),
    })?;
    let path = |name| matches.get_one::<OsString>(name).map(PathBuf::from);
    let is_given = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    let form = match (matches.get_flag("json"), matches.get_flag("metrics")) {
        (true, true) => {
            return Err(Instead::Explain("knockd: --json and --metrics exclude each other".into()));
        }
        (true, false) => Some(Form::Json),
        (false, true) => Some(Form::Metrics),
        (false, false) => None,
    };
    if form.is_some() && !matches.get_flag("status") {
        return Err(Instead::Explain("knockd: --json and --metrics belong to --status".into()));
    }
    let addresses = matches.get_one::<String>("address").map(String::as_str).unwrap_or_default();
    let addresses = addresses.split([',', ' ']).filter(|word| !word.is_empty()).map(|word| {
        let address = word.parse();
        address.map_err(|_| Instead::Explain(format!("knockd: --address: '{word}' is not an IP address")))
    });
    let addresses = addresses.collect::<Result<Vec<IpAddr>, Instead>>()?;
    let non_empty = |path: &PathBuf| !path.as_os_str().is_empty();
    Ok(Arguments {
        interface: matches.get_one::<String>("interface").cloned(),
        daemon: matches.get_flag("daemon"),
        config: path("config").unwrap_or_default(),
        debug: matches.get_flag("debug"),
        lookup: matches.get_flag("lookup"),
        pid_file: path("pidfile").filter(non_empty).unwrap_or_else(|| PID_FILE.into()),
        log_file: path("logfile").filter(non_empty),
        verbose: matches.get_flag("verbose"),
        only_v4: matches.get_flag("only-ip-v4"),
        single: matches.get_flag("single"),
        check: matches.get_flag("check"),
        status: matches.get_flag("status").then_some(form.unwrap_or(Form::Table)),
        simulate: path("simulate").filter(non_empty),
        addresses,
        new_door: new_door(&matches)?,
        is_config_given: is_given("config"),
        is_pid_file_given: is_given("pidfile"),
        directives: matches.get_flag("all-directives"),
        guard: matches.get_flag("guard"),
        unguard: matches.get_flag("unguard"),
        is_launched: matches.get_flag("launched"),
        folder: PathBuf::new(),
    })
}

/// What `--new-door` asks for.
fn new_door(matches: &ArgMatches) -> Result<Option<NewDoor>, Instead> {
    let refuse = |why: String| Err(Instead::Explain(format!("knockd: {why}")));
    let text = |name| matches.get_one::<String>(name).cloned();
    let Some(name) = text("new-door") else {
        let is_given = |name: &&&str| matches.value_source(name) == Some(ValueSource::CommandLine);
        return match ["otp", "spa", "host", "port", "web", "qr"].iter().find(is_given) {
            Some(option) => refuse(format!("--{option} belongs to --new-door")),
            None => Ok(None),
        };
    };
    // An address behind --web, for example, which takes its value with an equals sign alone.
    if let Some(word) = matches.get_many::<OsString>("words").and_then(|mut words| words.next()) {
        return refuse(format!("--new-door: '{}' is one word too many", word.to_string_lossy()));
    }
    let kind = match (matches.get_flag("otp"), matches.get_flag("spa")) {
        (true, true) => return refuse("--otp and --spa exclude each other".to_owned()),
        (true, false) => Kind::Otp,
        (false, true) => Kind::Spa,
        (false, false) => Kind::Sequence,
    };
    let port = text("port").unwrap_or_else(|| "22".to_owned());
    let Some(port) = port.parse().ok().filter(|port| *port != 0) else {
        return refuse(format!("--port: '{port}' is not a number from 1 to 65535"));
    };
    let wish = Wish { name, kind, host: text("host"), port, page: text("web") };
    Ok(Some(NewDoor { wish, shows_codes: matches.get_flag("qr") }))
}

/// What getopt says of the same mistake: scripts and people know it. Only the `last` word can lack
/// its value.
fn in_the_words_of_getopt(error: &clap::Error, last: Option<&OsString>) -> Instead {
    let offender = error.context().find_map(|(kind, value)| match (kind, value) {
        (ContextKind::InvalidArg, ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    });
    let offender = offender.unwrap_or_default();
    // clap shows the value that an option takes; getopt does not.
    let option = offender.split([' ', '=']).next().unwrap_or_default();
    let last = last.map(|word| word.to_string_lossy()).unwrap_or_default();
    let name = option.strip_prefix("--");
    let said = match (error.kind(), name, option.strip_prefix('-')) {
        (ErrorKind::UnknownArgument, Some(name), _) => format!("knockd: {}", unknown(name)),
        // PR 76 of knockd, where the debug output has an option of its own for TCP flags.
        (ErrorKind::UnknownArgument, None, Some("F")) => {
            "knockd: invalid option -- 'F'; -D prints the packets and why they do not fit".to_owned()
        }
        (ErrorKind::UnknownArgument, None, Some(letter)) => format!("knockd: invalid option -- '{letter}'"),
        (ErrorKind::InvalidValue, ..) if !last.starts_with("--") => {
            format!("knockd: option requires an argument -- '{}'", last.chars().last().unwrap_or('-'))
        }
        (ErrorKind::InvalidValue, ..) => format!("knockd: option '{option}' requires an argument"),
        (ErrorKind::TooManyValues, ..) => format!("knockd: option '{option}' doesn't allow an argument"),
        _ => format!("knockd: {}", error.kind().as_str().unwrap_or("the command line is wrong")),
    };
    let is_old =
        error.kind() == ErrorKind::UnknownArgument || name.is_none_or(|name| OLD_OPTIONS.contains(&name));
    if is_old { Instead::Refuse(said) } else { Instead::Explain(said) }
}

/// No option has this name; several may begin with it.
fn unknown(name: &str) -> String {
    let possible: Vec<String> = command()
        .get_arguments()
        .filter(|argument| !argument.is_hide_set())
        .filter_map(Arg::get_long)
        .filter(|long| !name.is_empty() && long.starts_with(name))
        .map(|long| format!(" '--{long}'"))
        .collect();
    if possible.is_empty() {
        format!("unrecognized option '--{name}'")
    } else {
        format!("option '--{name}' is ambiguous; possibilities:{}", possible.concat())
    }
}
