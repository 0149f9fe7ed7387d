//! `--pcap`: writes the packets to a file for tcpdump and tshark.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

use crate::client::failure::Failure;
use crate::client::system;

/// A capture file of bare IP packets.
#[derive(Debug)]
pub struct Recording {
    writer: PcapWriter<File>,
    path: PathBuf,
}

impl Recording {
    /// Begins a file, replacing the content of an old one. A new file is readable by its owner only,
    /// because it contains a sequence.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<Recording, Failure> {
        let file = system::create_private(path).map_err(|error| failed(path, &error))?;
        let header = PcapHeader { datalink: DataLink::RAW, ..PcapHeader::default() };
        let writer = PcapWriter::with_header(file, header).map_err(|error| failed(path, &error))?;
        Ok(Recording { writer, path: path.to_owned() })
    }

    /// Adds one IP packet.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self, packet: &[u8], when: SystemTime) -> Result<(), Failure> {
        let time = when.duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let entry = PcapPacket::new(time, length, packet);
        self.writer.write_packet(&entry).map(drop).map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::refused(format_args!("--pcap: {}: {error}", path.display()))
}
