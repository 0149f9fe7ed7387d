//! Single packets and the two files of fwknop. Bytes of a stranger open nothing; a text that a holder of the
//! keys could have encrypted is read as it is written, or refused.
#![no_main]

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;

use knocking::config::{Reading, access, fwknop};
use knocking::door::digest::Digest;
use knocking::door::spa::fields::Fields;
use knocking::door::spa::replay::{MAX_PACKETS, Used};
use knocking::door::spa::request::RequestablePorts;
use knocking::door::spa::sealed::{Keys, UncheckedPacket};
use knocking::plan::fwknoprc;
use knocking::plan::spa::RequestSummary;
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys::new(b"key", b"hmac key", Digest::Sha256).expect("keys"));

/// A stranger's packet.
fn packet(bytes: &[u8]) {
    assert!(KEYS.open(bytes).is_err(), "a packet that nobody made");
    let unchecked = UncheckedPacket::of(bytes);
    assert!(unchecked.is_none_or(|it| KEYS.verifier().clone().check(&it).is_err()));
}

/// The text of a packet that somebody with the keys made.
fn text(bytes: &[u8]) {
    let Ok(body) = str::from_utf8(bytes) else { return };
    let Ok(fields) = Fields::parse_body(body, Digest::Sha256) else { return };
    let salt = [bytes.len().to_le_bytes()[0]; 8];
    let packet = KEYS.seal(&fields, salt);
    let opened = KEYS.open(packet.as_bytes());
    if let Ok(opened) = &opened {
        assert_eq!((&opened.fields, opened.salt), (&fields, salt), "sealed and opened");
        let mut used = Used::default();
        assert_eq!(used.insert(fields.time, opened.id, 120, fields.time), Ok(()));
        assert!(
            used.insert(fields.time, opened.id, 120, fields.time).is_err()
                && used.packets().count() <= MAX_PACKETS
        );
    }
    // An address is written in the usual form, which may be longer than it was.
    assert!(opened.is_ok() || packet.len() < 140, "{opened:?}");
    assert!(!RequestSummary(&fields).to_string().contains('\n'));
    let sender = IpAddr::from([192, 0, 2, 1]);
    let text = "SOURCE ANY\nKEY key\nHMAC_KEY hmac key\n";
    for terms in access_file(text.as_bytes()).expect("a good file") {
        if let Ok(request) = terms.grant(&fields, sender, 30) {
            assert!(
                !request.address.is_unspecified() && !request.ports.is_empty() && request.ports.len() < 64
            );
            assert!(request.seconds.is_none_or(|seconds| seconds <= 300));
        }
    }
}

fn access_file(text: &[u8]) -> Result<Vec<knocking::door::spa::request::Terms>, access::AccessError> {
    let mut file = |path: &Path| match path.to_str() {
        Some("/a") => Ok(text.to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let mut reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
    access::read(Path::new("/a"), &mut reading)
}

fn files(bytes: &[u8]) {
    for line in bytes.split(|&byte| byte == b'\n') {
        let (name, value) = fwknop::entry(line);
        assert!(name.len() + value.len() <= line.len());
    }
    if let Ok(terms) = access_file(bytes) {
        assert!(!terms.is_empty());
    }
    for name in fwknoprc::names(bytes) {
        if let Err(error) = fwknoprc::stanza(bytes, &name) {
            let _ = error.to_string();
        }
    }
    if let Ok(text) = str::from_utf8(bytes) {
        let _ = RequestablePorts::parse(text);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    match kind % 3 {
        0 => packet(rest),
        1 => text(rest),
        _ => files(rest),
    }
});
