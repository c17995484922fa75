//! What comes for several connections in one message.

use std::time::Duration;

use bytes::Bytes;
use shared::wire::envelope::{Bounced, Command, Return, Spread};
use shared::wire::grant::Policy;
use shared::wire::id::ConnectionId;

use super::fixture::*;

fn to_all(of: u8, text: &'static str, connections: &[ConnectionId]) -> shared::bus::Message {
    let spread = Spread {
        terminator: connections[0].terminator,
        numbers: connections.iter().map(|connection| connection.number).collect(),
        write: write(of, text, false),
        text: Bytes::from_static(text.as_bytes()),
    };
    spread.to_message()
}

#[tokio::test(start_paused = true)]
async fn what_is_for_several_is_written_to_each_once_and_what_cannot_be_is_given_back_for_that_one() {
    let mut fixture = Fixture::new().await;
    let (mut first, of_first) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    let (mut expired, of_expired) = fixture.client_of(grant(1, 10, Policy::Reauthenticate)).await;
    let (mut stranger, of_stranger) = fixture.client_of(grant(2, 600, Policy::Reauthenticate)).await;
    let (mut last, of_last) = fixture.client_of(grant(1, 600, Policy::Reauthenticate)).await;
    let gone = ConnectionId { number: 99, ..of_first };
    pass(Duration::from_secs(10)).await;
    let message = to_all(1, "p", &[of_first, of_expired, of_stranger, gone, of_last]);
    fixture.give(message.clone()).await;
    for client in [&mut first, &mut last] {
        assert_eq!(client.text().await, "p");
    }
    let mut back = Vec::new();
    for _ in 0..3 {
        let (undelivered, text) = fixture.undelivered().await;
        assert_eq!(text, "p");
        match undelivered {
            shared::wire::envelope::undelivered::Undelivered::Bounced(
                why,
                Return::Command(connection, Command::Write(one)),
            ) => {
                assert_eq!(one, write(1, "p", false));
                back.push((connection.number, why));
            }
            other => panic!("{other:?}"),
        }
    }
    back.sort_unstable_by_key(|(number, _)| *number);
    let expected = [
        (of_expired.number, Bounced::Expired),
        (of_stranger.number, Bounced::Gone),
        (gone.number, Bounced::Gone),
    ];
    assert_eq!(back, expected);
    expired.expect_required("expired").await;
    assert!(fixture.is_all_settled().await);

    fixture.give(message).await;
    for _ in 0..3 {
        fixture.undelivered().await;
    }
    for client in [&mut first, &mut last, &mut stranger, &mut expired] {
        client.expect_nothing().await;
    }
    assert!(fixture.is_all_settled().await);
}

#[tokio::test(start_paused = true)]
async fn what_is_for_several_is_acknowledged_when_the_last_of_them_has_it() {
    let mut fixture = Fixture::new().await;
    let (mut quick, of_quick) = fixture.client_of(grant(1, 600, Policy::Close)).await;
    let slow = fixture.client_with(64).await;
    let (slow, of_slow) = fixture.authenticate(slow, grant(1, 600, Policy::Close)).await;
    let text: &'static str = Box::leak("x".repeat(1_000).into_boxed_str());
    fixture.give(to_all(1, text, &[of_quick, of_slow])).await;
    assert_eq!(quick.text().await, text);
    assert!(!fixture.is_all_settled().await, "the other has not read it");
    drop(slow);
    assert!(fixture.is_all_settled().await, "it is the workers' again");
    fixture.expect_given_back(Bounced::Gone, text).await;
}
