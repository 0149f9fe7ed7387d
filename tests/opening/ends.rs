//! When doors close that were opened again before their start command had ended.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use knocking::door::Door;
use knocking::door::knock::Protocol;
use knocking::door::sequence::Stage;
use knocking::opening::admit::Where;
use knocking::opening::standing::Access;
use knocking::opening::{Action, Change, Ending, JobId, Openings, Phase};
use knocking::time::Now;

use crate::opening::state::doors;

trials![
    the_fleet_moves_the_end_while_the_command_runs,
    the_fleet_moves_the_end_while_the_command_waits,
    an_extension_counts_while_the_command_runs,
];

const NOW: Now = Now { uptime: Duration::from_secs(5_000), unix: Duration::from_secs(1_790_000_000) };
const KNOCKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn door(more: &str) -> Door {
    let text =
        format!("[d]\nsequence = 1\nstart_command = start\nstop_command = stop\ncmd_timeout = 10\n{more}");
    doors(&text).remove(0)
}

/// The command that these actions run.
fn run(actions: &[Action]) -> Option<JobId> {
    actions.iter().find_map(|action| if let Action::Run(job) = action { Some(job.id) } else { None })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Ends the start command and returns when the door closes.
fn end(openings: &mut Openings, job: JobId) -> Option<Duration> {
    openings.ended(job, Ending::Exited(0), NOW);
    openings.next_deadline().map(|at| at.saturating_sub(NOW.uptime))
}

fn the_fleet_moves_the_end_while_the_command_runs() {
    for (first, second, due) in [(4, 8, 8), (8, 4, 8)] {
        let (door, mut openings) = (door(""), Openings::new(1));
        let job = run(&openings.open(&door, KNOCKER, &[None], (Some(seconds(first)), Where::Elsewhere), NOW))
            .expect("a command");
        openings.started(job, None);
        openings.take_changes();
        assert_eq!(
            run(&openings.open(&door, KNOCKER, &[None], (Some(seconds(second)), Where::Elsewhere), NOW)),
            None
        );
        let changes = openings.take_changes();
        // The state file learns of it.
        let has_new_time = |change: &Change| match change {
            Change::Stands(phase, stop) => (*phase, stop.after) == (Phase::Opening(None), seconds(due)),
            Change::Closed(_) => false,
        };
        assert_eq!(changes.iter().any(has_new_time), second > first, "{changes:?}");
        assert_eq!(end(&mut openings, job), Some(seconds(due)), "{first} s, then {second} s");
    }
}

fn the_fleet_moves_the_end_while_the_command_waits() {
    let (door, mut openings) = (door("max_commands = 1"), Openings::new(1));
    let other = IpAddr::from([10, 0, 0, 3]);
    let first = run(&openings.open(&door, other, &[None], (Some(seconds(100)), Where::Elsewhere), NOW))
        .expect("a command");
    assert_eq!(run(&openings.open(&door, KNOCKER, &[None], (Some(seconds(4)), Where::Elsewhere), NOW)), None);
    assert_eq!(run(&openings.open(&door, KNOCKER, &[None], (Some(seconds(8)), Where::Elsewhere), NOW)), None);
    let job = run(&openings.ended(first, Ending::Exited(0), NOW)).expect("the command that waited");
    assert_eq!(end(&mut openings, job), Some(seconds(8)));
}

/// A second single packet asks for another time.
fn an_extension_counts_while_the_command_runs() {
    for (first, second) in [(20, 40), (40, 20)] {
        let (door, mut openings) = (door("reopen = extend"), Openings::new(1));
        let port = Stage { protocol: Protocol::Tcp, port: 22 };
        let grant = |openings: &mut Openings, asked: u32| {
            let access = Access { user: "somebody".to_owned(), port, seconds: asked };
            let time = Some(seconds(asked.into()));
            run(&openings.open(&door, KNOCKER, &[Some(Box::new(access))], (time, Where::Here), NOW))
        };
        let job = grant(&mut openings, first).expect("a command");
        openings.started(job, None);
        assert_eq!(grant(&mut openings, second), None);
        assert_eq!(end(&mut openings, job), Some(seconds(second.into())));
    }
}
