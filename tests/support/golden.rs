//! Texts held against files in the repository.

use std::path::Path;

use super::folder::read;

/// Fails with both texts if `actual` is not what the file says. `KNOCKD_BLESS=1` rewrites the file instead.
/// The path counts from the top of the repository.
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
        "{file} is not what came out (KNOCKD_BLESS=1 accepts it)\n{}",
        difference(&expected, actual)
    );
}

/// Both texts line by line, from the first line that differs on.
pub fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let same = expected.iter().zip(&actual).take_while(|(a, b)| a == b).count();
    let rest = |mark: char, lines: &[&str]| -> String {
        lines
            .iter()
            .skip(same)
            .take(20)
            .map(|line| {
                [
                    &mark.to_string(),
                    " ",
                    line,
                    "
",
                ]
                .concat()
            })
            .collect()
    };
    format!(
        "the first {same} lines are equal, then
{}{}",
        rest('-', &expected),
        rest('+', &actual)
    )
}
