//! Finds the attempts of a knocker, and those from a network.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::engine::attempts::slots::{Chain, List, NIL, Slots};

/// The attempts by knocker, and by network: an IPv4 /24, or an IPv6 /64, which one customer usually has.
#[derive(Debug, Default)]
pub(super) struct Finder {
    /// Keyed at random, so that nobody can choose addresses that collide.
    hasher: RandomState,
    /// The latest attempt of each knocker.
    knockers: HashTable<u32>,
    /// The attempts from each network.
    networks: HashTable<List>,
}

impl Finder {
    /// How many bytes are allocated.
    pub(super) fn bytes(&self) -> usize {
        self.knockers.allocation_size() + self.networks.allocation_size()
    }

    /// The slot of the latest attempt of a knocker.
    pub(super) fn latest_of(&self, slots: &Slots, knocker: IpAddr) -> Option<u32> {
        let hash = self.hasher.hash_one(knocker);
        self.knockers.find(hash, |&place| knocker_at(slots, place) == Some(knocker)).copied()
    }

    /// The attempts from the network of an address.
    pub(super) fn network_of(&self, slots: &Slots, knocker: IpAddr) -> Option<List> {
        let prefix = prefix_of(knocker);
        self.networks.find(self.hasher.hash_one(prefix), is_of_network(slots, prefix)).copied()
    }

    /// Adds a new attempt: as the latest of its knocker, and of its network.
    pub(super) fn add(&mut self, slots: &mut Slots, place: u32) {
        let Some(knocker) = knocker_at(slots, place) else { return };
        let hasher = &self.hasher;
        sweep(&mut self.knockers, hash_of_knocker(slots, hasher));
        let hash = hasher.hash_one(knocker);
        let is_of = |&other: &u32| knocker_at(slots, other) == Some(knocker);
        let after = match self.knockers.entry(hash, is_of, hash_of_knocker(slots, hasher)) {
            Entry::Occupied(mut latest) => std::mem::replace(latest.get_mut(), place),
            Entry::Vacant(vacant) => {
                vacant.insert(place);
                NIL
            }
        };
        slots.link(Chain::Knocker, NIL, place, after);

        let prefix = prefix_of(knocker);
        let hash = hasher.hash_one(prefix);
        if let Some(network) = self.networks.find_mut(hash, is_of_network(slots, prefix)) {
            slots.append(Chain::Network, network, place);
        } else {
            let mut network = List::EMPTY;
            slots.append(Chain::Network, &mut network, place);
            sweep(&mut self.networks, hash_of_network(slots, hasher));
            self.networks.insert_unique(hash, network, hash_of_network(slots, hasher));
        }
    }

    /// Removes an attempt.
    pub(super) fn remove(&mut self, slots: &mut Slots, place: u32) {
        let Some(knocker) = knocker_at(slots, place) else { return };
        let prefix = prefix_of(knocker);
        let hash = self.hasher.hash_one(prefix);
        if let Ok(mut entry) = self.networks.find_entry(hash, is_of_network(slots, prefix)) {
            slots.leave(Chain::Network, entry.get_mut(), place);
            if entry.get().count == 0 {
                entry.remove();
            }
        }
        let link = slots.unlink(Chain::Knocker, place);
        if link.before != NIL {
            return;
        }
        if let Ok(mut entry) = self.knockers.find_entry(self.hasher.hash_one(knocker), |&it| it == place) {
            if link.after == NIL {
                entry.remove();
            } else {
                *entry.get_mut() = link.after;
            }
        }
    }
}

/// Rebuilds a table at the same size if it would double only because of tombstones, which removed entries
/// leave in a hash table (on some processors more than on others).
fn sweep<T: Copy>(table: &mut HashTable<T>, hash: impl Fn(&T) -> u64 + Copy) {
    let (length, most) = (table.len(), table.num_buckets() / 8 * 7);
    // If nearly full of live entries, it has to grow; if half empty, it rehashes in place by itself.
    if length < table.capacity() || length > most / 4 * 3 || length < most / 2 {
        return;
    }
    let mut fresh = HashTable::with_capacity(length + 1);
    for entry in &*table {
        fresh.insert_unique(hash(entry), *entry, hash);
    }
    *table = fresh;
}

fn prefix_of(knocker: IpAddr) -> IpAddr {
    match knocker {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

fn knocker_at(slots: &Slots, place: u32) -> Option<IpAddr> {
    slots.at(place).map(|slot| slot.knocker)
}

/// Whether a list holds the attempts from this prefix, judged by its first attempt.
fn is_of_network(slots: &Slots, prefix: IpAddr) -> impl Fn(&List) -> bool + '_ {
    move |network| knocker_at(slots, network.first).map(prefix_of) == Some(prefix)
}

/// The hash function of the table of networks.
fn hash_of_network<'a>(slots: &'a Slots, hasher: &'a RandomState) -> impl Fn(&List) -> u64 + Copy + 'a {
    |network| knocker_at(slots, network.first).map_or(0, |knocker| hasher.hash_one(prefix_of(knocker)))
}

/// The hash function of the table of knockers.
fn hash_of_knocker<'a>(slots: &'a Slots, hasher: &'a RandomState) -> impl Fn(&u32) -> u64 + Copy + 'a {
    |&place| knocker_at(slots, place).map_or(0, |knocker| hasher.hash_one(knocker))
}
