//! Ports that a door opens in the kernel's firewall: `Open`.

use std::fmt;

use crate::door::knock::Protocol;
use crate::door::sequence::Stage;

/// A range of ports of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ports {
    /// The protocol.
    pub protocol: Protocol,
    /// The first port; never 0.
    pub first: u16,
    /// The last port; not below `first`.
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

    /// The range of a single port.
    #[must_use]
    pub fn of(Stage { protocol, port }: Stage) -> Ports {
        Ports { protocol, first: port, last: port }
    }

    /// The number of ports.
    #[must_use]
    pub fn count(&self) -> usize {
        usize::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Whether the range contains this port.
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
