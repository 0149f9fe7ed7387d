//! STUN messages, against the test vectors of RFC 5769.

use std::net::IpAddr;

use knocking::plan::stun_message::{TransactionId, binding_request, mapped_address};

use crate::random::Random;

trials![
    a_request_has_a_header_and_nothing_else,
    the_answers_of_rfc_5769_are_read,
    only_the_answer_to_this_request_counts,
    an_attribute_that_is_cut_off_is_none,
    random_answers_are_no_answers,
];

const ID: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

/// RFC 5769, 2.2: SOFTWARE, XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT.
const IPV4: &str = "0101003c 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 \
    00200008 0001a147 e112a643 00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96";
/// RFC 5769, 2.3.
const IPV6: &str = "01010048 2112a442 b7e7a701bc34d686fa87dfae 8022000b 7465737420766563746f7220 \
    00200014 0002a147 0113a9faa5d3f179bc25f4b5bed2b9d9 00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 \
    80280004 c8fb0b4c";

fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn a_request_has_a_header_and_nothing_else() {
    assert_eq!(binding_request(ID), bytes("00010000 2112a442 b7e7a701bc34d686fa87dfae"));
}

fn the_answers_of_rfc_5769_are_read() {
    let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
    assert_eq!(mapped_address(&bytes(IPV4), ID), address("192.0.2.1"));
    assert_eq!(mapped_address(&bytes(IPV6), ID), address("2001:db8:1234:5678:11:2233:4455:6677"));
}

fn only_the_answer_to_this_request_counts() {
    let good = bytes(IPV4);
    // Its type, its length, the cookie and the identifier.
    for at in 0..20 {
        let mut changed = good.clone();
        changed[at] ^= 1;
        assert_eq!(mapped_address(&changed, ID), None, "byte {at}");
    }
    assert_eq!(mapped_address(&binding_request(ID), ID), None, "our own request");
    let mut longer = good;
    longer.push(0);
    assert_eq!(mapped_address(&longer, ID), None, "more than the length says");
}

fn an_attribute_that_is_cut_off_is_none() {
    let good = bytes(IPV6);
    for end in 20..good.len() {
        let mut cut = good[..end].to_vec();
        let length = u16::try_from(end - 20).unwrap();
        cut[2..4].copy_from_slice(&length.to_be_bytes());
        let has_the_address = end >= 20 + 16 + 24;
        assert_eq!(mapped_address(&cut, ID).is_some(), has_the_address, "{end} bytes");
    }
    // An address of 5 bytes, a family that does not exist, IPv6 in 4 bytes.
    for (from, to) in [("00200008", "00200009"), ("0001a147", "0003a147"), ("0001a147", "0002a147")] {
        assert_eq!(mapped_address(&bytes(&IPV4.replace(from, to)), ID), None, "{to}");
    }
}

fn random_answers_are_no_answers() {
    let random = Random::new();
    for _ in 0..100_000 {
        let mut answer = bytes(IPV6);
        answer.truncate(random.below(answer.len() + 1));
        for _ in 0..random.below(8) {
            if !answer.is_empty() {
                let at = random.below(answer.len());
                answer[at] = random.byte();
            }
        }
        let _ = mapped_address(&answer, ID);
    }
}
