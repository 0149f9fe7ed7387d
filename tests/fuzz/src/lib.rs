//! Shared by the fuzz targets: random doors, and a model of what opens them.

/// The interpreter of classic BPF, shared with the other tests.
#[allow(missing_docs, reason = "a tool of the tests, where nothing is public")]
#[path = "../../support/interpreter.rs"]
pub mod interpreter;
pub mod model;
pub mod town;

use std::io;

use knocking::config::{Config, Reading};
use knocking::door::Door;

/// The doors of a valid configuration; `files` are the texts of the files that it calls `/0`, `/1` and so on.
pub fn doors(text: &str, files: &[String]) -> Vec<Door> {
    let mut file = |path: &std::path::Path| {
        let number = path.to_str().and_then(|path| path.strip_prefix('/')?.parse::<usize>().ok());
        let found = number.and_then(|number| files.get(number));
        found.map(|text| text.clone().into_bytes()).ok_or_else(|| io::ErrorKind::NotFound.into())
    };
    let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
    let config = Config::parse(text.as_bytes(), reading);
    config.unwrap_or_else(|error| panic!("{error}\n{text}\n{files:#?}")).doors
}
