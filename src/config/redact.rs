//! Removes encryption keys from configuration files, for the process that faces the network.
//!
//! All other lines stay in place, so that the text parses to the same doors.

use zeroize::Zeroizing;

use crate::config::fwknop;
use crate::config::syntax::trim;

/// Replaces the encryption keys for single packets in a knockd.conf by dummies; `None` if it has none.
#[must_use]
pub fn without_keys(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    map_lines(text, |line| {
        let at = line.iter().position(|&byte| byte == b'=')?;
        let key = trim(line.get(..at)?);
        if key.eq_ignore_ascii_case(b"SPA_Key") {
            Some(b"SPA_Key = x")
        } else if key.eq_ignore_ascii_case(b"SPA_Key_Base64") {
            Some(b"SPA_Key_Base64 = eA")
        } else {
            None
        }
    })
}

/// The same for an access.conf.
#[must_use]
pub fn access_without_keys(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    map_lines(text, |line| match fwknop::entry(line).0 {
        b"KEY" => Some(b"KEY x"),
        b"KEY_BASE64" => Some(b"KEY_BASE64 eA"),
        _ => None,
    })
}

fn map_lines(text: &[u8], replaced: impl Fn(&[u8]) -> Option<&'static [u8]>) -> Option<Zeroizing<Vec<u8>>> {
    let lines = || text.split(|&byte| byte == b'\n');
    let longer: usize = lines().filter_map(&replaced).map(<[u8]>::len).sum();
    if longer == 0 {
        return None;
    }
    let mut out = Zeroizing::new(Vec::with_capacity(text.len() + longer));
    for (index, line) in lines().enumerate() {
        if index > 0 {
            out.push(b'\n');
        }
        out.extend_from_slice(replaced(line).unwrap_or(line));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_encryption_keys_are_replaced() {
        let text =
            b"[a]\r\n SPA_key=4711=\n#SPA_Key = x\nspa_key_base64 = abc\nSPA_HMAC_Key = b\nsequence = 1";
        let wanted = b"[a]\r\nSPA_Key = x\n#SPA_Key = x\nSPA_Key_Base64 = eA\nSPA_HMAC_Key = b\nsequence = 1";
        assert_eq!(&**without_keys(text).unwrap(), wanted);
        assert_eq!(without_keys(b"[a]\nsequence = 1\n"), None);
        let text = b"SOURCE ANY\n KEY: abc;\nKEY_BASE64 abc\nHMAC_KEY b\n# KEY c\n";
        let wanted = b"SOURCE ANY\nKEY x\nKEY_BASE64 eA\nHMAC_KEY b\n# KEY c\n";
        assert_eq!(&**access_without_keys(text).unwrap(), wanted);
    }
}
