//! Events of attempts, openings and doors, from which the log, the status and the watcher's messages are
//! made.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::knock::{FlagRule, Flags};
use crate::door::lock::Turn;
use crate::door::misfit::Misfit;
use crate::door::ports::Ports;
use crate::door::spa::Refusal;

/// An opening, as the watcher reports it to the doorkeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The door, counted from 0 in the order of the configuration.
    pub door: usize,
    /// The knocker.
    pub knocker: IpAddr,
    /// The turn of the door's lock that opened it.
    pub turn: Turn,
}

/// Something that happened to an attempt, an opening or a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A knocker reached this stage, counted from 1.
    Advanced {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// The stage.
        stage: usize,
    },
    /// A wrong knock ended an attempt.
    Failed {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// The last stage that was reached, counted from 1.
        stage: usize,
        /// `Log_Failures` is on; otherwise the event is not logged.
        is_logged: bool,
    },
    /// The sequence was completed, and must be completed again before the door opens (`Repeat`).
    Repeated {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// How often it was completed so far, and how often it must be.
        count: (usize, usize),
    },
    /// A list of one-time ports was knocked that is used or belongs to another period, at a door with
    /// `Log_Failures`.
    Misfit {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// What is wrong with the list.
        misfit: Misfit,
        /// The length of the door's periods.
        period: Duration,
    },
    /// An attempt ended between the halves of a one-time list: a try to guess the second one.
    Tried {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// The list.
        turn: Turn,
        /// How many tries its source has had so far.
        count: u8,
        /// They are as many as `OTP_Tries` allows: the list no longer opens the door for the source.
        is_locked_out: bool,
    },
    /// A single packet made by a holder of the keys opens no door.
    Refused {
        /// The door's name.
        door: Arc<str>,
        /// The sender's address.
        knocker: IpAddr,
        /// The reason.
        why: Refusal,
    },
    /// A single packet failed the HMAC check, at a door with `Log_Failures`.
    WrongPacket {
        /// The door's name.
        door: Arc<str>,
        /// The sender's address.
        knocker: IpAddr,
    },
    /// A packet does not have the TCP flags that a door requires.
    Unfit {
        /// The flags that the door requires.
        rule: FlagRule,
        /// The flags of the packet.
        flags: Option<Flags>,
    },
    /// An attempt took too long.
    Expired {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// The last stage that was reached, counted from 1.
        stage: usize,
    },
    /// The sequence was completed, and the door opens.
    Opened {
        /// The door's name.
        door: Arc<str>,
        /// The opening.
        opening: Opening,
    },
    /// The door opened too often of late (`Open_Rate`), so an opening is not made.
    TooOften {
        /// The door's name.
        door: Arc<str>,
        /// The opening. It uses up its list all the same.
        opening: Opening,
    },
    /// The start command of an opening waits until another one has ended (`Max_Commands`).
    Waits {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
    },
    /// The door was opened at another member of the fleet, and is opened here.
    OpenedByFleet {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// For how long from now; `None` if the opening has no end, because the door runs a start command
        /// alone.
        time: Option<Duration>,
    },
    /// The fleet did not confirm that the list or packet is unused, without which the door does not open.
    RefusedByFleet {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// The reason, as the end of a sentence.
        why: &'static str,
    },
    /// A command is about to be run.
    Running {
        /// The door's name.
        door: Arc<str>,
        /// The command as the shell gets it.
        command: Vec<u8>,
    },
    /// A command exited with a code other than 0, or was killed by a signal.
    Unsuccessful {
        /// The door's name.
        door: Arc<str>,
        /// Its exit code; 0 if it was killed by a signal, as in knockd 0.8.
        code: i32,
    },
    /// A door's time is over.
    TimeIsUp {
        /// The door's name.
        door: Arc<str>,
        /// The knocker that it was open for.
        knocker: IpAddr,
    },
    /// A knock on a door that was open already, which does not run the start command again.
    AlreadyOpen {
        /// The door's name.
        door: Arc<str>,
        /// The knocker that it is open for.
        knocker: IpAddr,
        /// Its time starts again.
        is_extended: bool,
    },
    /// The kernel lets a knocker in.
    Admitted {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// The ports; empty if a rule that we do not know decides about them.
        ports: Arc<[Ports]>,
        /// For how long; `None` is until somebody closes it by hand.
        time: Option<Duration>,
    },
    /// The kernel lets in a knocker who was let in already.
    StillAdmitted {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// For how long from now; `None` is until somebody closes it by hand.
        time: Option<Duration>,
    },
    /// The kernel does not let a knocker in.
    NotAdmitted {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// The reason.
        why: String,
    },
    /// The kernel no longer lets a knocker in.
    Dismissed {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
    },
    /// The daemon ends, and the kernel lets a knocker in for the rest of the time.
    LeftToTheKernel {
        /// The door's name.
        door: Arc<str>,
        /// The knocker.
        knocker: IpAddr,
        /// For how long from now; `None` is until somebody closes it by hand.
        time: Option<Duration>,
    },
    /// A command took too long and is killed.
    TooSlow {
        /// The door's name.
        door: Arc<str>,
    },
    /// A start command grew too long and is not run.
    StartTooLong,
    /// A stop command would be too long, so that the start command is not run either.
    StopTooLong,
    /// A one-time sequence file has no usable line left.
    Exhausted {
        /// The door's name.
        door: Arc<str>,
    },
}

impl Event {
    /// What happened, in one word for programs.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Event::Advanced { .. } => "stage",
            Event::Failed { .. } => "failed",
            Event::TooOften { .. } => "dropped",
            Event::Waits { .. } => "waits",
            Event::Repeated { .. } => "repeated",
            Event::Refused { .. } => "refused",
            Event::WrongPacket { .. } => "wrong_packet",
            Event::Misfit { .. } => "wrong_list",
            Event::Tried { .. } => "out",
            Event::Unfit { .. } => "unfit",
            Event::Expired { .. } => "timeout",
            Event::Opened { .. } => "opened",
            Event::OpenedByFleet { .. } => "opened_by_fleet",
            Event::RefusedByFleet { .. } => "refused_by_fleet",
            Event::Running { .. } => "command",
            Event::Unsuccessful { .. } => "command_failed",
            Event::TimeIsUp { .. } => "time_is_up",
            Event::AlreadyOpen { .. } => "already_open",
            Event::Admitted { .. } => "admitted",
            Event::StillAdmitted { .. } => "still_admitted",
            Event::NotAdmitted { .. } => "not_admitted",
            Event::Dismissed { .. } => "closed",
            Event::LeftToTheKernel { .. } => "left_to_the_kernel",
            Event::TooSlow { .. } => "command_killed",
            Event::StartTooLong | Event::StopTooLong => "command_too_long",
            Event::Exhausted { .. } => "exhausted",
        }
    }

    /// The door, if it is about one.
    #[must_use]
    pub fn door(&self) -> Option<&Arc<str>> {
        match self {
            Event::Advanced { door, .. }
            | Event::Failed { door, .. }
            | Event::TooOften { door, .. }
            | Event::Waits { door, .. }
            | Event::Repeated { door, .. }
            | Event::Refused { door, .. }
            | Event::WrongPacket { door, .. }
            | Event::Misfit { door, .. }
            | Event::Tried { door, .. }
            | Event::Expired { door, .. }
            | Event::Opened { door, .. }
            | Event::OpenedByFleet { door, .. }
            | Event::RefusedByFleet { door, .. }
            | Event::Running { door, .. }
            | Event::Unsuccessful { door, .. }
            | Event::TimeIsUp { door, .. }
            | Event::AlreadyOpen { door, .. }
            | Event::Admitted { door, .. }
            | Event::StillAdmitted { door, .. }
            | Event::NotAdmitted { door, .. }
            | Event::Dismissed { door, .. }
            | Event::LeftToTheKernel { door, .. }
            | Event::TooSlow { door }
            | Event::Exhausted { door } => Some(door),
            Event::Unfit { .. } | Event::StartTooLong | Event::StopTooLong => None,
        }
    }

    /// The stage that an attempt has reached, counted from 1.
    #[must_use]
    pub fn stage(&self) -> Option<usize> {
        match self {
            Event::Advanced { stage, .. } | Event::Failed { stage, .. } | Event::Expired { stage, .. } => {
                Some(*stage)
            }
            _ => None,
        }
    }

    /// The address whose host name the line shows, if it is known.
    #[must_use]
    pub fn knocker(&self) -> Option<IpAddr> {
        match self {
            Event::Advanced { knocker, .. }
            | Event::Expired { knocker, .. }
            | Event::Failed { knocker, .. }
            | Event::Repeated { knocker, .. }
            | Event::Misfit { knocker, .. }
            | Event::Tried { knocker, .. }
            | Event::Refused { knocker, .. }
            | Event::WrongPacket { knocker, .. }
            | Event::Waits { knocker, .. }
            | Event::OpenedByFleet { knocker, .. }
            | Event::RefusedByFleet { knocker, .. }
            | Event::TimeIsUp { knocker, .. }
            | Event::Admitted { knocker, .. }
            | Event::StillAdmitted { knocker, .. }
            | Event::NotAdmitted { knocker, .. }
            | Event::Dismissed { knocker, .. }
            | Event::LeftToTheKernel { knocker, .. }
            | Event::AlreadyOpen { knocker, .. } => Some(*knocker),
            Event::Opened { opening, .. } => Some(opening.knocker),
            _ => None,
        }
    }

    /// Whether the line goes to standard error as well.
    #[must_use]
    pub fn is_a_complaint(&self) -> bool {
        matches!(
            self,
            Event::Unsuccessful { .. }
                | Event::NotAdmitted { .. }
                | Event::TooSlow { .. }
                | Event::StartTooLong
                | Event::StopTooLong
                | Event::Exhausted { .. }
        )
    }
}
