//! Opens a door: for a knocker, for the request of a single packet, or because it opened at another member of
//! the fleet.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::sequence::Stage;
use crate::door::spa::request::Request;
use crate::door::{Door, Reopen};
use crate::opening::Openings;
use crate::opening::event::Event;
use crate::opening::job::{Action, variables};
use crate::opening::running::{Planned, Role};
use crate::opening::standing::{Access, Change, Key, Phase, Stop};
use crate::time::Now;

/// The directions in which the end of an opening that is open already may be moved.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    /// It was opened at another member of the fleet.
    Later,
    /// It was knocked here.
    Both,
}

impl Openings {
    /// Whether there is room for an opening of this door for this knocker: its start commands, one for each
    /// port asked for, can run at once or wait. If not, the door must not be opened.
    #[must_use]
    pub fn have_room_for(&self, door: &Door, knocker: IpAddr, ports: &[Stage]) -> bool {
        if door.start_for(knocker).is_none() {
            return true;
        }
        let is_new = |port| door.reopen == Reopen::Run || !self.is_open(&door.name, knocker, port);
        let number = match ports {
            [] => usize::from(is_new(None)),
            ports => ports.iter().filter(|port| is_new(Some(**port))).count(),
        };
        self.starts.has_room(&door.name, door.max_commands(), number)
    }

    /// Opens a door for a knocker. If too many start commands run, this one waits.
    pub fn admit(&mut self, door: &Door, knocker: IpAddr, now: Now) -> Vec<Action> {
        self.admit_to(door, knocker, None, now)
    }

    /// Opens a door for the request of a single packet: once for each port.
    pub fn grant(&mut self, door: &Door, request: &Request, now: Now) -> Vec<Action> {
        let seconds = request.seconds.unwrap_or_else(|| door.cmd_timeout_seconds());
        let mut actions = Vec::new();
        for &port in &request.ports {
            let access = Access { user: request.user.clone(), port, seconds };
            actions.extend(self.admit_to(door, request.address, Some(Box::new(access)), now));
        }
        actions
    }

    /// Opens a door that opened at another member of the fleet, for the time that is left of that opening.
    /// `asked` is the user and the port of the single packet that opened it, if one did. If the door is open
    /// here already, it closes no earlier than there, and no command runs again.
    pub fn follow(
        &mut self,
        door: &Door,
        knocker: IpAddr,
        asked: Option<(String, Stage)>,
        left: Duration,
        now: Now,
    ) -> Vec<Action> {
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let access = asked.map(|(user, port)| Box::new(Access { user, port, seconds }));
        self.open_for((door, knocker), access, (left, Moves::Later), now)
    }

    fn admit_to(
        &mut self,
        door: &Door,
        knocker: IpAddr,
        access: Option<Box<Access>>,
        now: Now,
    ) -> Vec<Action> {
        let asked_for = access.as_ref().map(|access| Duration::from_secs(access.seconds.into()));
        let after = asked_for.unwrap_or_else(|| door.cmd_timeout());
        self.open_for((door, knocker), access, (after, Moves::Both), now)
    }

    fn open_for(
        &mut self,
        (door, knocker): (&Door, IpAddr),
        access: Option<Box<Access>>,
        (after, moves): (Duration, Moves),
        now: Now,
    ) -> Vec<Action> {
        let Some(start) = door.start_for(knocker) else { return Vec::new() };
        let Ok(start) = start.fill(knocker) else { return vec![Action::Tell(Event::StartTooLong)] };
        let Ok(stop) = door.stop_for(knocker).map(|stop| stop.fill(knocker)).transpose() else {
            return vec![Action::Tell(Event::StopTooLong)];
        };
        let port = access.as_ref().map(|access| access.port);
        let runs_again = moves == Moves::Both && door.reopen == Reopen::Run;
        if !runs_again && self.is_open(&door.name, knocker, port) {
            return self.reopen((door, knocker, port), (after, moves), now);
        }
        let variables = variables(&door.name, knocker, access.as_deref());
        let id = self.next_id();
        let role = stop.map_or(Role::WithoutStop, |command| {
            Role::Opens(Stop {
                key: Key { origin: self.origin, number: id.0 },
                door: door.name.clone(),
                knocker,
                access,
                command,
                after,
                limit: door.command_timeout,
                due: now.uptime.saturating_add(after),
            })
        });
        let (name, limit) = (door.name.clone(), door.command_timeout);
        let planned = Planned {
            id,
            door: name.clone(),
            variables,
            command: start,
            role,
            limit,
            knocker: Some(knocker),
        };
        match self.starts.start_or_queue(&name, door.max_commands(), planned) {
            Some(planned) => self.run(planned, now),
            None => vec![Action::Tell(Event::Waits { door: name, knocker })],
        }
    }

    /// Handles a knock on a door that is open already, and that is not opened again.
    fn reopen(
        &mut self,
        (door, knocker, port): (&Door, IpAddr, Option<Stage>),
        (after, moves): (Duration, Moves),
        now: Now,
    ) -> Vec<Action> {
        let is_extended = door.reopen == Reopen::Extend;
        if is_extended || moves == Moves::Later {
            self.close_after((door, knocker, port), after, moves, now);
        }
        if moves == Moves::Later {
            return Vec::new();
        }
        vec![Action::Tell(Event::AlreadyOpen { door: door.name.clone(), knocker, is_extended })]
    }

    /// Moves the end of an opening to `after` from now; with [`Moves::Later`], unless it ends later anyway. If
    /// its start command still runs or waits, its time begins when that has ended.
    fn close_after(
        &mut self,
        (door, knocker, port): (&Door, IpAddr, Option<Stage>),
        after: Duration,
        moves: Moves,
        now: Now,
    ) {
        let due = self.shutdown.due_at(now.uptime.saturating_add(after), now);
        let is_it = |stop: &Stop| stop.is_of(&door.name, knocker, port);
        self.set_times(
            |stop| is_it(stop) && (moves == Moves::Both || stop.due < due),
            |stop| (stop.due, stop.after) = (due, after),
        );
        let set = |role: &mut Role| match role {
            Role::Opens(stop) if is_it(stop) && (moves == Moves::Both || stop.after < after) => {
                (stop.due, stop.after) = (due, after);
                Some(stop.clone())
            }
            _ => None,
        };
        for (_, running) in &mut self.running {
            let phase = Phase::Opening(running.process);
            self.changes.extend(set(&mut running.role).map(|stop| Change::Stands(phase, stop)));
        }
        for planned in self.starts.waiting_mut() {
            set(&mut planned.role);
        }
    }

    /// Whether this door is open for this knocker, or about to be. `port` is the port that a single packet
    /// asked for, if one did.
    fn is_open(&self, door: &Arc<str>, knocker: IpAddr, port: Option<Stage>) -> bool {
        self.end_of(door, knocker, port).is_some()
    }
}
