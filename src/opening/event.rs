//! What happened to attempts, openings and doors: what the log, the status and the watcher's messages are made of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::door::knock::{FlagRule, Flags};
use crate::door::lock::Turn;
use crate::door::misfit::Misfit;
use crate::door::ports::Ports;
use crate::door::spa::Refusal;

/// A door opened: what the watcher tells the doorkeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Opening {
    /// The door, counted from 0 in the order of the configuration.
    pub door: usize,
    /// For whom.
    pub knocker: IpAddr,
    /// Which use of the door's lock.
    pub turn: Turn,
}

/// Something that happened to an attempt, an opening or a door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A knocker reached this stage, counted from 1.
    Advanced {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
        /// The stage.
        stage: usize,
    },
    /// A wrong knock ended an attempt.
    Failed {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
        /// The last stage that was reached, counted from 1.
        stage: usize,
        /// The door wants it in the log, which is silent about it otherwise.
        is_logged: bool,
    },
    /// The whole sequence was knocked, and has to be knocked again before the door opens.
    Repeated {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
        /// How often it was knocked by now, and how often it must be.
        count: (usize, usize),
    },
    /// A list of one-time ports that was used or is that of another period, at a door that wants it in the log.
    Misfit {
        /// The door's name.
        door: Arc<str>,
        /// Who knocked it.
        knocker: IpAddr,
        /// What is wrong with it.
        misfit: Misfit,
        /// How long the periods of the door are.
        period: Duration,
    },
    /// An attempt ended between the halves of a one-time list: a try to guess the second one.
    Tried {
        /// The door's name.
        door: Arc<str>,
        /// Who tried.
        knocker: IpAddr,
        /// Which list.
        turn: Turn,
        /// How many tries its source had by now.
        count: u8,
        /// They are as many as `OTP_Tries` allows: the list does not open for the source any more.
        is_out: bool,
    },
    /// A single packet that a holder of the keys made opens no door.
    Refused {
        /// The door's name.
        door: Arc<str>,
        /// Who sent it.
        knocker: IpAddr,
        /// Why.
        why: Refusal,
    },
    /// A single packet that nobody with the keys made, at a door that wants it in the log.
    WrongPacket {
        /// The door's name.
        door: Arc<str>,
        /// Who sent it.
        knocker: IpAddr,
    },
    /// A packet that another door wants does not have the flags that this one asks for.
    Unfit {
        /// What is asked for.
        rule: FlagRule,
        /// What it has.
        flags: Option<Flags>,
    },
    /// An attempt took too long.
    Expired {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
        /// The last stage that was reached, counted from 1.
        stage: usize,
    },
    /// The whole sequence was knocked.
    Opened {
        /// The door's name.
        door: Arc<str>,
        /// What the doorkeeper needs to know.
        opening: Opening,
    },
    /// An opening that is not made: the door opened too often of late (`Open_Rate`).
    TooOften {
        /// The door's name.
        door: Arc<str>,
        /// The opening. It uses up its list all the same.
        opening: Opening,
    },
    /// An opening whose start command waits until another one ended (`Max_Commands`).
    Waits {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
    },
    /// The door was opened at another member of the fleet, and is opened here.
    OpenedByFleet {
        /// The door's name.
        door: Arc<str>,
        /// For whom.
        knocker: IpAddr,
        /// For how long from now; none if it is a command that runs and has no end.
        time: Option<Duration>,
    },
    /// What was knocked opened this door at another member of the fleet before.
    UsedElsewhere {
        /// The door's name.
        door: Arc<str>,
        /// Who knocked.
        knocker: IpAddr,
    },
    /// The fleet did not say whether what was knocked was used, and the door is not to be opened without.
    FleetSilent {
        /// The door's name.
        door: Arc<str>,
        /// Who knocked.
        knocker: IpAddr,
    },
    /// A command is about to be run.
    Running {
        /// The door's name.
        door: Arc<str>,
        /// The command as the shell gets it.
        command: Vec<u8>,
    },
    /// A command ended, and not well.
    Unsuccessful {
        /// The door's name.
        door: Arc<str>,
        /// Its exit code; 0 if it was killed by a signal, as knockd 0.8 has it.
        code: i32,
    },
    /// A door's time is over.
    TimeIsUp {
        /// The door's name.
        door: Arc<str>,
        /// Whom it was open for.
        knocker: IpAddr,
    },
    /// A knock on a door that was open already, which does not run the start command again.
    AlreadyOpen {
        /// The door's name.
        door: Arc<str>,
        /// Whom it is open for.
        knocker: IpAddr,
        /// Its time starts again.
        is_extended: bool,
    },
    /// The kernel lets somebody in.
    Admitted {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
        /// To which ports; none where a rule that we do not know says so.
        ports: Arc<[Ports]>,
        /// For how long; none is until somebody closes it by hand.
        time: Option<Duration>,
    },
    /// The kernel lets somebody in who was let in before this.
    StillAdmitted {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
        /// For how long from now; none is until somebody closes it by hand.
        time: Option<Duration>,
    },
    /// The kernel does not let somebody in who knocked.
    NotAdmitted {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
        /// Why.
        why: String,
    },
    /// The kernel lets somebody in no longer.
    Dismissed {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
    },
    /// The daemon ends, and the kernel lets somebody in for what is left of the time.
    LeftToTheKernel {
        /// The door's name.
        door: Arc<str>,
        /// Who.
        knocker: IpAddr,
        /// For how long from now; none is until somebody closes it by hand.
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
            Event::UsedElsewhere { .. } => "used_elsewhere",
            Event::FleetSilent { .. } => "fleet_silent",
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
            | Event::UsedElsewhere { door, .. }
            | Event::FleetSilent { door, .. }
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

    /// Whose name the line would like to show.
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
            | Event::UsedElsewhere { knocker, .. }
            | Event::FleetSilent { knocker, .. }
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

    /// Whether strangers can cause it as often as they like: such lines are summed up when they
    /// come too fast.
    #[must_use]
    pub fn is_cheap(&self) -> bool {
        matches!(
            self,
            Event::Advanced { .. }
                | Event::Expired { .. }
                | Event::Failed { .. }
                | Event::Repeated { .. }
                | Event::Misfit { .. }
                | Event::Tried { .. }
                | Event::Refused { .. }
                | Event::WrongPacket { .. }
        )
    }

    /// Whether the line goes to standard error as well.
    #[must_use]
    pub fn is_a_complaint(&self) -> bool {
        matches!(
            self,
            Event::Unsuccessful { .. }
                | Event::FleetSilent { .. }
                | Event::NotAdmitted { .. }
                | Event::TooSlow { .. }
                | Event::StartTooLong
                | Event::StopTooLong
                | Event::Exhausted { .. }
        )
    }
}
