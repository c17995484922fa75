//! Messages that are to have their effect once.

use super::*;

const LEASE: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(60);

pub(super) async fn every_claim(home: &dyn Home) {
    whatever_was_done_is_told_and_not_done_again(home).await;
    of_many_at_a_time_one_begins(home).await;
    the_name_of_another_message_is_a_conflict(home).await;
    a_name_is_its_identity_s_own(home).await;
    whoever_was_cut_off_is_followed_by_the_same_message_at_once_and_by_others_when_the_lease_is_over(home).await;
    what_was_abandoned_may_begin_anew(home).await;
    only_the_last_run_can_abandon_a_message(home).await;
    of_two_runs_the_first_that_ends_counts(home).await;
    it_is_forgotten_when_the_window_is_over(home).await;
    an_answer_that_is_not_kept_is_known_to_have_been_given(home).await;
    of_too_many_bytes_the_oldest_answers_go_and_not_that_they_were_given(home).await;
    of_too_many_messages_the_oldest_are_forgotten(home).await;
}

fn claim(identity: IdentityTag, id: u64) -> Claim {
    let mut digest = [7; 32];
    digest[24..].copy_from_slice(&id.to_be_bytes());
    Claim {
        key: MessageKey { identity, id: digest },
        fingerprint: [1; 32],
        run: injected(),
        redelivered: false,
        lease: LEASE,
        window: WINDOW,
    }
}

fn injected() -> Run {
    Run {
        stamp: None,
        number: shared::service::chance::number(),
    }
}

fn stamped(stamp: MessageId) -> Run {
    Run {
        stamp: Some(stamp),
        ..injected()
    }
}

fn a_stamp(sequence: u64) -> MessageId {
    MessageId {
        connection: a_connection(),
        sequence: Sequence::new(sequence),
    }
}

async fn begin(home: &dyn Home, claim: &Claim) -> Begun {
    home.store().begin(claim).await.expect("the store answers")
}

async fn finish(home: &dyn Home, claim: &Claim, answer: Option<&str>) -> Option<String> {
    home.store().finish(claim, answer).await.expect("the store answers")
}

async fn abandon(home: &dyn Home, claim: &Claim) {
    home.store().abandon(claim).await.expect("the store answers");
}

fn done(answer: &str) -> Begun {
    Begun::Done(Some(answer.to_owned()))
}

async fn whatever_was_done_is_told_and_not_done_again(home: &dyn Home) {
    let first = claim(an_identity(), 1);
    assert_eq!(begin(home, &first).await, Begun::First);
    for odd in ["{\"a\":\"b:c\\n\"}", "ü\u{0}\n:done:"] {
        let one = claim(an_identity(), 1);
        assert_eq!(begin(home, &one).await, Begun::First);
        assert_eq!(finish(home, &one, Some(odd)).await, None);
        for run in [injected(), stamped(a_stamp(1)), one.run] {
            assert_eq!(begin(home, &Claim { run, ..one }).await, done(odd));
        }
    }
    // Of another message nothing has become.
    assert_eq!(begin(home, &claim(first.key.identity, 2)).await, Begun::First);
}

async fn of_many_at_a_time_one_begins(home: &dyn Home) {
    let one = claim(an_identity(), 1);
    let all = (1..=20).map(|sequence| {
        let run = if sequence % 2 == 0 {
            stamped(a_stamp(sequence))
        } else {
            injected()
        };
        async move { begin(home, &Claim { run, ..one }).await }
    });
    let begun = join_all(all).await;
    assert_eq!(begun.iter().filter(|one| **one == Begun::First).count(), 1);
    assert_eq!(
        begun.iter().filter(|one| matches!(one, Begun::Running { .. })).count(),
        19
    );
}

async fn the_name_of_another_message_is_a_conflict(home: &dyn Home) {
    let one = claim(an_identity(), 1);
    let other = Claim {
        fingerprint: [2; 32],
        run: injected(),
        ..one
    };
    begin(home, &one).await;
    assert_eq!(begin(home, &other).await, Begun::Conflict);
    // Not even a lease that is over changes that, nor the same stamp.
    pass(home, LEASE).await;
    assert_eq!(begin(home, &Claim { run: one.run, ..other }).await, Begun::Conflict);
    finish(home, &one, Some("1")).await;
    assert_eq!(begin(home, &other).await, Begun::Conflict);
    // Nor does whoever has the wrong message end the other.
    assert_eq!(finish(home, &other, Some("2")).await, None);
    assert_eq!(begin(home, &one).await, done("1"));
}

async fn a_name_is_its_identity_s_own(home: &dyn Home) {
    let (alice, bob) = (claim(an_identity(), 1), claim(an_identity(), 1));
    begin(home, &alice).await;
    finish(home, &alice, Some("alice's")).await;
    assert_eq!(begin(home, &bob).await, Begun::First);
    assert_eq!(begin(home, &alice).await, done("alice's"));
}

async fn whoever_was_cut_off_is_followed_by_the_same_message_at_once_and_by_others_when_the_lease_is_over(
    home: &dyn Home,
) {
    let stamp = a_stamp(1);
    let one = Claim {
        run: stamped(stamp),
        ..claim(an_identity(), 1)
    };
    let other = Claim {
        run: stamped(a_stamp(1)),
        ..one
    };
    assert_eq!(begin(home, &one).await, Begun::First);
    pass(home, LEASE - Duration::from_secs(1)).await;
    assert_eq!(begin(home, &other).await, Begun::Running { same: false });
    let copy = Claim {
        run: stamped(stamp),
        ..one
    };
    assert_eq!(begin(home, &copy).await, Begun::Running { same: true });
    let again = Claim {
        redelivered: true,
        ..copy
    };
    assert_eq!(begin(home, &again).await, Begun::First);
    // It has a lease of its own.
    pass(home, LEASE - Duration::from_secs(1)).await;
    assert_eq!(begin(home, &other).await, Begun::Running { same: false });
    pass(home, Duration::from_secs(1)).await;
    assert_eq!(begin(home, &other).await, Begun::First);
    assert_eq!(begin(home, &again).await, Begun::Running { same: false });

    // What was injected has no stamp, and two such are two.
    let one = claim(an_identity(), 1);
    let other = Claim { run: injected(), ..one };
    assert_eq!(begin(home, &one).await, Begun::First);
    assert_eq!(begin(home, &other).await, Begun::Running { same: false });
    // But the very same call may be repeated.
    assert_eq!(begin(home, &one).await, Begun::First);
    pass(home, LEASE).await;
    assert_eq!(begin(home, &other).await, Begun::First);
}

async fn what_was_abandoned_may_begin_anew(home: &dyn Home) {
    let one = claim(an_identity(), 1);
    begin(home, &one).await;
    abandon(home, &one).await;
    let other = Claim {
        fingerprint: [2; 32],
        run: injected(),
        ..one
    };
    assert_eq!(begin(home, &other).await, Begun::First);
    finish(home, &other, Some("1")).await;
    abandon(home, &other).await;
    assert_eq!(begin(home, &other).await, done("1"));
}

async fn only_the_last_run_can_abandon_a_message(home: &dyn Home) {
    let stamp = a_stamp(1);
    let cut_off = Claim {
        run: stamped(stamp),
        ..claim(an_identity(), 1)
    };
    let again = Claim {
        run: stamped(stamp),
        redelivered: true,
        ..cut_off
    };
    begin(home, &cut_off).await;
    begin(home, &again).await;
    abandon(home, &cut_off).await;
    let other = Claim {
        run: injected(),
        ..cut_off
    };
    assert_eq!(begin(home, &other).await, Begun::Running { same: false });
    abandon(home, &again).await;
    assert_eq!(begin(home, &other).await, Begun::First);
}

async fn of_two_runs_the_first_that_ends_counts(home: &dyn Home) {
    let stamp = a_stamp(1);
    let one = Claim {
        run: stamped(stamp),
        ..claim(an_identity(), 1)
    };
    let other = Claim {
        run: stamped(stamp),
        ..one
    };
    begin(home, &one).await;
    begin(home, &other).await;
    assert_eq!(finish(home, &one, Some("1")).await, None);
    assert_eq!(finish(home, &other, Some("2")).await.as_deref(), Some("1"));
    assert_eq!(begin(home, &other).await, done("1"));
    // Whoever was forgotten meanwhile is remembered all the same.
    let late = claim(an_identity(), 1);
    assert_eq!(finish(home, &late, Some("1")).await, None);
    assert_eq!(begin(home, &late).await, done("1"));
}

async fn it_is_forgotten_when_the_window_is_over(home: &dyn Home) {
    let one = claim(an_identity(), 1);
    begin(home, &one).await;
    pass(home, Duration::from_secs(5)).await;
    finish(home, &one, Some("1")).await;
    let other = Claim {
        fingerprint: [2; 32],
        run: injected(),
        ..one
    };
    pass(home, WINDOW - Duration::from_secs(1)).await;
    assert_eq!(begin(home, &one).await, done("1"));
    assert_eq!(begin(home, &other).await, Begun::Conflict);
    pass(home, Duration::from_secs(1)).await;
    assert_eq!(begin(home, &other).await, Begun::First);
    // A run may last longer than the window.
    let brief = Claim {
        window: Duration::from_secs(1),
        ..claim(an_identity(), 1)
    };
    begin(home, &brief).await;
    pass(home, LEASE - Duration::from_secs(1)).await;
    let other = Claim {
        run: injected(),
        ..brief
    };
    assert_eq!(begin(home, &other).await, Begun::Running { same: false });
}

async fn an_answer_that_is_not_kept_is_known_to_have_been_given(home: &dyn Home) {
    let one = claim(an_identity(), 1);
    begin(home, &one).await;
    assert_eq!(finish(home, &one, None).await, None);
    assert_eq!(begin(home, &one).await, Begun::Done(None));
    assert_eq!(finish(home, &one, Some("1")).await, None);
    assert_eq!(begin(home, &one).await, Begun::Done(None));
}

async fn of_too_many_bytes_the_oldest_answers_go_and_not_that_they_were_given(home: &dyn Home) {
    let (alice, quarter) = (an_identity(), "x".repeat(MOST_ANSWER_BYTES / 4));
    for id in 1..=6 {
        let one = claim(alice, id);
        begin(home, &one).await;
        finish(home, &one, Some(&quarter)).await;
        pass(home, Duration::from_secs(1)).await;
    }
    for id in 1..=6 {
        let kept = (id > 2).then(|| quarter.clone());
        assert!(begin(home, &claim(alice, id)).await == Begun::Done(kept), "{id}");
    }
    // What is forgotten counts no more, though something else is known.
    begin(home, &claim(alice, 7)).await;
    pass(home, WINDOW - Duration::from_secs(1)).await;
    begin(home, &claim(alice, 8)).await;
    pass(home, Duration::from_secs(1)).await;
    for id in 11..=14 {
        let one = claim(alice, id);
        begin(home, &one).await;
        finish(home, &one, Some(&quarter)).await;
    }
    for id in 11..=14 {
        assert!(begin(home, &claim(alice, id)).await == done(&quarter), "{id}");
    }
}

async fn of_too_many_messages_the_oldest_are_forgotten(home: &dyn Home) {
    const AT_A_TIME: u64 = 500;
    let alice = an_identity();
    let handle = async |id| {
        let one = claim(alice, id);
        assert_eq!(begin(home, &one).await, Begun::First);
        finish(home, &one, Some("1")).await;
    };
    handle(0).await;
    pass(home, Duration::from_millis(1)).await;
    handle(1).await;
    pass(home, Duration::from_millis(1)).await;
    for some in 0..MOST_CLAIMS as u64 / AT_A_TIME {
        let first = 2 + some * AT_A_TIME;
        // The last leaves room for the second.
        let last = (first + AT_A_TIME).min(MOST_CLAIMS as u64 + 1);
        join_all((first..last).map(handle)).await;
    }
    assert_eq!(begin(home, &claim(alice, 1)).await, done("1"));
    assert_eq!(begin(home, &claim(alice, 0)).await, Begun::First);
    assert_eq!(begin(home, &claim(alice, 1)).await, Begun::First);
}
