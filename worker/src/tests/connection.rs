//! A connection as its terminator keeps it: it message ids what it has been told, and forgets nothing of it.

use bytes::Bytes;
use serde_json::{Value as Json, json};
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{AuthSnapshot, Change, Command, MessageKind, Release, Reply, Return, Verdict};
use shared::wire::grant::Grant;
use shared::wire::id::{ConnectionId, MessageId, Sequence};
use shared::wire::tag::ResumeSecret;

use super::fixture::{Fixture, json_of, token_for};

/// One connection of the bench's terminator.
pub(super) struct Conn {
    pub(super) id: ConnectionId,
    sequence: u64,
    pub(super) snapshot: AuthSnapshot,
}

/// What a worker answered to one message.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) message_id: MessageId,
    pub(super) answer: Reply,
    pub(super) body: Json,
}

impl Said {
    /// The code of its error; `null` if it is none.
    pub(super) fn code(&self) -> &Json {
        &self.body["error"]["code"]
    }

    pub(super) fn close(&self) -> Option<u16> {
        self.answer.close.map(shared::wire::protocol::CloseCode::code)
    }

    pub(super) fn is_held(&self) -> bool {
        matches!(self.answer.verdict, Verdict::Held { .. })
    }

    pub(super) fn grant(&self) -> &Grant {
        match &self.answer.change {
            Some(Change::Live { grant, .. }) => grant,
            other => panic!("it grants nothing: {other:?}"),
        }
    }
}

impl Conn {
    pub(super) fn new(fixture: &Fixture, number: u64) -> Self {
        Self {
            id: fixture.connection(number),
            sequence: 0,
            snapshot: stranger(),
        }
    }

    /// The message id of the next message.
    pub(super) fn message_id(&mut self) -> MessageId {
        self.sequence += 1;
        MessageId {
            connection: self.id,
            sequence: Sequence::new(self.sequence),
        }
    }

    /// Takes note of an answer, as a terminator does.
    pub(super) fn hear(&mut self, message_id: MessageId, answer: &Reply) {
        hear(&mut self.snapshot, message_id, answer);
    }
}

/// A connection that nothing is known of.
pub(super) fn stranger() -> AuthSnapshot {
    AuthSnapshot {
        resume: Some(ResumeSecret::random()),
        ..AuthSnapshot::default()
    }
}

/// Takes note of an answer, as a terminator does.
pub(super) fn hear(snapshot: &mut AuthSnapshot, message_id: MessageId, answer: &Reply) {
    snapshot.held |= matches!(answer.verdict, Verdict::Held { .. });
    if snapshot.by.is_some_and(|by| by >= message_id.sequence) {
        return;
    }
    match &answer.change {
        None => return,
        Some(Change::Live { grant, principal }) => {
            let known = Grant {
                waiting: 0,
                resumes: None,
                ..grant.clone()
            };
            snapshot.grant = Some(known.to_facts().into());
            snapshot.principal = Some(principal.as_str().into());
            snapshot.resume = None;
        }
        Some(Change::Forgotten) => {
            *snapshot = stranger();
        }
    }
    snapshot.by = Some(message_id.sequence);
}

impl Fixture {
    /// Sends a message on a connection, and waits for its one answer.
    pub(super) async fn say(&mut self, conn: &mut Conn, body: impl Into<Bytes>) -> Said {
        let snapshot = conn.snapshot.clone();
        self.say_snapshot(conn, snapshot, body).await
    }

    /// The same, the terminator saying something else of the connection.
    pub(super) async fn say_snapshot(
        &mut self,
        conn: &mut Conn,
        snapshot: AuthSnapshot,
        body: impl Into<Bytes>,
    ) -> Said {
        let message_id = conn.message_id();
        self.ask_at(conn, message_id, MessageKind::Message, snapshot, body.into())
            .await
    }

    /// Asks under a message id that may have been used already.
    pub(super) async fn ask_at(
        &mut self,
        conn: &mut Conn,
        message_id: MessageId,
        notice: MessageKind,
        snapshot: AuthSnapshot,
        body: Bytes,
    ) -> Said {
        self.forwarded(message_id, notice, snapshot, body).await;
        let said = self.said().await;
        assert_eq!(said.message_id, message_id);
        conn.hear(message_id, &said.answer);
        said
    }

    /// The next answer.
    pub(super) async fn said(&mut self) -> Said {
        let mut message = self.returned().await;
        if let Some(Return::Command(connection, Command::Replaced)) = Return::read(&message) {
            self.replaced.push(connection);
            message = self.returned().await;
        }
        match Return::read(&message) {
            Some(Return::Reply(message_id, answer)) => Said {
                message_id,
                answer,
                body: json_of(&message.body),
            },
            other => panic!("it is no answer: {other:?}"),
        }
    }

    /// The next command, which is to write something.
    pub(super) async fn command_to_write(&mut self) -> (ConnectionId, Write, Json) {
        match self.command().await {
            (connection, Command::Write(write), body) => (connection, write, body),
            other => panic!("it is nothing to write: {other:?}"),
        }
    }

    /// Asks for what is held, of this connection or of another. What comes of it comes before its settlement.
    pub(super) async fn release(&mut self, conn: &mut Conn, from: Option<ConnectionId>) -> MessageId {
        let message_id = conn.message_id();
        let snapshot = AuthSnapshot {
            held: false,
            ..conn.snapshot.clone()
        };
        self.forwarded(message_id, MessageKind::Release { from }, snapshot, Bytes::new())
            .await;
        message_id
    }

    /// The same, when nothing comes of it: how many are left.
    pub(super) async fn release_of_nothing(&mut self, conn: &mut Conn, from: Option<ConnectionId>) -> u64 {
        let message_id = self.release(conn, from).await;
        self.settled(message_id).await
    }

    /// How many a release has left.
    pub(super) async fn settled(&mut self, release: MessageId) -> u64 {
        self.came_to(release).await.0
    }

    /// How many a release has left, and what it says of each; none if it did not come to an end.
    pub(super) async fn came_to(&mut self, release: MessageId) -> (u64, Option<Release>) {
        let said = self.said().await;
        assert_eq!(said.message_id, release);
        (said.answer.left, serde_json::from_value(said.body).ok())
    }
}

/// `auth.authenticate` with a good token.
pub(super) fn authenticate(subject: &str, expires_in: i64) -> String {
    json!({"id": "a", "type": "auth.authenticate", "token": token_for(subject, expires_in)}).to_string()
}

/// An ordinary message without a token.
pub(super) fn bare(id: &str) -> String {
    json!({"id": id, "type": "echo", "payload": id}).to_string()
}

/// An ordinary message with a token.
pub(super) fn with_token(id: &str, subject: &str, expires_in: i64) -> String {
    json!({"id": id, "type": "echo", "token": token_for(subject, expires_in), "payload": id}).to_string()
}
