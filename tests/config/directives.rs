//! The table of directives.

use std::collections::BTreeSet;

use knocking::config::directives::{DIRECTIVES, Directive, Origin, Place, find};

trials![a_key_means_one_directive_in_each_section, all_directives_of_0_8_are_marked_as_such];

fn is_called(directive: &Directive, key: &str) -> bool {
    directive.names().any(|name| name.eq_ignore_ascii_case(key))
}

fn a_key_means_one_directive_in_each_section() {
    for place in [Place::Options, Place::Door] {
        let here: Vec<&Directive> = DIRECTIVES.iter().filter(|it| it.may_stand_in(place)).collect();
        for key in here.iter().flat_map(|it| it.names()) {
            assert_eq!(here.iter().filter(|it| is_called(it, key)).count(), 1, "{key} in {place:?}");
        }
    }
    for directive in DIRECTIVES {
        for name in directive.names() {
            let key = name.to_ascii_uppercase().into_bytes();
            let places = [Place::Options, Place::Door].into_iter().filter(|it| directive.may_stand_in(*it));
            for place in places {
                let found = find(&key, place, directive.has_value).map(|it| it.name);
                assert_eq!(found, Some(directive.name), "{name} in {place:?}");
                assert!(find(&key, place, !directive.has_value).is_none(), "{name} in {place:?}");
            }
        }
    }
}

/// The directives of knockd 0.8, with their aliases.
fn all_directives_of_0_8_are_marked_as_such() {
    let theirs = |place: Place| -> BTreeSet<&str> {
        let theirs = DIRECTIVES.iter().filter(|it| it.origin == Origin::V08 && it.may_stand_in(place));
        theirs.flat_map(Directive::names).collect()
    };
    assert_eq!(theirs(Place::Options), BTreeSet::from(["LogFile", "PidFile", "Interface", "UseSyslog"]));
    let door = [
        "Sequence",
        "One_Time_Sequences",
        "Seq_Timeout",
        "Timeout",
        "TCPFlags",
        "Target",
        "Start_Command",
        "Command",
        "Start_Command_6",
        "Command_6",
        "Cmd_Timeout",
        "Stop_Command",
        "Stop_Command_6",
        "UseSyslog",
    ];
    assert_eq!(theirs(Place::Door), BTreeSet::from(door));
}
