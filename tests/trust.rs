//! Which files are trusted, as values.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use knocking::trust::{FileMetadata, TrustedOwners, faults};

trials![
    only_root_and_the_user_own_what_is_trusted,
    every_folder_and_link_on_the_way_counts,
    a_circle_of_links_ends,
    the_users_that_a_namespace_lacks_are_trusted,
];

/// The map of a whole machine, and that of a container that has one user.
const ALL: &str = "         0          0 4294967295\n";
const ONE: &str = "         0       1000          1\n";

fn fact(owner: u32, mode: u32, target: Option<&str>) -> FileMetadata {
    FileMetadata { owner, mode, target: target.map(PathBuf::from) }
}

/// What is said of a path in a made-up tree for user `us`.
fn said(path: &str, us: u32, tree: &[(&str, FileMetadata)]) -> Vec<String> {
    let tree: HashMap<&str, FileMetadata> = tree.iter().cloned().collect();
    let look = |path: &Path| tree.get(path.to_str().unwrap()).cloned();
    faults(Path::new(path), TrustedOwners::new(us, ALL), look).iter().map(ToString::to_string).collect()
}

fn only_root_and_the_user_own_what_is_trusted() {
    for (us, owner, mode, sentence) in [
        (0, 0, 0o100_644, ""),
        (7, 0, 0o100_755, ""),
        (7, 7, 0o100_600, ""),
        (0, 7, 0o100_600, "this file belongs to user 7, and root uses only its own; chown -h root /f"),
        (7, 8, 0o100_600, "this file belongs to user 8, not to root or user 7; chown -h 7 /f"),
        (0, 0, 0o100_602, "everybody can write this file; chmod go-w /f"),
        (0, 0, 0o100_622, "everybody can write this file; chmod go-w /f"),
        (0, 0, 0o100_620, "a group can write this file; chmod g-w /f"),
        (0, 0, 0o010_622, "everybody can write this file; chmod go-w /f"),
        // A terminal.
        (0, 7, 0o020_622, ""),
    ] {
        let tree = [("/", fact(0, 0o040_755, None)), ("/f", fact(owner, mode, None))];
        assert_eq!(said("/f", us, &tree).join("\n"), sentence, "{us} {owner} {mode:o}");
    }
}

fn every_folder_and_link_on_the_way_counts() {
    let folder = |owner, mode: u32| fact(owner, 0o040_000 | mode, None);
    let mut tree = vec![
        ("/", folder(0, 0o755)),
        ("/tmp", folder(0, 0o1777)),
        ("/tmp/a", folder(7, 0o755)),
        ("/tmp/a/b", folder(0, 0o775)),
        ("/tmp/a/b/f", fact(0, 0o100_600, None)),
        ("/tmp/link", fact(8, 0o120_777, Some("./x/../a/b"))),
        ("/tmp/x", folder(0, 0o755)),
        ("/etc", folder(0, 0o755)),
        ("/etc/f", fact(0, 0o120_777, Some("/tmp/link/f"))),
    ];
    let foreign = "the folder /tmp/a belongs to user 7, and root uses only its own; chown -h root /tmp/a";
    let group = "a group can write the folder /tmp/a/b, and so replace what is in it; chmod g-w /tmp/a/b";
    let link = "the link /tmp/link belongs to user 8, and root uses only its own; chown -h root /tmp/link";
    assert_eq!(said("/tmp/a/b/f", 0, &tree), [foreign, group]);
    assert_eq!(said("/tmp/a/b/f", 7, &tree), [group]);
    assert_eq!(said("/etc/f", 0, &tree), [link, foreign, group]);
    assert_eq!(said("/etc/nothing/f", 0, &tree), [""; 0]);
    tree[1].1 = folder(0, 0o777);
    let all = "everybody can write the folder /tmp, and so replace what is in it; chmod go-w /tmp";
    assert_eq!(said("/tmp/a/b/f", 7, &tree), [all, group]);
}

fn a_circle_of_links_ends() {
    let tree = [("/a", fact(0, 0o120_777, Some("b"))), ("/b", fact(0, 0o120_777, Some("a")))];
    assert_eq!(said("/a", 0, &tree), [""; 0]);
}

fn the_users_that_a_namespace_lacks_are_trusted() {
    for (map, is_trusted) in [(ALL, false), (ONE, true), ("", false), ("0 1000 1\n1 100000 65536\n", false)] {
        assert_eq!(TrustedOwners::new(0, map).include(65534), is_trusted, "{map}");
        assert!(TrustedOwners::new(0, map).include(0) && !TrustedOwners::new(0, map).include(1000));
    }
}
