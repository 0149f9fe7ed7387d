//! The choice of interfaces, as values, including links that not every kernel supports.

use knocking::filter::interfaces::{EVERY, Interface, Kind, Layout, Scene, Wanted};

trials![
    names_are_parsed,
    one_name_is_one_interface,
    missing_interfaces_are_waited_for,
    auto_is_the_interface_of_the_default_route,
    packets_of_ports_count_at_their_master,
    packets_of_a_vrf_count_at_its_ports,
    shared_packets_count_once,
    any_is_every_interface,
];

/// An interface that is up.
fn interface(name: &str, index: u32) -> Interface {
    let addresses = vec![format!("192.0.2.{index}").parse().unwrap()];
    let mac = Some([2, 0, 0, 0, 0, u8::try_from(index).unwrap()]);
    Interface {
        index,
        name: name.to_owned(),
        addresses,
        mac,
        is_up: true,
        has_carrier: true,
        is_loopback: name == "lo",
        ..Interface::default()
    }
}

fn port(name: &str, index: u32, master: u32) -> Interface {
    Interface { master: Some(master), ..interface(name, index) }
}

fn scene(interfaces: &[Interface]) -> Scene {
    Scene { interfaces: interfaces.to_vec(), default_routes: Vec::new() }
}

fn layout(wanted: &str, scene: &Scene) -> Layout {
    Wanted::parse(wanted).unwrap().layout(scene)
}

/// The log line of each item.
fn lines(layout: &Layout) -> Vec<String> {
    layout.status.iter().map(|status| status.line(false)).collect()
}

fn names_are_parsed() {
    let read = |text| Wanted::parse(text).map(|wanted| wanted.to_string());
    for (text, wanted) in [
        ("eth0", Some("eth0")),
        (" eth0 ,ppp0,, eth0", Some("eth0, ppp0")),
        ("auto", Some("auto")),
        ("wg0,auto", Some("wg0, auto")),
        ("eth0,any,auto", Some("any")),
        ("Any", Some("Any")),
        ("", None),
        (" , ", None),
    ] {
        assert_eq!(read(text).as_deref(), wanted, "{text:?}");
    }
    assert_eq!(Wanted::default().to_string(), "eth0");
}

fn one_name_is_one_interface() {
    let bridge = interface("br0", 3);
    let scene = scene(&[interface("lo", 1), port("eth0", 2, 3), bridge]);
    for (name, index) in [("lo", 1), ("eth0", 2), ("br0", 3)] {
        let layout = layout(name, &scene);
        // As in knockd 0.8: also a port of a bridge, and packets for other hosts.
        assert_eq!((layout.indexes, layout.count_once), (vec![index], None), "{name}");
        assert_eq!(layout.here, scene.interfaces[index as usize - 1].addresses);
    }
    let missing = layout("eth1", &scene);
    assert_eq!((missing.indexes.as_slice(), missing.here.as_slice()), (&[][..], &[][..]));
    assert_eq!(lines(&missing), ["eth1 is not there, waiting for it"]);
}

fn missing_interfaces_are_waited_for() {
    let patient = |text| Wanted::parse(text).unwrap().waits_by_default();
    assert!(!patient("eth0"));
    assert!(patient("eth0,eth1") && patient("auto") && patient("any"));
    let down = Interface { is_up: false, has_carrier: false, ..interface("eth0", 2) };
    let idle = Interface { has_carrier: false, ..interface("eth1", 3) };
    let scene = scene(&[down, idle, interface("eth2", 4)]);
    let layout = layout("eth0,eth1,eth2,eth3,auto", &scene);
    assert_eq!(
        lines(&layout),
        [
            "eth0 is down, waiting for it",
            "eth1 has no carrier, waiting for it",
            "listening on eth2",
            "eth3 is not there, waiting for it",
            "there is no default route, waiting for one",
        ]
    );
    let gone = &layout.status[3];
    assert_eq!(gone.line(true), "eth3 is gone, waiting for it");
    // Interfaces that are down get a capture too, so that no packet is missed when they come up.
    assert_eq!(layout.indexes, [2, 3, 4]);
}

fn auto_is_the_interface_of_the_default_route() {
    let mut scene = scene(&[interface("eth0", 2), interface("ppp0", 3)]);
    assert_eq!(layout("auto", &scene).indexes, []);
    scene.default_routes = vec![3];
    let one = layout("auto", &scene);
    assert_eq!((one.indexes, one.count_once), (vec![3], None));
    scene.default_routes = vec![3, 2];
    let both = layout("auto", &scene);
    assert_eq!(lines(&both), ["listening on eth0, ppp0"]);
    assert_eq!(both.indexes, [2, 3]);
    assert!(both.count_once.is_some());
}

fn packets_of_ports_count_at_their_master() {
    let mut scene =
        scene(&[port("eth0", 2, 4), port("eth1", 3, 4), interface("bond0", 4), interface("ppp0", 5)]);
    assert_eq!(layout("eth0,eth1,bond0,ppp0", &scene).indexes, [4, 5]);
    // Without a capture on the master.
    assert_eq!(layout("eth0,ppp0", &scene).indexes, [2, 5]);
    assert_eq!(layout("any", &scene).count_once.unwrap().counted_elsewhere, [2, 3]);
    // A master that is down passes nothing up.
    scene.interfaces[2].is_up = false;
    assert_eq!(layout("any", &scene).count_once.unwrap().counted_elsewhere, []);
    // A master that is a port itself.
    scene.interfaces[2].is_up = true;
    scene.interfaces[2].master = Some(6);
    scene.interfaces.push(interface("br0", 6));
    assert_eq!(layout("any", &scene).count_once.unwrap().counted_elsewhere, [2, 3, 4]);
}

fn packets_of_a_vrf_count_at_its_ports() {
    let domain = Interface { kind: Kind::Vrf, ..interface("red", 4) };
    let scene = scene(&[port("eth0", 2, 4), interface("eth1", 3), domain]);
    assert_eq!(layout("any", &scene).count_once.unwrap().counted_elsewhere, [4]);
    assert_eq!(layout("eth0,red", &scene).indexes, [2]);
    assert_eq!(layout("eth1,red", &scene).indexes, [3, 4]);
}

fn shared_packets_count_once() {
    let share = |name, index| Interface { kind: Kind::Share, below: Some(2), ..interface(name, index) };
    let below = interface("eth0", 2);
    let same = Interface { mac: below.mac, ..share("ipvl0", 4) };
    let scene = scene(&[below, share("macvl0", 3), same, interface("ppp0", 5)]);
    let count_once = layout("any", &scene).count_once.unwrap();
    assert_eq!((count_once.counted_elsewhere, count_once.outgoing_counted_elsewhere), (vec![4], vec![3, 4]));
    let count_once = layout("macvl0,ipvl0", &scene).count_once.unwrap();
    assert_eq!((count_once.counted_elsewhere, count_once.outgoing_counted_elsewhere), (vec![], vec![]));
}

fn any_is_every_interface() {
    let scene = scene(&[interface("lo", 1), interface("eth0", 2)]);
    let layout = layout("any", &scene);
    assert_eq!(layout.indexes, [EVERY]);
    assert_eq!(layout.here.len(), 2);
    let count_once = layout.count_once.unwrap();
    assert_eq!((count_once.own, count_once.outgoing_counted_elsewhere), (layout.here, vec![1]));
}
