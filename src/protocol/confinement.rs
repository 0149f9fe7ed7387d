//! What is taken away from the processes that read what strangers send, and what could be taken: values, their words on
//! a command line and in messages.
//!
//! The doorkeeper decides, the process does it to itself before it reads anything, and reports what it could not do.

use std::fmt;
use std::io;

use crate::config::Sandbox;
use crate::filter::trouble::Code;

/// What a process is to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Confinement {
    /// The user and the group that it becomes; `None` if it keeps the daemon's, with all capabilities.
    pub identity: Option<(u32, u32)>,
    /// Whether it locks itself up as well, and what follows if it cannot.
    pub sandbox: Sandbox,
}

impl Confinement {
    /// As two words of a command line.
    #[must_use]
    pub fn words(&self) -> [String; 2] {
        let identity = self.identity.map(|(user, group)| format!("{user}:{group}"));
        [identity.unwrap_or_else(|| KEEPS.to_owned()), self.sandbox.word().to_owned()]
    }

    /// What these words say.
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

/// One of the things that a process gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The daemon's user, group and supplementary groups.
    User,
    /// Capabilities that it could get back.
    BoundingSet,
    /// The capabilities that it has.
    Capabilities,
    /// What a program with the set-user-ID bit would give it.
    NewPrivileges,
    /// Files.
    Files,
    /// System calls.
    SystemCalls,
}

impl Part {
    /// All of them, in the order of their outcomes.
    pub const ALL: [Part; 6] = [
        Part::User,
        Part::BoundingSet,
        Part::Capabilities,
        Part::NewPrivileges,
        Part::Files,
        Part::SystemCalls,
    ];

    /// What it is called in the manual.
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

    /// What a process is said to have that gave it up.
    const fn done(self) -> &'static str {
        match self {
            Part::BoundingSet => "empty bounding set",
            Part::Capabilities => "no capabilities",
            other => other.name(),
        }
    }
}

/// What became of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was not wanted.
    #[default]
    Unwanted,
    /// It is given up.
    Done,
    /// It is given up in another way: files by an empty root directory, where there is no Landlock.
    Otherwise,
    /// The system does not let us.
    Failed(Code),
}

impl Outcome {
    /// What became of a step.
    #[must_use]
    pub fn of(result: Result<(), impl Into<io::Error>>) -> Outcome {
        result.map_or_else(|error| Outcome::Failed(Code::of(&error.into())), |()| Outcome::Done)
    }
}

/// What a process gave up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Confined {
    /// The user that it has now.
    pub user: u32,
    /// What became of each part, in the order of [`Part::ALL`].
    pub outcomes: [Outcome; Part::ALL.len()],
}

impl Confined {
    /// The parts that were wanted and could not be done, as words.
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
