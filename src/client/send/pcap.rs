//! `--pcap`: writes the packets to a capture file for tcpdump and tshark.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::failure::Failure;
use crate::client::system;

/// The magic number of files with timestamps in microseconds (draft-ietf-opsawg-pcap, 4).
const MAGIC: u32 = 0xa1b2_c3d4;
/// The version of the format, 2.4, as two 16-bit numbers.
const VERSION: u32 = 2 << 16 | 4;
/// The snapshot length: the largest that readers accept (`MAXIMUM_SNAPLEN` of libpcap).
const SNAPSHOT_LENGTH: u32 = 262_144;
/// The link type: each packet starts with its IP header.
const LINKTYPE_RAW: u32 = 101;

/// A capture file of IP packets without link-layer headers. Its numbers are in network byte order.
#[derive(Debug)]
pub struct CaptureFile {
    file: File,
    path: PathBuf,
}

impl CaptureFile {
    /// Creates a capture file, or truncates an existing one. It is readable by its owner only, because it
    /// contains a sequence.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<CaptureFile, Failure> {
        let file = system::create_private(path).map_err(|error| pcap_failure(path, &error))?;
        let mut capture_file = CaptureFile { file, path: path.to_owned() };
        capture_file.append(&[MAGIC, VERSION, 0, 0, SNAPSHOT_LENGTH, LINKTYPE_RAW], &[])?;
        Ok(capture_file)
    }

    /// Appends one IP packet.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, packet: &[u8], when: SystemTime) -> Result<(), Failure> {
        let time = when.duration_since(UNIX_EPOCH).unwrap_or_default();
        // The format has 32 bits for the seconds, which suffices until 2106.
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        self.append(&[seconds, time.subsec_micros(), length, length], packet)
    }

    /// Writes numbers and bytes with a single write, so that a pipe's reader or a full disk has whole packets
    /// only.
    fn append(&mut self, numbers: &[u32], bytes: &[u8]) -> Result<(), Failure> {
        let mut record: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        record.extend_from_slice(bytes);
        self.file.write_all(&record).map_err(|error| pcap_failure(&self.path, &error))
    }
}

fn pcap_failure(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::refused(format_args!("--pcap: {}: {error}", path.display()))
}
