//! Who is let in by the kernel, when there are many.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use knocking::door::open::{Family, SetName};
use knocking::door::ports::Ports;
use knocking::firewall::element::Element;
use knocking::opening::admissions::{Admission, Admissions, Manners, Spot, Whose};
use knocking::time::Now;
use litemap::LiteMap;
use nix::time::{ClockId, clock_gettime};

trials![many_admissions_take_little_time];

/// Strangers who can open a door are let in by the thousand: each costs the same however many there are.
fn many_admissions_take_little_time() {
    const MANY: u32 = 60_000;
    // Of this thread, so that the load of the machine does not count.
    let time = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let began = time();
    let (door, ports): (Arc<str>, Arc<[Ports]>) = (Arc::from("d"), Arc::from([]));
    let set = Arc::new(SetName { family: Family::Inet, table: "t".to_owned(), set: "s".to_owned() });
    let now = Now { uptime: Duration::from_secs(1), unix: Duration::ZERO };
    let mut admissions = Admissions::new();
    // From the highest to the lowest, which a sorted list has to move all others for.
    for number in (0..MANY).rev() {
        let knocker = IpAddr::from(Ipv4Addr::from_bits(0x0b00_0000 + number));
        let network = IpNet::from(knocker);
        admissions.want(Admission {
            whose: Whose { door: door.clone(), knocker, ports: ports.clone() },
            network,
            spots: vec![Spot { set: set.clone(), element: Element::of_network(network) }],
            after: Some(Duration::from_secs(10)),
            until: Some(Duration::from_secs(11)),
            made: None,
            manners: Manners::default(),
        });
        admissions.done(&LiteMap::new(), &|_| false, now);
    }
    assert_eq!(admissions.all().len(), MANY as usize);
    let later = Now { uptime: Duration::from_secs(12), ..now };
    assert_eq!(admissions.due(later).len(), MANY as usize);
    let took = time().saturating_sub(began);
    assert!(took < Duration::from_secs(10), "{took:?}");
}
