//! Opens a door: for a sequence, for the request of a single packet, or because it opened at another member of
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

/// Where a door was knocked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// Here.
    Here,
    /// At another member of the fleet. If the door is open here already, it closes no earlier than there, and no
    /// command runs again.
    Elsewhere,
}

/// What a door opens for: each access that a single packet asked for, or nothing in particular, which is one `None`.
pub type Accesses = [Option<Box<Access>>];

/// The accesses that a request asks for; without a request, those of a sequence.
#[must_use]
pub fn accesses(door: &Door, request: Option<&Request>) -> Vec<Option<Box<Access>>> {
    let Some(request) = request else { return vec![None] };
    let seconds = request.seconds.unwrap_or_else(|| door.cmd_timeout_seconds());
    let access = |&port: &Stage| Some(Box::new(Access { user: request.user.clone(), port, seconds }));
    request.ports.iter().map(access).collect()
}

/// The port of an access, if it has one.
#[must_use]
pub fn port_of(access: &Option<Box<Access>>) -> Option<Stage> {
    access.as_ref().map(|access| access.port)
}

impl Openings {
    /// Whether there is room for an opening of this door for this knocker: its start commands, one for each
    /// access, can run at once or wait. If not, the door must not be opened.
    #[must_use]
    pub fn have_room_for(&self, door: &Door, knocker: IpAddr, accesses: &Accesses) -> bool {
        if door.start_for(knocker).is_none() {
            return true;
        }
        let is_new = |access: &&Option<Box<Access>>| {
            door.reopen == Reopen::Run || !self.is_open(&door.name, knocker, port_of(access))
        };
        self.starts.has_room(&door.name, door.max_commands(), accesses.iter().filter(is_new).count())
    }

    /// Opens a door for a knocker, once for each access: for `time`, or for as long as the door says. If too many
    /// start commands run, these wait.
    pub fn open(
        &mut self,
        door: &Door,
        knocker: IpAddr,
        accesses: &Accesses,
        (time, place): (Option<Duration>, Where),
        now: Now,
    ) -> Vec<Action> {
        let after = time.unwrap_or_else(|| door.cmd_timeout());
        let mut actions = Vec::new();
        for access in accesses {
            actions.extend(self.open_for((door, knocker), access.clone(), (after, place), now));
        }
        actions
    }

    fn open_for(
        &mut self,
        (door, knocker): (&Door, IpAddr),
        access: Option<Box<Access>>,
        (after, place): (Duration, Where),
        now: Now,
    ) -> Vec<Action> {
        let Some(start) = door.start_for(knocker) else { return Vec::new() };
        let Ok(start) = start.fill(knocker) else { return vec![Action::Tell(Event::StartTooLong)] };
        let Ok(stop) = door.stop_for(knocker).map(|stop| stop.fill(knocker)).transpose() else {
            return vec![Action::Tell(Event::StopTooLong)];
        };
        let port = port_of(&access);
        let runs_again = place == Where::Here && door.reopen == Reopen::Run;
        if !runs_again && self.is_open(&door.name, knocker, port) {
            return self.reopen((door, knocker, port), (after, place), now);
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
        (after, place): (Duration, Where),
        now: Now,
    ) -> Vec<Action> {
        let is_extended = door.reopen == Reopen::Extend;
        if is_extended || place == Where::Elsewhere {
            self.close_after((door, knocker, port), after, place, now);
        }
        if place == Where::Elsewhere {
            return Vec::new();
        }
        vec![Action::Tell(Event::AlreadyOpen { door: door.name.clone(), knocker, is_extended })]
    }

    /// Moves the end of an opening to `after` from now; with [`Where::Elsewhere`], unless it ends later anyway. If
    /// its start command still runs or waits, its time begins when that has ended.
    fn close_after(
        &mut self,
        (door, knocker, port): (&Door, IpAddr, Option<Stage>),
        after: Duration,
        place: Where,
        now: Now,
    ) {
        let due = self.shutdown.due_at(now.uptime.saturating_add(after), now);
        let is_it = |stop: &Stop| stop.is_of(&door.name, knocker, port);
        self.set_times(
            |stop| is_it(stop) && (place == Where::Here || stop.due < due),
            |stop| (stop.due, stop.after) = (due, after),
        );
        let set = |role: &mut Role| match role {
            Role::Opens(stop) if is_it(stop) && (place == Where::Here || stop.after < after) => {
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
