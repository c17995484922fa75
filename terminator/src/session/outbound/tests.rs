use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const MOST_BYTES: usize = 100;

fn outbound() -> Outbound<u32> {
    Outbound::new(MOST_BYTES)
}

/// What becomes of `item`, of one byte, that comes for the first time.
fn fresh(outbound: &mut Outbound<u32>, guard: Guard, item: u32) -> WriteDecision {
    let way = outbound.route(guard, false, 1, true, Instant::now());
    if way == WriteDecision::Behind {
        outbound.keep(item, 1);
    }
    way
}

#[test]
fn as_long_as_nothing_is_given_back_nothing_is_kept_behind() {
    let mut outbound = outbound();
    assert_eq!(fresh(&mut outbound, Guard::Write, 1), WriteDecision::Write);
    assert!(outbound.is_free() && !outbound.fetch(Instant::now()));
}

#[test]
fn what_comes_after_something_given_back_is_written_after_it() {
    let now = Instant::now();
    let mut outbound = outbound();
    assert_eq!(
        fresh(&mut outbound, Guard::Expired, 1),
        WriteDecision::Back(Bounced::Expired)
    );
    assert_eq!(
        fresh(&mut outbound, Guard::Expired, 2),
        WriteDecision::Back(Bounced::Expired)
    );
    assert!(outbound.fetch(now) && !outbound.fetch(now));
    assert_eq!(fresh(&mut outbound, Guard::Write, 3), WriteDecision::Behind);
    assert_eq!(
        outbound.route(Guard::Write, true, 1, true, now),
        WriteDecision::Write,
        "1 comes back"
    );
    assert_eq!(outbound.waiting(), 3);
    let fetched = outbound.fetched(0, true, now);
    assert_eq!((fetched.write, fetched.again), (VecDeque::from([3]), false));
    assert!(outbound.is_free());
}

#[test]
fn an_answer_waits_for_an_answer_before_it_and_for_nothing_else_that_is_held() {
    let now = Instant::now();
    let mut outbound = outbound();
    assert!(outbound.lets_answers_pass(Guard::Write));
    outbound.wake(2_000);
    assert!(outbound.fetch(now));
    assert_eq!(fresh(&mut outbound, Guard::Write, 1), WriteDecision::Behind, "a push");
    assert!(outbound.lets_answers_pass(Guard::Write) && !outbound.lets_answers_pass(Guard::Expired));
    assert_eq!(
        fresh(&mut outbound, Guard::Expired, 2),
        WriteDecision::Behind,
        "an answer"
    );
    outbound.owe_answer();
    assert!(!outbound.lets_answers_pass(Guard::Write));
    assert_eq!(outbound.fetched(0, true, now).write, VecDeque::from([1, 2]));
    assert!(outbound.lets_answers_pass(Guard::Write));
}

#[test]
fn an_expiry_while_it_fetches_keeps_the_order_too() {
    let now = Instant::now();
    let mut outbound = outbound();
    outbound.wake(2);
    assert!(outbound.fetch(now));
    assert_eq!(fresh(&mut outbound, Guard::Write, 3), WriteDecision::Behind);
    assert_eq!(
        outbound.route(Guard::Expired, true, 1, true, now),
        WriteDecision::Back(Bounced::Expired)
    );
    assert_eq!(
        fresh(&mut outbound, Guard::Expired, 4),
        WriteDecision::Behind,
        "else it would be given back before 3"
    );
    let fetched = outbound.fetched(0, false, now);
    assert_eq!(fetched.back, VecDeque::from([3, 4]));
    assert!(!outbound.is_free());
}

#[test]
fn an_expiry_that_is_over_before_the_fetch_is_makes_it_fetch_what_came_and_was_given_back() {
    let now = Instant::now();
    let mut outbound = outbound();
    outbound.wake(1);
    outbound.fetch(now);
    assert_eq!(fresh(&mut outbound, Guard::Write, 2), WriteDecision::Behind);
    outbound.route(Guard::Expired, true, 1, true, now);
    let fetched = outbound.fetched(0, true, now);
    assert_eq!((fetched.write.len(), fetched.again), (0, true));
    let fetched = outbound.fetched(0, true, now);
    assert_eq!((fetched.write, fetched.again), (VecDeque::from([2]), false));
}

#[test]
fn what_is_left_in_the_hold_goes_before_what_is_kept_behind() {
    let now = Instant::now();
    let mut outbound = outbound();
    outbound.wake(300);
    outbound.fetch(now);
    fresh(&mut outbound, Guard::Write, 301);
    assert!(outbound.fetched(44, true, now).again);
    assert_eq!(outbound.fetched(0, true, now).write, VecDeque::from([301]));
}

#[test]
fn what_there_is_no_room_for_behind_is_given_back_and_so_is_all_that_follows() {
    let now = Instant::now();
    let mut outbound = outbound();
    outbound.wake(1);
    outbound.fetch(now);
    assert_eq!(
        outbound.route(Guard::Write, false, MOST_BYTES, true, now),
        WriteDecision::Behind
    );
    outbound.keep(1, MOST_BYTES);
    assert_eq!(
        fresh(&mut outbound, Guard::Write, 2),
        WriteDecision::Back(Bounced::Expired)
    );
    let fetched = outbound.fetched(0, true, now);
    assert_eq!((fetched.write, fetched.again), (VecDeque::from([1]), true));
    assert_eq!(fresh(&mut outbound, Guard::Write, 3), WriteDecision::Behind);
}

#[test]
fn something_held_meanwhile_is_fetched_too() {
    let now = Instant::now();
    let mut outbound = outbound();
    outbound.wake(0);
    outbound.fetch(now);
    outbound.wake(0);
    assert!(outbound.fetched(0, true, now).again);
    assert!(!outbound.fetched(0, true, now).again);
    assert!(outbound.is_free());
}

#[test]
fn a_fetch_that_was_lost_is_asked_for_again_or_given_up() {
    let now = Instant::now();
    let late = now + FETCH_TIMEOUT;
    let mut outbound = outbound();
    outbound.wake(1);
    outbound.fetch(now);
    fresh(&mut outbound, Guard::Write, 2);
    assert_eq!(outbound.check(true, now), Fetched::default());
    let checked = outbound.check(true, late);
    assert_eq!((checked.back, checked.again), (VecDeque::from([2]), true));
    fresh(&mut outbound, Guard::Write, 3);
    assert_eq!(outbound.check(false, late), Fetched::default());
    let checked = outbound.check(false, late + FETCH_TIMEOUT);
    assert_eq!((checked.back, checked.again), (VecDeque::from([3]), false));
    assert!(!outbound.is_free() && outbound.fetch(late));
}

#[test]
fn a_log_out_gives_back_what_was_kept_behind() {
    let now = Instant::now();
    let mut outbound = outbound();
    outbound.wake(1);
    outbound.fetch(now);
    fresh(&mut outbound, Guard::Write, 2);
    assert_eq!(outbound.forget(), VecDeque::from([2]));
    assert_eq!(
        fresh(&mut outbound, Guard::Stranger, 3),
        WriteDecision::Back(Bounced::Gone)
    );
    assert_eq!(outbound.fetched(0, false, now), Fetched::default());
}

/// A world of one connection, its workers' hold, and the queues between them, which keep their order.
struct World {
    outbound: Outbound<u32>,
    now: Instant,
    live: bool,
    next: u32,
    /// To the connection: an item and whether it comes out of the hold, or the end of a fetch.
    returns: VecDeque<Returned>,
    /// From the connection: an item given back, or a fetch.
    undelivered: VecDeque<Option<u32>>,
    hold: VecDeque<u32>,
    /// The most that a worker sends for one fetch.
    at_a_time: usize,
    written: Vec<u32>,
}

enum Returned {
    Item(u32, bool),
    Fetched(u64),
}

impl World {
    fn new(most_behind: usize, at_a_time: usize) -> Self {
        Self {
            outbound: Outbound::new(most_behind),
            at_a_time,
            now: Instant::now(),
            live: true,
            next: 0,
            returns: VecDeque::new(),
            undelivered: VecDeque::new(),
            hold: VecDeque::new(),
            written: Vec::new(),
        }
    }

    fn is_idle(&self) -> bool {
        self.outbound.is_free() && self.returns.is_empty() && self.undelivered.is_empty()
    }

    fn push(&mut self) {
        self.returns.push_back(Returned::Item(self.next, false));
        self.next += 1;
    }

    /// The connection takes one thing out of its queue.
    fn connection(&mut self) {
        self.begin_fetch();
        match self.returns.pop_front() {
            Some(Returned::Item(item, ahead)) => self.item(item, ahead),
            Some(Returned::Fetched(left)) => {
                let fetched = self.outbound.fetched(left, self.live, self.now);
                self.undelivered.extend(fetched.back.into_iter().map(Some));
                if fetched.again {
                    self.undelivered.push_back(None);
                }
                for item in fetched.write {
                    self.item(item, true);
                }
            }
            None => {}
        }
        self.begin_fetch();
    }

    fn item(&mut self, item: u32, ahead: bool) {
        let guard = if self.live { Guard::Write } else { Guard::Expired };
        match self.outbound.route(guard, ahead, 1, true, self.now) {
            WriteDecision::Write => self.written.push(item),
            WriteDecision::Back(_) => self.undelivered.push_back(Some(item)),
            WriteDecision::Behind => self.outbound.keep(item, 1),
        }
    }

    fn begin_fetch(&mut self) {
        if self.live && self.outbound.fetch(self.now) {
            self.undelivered.push_back(None);
        }
    }

    /// A worker takes one thing out of its queue.
    fn worker(&mut self) {
        match self.undelivered.pop_front() {
            Some(Some(item)) => self.hold.push_back(item),
            Some(None) => {
                let sent = self.hold.len().min(self.at_a_time);
                let released = self.hold.drain(..sent).map(|item| Returned::Item(item, true));
                self.returns.extend(released);
                self.returns.push_back(Returned::Fetched(self.hold.len() as u64));
            }
            None => {}
        }
    }
}

fn run(mut world: World, steps: Vec<u8>) -> World {
    for step in steps {
        match step {
            0 => world.push(),
            1 | 2 => world.connection(),
            3 => world.worker(),
            _ => world.live = !world.live,
        }
    }
    world.live = true;
    let mut steps_left = 10_000;
    while !world.is_idle() && steps_left > 0 {
        world.connection();
        world.worker();
        steps_left -= 1;
    }
    world
}

proptest! {
    /// Whatever happens in whatever order: in the end all is written, once, and nothing is stuck.
    #[test]
    fn nothing_is_lost_stuck_or_written_twice(steps in proptest::collection::vec(0_u8..5, 0..300)) {
        let world = run(World::new(5, 3), steps);
        prop_assert!(world.outbound.is_free());
        let distinct: BTreeSet<_> = world.written.iter().copied().collect();
        prop_assert_eq!(distinct.len(), world.written.len());
        prop_assert_eq!(world.written.len(), world.next as usize);
    }

    /// And as long as there is room behind, and one fetch brings all that is held, it is in the order in which it came.
    #[test]
    fn order_is_kept(steps in proptest::collection::vec(0_u8..5, 0..300)) {
        let world = run(World::new(1_000_000, 1_000_000), steps);
        prop_assert!(world.written.is_sorted(), "{:?}", world.written);
    }
}
