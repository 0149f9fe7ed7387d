//! `--status`: the status of a member, as text and as JSON.

use std::fmt::Write;
use std::time::Duration;

use knocking::json;

use crate::ledger::{Delays, Members};

/// The status of this member.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The fleet's name.
    pub fleet: String,
    /// This member's name.
    pub member: String,
    /// The URL of the engine.
    pub engine: String,
    /// How long the engine has been in reach or out of reach.
    pub engine_since: Duration,
    /// Whether the engine is in reach.
    pub is_in_reach: bool,
    /// Whether knockd is connected.
    pub has_knockd: bool,
    /// How many messages wait to be sent.
    pub waiting: u64,
    /// How many openings of this member were sent.
    pub sent: u64,
    /// How many openings of other members were passed to knockd.
    pub told: u64,
    /// How many knocks were sent, and how many were received.
    pub knocks: (u64, u64),
    /// How many questions were answered with: used for the first time, and used before.
    pub answers: (u64, u64),
    /// How many records were forged or damaged.
    pub forged: u64,
    /// How many records were replayed, expired or from the future.
    pub repeated: u64,
    /// The delays of other members' openings.
    pub delays: Delays,
    /// The members.
    pub members: Members,
    /// The monotonic clock.
    pub uptime: Duration,
}

/// A member is considered gone if its last heartbeat is older than this.
const SILENT: Duration = Duration::from_secs(10);

impl Report {
    /// Formats the status as a table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let since = self.engine_since.as_secs();
        let reach = if self.is_in_reach { "in reach" } else { "out of reach" };
        let _ = writeln!(text, "fleet {}, member {}", self.fleet, self.member);
        let _ = writeln!(text, "  engine   {}: {reach} for {since} s, {} wait", self.engine, self.waiting);
        let _ = writeln!(text, "  knockd   {}", if self.has_knockd { "connected" } else { "not connected" });
        let (first, before) = self.answers;
        let _ = writeln!(
            text,
            "  openings {} sent, {} opened here; asked {}, used before {before}",
            self.sent,
            self.told,
            first + before
        );
        let (sent, came) = self.knocks;
        let _ = writeln!(text, "  knocks   {sent} sent, {came} came");
        let _ = writeln!(
            text,
            "  records  {} forged or damaged, {} repeated or from the future",
            self.forged, self.repeated
        );
        if let Some((half, most)) = self.delays.quantiles() {
            let _ =
                writeln!(text, "  one way  {} ms (p50), {} ms (p99)", milliseconds(half), milliseconds(most));
        }
        let _ = writeln!(
            text,
            "\n{:<32} {:>10} {:>8} {:>9} {:>7} {:>7}  doors",
            "member", "heard", "delay/ms", "openings", "waiting", "missed"
        );
        for (name, member) in self.members.all() {
            let ago = self.uptime.saturating_sub(member.heard);
            let heard = if ago > SILENT {
                format!("{} s ago!", ago.as_secs())
            } else {
                format!("{} s ago", ago.as_secs())
            };
            let doors = if member.alive.shape == 0 {
                "no knockd".to_owned()
            } else {
                format!("{:016x}", member.alive.shape)
            };
            let _ = writeln!(
                text,
                "{name:<32} {heard:>10} {:>8} {:>9} {:>7} {:>7}  {doors}",
                milliseconds(member.delay),
                member.alive.openings,
                member.alive.waiting,
                member.missed
            );
        }
        text
    }

    /// Formats the status as a JSON object.
    #[must_use]
    pub fn json(&self) -> String {
        let number = |number: u64| number.to_string();
        let members = self.members.all().map(|(name, it)| {
            json::object([
                ("name", json::string(name)),
                ("heard_seconds_ago", number(self.uptime.saturating_sub(it.heard).as_secs())),
                ("delay_ms", milliseconds(it.delay)),
                ("openings", number(it.alive.openings)),
                ("waiting", number(it.alive.waiting)),
                ("missed", number(it.missed)),
                ("doors", json::string(&format!("{:016x}", it.alive.shape))),
            ])
        });
        let members: Vec<String> = members.collect();
        let mut all = vec![
            ("fleet", json::string(&self.fleet)),
            ("member", json::string(&self.member)),
            ("engine", json::string(&self.engine)),
            ("engine_in_reach", self.is_in_reach.to_string()),
            ("engine_seconds", number(self.engine_since.as_secs())),
            ("knockd", self.has_knockd.to_string()),
            ("waiting", number(self.waiting)),
            ("sent", number(self.sent)),
            ("opened_here", number(self.told)),
            ("knocks_sent", number(self.knocks.0)),
            ("knocks_heard", number(self.knocks.1)),
            ("used_first", number(self.answers.0)),
            ("used_before", number(self.answers.1)),
            ("forged", number(self.forged)),
            ("repeated", number(self.repeated)),
        ];
        if let Some((half, most)) = self.delays.quantiles() {
            all.extend([("one_way_p50_ms", milliseconds(half)), ("one_way_p99_ms", milliseconds(most))]);
        }
        all.push(("members", format!("[{}]", members.join(","))));
        json::object(all) + "\n"
    }
}

/// Formats microseconds as milliseconds with two decimals.
fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:02}", microseconds / 1000, microseconds % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Alive, Body, Record};

    #[test]
    fn both_forms() {
        let mut report = Report {
            fleet: "home".to_owned(),
            member: "g1".to_owned(),
            engine: "redis://e".to_owned(),
            engine_since: Duration::from_secs(12),
            waiting: 3,
            uptime: Duration::from_secs(100),
            ..Report::default()
        };
        let alive = Alive { openings: 4, waiting: 0, shape: 0xab };
        let record =
            Record { member: "g2".to_owned(), session: 1, counter: 1, made: 0, body: Body::Alive(alive) };
        report.members.hear(&record, alive, 2, Duration::from_secs(98));
        report.delays.note(7_120);
        let text = report.text();
        assert!(text.contains("redis://e: out of reach for 12 s, 3 wait"), "{text}");
        assert!(
            text.contains("not connected") && text.contains("7.12 ms (p50)") && text.contains("2 s ago"),
            "{text}"
        );
        let json = report.json();
        assert!(json.contains(r#""engine_in_reach":false,"engine_seconds":12"#), "{json}");
        assert!(json.contains(r#""members":[{"name":"g2","heard_seconds_ago":2"#), "{json}");
    }
}
