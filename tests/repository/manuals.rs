//! The manual pages against the programs: what there is, is in the page, and the page names nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use knocking::command_line::OptionSpec;
use knocking::config::directives::{DIRECTIVES, Place};
use knocking::daemon;
use knocking::status::keys::{DOORKEEPER_KEYS, WATCHER_KEYS};

use crate::support::folder::read;
use crate::support::namespace::Namespace;
use crate::support::world::run;

trials![
    options_of_knockd,
    directives_of_knockd,
    sections_of_knockd,
    keys_of_the_status,
    options_of_knock,
    the_help_is_the_command_line,
    defaults_are_true,
];

fn page(name: &str) -> String {
    let text = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name));
    assert!(!text.is_empty(), "man/{name} is missing");
    text
}

/// The lines of a section, without its heading.
fn section<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, rest) =
        page.split_once(&format!("\n.Sh {name}\n")).unwrap_or_else(|| panic!("no section {name}"));
    rest.split_once("\n.Sh ").map_or(rest, |(section, _)| section)
}

/// The options that have an entry in a section: `.It Fl i , -interface Ar interface`.
fn described_options(section: &str) -> BTreeSet<String> {
    let mut described = BTreeSet::new();
    for item in section.lines().filter_map(|line| line.strip_prefix(".It Fl ")) {
        let mut is_name = true;
        for word in item.split([' ', ',']).filter(|word| !word.is_empty()) {
            is_name = word == "Fl" || is_name && !["Ar", "Op", "Ns", "Cm"].contains(&word);
            if is_name && word != "Fl" {
                described.insert(format!("-{word}"));
            }
        }
    }
    described
}

/// The options that a page names anywhere, be it in passing.
fn named_options(page: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with('.')) {
        let mut words = line.split(' ');
        while let Some(word) = words.next() {
            if word == "Fl" || word == ".Fl" {
                named.extend(
                    words.next().map(|name| format!("-{}", name.trim_end_matches([',', '.', ';', ')']))),
                );
            }
        }
    }
    named
}

/// `-i` and `--interface` of each option that is not hidden.
fn options(options: &[OptionSpec]) -> BTreeSet<String> {
    let shown = options.iter().filter(|option| !option.is_hidden);
    shown
        .flat_map(|choice| {
            let short = choice.short.map(|letter| format!("-{letter}"));
            short.into_iter().chain([format!("--{}", choice.long)])
        })
        .collect()
}

fn options_of_knockd() {
    let page = page("knockd.1");
    let there = options(daemon::cli::OPTIONS);
    assert_eq!(described_options(section(&page, "OPTIONS")), there);
    for name in named_options(&page) {
        // Joined ones, as in the synopsis.
        let is_known =
            there.contains(&name) || name.chars().skip(1).all(|c| there.contains(&format!("-{c}")));
        assert!(is_known, "the page names {name}");
    }
    let synopsis = named_options(section(&page, "SYNOPSIS")).into_iter().collect::<String>();
    for name in there.iter().filter(|name| !name.starts_with("--")) {
        assert!(synopsis.contains(&name[1..]), "{name} is not in the synopsis");
    }
}

/// The members of each object of the JSON form, in their order.
fn keys_of_the_status() {
    let page = page("knockd.1");
    let status = section(&page, "STATUS");
    for (half, keys) in [("watcher", WATCHER_KEYS), ("doorkeeper", DOORKEEPER_KEYS)] {
        let mut objects: Vec<(String, Vec<&str>)> = vec![(half.to_owned(), Vec::new())];
        for key in keys {
            let Some(list) = key.list else {
                objects[0].1.push(key.name);
                continue;
            };
            if !objects[0].1.contains(&list) {
                objects[0].1.push(list);
                objects.push((format!("{half}.{list}"), Vec::new()));
            }
            let object = objects.iter_mut().find(|it| it.0.ends_with(&format!(".{list}"))).unwrap();
            object.1.push(key.name);
        }
        for (name, members) in objects {
            let (_, rest) =
                status.split_once(&format!(".It Ic {name}\n")).unwrap_or_else(|| panic!("no {name}"));
            let text = rest.split("\n.").next().unwrap().replace('\n', " ");
            // Without the values that stand in brackets.
            let outside: String =
                text.split('(').map(|it| it.split_once(')').map_or(it, |it| it.1)).collect();
            let described: Vec<&str> = outside.split(',').map(str::trim).collect();
            assert_eq!(described, members, "{name}");
        }
    }
}

fn directives_of_knockd() {
    let page = page("knockd.1");
    let configuration = section(&page, "CONFIGURATION");
    let (_, rest) = configuration.split_once("\n.Ss Options section\n").expect("the options section");
    let (options, rest) = rest.split_once("\n.Ss Door sections\n").expect("the door sections");
    let (doors, rest) = rest.split_once("\n.Ss Rules\n").expect("the rules");
    let rules = rest.split_once("\n.Ss ").map_or(rest, |(rules, _)| rules);
    let described = |text: &str| -> BTreeSet<String> {
        let items = text.lines().filter_map(|line| line.strip_prefix(".It Cm "));
        items.filter_map(|item| item.split(' ').next().map(str::to_owned)).collect()
    };
    let there = |place: &str| -> BTreeSet<String> {
        let directives = DIRECTIVES.iter().filter(|it| {
            let its_place = match (it.place, it.has_value) {
                (Place::Door, _) => "doors",
                (Place::Anywhere, true) => "rules",
                (Place::Options, _) | (Place::Anywhere, false) => "options",
            };
            its_place == place
        });
        directives
            .flat_map(|it| [it.name].iter().chain(it.aliases).copied().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    };
    assert_eq!(described(options), there("options"), "options");
    assert_eq!(described(doors), there("doors"), "directives of a door");
    assert_eq!(described(rules), there("rules"), "rules");
    // Whether it has a value.
    for directive in DIRECTIVES {
        let item = format!(".It Cm {}", directive.name);
        let line = configuration.lines().find(|line| *line == item || line.starts_with(&format!("{item} ")));
        assert_eq!(
            line.is_some_and(|line| line.contains(" No = ")),
            directive.has_value,
            "{}",
            directive.name
        );
    }
    // What is mentioned elsewhere exists.
    let known: Vec<&str> =
        DIRECTIVES.iter().flat_map(|it| [it.name].into_iter().chain(it.aliases.to_vec())).collect();
    for line in page.lines() {
        let Some(name) = line.strip_prefix(".Cm ").or_else(|| line.strip_prefix(".It Cm ")) else { continue };
        let name = name.split(' ').next().unwrap_or_default();
        // Values, such as on and off, are written small.
        let is_directive = name.starts_with(|first: char| first.is_ascii_uppercase());
        assert!(known.contains(&name) || !is_directive, "the page names the directive {name}");
    }
}

fn sections_of_knockd() {
    let page = page("knockd.1");
    for name in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "CONFIGURATION",
        "SIGNALS",
        "FILES",
        "EXIT STATUS",
        "EXAMPLES",
        "SECURITY",
        "COMPATIBILITY",
        "SEE ALSO",
    ] {
        assert!(section(&page, name).len() > 30, "{name} says nothing");
    }
    for signal in ["SIGHUP", "SIGTERM", "SIGINT"] {
        assert!(section(&page, "SIGNALS").contains(signal), "{signal}");
    }
}

/// The client's command line is not for others to see: its own help tells what there is.
fn options_of_knock() {
    let page = page("knock.1");
    let help = run(&Namespace::new(), env!("CARGO_BIN_EXE_knock"), &["--help"]).stdout;
    assert_eq!(described_options(section(&page, "OPTIONS")), options_in(&help));
    for name in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
        assert!(section(&page, name).len() > 10, "{name} says nothing");
    }
}

/// The options that a help text lists: lines that begin with one.
fn options_in(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    // What it does stands behind two blanks.
    let columns = lines.filter_map(|line| line.split("  ").next());
    let names = columns.flat_map(|column| column.split(' ').filter(|word| word.starts_with('-')));
    let name = |name: &str| name.split('[').next().unwrap_or(name).trim_end_matches(',').to_owned();
    names.map(name).collect()
}

fn the_help_is_the_command_line() {
    assert_eq!(options_in(daemon::cli::USAGE), options(daemon::cli::OPTIONS));
}

/// The defaults that the page gives are those of the program.
fn defaults_are_true() {
    let page = page("knockd.1");
    for path in [daemon::cli::CONFIG_FILE, daemon::cli::PID_FILE] {
        assert!(section(&page, "FILES").contains(path), "{path}");
        assert!(section(&page, "OPTIONS").contains(path), "{path}");
    }
    let number = |directive: &str| -> i32 {
        let (_, entry) = page.split_once(&format!(".It Cm {directive} ")).expect(directive);
        let (_, value) = entry.split_once("\nDefault: ").expect("a default");
        value.split(['.', '\n']).next().unwrap().parse().expect("a number")
    };
    assert_eq!(usize::try_from(number("Max_Attempts")), Ok(knocking::engine::MAX_ATTEMPTS));
    assert_eq!(number("Seq_Timeout"), knocking::config::DEFAULT_SEQ_TIMEOUT);
    assert_eq!(number("Cmd_Timeout"), knocking::config::DEFAULT_CMD_TIMEOUT);
}
