//! Messages that are to have their effect once.

use super::*;

const LEASE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(300);

pub(super) async fn every_claim(tested: &dyn Implementation) {
    whatever_was_done_is_told_and_not_done_again(tested).await;
    of_many_at_a_time_one_begins(tested).await;
    the_name_of_another_message_is_a_conflict(tested).await;
    a_name_is_its_identity_s_own(tested).await;
    whoever_was_cut_off_is_followed_by_the_same_message_at_once_and_by_others_when_the_lease_is_over(tested).await;
    what_was_abandoned_may_begin_anew(tested).await;
    only_the_last_run_can_abandon_a_message(tested).await;
    of_two_runs_the_first_that_ends_counts(tested).await;
    it_is_forgotten_when_the_window_is_over(tested).await;
    an_answer_that_is_not_kept_is_known_to_have_been_given(tested).await;
    of_too_many_bytes_the_oldest_answers_go_and_not_that_they_were_given(tested).await;
    of_too_many_messages_the_oldest_are_forgotten(tested).await;
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
        forwarded_id: None,
        number: shared::service::chance::number(),
    }
}

fn forwarded(forwarded_id: MessageId) -> Run {
    Run {
        forwarded_id: Some(forwarded_id),
        ..injected()
    }
}

fn a_forwarded_id(sequence: u64) -> MessageId {
    MessageId {
        connection: a_connection(),
        sequence: Sequence::new(sequence),
    }
}

async fn begin(tested: &dyn Implementation, claim: &Claim) -> Begun {
    tested.store().begin(claim).await.expect("the store answers")
}

async fn finish(tested: &dyn Implementation, claim: &Claim, answer: Option<&str>) -> Option<String> {
    tested.store().finish(claim, answer).await.expect("the store answers")
}

async fn abandon(tested: &dyn Implementation, claim: &Claim) {
    tested.store().abandon(claim).await.expect("the store answers");
}

fn done(answer: &str) -> Begun {
    Begun::Done(Some(answer.to_owned()))
}

async fn whatever_was_done_is_told_and_not_done_again(tested: &dyn Implementation) {
    let first = claim(an_identity(), 1);
    assert_eq!(begin(tested, &first).await, Begun::First);
    for odd in ["{\"a\":\"b:c\\n\"}", "ü\u{0}\n:done:"] {
        let one = claim(an_identity(), 1);
        assert_eq!(begin(tested, &one).await, Begun::First);
        assert_eq!(finish(tested, &one, Some(odd)).await, None);
        for run in [injected(), forwarded(a_forwarded_id(1)), one.run] {
            assert_eq!(begin(tested, &Claim { run, ..one }).await, done(odd));
        }
    }
    // Of another message nothing has become.
    assert_eq!(begin(tested, &claim(first.key.identity, 2)).await, Begun::First);
}

async fn of_many_at_a_time_one_begins(tested: &dyn Implementation) {
    let one = claim(an_identity(), 1);
    let all = (1..=20).map(|sequence| {
        let run = if sequence % 2 == 0 {
            forwarded(a_forwarded_id(sequence))
        } else {
            injected()
        };
        async move { begin(tested, &Claim { run, ..one }).await }
    });
    let begun = join_all(all).await;
    assert_eq!(begun.iter().filter(|one| **one == Begun::First).count(), 1);
    assert_eq!(
        begun.iter().filter(|one| matches!(one, Begun::Running { .. })).count(),
        19
    );
}

async fn the_name_of_another_message_is_a_conflict(tested: &dyn Implementation) {
    let one = claim(an_identity(), 1);
    let other = Claim {
        fingerprint: [2; 32],
        run: injected(),
        ..one
    };
    begin(tested, &one).await;
    assert_eq!(begin(tested, &other).await, Begun::Conflict);
    // Not even a lease that is over changes that, nor the same message id.
    pass(tested, LEASE).await;
    assert_eq!(begin(tested, &Claim { run: one.run, ..other }).await, Begun::Conflict);
    finish(tested, &one, Some("1")).await;
    assert_eq!(begin(tested, &other).await, Begun::Conflict);
    // Nor does anyone who has the wrong message end the other.
    assert_eq!(finish(tested, &other, Some("2")).await, None);
    assert_eq!(begin(tested, &one).await, done("1"));
}

async fn a_name_is_its_identity_s_own(tested: &dyn Implementation) {
    let (alice, bob) = (claim(an_identity(), 1), claim(an_identity(), 1));
    begin(tested, &alice).await;
    finish(tested, &alice, Some("alice's")).await;
    assert_eq!(begin(tested, &bob).await, Begun::First);
    assert_eq!(begin(tested, &alice).await, done("alice's"));
}

async fn whoever_was_cut_off_is_followed_by_the_same_message_at_once_and_by_others_when_the_lease_is_over(
    tested: &dyn Implementation,
) {
    let forwarded_id = a_forwarded_id(1);
    let one = Claim {
        run: forwarded(forwarded_id),
        ..claim(an_identity(), 1)
    };
    let other = Claim {
        run: forwarded(a_forwarded_id(1)),
        ..one
    };
    assert_eq!(begin(tested, &one).await, Begun::First);
    pass(tested, LEASE - BRINK).await;
    assert_eq!(begin(tested, &other).await, Begun::Running { same: false });
    let copy = Claim {
        run: forwarded(forwarded_id),
        ..one
    };
    assert_eq!(begin(tested, &copy).await, Begun::Running { same: true });
    let again = Claim {
        redelivered: true,
        ..copy
    };
    assert_eq!(begin(tested, &again).await, Begun::First);
    // It has a lease of its own.
    pass(tested, LEASE - BRINK).await;
    assert_eq!(begin(tested, &other).await, Begun::Running { same: false });
    pass(tested, BRINK).await;
    assert_eq!(begin(tested, &other).await, Begun::First);
    assert_eq!(begin(tested, &again).await, Begun::Running { same: false });

    // What was injected has no message id, and two such are two.
    let one = claim(an_identity(), 1);
    let other = Claim { run: injected(), ..one };
    assert_eq!(begin(tested, &one).await, Begun::First);
    assert_eq!(begin(tested, &other).await, Begun::Running { same: false });
    // But the very same call may be repeated.
    assert_eq!(begin(tested, &one).await, Begun::First);
    pass(tested, LEASE).await;
    assert_eq!(begin(tested, &other).await, Begun::First);
}

async fn what_was_abandoned_may_begin_anew(tested: &dyn Implementation) {
    let one = claim(an_identity(), 1);
    begin(tested, &one).await;
    abandon(tested, &one).await;
    let other = Claim {
        fingerprint: [2; 32],
        run: injected(),
        ..one
    };
    assert_eq!(begin(tested, &other).await, Begun::First);
    finish(tested, &other, Some("1")).await;
    abandon(tested, &other).await;
    assert_eq!(begin(tested, &other).await, done("1"));
}

async fn only_the_last_run_can_abandon_a_message(tested: &dyn Implementation) {
    let forwarded_id = a_forwarded_id(1);
    let cut_off = Claim {
        run: forwarded(forwarded_id),
        ..claim(an_identity(), 1)
    };
    let again = Claim {
        run: forwarded(forwarded_id),
        redelivered: true,
        ..cut_off
    };
    begin(tested, &cut_off).await;
    begin(tested, &again).await;
    abandon(tested, &cut_off).await;
    let other = Claim {
        run: injected(),
        ..cut_off
    };
    assert_eq!(begin(tested, &other).await, Begun::Running { same: false });
    abandon(tested, &again).await;
    assert_eq!(begin(tested, &other).await, Begun::First);
}

async fn of_two_runs_the_first_that_ends_counts(tested: &dyn Implementation) {
    let forwarded_id = a_forwarded_id(1);
    let one = Claim {
        run: forwarded(forwarded_id),
        ..claim(an_identity(), 1)
    };
    let other = Claim {
        run: forwarded(forwarded_id),
        ..one
    };
    begin(tested, &one).await;
    begin(tested, &other).await;
    assert_eq!(finish(tested, &one, Some("1")).await, None);
    assert_eq!(finish(tested, &other, Some("2")).await.as_deref(), Some("1"));
    assert_eq!(begin(tested, &other).await, done("1"));
    // The one who was forgotten meanwhile is remembered all the same.
    let late = claim(an_identity(), 1);
    assert_eq!(finish(tested, &late, Some("1")).await, None);
    assert_eq!(begin(tested, &late).await, done("1"));
}

async fn it_is_forgotten_when_the_window_is_over(tested: &dyn Implementation) {
    let one = claim(an_identity(), 1);
    begin(tested, &one).await;
    pass(tested, Duration::from_secs(5)).await;
    finish(tested, &one, Some("1")).await;
    let other = Claim {
        fingerprint: [2; 32],
        run: injected(),
        ..one
    };
    pass(tested, WINDOW - BRINK).await;
    assert_eq!(begin(tested, &one).await, done("1"));
    assert_eq!(begin(tested, &other).await, Begun::Conflict);
    pass(tested, BRINK).await;
    assert_eq!(begin(tested, &other).await, Begun::First);
    // A run may last longer than the window.
    let brief = Claim {
        window: Duration::from_secs(1),
        ..claim(an_identity(), 1)
    };
    begin(tested, &brief).await;
    pass(tested, LEASE - BRINK).await;
    let other = Claim {
        run: injected(),
        ..brief
    };
    assert_eq!(begin(tested, &other).await, Begun::Running { same: false });
}

async fn an_answer_that_is_not_kept_is_known_to_have_been_given(tested: &dyn Implementation) {
    let one = claim(an_identity(), 1);
    begin(tested, &one).await;
    assert_eq!(finish(tested, &one, None).await, None);
    assert_eq!(begin(tested, &one).await, Begun::Done(None));
    assert_eq!(finish(tested, &one, Some("1")).await, None);
    assert_eq!(begin(tested, &one).await, Begun::Done(None));
}

async fn of_too_many_bytes_the_oldest_answers_go_and_not_that_they_were_given(tested: &dyn Implementation) {
    let (alice, quarter) = (an_identity(), "x".repeat(MOST_ANSWER_BYTES / 4));
    for id in 1..=6 {
        let one = claim(alice, id);
        begin(tested, &one).await;
        finish(tested, &one, Some(&quarter)).await;
        pass(tested, Duration::from_secs(1)).await;
    }
    for id in 1..=6 {
        let kept = (id > 2).then(|| quarter.clone());
        assert!(begin(tested, &claim(alice, id)).await == Begun::Done(kept), "{id}");
    }
    // What is forgotten counts no more, though something else is known.
    begin(tested, &claim(alice, 7)).await;
    pass(tested, WINDOW - Duration::from_secs(1)).await;
    begin(tested, &claim(alice, 8)).await;
    pass(tested, Duration::from_secs(1)).await;
    for id in 11..=14 {
        let one = claim(alice, id);
        begin(tested, &one).await;
        finish(tested, &one, Some(&quarter)).await;
    }
    for id in 11..=14 {
        assert!(begin(tested, &claim(alice, id)).await == done(&quarter), "{id}");
    }
}

async fn of_too_many_messages_the_oldest_are_forgotten(tested: &dyn Implementation) {
    const AT_A_TIME: u64 = 500;
    let alice = an_identity();
    let handle = async |id| {
        let one = claim(alice, id);
        assert_eq!(begin(tested, &one).await, Begun::First);
        finish(tested, &one, Some("1")).await;
    };
    handle(0).await;
    pass(tested, Duration::from_millis(1)).await;
    handle(1).await;
    pass(tested, Duration::from_millis(1)).await;
    for some in 0..MOST_CLAIMS as u64 / AT_A_TIME {
        let first = 2 + some * AT_A_TIME;
        // The last leaves room for the second.
        let last = (first + AT_A_TIME).min(MOST_CLAIMS as u64 + 1);
        join_all((first..last).map(handle)).await;
    }
    assert_eq!(begin(tested, &claim(alice, 1)).await, done("1"));
    assert_eq!(begin(tested, &claim(alice, 0)).await, Begun::First);
    assert_eq!(begin(tested, &claim(alice, 1)).await, Begun::First);
}
