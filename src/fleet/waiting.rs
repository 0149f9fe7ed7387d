//! What waits: openings for the answer of the fleet, messages for their way there; and which openings were seen.

use std::collections::VecDeque;
use std::time::Duration;

use crate::fleet::message::Message;

/// How long the fleet has to answer.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// How many openings may wait for an answer; for more, none is waited for.
pub const MOST_HELD: usize = 256;
/// How many messages may wait for their way to the fleet.
pub const MOST_QUEUED: usize = 1024;
/// The numbers of how many openings are remembered.
pub const MOST_RECENT: usize = 4096;
/// Nothing is opened for less than this.
pub const LEAST: Duration = Duration::from_secs(1);

/// Openings that wait for an answer, in the order in which it is due. There are few of them.
#[derive(Debug)]
pub struct Held<T>(Vec<(u64, Duration, T)>);

impl<T> Default for Held<T> {
    fn default() -> Held<T> {
        Held(Vec::new())
    }
}

impl<T> Held<T> {
    /// Whether no more may wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= MOST_HELD
    }

    /// An opening of this number waits from this uptime on.
    pub fn hold(&mut self, number: u64, uptime: Duration, opening: T) {
        self.0.push((number, uptime.saturating_add(PATIENCE), opening));
    }

    /// The opening that was answered, if it waits still.
    pub fn answered(&mut self, number: u64) -> Option<T> {
        let place = self.0.iter().position(|(its, ..)| *its == number)?;
        Some(self.0.remove(place).2)
    }

    /// An opening that has waited long enough at this uptime. At [`Duration::MAX`] that is each.
    pub fn overdue(&mut self, uptime: Duration) -> Option<T> {
        self.next_deadline().filter(|at| *at <= uptime)?;
        Some(self.0.remove(0).2)
    }

    /// When the next one has waited long enough, as uptime.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.0.first().map(|(_, at, _)| *at)
    }
}

/// Messages on their way to the fleet, each with the uptime at which its time is over.
#[derive(Debug, Default)]
pub struct Queue(VecDeque<(Duration, Message)>);

impl Queue {
    /// A message is to be sent; the oldest one is dropped if too many wait.
    pub fn push(&mut self, message: Message, uptime: Duration) {
        if self.0.len() >= MOST_QUEUED {
            self.0.pop_front();
        }
        self.0.push_back((end_of(&message, uptime), message));
    }

    /// Takes the next message, with what is left of its time at this uptime.
    pub fn take(&mut self, uptime: Duration) -> Option<Message> {
        while let Some((end, message)) = self.0.pop_front() {
            let left = end.saturating_sub(uptime);
            if message.shared().is_none() || left >= LEAST {
                return Some(message.lasting(left));
            }
        }
        None
    }

    /// A message that was taken at this uptime could not be sent: it is the next one again, unless too many wait.
    pub fn put_back(&mut self, message: Message, uptime: Duration) {
        if self.0.len() < MOST_QUEUED {
            self.0.push_front((end_of(&message, uptime), message));
        }
    }

    /// All that waits, with the time that was left when it was put here.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.0.iter().map(|(_, message)| message)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// When the time of a message is over that has this uptime.
fn end_of(message: &Message, uptime: Duration) -> Duration {
    message.shared().map_or(Duration::MAX, |it| uptime.saturating_add(it.time))
}

/// The numbers of the last openings.
#[derive(Debug, Default)]
pub struct Recent(Vec<u64>);

impl Recent {
    /// Notes a number; whether it was not among the last ones.
    pub fn is_new(&mut self, number: u64) -> bool {
        if self.0.contains(&number) {
            return false;
        }
        if self.0.len() >= MOST_RECENT {
            self.0.remove(0);
        }
        self.0.push(number);
        true
    }
}
