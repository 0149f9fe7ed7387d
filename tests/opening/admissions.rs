//! Who is let in by the kernel, when there are many.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use knocking::door::open::{Family, SetName};
use knocking::door::ports::Ports;
use knocking::firewall::element::Element;
use knocking::opening::admission_id::AdmissionId;
use knocking::opening::admissions::{Admission, Admissions, DoorSettings, SetElement};
use knocking::time::Now;
use litemap::LiteMap;
use nix::time::{ClockId, clock_gettime};

trials![many_admissions_take_little_time, a_slow_firewall_closes_later];

fn at(uptime: f64) -> Now {
    Now { uptime: Duration::from_secs_f64(uptime), unix: Duration::ZERO }
}

fn set() -> Arc<SetName> {
    Arc::new(SetName { family: Family::Inet, table: "t".to_owned(), set: "s".to_owned() })
}

/// Of somebody who knocked at 1 s, for 10 s.
fn admission(knocker: IpAddr, door: &Arc<str>, set: &Arc<SetName>) -> Admission {
    let ports: Arc<[Ports]> = Arc::from([]);
    let network = IpNet::from(knocker);
    Admission {
        id: AdmissionId { door: door.clone(), knocker, ports },
        network,
        set_elements: vec![SetElement { set: set.clone(), element: Element::of_network(network) }],
        after: Some(Duration::from_secs(10)),
        until: Some(Duration::from_secs(11)),
        lag: Duration::ZERO,
        set_handles: None,
        settings: DoorSettings::default(),
    }
}

/// The kernel counts from when it has the element: a door is not called closed while it may still be open.
fn a_slow_firewall_closes_later() {
    let mut admissions = Admissions::new();
    admissions.want(admission("192.0.2.7".parse().unwrap(), &Arc::from("d"), &set()));
    admissions.done(&LiteMap::new(), &|_| false, at(1.0), Duration::from_secs(2));
    assert_eq!(admissions.next_deadline(), Some(Duration::from_millis(13_020)));
    assert_eq!(admissions.due(at(13.0)), []);
    // Put back after a reload of the firewall, which took longer.
    let set_elements: Vec<SetElement> =
        admissions.set_elements(at(5.0)).into_iter().map(|(set_element, _)| set_element.clone()).collect();
    admissions.delay(set_elements.iter(), Duration::from_secs(3));
    admissions.delay(set_elements.iter(), Duration::from_secs(1));
    assert_eq!(admissions.due(at(14.0)), []);
    assert_eq!(admissions.due(at(14.02)).len(), 1);
    assert_eq!(admissions.next_deadline(), None);
}

/// Strangers who can open a door are let in by the thousand: each costs the same however many there are.
fn many_admissions_take_little_time() {
    const MANY: u32 = 60_000;
    // Of this thread, so that the load of the machine does not count.
    let time = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
    let began = time();
    let now = at(1.0);
    let (door, set) = (Arc::from("d"), set());
    let mut admissions = Admissions::new();
    // From the highest to the lowest, which a sorted list has to move all others for.
    for number in (0..MANY).rev() {
        admissions.want(admission(IpAddr::from(Ipv4Addr::from_bits(0x0b00_0000 + number)), &door, &set));
        admissions.done(&LiteMap::new(), &|_| false, now, Duration::ZERO);
    }
    assert_eq!(admissions.all().len(), MANY as usize);
    assert_eq!(admissions.due(at(12.0)).len(), MANY as usize);
    let took = time().saturating_sub(began);
    assert!(took < Duration::from_secs(10), "{took:?}");
}
