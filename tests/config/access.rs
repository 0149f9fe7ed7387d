//! The file of fwknop's daemon: what is taken of it, what is refused, and that every line is explained.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use knocking::config::access::{AccessError, read};
use knocking::config::{Note, Reading};
use knocking::door::spa::Refusal;
use knocking::door::spa::request::{Arrival, Terms};

use crate::door::spa::fields;

trials![
    stanzas_become_terms,
    every_line_is_explained_and_no_key_shown,
    what_is_not_supported_is_refused_with_file_and_line,
    files_are_included,
    expired_stanzas_and_other_sources_take_nothing,
];

const KEYS: &str = "KEY 4711secret\nHMAC_KEY 0815secret\n";

/// What comes of a file called `/a`, and what is said of it. `/b` includes `/a`, and itself.
fn said(text: &str) -> (Result<Vec<Terms>, AccessError>, Vec<String>) {
    let mut lines = Vec::new();
    let mut file = |path: &Path| match path.to_str() {
        Some("/a") => Ok(text.as_bytes().to_vec()),
        Some("/b") => Ok(b"%include /a\n".to_vec()),
        Some("/loop") => Ok(b"%include /loop\n".to_vec()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let mut note = |note| match note {
        Note::Explained(text) => lines.push(text),
        other => panic!("{other:?}"),
    };
    let mut reading = Reading { file: &mut file, note: &mut note, interface_is_given: false };
    let path = if text.starts_with("%b") { "/b" } else { "/a" };
    (read(Path::new(path), &mut reading), lines)
}

fn terms(text: &str) -> Vec<Terms> {
    said(text).0.unwrap_or_else(|error| panic!("{error:?}"))
}

fn stanzas_become_terms() {
    let text = format!(
        "# fwknopd\n;other comment\nSOURCE\tANY;\n{KEYS}OPEN_PORTS tcp/22, udp/53\nRESTRICT_PORTS: udp/53\n\
         REQUIRE_USERNAME alice\nREQUIRE_SOURCE_ADDRESS Y\nFW_ACCESS_TIMEOUT 60\nMAX_FW_TIMEOUT 90\nUNKNOWN x\n\
         SOURCE 192.0.2.0/24, 198.51.100.7\nDESTINATION 10.0.0.1\nKEY_BASE64 a2V5;\nHMAC_KEY_BASE64 aG1hYw==\r\n\
         HMAC_DIGEST_TYPE sha512\nENCRYPTION_MODE cbc\nENABLE_CMD_EXEC N\nGPG_REQUIRE_SIG Y"
    );
    let terms = terms(&text);
    assert_eq!(terms.len(), 2);
    assert_eq!((terms[0].timeout, terms[0].max_timeout), (Some(60), Some(90)));
    assert_eq!((terms[1].timeout, terms[1].max_timeout), (Some(30), Some(300)));
    assert_eq!(terms[0].users.as_deref(), Some(&["alice".to_owned()][..]));
    assert!(terms[0].requires_source && terms[0].sources.is_none() && terms[1].sources.is_some());
    assert_eq!((terms[0].open.ranges().len(), terms[0].restricted.ranges().len()), (2, 1));
    assert_eq!(terms[1].open.ranges().len(), 2, "without OPEN_PORTS everything may be asked for");
    let sender = IpAddr::from([192, 0, 2, 1]);
    let asked = fields("192.0.2.7", knocking::door::spa::fields::ports("udp/53").unwrap());
    assert_eq!(terms[0].grant(&asked, sender, 10), Err(Refusal::Port), "restricted");
    assert_eq!(terms[1].grant(&asked, sender, 10).unwrap().seconds, Some(30));
}

fn every_line_is_explained_and_no_key_shown() {
    let text = format!(
        "SOURCE ANY\n{KEYS}# comment\nOPEN_PORTS tcp/22\nNEW_THING 1\nCMD_CYCLE_OPEN rm\nSOURCE ANY\n"
    );
    let (outcome, lines) = said(&text);
    let wanted = [
        "/a: line 1: SOURCE: packets from every address, with the keys that follow",
        "/a: line 2: KEY: the encryption key (not shown)",
        "/a: line 3: HMAC_KEY: the key of the HMAC (not shown)",
        "/a: line 5: OPEN_PORTS: may ask for tcp/22",
        "/a: line 6: NEW_THING: not known, passed over as fwknopd does",
        "/a: line 7: refused: CMD_CYCLE_OPEN: the door's Start_Command, Stop_Command and Cmd_Timeout take its place: they run once for each port",
        "/a: line 8: SOURCE: packets from every address, with the keys that follow",
        "/a: line 8: refused: the stanza from here on: there is neither KEY nor KEY_BASE64",
    ];
    assert_eq!(lines, wanted);
    // A key that lost its name.
    for line in ["kEyWithoutName==", "kEy WithoutName", "MYSECRETKEY"] {
        let (_, lines) = said(&format!("{line}\nSOURCE ANY\n{line}\n"));
        assert!(
            lines[0].ends_with("line 1: refused: this line: stands before the first SOURCE"),
            "{lines:?}"
        );
        assert!(!lines.iter().any(|it| it.contains("kEy") || it.contains("MYSECRETKEY")), "{lines:?}");
    }
    let error = outcome.unwrap_err();
    assert_eq!((error.line, error.problem.starts_with("CMD_CYCLE_OPEN: ")), (7, true));
}

fn what_is_not_supported_is_refused_with_file_and_line() {
    for (line, problem) in [
        ("ENCRYPTION_MODE legacy", "only CBC"),
        ("ENABLE_CMD_EXEC Y", "a packet never brings a command"),
        ("FORCE_NAT 10.0.0.1 22", "address translation"),
        ("FORWARD_ALL Y", "address translation"),
        ("HMAC_DIGEST_TYPE SHA3_512", "SHA-3 is not supported"),
        ("OPEN_PORTS tcp/22-30", "fwknop has no ranges"),
        ("KEY __CHANGEME__", "is no key"),
        ("KEY_BASE64 4711secret!", "is not base64"),
        ("ACCESS_EXPIRE 2026-01-01", "is not a date"),
        ("FW_ACCESS_TIMEOUT soon", "is not a number"),
        ("SOURCE some.host", "is neither ANY nor"),
        ("%include_folder /etc/fwknop/access.d", "name each file"),
        ("%include /none", "cannot read /none"),
        ("%include /loop", "too deep"),
    ] {
        let (outcome, lines) = said(&format!("SOURCE ANY\n{KEYS}{line}\n"));
        let error = outcome.expect_err(line);
        assert!(error.problem.contains(problem), "{line}: {error:?}");
        assert!(error.line == 4 || error.line == 1 && line.contains("loop"), "{line}: {error:?}");
        assert!(!lines.concat().contains("4711secret"), "{lines:?}");
    }
    for (text, problem) in [
        ("", "there is no SOURCE"),
        ("OPEN_PORTS tcp/22\n", "stands before the first SOURCE"),
        ("SOURCE ANY\nKEY a\n", "neither HMAC_KEY nor HMAC_KEY_BASE64"),
        ("SOURCE ANY\nGPG_DECRYPT_ID a\nHMAC_KEY b\n", "GnuPG packets are not supported"),
        ("SOURCE ANY\nKEY 123456789012345678901234567890123\nHMAC_KEY b\n", "1 to 32 bytes"),
    ] {
        let error = said(text).0.expect_err(text);
        assert!(error.problem.contains(problem), "{text}: {error:?}");
    }
}

fn files_are_included() {
    assert_eq!(
        terms(&format!("%b: also a name that is not known\nSOURCE ANY\n{KEYS}").replace("%b", "#%b")).len(),
        1
    );
    let (outcome, lines) = said(&format!("%b\nSOURCE ANY\n{KEYS}"));
    assert!(outcome.is_err(), "%b is no directive: {lines:?}");
    assert!(lines[0] == "/b: line 1: %include: the lines of that file", "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("/a: line 2: SOURCE")), "{lines:?}");
}

fn expired_stanzas_and_other_sources_take_nothing() {
    let text = format!(
        "SOURCE 192.0.2.0/24\n{KEYS}DESTINATION 10.0.0.0/8\nACCESS_EXPIRE 03/01/2024\nSOURCE ANY\n{KEYS}ACCESS_EXPIRE_EPOCH 1000\n"
    );
    let terms = terms(&text);
    // 1 March 2024, midnight UTC.
    let (day, second) = (1_709_251_200, 1000);
    let at = |sender: [u8; 4], destination: [u8; 4], unix| Arrival {
        sender: sender.into(),
        destination: destination.into(),
        unix,
    };
    assert_eq!(terms[0].admit(at([192, 0, 2, 9], [10, 1, 1, 1], day - 1)), Ok(()));
    assert_eq!(terms[0].admit(at([192, 0, 2, 9], [10, 1, 1, 1], day)), Err(Refusal::Expired));
    assert_eq!(terms[0].admit(at([192, 0, 3, 9], [10, 1, 1, 1], 0)), Err(Refusal::Source));
    assert_eq!(terms[0].admit(at([192, 0, 2, 9], [11, 1, 1, 1], 0)), Err(Refusal::Source));
    assert_eq!(terms[1].admit(at([1, 1, 1, 1], [2, 2, 2, 2], second - 1)), Ok(()));
    assert_eq!(terms[1].admit(at([1, 1, 1, 1], [2, 2, 2, 2], second)), Err(Refusal::Expired));
}
