//! Messages that wait for the engine.

use std::collections::VecDeque;
use std::time::Duration;

use knocking::fleet::message::FromKnockd;
use knocking::fleet::waiting::{LEAST, MOST_QUEUED};

/// Messages on their way to the engine, each with the uptime at which its time is over.
#[derive(Debug, Default)]
pub struct Queue(VecDeque<(Duration, FromKnockd)>);

impl Queue {
    /// A message is to be sent; the oldest one is dropped if too many wait.
    pub fn push(&mut self, message: FromKnockd, uptime: Duration) {
        if self.0.len() >= MOST_QUEUED {
            self.0.pop_front();
        }
        self.0.push_back((end_of(&message, uptime), message));
    }

    /// Takes the next message, with what is left of its time at this uptime.
    pub fn take(&mut self, uptime: Duration) -> Option<FromKnockd> {
        while let Some((end, message)) = self.0.pop_front() {
            let left = end.saturating_sub(uptime);
            if message.shared().is_none() || left >= LEAST {
                return Some(message.ending(left));
            }
        }
        None
    }

    /// A message that was taken at this uptime could not be sent: it is the next one again, unless too many wait.
    pub fn put_back(&mut self, message: FromKnockd, uptime: Duration) {
        if self.0.len() < MOST_QUEUED {
            self.0.push_front((end_of(&message, uptime), message));
        }
    }

    /// All that waits, with the time that was left when it was put here.
    pub fn messages(&self) -> impl Iterator<Item = &FromKnockd> {
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
fn end_of(message: &FromKnockd, uptime: Duration) -> Duration {
    message.shared().map_or(Duration::MAX, |it| uptime.saturating_add(it.stop.due))
}

#[cfg(test)]
mod tests {
    use super::*;
    use knocking::fleet::message::Shared;
    use knocking::opening::record::Record;
    use knocking::opening::standing::{Key, Stop};
    use std::net::Ipv4Addr;

    fn shared(number: u64, time: Duration) -> Box<Shared> {
        Box::new(Shared {
            stop: Stop {
                key: Key { origin: 7, number },
                door: "ssh".into(),
                knocker: Ipv4Addr::LOCALHOST.into(),
                access: None,
                command: Vec::new(),
                after: time,
                limit: None,
                due: time,
            },
            has_end: true,
            used: Record::Spent(0, 5, None),
        })
    }

    /// The same with this time left.
    fn lasting(number: u64, time: Duration, left: Duration) -> Box<Shared> {
        let mut shared = shared(number, time);
        shared.stop.due = left;
        shared
    }

    #[test]
    fn a_queue_keeps_what_has_time_left() {
        let at = Duration::from_millis;
        let mut queue = Queue::default();
        queue.push(FromKnockd::Opened(shared(1, at(5_000))), at(100));
        queue.push(FromKnockd::Hello(7, 0, 0), at(100));
        queue.push(FromKnockd::Ask(shared(2, at(60_000))), at(100));
        let opened = |left| FromKnockd::Opened(lasting(1, at(5_000), at(left)));
        assert_eq!(queue.take(at(1_100)), Some(opened(4_000)));
        // One that could not be sent is the next one again.
        queue.put_back(opened(4_000), at(1_100));
        assert_eq!(queue.take(at(4_100)), Some(opened(1_000)));
        queue.put_back(opened(1_000), at(4_100));
        assert_eq!(queue.take(at(4_200)), Some(FromKnockd::Hello(7, 0, 0)));
        queue.put_back(FromKnockd::Hello(7, 0, 0), at(4_200));
        assert_eq!(queue.take(at(4_200)), Some(FromKnockd::Hello(7, 0, 0)));
        assert_eq!(queue.take(at(10_100)), Some(FromKnockd::Ask(lasting(2, at(60_000), at(50_000)))));
        queue.put_back(FromKnockd::Ask(lasting(2, at(60_000), at(50_000))), at(10_100));
        assert_eq!(queue.take(at(60_000)), None);
        assert!(queue.is_empty());
        let last = u64::try_from(MOST_QUEUED).unwrap();
        for number in 0..=last {
            queue.push(FromKnockd::Hello(number, 0, 0), at(0));
        }
        assert_eq!(queue.take(at(0)), Some(FromKnockd::Hello(1, 0, 0)));
        // Another one came meanwhile: the oldest is dropped.
        queue.push(FromKnockd::Hello(last + 1, 0, 0), at(0));
        queue.put_back(FromKnockd::Hello(1, 0, 0), at(0));
        assert_eq!((queue.len(), queue.take(at(0))), (MOST_QUEUED, Some(FromKnockd::Hello(2, 0, 0))));
    }
}
