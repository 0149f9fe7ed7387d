//! Which interfaces are listened on: what was asked for, what there is, and what follows.
//!
//! With several of them a packet that passes more than one must count once. It counts where it comes
//! up to this host's own addresses or first enters it, and a packet that this host sends counts where
//! the host sends it: [`Wanted::layout`] says what that means for each interface.

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

/// The interface that is listened on where nobody names one.
pub const DEFAULT: &str = "eth0";

/// The name that means the interface of the default route.
pub const AUTO: &str = "auto";
/// The name that means every interface.
const ANY: &str = "any";

/// The index that means every interface.
pub const EVERY: u32 = 0;

/// What the value of `Interface` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(Vec<Wish>);

/// One item of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// The interface of this name.
    Named(String),
    /// All there are.
    Any,
    /// Those of the default routes, IPv4 and IPv6.
    Auto,
}

impl Wanted {
    /// Reads a name or a list of names; nothing if there is none in it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Wanted> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut wishes: Vec<Wish> = Vec::new();
        for name in names {
            let wish = match name {
                ANY => Wish::Any,
                AUTO => Wish::Auto,
                name => Wish::Named(name.to_owned()),
            };
            if !wishes.contains(&wish) {
                wishes.push(wish);
            }
        }
        if wishes.contains(&Wish::Any) {
            wishes = vec![Wish::Any];
        }
        (!wishes.is_empty()).then_some(Wanted(wishes))
    }

    /// Whether what is missing is waited for where nothing is said of that.
    #[must_use]
    pub fn is_patient(&self) -> bool {
        !matches!(self.0.as_slice(), [Wish::Named(_)])
    }

    /// Whether it depends on the routes.
    #[must_use]
    pub fn follows_routes(&self) -> bool {
        self.0.contains(&Wish::Auto)
    }

    /// What is to be listened on, as things are.
    #[must_use]
    pub fn layout(&self, scene: &Scene) -> Layout {
        let is_any = self.0.contains(&Wish::Any);
        let standing: Vec<Standing> = self.0.iter().map(|wish| wish.standing(scene)).collect();
        let chosen: HashSet<u32> = standing.iter().flat_map(|standing| &standing.indexes).copied().collect();
        let chosen: Vec<&Interface> =
            scene.interfaces.iter().filter(|interface| is_any || chosen.contains(&interface.index)).collect();
        let here = chosen.iter().flat_map(|interface| &interface.addresses).copied().collect();
        if !is_any && self.0.len() == 1 && chosen.len() < 2 {
            let indexes = chosen.iter().map(|interface| interface.index).collect();
            return Layout { indexes, here, several: None, standing };
        }
        let up: Vec<&Interface> = chosen.iter().copied().filter(|interface| interface.is_up).collect();
        let of = |test: &dyn Fn(&Interface) -> bool| -> Vec<u32> {
            chosen.iter().filter(|interface| test(interface)).map(|interface| interface.index).collect()
        };
        let hidden = of(&|interface| interface.is_seen_elsewhere(&up));
        let mute = of(&|interface| interface.sends_through(&up));
        let addresses = |interface: &Interface| interface.addresses.clone();
        let own = scene.interfaces.iter().flat_map(addresses).collect();
        let indexes = if is_any { vec![EVERY] } else { of(&|interface| !hidden.contains(&interface.index)) };
        Layout { indexes, here, several: Some(Several { own, hidden, mute }), standing }
    }
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted(vec![Wish::Named(DEFAULT.to_owned())])
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(Wish::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl Wish {
    fn name(&self) -> &str {
        match self {
            Wish::Named(name) => name,
            Wish::Any => ANY,
            Wish::Auto => AUTO,
        }
    }

    fn standing(&self, scene: &Scene) -> Standing {
        let found: Vec<&Interface> = match self {
            Wish::Any => return Standing { what: ANY.to_owned(), indexes: vec![], state: State::Ready },
            Wish::Named(name) => {
                scene.interfaces.iter().find(|interface| interface.name == *name).into_iter().collect()
            }
            Wish::Auto => scene
                .interfaces
                .iter()
                .filter(|interface| scene.default_routes.contains(&interface.index))
                .collect(),
        };
        let state = if found.iter().any(|interface| interface.is_up && interface.has_carrier) {
            State::Ready
        } else if found.iter().any(|interface| interface.is_up) {
            State::NoCarrier
        } else if found.is_empty() {
            State::Missing
        } else {
            State::Down
        };
        let names: Vec<&str> = found.iter().map(|interface| interface.name.as_str()).collect();
        let what = if found.is_empty() { self.name().to_owned() } else { names.join(", ") };
        Standing { what, indexes: found.iter().map(|interface| interface.index).collect(), state }
    }
}

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// All interfaces.
    pub interfaces: Vec<Interface>,
    /// The indexes of those that the default routes lead to.
    pub default_routes: Vec<u32>,
}

impl Scene {
    /// The names of all interfaces.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.interfaces.iter().map(|interface| interface.name.clone()).collect()
    }
}

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its number; a name that comes back has another one.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its hardware address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// It was switched on.
    pub is_up: bool,
    /// It can carry packets.
    pub has_carrier: bool,
    /// It leads back to this host.
    pub is_loopback: bool,
    /// The kernel's number for what its frames look like (`ARPHRD_*`).
    pub hardware: u16,
    /// How it treats the packets of others.
    pub kind: Kind,
    /// The bridge, bond or routing domain that it is a port of.
    pub master: Option<u32>,
    /// The interface below it.
    pub below: Option<u32>,
}

/// Interfaces that share their packets with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// All others, and those whose ports say that they are.
    #[default]
    Usual,
    /// A routing domain (VRF): shows what its ports receive as packets that leave.
    Vrf,
    /// Takes part in the packets of the one below (macvlan, ipvlan and their taps).
    Share,
}

impl Interface {
    /// All interfaces, as one.
    #[must_use]
    pub fn every() -> Interface {
        Interface { index: EVERY, name: ANY.to_owned(), is_up: true, ..Interface::default() }
    }

    /// Whether everything that comes in or leaves here is seen at one of `others` too, and counts
    /// there.
    fn is_seen_elsewhere(&self, others: &[&Interface]) -> bool {
        let find = |index: Option<u32>| others.iter().find(|other| Some(other.index) == index);
        match (find(self.master), self.kind) {
            // What comes in at a port goes up to its bridge or bond, and what leaves comes from there.
            (Some(master), _) if master.kind != Kind::Vrf => true,
            (_, Kind::Vrf) => others.iter().any(|other| other.master == Some(self.index)),
            // With the same address the one below cannot tell whom a packet is for.
            (_, Kind::Share) => find(self.below).is_some_and(|below| below.mac == self.mac),
            _ => false,
        }
    }

    /// Whether everything that leaves here is seen at one of `others` too, and counts there.
    fn sends_through(&self, others: &[&Interface]) -> bool {
        let shares = || others.iter().any(|other| Some(other.index) == self.below);
        self.is_loopback || self.kind == Kind::Share && shares()
    }

    /// Bytes in front of the IP header on this link, as knockd 0.8 counts them.
    #[must_use]
    pub fn link_header(&self) -> u64 {
        match self.link() {
            Link::Ethernet => 14,
            Link::Cooked => 16,
            Link::Raw => 0,
        }
    }

    /// What the debug output of knockd 0.8 says of this link.
    #[must_use]
    pub fn link_words(&self) -> &'static str {
        match self.link() {
            Link::Ethernet => "ethernet interface detected",
            Link::Cooked => "ppp interface detected (linux \"cooked\" encapsulation)",
            Link::Raw => "raw interface detected, no encapsulation",
        }
    }

    fn link(&self) -> Link {
        // linux/if_arp.h
        match self.hardware {
            _ if self.index == EVERY => Link::Cooked,
            1 | 772 => Link::Ethernet,
            519 | 768 | 769 | 776 | 778 | 0xfffe => Link::Raw,
            _ => Link::Cooked,
        }
    }
}

/// How libpcap would see a link; nothing but the debug output depends on it.
enum Link {
    Ethernet,
    Cooked,
    Raw,
}

/// What is to be listened on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The interfaces that get a capture.
    pub indexes: Vec<u32>,
    /// The addresses that knocks may be for.
    pub here: Vec<IpAddr>,
    /// What keeps packets from being counted twice; needed for more than one interface.
    pub several: Option<Several>,
    /// How things stand with each that was asked for.
    pub standing: Vec<Standing>,
}

/// What keeps packets from being counted twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Several {
    /// All addresses of this host: what leaves counts if this host itself sends it to another.
    pub own: Vec<IpAddr>,
    /// Interfaces whose packets all count elsewhere.
    pub hidden: Vec<u32>,
    /// Interfaces whose leaving packets count elsewhere.
    pub mute: Vec<u32>,
}

/// How it stands with one that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub what: String,
    /// The interfaces that it stands for now.
    pub indexes: Vec<u32>,
    /// Whether it can be listened on.
    pub state: State,
}

/// Whether an interface can be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It can.
    Ready,
    /// It is up, but nothing is at its other end.
    NoCarrier,
    /// It is switched off.
    Down,
    /// There is none.
    Missing,
}

impl Standing {
    /// What the log says when it has come to this; `before` it was another.
    #[must_use]
    pub fn line(&self, before: Option<&Standing>) -> String {
        let what = &self.what;
        match self.state {
            State::Ready => format!("listening on {what}"),
            State::NoCarrier => format!("{what} has no carrier, waiting for it"),
            State::Down => format!("{what} is down, waiting for it"),
            State::Missing if what == AUTO => "there is no default route, waiting for one".to_owned(),
            State::Missing if before.is_some() => format!("{what} is gone, waiting for it"),
            State::Missing => format!("{what} is not there, waiting for it"),
        }
    }
}
