//! One warning.

use std::fmt;

/// A warning about something valid that is probably not intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The observation, without a full stop. It also goes to the log, so it contains no ports and no seeds.
    what: String,
    /// What to write instead, or empty. Only shown to those who may read the configuration.
    instead: String,
    /// Whether a door is weaker than its text suggests, or never opens; then the log has it at every start.
    pub is_grave: bool,
}

impl Warning {
    pub(super) fn new(what: impl Into<String>) -> Warning {
        Warning { what: what.into(), instead: String::new(), is_grave: false }
    }

    /// A warning about a door that is weaker than its text suggests, or never opens.
    pub(super) fn grave(what: impl Into<String>) -> Warning {
        Warning { is_grave: true, ..Warning::new(what) }
    }

    pub(super) fn instead(self, instead: impl Into<String>) -> Warning {
        Warning { instead: instead.into(), ..self }
    }

    /// The line for the log.
    #[must_use]
    pub fn line(&self) -> String {
        format!("warning: {}", self.what)
    }
}

/// One sentence.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.instead.as_str() {
            "" => write!(f, "{}.", self.what),
            instead => write!(f, "{}; {instead}.", self.what),
        }
    }
}
