//! Open doors that wait for the time of their stop command.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use litemap::LiteMap;

use crate::opening::job::JobId;
use crate::opening::standing::Stop;

/// Stops by job and by time.
#[derive(Clone, Debug, Default)]
pub(super) struct Timetable {
    stops: LiteMap<JobId, Box<Stop>>,
    /// When each of `stops` is due, as uptime.
    deadlines: BinaryHeap<Reverse<(Duration, JobId)>>,
}

impl Timetable {
    /// Adds a stop, which waits until it is due.
    pub(super) fn insert(&mut self, job: JobId, stop: Stop) {
        self.deadlines.push(Reverse((stop.due, job)));
        self.stops.insert(job, Box::new(stop));
    }

    /// Removes a stop that is due at this uptime, and returns it.
    pub(super) fn take_due(&mut self, uptime: Duration) -> Option<Stop> {
        while let Some(&Reverse((due, job))) = self.deadlines.peek()
            && due <= uptime
        {
            self.deadlines.pop();
            if let Some(stop) = self.stops.remove(&job) {
                return Some(*stop);
            }
        }
        None
    }

    /// When the next stop is due, as uptime.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.peek().map(|Reverse((due, _))| *due)
    }

    /// Sets `due` and `after` of the stops that `applies` selects, and returns those that changed.
    pub(super) fn set_times(
        &mut self,
        applies: impl Fn(&Stop) -> bool,
        set: impl Fn(&mut Stop),
    ) -> Vec<Stop> {
        let mut changed = Vec::new();
        for (_, stop) in self.stops.iter_mut().filter(|(_, stop)| applies(stop)) {
            let before = (stop.due, stop.after);
            set(stop);
            if before != (stop.due, stop.after) {
                changed.push((**stop).clone());
            }
        }
        self.deadlines = self.stops.iter().map(|(job, stop)| Reverse((stop.due, *job))).collect();
        changed
    }

    /// All stops, by job.
    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &Stop)> {
        self.stops.iter().map(|(job, stop)| (*job, &**stop))
    }

    /// Whether no door waits for its stop command.
    pub(super) fn is_empty(&self) -> bool {
        self.stops.is_empty()
    }
}
