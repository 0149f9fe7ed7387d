//! Limits how many start commands run at once, and queues the openings that wait until one may run.
//!
//! Each door has a queue of its own, of limited length. When a command ends, the door with the fewest running
//! commands is next. A door with a running command leaves a place to each door that has none, so that
//! commands that hang at one door do not keep the others shut. Stop commands, and the commands of the daemon
//! itself, neither count nor wait.

use std::collections::VecDeque;
use std::sync::Arc;

use litemap::LiteMap;

/// How many start commands may run at once at all doors together, unless `Max_Commands` says otherwise.
pub const MAX_COMMANDS: u16 = 64;
/// How many openings of one door may wait.
pub const MOST_WAITING: usize = 256;

/// Counts the start commands that run, and stores those that wait.
#[derive(Clone, Debug)]
pub struct Starts<T> {
    /// How many may run at once; 0 is no limit.
    most: usize,
    /// The doors that have a start command, sorted.
    doors: Vec<Arc<str>>,
    /// How many run at each door that has any.
    running: LiteMap<Arc<str>, usize>,
    /// The doors that have openings waiting.
    queues: LiteMap<Arc<str>, Queue<T>>,
    /// How many have waited so far, which numbers them in order of arrival.
    arrivals: u64,
    /// Nothing may wait any more: a command that cannot run at once is not run.
    is_closed: bool,
}

/// The queue of one door.
#[derive(Clone, Debug)]
struct Queue<T> {
    /// How many may run at once at this door; 0 is no limit.
    most: usize,
    /// Arrival number and command, in order of arrival.
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Starts<T> {
    fn default() -> Starts<T> {
        Starts {
            most: MAX_COMMANDS.into(),
            doors: Vec::new(),
            running: LiteMap::new(),
            queues: LiteMap::new(),
            arrivals: 0,
            is_closed: false,
        }
    }
}

impl<T> Starts<T> {
    /// Sets how many may run at once at all doors together, 0 being no limit, and which doors have a start
    /// command.
    pub fn limit(&mut self, most: u16, doors: impl Iterator<Item = Arc<str>>) {
        self.most = most.into();
        self.doors = doors.collect();
        self.doors.sort_unstable();
        self.doors.dedup();
    }

    /// Whether this many openings of this door can run or wait. `most` is how many may run at once at the
    /// door; 0 is no limit.
    #[must_use]
    pub fn has_room(&self, door: &str, most: u16, number: usize) -> bool {
        let waiting = self.queues.get(door).map_or(0, |queue| queue.waiting.len());
        number <= self.free_at(door, most.into(), self.idle())
            || !self.is_closed && (waiting == 0 || waiting + number <= MOST_WAITING)
    }

    /// Submits a start command. Returns it if it may run at once, and counts it as running; otherwise it
    /// waits.
    pub fn start_or_queue(&mut self, door: &Arc<str>, most: u16, start: T) -> Option<T> {
        let is_first = !self.queues.contains_key(door);
        if is_first && self.free_at(door, most.into(), self.idle()) > 0 {
            self.count(door);
            return Some(start);
        }
        if self.is_closed {
            return None;
        }
        self.arrivals += 1;
        let queue = self
            .queues
            .entry(Arc::clone(door))
            .or_insert_with(|| Queue { most: 0, waiting: VecDeque::new() });
        queue.most = most.into();
        queue.waiting.push_back((self.arrivals, start));
        None
    }

    /// Counts a start command as running, for instance one that has run since before this process began.
    pub fn count(&mut self, door: &Arc<str>) {
        *self.running.entry(Arc::clone(door)).or_default() += 1;
    }

    /// Records the end of a start command of this door.
    pub fn ended(&mut self, door: &str) {
        if let Some(running) = self.running.get_mut(door) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(door);
            }
        }
    }

    /// Removes the next command that may run now, returns it and counts it as running: the oldest at the door
    /// with the fewest running.
    pub fn start_next(&mut self) -> Option<T> {
        let idle = self.idle();
        let doors = self.queues.iter().filter(|(door, queue)| self.free_at(door, queue.most, idle) > 0);
        let oldest = |queue: &Queue<T>| queue.waiting.front().map(|(arrival, _)| *arrival);
        let (door, _) = doors.min_by_key(|(door, queue)| (self.running_at(door), oldest(queue)))?;
        let door = Arc::clone(door);
        let queue = self.queues.get_mut(&door)?;
        let next = queue.waiting.pop_front();
        if queue.waiting.is_empty() {
            self.queues.remove(&door);
        }
        self.count(&door);
        next.map(|(_, start)| start)
    }

    /// Drops the waiting commands for which `limit_for` returns `None`. Otherwise it returns how many may run
    /// at once at the door, 0 being no limit. Returns the doors, with the number dropped at each.
    pub fn retain(&mut self, limit_for: impl Fn(&str, &T) -> Option<u16>) -> Vec<(Arc<str>, u64)> {
        let mut dropped = Vec::new();
        for (door, mut queue) in std::mem::take(&mut self.queues) {
            let before = queue.waiting.len();
            let mut most = queue.most;
            queue.waiting.retain(|(_, start)| {
                let limit = limit_for(&door, start);
                most = limit.map_or(most, usize::from);
                limit.is_some()
            });
            queue.most = most;
            let number = before - queue.waiting.len();
            if number > 0 {
                dropped.push((Arc::clone(&door), u64::try_from(number).unwrap_or(u64::MAX)));
            }
            if !queue.waiting.is_empty() {
                self.queues.insert(door, queue);
            }
        }
        dropped
    }

    /// The waiting commands.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.queues.values().flat_map(|queue| queue.waiting.iter().map(|(_, start)| start))
    }

    /// The waiting commands, to be changed.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.queues.iter_mut().flat_map(|(_, queue)| queue.waiting.iter_mut().map(|(_, start)| start))
    }

    /// Drops all waiting commands; none may wait from now on. Returns the doors, with the number dropped at
    /// each.
    pub fn close(&mut self) -> Vec<(Arc<str>, u64)> {
        self.is_closed = true;
        let number = |queue: &Queue<T>| u64::try_from(queue.waiting.len()).unwrap_or(u64::MAX);
        std::mem::take(&mut self.queues).into_iter().map(|(door, queue)| (door, number(&queue))).collect()
    }

    /// How many start commands of this door can run now. `most` is how many may run at once at the door, 0
    /// being no limit; `idle` is the number of [`Starts::idle`] doors.
    fn free_at(&self, door: &str, most: usize, idle: usize) -> usize {
        let limit = |most: usize| if most == 0 { usize::MAX } else { most };
        let running = self.running_at(door);
        let mut free = limit(self.most).saturating_sub(self.total());
        // Beyond its first place, a door leaves one to each other door that has no command running: up to
        // half of all places.
        let first = usize::from(running == 0);
        if self.most > 0 && free > first {
            let others = idle.saturating_sub(first);
            free = first + (free - first).saturating_sub(others.min(self.most / 2));
        }
        free.min(limit(most).saturating_sub(running))
    }

    /// How many doors with a start command have none running.
    fn idle(&self) -> usize {
        let has_command = |door: &&Arc<str>| self.doors.binary_search(door).is_ok();
        self.doors.len() - self.running.keys().filter(has_command).count()
    }

    fn running_at(&self, door: &str) -> usize {
        self.running.get(door).copied().unwrap_or_default()
    }

    fn total(&self) -> usize {
        self.running.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(most: u16, doors: &[&str]) -> Starts<u32> {
        let mut starts = Starts::default();
        starts.limit(most, doors.iter().map(|door| Arc::from(*door)));
        starts
    }

    /// How many of so many start commands run at once.
    fn run(starts: &mut Starts<u32>, door: &str, number: u32) -> usize {
        let door = Arc::from(door);
        (0..number).filter(|n| starts.start_or_queue(&door, 0, *n).is_some()).count()
    }

    #[test]
    fn doors_whose_commands_hang_leave_a_place_to_each_other_door() {
        let names: Vec<String> = (0..10).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut starts = starts(64, &names);
        let at_four: Vec<usize> = names.iter().take(4).map(|door| run(&mut starts, door, 40)).collect();
        assert_eq!(at_four, [40, 16, 1, 1], "the first two leave eight places, and then seven");
        let at_others: Vec<usize> = names.iter().skip(4).map(|door| run(&mut starts, door, 40)).collect();
        assert_eq!(at_others, [1; 6]);
        assert_eq!(starts.total(), 64);
        // A place that becomes free is the next one of those that have the fewest.
        starts.ended("9");
        assert!(starts.start_next().is_some());
        assert_eq!((starts.running_at("9"), starts.total(), starts.start_next()), (1, 64, None));
    }

    #[test]
    fn at_most_half_of_the_places_are_kept_for_idle_doors() {
        let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut starts = starts(8, &names);
        assert_eq!(run(&mut starts, "0", 10), 4);
        assert_eq!(names.iter().skip(1).map(|door| run(&mut starts, door, 1)).sum::<usize>(), 4);
        assert_eq!(starts.total(), 8);
    }

    #[test]
    fn one_door_has_all_places() {
        assert_eq!(run(&mut starts(64, &["a"]), "a", 70), 64);
        assert_eq!(run(&mut starts(1, &["a", "b"]), "a", 2), 1);
        assert_eq!(run(&mut starts(0, &["a", "b"]), "a", 1_000), 1_000);
        // The ports of a single packet need a place each.
        let mut two = starts(4, &["a", "b"]);
        assert!(two.has_room("a", 0, 3));
        assert_eq!(run(&mut two, "a", 3), 3);
        assert!(two.has_room("a", 0, 1), "it can wait");
        two.close();
        assert!(!two.has_room("a", 0, 1) && two.has_room("b", 0, 1) && !two.has_room("b", 0, 2));
    }

    #[test]
    fn what_is_dropped_makes_room() {
        let mut starts = starts(1, &["a", "b"]);
        assert_eq!(run(&mut starts, "a", 5), 1);
        assert_eq!(run(&mut starts, "b", 2), 0);
        let odd = |door: &str, n: &u32| (door == "a" && n % 2 == 1).then_some(2);
        assert_eq!(starts.retain(odd), [(Arc::from("a"), 2), (Arc::from("b"), 2)]);
        starts.limit(3, ["a"].map(Arc::from).into_iter());
        assert_eq!((starts.start_next(), starts.start_next()), (Some(1), None), "two of three at this door");
        starts.ended("a");
        assert_eq!((starts.start_next(), starts.waiting().count()), (Some(3), 0));
    }
}
