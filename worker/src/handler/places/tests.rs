use proptest::prelude::*;

use super::*;

fn shares(places: usize, type_percent: usize, identity_percent: usize, waiting: usize) -> Shares {
    Shares {
        places,
        type_percent,
        identity_percent,
        waiting,
    }
}

fn of(identity: u8, kind: &str) -> Claimant {
    Claimant {
        kind: kind.into(),
        identity: IdentityTag::of(&[identity; 32]),
        injected: false,
        may_move: true,
    }
}

fn injected(identity: u8, kind: &str) -> Claimant {
    Claimant {
        injected: true,
        ..of(identity, kind)
    }
}

/// All that have a place, in the order in which they got it.
fn called(core: &mut Core<u32>) -> Vec<u32> {
    std::iter::from_fn(|| core.next()).map(|(name, ..)| name).collect()
}

#[test]
fn a_type_never_takes_all_and_something_is_left_for_yet_another() {
    let mut core = Core::new(shares(256, 75, 100, 1_000));
    let now = Instant::now();
    let mut got = Vec::new();
    for kind in ["a", "b", "c", "d"] {
        for name in 0..300 {
            core.join(of((name % 200) as u8, kind), name, now);
        }
        got.push(called(&mut core).len());
    }
    assert_eq!(got, [192, 48, 12, 3]);
}

#[test]
fn a_place_is_taken_at_once_only_by_whom_it_would_be_given_to_in_the_line() {
    let now = Instant::now();
    let mut core = Core::new(shares(4, 100, 50, 1_000));
    // Two of four are what one identity may have.
    assert!(core.take_at_once(&of(1, "a")) && core.take_at_once(&of(1, "a")));
    assert!(!core.take_at_once(&of(1, "a")));
    let number = core.join(of(1, "a"), 0, now);
    // Anyone who waits has come first.
    assert!(!core.take_at_once(&of(2, "a")));
    core.leave(of(1, "a").identity, number);
    assert!(core.take_at_once(&of(2, "a")));
    core.give_back(&of(1, "a"));
    assert!(core.take_at_once(&of(1, "a")));
    assert_eq!((core.running, core.by_type["a"]), (3, 3));
}

#[test]
fn an_identity_never_takes_all() {
    let mut core = Core::new(shares(100, 100, 25, 1_000));
    let now = Instant::now();
    let mut got = Vec::new();
    for identity in 1..=3 {
        (0..100).for_each(|name| {
            core.join(of(identity, "a"), name, now);
        });
        got.push(called(&mut core).len());
    }
    assert_eq!(got, [25, 19, 14]);
}

#[test]
fn identities_take_turns_however_many_each_has_waiting() {
    let mut core = Core::new(shares(1, 100, 100, 1_000));
    let now = Instant::now();
    for name in 0..50 {
        core.join(of(1, "a"), name, now);
    }
    core.join(of(2, "a"), 100, now);
    core.join(of(3, "a"), 200, now);
    let mut order = Vec::new();
    while let Some((name, claimant, _)) = core.next() {
        order.push(name);
        core.give_back(&claimant);
    }
    assert_eq!(order[..5], [0, 100, 200, 1, 2]);
    assert_eq!(order.len(), 52);
}

#[test]
fn whose_type_cannot_go_keeps_nobody_behind_them() {
    let mut core = Core::new(shares(4, 50, 100, 1_000));
    let now = Instant::now();
    for name in 0..5 {
        core.join(of(1, "slow"), name, now);
    }
    core.join(of(1, "quick"), 9, now);
    assert_eq!(called(&mut core), [0, 1, 9]);
}

#[test]
fn what_is_injected_is_half_and_is_never_sent_away() {
    let mut core = Core::new(shares(4, 100, 100, 0));
    let now = Instant::now();
    for name in 0..9 {
        core.join(injected(1, "a"), name, now);
    }
    assert_eq!(called(&mut core), [0, 1]);
    assert_eq!(core.shed(now + PATIENCE * 60), None);
}

#[test]
fn who_waits_too_long_in_the_longest_line_is_sent_away_newest_first_and_nobody_before() {
    let mut core = Core::new(shares(0, 100, 100, 3));
    let now = Instant::now();
    for (name, identity, kind) in [
        (0, 1, "slow"),
        (1, 1, "slow"),
        (2, 1, "slow"),
        (3, 2, "slow"),
        (4, 3, "quick"),
    ] {
        core.join(of(identity, kind), name, now);
    }
    assert_eq!(core.shed(now), None, "it may move yet");
    let late = now + PATIENCE;
    assert_eq!(core.shed(late), Some(2));
    assert_eq!(core.shed(late), Some(1));
    assert_eq!(core.shed(late), None, "no more than may wait do");
}

#[test]
fn who_leaves_is_not_called_and_who_gives_back_is_followed() {
    let mut core = Core::new(shares(1, 100, 100, 3));
    let now = Instant::now();
    let first = core.join(of(1, "a"), 1, now);
    core.join(of(1, "a"), 2, now);
    core.leave(IdentityTag::of(&[1; 32]), first);
    let (name, claimant, _) = core.next().unwrap();
    assert_eq!(name, 2);
    core.join(of(2, "b"), 3, now);
    assert!(core.next().is_none());
    core.give_back(&claimant);
    assert_eq!(called(&mut core), [3]);
}

proptest! {
    /// Whatever comes and goes: no more than there are have a place, and when all is over nothing is left of it.
    #[test]
    fn nothing_is_counted_twice_or_forgotten(
        steps in proptest::collection::vec((0_u8..4, 0_u8..3, any::<bool>(), 0_u8..4), 0..200),
        places in 1_usize..6, type_percent in 1_usize..=100, identity_percent in 1_usize..=100,
    ) {
        let mut core = Core::new(shares(places, type_percent, identity_percent, 2));
        let (mut now, mut running, mut waiting) = (Instant::now(), Vec::new(), Vec::new());
        for (name, (identity, kind, is_injected, what)) in (0_u32..).zip(steps) {
            match what {
                0 | 1 => {
                    let claimant = Claimant { injected: is_injected, ..of(identity, &kind.to_string()) };
                    let number = core.join(claimant.clone(), name, now);
                    waiting.push((name, claimant.identity, number));
                }
                2 if !running.is_empty() => core.give_back(&running.swap_remove(usize::from(kind) % running.len())),
                _ => now += PATIENCE / 2,
            }
            while let Some((called, claimant, _)) = core.next() {
                waiting.retain(|(other, ..)| *other != called);
                running.push(claimant);
            }
            while let Some(refused) = core.shed(now) {
                waiting.retain(|(other, ..)| *other != refused);
            }
            prop_assert!(running.len() <= places);
            prop_assert_eq!(running.len(), core.running);
            prop_assert_eq!(waiting.len(), core.lines.values().map(VecDeque::len).sum::<usize>());
            prop_assert!(!running.is_empty() || waiting.is_empty(), "who waits while nobody runs waits for ever");
        }
        waiting.into_iter().for_each(|(_, identity, number)| core.leave(identity, number));
        running.iter().for_each(|claimant| core.give_back(claimant));
        prop_assert_eq!((core.running, core.injected, core.waiting), (0, 0, 0));
        prop_assert!(core.lines.is_empty() && core.turns.is_empty() && core.by_type.is_empty() && core.by_identity.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_gets_the_place_that_is_given_back_or_hears_that_there_is_none() {
    let places = Arc::new(Places::new(shares(2, 50, 100, 1)));
    let first = places.take(of(1, "slow")).await.unwrap();
    assert!(places.take(of(2, "quick")).await.is_ok(), "another type has a place");
    let mut second = Box::pin(places.take(of(1, "slow")));
    assert!(futures_util::poll!(&mut second).is_pending());
    let third = places.take(of(1, "slow")).await;
    assert!(third.is_err(), "one may wait, and no more");
    drop(first);
    assert!(second.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_while_being_called_gives_the_place_to_the_next() {
    let places = Arc::new(Places::new(shares(1, 100, 100, 9)));
    let first = places.take(of(1, "a")).await.unwrap();
    let mut gives_up = Box::pin(places.take(of(1, "a")));
    assert!(futures_util::poll!(&mut gives_up).is_pending());
    drop(first);
    drop(gives_up);
    assert!(places.take(of(2, "a")).await.is_ok());
}

#[test]
fn half_of_what_waits_is_handed_on_newest_of_the_longest_line_first_and_the_first_stays() {
    let mut core = Core::new(shares(1, 100, 100, 1_000));
    let now = Instant::now();
    assert!(core.is_idle());
    for name in 0..5 {
        core.join(of(1, "a"), name, now);
    }
    core.join(of(2, "a"), 10, now);
    assert_eq!(called(&mut core), [0]);
    assert!(!core.is_idle());
    assert!(core.has_surplus());
    assert_eq!(core.hand_on(100), [4, 3, 2]);
    assert!(core.hand_on(0).is_empty());
    assert_eq!(
        core.hand_on(100),
        [10],
        "of two lines that are as long, who came first stays"
    );
}

#[test]
fn what_may_not_move_stays() {
    let mut core = Core::new(shares(0, 100, 100, 1_000));
    let now = Instant::now();
    let stays = |claimant: Claimant| Claimant {
        may_move: false,
        ..claimant
    };
    core.join(stays(of(1, "a")), 0, now);
    assert!(!core.has_surplus());
    core.join(of(1, "a"), 1, now);
    core.join(stays(of(1, "a")), 2, now);
    assert_eq!(core.hand_on(100), [1]);
    assert!(core.hand_on(100).is_empty());
    assert_eq!(core.waiting, 2);
}
