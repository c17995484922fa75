//! What comes for a client, until it is written or somebody else's again.

use std::time::Duration;

use shared::envelope::bounce::Undelivered;
use shared::envelope::{Answer, Bounced, Change, Errand, Return};
use shared::grant::{Grant, Policy};
use shared::id::ConnectionId;

use super::bench::*;

#[tokio::test(start_paused = true)]
async fn what_is_in_somebody_s_name_is_written_to_nobody_else() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 60, Policy::Ignore)).await;
    bench.push(connection, 2, "for bob").await;
    bench.expect_given_back(Bounced::Gone, "for bob").await;
    client.expect_nothing().await;
    assert!(bench.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_comes_twice_is_written_once() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 60, Policy::Close)).await;
    bench.push(connection, 1, "p").await;
    bench.push(connection, 1, "p").await;
    assert_eq!(client.text().await, "p");
    client.expect_nothing().await;
    assert!(bench.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_written_is_not_written_again_out_of_a_hold() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 60, Policy::Close)).await;
    client.send("question").await;
    let (question, _) = bench.question().await;
    bench.answer(question.stamp, reply(1), "answer").await;
    assert_eq!(client.text().await, "answer");
    let key = format!("{}.0", question.stamp);
    bench.release(connection, 1, &key).await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_lapses_is_given_back_asked_for_once_and_comes_in_order_after_a_renewal() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    client.send("question").await;
    let (question, _) = bench.question().await;
    pass(Duration::from_secs(10)).await;
    bench.answer(question.stamp, reply(1), "answer").await;
    bench.push(connection, 1, "push").await;
    bench.expect_given_back(Bounced::Lapsed, "answer").await;
    bench.expect_given_back(Bounced::Lapsed, "push").await;
    let asked = client.expect_required("expired").await;
    assert_eq!(asked["held"]["outbound"], 1);
    assert!(
        (59_000..=60_000).contains(&asked["deadline_ms"].as_u64().unwrap()),
        "{asked}"
    );
    client.expect_nothing().await;

    bench.renew(&mut client, grant(1, 60, Policy::Reauthenticate)).await;
    bench.expect_fetch().await;
    bench.push(connection, 1, "newer").await;
    client.expect_nothing().await;
    bench.release(connection, 1, &format!("{}.0", question.stamp)).await;
    bench.release(connection, 1, "push").await;
    bench.errand(connection, Errand::Fetched { left: 0 }, "").await;
    assert_eq!(client.text().await, format!("{}.0", question.stamp));
    assert_eq!(client.text().await, "push");
    assert_eq!(client.text().await, "newer");
    bench.push(connection, 1, "and on").await;
    assert_eq!(client.text().await, "and on");
    bench.expect_nothing_given_back().await;
    assert!(bench.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_the_end_though_the_machine_slept_through_it() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    let (mut closing, of_closing) = bench.client_of(grant(2, 600, Policy::Close)).await;
    bench.sleep(3_600);
    bench.push(connection, 1, "push").await;
    bench.expect_given_back(Bounced::Lapsed, "push").await;
    client.expect_required("expired").await;
    client.expect_nothing().await;
    bench.push(of_closing, 2, "push").await;
    bench.expect_given_back(Bounced::Lapsed, "push").await;
    closing.expect_error("auth_required").await;
    assert_eq!(closing.close_code().await, 4401);
}

#[tokio::test(start_paused = true)]
async fn a_new_lapse_is_asked_about_again() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    pass(Duration::from_secs(10)).await;
    bench.push(connection, 1, "a").await;
    client.expect_required("expired").await;
    bench.renew(&mut client, grant(1, 30, Policy::Reauthenticate)).await;
    pass(Duration::from_secs(30)).await;
    bench.push(connection, 1, "b").await;
    client.expect_required("expired").await;
}

#[tokio::test(start_paused = true)]
async fn where_lapses_are_ignored_it_is_written_anyway() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 10, Policy::Ignore)).await;
    pass(Duration::from_secs(20)).await;
    bench.push(connection, 1, "late").await;
    assert_eq!(client.text().await, "late");
}

#[tokio::test(start_paused = true)]
async fn where_lapses_close_the_connection_goes_when_all_is_settled_and_what_comes_is_kept() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 10, Policy::Close)).await;
    client.send("question").await;
    let (question, _) = bench.question().await;
    pass(Duration::from_secs(10)).await;
    client.expect_nothing().await;
    bench.push(connection, 1, "push").await;
    client.send("not forwarded any more").await;
    bench.expect_no_question().await;
    bench.answer(question.stamp, reply(1), "answer").await;
    bench.expect_given_back(Bounced::Lapsed, "push").await;
    bench.expect_given_back(Bounced::Lapsed, "answer").await;
    client.expect_error("auth_required").await;
    client.expect_error("auth_required").await;
    assert_eq!(client.close_code().await, 4401);
    drop(client);
    let (closed, code) = bench.closed().await;
    assert_eq!(code, Some(4401));
    assert!(closed.standing.grant.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_has_waited_for_the_identity_is_fetched_when_it_comes() {
    let mut bench = Bench::new().await;
    let waiting = Grant {
        waiting: 3,
        ..grant(1, 60, Policy::Close)
    };
    let (mut client, connection) = bench.client_of(waiting).await;
    let (fetch, _) = bench.undelivered().await;
    let Undelivered::Fetch(fetch) = fetch else {
        panic!("{fetch:?}")
    };
    assert_eq!((fetch.connection, fetch.identity), (connection, identity(1)));
    bench.errand(connection, Errand::Fetched { left: 2 }, "").await;
    bench.expect_fetch().await;
    bench.errand(connection, Errand::Wake { from: None }, "").await;
    bench.errand(connection, Errand::Fetched { left: 0 }, "").await;
    bench.expect_fetch().await;
    bench.errand(connection, Errand::Fetched { left: 0 }, "").await;
    bench.push(connection, 1, "p").await;
    assert_eq!(client.text().await, "p");
    bench.expect_nothing_given_back().await;
}

#[tokio::test(start_paused = true)]
async fn the_steady_state_fetches_nothing() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 60, Policy::Close)).await;
    bench.push(connection, 1, "p").await;
    assert_eq!(client.text().await, "p");
    bench.renew(&mut client, grant(1, 90, Policy::Close)).await;
    bench.expect_nothing_given_back().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_not_answered_is_asked_for_again() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    bench.errand(connection, Errand::Wake { from: None }, "").await;
    bench.expect_fetch().await;
    bench.push(connection, 1, "behind").await;
    pass(Duration::from_secs(31)).await;
    bench.expect_given_back(Bounced::Lapsed, "behind").await;
    bench.expect_fetch().await;
    bench.push(connection, 1, "newer").await;
    bench.release(connection, 1, "behind").await;
    bench.errand(connection, Errand::Fetched { left: 0 }, "").await;
    assert_eq!(client.text().await, "behind");
    assert_eq!(client.text().await, "newer");
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_out_gives_back_what_waited_behind_a_fetch() {
    let mut bench = Bench::new().await;
    let (mut client, connection) = bench.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    bench.errand(connection, Errand::Wake { from: None }, "").await;
    bench.expect_fetch().await;
    bench.push(connection, 1, "behind").await;
    client.send("auth.forget").await;
    let (forget, _) = bench.question().await;
    let forgotten = Answer {
        change: Some(Change::Forgotten),
        ..Answer::ONLY
    };
    bench.answer(forget.stamp, forgotten, "out").await;
    bench.expect_given_back(Bounced::Gone, "behind").await;
    assert_eq!(client.text().await, "out");
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_connection_that_is_gone_goes_back_if_somebody_else_may_have_it() {
    let mut bench = Bench::new().await;
    let gone = ConnectionId {
        terminator: bench.id,
        number: 77,
    };
    bench.push(gone, 1, "push").await;
    bench.expect_given_back(Bounced::Gone, "push").await;
    let stamp = shared::id::Stamp {
        connection: gone,
        sequence: shared::id::Sequence::FIRST,
    };
    bench.answer(stamp, reply(1), "answer").await;
    bench.expect_given_back(Bounced::Gone, "answer").await;
    bench.answer(stamp, Answer::ONLY, "an error, for whoever asked").await;
    bench.errand(gone, Errand::Fetched { left: 0 }, "").await;
    bench.expect_nothing_given_back().await;
    bench.errand(gone, Errand::Wake { from: None }, "").await;
    let (wake, _) = bench.undelivered().await;
    assert!(matches!(original(wake), Return::Errand(_, Errand::Wake { from: None })));
    assert!(bench.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_back_what_it_has_not_read() {
    let mut bench = Bench::new().await;
    let client = bench.client_with(512).await;
    let (client, connection) = bench.authenticate(client, grant(1, 600, Policy::Reauthenticate)).await;
    let large = "x".repeat(2_000);
    bench.push(connection, 1, &large).await;
    bench.push(connection, 1, "second").await;
    drop(client);
    bench.expect_given_back(Bounced::Gone, &large).await;
    bench.expect_given_back(Bounced::Gone, "second").await;
    assert!(bench.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_blocked_when_its_grant_ends_is_cut() {
    let mut bench = Bench::new().await;
    let client = bench.client_with(512).await;
    let (client, connection) = bench.authenticate(client, grant(1, 10, Policy::Reauthenticate)).await;
    pass(Duration::from_secs(9)).await;
    let large = "x".repeat(20_000);
    bench.push(connection, 1, &large).await;
    pass(Duration::from_millis(1_300)).await;
    let seen = client.rest().await;
    assert!(seen <= 512, "{seen} bytes came, of which 512 had been taken before");
    bench.expect_given_back(Bounced::Lapsed, &large).await;
    let (_, code) = bench.closed().await;
    assert_eq!(code, Some(4401));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_blocked_while_the_machine_slept_is_not_gone_on_with() {
    let mut bench = Bench::new().await;
    let client = bench.client_with(512).await;
    let (client, connection) = bench.authenticate(client, grant(1, 60, Policy::Reauthenticate)).await;
    let large = "x".repeat(20_000);
    bench.push(connection, 1, &large).await;
    bench.sleep(3_600);
    // Its client reads on at once.
    let seen = client.rest().await;
    assert!(seen <= 512, "{seen} bytes came, of which 512 had been taken before");
    bench.expect_given_back(Bounced::Lapsed, &large).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_out_gives_no_more_time_to_a_socket_that_is_blocked() {
    let mut bench = Bench::new().await;
    let client = bench.client_with(512).await;
    let (mut client, connection) = bench.authenticate(client, grant(1, 10, Policy::Reauthenticate)).await;
    client.send("auth.forget").await;
    let (forget, _) = bench.question().await;
    let large = "x".repeat(20_000);
    bench.push(connection, 1, &large).await;
    let forgotten = Answer {
        change: Some(Change::Forgotten),
        ..Answer::ONLY
    };
    bench.answer(forget.stamp, forgotten, "").await;
    pass(Duration::from_millis(10_300)).await;
    let seen = client.rest().await;
    assert!(seen <= 512, "{seen} bytes came, of which 512 had been taken before");
    bench.expect_given_back(Bounced::Lapsed, &large).await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_blocked_is_not_cut_if_its_grant_is_renewed_meanwhile() {
    let mut bench = Bench::new().await;
    let client = bench.client_with(512).await;
    let (mut client, connection) = bench.authenticate(client, grant(1, 10, Policy::Reauthenticate)).await;
    client.send("a fresh token").await;
    let (question, _) = bench.question().await;
    pass(Duration::from_secs(9)).await;
    let large = "x".repeat(20_000);
    bench.push(connection, 1, &large).await;
    bench
        .answer(question.stamp, live(grant(1, 60, Policy::Reauthenticate)), "renewed")
        .await;
    pass(Duration::from_secs(2)).await;
    assert_eq!(client.text().await, large);
    assert_eq!(client.text().await, "renewed");
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_too_slowly_is_closed_and_what_it_has_not_read_is_kept() {
    let mut bench = Bench::with(&[("send-queue-bytes", "4KiB")]).await;
    let client = bench.client_with(512).await;
    let (_client, connection) = bench.authenticate(client, grant(1, 600, Policy::Reauthenticate)).await;
    let texts: Vec<_> = (0..4).map(|number| format!("{number}{}", "x".repeat(1_500))).collect();
    for text in &texts {
        bench.push(connection, 1, text).await;
    }
    bench.push(connection, 1, &"y".repeat(4_000)).await;
    let (_, code) = bench.closed().await;
    assert_eq!(code, Some(4410));
    for text in &texts {
        bench.expect_given_back(Bounced::Gone, text).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_closed_for_not_reading_at_once_what_comes_out_of_a_hold() {
    let mut bench = Bench::with(&[("send-queue-bytes", "4KiB")]).await;
    let client = bench.client_with(512).await;
    let waiting = Grant {
        waiting: 6,
        ..grant(1, 600, Policy::Reauthenticate)
    };
    let (mut client, connection) = bench.authenticate(client, waiting).await;
    bench.expect_fetch().await;
    let texts: Vec<_> = (0..6).map(|number| format!("{number}{}", "x".repeat(1_500))).collect();
    let mut held = texts.clone();
    let mut came = Vec::new();
    // A worker's part: it sends all that it holds, and puts away what comes back.
    while came.len() < texts.len() {
        for text in std::mem::take(&mut held) {
            bench.release(connection, 1, &text).await;
        }
        bench.errand(connection, Errand::Fetched { left: 0 }, "").await;
        came.push(client.text().await);
        if came.len() == texts.len() {
            break;
        }
        while let Some(undelivered) = bench.undelivered_at_once().await {
            match undelivered {
                (Undelivered::Bounced(Bounced::Lapsed, _), text) => held.push(text),
                (Undelivered::Fetch(_), _) => break,
                (other, _) => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(came, texts);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_written_before_the_end_is_not_held_for_others_when_it_comes_again() {
    let mut bench = Bench::new().await;
    let (mut client, _) = bench.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    client.send("answered").await;
    client.send("open").await;
    let (answered, _) = bench.question().await;
    let (open, _) = bench.question().await;
    bench.answer(answered.stamp, reply(1), "answer").await;
    assert_eq!(client.text().await, "answer");
    drop(client);
    bench.closed().await;
    bench.answer(answered.stamp, reply(1), "answer").await;
    bench.answer(open.stamp, reply(1), "too late").await;
    bench.answer(open.stamp, reply(1), "too late").await;
    bench.expect_given_back(Bounced::Gone, "too late").await;
    bench.expect_nothing_given_back().await;
    assert!(bench.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn of_all_who_read_nothing_those_give_way_for_whom_most_is_kept() {
    let settings = [("send-queue-bytes", "64MiB"), ("send-queue-bytes-total", "1MiB")];
    let mut bench = Bench::with(&settings).await;
    let mut slow = Vec::new();
    for texts in [1, 8] {
        let client = bench.client_with(512).await;
        let (client, connection) = bench.authenticate(client, grant(1, 600, Policy::Ignore)).await;
        slow.push((client, connection));
        for number in 0..texts {
            bench
                .push(connection, 1, &format!("{number}{}", "x".repeat(100_000)))
                .await;
        }
    }
    let (closed, code) = bench.closed().await;
    assert_eq!((closed.stamp.connection, code), (slow[1].1, Some(4410)));
    bench.expect_no_question().await;
}
