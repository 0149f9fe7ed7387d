//! A QR code as text for a terminal.

use qrcodegen::{QrCode, QrCodeEcc};

/// How many light modules surround the code, by its standard (ISO/IEC 18004).
const QUIET: i32 = 4;

/// The QR code of a text, for a terminal with light letters on a dark ground: a line of it is two rows of the code.
/// None if the text is too long for one.
#[must_use]
pub fn terminal(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let all = -QUIET..code.size() + QUIET;
    let is_light = |x, y| !code.get_module(x, y);
    let mut lines = String::new();
    for y in all.clone().step_by(2) {
        for x in all.clone() {
            lines.push(match (is_light(x, y), is_light(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        lines.push('\n');
    }
    Some(lines)
}
