//! How many start commands run at once, and the openings that wait until one may run.
//!
//! Each door has a queue of its own, of limited length. When a command ends, the door with the fewest running
//! commands is next, so that no door keeps the others waiting. Stop commands, and the commands of the daemon
//! itself, neither count nor wait.

use std::collections::VecDeque;
use std::sync::Arc;

use litemap::LiteMap;

/// How many start commands run at once at all doors together, unless `Max_Commands` says otherwise.
pub const MAX_COMMANDS: u16 = 64;
/// How many openings of one door wait at most.
pub const MOST_WAITING: usize = 256;

/// The start commands that run, as numbers, and those that wait, as what it takes to run them.
#[derive(Clone, Debug)]
pub struct Starts<T> {
    /// How many may run at once; 0 is no limit.
    most: usize,
    /// How many run at each door that has any.
    running: LiteMap<Arc<str>, usize>,
    /// The doors that have openings waiting.
    queues: LiteMap<Arc<str>, Queue<T>>,
    /// How many have waited so far: the order in which they came.
    arrivals: u64,
    /// Nothing waits any more: what cannot run at once is not run.
    is_closed: bool,
}

/// What waits at one door.
#[derive(Clone, Debug)]
struct Queue<T> {
    /// How many may run at once at this door; 0 is no limit.
    most: usize,
    /// In the order in which they came.
    waiting: VecDeque<(u64, T)>,
}

impl<T> Default for Starts<T> {
    fn default() -> Starts<T> {
        Starts {
            most: MAX_COMMANDS.into(),
            running: LiteMap::new(),
            queues: LiteMap::new(),
            arrivals: 0,
            is_closed: false,
        }
    }
}

impl<T> Starts<T> {
    /// So many may run at once at all doors together from now on; 0 is no limit.
    pub fn limit(&mut self, most: u16) {
        self.most = most.into();
    }

    /// Whether so many openings of this door can run or wait. `most` is how many may run at once at the door;
    /// 0 is no limit.
    #[must_use]
    pub fn take(&self, door: &str, most: u16, number: usize) -> bool {
        let waiting = self.queues.get(door).map_or(0, |queue| queue.waiting.len());
        let free = |most: usize, running: usize| {
            if most == 0 { usize::MAX } else { most.saturating_sub(running) }
        };
        let free = free(self.most, self.total()).min(free(most.into(), self.running_at(door)));
        number <= free || !self.is_closed && (waiting == 0 || waiting + number <= MOST_WAITING)
    }

    /// A start command is to be run. It comes back if it may run at once, and counts as running from then on;
    /// otherwise it waits.
    pub fn offer(&mut self, door: &Arc<str>, most: u16, start: T) -> Option<T> {
        let is_first = !self.queues.contains_key(door);
        if is_first && self.may_run(door, most.into()) {
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

    /// A start command runs that did not ask, since before this process began.
    pub fn count(&mut self, door: &Arc<str>) {
        *self.running.entry(Arc::clone(door)).or_default() += 1;
    }

    /// A start command of this door ended.
    pub fn ended(&mut self, door: &str) {
        if let Some(running) = self.running.get_mut(door) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                self.running.remove(door);
            }
        }
    }

    /// The next that may run now, and counts as running from now on: the oldest of the door that has the fewest
    /// running.
    pub fn start_next(&mut self) -> Option<T> {
        let doors = self.queues.iter().filter(|(door, queue)| self.may_run(door, queue.most));
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

    /// What waits.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.queues.values().flat_map(|queue| queue.waiting.iter().map(|(_, start)| start))
    }

    /// Nothing waits any more. How many openings of which doors did.
    pub fn close(&mut self) -> Vec<(Arc<str>, u64)> {
        self.is_closed = true;
        let number = |queue: &Queue<T>| u64::try_from(queue.waiting.len()).unwrap_or(u64::MAX);
        std::mem::take(&mut self.queues).into_iter().map(|(door, queue)| (door, number(&queue))).collect()
    }

    fn may_run(&self, door: &str, most: usize) -> bool {
        let has_room = |most: usize, running: usize| most == 0 || running < most;
        has_room(self.most, self.total()) && has_room(most, self.running_at(door))
    }

    fn running_at(&self, door: &str) -> usize {
        self.running.get(door).copied().unwrap_or_default()
    }

    fn total(&self) -> usize {
        self.running.values().sum()
    }
}
