//! Sets up the guard, and repairs it when another process changes the ruleset.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use litemap::LiteMap;

use crate::config::Config;
use crate::daemon::clock;
use crate::daemon::doorkeeper::nftables::changes::ChangeListener;
use crate::daemon::doorkeeper::nftables::closing::dismissed;
use crate::daemon::doorkeeper::nftables::firewall::Firewall;
use crate::daemon::doorkeeper::nftables::guard_lock::lock_guard;
use crate::daemon::doorkeeper::nftables::log_message::LogMessage;
use crate::daemon::doorkeeper::nftables::sessions;
use crate::door::knock::Protocol;
use crate::door::open::{Family, SetName};
use crate::door::ports::listed;
use crate::firewall::element::{Element, Found};
use crate::firewall::guard::{self, Abilities, Guard};
use crate::firewall::refusal::Refusal;
use crate::opening::admissions::SetElement;
use crate::opening::state::Admitted;
use crate::sorted;
use crate::time::Now;

/// Maximum number of peers named in a line about a port.
const SHOWN_PEERS: usize = 5;

/// The elements in the sets of the guard, with the time left; `None` is forever.
type Elements = LiteMap<SetName, Vec<(Element, Option<Duration>)>>;

impl Firewall {
    /// Sets up the guard of the configuration, or removes it if the configuration has none.
    pub(super) fn install_guard(
        &mut self,
        config: &Config,
        messages: &mut Vec<LogMessage>,
    ) -> Result<(), String> {
        let except: Vec<IpNet> = config.options.guard_except.prefixes().to_vec();
        let earlier = self.guard.take();
        let guard = Guard::of(&config.doors, &except);
        self.guard_sets = guard::sets_of(&config.doors);
        let Some(guard) = guard else {
            if earlier.is_some() {
                self.remove_guard(messages);
            }
            return Ok(());
        };
        let elements = self.install_table(&guard)?;
        if earlier.is_none() {
            // The time left was read earlier, so counting it from now expires no element too early.
            self.take_over_elements(config, &elements, clock::now(), messages);
        } else {
            let is_there = |set: &SetName| guard.sets().any(|(name, _)| name == *set);
            let closed = self.admissions.record_removed(&|set_element| {
                set_element.set.table == guard::TABLE && !is_there(&set_element.set)
            });
            messages.extend(closed.iter().map(|admission| LogMessage::Event(dismissed(admission))));
        }
        if earlier.as_ref() != Some(&guard) {
            messages.push(LogMessage::Line(format!("guarding {}", listed(&guard.ports()))));
            messages.extend(lines_about_open_sessions(&guard).into_iter().map(LogMessage::Line));
        }
        if !self.abilities.fib {
            messages.push(LogMessage::Complaint(
                "the kernel has no fib expression for nf_tables (nft_fib): the guard does not reach ports that are forwarded to containers".to_owned(),
            ));
        }
        if !self.abilities.conntrack && guard.ports().iter().any(|ports| ports.protocol == Protocol::Udp) {
            messages.push(LogMessage::Complaint(
                "the kernel has no ct expression for nf_tables (nft_ct): a UDP session ends when its door closes".to_owned(),
            ));
        }
        self.guard = Some(guard);
        Ok(())
    }

    fn remove_guard(&mut self, messages: &mut Vec<LogMessage>) {
        let mut batch = self.nft.batch();
        guard::remove(&mut batch);
        messages.push(match self.nft.commit(batch) {
            Ok(refused) if refused.is_empty() => {
                LogMessage::Line("guarding nothing any more: the configuration has no guard".to_owned())
            }
            _ => LogMessage::Complaint("could not take the guard away".to_owned()),
        });
        self.guard_lock = None;
        let closed = self.admissions.record_removed(&|set_element| set_element.set.table == guard::TABLE);
        messages.extend(closed.iter().map(|admission| LogMessage::Event(dismissed(admission))));
    }

    /// Creates or replaces the table in one transaction. It keeps the elements of its sets or, if there was
    /// no table, gets those of the openings known here. Returns the elements.
    fn install_table(&mut self, guard: &Guard) -> Result<Elements, String> {
        let could_not = |refusal: Refusal| {
            match refusal {
            Refusal::Owned => {
                "could not raise the guard: the table inet knockd belongs to another process; does another knockd run?"
                    .to_owned()
            }
            refusal => format!("could not raise the guard: {refusal}"),
        }
        };
        let tries = [(true, true), (false, true), (true, false), (false, false)];
        let mut tries = tries.into_iter();
        let mut expressions = tries.next();
        while let Some((fib, conntrack)) = expressions {
            self.abilities = Abilities { fib, conntrack, ..self.abilities };
            if !self.abilities.owner && self.guard_lock.is_none() {
                self.guard_lock = lock_guard().map_err(could_not)?;
            }
            let now = clock::now();
            let table = self.nft.table(Family::Inet, guard::TABLE).map_err(could_not)?;
            let elements =
                if table.is_some() { self.read_elements(guard)? } else { self.elements_of_openings(now) };
            let first = self.nft.batch().first();
            let batch = guard.batch(first, table.is_some(), self.abilities, &elements);
            let refused = self.nft.commit(batch).map_err(could_not)?;
            let Some(why) = refused.first().map(|refused| Refusal::of(*refused, first)) else {
                self.admissions.delay(set_elements_of(&elements).iter(), clock::since(now));
                return Ok(elements);
            };
            if self.abilities.owner && why.is_of_an_old_kernel() {
                // Before Linux 6.9 no table can have an owner and outlive it.
                self.abilities.owner = false;
            } else if why == Refusal::Missing {
                expressions = tries.next();
            } else {
                return Err(could_not(why));
            }
        }
        Err(could_not(Refusal::Missing))
    }

    /// The elements in the sets of the existing table.
    fn read_elements(&mut self, guard: &Guard) -> Result<Elements, String> {
        let mut elements = Elements::new();
        for (name, _) in guard.sets() {
            let found = self.nft.elements(&name);
            let found = found.map_err(|refusal| format!("could not read the set {name}: {refusal}"))?;
            let found = found.into_iter().map(|Found { key, left }| (Element { key, end: None }, left));
            elements.insert(name, found.collect());
        }
        Ok(elements)
    }

    /// The elements for the openings known here, by set of the guard.
    fn elements_of_openings(&self, now: Now) -> Elements {
        let mut elements = Elements::new();
        for (set_element, until) in self.admissions.set_elements(now) {
            if set_element.set.table == guard::TABLE {
                let left = until.map(|until| until.saturating_sub(now.uptime));
                elements
                    .entry((*set_element.set).clone())
                    .or_default()
                    .push((set_element.element.clone(), left));
            }
        }
        elements
    }

    /// Takes over the openings in the guard of an earlier process.
    fn take_over_elements(
        &mut self,
        config: &Config,
        elements: &Elements,
        now: Now,
        messages: &mut Vec<LogMessage>,
    ) {
        let guard_sets = std::mem::take(&mut self.guard_sets);
        for (door, sets) in config.doors.iter().zip(&guard_sets) {
            for set in sets {
                for (element, left) in elements.get(&**set).into_iter().flatten() {
                    let Some(address) = element.key.address() else { continue };
                    // If a prefix is let in, only the state file tells who knocked.
                    let network = door.rules.open.network(address);
                    let is_match =
                        |it: &&Admitted| it.id.door == door.name && network.contains(&it.id.knocker);
                    let knocker = self.known.iter().find(is_match).map_or(address, |it| it.id.knocker);
                    let set_element = SetElement { set: set.clone(), element: element.clone() };
                    let until = left.map(|left| now.uptime.saturating_add(left));
                    let Some(open) = &door.open else { continue };
                    self.resume((door, knocker), open.ports(), vec![set_element], until, now, messages);
                }
            }
        }
        self.guard_sets = guard_sets;
    }

    /// Reads notifications of changes by others, and repairs the guard and the user's sets.
    pub(in crate::daemon::doorkeeper) fn handle_changes(&mut self, messages: &mut Vec<LogMessage>) {
        let Some(changes) = self.change_listener.as_ref().and_then(ChangeListener::read) else { return };
        for removed in changes.removed {
            let closed = self.admissions.record_removed(&|set_element| {
                set_element.set.set == removed.set
                    && set_element.set.table == removed.table
                    && set_element.element.key == removed.key
            });
            messages.extend(closed.iter().map(|admission| LogMessage::Event(dismissed(admission))));
        }
        if changes.guard
            && let Some(guard) = self.guard.take()
        {
            match self.install_table(&guard) {
                Ok(_) => messages.push(LogMessage::Complaint(
                    "somebody changed the table inet knockd, perhaps by 'nft flush ruleset': the guard stands again"
                        .to_owned(),
                )),
                Err(sentence) => messages.push(LogMessage::Complaint(sentence)),
            }
            self.guard = Some(guard);
        }
        if changes.ruleset {
            self.recheck_sets(messages);
        }
    }

    /// Puts elements back into sets that were recreated, and reports a missing set once.
    fn recheck_sets(&mut self, messages: &mut Vec<LogMessage>) {
        let names: Vec<Arc<SetName>> = self.users_sets.keys().cloned().collect();
        for name in names {
            let Some(set) = self.users_sets.get(&name) else { continue };
            let (is_v6, before) = (set.is_v6, set.handles);
            let found = self.check_set(&name, is_v6);
            if let Some(set) = self.users_sets.get_mut(&name) {
                set.description = found.as_ref().ok().map(|(description, _)| *description);
                set.handles = found.as_ref().ok().map(|(_, handles)| *handles);
            }
            match found {
                Ok((_, handles)) if Some(handles) != before => {
                    let count = self.put_back(|set_element| set_element.set == name);
                    self.admissions.record_recreated(&name, handles);
                    let open = if count == 1 { "element is" } else { "elements are" };
                    messages.push(LogMessage::Line(format!(
                        "the set {name} was made anew: {count} {open} in it again"
                    )));
                }
                Err(why) if before.is_some() => messages.push(LogMessage::Complaint(why)),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

fn set_elements_of(elements: &Elements) -> Vec<SetElement> {
    let of_set = |(set, elements): (&SetName, &Vec<(Element, Option<Duration>)>)| {
        let set = Arc::new(set.clone());
        let set_element =
            |(element, _): &(Element, _)| SetElement { set: set.clone(), element: element.clone() };
        elements.iter().map(set_element).collect::<Vec<_>>()
    };
    elements.iter().flat_map(of_set).collect()
}

/// Log lines for guarded ports with open connections: these sessions go on.
fn lines_about_open_sessions(guard: &Guard) -> Vec<String> {
    let mut ports: LiteMap<u16, Vec<IpAddr>> = LiteMap::new();
    let connections = sessions::all_local_connections().unwrap_or_default();
    for it in connections.iter().filter(|it| !it.peer.is_loopback() && guard.contains(Protocol::Tcp, it.port))
    {
        sorted::insert(ports.entry(it.port).or_default(), it.peer);
    }
    let line = |(port, peers): (u16, Vec<IpAddr>)| {
        let shown: Vec<String> = peers.iter().take(SHOWN_PEERS).map(IpAddr::to_string).collect();
        let more = peers.len().saturating_sub(SHOWN_PEERS);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("tcp/{port} is in use by {}{more}: these sessions go on", shown.join(", "))
    };
    ports.into_iter().map(line).collect()
}
