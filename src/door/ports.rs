//! Ports that a door opens in the kernel's firewall: `Open`.

use std::fmt;

use crate::door::knock::Protocol;
use crate::door::sequence::Stage;

/// Ports of one protocol that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// Their protocol.
    pub protocol: Protocol,
    /// The first one, which is not 0.
    pub first: u16,
    /// The last one, which is not before the first.
    pub last: u16,
}

impl Ports {
    /// Reads `tcp/22` or `tcp/8000-8010`; blanks around it do not matter.
    #[must_use]
    pub fn parse(text: &str) -> Option<Ports> {
        let (protocol, ports) = text.trim().split_once('/')?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?;
        let (first, last) = (port(first)?, port(last)?);
        let protocol = Protocol::with_ports(protocol)?;
        (0 < first && first <= last).then_some(Ports { protocol, first, last })
    }

    /// One alone.
    #[must_use]
    pub fn of(Stage { protocol, port }: Stage) -> Ports {
        Ports { protocol, first: port, last: port }
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Whether this port is one of them.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.first)?;
        if self.last > self.first { write!(f, "-{}", self.last) } else { Ok(()) }
    }
}

/// Ports as the log lists them.
#[must_use]
pub fn listed(ports: &[Ports]) -> String {
    ports.iter().map(Ports::to_string).collect::<Vec<_>>().join(", ")
}
