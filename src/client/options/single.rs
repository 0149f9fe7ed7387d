//! The options for single packets: the stanza of a .fwknoprc, and the request.
//!
//! Keys are read into memory that is zeroed afterwards, and no message repeats them.

use std::env;
use std::fs::File;
use std::path::PathBuf;

use crate::client::failure::Failure;
use crate::client::profiles::CompletedArguments;
use crate::client::{secret, system};
use crate::door::spa::fields::{self, is_user};
use crate::plan::fwknoprc::{self, AllowIp};
use crate::plan::password::SourceLookup;
use crate::plan::spa::{NO_USER, SpaRequest, user_name};
use crate::reason::reason;

/// Options that need a stanza.
const STANZA_OPTIONS: [&str; 3] = ["fwknoprc", "spa", "allow-ip"];
/// The file name of fwknop's stanzas in the home directory.
const FWKNOPRC_FILE: &str = ".fwknoprc";

/// A single packet, to be built when it is sent.
#[derive(Debug)]
pub struct SinglePacket {
    pub request: SpaRequest,
    pub allowed_address: AllowedAddress,
    /// The destination host.
    pub server: String,
    /// The destination port; `None` for a random one.
    pub port: Option<u16>,
    /// The source port; `None` lets the system choose.
    pub source_port: Option<u16>,
}

/// The address that the server is asked to let in.
#[derive(Debug)]
pub enum AllowedAddress {
    /// The packet's source address.
    Sender,
    /// The address determined in this way.
    Lookup(SourceLookup),
}

/// Reads the single packet named by the command line or the profile; `None` if neither names a stanza.
///
/// # Errors
/// The file, the stanza or an option is not usable.
pub fn read(input: &CompletedArguments) -> Result<Option<SinglePacket>, Failure> {
    let arguments = &input.arguments;
    let Some(name) = arguments.text("stanza") else {
        return match STANZA_OPTIONS.into_iter().find(|name| arguments.has(name)) {
            Some(option) => {
                Err(Failure::refused(format_args!("{} needs --stanza (-n)", input.option_name(option))))
            }
            None => Ok(None),
        };
    };
    let path = match (arguments.value("fwknoprc"), env::home_dir()) {
        (Some(path), _) => PathBuf::from(path),
        (None, Some(home)) => home.join(FWKNOPRC_FILE),
        (None, None) => {
            return Err(Failure::refused("there is no home directory: name a file with --fwknoprc"));
        }
    };
    let shown = path.display();
    let mut file =
        File::open(&path).map_err(|error| Failure::refused(format_args!("{shown}: {}", reason(&error))))?;
    let text = secret::read_private(&mut file, &path, arguments.has("insecure"))?;
    let refuse = |problem: &str| Failure::refused(format_args!("{shown}: stanza '{name}': {problem}"));
    let stanza = fwknoprc::stanza(&text, &name).map_err(|error| refuse(&error.to_string()))?;
    let ports = match arguments.text("spa") {
        Some(list) => fields::ports(&list).ok_or_else(|| {
            let option = input.option_name("spa");
            Failure::refused(format_args!("{option}: '{list}' is not a list of ports such as tcp/22,udp/53"))
        })?,
        None => stanza.access.ok_or_else(|| refuse("it has no ACCESS: name the ports with --spa"))?,
    };
    let allowed_address = match (arguments.text("allow-ip").as_deref(), stanza.allow) {
        (Some("source"), _) | (None, AllowIp::Source) => AllowedAddress::Sender,
        (Some(word), _) => AllowedAddress::Lookup(SourceLookup::parse(word).ok_or_else(|| {
            let option = input.option_name("allow-ip");
            Failure::refused(format_args!(
                "{option}: '{word}' is not source, auto, an address, 'stun:SERVER stun:SERVER', 'stun:SERVER ADDRESS[/LENGTH]' or command:CMD"
            ))
        })?),
        (None, AllowIp::Address(address)) => AllowedAddress::Lookup(SourceLookup::Address(address)),
        (None, AllowIp::Resolve) => {
            return Err(refuse(
                "it asks a web page for our address, which knock does not do: \
                 use --allow-ip source, 'stun:SERVER stun:SERVER' or command:CMD",
            ));
        }
    };
    let request = SpaRequest {
        keys: stanza.keys,
        digest: stanza.digest,
        user: match stanza.user {
            Some(user) => user,
            None => user_to_send()?,
        },
        ports,
        timeout: stanza.timeout,
        nat: stanza.nat,
        time_offset: stanza.time_offset,
    };
    let server =
        input.named_host().or(stanza.server).or_else(|| Some(input.host()).filter(|host| !host.is_empty()));
    let server = server.ok_or_else(|| refuse("it has no SPA_SERVER: name a host"))?;
    Ok(Some(SinglePacket {
        request,
        allowed_address,
        server,
        port: stanza.port,
        source_port: stanza.source_port,
    }))
}

/// The user name to send: `SPOOF_USER` in the environment, or the login name.
fn user_to_send() -> Result<String, Failure> {
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
