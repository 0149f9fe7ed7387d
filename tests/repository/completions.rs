//! contrib/completions is what `cargo run --example completions` writes.

use std::fs;
use std::path::Path;

#[path = "../../examples/completions.rs"]
mod example;

trials![the_committed_completions_are_those_of_the_programs];

fn the_committed_completions_are_those_of_the_programs() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/completions");
    let files = example::completions();
    for (name, text) in &files {
        let committed = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(
            committed == *text,
            "contrib/completions/{name} is not up to date: cargo run --example completions"
        );
    }
    assert_eq!(fs::read_dir(folder).expect("contrib/completions").count(), files.len());
}
