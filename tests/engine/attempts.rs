//! The table of attempts in progress, compared with a simple model, and its bounds.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::lock::Turn;
use knocking::engine::Engine;
use knocking::engine::MAX_ATTEMPTS;
use knocking::engine::attempts::{Attempt, AttemptId, Attempts};
use knocking::engine::expiring_map::ExpiringMap;
use knocking::opening::event::Event;
use knocking::time::Now;

use crate::random::Random;
use crate::support::folder::read;

trials![
    it_matches_a_simple_table,
    ids_of_ended_attempts_find_nothing,
    the_fullest_stage_is_evicted,
    a_network_has_a_share_of_the_table,
    genuine_knocks_get_through_floods_of_first_and_second_knocks,
    the_oldest_of_equals_is_evicted,
    a_million_sources_are_bounded,
    ended_attempts_leave_no_memory_behind,
    the_manual_states_the_memory_of_a_full_table,
    the_expiring_map_is_bounded_too,
];

/// The same table as a plain list.
struct Model {
    capacity: usize,
    /// In the order in which they began.
    list: Vec<Entry>,
    /// Counts the changes.
    time: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    id: AttemptId,
    attempt: Attempt,
    deadline: Duration,
    /// When it reached its present stage.
    since: u64,
}

impl Model {
    fn position(&self, id: AttemptId) -> Option<usize> {
        self.list.iter().position(|entry| entry.id == id)
    }

    fn make_room(&mut self) {
        if self.list.len() == self.capacity {
            let count = |reached| self.list.iter().filter(|it| it.attempt.reached == reached).count();
            let fullest = (1..=u8::MAX).rev().max_by_key(|&reached| count(reached)).unwrap();
            let of_it = (0..self.list.len()).filter(|&at| self.list[at].attempt.reached == fullest);
            let oldest = of_it.min_by_key(|&at| self.list[at].since);
            self.list.remove(oldest.unwrap());
        }
    }

    fn begin(&mut self, id: AttemptId, attempt: Attempt, deadline: Duration) {
        self.time += 1;
        self.list.push(Entry { id, attempt, deadline, since: self.time });
    }

    fn advance(&mut self, id: AttemptId) {
        self.time += 1;
        if let Some(at) = self.position(id) {
            self.list[at].attempt.reached += 1;
            self.list[at].since = self.time;
        }
    }

    fn remove(&mut self, id: AttemptId) -> Option<Attempt> {
        self.position(id).map(|at| self.list.remove(at).attempt)
    }

    fn expire(&mut self, uptime: Duration) -> Option<Attempt> {
        let first = (0..self.list.len()).min_by_key(|&at| self.list[at].deadline)?;
        (self.list[first].deadline <= uptime).then(|| self.list.remove(first).attempt)
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.list.iter().map(|entry| entry.deadline).min()
    }

    /// The attempts of a knocker, in any order.
    fn of(&self, knocker: IpAddr) -> Vec<u32> {
        let mut doors: Vec<u32> = self
            .list
            .iter()
            .filter(|entry| entry.attempt.knocker == knocker)
            .map(|entry| entry.attempt.door)
            .collect();
        doors.sort_unstable();
        doors
    }
}

fn of(attempts: &Attempts, knocker: IpAddr) -> Vec<u32> {
    let first = attempts.first_of(knocker);
    let ids = std::iter::successors(first, |&id| attempts.next_of(id));
    ids.map(|id| attempts.get(id).unwrap())
        .inspect(|attempt| assert_eq!(attempt.knocker, knocker))
        .map(|attempt| attempt.door)
        .collect()
}

fn it_matches_a_simple_table() {
    for _ in 0..40 {
        let random = Random::new();
        let capacity = 1 + random.below(40);
        let knockers: Vec<IpAddr> = (0..=random.below(20))
            .map(|_| if random.once_in(2) { random.v4() } else { random.v6() })
            .collect();
        let mut attempts = Attempts::new(capacity);
        let mut model = Model { capacity, list: Vec::new(), time: 0 };
        let mut known = Vec::new();
        for step in 0..300_u32 {
            let some_id = |known: &[AttemptId]| (!known.is_empty()).then(|| *random.pick(known));
            let uptime = Duration::from_millis(u64::from(step));
            match random.below(10) {
                0..=4 => {
                    // As the engine does: attempts at several doors, each behind the one before.
                    let knocker = *random.pick(&knockers);
                    let mut previous = None;
                    for door in 0..=u32::try_from(random.below(3)).unwrap() {
                        let attempt =
                            Attempt { knocker, reached: 1, door: step * 8 + door, turn: Turn(door.into()) };
                        let deadline =
                            uptime + Duration::from_millis(u64::try_from(random.below(100)).unwrap());
                        model.make_room();
                        let before = of(&attempts, knocker);
                        previous = attempts.begin(attempt, deadline, previous);
                        let id = previous.expect("a new attempt");
                        model.begin(id, attempt, deadline);
                        known.push(id);
                        let after = of(&attempts, knocker);
                        let others: Vec<u32> =
                            after.iter().copied().filter(|&it| it != attempt.door).collect();
                        assert!(others.iter().all(|it| before.contains(it)), "the others keep their order");
                        assert!(others.is_sorted_by_key(|it| before.iter().position(|b| b == it)));
                    }
                }
                5 | 6 => {
                    if let Some(id) = some_id(&known) {
                        attempts.advance(id);
                        model.advance(id);
                    }
                }
                7 | 8 => {
                    if let Some(id) = some_id(&known) {
                        assert_eq!(attempts.remove(id), model.remove(id));
                    }
                }
                _ => loop {
                    let ended = attempts.expire(uptime);
                    let expected = model.expire(uptime);
                    assert_eq!(ended, expected);
                    if ended.is_none() {
                        break;
                    }
                },
            }
            assert_eq!((attempts.len(), attempts.is_empty()), (model.list.len(), model.list.is_empty()));
            assert_eq!(attempts.next_deadline(), model.next_deadline());
            for knocker in &knockers {
                let mut doors = of(&attempts, *knocker);
                doors.sort_unstable();
                assert_eq!(doors, model.of(*knocker));
            }
            for id in &known {
                let expected = model.position(*id).map(|at| &model.list[at].attempt);
                assert_eq!(attempts.get(*id), expected);
            }
        }
    }
}

/// A slot is reused; the id of its former attempt finds nothing.
fn ids_of_ended_attempts_find_nothing() {
    let mut attempts = Attempts::new(1);
    let old = attempts.begin(attempt(1, 1), seconds(5), None).unwrap();
    assert_eq!(attempts.remove(old), Some(attempt(1, 1)));
    let new = attempts.begin(attempt(2, 1), seconds(9), Some(old)).unwrap();
    attempts.advance(old);
    assert_eq!(attempts.remove(old), None);
    assert_eq!((attempts.get(old), attempts.next_of(old)), (None, None));
    assert_eq!(attempts.get(new), Some(&attempt(2, 1)));
    assert_eq!((attempts.expire(seconds(8)), attempts.next_deadline()), (None, Some(seconds(9))));
}

/// Whatever stages strangers fill, the others keep what they have, up to their share.
fn the_fullest_stage_is_evicted() {
    let mut attempts = Attempts::new(6);
    let ids: Vec<AttemptId> =
        (0..6).map(|who| attempts.begin(attempt(who, 1), seconds(9), None).unwrap()).collect();
    // Two of them are at stage 1, one at stage 2, three at stage 3.
    for (id, times) in ids.iter().zip([0, 0, 1, 2, 2, 2]) {
        (0..times).for_each(|_| attempts.advance(*id));
    }
    let left = |attempts: &Attempts| ids.iter().map(|id| attempts.get(*id).is_some()).collect::<Vec<_>>();
    // Most are at stage 3.
    attempts.begin(attempt(10, 1), seconds(9), None).unwrap();
    assert_eq!(left(&attempts), [true, true, true, false, true, true]);
    // Then most are at stage 1, and a beginner replaces another beginner.
    for who in 11..100 {
        attempts.begin(attempt(who, 1), seconds(9), None).unwrap();
        assert_eq!(attempts.len(), 6);
        assert_eq!(left(&attempts)[2..], [true, false, true, true]);
    }
    assert_eq!(left(&attempts), [false, false, true, false, true, true]);
}

/// One /24, or /64, does not get the whole table, however many addresses it has.
fn a_network_has_a_share_of_the_table() {
    for (capacity, share) in [(MAX_ATTEMPTS, 4096), (5000, 312), (1000, 256)] {
        let mut attempts = Attempts::new(capacity);
        let v4 = attempts.begin(attempt(7 << 24, 1), seconds(9), None).unwrap();
        let others = 20_000_u32;
        for who in 0..others {
            let knocker = IpAddr::from((0xfd77 << 112_u32 | u128::from(who)).to_be_bytes());
            let attempt = Attempt { knocker, reached: 1, door: 0, turn: Turn::default() };
            let id = attempts.begin(attempt, seconds(9), None).unwrap();
            if who % 2 == 0 {
                attempts.advance(id);
            }
        }
        assert_eq!(attempts.len(), 1 + share, "of {capacity}");
        assert!(attempts.get(v4).is_some());
        // Of its own attempts, the latest are left; another /64 has its own share.
        for (host, is_left) in [(others - 1, true), (others - 300, share > 300), (0, false)] {
            let knocker = IpAddr::from((0xfd77 << 112_u32 | u128::from(host)).to_be_bytes());
            assert_eq!(attempts.first_of(knocker).is_some(), is_left, "{host} of {capacity}");
        }
        let knocker = IpAddr::from((0xfd77_u128 << 112 | 1 << 64).to_be_bytes());
        let attempt = Attempt { knocker, reached: 1, door: 0, turn: Turn::default() };
        attempts.begin(attempt, seconds(9), None).unwrap();
        assert_eq!(attempts.len(), 2 + share);
    }
    // Those of one address at many doors count as well, and whatever is evicted, the table stays whole.
    let mut attempts = Attempts::new(1000);
    let ids: Vec<_> = (0..700)
        .map(|door| attempts.begin(Attempt { door, ..attempt(1, 1) }, seconds(9), None).unwrap())
        .collect();
    assert_eq!((attempts.len(), of(&attempts, address(1)).len()), (256, 256));
    for id in ids {
        attempts.remove(id);
    }
    assert!(attempts.is_empty() && attempts.first_of(address(1)).is_none());
}

/// Twenty knockers, 200 ms between their knocks, among strangers who know the first two ports and forge their
/// addresses: a whole table at each of the two stages, and then so many packets a second.
fn genuine_knocks_get_through_floods_of_first_and_second_knocks() {
    for rate in [12_000_u32, 100_000] {
        let text = "[d]\nsequence = 1000,2000,3000\n";
        let mut file = |_: &Path| -> std::io::Result<Vec<u8>> { Ok(Vec::new()) };
        let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
        let doors = Config::parse(text.as_bytes(), reading).unwrap().doors;
        let server = address(0x0a4d_0001);
        let mut engine = Engine::new(doors, [server]);
        let mut events = Vec::new();
        let mut opened = 0;
        let mut observe = |engine: &mut Engine, who: u32, port, micros: u64| {
            let knock = Knock {
                source: address(who),
                source_port: 1,
                destination: server,
                protocol: Protocol::Tcp,
                port,
                flags: Some(Flags::SYN),
                udp_length: None,
                length: 40,
            };
            let uptime = Duration::from_micros(micros);
            engine.observe(&knock, Now { uptime, unix: uptime }, &mut events);
            opened += events.drain(..).filter(|it| matches!(it, Event::Opened { .. })).count();
        };
        let strangers = Random::new();
        let forged = || u32::try_from(strangers.below(0x00ff_ffff)).unwrap() + (20 << 24);
        for _ in 0..70_000 {
            let who = forged();
            observe(&mut engine, who, 1000, 0);
            observe(&mut engine, who, 2000, 0);
        }
        let every = 1_000_000 / u64::from(rate);
        // The first knocker begins at once, and each of the others 5 ms later.
        let mut due: Vec<(u64, u32, u16)> = (0..20_u32)
            .flat_map(|n| {
                [(0, 1000), (200_000, 2000), (400_000, 3000)]
                    .map(|(at, port)| (u64::from(n) * 5_000 + at, (10 << 24) + n * 256, port))
            })
            .collect();
        due.sort_unstable_by(|a, b| b.cmp(a));
        let mut seconds = Vec::new();
        for packet in 0.. {
            let now = packet * every;
            while let Some(&(at, who, port)) = due.last().filter(|it| it.0 <= now) {
                due.pop();
                observe(&mut engine, who, port, at);
            }
            if due.is_empty() {
                break;
            }
            // Half of them only begin, so that both stages are always full.
            if packet % 3 == 2 {
                observe(&mut engine, seconds.pop().unwrap_or_default(), 2000, now);
            } else {
                let who = forged();
                observe(&mut engine, who, 1000, now);
                seconds = vec![who];
            }
        }
        assert_eq!(opened, 20, "at {rate} packets a second");
    }
}

fn the_oldest_of_equals_is_evicted() {
    let mut attempts = Attempts::new(4);
    let ids: Vec<AttemptId> =
        (0..4).map(|who| attempts.begin(attempt(who, 1), seconds(9), None).unwrap()).collect();
    for gone in 1..=4 {
        attempts.begin(attempt(10 + gone, 1), seconds(9), None).unwrap();
        let left: Vec<bool> = ids.iter().map(|id| attempts.get(*id).is_some()).collect();
        assert_eq!(left, (0..4).map(|at| at >= gone).collect::<Vec<_>>());
    }
}

fn a_million_sources_are_bounded() {
    let mut attempts = Attempts::new(MAX_ATTEMPTS);
    let faithful = attempts.begin(attempt(u32::MAX, 1), seconds(3_000_000), None).unwrap();
    attempts.advance(faithful);
    for who in 0..1_000_000_u32 {
        attempts.begin(attempt(who, 1), seconds(25 + u64::from(who)), None).unwrap();
        assert!(who % 64 > 0 || attempts.len() <= MAX_ATTEMPTS);
    }
    assert_eq!(attempts.len(), MAX_ATTEMPTS);
    assert_eq!(attempts.get(faithful), Some(&attempt(u32::MAX, 2)));
    let each = attempts.bytes() / MAX_ATTEMPTS;
    assert!((32..=128).contains(&each), "{each} bytes an attempt");
    // Only the latest are left.
    assert!(attempts.first_of(address(999_999)).is_some() && attempts.first_of(address(0)).is_none());
    // All of them expire, in order.
    let mut last = 0;
    while let Some(ended) = attempts.expire(seconds(2_000_000)) {
        let IpAddr::V4(who) = ended.knocker else { panic!("{ended:?}") };
        assert!(who.to_bits() > last || last == 0);
        last = who.to_bits();
    }
    assert_eq!((attempts.len(), attempts.next_deadline()), (1, Some(seconds(3_000_000))));
}

/// Attempts that end long before their deadline leave nothing behind that grows.
fn ended_attempts_leave_no_memory_behind() {
    let mut attempts = Attempts::new(MAX_ATTEMPTS);
    for who in 0..30_000 {
        let id = attempts.begin(attempt(who, 1), seconds(1_000_000 - u64::from(who)), None).unwrap();
        assert!(attempts.remove(id).is_some());
    }
    assert!(attempts.is_empty());
    assert_eq!(attempts.next_deadline(), None);
    assert!(attempts.bytes() < 20_000, "{} bytes for nobody", attempts.bytes());
    // A flood whose later attempts expire earlier, so that the stale deadlines of evicted attempts never get on top;
    // the table works as before afterwards.
    for _ in 0..2 {
        for who in 0..150_000 {
            attempts.begin(attempt(who, 1), seconds(u64::from(900_000 - who)), None).unwrap();
        }
        let ids: Vec<AttemptId> = (0..150_000).filter_map(|who| attempts.first_of(address(who))).collect();
        assert_eq!(ids.len(), MAX_ATTEMPTS);
        assert!(ids.into_iter().all(|id| attempts.remove(id).is_some()));
        assert!(attempts.is_empty());
    }
    let each = attempts.bytes() / MAX_ATTEMPTS;
    assert!(each <= 128, "{each} bytes an attempt");
}

/// The memory of a table of each size in the worst case: full, and with many stale entries.
fn the_manual_states_the_memory_of_a_full_table() {
    // The capacity, and the bytes that an attempt takes according to the manual.
    for (capacity, says) in [
        (1_000, 170),
        (33_000, 170),
        (40_000, 170),
        (MAX_ATTEMPTS - 1, 140),
        (MAX_ATTEMPTS, 140),
        (MAX_ATTEMPTS + 1, 170),
        (100_000, 170),
    ] {
        let mut attempts = Attempts::new(capacity);
        let count = u32::try_from(3 * capacity).unwrap();
        for who in 0..count {
            // Each from another network.
            attempts.begin(attempt(who << 8, 1), seconds(u64::from(count - who)), None).unwrap();
        }
        assert_eq!(attempts.len(), capacity);
        let each = attempts.bytes() / capacity;
        assert!(each <= says, "{each} bytes for each of {capacity} attempts");
    }
    let page = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("man/knockd.1"));
    let mut cooldowns = ExpiringMap::new(MAX_ATTEMPTS / 8);
    let mut repeats = ExpiringMap::new(MAX_ATTEMPTS / 8);
    for who in 0..100_000 {
        let until = seconds(u64::from(200_000 - who));
        cooldowns.set(0, address(who), (), until, seconds(1));
        repeats.set(0, address(who), vec![until; 1 + usize::try_from(who % 255).unwrap()], until, seconds(1));
    }
    let bytes = cooldowns.bytes() + repeats.bytes();
    assert!(bytes <= 5_000_000, "{bytes} bytes for cooldowns and repeats");
    let all = [
        "140 bytes an attempt, 9.2 MB with the default",
        "170 bytes with other numbers",
        "5 MB for both with the default",
    ];
    for words in all {
        assert!(page.replace('\n', " ").contains(words), "{words}");
    }
}

fn the_expiring_map_is_bounded_too() {
    for later in [false, true] {
        let mut map = ExpiringMap::new(100);
        for who in 0..10_000_u32 {
            // The same keys over and over, and others that expire before or after them.
            let until = seconds(if later { 1_000 + u64::from(who) } else { 100_000 - u64::from(who) });
            map.set(who % 3, address(who % 7), (), until, seconds(1));
            map.set(0, address(1_000 + who), (), until, seconds(1));
            assert!(map.iter().count() <= 100);
        }
        assert_eq!(map.get(0, address(10_999), seconds(1)).is_some(), later);
    }
    // So is the memory of the values.
    let mut map = ExpiringMap::new(100);
    for who in 0..1000_u32 {
        map.set(0, address(who), vec![seconds(1); 30], seconds(1_000 + u64::from(who)), seconds(1));
        assert!(map.iter().map(|it| it.2.capacity()).sum::<usize>() <= 100);
    }
    assert_eq!(map.iter().count(), 3);
}

fn attempt(who: u32, reached: u8) -> Attempt {
    Attempt { knocker: address(who), reached, door: 0, turn: Turn::default() }
}

fn address(who: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(who))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
