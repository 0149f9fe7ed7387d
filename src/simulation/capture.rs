//! Reads capture files: their IP packets and timestamps.

use std::fmt;
use std::io::{self, Read};
use std::time::Duration;

use crate::reason::reason;

/// The magic number of pcap files with timestamps in microseconds, in the byte order of the writer.
const MAGIC_MICROSECONDS: u32 = 0xa1b2_c3d4;
/// The magic number for timestamps in nanoseconds.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
/// The first bytes of a pcapng file.
const MAGIC_PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// The sizes of the file header and of each packet header, in bytes (draft-ietf-opsawg-pcap).
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;
/// The longest packet that libpcap writes, in bytes.
const MAX_PACKET: usize = 262_144;

/// Link-layer header types.
mod link_type {
    /// BSD loopback: a header of four bytes.
    pub const NULL: u32 = 0;
    pub const ETHERNET: u32 = 1;
    /// IP packets without a link-layer header; some systems write the second number.
    pub const RAW: u32 = 101;
    pub const DLT_RAW: u32 = 12;
    /// OpenBSD loopback.
    pub const LOOP: u32 = 108;
    /// `tcpdump -i any`: older and current versions.
    pub const LINUX_SLL: u32 = 113;
    pub const LINUX_SLL2: u32 = 276;
    pub const IPV4: u32 = 228;
    pub const IPV6: u32 = 229;
    pub const ALL: [u32; 9] = [NULL, ETHERNET, RAW, DLT_RAW, LOOP, LINUX_SLL, LINUX_SLL2, IPV4, IPV6];
}

/// The format of a file, recognised by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// A pcap file.
    Pcap,
    /// A pcapng file.
    PcapNg,
    /// Anything else, presumably lines that describe packets.
    Lines,
}

impl FileFormat {
    /// The format of a file that starts with these bytes; four are enough.
    #[must_use]
    pub fn detect(start: &[u8]) -> FileFormat {
        match start.first_chunk::<4>() {
            Some(&MAGIC_PCAPNG) => FileFormat::PcapNg,
            Some(magic) if FileEncoding::from_magic(*magic).is_some() => FileFormat::Pcap,
            _ => FileFormat::Lines,
        }
    }
}

/// The byte order and time resolution of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileEncoding {
    is_little_endian: bool,
    has_nanoseconds: bool,
}

impl FileEncoding {
    fn from_magic(magic: [u8; 4]) -> Option<FileEncoding> {
        [true, false].into_iter().find_map(|is_little_endian| {
            let encoding = |has_nanoseconds| Some(FileEncoding { is_little_endian, has_nanoseconds });
            match FileEncoding::decode(is_little_endian, magic) {
                MAGIC_MICROSECONDS => encoding(false),
                MAGIC_NANOSECONDS => encoding(true),
                _ => None,
            }
        })
    }

    fn decode(is_little_endian: bool, bytes: [u8; 4]) -> u32 {
        if is_little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    }

    /// The number at offset `at`; 0 beyond the end of the bytes.
    fn read_at(self, bytes: &[u8], at: usize) -> u32 {
        let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        FileEncoding::decode(self.is_little_endian, word)
    }
}

/// Why a capture file cannot be read.
#[derive(Debug)]
pub enum CaptureFileError {
    /// An error of read(2).
    Unreadable(io::Error),
    /// The file ends in the middle of a packet.
    Truncated,
    /// It is not a pcap file, or a packet has an impossible length.
    Damaged,
    /// An unknown link-layer header type.
    UnknownLinkType(u32),
}

impl fmt::Display for CaptureFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaptureFileError::Unreadable(error) => f.write_str(&reason(error)),
            CaptureFileError::Truncated => f.write_str("the file is cut off in the middle of a packet"),
            CaptureFileError::Damaged => f.write_str("the file is damaged"),
            CaptureFileError::UnknownLinkType(number) => write!(
                f,
                "packets of link type {number} are not known here; capture with tcpdump -i any, or on the interface"
            ),
        }
    }
}

impl From<io::Error> for CaptureFileError {
    fn from(error: io::Error) -> CaptureFileError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => CaptureFileError::Truncated,
            _ => CaptureFileError::Unreadable(error),
        }
    }
}

/// A packet of a capture file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPacket {
    /// Its arrival, as Unix time.
    pub unix: Duration,
    /// Its bytes from the IP header on; `None` if it is not an IP packet or not for this host.
    pub ip: Option<Vec<u8>>,
}

/// A pcap file while it is read.
pub struct CaptureReader<R: Read> {
    input: R,
    encoding: FileEncoding,
    link_type: u32,
}

impl<R: Read> CaptureReader<R> {
    /// Reads the file header.
    ///
    /// # Errors
    /// The file is not a pcap file, has an unknown link-layer header type, or cannot be read.
    pub fn open(mut input: R) -> Result<CaptureReader<R>, CaptureFileError> {
        let mut header = [0; FILE_HEADER];
        input.read_exact(&mut header)?;
        let magic = header.first_chunk().copied().unwrap_or_default();
        let encoding = FileEncoding::from_magic(magic).ok_or(CaptureFileError::Damaged)?;
        // The upper bits tell the length of the frame check sequence.
        let link_type = encoding.read_at(&header, 20) & 0x0fff_ffff;
        if link_type::ALL.contains(&link_type) {
            Ok(CaptureReader { input, encoding, link_type })
        } else {
            Err(CaptureFileError::UnknownLinkType(link_type))
        }
    }

    /// Reads the next packet; `None` at the end.
    ///
    /// # Errors
    /// The file is damaged, or cannot be read.
    pub fn next_packet(&mut self) -> Result<Option<CapturedPacket>, CaptureFileError> {
        let mut header = [0; PACKET_HEADER];
        let Some((first, rest)) = header.split_first_mut() else { return Ok(None) };
        // The file may end before a packet header, but not inside one.
        if self.input.read(std::slice::from_mut(first))? == 0 {
            return Ok(None);
        }
        self.input.read_exact(rest)?;
        let word = |at| self.encoding.read_at(&header, at);
        let (seconds, fraction) = (word(0), word(4));
        let fraction = u64::from(fraction) * if self.encoding.has_nanoseconds { 1 } else { 1000 };
        let length = usize::try_from(word(8)).ok().filter(|length| *length <= MAX_PACKET);
        let mut frame = vec![0; length.ok_or(CaptureFileError::Damaged)?];
        self.input.read_exact(&mut frame)?;
        let unix = Duration::from_secs(seconds.into()).saturating_add(Duration::from_nanos(fraction));
        Ok(Some(CapturedPacket { unix, ip: ip_packet(self.link_type, &frame).map(<[u8]>::to_vec) }))
    }
}

/// The IP packet in a frame; `None` for broadcasts, multicasts and, as far as the capture tells, frames for
/// other stations.
fn ip_packet(link_type: u32, frame: &[u8]) -> Option<&[u8]> {
    const ETHERTYPE_IPV4: u16 = 0x0800;
    const ETHERTYPE_IPV6: u16 = 0x86dd;
    const ETHERTYPE_VLAN: u16 = 0x8100;
    /// The VLAN ID in a tag; a tag with VLAN 0 only carries a priority.
    const VLAN_ID_MASK: u16 = 0x0fff;
    let word = |at: usize| frame.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let ip_at = |at: usize, kind: u16| {
        matches!(kind, ETHERTYPE_IPV4 | ETHERTYPE_IPV6).then(|| frame.get(at..)).flatten()
    };
    match link_type {
        link_type::ETHERNET => {
            let is_multicast = frame.first()? & 1 != 0;
            match word(12)? {
                _ if is_multicast => None,
                ETHERTYPE_VLAN if word(14)? & VLAN_ID_MASK == 0 => ip_at(18, word(16)?),
                kind => ip_at(14, kind),
            }
        }
        // The packet type: 0 is for this host, 4 was sent by it, possibly to a `Target`.
        link_type::LINUX_SLL if matches!(word(0)?, 0 | 4) => ip_at(16, word(14)?),
        link_type::LINUX_SLL2 if matches!(frame.get(10)?, 0 | 4) => ip_at(20, word(0)?),
        link_type::LINUX_SLL | link_type::LINUX_SLL2 => None,
        link_type::NULL | link_type::LOOP => frame.get(4..),
        _ => Some(frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_is_found_behind_each_link() {
        let bytes = [0x45, 1, 2, 3];
        let frame = |head: &[u8]| [head, &bytes].concat();
        let ethernet = |tail: &[u8]| frame(&[&[2; 12], tail].concat());
        let of = |link: u32, frame: &[u8]| ip_packet(link, frame).map(<[u8]>::to_vec);
        let found = Some(bytes.to_vec());
        assert_eq!(of(link_type::ETHERNET, &ethernet(&[8, 0])), found);
        assert_eq!(of(link_type::ETHERNET, &ethernet(&[0x81, 0, 0x20, 0, 8, 0])), found);
        assert_eq!(of(link_type::ETHERNET, &ethernet(&[0x81, 0, 0, 7, 8, 0])), None);
        assert_eq!(of(link_type::ETHERNET, &ethernet(&[8, 6])), None);
        assert_eq!(of(link_type::ETHERNET, &frame(&[&[255; 12][..], &[8, 0]].concat())), None);
        assert_eq!(of(link_type::RAW, &bytes), found);
        assert_eq!(of(link_type::NULL, &frame(&[2, 0, 0, 0])), found);
        let cooked = |kind: u8| frame(&[&[0, kind], &[0; 12][..], &[8, 0]].concat());
        assert_eq!(of(link_type::LINUX_SLL, &cooked(0)), found);
        assert_eq!(of(link_type::LINUX_SLL, &cooked(3)), None);
        let cooked2 = |kind: u8| frame(&[&[8, 0], &[0; 8][..], &[kind], &[0; 9]].concat());
        assert_eq!(of(link_type::LINUX_SLL2, &cooked2(0)), found);
        assert_eq!(of(link_type::LINUX_SLL2, &cooked2(1)), None);
        for link in [link_type::ETHERNET, link_type::LINUX_SLL, link_type::LINUX_SLL2, link_type::NULL] {
            for length in 0..4 {
                assert_eq!(of(link, bytes.get(..length).unwrap()), None);
            }
        }
    }

    #[test]
    fn files_are_told_by_their_first_bytes() {
        assert_eq!(FileFormat::detect(b"0.1 10.0.0.2"), FileFormat::Lines);
        assert_eq!(FileFormat::detect(&[0xd4, 0xc3, 0xb2, 0xa1, 2]), FileFormat::Pcap);
        assert_eq!(FileFormat::detect(&[0x0a, 0x0d, 0x0d, 0x0a]), FileFormat::PcapNg);
        assert_eq!(FileFormat::detect(b""), FileFormat::Lines);
    }
}
