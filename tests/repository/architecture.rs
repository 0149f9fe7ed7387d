//! The dependency rules of the sources: what may see what. The order of the rooms is the table in `src/lib.rs`.
//!
//! The sources are read as text, without comments, strings and unit tests; a rule is a list of words that must
//! not occur outside the files that may use them.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::path::Path;

trials![
    the_core_does_no_io,
    the_core_does_not_see_the_programs,
    the_core_has_an_order,
    no_circle_of_imports,
    each_system_interface_has_one_place,
    printing_happens_in_two_files,
    the_rules_see_what_they_should,
];

/// A source file, reduced to the code that ends up in the programs.
struct Source {
    /// From `src/` on: `daemon/cli.rs`.
    name: String,
    code: Vec<String>,
}

impl Source {
    /// Everything but the two programs' own folders.
    fn is_core(&self) -> bool {
        !self.is_below("daemon/") && !self.is_below("client/") && !self.is_below("bin/")
    }

    fn is_below(&self, folder: &str) -> bool {
        self.name.starts_with(folder)
    }

    /// The room that this file stands in: the folder, or the file itself directly under `src/`.
    fn room(&self) -> &str {
        self.name.split(['/', '.']).next().unwrap_or_default()
    }

    /// The path of the module: `daemon::watcher::reload`.
    fn module(&self) -> String {
        self.name.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::")
    }

    /// The paths behind each `root` (`crate::`, or the name of a module), with their lines. A group of imports
    /// `a::{b, c}` counts as `a::b` and `a::c`.
    fn paths(&self, root: &str) -> Vec<(usize, String)> {
        let code = self.code.join("\n");
        let mut found = Vec::new();
        for (at, _) in code.match_indices(root) {
            let before = &code[..at];
            let is_within_a_path = before.ends_with(|c: char| c.is_alphanumeric() || "_:.".contains(c));
            // `pub(in crate::daemon)` imports nothing.
            if !is_within_a_path && !before.ends_with("(in ") {
                let line = before.matches('\n').count() + 1;
                found.extend(expand("", &code[at + root.len()..]).into_iter().map(|path| (line, path)));
            }
        }
        found
    }

    /// Every line that contains the word, as `src/file.rs:12: text`.
    fn with(&self, word: &str) -> Vec<String> {
        let lines = self.code.iter().enumerate().filter(|(_, line)| contains_word(line, word));
        lines.map(|(at, line)| format!("src/{}:{}: {}", self.name, at + 1, line.trim())).collect()
    }
}

fn the_core_does_no_io() {
    let words = [
        "fs::",
        "File::",
        "std::fs",
        "process::",
        "std::process",
        "env::",
        "std::env",
        "thread::",
        "std::thread",
        "UdpSocket",
        "TcpStream",
        "TcpListener",
        "UnixStream",
        "UnixListener",
        "UnixDatagram",
        "socket2",
        "nix",
        "pnet",
        "signal_hook",
        "log",
        "env_logger",
        "now()",
        "Instant",
        "SystemTime",
    ];
    let core: Vec<Source> = sources().into_iter().filter(Source::is_core).collect();
    refuse(core.iter().flat_map(|source| words.iter().flat_map(|word| source.with(word))));
}

fn the_core_does_not_see_the_programs() {
    let mut breaches = Vec::new();
    for source in sources() {
        let forbidden: &[&str] = match source.name.as_str() {
            // The map names all modules; it uses none.
            "lib.rs" => &["use"],
            name if name.starts_with("daemon/") => &["client"],
            name if name.starts_with("client/") => &["daemon"],
            name if name.starts_with("bin/") => &[],
            _ => &["client", "daemon"],
        };
        let uses =
            |word: &&str| [format!("crate::{word}"), format!("super::{word}"), format!("knocking::{word}")];
        breaches.extend(forbidden.iter().flat_map(uses).flat_map(|path| source.with(&path)));
    }
    refuse(breaches);
}

/// A room sees the rooms above it in the table; `packet`, the first to touch what strangers send, sees only
/// `door::knock`. A room that is not in the table has no place.
fn the_core_has_an_order() {
    let order = order();
    let mut breaches = Vec::new();
    for source in sources().into_iter().filter(|source| source.is_core() && source.name != "lib.rs") {
        let room = source.room();
        let Some(place) = order.iter().position(|name| name == room) else {
            breaches.push(format!("src/{}: its room is not in the table of src/lib.rs", source.name));
            continue;
        };
        for (line, path) in source.paths("crate::") {
            let other = path.split("::").next().unwrap_or_default();
            let may_see = if other == room {
                true
            } else if room == "packet" {
                path.starts_with("door::knock")
            } else {
                order[..place].iter().any(|name| name == other)
            };
            if !may_see {
                breaches.push(format!("src/{}:{line}: crate::{path}", source.name));
            }
        }
    }
    refuse(breaches);
}

/// No two files import each other, directly or through other files.
fn no_circle_of_imports() {
    refuse(circles(&sources()));
}

/// One circle of imports for each file that is the first of one, as `src/a.rs -> src/b.rs -> src/a.rs`.
fn circles(sources: &[Source]) -> Vec<String> {
    let modules: Vec<String> = sources.iter().map(Source::module).collect();
    let imports: Vec<Vec<usize>> = sources.iter().map(|source| imports(source, &modules)).collect();
    let circles = (0..sources.len()).filter_map(|start| circle(start, &imports));
    let names = |circle: Vec<usize>| -> Vec<String> {
        circle.into_iter().map(|at| format!("src/{}", sources[at].name)).collect()
    };
    circles.map(|circle| names(circle).join(" -> ")).collect()
}

/// The indexes of the modules that a file imports from.
fn imports(source: &Source, modules: &[String]) -> Vec<usize> {
    // The map of the library declares all rooms, and uses none.
    if source.name == "lib.rs" {
        return Vec::new();
    }
    let own = source.module();
    let mut paths: Vec<String> = source.paths("crate::").into_iter().map(|(_, path)| path).collect();
    paths.extend(source.paths("super::").into_iter().map(|(_, path)| above(&own, &path)));
    // Modules that can be used by their bare names: children, and those that were imported.
    let children = modules.iter().filter(|module| module.rsplit_once("::").is_some_and(|(it, _)| it == own));
    let imported = paths.iter().filter(|path| modules.contains(path));
    let bare: HashSet<String> = children.chain(imported).cloned().collect();
    paths.extend(bare.iter().flat_map(|module| {
        let name = module.rsplit("::").next().unwrap_or_default();
        let paths = source.paths(&format!("{name}::")).into_iter();
        paths.map(move |(_, path)| format!("{module}::{path}"))
    }));
    // A path leads to the longest module that it begins with.
    let module_of = |path: &String| {
        let begins = |module: &str| {
            path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        };
        (0..modules.len()).filter(|&at| begins(&modules[at])).max_by_key(|&at| modules[at].len())
    };
    paths.iter().filter_map(module_of).filter(|&at| modules[at] != own).collect()
}

/// The path `super::PATH` in a module, from the top of the crate.
fn above(module: &str, path: &str) -> String {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    match path.strip_prefix("super::") {
        Some(path) => above(parent, path),
        None => format!("{parent}::{path}").trim_start_matches(':').to_owned(),
    }
}

/// The paths that the text begins with, each behind `prefix`.
fn expand(prefix: &str, text: &str) -> Vec<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(text.len());
    let prefix = format!("{prefix}{}", &text[..end]);
    let Some(group) = text[end..].strip_prefix('{') else {
        return vec![prefix.trim_end_matches(':').to_owned()];
    };
    let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = group[start..at].trim();
                start = at + 1;
                if item == "self" {
                    paths.push(prefix.trim_end_matches(':').to_owned());
                } else if !item.is_empty() {
                    paths.extend(expand(&prefix, item));
                }
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

/// The shortest way from a file back to itself through files behind it, so that each circle is found once.
fn circle(start: usize, imports: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = HashSet::new();
    while let Some(way) = ways.pop_front() {
        for &next in &imports[*way.last()?] {
            if next == start {
                return Some([way, vec![start]].concat());
            }
            if next > start && seen.insert(next) {
                ways.push_back([way.as_slice(), &[next]].concat());
            }
        }
    }
    None
}

/// The rooms named in the first column of the table in `src/lib.rs`.
fn order() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = fs::read_to_string(path).expect("src/lib.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | [`"));
    rows.filter_map(|row| Some(row.split_once("`]")?.0.to_owned())).collect()
}

fn each_system_interface_has_one_place() {
    let places: [(&[&str], &[&str]); 7] = [
        (
            &["Domain::PACKET", "AF_PACKET", "datalink::channel"],
            &["daemon/capture/socket.rs", "client/send/raw.rs"],
        ),
        (
            &["SockFilter"],
            &["daemon/capture/socket.rs", "client/send/raw.rs", "daemon/doorkeeper/nftables/changes.rs"],
        ),
        (
            &[".spawn()", ".status()", ".output()", ".exec()", "posix_spawn", "fork()"],
            // The last three run what the user of the client names.
            &[
                "daemon/doorkeeper/commands.rs",
                "daemon/processes.rs",
                "client/system/unix.rs",
                "client/system/windows.rs",
                "client/lookup/source.rs",
            ],
        ),
        (&["clap"], &["command_line.rs"]),
        (&["hmac", "md5", "sha1", "sha2"], &["door/digest.rs"]),
        (&["aes", "cbc"], &["door/spa/sealed.rs"]),
        (
            &["unsafe", "unsafe_code"],
            &[
                "client/system/echo.rs",
                "daemon/capture/ring.rs",
                "daemon/pages.rs",
                "daemon/sandbox/install.rs",
            ],
        ),
    ];
    let mut breaches = Vec::new();
    for source in sources() {
        for (words, files) in places {
            if !files.contains(&source.name.as_str()) {
                breaches.extend(words.iter().flat_map(|word| source.with(word)));
            }
        }
    }
    refuse(breaches);
}

fn printing_happens_in_two_files() {
    let may = ["daemon/log/output.rs", "client/output.rs"];
    let words = ["println!", "print!", "eprintln!", "eprint!", "dbg!", "stdout()", "stderr()"];
    let others: Vec<Source> =
        sources().into_iter().filter(|source| !may.contains(&source.name.as_str())).collect();
    refuse(others.iter().flat_map(|source| words.iter().flat_map(|word| source.with(word))));
}

/// The rules are only as good as the reading: each kind of breach is found, and nothing else is.
fn the_rules_see_what_they_should() {
    let text = "//! std::fs\n/* nix\nclap */ use crate::lock; // nix\nlet s = \"nix \\\" // \"; log_all(now());\nlet c = '\"'; nix::a();\n\
                #[cfg(test)]\nmod tests {\n    use std::fs;\n}\nfn after() { pnet::b() }\n";
    let source = Source { name: "door/knock.rs".to_owned(), code: code_of(text) };
    for (word, lines) in
        [("std::fs", 0), ("clap", 0), ("log", 0), ("nix", 1), ("now()", 1), ("crate::lock", 1), ("pnet", 1)]
    {
        assert_eq!(source.with(word).len(), lines, "{word} in {:?}", source.code);
    }
    assert!(source.with("pnet")[0].starts_with("src/door/knock.rs:10: "));
    let source = |name: &str, text: &str| Source { name: name.to_owned(), code: code_of(text) };
    let mut made_up = vec![
        source("a/mod.rs", "pub mod one;\npub mod two;\nfn f() { one::g() }\n"),
        source(
            "a/one.rs",
            "use crate::{\n    a::two::{self, Two},\n    b,\n};\npub(in crate::a) fn g() {}\n",
        ),
        source("a/two.rs", "// use super::f;\nuse crate::b::{B, C as Other};\n"),
        source("b.rs", "fn one() -> usize { \"crate::a\".len() }\n"),
    ];
    assert_eq!(circles(&made_up), [""; 0]);
    made_up[2] = source("a/two.rs", "use super::f;\n");
    assert_eq!(circles(&made_up), ["src/a/mod.rs -> src/a/one.rs -> src/a/two.rs -> src/a/mod.rs"]);
    made_up[2] = source("a/two.rs", "use crate::a;\nfn h() { a::one::g() }\n");
    assert_eq!(circles(&made_up).len(), 2, "{:?}", circles(&made_up));
    made_up[2] = source("a/two.rs", "use super::super::b::B;\n");
    assert_eq!(circles(&made_up), [""; 0]);
    made_up[3] = source("b.rs", "fn c() -> crate::a::two::T { todo() }\n");
    assert_eq!(circles(&made_up), ["src/a/two.rs -> src/b.rs -> src/a/two.rs"]);
    let names: Vec<String> = sources().into_iter().map(|source| source.name).collect();
    assert!(
        names.contains(&"door/knock.rs".to_owned()) && names.contains(&"bin/knockd.rs".to_owned()),
        "{names:?}"
    );
}

#[track_caller]
fn refuse(breaches: impl IntoIterator<Item = String>) {
    let breaches: Vec<String> = breaches.into_iter().collect();
    assert!(breaches.is_empty(), "against the dependency rules:\n{}", breaches.join("\n"));
}

fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![top.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&top).expect("below src").to_string_lossy().into_owned();
                let code = code_of(&fs::read_to_string(&path).expect("a source file"));
                sources.push(Source { name, code });
            }
        }
    }
    sources
}

/// The lines of a source file without comments, the insides of strings, and what is only compiled for tests.
fn code_of(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = without_comments_and_strings(text).lines().map(str::to_owned).collect();
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() == "#[cfg(test)]" {
            let indent = lines[at].len() - lines[at].trim_start().len();
            let closing = format!("{}}}", " ".repeat(indent));
            let one_line = lines.get(at + 1).is_some_and(|next| next.trim_end().ends_with(';'));
            let end = if one_line {
                Some(at + 1)
            } else {
                (at..lines.len()).find(|n| lines[*n].starts_with(&closing))
            };
            let end = end.unwrap_or(lines.len() - 1);
            lines[at..=end].iter_mut().for_each(String::clear);
            at = end;
        }
        at += 1;
    }
    lines
}

fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(inside) = rest.strip_prefix("r#\"") {
            inside.find("\"#").map_or(rest.len(), |end| end + 5)
        } else if first == '"' {
            string_length(rest)
        } else if let Some(character) =
            ["'\"'", "'\\\"'", "'\\\\'", "'\\''"].iter().find(|c| rest.starts_with(**c))
        {
            character.len()
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        code.extend(rest[..skipped].matches('\n'));
        rest = &rest[skipped..];
    }
    code
}

/// How long the string literal at the start of `text` is.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Does the word occur, not as a part of a longer one?
fn contains_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open_end = !word.ends_with(part);
        !before.is_some_and(part) && (open_end || !after.is_some_and(part))
    })
}
