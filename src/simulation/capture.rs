//! Reads capture files: their IP packets and timestamps.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use crate::reason::reason;

/// The magic number of pcap files with timestamps in microseconds, in the byte order of the writer.
const MICROSECONDS: u32 = 0xa1b2_c3d4;
/// The magic number for timestamps in nanoseconds.
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// The first bytes of a pcapng file.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// The sizes of the file header and of each packet header, in bytes (draft-ietf-opsawg-pcap).
const FILE_HEAD: usize = 24;
const PACKET_HEAD: usize = 16;
/// The longest packet that libpcap writes, in bytes.
const LONGEST: usize = 262_144;

/// Link-layer header types.
mod link {
    /// BSD loopback: a header of four bytes.
    pub const NULL: u32 = 0;
    pub const ETHERNET: u32 = 1;
    /// IP packets without a link-layer header; some systems write the second number.
    pub const RAW: u32 = 101;
    pub const RAW_TOO: u32 = 12;
    /// OpenBSD loopback.
    pub const LOOP: u32 = 108;
    /// `tcpdump -i any`: older and current versions.
    pub const COOKED: u32 = 113;
    pub const COOKED_2: u32 = 276;
    pub const IPV4: u32 = 228;
    pub const IPV6: u32 = 229;
    pub const ALL: [u32; 9] = [NULL, ETHERNET, RAW, RAW_TOO, LOOP, COOKED, COOKED_2, IPV4, IPV6];
}

/// The format of a file, recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A pcap file.
    Pcap,
    /// A pcapng file.
    PcapNg,
    /// Anything else, presumably lines that describe packets.
    Lines,
}

impl Format {
    /// The format of a file that starts with these bytes; four are enough.
    #[must_use]
    pub fn of(start: &[u8]) -> Format {
        match start.first_chunk::<4>() {
            Some(&PCAPNG) => Format::PcapNg,
            Some(magic) if Numbers::of(*magic).is_some() => Format::Pcap,
            _ => Format::Lines,
        }
    }
}

/// The byte order and time resolution of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    is_little_endian: bool,
    has_nanoseconds: bool,
}

impl Numbers {
    fn of(magic: [u8; 4]) -> Option<Numbers> {
        [true, false].into_iter().find_map(|is_little_endian| {
            let numbers = |has_nanoseconds| Some(Numbers { is_little_endian, has_nanoseconds });
            match Numbers::word(is_little_endian, magic) {
                MICROSECONDS => numbers(false),
                NANOSECONDS => numbers(true),
                _ => None,
            }
        })
    }

    fn word(is_little_endian: bool, bytes: [u8; 4]) -> u32 {
        if is_little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    /// The number at offset `at`; 0 beyond the end of the bytes.
    fn at(self, bytes: &[u8], at: usize) -> u32 {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        Numbers::word(self.is_little_endian, word)
    }
}

/// Why a capture file cannot be read.
#[derive(Debug)]
pub enum CaptureFileError {
    /// An error of read(2).
    Unreadable(io::Error),
    /// The file ends in the middle of a packet.
    Cut,
    /// It is not a pcap file, or a packet has an impossible length.
    Damaged,
    /// An unknown link-layer header type.
    Link(u32),
}

impl fmt::Display for CaptureFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaptureFileError::Unreadable(error) => f.write_str(&reason(error)),
            CaptureFileError::Cut => f.write_str("the file is cut off in the middle of a packet"),
            CaptureFileError::Damaged => f.write_str("the file is damaged"),
            CaptureFileError::Link(number) => write!(
                f,
                "packets of link type {number} are not known here; capture with tcpdump -i any, or on the interface"
            ),
        }
    }
}

impl From<io::Error> for CaptureFileError {
    fn from(error: io::Error) -> CaptureFileError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => CaptureFileError::Cut,
            _ => CaptureFileError::Unreadable(error),
        }
    }
}

/// A packet of a capture file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Its arrival, as Unix time.
    pub unix: Duration,
    /// Its bytes from the IP header on; `None` if it is not an IP packet or not for this host.
    pub ip: Option<Vec<u8>>,
}

/// A pcap file while it is read.
pub struct Capture<R: Read> {
    input: R,
    numbers: Numbers,
    link: u32,
}

impl<R: Read> Capture<R> {
    /// Reads the file header.
    ///
    /// # Errors
    /// The file is not a pcap file, has an unknown link-layer header type, or cannot be read.
    pub fn open(mut input: R) -> Result<Capture<R>, CaptureFileError> {
        let mut head = [0; FILE_HEAD];
        input.read_exact(&mut head)?;
        let magic = head.first_chunk().copied().unwrap_or_default();
        let numbers = Numbers::of(magic).ok_or(CaptureFileError::Damaged)?;
        // The upper bits tell the length of the frame check sequence.
        let link = numbers.at(&head, 20) & 0x0fff_ffff;
        if link::ALL.contains(&link) {
            Ok(Capture { input, numbers, link })
        } else {
            Err(CaptureFileError::Link(link))
        }
    }

    /// Reads the next packet; `None` at the end.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn next_packet(&mut self) -> Result<Option<Captured>, CaptureFileError> {
        let mut head = [0; PACKET_HEAD];
        let Some((first, rest)) = head.split_first_mut() else { return Ok(None) };
        // The file may end before a packet header, but not inside one.
        if self.input.read(std::slice::from_mut(first))? == 0 {
            return Ok(None);
        }
        self.input.read_exact(rest)?;
        let word = |at| self.numbers.at(&head, at);
        let (seconds, fraction) = (word(0), word(4));
        let fraction = u64::from(fraction) * if self.numbers.has_nanoseconds { 1 } else { 1000 };
        let length = usize::try_from(word(8)).ok().filter(|length| *length <= LONGEST);
        let mut frame = vec![0; length.ok_or(CaptureFileError::Damaged)?];
        self.input.read_exact(&mut frame)?;
        let unix = Duration::from_secs(seconds.into()).saturating_add(Duration::from_nanos(fraction));
        Ok(Some(Captured { unix, ip: ip(self.link, &frame).map(<[u8]>::to_vec) }))
    }
}

/// The IP packet in a frame; `None` for broadcasts, multicasts and, as far as the capture tells, frames for
/// other stations.
fn ip(link: u32, frame: &[u8]) -> Option<&[u8]> {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    const TAG: u16 = 0x8100;
    /// The VLAN ID in a tag; a tag with VLAN 0 only carries a priority.
    const VLAN: u16 = 0x0fff;
    let word = |at: usize| frame.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let behind = |at: usize, kind: u16| matches!(kind, IPV4 | IPV6).then(|| frame.get(at..)).flatten();
    match link {
        link::ETHERNET => {
            let is_for_several = frame.first()? & 1 != 0;
            match word(12)? {
                _ if is_for_several => None,
                TAG if word(14)? & VLAN == 0 => behind(18, word(16)?),
                kind => behind(14, kind),
            }
        }
        // The packet type: 0 is for this host, 4 was sent by it, possibly to a `Target`.
        link::COOKED if matches!(word(0)?, 0 | 4) => behind(16, word(14)?),
        link::COOKED_2 if matches!(frame.get(10)?, 0 | 4) => behind(20, word(0)?),
        link::COOKED | link::COOKED_2 => None,
        link::NULL | link::LOOP => frame.get(4..),
        _ => Some(frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_found_behind_each_link() {
        let ip_packet = [0x45, 1, 2, 3];
        let frame = |head: &[u8]| [head, &ip_packet].concat();
        let ethernet = |tail: &[u8]| frame(&[&[2; 12], tail].concat());
        let of = |link: u32, frame: &[u8]| ip(link, frame).map(<[u8]>::to_vec);
        let found = Some(ip_packet.to_vec());
        assert_eq!(of(link::ETHERNET, &ethernet(&[8, 0])), found);
        assert_eq!(of(link::ETHERNET, &ethernet(&[0x81, 0, 0x20, 0, 8, 0])), found);
        assert_eq!(of(link::ETHERNET, &ethernet(&[0x81, 0, 0, 7, 8, 0])), None);
        assert_eq!(of(link::ETHERNET, &ethernet(&[8, 6])), None);
        assert_eq!(of(link::ETHERNET, &frame(&[&[255; 12][..], &[8, 0]].concat())), None);
        assert_eq!(of(link::RAW, &ip_packet), found);
        assert_eq!(of(link::NULL, &frame(&[2, 0, 0, 0])), found);
        let cooked = |kind: u8| frame(&[&[0, kind], &[0; 12][..], &[8, 0]].concat());
        assert_eq!(of(link::COOKED, &cooked(0)), found);
        assert_eq!(of(link::COOKED, &cooked(3)), None);
        let cooked2 = |kind: u8| frame(&[&[8, 0], &[0; 8][..], &[kind], &[0; 9]].concat());
        assert_eq!(of(link::COOKED_2, &cooked2(0)), found);
        assert_eq!(of(link::COOKED_2, &cooked2(1)), None);
        for link in [link::ETHERNET, link::COOKED, link::COOKED_2, link::NULL] {
            for length in 0..4 {
                assert_eq!(of(link, ip_packet.get(..length).unwrap()), None);
            }
        }
    }

    #[test]
    fn files_are_told_by_their_first_bytes() {
        assert_eq!(Format::of(b"0.1 10.0.0.2"), Format::Lines);
        assert_eq!(Format::of(&[0xd4, 0xc3, 0xb2, 0xa1, 2]), Format::Pcap);
        assert_eq!(Format::of(&[0x0a, 0x0d, 0x0d, 0x0a]), Format::PcapNg);
        assert_eq!(Format::of(b""), Format::Lines);
    }
}
