//! A capture file: the IP packets in it, and when they came.

use std::fmt;
use std::io::Read;
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use pcap_file::{DataLink, PcapError};

use crate::reason::reason;

/// The first bytes of capture files: pcap in both byte orders, with microseconds and nanoseconds.
const PCAP: [[u8; 4]; 4] =
    [[0xa1, 0xb2, 0xc3, 0xd4], [0xd4, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0x3c, 0x4d], [0x4d, 0x3c, 0xb2, 0xa1]];
/// The first bytes of a pcapng file.
const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A pcap file.
    Pcap,
    /// A pcapng file.
    PcapNg,
    /// Something else: lines, it seems.
    Lines,
}

impl Format {
    /// What begins with these bytes; four are enough.
    #[must_use]
    pub fn of(start: &[u8]) -> Format {
        match start.first_chunk::<4>() {
            Some(magic) if PCAP.contains(magic) => Format::Pcap,
            Some(&PCAPNG) => Format::PcapNg,
            _ => Format::Lines,
        }
    }
}

/// Why a capture cannot be read.
#[derive(Debug)]
pub enum CaptureFileError {
    /// The file is damaged, or cannot be read.
    Damaged(PcapError),
    /// Its packets are of a link that is not known here.
    Link(u32),
}

impl fmt::Display for CaptureFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaptureFileError::Damaged(PcapError::IoError(error)) if error.raw_os_error().is_some() => {
                f.write_str(&reason(error))
            }
            CaptureFileError::Damaged(PcapError::IncompleteBuffer | PcapError::IoError(_)) => {
                f.write_str("the file is cut off in the middle of a packet")
            }
            CaptureFileError::Damaged(PcapError::InvalidField(what)) => {
                write!(f, "the file is damaged: {what}")
            }
            CaptureFileError::Damaged(_) => f.write_str("the file is damaged"),
            CaptureFileError::Link(number) => write!(
                f,
                "packets of link type {number} are not known here; capture with tcpdump -i any, or on the interface"
            ),
        }
    }
}

/// A packet of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When it came, as Unix time.
    pub unix: Duration,
    /// Its bytes from the IP header on; `None` if it is no IP packet, or none for this host.
    pub ip: Option<Vec<u8>>,
}

/// A pcap file that is being read.
pub struct Capture<R: Read> {
    reader: PcapReader<R>,
    link: DataLink,
}

impl<R: Read> Capture<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// It is no pcap file, or one of an unknown link.
    pub fn open(input: R) -> Result<Capture<R>, CaptureFileError> {
        let reader = PcapReader::new(input).map_err(CaptureFileError::Damaged)?;
        let link = reader.header().datalink;
        match link {
            DataLink::NULL
            | DataLink::ETHERNET
            | DataLink::RAW
            | DataLink::LOOP
            | DataLink::LINUX_SLL
            | DataLink::IPV4
            | DataLink::IPV6
            | DataLink::LINUX_SLL2 => Ok(Capture { reader, link }),
            other => Err(CaptureFileError::Link(other.into())),
        }
    }

    /// The next packet.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn next_packet(&mut self) -> Option<Result<Captured, CaptureFileError>> {
        let packet = match self.reader.next_packet()? {
            Ok(packet) => packet,
            Err(error) => return Some(Err(CaptureFileError::Damaged(error))),
        };
        Some(Ok(Captured { unix: packet.timestamp, ip: ip(self.link, &packet.data).map(<[u8]>::to_vec) }))
    }
}

/// The IP packet in a frame, unless the frame is for other stations, or for all or several.
fn ip(link: DataLink, frame: &[u8]) -> Option<&[u8]> {
    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;
    const TAG: u16 = 0x8100;
    /// The bits of a tag that name the VLAN: a tag with a priority alone is none.
    const VLAN: u16 = 0x0fff;
    let word = |at: usize| frame.get(at..)?.first_chunk().copied().map(u16::from_be_bytes);
    let behind = |at: usize, kind: u16| matches!(kind, IPV4 | IPV6).then(|| frame.get(at..)).flatten();
    match link {
        DataLink::ETHERNET => {
            let is_for_several = frame.first()? & 1 != 0;
            match word(12)? {
                _ if is_for_several => None,
                TAG if word(14)? & VLAN == 0 => behind(18, word(16)?),
                kind => behind(14, kind),
            }
        }
        // The first word is the packet's type: 0 is for this host, 4 was sent by it, which a Target may be.
        DataLink::LINUX_SLL if matches!(word(0)?, 0 | 4) => behind(16, word(14)?),
        DataLink::LINUX_SLL2 if matches!(frame.get(10)?, 0 | 4) => behind(20, word(0)?),
        DataLink::LINUX_SLL | DataLink::LINUX_SLL2 => None,
        DataLink::NULL | DataLink::LOOP => frame.get(4..),
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
        let of = |link, frame: &[u8]| ip(link, frame).map(<[u8]>::to_vec);
        let found = Some(ip_packet.to_vec());
        assert_eq!(of(DataLink::ETHERNET, &ethernet(&[8, 0])), found);
        assert_eq!(of(DataLink::ETHERNET, &ethernet(&[0x81, 0, 0x20, 0, 8, 0])), found);
        assert_eq!(of(DataLink::ETHERNET, &ethernet(&[0x81, 0, 0, 7, 8, 0])), None);
        assert_eq!(of(DataLink::ETHERNET, &ethernet(&[8, 6])), None);
        assert_eq!(of(DataLink::ETHERNET, &frame(&[&[255; 12][..], &[8, 0]].concat())), None);
        assert_eq!(of(DataLink::RAW, &ip_packet), found);
        assert_eq!(of(DataLink::NULL, &frame(&[2, 0, 0, 0])), found);
        let cooked = |kind: u8| frame(&[&[0, kind], &[0; 12][..], &[8, 0]].concat());
        assert_eq!(of(DataLink::LINUX_SLL, &cooked(0)), found);
        assert_eq!(of(DataLink::LINUX_SLL, &cooked(3)), None);
        let cooked2 = |kind: u8| frame(&[&[8, 0], &[0; 8][..], &[kind], &[0; 9]].concat());
        assert_eq!(of(DataLink::LINUX_SLL2, &cooked2(0)), found);
        assert_eq!(of(DataLink::LINUX_SLL2, &cooked2(1)), None);
        for link in [DataLink::ETHERNET, DataLink::LINUX_SLL, DataLink::LINUX_SLL2, DataLink::NULL] {
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
