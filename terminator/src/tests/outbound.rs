//! What comes for a client, until it is written or someone else's again.

use std::time::Duration;

use shared::wire::envelope::command::{Producer, Write};
use shared::wire::envelope::undelivered::Undelivered;
use shared::wire::envelope::{Bounced, Change, Command, Reply, Return};
use shared::wire::grant::{Grant, Policy};
use shared::wire::id::ConnectionId;

use super::fixture::*;

#[tokio::test(start_paused = true)]
async fn what_is_in_somebody_s_name_is_written_to_nobody_else() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 60, Policy::Ignore)).await;
    fixture.push(connection, 2, "for bob").await;
    fixture.expect_given_back(Bounced::Gone, "for bob").await;
    client.expect_nothing().await;
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_comes_twice_is_written_once() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 60, Policy::Close)).await;
    fixture.push(connection, 1, "p").await;
    fixture.push(connection, 1, "p").await;
    assert_eq!(client.text().await, "p");
    client.expect_nothing().await;
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_written_is_not_written_again_out_of_a_hold() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 60, Policy::Close)).await;
    client.send("forwarded").await;
    let (forwarded, _) = fixture.forwarded().await;
    fixture.answer(forwarded.message_id, reply(1), "answer").await;
    assert_eq!(client.text().await, "answer");
    let key = format!("{}.0", forwarded.message_id);
    fixture.release(connection, 1, &key).await;
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_expires_is_given_back_asked_for_once_and_comes_in_order_after_a_renewal() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    client.send("forwarded").await;
    let (forwarded, _) = fixture.forwarded().await;
    pass(Duration::from_secs(10)).await;
    fixture.answer(forwarded.message_id, reply(1), "answer").await;
    fixture.push(connection, 1, "push").await;
    fixture.expect_given_back(Bounced::Expired, "answer").await;
    fixture.expect_given_back(Bounced::Expired, "push").await;
    let asked = client.expect_required("expired").await;
    assert_eq!(asked["held"]["outbound"], 1);
    assert!(
        (59_000..=60_000).contains(&asked["deadline_ms"].as_u64().unwrap()),
        "{asked}"
    );
    client.expect_nothing().await;

    fixture.renew(&mut client, grant(1, 60, Policy::Reauthenticate)).await;
    fixture.expect_fetch().await;
    fixture.push(connection, 1, "newer").await;
    client.expect_nothing().await;
    fixture
        .release(connection, 1, &format!("{}.0", forwarded.message_id))
        .await;
    fixture.release(connection, 1, "push").await;
    fixture
        .command(connection, Command::Fetched { left: 0, fetch: 0 }, "")
        .await;
    assert_eq!(client.text().await, format!("{}.0", forwarded.message_id));
    assert_eq!(client.text().await, "push");
    assert_eq!(client.text().await, "newer");
    fixture.push(connection, 1, "and on").await;
    assert_eq!(client.text().await, "and on");
    fixture.expect_nothing_given_back().await;
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_after_the_end_though_the_machine_slept_through_it() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    let (mut closing, of_closing) = fixture.client_of(grant(2, 600, Policy::Close)).await;
    fixture.sleep(3_600);
    fixture.push(connection, 1, "push").await;
    fixture.expect_given_back(Bounced::Expired, "push").await;
    client.expect_required("expired").await;
    client.expect_nothing().await;
    fixture.push(of_closing, 2, "push").await;
    fixture.expect_given_back(Bounced::Expired, "push").await;
    closing.expect_error("auth_required").await;
    assert_eq!(closing.close_code().await, 4401);
}

#[tokio::test(start_paused = true)]
async fn a_new_expire_is_asked_about_again() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    pass(Duration::from_secs(10)).await;
    fixture.push(connection, 1, "a").await;
    client.expect_required("expired").await;
    fixture.renew(&mut client, grant(1, 30, Policy::Reauthenticate)).await;
    pass(Duration::from_secs(30)).await;
    fixture.push(connection, 1, "b").await;
    client.expect_required("expired").await;
}

#[tokio::test(start_paused = true)]
async fn where_expires_are_ignored_it_is_written_anyway() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 10, Policy::Ignore)).await;
    pass(Duration::from_secs(20)).await;
    fixture.push(connection, 1, "late").await;
    assert_eq!(client.text().await, "late");
}

#[tokio::test(start_paused = true)]
async fn where_expires_close_the_connection_goes_when_all_is_settled_and_what_comes_is_kept() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 10, Policy::Close)).await;
    client.send("forwarded").await;
    let (forwarded, _) = fixture.forwarded().await;
    pass(Duration::from_secs(10)).await;
    client.expect_nothing().await;
    fixture.push(connection, 1, "push").await;
    client.send("not forwarded any more").await;
    fixture.expect_no_request().await;
    fixture.answer(forwarded.message_id, reply(1), "answer").await;
    fixture.expect_given_back(Bounced::Expired, "push").await;
    fixture.expect_given_back(Bounced::Expired, "answer").await;
    client.expect_error("auth_required").await;
    client.expect_error("auth_required").await;
    assert_eq!(client.close_code().await, 4401);
    drop(client);
    let (closed, code) = fixture.closed().await;
    assert_eq!(code, Some(4401));
    assert!(closed.snapshot.grant.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_has_waited_for_the_identity_is_fetched_when_it_comes() {
    let mut fixture = Fixture::new().await;
    let waiting = Grant {
        waiting: 3,
        ..grant(1, 60, Policy::Close)
    };
    let (mut client, connection) = fixture.client_of(waiting).await;
    let (fetch, _) = fixture.undelivered().await;
    let Undelivered::Fetch(fetch) = fetch else {
        panic!("{fetch:?}")
    };
    assert_eq!((fetch.connection, fetch.identity), (connection, identity(1)));
    fixture
        .command(connection, Command::Fetched { left: 2, fetch: 0 }, "")
        .await;
    fixture.expect_fetch().await;
    fixture.command(connection, Command::Wake { from: None }, "").await;
    fixture
        .command(connection, Command::Fetched { left: 0, fetch: 0 }, "")
        .await;
    fixture.expect_fetch().await;
    fixture
        .command(connection, Command::Fetched { left: 0, fetch: 0 }, "")
        .await;
    fixture.push(connection, 1, "p").await;
    assert_eq!(client.text().await, "p");
    fixture.expect_nothing_given_back().await;
}

#[tokio::test(start_paused = true)]
async fn the_steady_state_fetches_nothing() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 60, Policy::Close)).await;
    fixture.push(connection, 1, "p").await;
    assert_eq!(client.text().await, "p");
    fixture.renew(&mut client, grant(1, 90, Policy::Close)).await;
    fixture.expect_nothing_given_back().await;
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_is_not_answered_is_asked_for_again() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    fixture.command(connection, Command::Wake { from: None }, "").await;
    fixture.expect_fetch().await;
    fixture.push(connection, 1, "behind").await;
    pass(Duration::from_secs(31)).await;
    fixture.expect_given_back(Bounced::Expired, "behind").await;
    fixture.expect_fetch().await;
    fixture.push(connection, 1, "newer").await;
    fixture.release(connection, 1, "behind").await;
    fixture
        .command(connection, Command::Fetched { left: 0, fetch: 0 }, "")
        .await;
    assert_eq!(client.text().await, "behind");
    assert_eq!(client.text().await, "newer");
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_out_gives_back_what_waited_behind_a_fetch() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection) = fixture.client_of(grant(1, 60, Policy::Reauthenticate)).await;
    fixture.command(connection, Command::Wake { from: None }, "").await;
    fixture.expect_fetch().await;
    fixture.push(connection, 1, "behind").await;
    client.send("auth.logout").await;
    let (forget, _) = fixture.forwarded().await;
    let forgotten = Reply {
        change: Some(Change::Forgotten),
        ..Reply::ONLY
    };
    fixture.answer(forget.message_id, forgotten, "out").await;
    fixture.expect_given_back(Bounced::Gone, "behind").await;
    assert_eq!(client.text().await, "out");
    client.expect_nothing().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_for_a_connection_that_is_gone_goes_back_if_somebody_else_may_have_it() {
    let mut fixture = Fixture::new().await;
    let gone = ConnectionId {
        terminator: fixture.id,
        number: 77,
    };
    fixture.push(gone, 1, "push").await;
    fixture.expect_given_back(Bounced::Gone, "push").await;
    let message_id = shared::wire::id::MessageId {
        connection: gone,
        sequence: shared::wire::id::Sequence::FIRST,
    };
    fixture.answer(message_id, reply(1), "answer").await;
    fixture.expect_given_back(Bounced::Gone, "answer").await;
    fixture
        .answer(message_id, Reply::ONLY, "an error, for whoever asked")
        .await;
    fixture.command(gone, Command::Fetched { left: 0, fetch: 0 }, "").await;
    fixture.expect_nothing_given_back().await;
    fixture.command(gone, Command::Wake { from: None }, "").await;
    let (wake, _) = fixture.undelivered().await;
    assert!(matches!(
        original(wake),
        Return::Command(_, Command::Wake { from: None })
    ));
    assert!(fixture.is_all_settled().await);
}

/// A client that has not read the end of this push, its connection, and the push.
async fn blocked(fixture: &mut Fixture) -> (Client, ConnectionId, String) {
    let client = fixture.client_with(512).await;
    let (client, connection) = fixture
        .authenticate(client, grant(1, 600, Policy::Reauthenticate))
        .await;
    let large = "x".repeat(2_000);
    fixture.push(connection, 1, &large).await;
    (client, connection, large)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_gives_back_what_it_has_not_read() {
    let mut fixture = Fixture::new().await;
    let (client, connection, large) = blocked(&mut fixture).await;
    fixture.push(connection, 1, "second").await;
    drop(client);
    fixture.expect_given_back(Bounced::Gone, &large).await;
    fixture.expect_given_back(Bounced::Gone, "second").await;
    assert!(fixture.is_all_settled().await);
}

/// A push of which its producer wants to know what becomes of it.
pub(super) fn wanted(key: &str) -> Command {
    Command::Write(Write {
        producer: Some(Producer {
            reply_to: "outcomes".to_owned(),
            correlation_id: None,
            subject: None,
            key: 7,
        }),
        ..write(1, key, false)
    })
}

#[tokio::test(start_paused = true)]
async fn a_push_that_comes_twice_is_told_as_written_when_it_is() {
    let mut fixture = Fixture::new().await;
    let (mut client, connection, large) = blocked(&mut fixture).await;
    fixture.command(connection, wanted("a"), "once").await;
    fixture.command(connection, wanted("a"), "once").await;
    fixture.expect_nothing_given_back().await;
    assert_eq!(client.text().await, large);
    assert_eq!(client.text().await, "once");
    for _ in 0..2 {
        let (told, _) = fixture.undelivered().await;
        assert!(matches!(told, Undelivered::Written(_)), "{told:?}");
    }
    client.expect_nothing().await;
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_comes_twice_to_whoever_leaves_before_it_is_written_is_given_back() {
    let mut fixture = Fixture::new().await;
    let (client, connection, large) = blocked(&mut fixture).await;
    fixture.command(connection, wanted("a"), "once").await;
    fixture.command(connection, wanted("a"), "once").await;
    drop(client);
    for text in [&large, "once", "once"] {
        fixture.expect_given_back(Bounced::Gone, text).await;
    }
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_blocked_when_its_grant_ends_is_cut() {
    let mut fixture = Fixture::new().await;
    let client = fixture.client_with(512).await;
    let (client, connection) = fixture.authenticate(client, grant(1, 10, Policy::Reauthenticate)).await;
    pass(Duration::from_secs(9)).await;
    let large = "x".repeat(20_000);
    fixture.push(connection, 1, &large).await;
    pass(Duration::from_millis(1_300)).await;
    let seen = client.rest().await;
    assert!(seen <= 512, "{seen} bytes came, of which 512 had been taken before");
    fixture.expect_given_back(Bounced::Expired, &large).await;
    let (_, code) = fixture.closed().await;
    assert_eq!(code, Some(4401));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_blocked_while_the_machine_slept_is_not_gone_on_with() {
    let mut fixture = Fixture::new().await;
    let client = fixture.client_with(512).await;
    let (client, connection) = fixture.authenticate(client, grant(1, 60, Policy::Reauthenticate)).await;
    let large = "x".repeat(20_000);
    fixture.push(connection, 1, &large).await;
    fixture.sleep(3_600);
    // Its client reads on at once.
    let seen = client.rest().await;
    assert!(seen <= 512, "{seen} bytes came, of which 512 had been taken before");
    fixture.expect_given_back(Bounced::Expired, &large).await;
}

#[tokio::test(start_paused = true)]
async fn a_log_out_gives_no_more_time_to_a_socket_that_is_blocked() {
    let mut fixture = Fixture::new().await;
    let client = fixture.client_with(512).await;
    let (mut client, connection) = fixture.authenticate(client, grant(1, 10, Policy::Reauthenticate)).await;
    client.send("auth.logout").await;
    let (forget, _) = fixture.forwarded().await;
    let large = "x".repeat(20_000);
    fixture.push(connection, 1, &large).await;
    let forgotten = Reply {
        change: Some(Change::Forgotten),
        ..Reply::ONLY
    };
    fixture.answer(forget.message_id, forgotten, "").await;
    pass(Duration::from_millis(10_300)).await;
    let seen = client.rest().await;
    assert!(seen <= 512, "{seen} bytes came, of which 512 had been taken before");
    fixture.expect_given_back(Bounced::Expired, &large).await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_is_blocked_is_not_cut_if_its_grant_is_renewed_meanwhile() {
    let mut fixture = Fixture::new().await;
    let client = fixture.client_with(512).await;
    let (mut client, connection) = fixture.authenticate(client, grant(1, 10, Policy::Reauthenticate)).await;
    client.send("a fresh token").await;
    let (forwarded, _) = fixture.forwarded().await;
    pass(Duration::from_secs(9)).await;
    let large = "x".repeat(20_000);
    fixture.push(connection, 1, &large).await;
    fixture
        .answer(
            forwarded.message_id,
            live(grant(1, 60, Policy::Reauthenticate)),
            "renewed",
        )
        .await;
    pass(Duration::from_secs(2)).await;
    assert_eq!(client.text().await, large);
    assert_eq!(client.text().await, "renewed");
}

#[tokio::test(start_paused = true)]
async fn whoever_reads_too_slowly_is_closed_and_what_it_has_not_read_is_kept() {
    let mut fixture = Fixture::with(&[("send-queue-bytes", "4KiB")]).await;
    let client = fixture.client_with(512).await;
    let (_client, connection) = fixture
        .authenticate(client, grant(1, 600, Policy::Reauthenticate))
        .await;
    let texts: Vec<_> = (0..4).map(|number| format!("{number}{}", "x".repeat(1_500))).collect();
    for text in &texts {
        fixture.push(connection, 1, text).await;
    }
    fixture.push(connection, 1, &"y".repeat(4_000)).await;
    let (_, code) = fixture.closed().await;
    assert_eq!(code, Some(4410));
    for text in &texts {
        fixture.expect_given_back(Bounced::Gone, text).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_closed_for_not_reading_at_once_what_comes_out_of_a_hold() {
    let mut fixture = Fixture::with(&[("send-queue-bytes", "4KiB")]).await;
    let client = fixture.client_with(512).await;
    let waiting = Grant {
        waiting: 6,
        ..grant(1, 600, Policy::Reauthenticate)
    };
    let (mut client, connection) = fixture.authenticate(client, waiting).await;
    fixture.expect_fetch().await;
    let texts: Vec<_> = (0..6).map(|number| format!("{number}{}", "x".repeat(1_500))).collect();
    let mut held = texts.clone();
    let mut came = Vec::new();
    // A worker's part: it sends all that it holds, and puts away what comes back.
    while came.len() < texts.len() {
        for text in std::mem::take(&mut held) {
            fixture.release(connection, 1, &text).await;
        }
        fixture
            .command(connection, Command::Fetched { left: 0, fetch: 0 }, "")
            .await;
        came.push(client.text().await);
        if came.len() == texts.len() {
            break;
        }
        while let Some(undelivered) = fixture.undelivered_at_once().await {
            match undelivered {
                (Undelivered::Bounced(Bounced::Expired, _), text) => held.push(text),
                (Undelivered::Fetch(_), _) => break,
                (other, _) => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(came, texts);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_written_before_the_end_is_not_held_for_others_when_it_comes_again() {
    let mut fixture = Fixture::new().await;
    let (mut client, _) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    client.send("answered").await;
    client.send("open").await;
    let (answered, _) = fixture.forwarded().await;
    let (open, _) = fixture.forwarded().await;
    fixture.answer(answered.message_id, reply(1), "answer").await;
    assert_eq!(client.text().await, "answer");
    drop(client);
    fixture.closed().await;
    fixture.answer(answered.message_id, reply(1), "answer").await;
    fixture.answer(open.message_id, reply(1), "too late").await;
    fixture.answer(open.message_id, reply(1), "too late").await;
    fixture.expect_given_back(Bounced::Gone, "too late").await;
    fixture.expect_nothing_given_back().await;
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn of_all_who_read_nothing_those_give_way_for_whom_most_is_kept() {
    let settings = [("send-queue-bytes", "64MiB"), ("send-queue-bytes-total", "1MiB")];
    let mut fixture = Fixture::with(&settings).await;
    let mut slow = Vec::new();
    for texts in [1, 8] {
        let client = fixture.client_with(512).await;
        let (client, connection) = fixture.authenticate(client, grant(1, 600, Policy::Ignore)).await;
        slow.push((client, connection));
        for number in 0..texts {
            fixture
                .push(connection, 1, &format!("{number}{}", "x".repeat(100_000)))
                .await;
        }
    }
    let (closed, code) = fixture.closed().await;
    assert_eq!((closed.message_id.connection, code), (slow[1].1, Some(4410)));
    fixture.expect_no_request().await;
}
