//! The file of fwknop's client: what is taken of it, and what is refused.

use std::net::IpAddr;

use knocking::door::digest::Digest;
use knocking::door::knock::Protocol;
use knocking::door::spa::fields::{Kind, RequestedAccess};
use knocking::plan::fwknoprc::{AllowIp, FwknoprcError, names, stanza};
use knocking::plan::spa::{
    MAX_PACKET, RequestSummary, SpaRequest, SpaRequestError, UniqueValues, random_server_port, user_name,
};

trials![
    a_stanza_of_fwknop_is_read,
    the_default_stanza_counts_first,
    what_is_not_supported_is_refused_with_its_line,
    no_message_shows_a_key,
    packets_ask_for_what_the_stanza_says,
    a_packet_that_servers_refuse_is_not_made,
];

/// As `fwknop --save-rc-stanza` writes it.
const SAVED: &str = "# .fwknoprc\n##############\n[default]\n\n# Comment\n#VERBOSE N\n\n\
    [Office]\r\nVERBOSE                     N\r\nSPA_SERVER                  vpn.example.org\r\n\
    ACCESS                      tcp/22,udp/51820\r\nKEY_BASE64                  a2V5\r\n\
    HMAC_KEY_BASE64             aG1hYyBrZXk=;\r\nUSE_HMAC                    Y\r\nNO_SAVE_ARGS N";

const KEYS: &str = "KEY 4711secret\nHMAC_KEY 0815secret\n";

fn one(lines: &str) -> Result<knocking::plan::fwknoprc::Stanza, FwknoprcError> {
    stanza(format!("[home]\n{KEYS}{lines}").as_bytes(), "home")
}

fn a_stanza_of_fwknop_is_read() {
    let office = stanza(SAVED.as_bytes(), "oFFICE").unwrap();
    assert_eq!(office.server.as_deref(), Some("vpn.example.org"));
    assert_eq!((office.port, office.source_port, office.timeout), (Some(62201), None, None));
    assert_eq!(office.access.unwrap().len(), 2);
    assert_eq!((office.allow, office.digest), (AllowIp::Source, Digest::Sha256));
    assert_eq!(names(SAVED.as_bytes()), ["Office"]);
    assert_eq!(stanza(SAVED.as_bytes(), "home").unwrap_err(), FwknoprcError::NoSuchStanza);
    let full = one(
        "ALLOW_IP 192.0.2.7 not read\nSPA_SERVER_PORT 4000\nSPA_SOURCE_PORT 53\nFW_TIMEOUT 60\nSPOOF_USER bob\n\
         TIME_OFFSET -90\nDIGEST_TYPE sha1\nHMAC_DIGEST_TYPE SHA512\nRAND_PORT N\nUSE_GPG N\nENCRYPTION_MODE CBC\n",
    )
    .unwrap();
    assert_eq!(full.allow, AllowIp::Address(IpAddr::from([192, 0, 2, 7])));
    assert_eq!((full.port, full.source_port, full.timeout), (Some(4000), Some(53), Some(60)));
    assert_eq!((full.user.as_deref(), full.time_offset, full.digest), (Some("bob"), -90, Digest::Sha1));
    assert_eq!(one("RAND_PORT Y\n").unwrap().port, None);
    assert_eq!(one("ALLOW_IP resolve\n").unwrap().allow, AllowIp::Resolve);
    assert_eq!(one("RESOLVE_IP_HTTPS Y\n").unwrap().allow, AllowIp::Resolve);
}

fn the_default_stanza_counts_first() {
    let text = format!("[home]\nACCESS tcp/80\n[DEFAULT]\n{KEYS}ACCESS tcp/22\nFW_TIMEOUT 9\n");
    let home = stanza(text.as_bytes(), "home").unwrap();
    assert_eq!((home.access.unwrap()[0].port, home.timeout), (80, Some(9)));
    assert_eq!(stanza(text.as_bytes(), "default").unwrap().access.unwrap()[0].port, 22);
}

fn what_is_not_supported_is_refused_with_its_line() {
    for (line, problem) in [
        ("COLOUR red", "COLOUR: is not known"),
        ("MYSECRETKEY", "this line: is not known"),
        ("bXlzZWNyZXRrZXk=", "this line: is not known"),
        ("USE_GPG Y", "USE_GPG: GnuPG is not supported"),
        ("ENCRYPTION_MODE legacy", "ENCRYPTION_MODE: only CBC"),
        ("SPA_SERVER_PROTO tcp", "SPA_SERVER_PROTO: only udp"),
        ("KEY_FILE /x", "KEY_FILE: a file of keys"),
        ("NAT_RAND_PORT Y", "NAT_RAND_PORT: is not supported"),
        ("SPOOF_SOURCE_IP 192.0.2.1", "SPOOF_SOURCE_IP: is not supported: use --raw"),
        ("HMAC_DIGEST_TYPE SHA3_256", "HMAC_DIGEST_TYPE: the digest is not"),
        ("ACCESS tcp/22-30", "ACCESS: is not a list of ports"),
        ("ACCESS tcp/22, udp/53", "ACCESS: is not a list of ports"),
        ("ALLOW_IP host.example", "ALLOW_IP: is neither"),
        ("FW_TIMEOUT 65537", "FW_TIMEOUT: is not a number"),
        ("SPOOF_USER a:b", "SPOOF_USER: has characters"),
        ("TIME_OFFSET 2h", "TIME_OFFSET: is not"),
        ("SPA_SERVER_PORT 0", "SPA_SERVER_PORT: is not a port"),
        ("NAT_ACCESS a b:c", ""),
        ("KEY_BASE64 !", "KEY_BASE64: the key is not base64"),
        ("KEY __CHANGEME__", "KEY: __CHANGEME__ is no key"),
    ] {
        match one(&format!("{line}\n")) {
            Err(FwknoprcError::Line(4, said)) => assert!(said.starts_with(problem), "{line}: {said}"),
            other => assert!(problem.is_empty(), "{line}: {other:?}"),
        }
    }
    for (text, problem) in [
        ("KEY a\n", "neither HMAC_KEY nor"),
        ("HMAC_KEY a\n", "neither KEY nor"),
        ("KEY 123456789012345678901234567890123\nHMAC_KEY a\n", "1 to 32 bytes"),
        ("KEY a\nHMAC_KEY b\nUSE_HMAC N\n", "USE_HMAC is N"),
        ("KEY a\nHMAC_KEY b\nNAT_LOCAL Y\n", "NAT_LOCAL needs"),
        ("KEY a\nHMAC_KEY b\nNAT_PORT 1\n", "NAT_PORT needs"),
        ("KEY a\nHMAC_KEY b\nNAT_PORT 1\nNAT_ACCESS h:2", "names a port, and NAT_PORT another"),
    ] {
        let Err(FwknoprcError::Stanza(said)) = stanza(format!("[home]\n{text}").as_bytes(), "home") else {
            panic!("{text}")
        };
        assert!(said.contains(problem), "{text}: {said}");
    }
}

fn no_message_shows_a_key() {
    for broken in [
        "KEY_BASE64 4711secret!",
        "KEY 4711secret 4711secret\nHMAC_KEY",
        "4711secret x",
        "HMAC_KEY_BASE64 4711secret!",
    ] {
        let said = match one(broken) {
            Err(error) => error.to_string(),
            Ok(stanza) => format!("{stanza:?}"),
        };
        assert!(!said.contains("4711secret") || broken.starts_with("4711"), "{said}");
    }
}

fn request(lines: &str) -> SpaRequest {
    let stanza = one(lines).unwrap();
    SpaRequest {
        keys: stanza.keys,
        digest: stanza.digest,
        user: "alice".to_owned(),
        ports: stanza.access.unwrap(),
        timeout: stanza.timeout,
        nat: stanza.nat,
        time_offset: stanza.time_offset,
    }
}

const UNIQUE: UniqueValues = UniqueValues { unix: 1_795_898_455, digits: [7; 16], salt: [9; 8] };

/// The same requests as those of fwknop's packets in the vectors.
fn packets_ask_for_what_the_stanza_says() {
    let address = IpAddr::from([192, 0, 2, 7]);
    for (lines, kind, port, nat, timeout) in [
        ("ACCESS tcp/22\n", Kind::Access, 22, None, None),
        ("ACCESS tcp/22\nFW_TIMEOUT 0\n", Kind::Access, 22, None, None),
        ("ACCESS tcp/22\nFW_TIMEOUT 60\n", Kind::TimedAccess, 22, None, Some(60)),
        ("ACCESS tcp/22\nNAT_ACCESS 10.1.2.3:55000\n", Kind::Nat, 22, Some("10.1.2.3,55000"), None),
        ("ACCESS tcp/22\nNAT_ACCESS 10.1.2.3,55000\n", Kind::Nat, 22, Some("10.1.2.3,55000"), None),
        ("ACCESS tcp/22\nNAT_ACCESS 10.1.2.3\nNAT_PORT 5000\n", Kind::Nat, 5000, Some("10.1.2.3,22"), None),
        (
            "ACCESS tcp/22\nNAT_ACCESS inside.example\nFW_TIMEOUT 5",
            Kind::TimedNat,
            22,
            Some("inside.example,22"),
            Some(5),
        ),
        ("ACCESS tcp/22\nNAT_LOCAL Y\nNAT_PORT 5000\n", Kind::LocalNat, 5000, Some("127.0.0.1,22"), None),
        (
            "ACCESS tcp/22\nNAT_LOCAL Y\nNAT_PORT 5000\nFW_TIMEOUT 7\n",
            Kind::TimedLocalNat,
            5000,
            Some("127.0.0.1,22"),
            Some(7),
        ),
    ] {
        let request = request(lines);
        let fields = request.fields(address, UNIQUE).unwrap();
        assert_eq!((fields.kind, fields.nat.as_deref(), fields.timeout), (kind, nat, timeout), "{lines}");
        let RequestedAccess::Ports(ports) = &fields.message.access else { panic!("{lines}") };
        assert_eq!((ports.len(), ports[0].port, ports[0].protocol), (1, port, Protocol::Tcp), "{lines}");
        let packet = request.packet(&fields, UNIQUE.salt).unwrap();
        assert_eq!(request.keys.open(packet.as_bytes()).unwrap().fields, fields, "{lines}");
    }
    let early = request("ACCESS tcp/22\nTIME_OFFSET -90\n").fields(address, UNIQUE).unwrap();
    assert_eq!(early.time, UNIQUE.unix - 90);
    assert_eq!((early.random.len(), early.version.as_str()), (16, "3.0.0"));
    let unnamed =
        request("ACCESS tcp/22,udp/5\nFW_TIMEOUT 9\n").fields(IpAddr::from([0; 4]), UNIQUE).unwrap();
    let wanted = "alice asks to let the sender's address in to tcp/22, udp/5 for 9 s, at 1795898455";
    assert_eq!(RequestSummary(&unnamed).to_string(), wanted);
    assert_eq!(
        (user_name("al ice"), user_name(r"DOMAIN\alice"), user_name("")),
        ("al ice", "NO_USER", "NO_USER")
    );
    assert!((0..200_000).all(|random| random_server_port(random) >= 10_000));
}

fn a_packet_that_servers_refuse_is_not_made() {
    let list = |count: u16| {
        let ports: Vec<String> = (0..count).map(|port| format!("tcp/{}", 10_000 + port)).collect();
        request(&format!("ACCESS {}\n", ports.join(",")))
    };
    let unnamed = IpAddr::from([0; 4]);
    assert_eq!(list(11).check(unnamed), Ok(()));
    assert!(matches!(list(13).check(unnamed), Err(SpaRequestError::TooLong(bytes)) if bytes > MAX_PACKET));
    let several = request("ACCESS tcp/22,tcp/23\nNAT_ACCESS 10.1.2.3\n");
    assert_eq!(several.check(unnamed), Err(SpaRequestError::NatForSeveralPorts));
}
