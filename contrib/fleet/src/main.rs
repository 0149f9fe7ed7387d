//! Parses the command line of knockd-fleet, and starts it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use fleet::config::{Config, key_of};
use fleet::log::say;
use fleet::record::{Key, is_name};
use fleet::shared::Shared;
use fleet::{knockd, reader, sender, status};

const USAGE: &str = "usage: knockd-fleet [-c FILE] [--check | --status [--json]]
  -c, --config FILE  the configuration (default: /etc/knockd-fleet.conf)
      --check        read it, say what is wrong with it, and end
      --status       what the running program knows: members, delays, what waits
      --json         the same for programs
  -h, --help
  -V, --version
";

/// The parsed command line.
struct Wanted {
    config: PathBuf,
    what: What,
}

enum What {
    Run,
    Check,
    Status { as_json: bool },
    Tell(String),
}

fn main() -> ExitCode {
    match words(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            say(&sentence);
            ExitCode::FAILURE
        }
    }
}

fn words(words: impl Iterator<Item = String>) -> Result<Wanted, String> {
    let mut wanted = Wanted { config: "/etc/knockd-fleet.conf".into(), what: What::Run };
    let mut words = words;
    while let Some(word) = words.next() {
        match word.as_str() {
            "-c" | "--config" => wanted.config = words.next().ok_or("-c needs a file")?.into(),
            "--check" => wanted.what = What::Check,
            "--status" => {
                let as_json = matches!(wanted.what, What::Status { as_json: true });
                wanted.what = What::Status { as_json };
            }
            "--json" => wanted.what = What::Status { as_json: true },
            "-h" | "--help" => wanted.what = What::Tell(USAGE.to_owned()),
            "-V" | "--version" => {
                wanted.what = What::Tell(format!("knockd-fleet {}\n", env!("CARGO_PKG_VERSION")));
            }
            other => return Err(format!("unknown word {other:?}\n{USAGE}")),
        }
    }
    Ok(wanted)
}

fn run(Wanted { config: path, what }: Wanted) -> Result<(), String> {
    if let What::Tell(text) = what {
        return tell(&text);
    }
    let text = read(&path)?;
    let config = Config::parse(&String::from_utf8_lossy(&text))
        .map_err(|problem| format!("{}: {problem}", path.display()))?;
    match what {
        What::Status { as_json } => {
            let socket = &config.status_socket;
            let text = status::ask(socket, as_json).map_err(|error| {
                format!("could not ask at {}: {error}; does knockd-fleet run here?", socket.display())
            })?;
            tell(&text)
        }
        What::Check => start(config).map(drop),
        What::Run | What::Tell(_) => start(config).and_then(serve),
    }
}

/// Reads the files named in the configuration, and checks it.
fn start(config: Config) -> Result<Shared, String> {
    let text = secret(&config.key_file)?;
    let key = key_of(&text)
        .map_err(|what| format!("{}: the key is too short: {what}", config.key_file.display()))?;
    let key = Key::new(key, &config.fleet);
    let password = config.password_file.as_deref().map(|path| {
        let text = secret(path)?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        String::from_utf8(line.to_vec()).map_err(|_| format!("{}: is not UTF-8", path.display()))
    });
    let password = password.transpose()?;
    let member = match &config.member {
        Some(member) => member.clone(),
        None => nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .filter(|name| is_name(name))
            .ok_or("the host name does not do as a name: write Member = NAME")?,
    };
    let mut session = [0; 8];
    getrandom::fill(&mut session).map_err(|error| format!("there is no randomness: {error}"))?;
    Ok(Shared::new(config, member, key, password, u64::from_le_bytes(session)))
}

fn serve(shared: Shared) -> Result<(), String> {
    let socket = &shared.config.status_socket;
    for path in [socket, &shared.config.place_file] {
        if let Some(folder) = path.parent() {
            // If this fails, the next step reports the error.
            let _ = fs::create_dir(folder);
        }
    }
    let listener = status::listen(socket)
        .map_err(|error| format!("could not make the status socket {}: {error}", socket.display()))?;
    say(&format!("member {} of the fleet {}", shared.member, shared.config.fleet));
    let shared = Arc::new(shared);
    let (to_sender, messages) = mpsc::channel();
    let threads = {
        let (one, two, three) = (Arc::clone(&shared), Arc::clone(&shared), Arc::clone(&shared));
        [
            thread::Builder::new().name("sender".to_owned()).spawn(move || sender::run(&one, &messages)),
            thread::Builder::new().name("reader".to_owned()).spawn(move || reader::run(&two)),
            thread::Builder::new().name("status".to_owned()).spawn(move || status::run(&three, &listener)),
        ]
    };
    for thread in threads {
        thread.map_err(|error| format!("could not start a thread: {error}"))?;
    }
    knockd::run(&shared, &to_sender);
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("could not read {}: {error}", path.display()))
}

/// Reads a secret from a file that only its owner (root or this user) may access.
fn secret(path: &Path) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let meta = fs::metadata(path).map_err(|error| format!("could not read {shown}: {error}"))?;
    if meta.permissions().mode() & 0o077 != 0 {
        return Err(format!("others can read {shown}, which holds a secret: chmod 600 {shown}"));
    }
    if meta.uid() != 0 && meta.uid() != nix::unistd::geteuid().as_raw() {
        return Err(format!(
            "{shown} belongs to user {}: it must be root's, or that of this program",
            meta.uid()
        ));
    }
    read(path)
}

fn tell(text: &str) -> Result<(), String> {
    let written = io::stdout().lock().write_all(text.as_bytes());
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("could not write: {error}")),
        _ => Ok(()),
    }
}
