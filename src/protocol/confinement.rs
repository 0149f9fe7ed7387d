//! The confinement of the processes that parse packets from the network: what to give up and what was given
//! up, with their texts for command lines and messages.
//!
//! The doorkeeper decides. The process confines itself before it reads anything, and reports the steps that
//! failed.

use std::fmt;
use std::io;

use crate::config::Sandbox;
use crate::filter::trouble::Code;

/// The confinement requested of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Confinement {
    /// The user and group ids to change to; `None` to keep the daemon's user and all capabilities.
    pub identity: Option<(u32, u32)>,
    /// Whether to apply the sandbox as well, and what to do if a step of it fails.
    pub sandbox: Sandbox,
}

impl Confinement {
    /// Formats the confinement as two words of a command line.
    #[must_use]
    pub fn words(&self) -> [String; 2] {
        let identity = self.identity.map(|(user, group)| format!("{user}:{group}"));
        [identity.unwrap_or_else(|| KEEPS.to_owned()), self.sandbox.word().to_owned()]
    }

    /// Parses these words; `None` if they are invalid.
    #[must_use]
    pub fn of(words: [&str; 2]) -> Option<Confinement> {
        let [identity, sandbox] = words;
        let identity = match identity {
            KEEPS => None,
            numbers => {
                let (user, group) = numbers.split_once(':')?;
                Some((user.parse().ok()?, group.parse().ok()?))
            }
        };
        Some(Confinement { identity, sandbox: Sandbox::from_word(sandbox)? })
    }
}

/// The word for a process that keeps its user.
const KEEPS: &str = "keep";

/// One step of the confinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Drop the daemon's user, group and supplementary groups.
    User,
    /// Empty the capability bounding set.
    BoundingSet,
    /// Drop all capabilities.
    Capabilities,
    /// Set `no_new_privs`, so that set-user-ID programs give no privileges.
    NewPrivileges,
    /// Restrict access to files (Landlock).
    Files,
    /// Restrict the system calls (seccomp).
    SystemCalls,
}

impl Part {
    /// All parts, in the order of their outcomes.
    pub const ALL: [Part; 6] = [
        Part::User,
        Part::BoundingSet,
        Part::Capabilities,
        Part::NewPrivileges,
        Part::Files,
        Part::SystemCalls,
    ];

    /// The name used in the manual.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Part::User => "user",
            Part::BoundingSet => "bounding set",
            Part::Capabilities => "capabilities",
            Part::NewPrivileges => "no_new_privs",
            Part::Files => "Landlock",
            Part::SystemCalls => "seccomp",
        }
    }

    /// The text for a process that has completed this step.
    const fn done(self) -> &'static str {
        match self {
            Part::BoundingSet => "empty bounding set",
            Part::Capabilities => "no capabilities",
            other => other.name(),
        }
    }
}

/// The outcome of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Not requested.
    #[default]
    Unwanted,
    /// Completed.
    Done,
    /// Replaced by another measure: without Landlock, an empty root directory restricts access to files.
    Otherwise,
    /// The system call failed.
    Failed(Code),
}

impl Outcome {
    /// The outcome of a step.
    #[must_use]
    pub fn of(result: Result<(), impl Into<io::Error>>) -> Outcome {
        result.map_or_else(|error| Outcome::Failed(Code::of(&error.into())), |()| Outcome::Done)
    }
}

/// The confinement of a process, as it reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Confined {
    /// Its current user id.
    pub user: u32,
    /// The outcome of each part, in the order of [`Part::ALL`].
    pub outcomes: [Outcome; Part::ALL.len()],
}

impl Confined {
    /// The parts that were requested but failed, as text; `None` if there are none.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        let failed = self.parts().filter_map(|(part, outcome)| match outcome {
            Outcome::Failed(code) => Some(format!("{} ({code})", part.name())),
            _ => None,
        });
        let failed: Vec<String> = failed.collect();
        (!failed.is_empty()).then(|| failed.join(", "))
    }

    fn parts(&self) -> impl Iterator<Item = (Part, Outcome)> {
        Part::ALL.into_iter().zip(self.outcomes)
    }
}

impl fmt::Display for Confined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "user {}", self.user)?;
        for (part, outcome) in self.parts() {
            match outcome {
                Outcome::Done if part == Part::User => {}
                Outcome::Done => write!(f, ", {}", part.done())?,
                Outcome::Otherwise => f.write_str(", empty root directory")?,
                Outcome::Unwanted | Outcome::Failed(_) => {}
            }
        }
        match self.missing() {
            Some(missing) => write!(f, "; not possible here: {missing}"),
            None => Ok(()),
        }
    }
}
