//! Draws a QR code as text for a terminal.

use qrcodegen::{QrCode, QrCodeEcc};

/// The width of the light margin around a code, in modules (ISO/IEC 18004).
const QUIET_ZONE: i32 = 4;

/// Draws the QR code of a text for a terminal with a dark background; each line of text holds two rows of the
/// code. `None` if the text is too long for a QR code.
#[must_use]
pub fn terminal(text: &str) -> Option<String> {
    let code = QrCode::encode_text(text, QrCodeEcc::Low).ok()?;
    let all = -QUIET_ZONE..code.size() + QUIET_ZONE;
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
