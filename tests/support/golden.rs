//! Compares texts with files in the repository.

use std::path::Path;

use super::folder::read;

/// Fails, showing both texts, if `actual` differs from the file; `KNOCKD_BLESS=1` rewrites the file instead.
/// The path is relative to the top of the repository.
#[track_caller]
pub fn golden(file: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("KNOCKD_BLESS").is_some() {
        std::fs::write(&path, actual).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        return;
    }
    let expected = read(&path);
    assert!(
        expected == actual,
        "{file} differs from the output (KNOCKD_BLESS=1 accepts that)\n{}",
        difference(&expected, actual)
    );
}

/// Both texts line by line, from the first line that differs on.
pub fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let same = expected.iter().zip(&actual).take_while(|(a, b)| a == b).count();
    let rest = |mark: char, lines: &[&str]| -> String {
        lines.iter().skip(same).take(20).map(|line| [&mark.to_string(), " ", line, "\n"].concat()).collect()
    };
    format!("the first {same} lines are equal, then\n{}{}", rest('-', &expected), rest('+', &actual))
}
