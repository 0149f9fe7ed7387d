//! contrib/openwrt: its init script knows every directive that a door can have.

use std::collections::BTreeSet;
use std::path::Path;

use knocking::config::directives::{DIRECTIVES, Place};

use crate::support::folder::read;

trials![every_directive_of_a_door_is_handed_on];

/// The words that the script gives to a variable.
fn words<'a>(script: &'a str, variable: &str) -> BTreeSet<&'a str> {
    let (_, rest) = script.split_once(&format!("\n{variable}='")).expect(variable);
    rest.split_once('\'').expect("the end of the words").0.split_whitespace().collect()
}

fn every_directive_of_a_door_is_handed_on() {
    let script = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/openwrt/files/knockd.init"));
    let (door, rules, options) = (words(&script, "DOOR"), words(&script, "RULES"), words(&script, "OPTIONS"));
    let stands = |name: &str, not_only_in: Place| {
        DIRECTIVES.iter().any(|it| it.name.eq_ignore_ascii_case(name) && it.place != not_only_in)
    };
    for directive in DIRECTIVES.iter().filter(|it| it.place != Place::Options && it.has_value) {
        let name = directive.name.to_lowercase();
        assert!(door.contains(name.as_str()) || rules.contains(name.as_str()), "{name} is left out");
    }
    // What may stand in both places does so here as well.
    for name in rules.iter().chain(&options) {
        assert!(stands(name, Place::Door), "{name} is none of the options");
    }
    for name in &rules {
        assert!(stands(name, Place::Options), "{name} is no rule of a door");
    }
}
