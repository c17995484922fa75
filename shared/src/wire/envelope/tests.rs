use bytes::Bytes;

use super::command::{Producer, Write};
use super::undelivered::Undelivered;
use super::*;
use crate::service::clock::Timestamp;
use crate::wire::grant::{Grant, Policy};
use crate::wire::id::{Sequence, TerminatorId};
use crate::wire::protocol::{CloseCode, Reason};
use crate::wire::revocation::Target;
use crate::wire::tag::{IdentityTag, ResumeSecret, TokenTag};

fn message_id() -> MessageId {
    MessageId {
        connection: connection(7),
        sequence: Sequence::new(41),
    }
}

fn connection(number: u64) -> ConnectionId {
    ConnectionId {
        terminator: TerminatorId::random(),
        number,
    }
}

fn alice() -> IdentityTag {
    IdentityTag::of(&[1; 32])
}

fn grant() -> Grant {
    Grant {
        identity: alice(),
        until: Timestamp::from_secs(9),
        refresh_at: Timestamp::from_secs(8),
        token: TokenTag::of(&[2; 32]),
        token_id: None,
        session: None,
        issued_at: None,
        proof: None,
        on_expired_push: Policy::Close,
        hold_ms: 1,
        waiting: 3,
        resumes: Some(connection(1)),
    }
}

#[test]
fn a_request_reads_back_with_all_that_stands_around_it() {
    let bare = AuthSnapshot {
        resume: Some(ResumeSecret::random()),
        ..AuthSnapshot::default()
    };
    let full = AuthSnapshot {
        by: Some(Sequence::new(3)),
        grant: Some(grant().to_facts().into()),
        principal: Some("{}".into()),
        resume: None,
        unsettled: true,
        held: true,
        ordered: true,
        ahead: true,
        again: true,
        unsure: true,
    };
    for notice in [
        MessageKind::Message,
        MessageKind::Closed { code: None },
        MessageKind::Closed { code: Some(4401) },
        MessageKind::Release { from: None },
        MessageKind::Release {
            from: Some(connection(2)),
        },
    ] {
        for snapshot in [&bare, &full] {
            let forwarded = ForwardedMessage {
                message_id: message_id(),
                notice,
                snapshot: snapshot.clone(),
            };
            let message = forwarded.to_message(Bytes::new(), "q", Timestamp::from_secs(5));
            assert_eq!(ForwardedMessage::read(&message.properties), Some(forwarded));
        }
    }
}

#[test]
fn a_receipt_is_known_to_the_millisecond_or_else_to_the_end_of_its_second() {
    let forwarded = ForwardedMessage {
        message_id: message_id(),
        notice: MessageKind::Message,
        snapshot: AuthSnapshot::default(),
    };
    let received = Timestamp::from_millis(5_250);
    let mut properties = forwarded.to_message(Bytes::new(), "q", received).properties;
    assert_eq!(ForwardedMessage::received(&properties), Some(received));
    properties.headers.clear();
    assert_eq!(ForwardedMessage::received(&properties), Some(Timestamp::from_secs(6)));
    properties.timestamp_s = None;
    assert_eq!(ForwardedMessage::received(&properties), None);
}

#[test]
fn an_answer_reads_back_with_its_place_and_what_it_changes() {
    let held = Verdict::Held {
        reason: Reason::Expired,
        hold_ms: 300_000,
    };
    for answer in [
        Reply::ONLY,
        Reply {
            part: Part { index: 3, more: true },
            identity: Some(alice()),
            change: Some(Change::Live {
                grant: grant(),
                principal: "{\"claims\":{}}".into(),
            }),
            ..Reply::ONLY
        },
        Reply {
            verdict: held,
            second: true,
            ..Reply::ONLY
        },
        Reply {
            verdict: Verdict::Again,
            ..Reply::ONLY
        },
        Reply {
            change: Some(Change::Forgotten),
            close: Some(CloseCode::IdentityMismatch),
            left: 5,
            ..Reply::ONLY
        },
    ] {
        let asked = message_id();
        let message = answer.to_message(Some(asked.to_string()), Bytes::from_static(b"{}"));
        assert_eq!(Return::read(&message), Some(Return::Reply(asked, answer)));
    }
}

#[test]
fn an_only_answer_needs_no_header() {
    let message = Reply::ONLY.to_message(None, Bytes::new());
    assert!(message.properties.headers.is_empty());
}

#[test]
fn a_command_reads_back_and_so_does_what_is_given_back() {
    let write = Write {
        key: "p1".into(),
        identity: Some(alice()),
        producer: Some(Producer {
            reply_to: "q".into(),
            correlation_id: Some("c".into()),
            subject: Some("alice".into()),
            key: 5,
        }),
        connections: 0,
        alone: true,
        asked_by: Some(connection(9)),
        released: true,
        fetched: true,
        since: Timestamp::from_secs(4),
        until: None,
    };
    for command in [
        Command::Write(write.clone()),
        Command::Write(Write {
            producer: None,
            identity: None,
            connections: 0,
            alone: false,
            asked_by: None,
            released: false,
            fetched: false,
            ..write
        }),
        Command::Fetched { left: 0, fetch: 0 },
        Command::Wake { from: None },
        Command::OverLimit { identity: alice() },
        Command::Check { identity: alice() },
        Command::Wake {
            from: Some(connection(3)),
        },
    ] {
        let connection = connection(1);
        let message = command.to_message(connection, Bytes::new());
        let original = Return::Command(connection, command);
        assert_eq!(Return::read(&message), Some(original.clone()));
        for why in [Bounced::Expired, Bounced::Gone] {
            let given_back = Undelivered::read(&why.to_message(message.clone()));
            assert_eq!(given_back, Some(Undelivered::Bounced(why, original.clone())));
        }
        let dead_lettered = Undelivered::read(&message);
        assert_eq!(dead_lettered, Some(Undelivered::Bounced(Bounced::Gone, original)));
    }
}

#[test]
fn a_fetch_and_a_revocation_read_back() {
    let fetch = Fetch {
        connection: connection(1),
        identity: alice(),
        number: 3,
    };
    assert_eq!(Undelivered::read(&fetch.to_message()), Some(Undelivered::Fetch(fetch)));
    let revocation = Revocation {
        target: Target::Identity(alice()),
        issued_before: Timestamp::from_secs(1),
        effective: Timestamp::from_secs(2),
        until: Timestamp::from_secs(3),
    };
    assert_eq!(
        Return::read(&revoked(&[revocation])),
        Some(Return::Revoked(vec![revocation]))
    );
    let began = Epoch { epoch: u64::MAX };
    assert_eq!(Return::read(&epoch(began)), Some(Return::Epoch(began)));
}

#[test]
fn what_is_not_of_the_shape_is_not_read() {
    let mut message = Reply::ONLY.to_message(Some(message_id().to_string()), Bytes::new());
    message
        .properties
        .headers
        .push(("index".to_owned(), Value::Integer(-1)));
    assert_eq!(Return::read(&message), None);
    assert_eq!(ForwardedMessage::read(&Properties::default()), None);
    for kind in ["write", "revoked", "something else"] {
        let mut message = Reply::ONLY.to_message(Some(message_id().connection.to_string()), Bytes::new());
        message.properties.kind = Some(kind.to_owned());
        assert_eq!(Return::read(&message), None, "{kind}");
    }
}
