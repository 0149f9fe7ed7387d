//! One warning.

use std::fmt;

/// Something that is allowed and yet probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// What is odd, without a full stop. It goes to the log too, so it holds no ports and no seeds.
    what: String,
    /// What to write instead, if there is something; shown only to those who can read the file.
    instead: String,
    /// Whether a door is weaker or deader than it reads: then the log has it at a normal start.
    pub is_grave: bool,
}

impl Warning {
    pub(super) fn new(what: impl Into<String>) -> Warning {
        Warning { what: what.into(), instead: String::new(), is_grave: false }
    }

    /// A door is weaker or deader than it reads.
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
