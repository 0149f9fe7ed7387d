//! Which interfaces to listen on, given the configuration and the interfaces that exist.
//!
//! A packet that passes several interfaces must count once. It counts where it is delivered to this
//! host's addresses or first enters the host; a packet that the host sends counts where it leaves.
//! [`Wanted::layout`] works out what that means for each interface.

use std::fmt;
use std::net::IpAddr;

/// The interface to listen on if none is named.
pub const DEFAULT: &str = "eth0";

/// The name that means the interface of the default route.
pub const AUTO: &str = "auto";
/// The name that means every interface.
const ANY: &str = "any";

/// How many interfaces a remark names at most.
const SHOWN_NAMES: usize = 3;

/// The index that means every interface.
pub const EVERY: u32 = 0;

/// The value of the directive `Interface`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted(Vec<Selector>);

/// One item of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Selector {
    /// The interface of this name.
    Named(String),
    /// All interfaces.
    Any,
    /// Those of the default routes, IPv4 and IPv6.
    Auto,
}

impl Wanted {
    /// Parses a name or a list of names; `None` if it names nothing.
    #[must_use]
    pub fn parse(text: &str) -> Option<Wanted> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let mut selectors: Vec<Selector> = Vec::new();
        for name in names {
            let selector = match name {
                ANY => Selector::Any,
                AUTO => Selector::Auto,
                name => Selector::Named(name.to_owned()),
            };
            if !selectors.contains(&selector) {
                selectors.push(selector);
            }
        }
        if selectors.contains(&Selector::Any) {
            selectors = vec![Selector::Any];
        }
        (!selectors.is_empty()).then_some(Wanted(selectors))
    }

    /// The default of `Wait_Interface`: whether to wait for interfaces that are missing.
    #[must_use]
    pub fn waits_by_default(&self) -> bool {
        !matches!(self.0.as_slice(), [Selector::Named(_)])
    }

    /// Whether the choice depends on the default routes.
    #[must_use]
    pub fn follows_routes(&self) -> bool {
        self.0.contains(&Selector::Auto)
    }

    /// Remarks for a user who named a port of a bridge or bond, where the bridge or bond has this host's
    /// addresses, or an interface without an address.
    #[must_use]
    pub fn remarks(&self, scene: &Scene) -> Vec<String> {
        let find = |index: Option<u32>| scene.interfaces.iter().find(|it| Some(it.index) == index);
        let is_wanted = |interface: &Interface| {
            let is_it = |selector: &Selector| match selector {
                Selector::Named(name) => interface.is_called(name),
                Selector::Any | Selector::Auto => true,
            };
            self.0.iter().any(is_it)
        };
        let remark = |selector: &Selector| -> Option<String> {
            let Selector::Named(name) = selector else { return None };
            let deaf = scene.interfaces.iter().find(|interface| interface.is_called(name))?;
            if !deaf.addresses.is_empty() {
                return None;
            }
            if let Some(master) = find(deaf.master).filter(|master| master.kind != Kind::Vrf) {
                return (!is_wanted(master)).then(|| {
                    format!(
                        "{name} is a port of {master}: knocks for this host arrive at {master}, so listen on {master}",
                        master = master.name
                    )
                });
            }
            let has_addresses =
                |it: &&Interface| it.is_up && !it.is_loopback && !it.addresses.is_empty() && !is_wanted(it);
            let others = scene.interfaces.iter().filter(has_addresses);
            let others: Vec<&str> = others.map(|it| it.name.as_str()).take(SHOWN_NAMES).collect();
            let instead = match others.as_slice() {
                [] => String::new(),
                others => format!("; addresses are at {}", others.join(", ")),
            };
            deaf.is_up.then(|| {
                format!("{name} has no address: knocks for this host count there when it has one{instead}")
            })
        };
        self.0.iter().filter_map(remark).collect()
    }

    /// Which interfaces to listen on, given those that exist now.
    #[must_use]
    pub fn layout(&self, scene: &Scene) -> Layout {
        let is_any = self.0.contains(&Selector::Any);
        let status: Vec<Status> = self.0.iter().map(|selector| selector.status(scene)).collect();
        let chosen: Vec<u32> = status.iter().flat_map(|status| &status.indexes).copied().collect();
        let chosen: Vec<&Interface> =
            scene.interfaces.iter().filter(|interface| is_any || chosen.contains(&interface.index)).collect();
        let here = chosen.iter().flat_map(|interface| &interface.addresses).copied().collect();
        if !is_any && self.0.len() == 1 && chosen.len() < 2 {
            let indexes = chosen.iter().map(|interface| interface.index).collect();
            return Layout { indexes, here, count_once: None, status };
        }
        let up: Vec<&Interface> = chosen.iter().copied().filter(|interface| interface.is_up).collect();
        let of = |test: &dyn Fn(&Interface) -> bool| -> Vec<u32> {
            chosen.iter().filter(|interface| test(interface)).map(|interface| interface.index).collect()
        };
        let counted_elsewhere = of(&|interface| interface.is_seen_elsewhere(&up));
        let outgoing_counted_elsewhere = of(&|interface| interface.sends_through(&up));
        let addresses = |interface: &Interface| interface.addresses.clone();
        let own = scene.interfaces.iter().flat_map(addresses).collect();
        let indexes =
            if is_any { vec![EVERY] } else { of(&|interface| !counted_elsewhere.contains(&interface.index)) };
        Layout {
            indexes,
            here,
            count_once: Some(CountOnce { own, counted_elsewhere, outgoing_counted_elsewhere }),
            status,
        }
    }
}

impl Default for Wanted {
    fn default() -> Wanted {
        Wanted(vec![Selector::Named(DEFAULT.to_owned())])
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(Selector::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl Selector {
    fn name(&self) -> &str {
        match self {
            Selector::Named(name) => name,
            Selector::Any => ANY,
            Selector::Auto => AUTO,
        }
    }

    fn status(&self, scene: &Scene) -> Status {
        let found: Vec<&Interface> = match self {
            Selector::Any => return Status { what: ANY.to_owned(), indexes: vec![], state: State::Ready },
            Selector::Named(name) => {
                scene.interfaces.iter().find(|interface| interface.is_called(name)).into_iter().collect()
            }
            Selector::Auto => scene
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
        // A name from the configuration is shown as it was given, as knockd 0.8 does; it may be an
        // alternative name.
        let is_given = found.is_empty() || matches!(self, Selector::Named(_));
        let what = if is_given { self.name().to_owned() } else { names.join(", ") };
        Status { what, indexes: found.iter().map(|interface| interface.index).collect(), state }
    }
}

/// The interfaces and default routes of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// All interfaces.
    pub interfaces: Vec<Interface>,
    /// The indexes of the interfaces that the default routes use.
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
    /// Its index; an interface that is created again under the same name gets another one.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names (`ip link property`).
    pub alternatives: Vec<String>,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Its hardware address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// It is switched on (`IFF_UP`).
    pub is_up: bool,
    /// It can carry packets (`IFF_LOWER_UP`).
    pub has_carrier: bool,
    /// It is a loopback interface.
    pub is_loopback: bool,
    /// The kernel's number of its link type (`ARPHRD_*`).
    pub hardware: u16,
    /// How it shares packets with other interfaces.
    pub kind: Kind,
    /// The index of the bridge, bond or routing domain that it is a port of.
    pub master: Option<u32>,
    /// The index of the interface below it.
    pub below: Option<u32>,
}

/// How an interface shares packets with others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Not at all; also a bridge or bond, which its ports name as their `master`.
    #[default]
    Usual,
    /// A routing domain (VRF): what its ports receive shows up here as outgoing packets.
    Vrf,
    /// Shares the packets of the interface below (macvlan, ipvlan and their taps).
    Share,
}

impl Interface {
    /// The pseudo-interface that stands for all.
    #[must_use]
    pub fn every() -> Interface {
        Interface { index: EVERY, name: ANY.to_owned(), is_up: true, ..Interface::default() }
    }

    /// Whether this is one of its names.
    fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alternatives.iter().any(|other| other == name)
    }

    /// Whether one of `others` sees all packets of this interface too, so that they count there.
    fn is_seen_elsewhere(&self, others: &[&Interface]) -> bool {
        let find = |index: Option<u32>| others.iter().find(|other| Some(other.index) == index);
        match (find(self.master), self.kind) {
            // A bridge or bond sees all that its ports receive and send.
            (Some(master), _) if master.kind != Kind::Vrf => true,
            (_, Kind::Vrf) => others.iter().any(|other| other.master == Some(self.index)),
            // With the same hardware address, the interface below receives all packets as its own.
            (_, Kind::Share) => find(self.below).is_some_and(|below| below.mac == self.mac),
            _ => false,
        }
    }

    /// Whether all packets that leave here are seen again, at one of `others` or, on loopback, as incoming
    /// packets, so that they count there.
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

    /// How the debug output of knockd 0.8 describes this link.
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

/// The link type that libpcap would report; only the debug output depends on it.
enum Link {
    Ethernet,
    Cooked,
    Raw,
}

/// The log text after "starting up, ": the interfaces that are listened on or, if there are none yet, the
/// `wanted` ones that are waited for.
#[must_use]
pub fn words<'a>(standing: impl IntoIterator<Item = (&'a str, State)>, wanted: &str) -> String {
    let standing = standing.into_iter();
    let here = standing.filter(|(_, state)| matches!(state, State::Ready | State::NoCarrier));
    let names: Vec<&str> = here.map(|(what, _)| what).collect();
    if names.is_empty() {
        format!("waiting for {wanted}")
    } else {
        format!("listening on {}", names.join(", "))
    }
}

/// Where to listen, and for which addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The interfaces that get a capture.
    pub indexes: Vec<u32>,
    /// The addresses of this host that knocks may be sent to.
    pub here: Vec<IpAddr>,
    /// Prevents packets from being counted twice; set for more than one interface.
    pub count_once: Option<CountOnce>,
    /// The status of each item of [`Wanted`], in the same order.
    pub status: Vec<Status>,
}

/// Which packets to ignore, so that none is counted twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountOnce {
    /// All addresses of this host: an outgoing packet counts if it is from one of them to another host.
    pub own: Vec<IpAddr>,
    /// Interfaces whose packets all count at another interface.
    pub counted_elsewhere: Vec<u32>,
    /// Interfaces whose outgoing packets count elsewhere.
    pub outgoing_counted_elsewhere: Vec<u32>,
}

/// Whether one item of [`Wanted`] can be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The name to show: as given, or those of the interfaces that `auto` stands for.
    pub what: String,
    /// The indexes of its interfaces.
    pub indexes: Vec<u32>,
    /// Whether it can be listened on.
    pub state: State,
}

/// Whether an interface can be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It is up and has a carrier.
    Ready,
    /// It is up but has no carrier.
    NoCarrier,
    /// It is switched off.
    Down,
    /// It does not exist.
    Missing,
}

impl Status {
    /// The log line for a change to this status.
    #[must_use]
    pub fn line(&self, was_known: bool) -> String {
        self.state.line(&self.what, was_known)
    }
}

impl State {
    /// The log line for a change of `what` to this state; `was_known` if an earlier line named it.
    #[must_use]
    pub fn line(self, what: &str, was_known: bool) -> String {
        match self {
            State::Ready => format!("listening on {what}"),
            State::NoCarrier => format!("{what} has no carrier, waiting for it"),
            State::Down => format!("{what} is down, waiting for it"),
            State::Missing if what == AUTO => "there is no default route, waiting for one".to_owned(),
            State::Missing if was_known => format!("{what} is gone, waiting for it"),
            State::Missing => format!("{what} is not there, waiting for it"),
        }
    }
}
