//! A log line with its parts: as text, as JSON, and as fields for the journal.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use crate::json;
use crate::octets;
use crate::opening::event::Event;

/// The subject of a line that is not about an [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The daemon starts.
    Start,
    /// The daemon ends.
    Stop,
    /// An interface is listened on.
    Listening,
    /// An interface is waited for.
    Waiting,
    /// The configuration is read again.
    Reload,
    /// The new configuration is invalid, and the old one stays in force.
    ReloadFailed,
    /// Lines were left out.
    LeftOut,
    /// Something failed.
    Trouble,
    /// The status requested with SIGUSR1.
    Status,
    /// Something else worth knowing.
    Note,
}

impl Notice {
    const fn word(self) -> &'static str {
        match self {
            Notice::Start => "start",
            Notice::Stop => "stop",
            Notice::Listening => "listening",
            Notice::Waiting => "waiting",
            Notice::Reload => "reload",
            Notice::ReloadFailed => "reload_failed",
            Notice::LeftOut => "left_out",
            Notice::Trouble => "trouble",
            Notice::Status => "status",
            Notice::Note => "note",
        }
    }
}

/// A line of the log, and its parts for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// What happened, in one word.
    pub event: &'static str,
    /// The door's name.
    pub door: Option<Arc<str>>,
    /// The knocker.
    pub ip: Option<IpAddr>,
    /// The stage that an attempt has reached.
    pub stage: Option<usize>,
    /// The classic line, without its time.
    pub text: String,
}

impl LogEntry {
    /// The entry of an event; `None` if it is not logged. `host` is the name of the knocker, if it is known.
    #[must_use]
    pub fn of(event: &Event, host: Option<&str>) -> Option<LogEntry> {
        let text = event.line(host)?;
        Some(LogEntry {
            event: event.word(),
            door: event.door().cloned(),
            ip: event.knocker(),
            stage: event.stage(),
            text,
        })
    }

    /// The entry of any other line.
    #[must_use]
    pub fn of_notice(notice: Notice, text: &str) -> LogEntry {
        LogEntry { event: notice.word(), door: None, ip: None, stage: None, text: text.to_owned() }
    }

    /// The entry as a JSON object; `time` is that of the line, as in RFC 3339.
    #[must_use]
    pub fn json(&self, time: &str) -> String {
        let mut members = vec![("time", json::string(time)), ("event", json::string(self.event))];
        members.extend(self.door.as_deref().map(|door| ("door", json::string(door))));
        members.extend(self.ip.map(|ip| ("ip", json::string(&ip.to_string()))));
        members.extend(self.stage.map(|stage| ("stage", stage.to_string())));
        members.push(("text", json::string(&self.text)));
        json::object(members)
    }

    /// The fields of the journal (systemd's "Native Journal Protocol"). A value with a line end is preceded
    /// by its length (64 bits, little-endian).
    #[must_use]
    pub fn journal(&self) -> Vec<u8> {
        let mut fields = Vec::new();
        let mut add = |name: &str, value: &str| {
            let value = octets::bytes(value);
            if value.contains(&b'\n') {
                fields.extend(format!("{name}\n").bytes());
                fields.extend(u64::try_from(value.len()).unwrap_or(u64::MAX).to_le_bytes());
            } else {
                fields.extend(format!("{name}=").bytes());
            }
            fields.extend(value);
            fields.push(b'\n');
        };
        add("MESSAGE", &self.text);
        // Priority `notice` and facility `daemon`, as for syslog.
        add("PRIORITY", "5");
        add("SYSLOG_IDENTIFIER", "knockd");
        add("SYSLOG_FACILITY", "3");
        add("KNOCKD_EVENT", self.event);
        let mut number = String::new();
        if let Some(door) = &self.door {
            add("KNOCKD_DOOR", door);
        }
        if let Some(ip) = self.ip {
            add("KNOCKD_IP", &ip.to_string());
        }
        if let Some(stage) = self.stage {
            let _ = write!(number, "{stage}");
            add("KNOCKD_STAGE", &number);
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opening_in_each_form() {
        let door = Arc::from("a \"b\"");
        let event = Event::Advanced { door, knocker: "192.0.2.7".parse().unwrap(), stage: 4 };
        let entry = LogEntry::of(&event, Some("host.example")).unwrap();
        assert_eq!(
            entry.json("2026-11-28T21:47:41.123Z"),
            r#"{"time":"2026-11-28T21:47:41.123Z","event":"stage","door":"a \"b\"","ip":"192.0.2.7","stage":4,"text":"192.0.2.7 (host.example): a \"b\": Stage 4"}"#
        );
        let fields = String::from_utf8(entry.journal()).unwrap();
        assert_eq!(
            fields,
            "MESSAGE=192.0.2.7 (host.example): a \"b\": Stage 4\nPRIORITY=5\nSYSLOG_IDENTIFIER=knockd\nSYSLOG_FACILITY=3\n\
             KNOCKD_EVENT=stage\nKNOCKD_DOOR=a \"b\"\nKNOCKD_IP=192.0.2.7\nKNOCKD_STAGE=4\n"
        );
    }

    #[test]
    fn a_command_with_line_ends_arrives_whole() {
        let event = Event::Running { door: Arc::from("d"), command: b"one\ntwo\xff".to_vec() };
        let entry = LogEntry::of(&event, None).unwrap();
        let text = b"d: running command: one\ntwo\xff";
        let mut start = b"MESSAGE\n".to_vec();
        start.extend(u64::try_from(text.len()).unwrap().to_le_bytes());
        start.extend(text);
        assert!(entry.journal().starts_with(&start), "{:?}", entry.journal());
        assert!(entry.json("").contains(r#""text":"d: running command: one\ntwo�"}"#), "{}", entry.json(""));
    }
}
