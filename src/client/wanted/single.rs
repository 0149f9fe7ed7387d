//! The options for single packets: the stanza of a .fwknoprc, and the request.
//!
//! Keys are read into memory that is zeroed afterwards, and no message repeats them.

use std::env;
use std::fs::File;
use std::path::PathBuf;

use crate::client::failure::Failure;
use crate::client::profiles::Completed;
use crate::client::{secret, system};
use crate::door::spa::fields::{self, is_user};
use crate::plan::fwknoprc::{self, AllowIp};
use crate::plan::password::SourceLookup;
use crate::plan::spa::{NO_USER, SpaRequest, user_name};
use crate::reason::reason;

/// Options that need a stanza.
const WITH_STANZA: [&str; 3] = ["fwknoprc", "spa", "allow-ip"];
/// The file name of fwknop's stanzas in the home directory.
const RC_FILE: &str = ".fwknoprc";

/// A single packet, to be built when it is sent.
#[derive(Debug)]
pub struct SinglePacket {
    pub asking: SpaRequest,
    pub allow: Allow,
    /// The destination host.
    pub server: String,
    /// The destination port; `None` for a random one.
    pub port: Option<u16>,
    /// The source port; `None` lets the system choose.
    pub source_port: Option<u16>,
}

/// The address that the server is asked to let in.
#[derive(Debug)]
pub enum Allow {
    /// The packet's source address.
    Sender,
    /// The address determined in this way.
    Seen(SourceLookup),
}

/// Reads the single packet named by the command line or the profile; `None` if neither names a stanza.
///
/// # Errors
/// The file, the stanza or an option is not usable.
pub fn read(input: &Completed) -> Result<Option<SinglePacket>, Failure> {
    let typed = &input.typed;
    let Some(name) = typed.text("stanza") else {
        return match WITH_STANZA.into_iter().find(|name| typed.has(name)) {
            Some(option) => Err(Failure::refused(format_args!("{} needs --stanza (-n)", input.name(option)))),
            None => Ok(None),
        };
    };
    let path = match (typed.value("fwknoprc"), env::home_dir()) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(home)) => home.join(RC_FILE),
        (None, None) => {
            return Err(Failure::refused("there is no home directory: name a file with --fwknoprc"));
        }
    };
    let shown = path.display();
    let mut file =
        File::open(&path).map_err(|error| Failure::refused(format_args!("{shown}: {}", reason(&error))))?;
    let text = secret::private(&mut file, &path, typed.has("insecure"))?;
    let refuse = |problem: &str| Failure::refused(format_args!("{shown}: stanza '{name}': {problem}"));
    let stanza = fwknoprc::stanza(&text, &name).map_err(|error| refuse(&error.to_string()))?;
    let ports = match typed.text("spa") {
        Some(list) => fields::ports(&list).ok_or_else(|| {
            let option = input.name("spa");
            Failure::refused(format_args!("{option}: '{list}' is not a list of ports such as tcp/22,udp/53"))
        })?,
        None => stanza.access.ok_or_else(|| refuse("it has no ACCESS: name the ports with --spa"))?,
    };
    let allow = match (typed.text("allow-ip").as_deref(), stanza.allow) {
        (Some("source"), _) | (None, AllowIp::Source) => Allow::Sender,
        (Some(word), _) => Allow::Seen(SourceLookup::parse(word).ok_or_else(|| {
            let option = input.name("allow-ip");
            Failure::refused(format_args!(
                "{option}: '{word}' is not source, auto, an address, 'stun:SERVER stun:SERVER', 'stun:SERVER ADDRESS[/LENGTH]' or command:CMD"
            ))
        })?),
        (None, AllowIp::Address(address)) => Allow::Seen(SourceLookup::Address(address)),
        (None, AllowIp::Resolve) => {
            return Err(refuse(
                "it asks a web page for our address, which knock does not do: \
                 use --allow-ip source, 'stun:SERVER stun:SERVER' or command:CMD",
            ));
        }
    };
    let asking = SpaRequest {
        keys: stanza.keys,
        digest: stanza.digest,
        user: match stanza.user {
            Some(user) => user,
            None => user()?,
        },
        ports,
        timeout: stanza.timeout,
        nat: stanza.nat,
        time_offset: stanza.time_offset,
    };
    let server =
        input.named_host().or(stanza.server).or_else(|| Some(input.host()).filter(|host| !host.is_empty()));
    let server = server.ok_or_else(|| refuse("it has no SPA_SERVER: name a host"))?;
    Ok(Some(SinglePacket { asking, allow, server, port: stanza.port, source_port: stanza.source_port }))
}

/// The user name to send: `SPOOF_USER` in the environment, or the login name.
fn user() -> Result<String, Failure> {
    if let Some(name) = env::var_os("SPOOF_USER") {
        let name = name.to_string_lossy().into_owned();
        return if is_user(&name) {
            Ok(name)
        } else {
            Err(Failure::refused("SPOOF_USER has characters that servers refuse, or more than 48"))
        };
    }
    let login = env::var_os("LOGNAME").map(|name| name.to_string_lossy().into_owned());
    let login = login.or_else(system::user_name);
    Ok(user_name(login.as_deref().unwrap_or(NO_USER)).to_owned())
}
