//! `knockd --status`: asks a running daemon for its status, and shows it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::syntax::{self, Item};
use crate::daemon::cli::{Arguments, StatusFormat};
use crate::daemon::clock::{Zone, now};
use crate::daemon::log::output;
use crate::daemon::poll::{poll_timeout, wait_for};
use crate::daemon::status::place::Paths;
use crate::reason::reason;
use crate::status::process_status::{self, ProcessStatus};
use crate::status::{metrics, table};

/// Time limit for the daemon's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon to reconnect to a socket whose backlog is full.
const RECONNECT_DELAY: Duration = Duration::from_millis(50);
/// The longest answer to read, in bytes: a hundred thousand doors.
const MAX_ANSWER: usize = 64 << 20;

/// The exit codes, as in the LSB for the status of a service.
const ONE_DOES_NOT_ANSWER: u8 = 1;
const NOT_RUNNING: u8 = 3;

/// Why a process does not answer.
enum AskError {
    /// No process listens at the socket.
    NotRunning,
    /// The answer did not arrive in time, or is incomplete or too long.
    TooSlow,
    /// Permission denied, or another error of the socket.
    Failed(io::Error),
}

/// Asks the daemon, and shows the answer in this format. The exit code is 0 if both processes answer, 1 if one
/// does not, 3 if there is no daemon.
#[must_use]
pub fn main(arguments: &Arguments, format: StatusFormat) -> ExitCode {
    let path = match socket_path(arguments) {
        Ok(Some(path)) => path,
        Ok(None) => {
            let config = arguments.config.display();
            output::complain(&format!("{config} says StatusSocket = none: knockd cannot be asked"));
            return ExitCode::from(NOT_RUNNING);
        }
        Err(sentence) => {
            output::complain(&sentence);
            return ExitCode::from(ONE_DOES_NOT_ANSWER);
        }
    };
    let paths = Paths::of(&path);
    let deadline = now().uptime.saturating_add(ANSWER_TIMEOUT);
    // First the process whose answer is more useful alone. Each has time of its own.
    let doorkeeper = ask(&paths.doorkeeper, deadline);
    let watcher = ask(&paths.watcher, deadline.max(now().uptime.saturating_add(ANSWER_TIMEOUT / 5)));
    if matches!((&watcher, &doorkeeper), (Err(AskError::NotRunning), Err(AskError::NotRunning))) {
        output::complain(&format!(
            "knockd is not running: nobody answers at {}; a daemon with another -c or -p answers elsewhere",
            path.display()
        ));
        return ExitCode::from(NOT_RUNNING);
    }
    let mut code = ExitCode::SUCCESS;
    for (answer, what, path) in
        [(&watcher, "watcher", &paths.watcher), (&doorkeeper, "doorkeeper", &paths.doorkeeper)]
    {
        if let Err(error) = answer {
            output::complain(&error_message(error, what, path));
            code = ExitCode::from(ONE_DOES_NOT_ANSWER);
        }
    }
    let (watcher, doorkeeper) = (watcher.ok(), doorkeeper.ok());
    if watcher.is_some() || doorkeeper.is_some() {
        output::print(&show(watcher.as_ref(), doorkeeper.as_ref(), format));
    }
    code
}

fn error_message(error: &AskError, what: &str, path: &Path) -> String {
    let path = path.display();
    match error {
        AskError::NotRunning => format!("the {what} does not run: nobody answers at {path}"),
        AskError::TooSlow => {
            format!("the {what} does not answer at {path}, or not within {ANSWER_TIMEOUT:?}")
        }
        AskError::Failed(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            format!(
                "could not ask the {what} at {path}: {}; only root and the user of knockd may",
                reason(error)
            )
        }
        AskError::Failed(error) => format!("could not ask the {what} at {path}: {}", reason(error)),
    }
}

fn show(watcher: Option<&ProcessStatus>, doorkeeper: Option<&ProcessStatus>, format: StatusFormat) -> String {
    match format {
        StatusFormat::Json => process_status::json(watcher, doorkeeper),
        StatusFormat::Metrics => metrics::text(watcher, doorkeeper),
        StatusFormat::Table => {
            let zone = Zone::local();
            let config =
                doorkeeper.and_then(|status| Some((status.get("config")?, status.number("config_read")?)));
            let config_has_changed = config.is_some_and(|(path, read)| {
                let changed = std::fs::metadata(path).and_then(|it| it.modified()).ok();
                changed
                    .and_then(|it| it.duration_since(UNIX_EPOCH).ok())
                    .is_some_and(|it| it.as_secs() > read)
            });
            let format_time = |unix: u64| zone.to_the_minute(Duration::from_secs(unix));
            table::text(
                watcher,
                doorkeeper,
                &table::TableContext { format_time: &format_time, config_has_changed },
            )
        }
    }
}

/// The status socket of the daemon that this command line means; `None` if its configuration has none. A
/// faulty configuration is accepted: that is when people ask.
fn socket_path(arguments: &Arguments) -> Result<Option<PathBuf>, String> {
    let next_to_pid_file = |pid_file: &Path| {
        let mut path = pid_file.as_os_str().to_owned();
        path.push(".status");
        Some(PathBuf::from(path))
    };
    if arguments.is_pid_file_given && !arguments.is_config_given {
        return Ok(next_to_pid_file(&arguments.pid_file));
    }
    let mut text = Vec::new();
    let read = File::open(&arguments.config).and_then(|mut file| file.read_to_end(&mut text));
    if let Err(error) = read {
        let config = arguments.config.display();
        return Err(format!(
            "{config}: {}; -c names the configuration of the daemon, or -p its pid file",
            reason(&error)
        ));
    }
    let (mut socket, mut pid_file, mut is_options) = (None, None, false);
    for (_, item) in syntax::items(&text) {
        match item {
            Item::Section(name) => is_options = name == b"options",
            Item::Entry(key, value) if is_options => {
                let path = || arguments.folder.join(std::ffi::OsStr::from_bytes(value));
                if key.eq_ignore_ascii_case(b"StatusSocket") {
                    socket = (!value.is_empty()).then(|| if value == b"none" { None } else { Some(path()) });
                } else if key.eq_ignore_ascii_case(b"PidFile") && !value.is_empty() {
                    pid_file = Some(path());
                }
            }
            _ => {}
        }
    }
    Ok(socket.unwrap_or_else(|| next_to_pid_file(pid_file.as_deref().unwrap_or(&arguments.pid_file))))
}

/// The answer at this socket.
fn ask(path: &Path, deadline: Duration) -> Result<ProcessStatus, AskError> {
    let mut stream = connect(path, deadline)?;
    let mut text = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return ProcessStatus::parse(&text).ok_or(AskError::TooSlow),
            Ok(length) if text.len() + length <= MAX_ANSWER => {
                text.extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
            Ok(_) => return Err(AskError::TooSlow),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if now().uptime >= deadline {
                    return Err(AskError::TooSlow);
                }
                let mut ready = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
                wait_for(&mut ready, poll_timeout(Some(deadline), now()));
            }
            Err(error) => return Err(AskError::Failed(error)),
        }
    }
}

fn connect(path: &Path, deadline: Duration) -> Result<Socket, AskError> {
    let address = SockAddr::unix(path).map_err(AskError::Failed)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(AskError::Failed)?;
    socket.set_nonblocking(true).map_err(AskError::Failed)?;
    loop {
        match socket.connect(&address) {
            Ok(()) => return Ok(socket),
            // The backlog is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && now().uptime < deadline => {
                std::thread::sleep(RECONNECT_DELAY);
            }
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => AskError::NotRunning,
                    io::ErrorKind::WouldBlock => AskError::TooSlow,
                    _ => AskError::Failed(error),
                });
            }
        }
    }
}
