//! The table of attempts in progress, compared with a simple model, and its bounds.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use knocking::config::{Config, Reading};
use knocking::door::knock::{Flags, Knock, Protocol};
use knocking::door::lock::Turn;
use knocking::engine::Engine;
use knocking::engine::MAX_ATTEMPTS;
use knocking::engine::attempts::{AttemptId, Attempts, Candidate};
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
    an_attempt_at_a_thousand_doors_is_one,
    sets_of_doors_are_bounded,
    genuine_knocks_get_through_floods_of_first_and_second_knocks,
    doors_that_begin_with_the_same_knock_are_kept_shut_by_no_flood,
    steps_above_the_limit_are_counted_only,
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

struct Entry {
    id: AttemptId,
    knocker: IpAddr,
    candidates: Vec<Candidate>,
    deadline: Duration,
    /// When it reached its present stage.
    since: u64,
}

impl Entry {
    fn reached(&self) -> u8 {
        self.candidates.iter().map(|it| it.reached).max().unwrap()
    }
}

impl Model {
    fn position(&self, id: AttemptId) -> Option<usize> {
        self.list.iter().position(|entry| entry.id == id)
    }

    fn make_room(&mut self) {
        if self.list.len() == self.capacity {
            let count = |reached| self.list.iter().filter(|it| it.reached() == reached).count();
            let fullest = (1..=u8::MAX).rev().max_by_key(|&reached| count(reached)).unwrap();
            let of_it = (0..self.list.len()).filter(|&at| self.list[at].reached() == fullest);
            let oldest = of_it.min_by_key(|&at| self.list[at].since);
            self.list.remove(oldest.unwrap());
        }
    }

    fn keep(&mut self, id: AttemptId, left: &[Candidate], deadline: Duration) {
        self.time += 1;
        let Some(at) = self.position(id) else { return };
        if left.is_empty() {
            self.list.remove(at);
            return;
        }
        let entry = &mut self.list[at];
        let before = entry.reached();
        (entry.candidates, entry.deadline) = (left.to_vec(), deadline);
        if entry.reached() != before {
            entry.since = self.time;
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.list.iter().map(|entry| entry.deadline).min()
    }

    /// The first that is due.
    fn due(&self, uptime: Duration) -> Option<(AttemptId, Duration)> {
        let first = self.list.iter().min_by_key(|entry| entry.deadline)?;
        (first.deadline <= uptime).then_some((first.id, first.deadline))
    }

    /// The attempts of a knocker, the latest first.
    fn of(&self, knocker: IpAddr) -> Vec<AttemptId> {
        self.list.iter().rev().filter(|entry| entry.knocker == knocker).map(|entry| entry.id).collect()
    }
}

fn of(attempts: &Attempts, knocker: IpAddr) -> Vec<AttemptId> {
    let first = attempts.first_of(knocker);
    let ids = std::iter::successors(first, |&id| attempts.next_of(id));
    ids.inspect(|&id| assert_eq!(attempts.knocker(id), Some(knocker))).collect()
}

/// How long each door waits.
fn shortest_timeout_of(candidates: &[Candidate]) -> Duration {
    candidates.iter().map(|it| Duration::from_millis(u64::from(it.door) * 10)).min().unwrap_or_default()
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
        let mut known: Vec<AttemptId> = Vec::new();
        for step in 0..400_u32 {
            let uptime = Duration::from_millis(u64::from(step));
            let some_id = || (!known.is_empty()).then(|| *random.pick(&known));
            match random.below(10) {
                0..=4 => {
                    let knocker = *random.pick(&knockers);
                    let doors = 1 + u32::try_from(random.below(3)).unwrap();
                    let first = 1 + u32::try_from(random.below(4)).unwrap();
                    let candidates: Vec<Candidate> = (first..first + doors)
                        .map(|door| Candidate { door, reached: 1, turn: Turn(door.into()) })
                        .collect();
                    model.make_room();
                    let shortest_timeout = shortest_timeout_of(&candidates);
                    let id = attempts
                        .begin(knocker, &candidates, shortest_timeout, uptime)
                        .expect("a new attempt");
                    model.time += 1;
                    let (deadline, since) = (uptime + shortest_timeout, model.time);
                    model.list.push(Entry { id, knocker, candidates, deadline, since });
                    known.push(id);
                }
                5..=7 => {
                    // As the engine does: at some doors it goes on, at some it ends.
                    let Some(id) = some_id() else { continue };
                    let mut left = attempts.candidates(id).to_vec();
                    left.retain_mut(|candidate| {
                        candidate.reached += u8::from(random.once_in(2));
                        !random.once_in(4)
                    });
                    let deadline = attempts.began(id).map(|began| began + shortest_timeout_of(&left));
                    attempts.keep(id, &left, shortest_timeout_of(&left));
                    model.keep(id, &left, deadline.unwrap_or_default());
                }
                8 => {
                    if let Some(id) = some_id() {
                        attempts.remove(id);
                        model.keep(id, &[], Duration::ZERO);
                    }
                }
                _ => loop {
                    let due = attempts.due(uptime);
                    assert_eq!(due, model.due(uptime));
                    let Some((id, deadline)) = due else { break };
                    let began = attempts.began(id).unwrap();
                    let mut left = attempts.candidates(id).to_vec();
                    left.retain(|it| began + shortest_timeout_of(&[*it]) > deadline);
                    attempts.keep(id, &left, shortest_timeout_of(&left));
                    model.keep(id, &left, began + shortest_timeout_of(&left));
                },
            }
            assert_eq!((attempts.len(), attempts.is_empty()), (model.list.len(), model.list.is_empty()));
            assert_eq!(attempts.next_deadline(), model.next_deadline());
            for knocker in &knockers {
                assert_eq!(of(&attempts, *knocker), model.of(*knocker));
            }
            for id in &known {
                let expected = model.position(*id).map(|at| &*model.list[at].candidates);
                assert_eq!(attempts.candidates(*id), expected.unwrap_or_default());
            }
        }
    }
}

/// A slot is reused; the id of its former attempt finds nothing.
fn ids_of_ended_attempts_find_nothing() {
    let mut attempts = Attempts::new(1);
    let old = begin(&mut attempts, 1, 5);
    assert_eq!(attempts.knocker(old), Some(address(1)));
    attempts.remove(old);
    let new = begin(&mut attempts, 2, 9);
    attempts.keep(old, &at_stage(2), PATIENCE);
    attempts.remove(old);
    assert_eq!((attempts.knocker(old), attempts.began(old), attempts.next_of(old)), (None, None, None));
    assert!(attempts.candidates(old).is_empty());
    assert_eq!((attempts.knocker(new), attempts.candidates(new)), (Some(address(2)), &at_stage(1)[..]));
    assert_eq!((attempts.due(seconds(8)), attempts.next_deadline()), (None, Some(seconds(9))));
}

/// Whatever stages strangers fill, the others keep what they have, up to their share.
fn the_fullest_stage_is_evicted() {
    let mut attempts = Attempts::new(6);
    let ids: Vec<AttemptId> = (0..6).map(|who| begin(&mut attempts, who, 9)).collect();
    // Two of them are at stage 1, one at stage 2, three at stage 3.
    for (id, stage) in ids.iter().zip([1, 1, 2, 3, 3, 3]) {
        (2..=stage).for_each(|stage| attempts.keep(*id, &at_stage(stage), PATIENCE));
    }
    let left = |attempts: &Attempts| ids.iter().map(|id| is_left(attempts, *id)).collect::<Vec<_>>();
    // Most are at stage 3.
    begin(&mut attempts, 10, 9);
    assert_eq!(left(&attempts), [true, true, true, false, true, true]);
    // Then most are at stage 1, and a beginner replaces another beginner.
    for who in 11..100 {
        begin(&mut attempts, who, 9);
        assert_eq!(attempts.len(), 6);
        assert_eq!(left(&attempts)[2..], [true, false, true, true]);
    }
    assert_eq!(left(&attempts), [false, false, true, false, true, true]);
}

/// One /24, or /64, does not get the whole table, however many addresses it has.
fn a_network_has_a_share_of_the_table() {
    for (capacity, share) in [(MAX_ATTEMPTS, 4096), (5000, 312), (1000, 256)] {
        let mut attempts = Attempts::new(capacity);
        let v4 = begin(&mut attempts, 7 << 24, 9);
        let others = 20_000_u32;
        let knocker = |who: u32| IpAddr::from((0xfd77 << 112_u32 | u128::from(who)).to_be_bytes());
        for who in 0..others {
            let id = attempts.begin(knocker(who), &at_stage(1), PATIENCE, seconds(8)).unwrap();
            if who % 2 == 0 {
                attempts.keep(id, &at_stage(2), PATIENCE);
            }
        }
        assert_eq!(attempts.len(), 1 + share, "of {capacity}");
        assert!(is_left(&attempts, v4));
        // Of its own attempts, the latest are left; another /64 has its own share.
        for (host, is_left) in [(others - 1, true), (others - 300, share > 300), (0, false)] {
            assert_eq!(attempts.first_of(knocker(host)).is_some(), is_left, "{host} of {capacity}");
        }
        let knocker = IpAddr::from((0xfd77_u128 << 112 | 1 << 64).to_be_bytes());
        attempts.begin(knocker, &at_stage(1), PATIENCE, seconds(8)).unwrap();
        assert_eq!(attempts.len(), 2 + share);
    }
    // Several attempts of one address count as well, and whatever is evicted, the table stays whole.
    let mut attempts = Attempts::new(1000);
    let ids: Vec<_> = (0..700).map(|_| begin(&mut attempts, 1, 9)).collect();
    assert_eq!((attempts.len(), of(&attempts, address(1)).len()), (256, 256));
    for id in ids {
        attempts.remove(id);
    }
    assert!(attempts.is_empty() && attempts.first_of(address(1)).is_none());
}

/// A thousand doors that begin with the same knock: an address has one attempt, which takes no more memory than one at a
/// single door, and no more than that of others gives way to it.
fn an_attempt_at_a_thousand_doors_is_one() {
    const CAPACITY: u32 = 4000;
    let candidates =
        |reached| (0..1000).map(|door| Candidate { door, reached, turn: Turn(0) }).collect::<Vec<_>>();
    let capacity = usize::try_from(CAPACITY).unwrap();
    let mut attempts = Attempts::new(capacity);
    let first = attempts.begin(address(u32::MAX), &candidates(1), seconds(9), seconds(0)).unwrap();
    for who in 1..CAPACITY {
        let id = attempts.begin(address(who << 8), &candidates(1), seconds(9), seconds(0)).unwrap();
        if who % 2 == 0 {
            attempts.keep(id, &candidates(2), seconds(9));
        }
    }
    assert_eq!(attempts.len(), capacity);
    assert!(is_left(&attempts, first));
    assert_eq!(attempts.take_evicted().count(), 0);
    let each = attempts.bytes() / capacity;
    assert!(each <= 150, "{each} bytes an attempt");
    begin(&mut attempts, 1, 9);
    assert_eq!(attempts.take_evicted().collect::<Vec<_>>(), (0..1000).collect::<Vec<_>>());
    assert_eq!(attempts.len(), capacity);
}

/// Attempts that are each at many other doors, if ever there are, take bounded memory.
fn sets_of_doors_are_bounded() {
    let mut attempts = Attempts::new(MAX_ATTEMPTS);
    for who in 0..500_u32 {
        let doors: Vec<Candidate> =
            (0..1000).map(|door| Candidate { door: who + door, reached: 1, turn: Turn(0) }).collect();
        attempts.begin(address(who << 8), &doors, seconds(9), seconds(0)).unwrap();
    }
    assert!((20..=40).contains(&attempts.len()), "{}", attempts.len());
    assert!(attempts.bytes() < 800_000, "{}", attempts.bytes());
    // A set that is larger than that is still possible, one at a time.
    let doors: Vec<Candidate> =
        (0..100_000).map(|door| Candidate { door, reached: 1, turn: Turn(0) }).collect();
    let id = attempts.begin(address(1), &doors, seconds(9), seconds(0)).unwrap();
    assert_eq!((attempts.len(), attempts.candidates(id).len()), (1, 100_000));
    attempts.keep(id, &[], seconds(9));
    assert!(attempts.is_empty() && attempts.next_deadline().is_none());
}

/// An engine, and what it opened.
struct Scene {
    engine: Engine,
    events: Vec<Event>,
    opened: Vec<String>,
}

impl Scene {
    fn new(text: &str) -> Scene {
        let mut file = |_: &Path| -> std::io::Result<Vec<u8>> { Ok(Vec::new()) };
        let reading = Reading { file: &mut file, note: &mut |_| {}, interface_is_given: false };
        let doors = Config::parse(text.as_bytes(), reading).unwrap().doors;
        Scene { engine: Engine::new(doors, [SERVER]), events: Vec::new(), opened: Vec::new() }
    }

    /// A SYN from this address, at this time in microseconds.
    fn knock(&mut self, who: u32, port: u16, micros: u64) {
        self.engine.observe(&syn(who, port), at(micros), &mut self.events);
        for event in self.events.drain(..) {
            if let Event::Opened { door, .. } = event {
                self.opened.push(door.to_string());
            }
        }
    }
}

fn syn(who: u32, port: u16) -> Knock {
    Knock {
        source: address(who),
        source_port: 1,
        destination: SERVER,
        protocol: Protocol::Tcp,
        port,
        flags: Some(Flags::SYN),
        udp_length: None,
        length: 40,
    }
}

fn at(micros: u64) -> Now {
    let uptime = Duration::from_micros(micros);
    Now { uptime, unix: uptime }
}

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// Twenty knockers, 200 ms between their knocks, among strangers who know the first two ports and forge their
/// addresses: a whole table at each of the two stages, and then so many packets a second.
fn genuine_knocks_get_through_floods_of_first_and_second_knocks() {
    for rate in [12_000_u32, 100_000] {
        let mut scene = Scene::new("[d]\nsequence = 1000,2000,3000\n");
        let strangers = Random::new();
        let forged = || u32::try_from(strangers.below(0x00ff_ffff)).unwrap() + (20 << 24);
        for _ in 0..70_000 {
            let who = forged();
            scene.knock(who, 1000, 0);
            scene.knock(who, 2000, 0);
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
                scene.knock(who, port, at);
            }
            if due.is_empty() {
                break;
            }
            // Half of them only begin, so that both stages are always full.
            if packet % 3 == 2 {
                scene.knock(seconds.pop().unwrap_or_default(), 2000, now);
            } else {
                let who = forged();
                scene.knock(who, 1000, now);
                seconds = vec![who];
            }
        }
        assert_eq!(scene.opened.len(), 20, "at {rate} packets a second");
    }
}

/// Of a thousand doors that begin with the same knock, each opens among first knocks of strangers.
fn doors_that_begin_with_the_same_knock_are_kept_shut_by_no_flood() {
    let door = |n: u32| format!("[d{n}]\nsequence = 1000,{},3000\n", 2000 + n);
    let mut scene = Scene::new(&(0..1000).map(door).collect::<String>());
    let mut strangers = 20 << 24;
    for n in [0_u16, 500, 999] {
        let knocker = (10 << 24) + u32::from(n) * 256;
        for port in [1000, 2000 + n, 3000] {
            scene.knock(knocker, port, 0);
            // 70 used to be enough.
            for _ in 0..500 {
                strangers += 256;
                scene.knock(strangers, 1000, 0);
            }
        }
    }
    assert_eq!(scene.opened, ["d0", "d500", "d999"]);
    // The knockers' own attempts are over, and those of the strangers are one each.
    assert_eq!(scene.engine.attempts(), 9 * 500);
    assert!(scene.engine.bytes() < 1_000_000, "{}", scene.engine.bytes());
}

/// Stages and expirations; an opening is always reported.
fn steps_above_the_limit_are_counted_only() {
    let door = |n: u32| format!("[d{n}]\nsequence = 1000,{}\nseq_timeout = 1\n", 2000 + n);
    let Scene { mut engine, mut events, .. } = Scene::new(&(0..10).map(door).collect::<String>());
    let steps = |events: &mut Vec<Event>| -> String {
        let step = |event| match event {
            Event::Advanced { stage: 1, .. } => 'a',
            Event::Expired { stage: 1, .. } => 'e',
            Event::Opened { .. } => 'o',
            _ => '?',
        };
        events.drain(..).map(step).collect()
    };
    engine.observe(&syn(1, 1000), at(0), &mut events);
    assert_eq!((steps(&mut events).as_str(), engine.take_suppressed_steps()), ("aaaaaaaaaa", 0));
    engine.limit_steps(Some(3));
    engine.observe(&syn(2, 1000), at(1), &mut events);
    assert_eq!((steps(&mut events).as_str(), engine.take_suppressed_steps()), ("aaa", 7));
    engine.limit_steps(Some(12));
    engine.expire(at(9_000_000), &mut events);
    assert_eq!((steps(&mut events).as_str(), engine.take_suppressed_steps()), ("eeeeeeeeeeee", 8));
    assert_eq!(engine.take_suppressed_steps(), 0);
    engine.limit_steps(Some(0));
    engine.observe(&syn(3, 1000), at(9_000_001), &mut events);
    engine.observe(&syn(3, 2007), at(9_000_002), &mut events);
    assert!(steps(&mut events).contains('o'), "the door does not open");
    engine.limit_steps(None);
    engine.observe(&syn(4, 1000), at(9_000_003), &mut events);
    assert_eq!(steps(&mut events), "aaaaaaaaaa");
}

fn the_oldest_of_equals_is_evicted() {
    let mut attempts = Attempts::new(4);
    let ids: Vec<AttemptId> = (0..4).map(|who| begin(&mut attempts, who, 9)).collect();
    for gone in 1..=4 {
        begin(&mut attempts, 10 + gone, 9);
        let left: Vec<bool> = ids.iter().map(|id| is_left(&attempts, *id)).collect();
        assert_eq!(left, (0..4).map(|at| at >= gone).collect::<Vec<_>>());
    }
}

fn a_million_sources_are_bounded() {
    let mut attempts = Attempts::new(MAX_ATTEMPTS);
    let faithful = begin(&mut attempts, u32::MAX, 3_000_000);
    attempts.keep(faithful, &at_stage(2), PATIENCE);
    for who in 0..1_000_000_u32 {
        begin(&mut attempts, who, 25 + u64::from(who));
        assert!(who % 64 > 0 || attempts.len() <= MAX_ATTEMPTS);
    }
    assert_eq!(attempts.len(), MAX_ATTEMPTS);
    assert_eq!(attempts.candidates(faithful), at_stage(2));
    let each = attempts.bytes() / MAX_ATTEMPTS;
    assert!((32..=128).contains(&each), "{each} bytes an attempt");
    // Only the latest are left.
    assert!(attempts.first_of(address(999_999)).is_some() && attempts.first_of(address(0)).is_none());
    // All of them expire, in order.
    let mut last = 0;
    while let Some((id, _)) = attempts.due(seconds(2_000_000)) {
        let Some(IpAddr::V4(who)) = attempts.knocker(id) else { panic!("{id:?}") };
        assert!(who.to_bits() > last || last == 0);
        last = who.to_bits();
        attempts.remove(id);
    }
    assert_eq!((attempts.len(), attempts.next_deadline()), (1, Some(seconds(3_000_000))));
}

/// Attempts that end long before their deadline leave nothing behind that grows.
fn ended_attempts_leave_no_memory_behind() {
    let mut attempts = Attempts::new(MAX_ATTEMPTS);
    for who in 0..30_000 {
        let id = begin(&mut attempts, who, 1_000_000 - u64::from(who));
        attempts.remove(id);
    }
    assert!(attempts.is_empty());
    assert_eq!(attempts.next_deadline(), None);
    assert!(attempts.bytes() < 20_000, "{} bytes for nobody", attempts.bytes());
    // A flood whose later attempts expire earlier, so that the outdated deadlines of evicted attempts never get on top;
    // the table works as before afterwards.
    for _ in 0..2 {
        for who in 0..150_000 {
            begin(&mut attempts, who, u64::from(900_000 - who));
        }
        let ids: Vec<AttemptId> = (0..150_000).filter_map(|who| attempts.first_of(address(who))).collect();
        assert_eq!(ids.len(), MAX_ATTEMPTS);
        for id in ids {
            attempts.remove(id);
        }
        assert!(attempts.is_empty());
    }
    let each = attempts.bytes() / MAX_ATTEMPTS;
    assert!(each <= 128, "{each} bytes an attempt");
}

/// The memory of a table of each size in the worst case: full, and with many entries that are out of date.
fn the_manual_states_the_memory_of_a_full_table() {
    // The capacity, and the bytes that an attempt takes according to the manual.
    for (capacity, says) in [
        (1_000, 170),
        (33_000, 170),
        (40_000, 170),
        (MAX_ATTEMPTS - 1, 150),
        (MAX_ATTEMPTS, 150),
        (MAX_ATTEMPTS + 1, 170),
        (100_000, 170),
    ] {
        let mut attempts = Attempts::new(capacity);
        let count = u32::try_from(3 * capacity).unwrap();
        // As many different sets of doors as there may be.
        let sets = u32::try_from(capacity / 2 / 5).unwrap().max(1);
        for who in 0..count {
            // Each from another network.
            let door = Candidate { door: who % sets, reached: 1, turn: Turn(0) };
            attempts.begin(address(who << 8), &[door], PATIENCE, seconds(u64::from(count - who))).unwrap();
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
        "150 bytes an attempt, 9.9 MB with the default",
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

/// How long the door of most tests waits.
const PATIENCE: Duration = Duration::from_secs(1);

/// An attempt at one door that expires at this time.
fn begin(attempts: &mut Attempts, who: u32, deadline: u64) -> AttemptId {
    let began = seconds(deadline).checked_sub(PATIENCE).unwrap();
    attempts.begin(address(who), &at_stage(1), PATIENCE, began).unwrap()
}

fn at_stage(reached: u8) -> [Candidate; 1] {
    [Candidate { door: 0, reached, turn: Turn::default() }]
}

fn is_left(attempts: &Attempts, id: AttemptId) -> bool {
    attempts.knocker(id).is_some()
}

fn address(who: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(who))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
