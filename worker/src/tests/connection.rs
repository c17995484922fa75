//! A connection as its terminator keeps it: it stamps what it has been told, and forgets nothing of it.

use bytes::Bytes;
use serde_json::{Value as Json, json};
use shared::wire::envelope::command::Write;
use shared::wire::envelope::{Change, Command, MessageKind, Release, Reply, Return, Standing, Verdict};
use shared::wire::grant::Grant;
use shared::wire::id::{ConnectionId, MessageId, Sequence};
use shared::wire::tag::ResumeSecret;

use super::fixture::{Fixture, json_of, token_for};

/// One connection of the bench's terminator.
pub(super) struct Conn {
    pub(super) id: ConnectionId,
    sequence: u64,
    pub(super) standing: Standing,
}

/// What a worker answered to one message.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) stamp: MessageId,
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
            standing: stranger(),
        }
    }

    /// The stamp of the next message.
    pub(super) fn stamp(&mut self) -> MessageId {
        self.sequence += 1;
        MessageId {
            connection: self.id,
            sequence: Sequence::new(self.sequence),
        }
    }

    /// Takes note of an answer, as a terminator does.
    pub(super) fn hear(&mut self, stamp: MessageId, answer: &Reply) {
        hear(&mut self.standing, stamp, answer);
    }
}

/// A connection that nothing is known of.
pub(super) fn stranger() -> Standing {
    Standing {
        resume: Some(ResumeSecret::random()),
        ..Standing::default()
    }
}

/// Takes note of an answer, as a terminator does.
pub(super) fn hear(standing: &mut Standing, stamp: MessageId, answer: &Reply) {
    standing.held |= matches!(answer.verdict, Verdict::Held { .. });
    if standing.by.is_some_and(|by| by >= stamp.sequence) {
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
            standing.grant = Some(known.to_facts().into());
            standing.principal = Some(principal.as_str().into());
            standing.resume = None;
        }
        Some(Change::Forgotten) => {
            *standing = stranger();
        }
    }
    standing.by = Some(stamp.sequence);
}

impl Fixture {
    /// Sends a message on a connection, and waits for its one answer.
    pub(super) async fn say(&mut self, conn: &mut Conn, body: impl Into<Bytes>) -> Said {
        let standing = conn.standing.clone();
        self.say_standing(conn, standing, body).await
    }

    /// The same, the terminator saying something else of the connection.
    pub(super) async fn say_standing(&mut self, conn: &mut Conn, standing: Standing, body: impl Into<Bytes>) -> Said {
        let stamp = conn.stamp();
        self.ask_at(conn, stamp, MessageKind::Message, standing, body.into())
            .await
    }

    /// Asks under a stamp that may have been used already.
    pub(super) async fn ask_at(
        &mut self,
        conn: &mut Conn,
        stamp: MessageId,
        notice: MessageKind,
        standing: Standing,
        body: Bytes,
    ) -> Said {
        self.question(stamp, notice, standing, body).await;
        let said = self.said().await;
        assert_eq!(said.stamp, stamp);
        conn.hear(stamp, &said.answer);
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
            Some(Return::Reply(stamp, answer)) => Said {
                stamp,
                answer,
                body: json_of(&message.body),
            },
            other => panic!("it is no answer: {other:?}"),
        }
    }

    /// The next errand, which is to write something.
    pub(super) async fn errand_to_write(&mut self) -> (ConnectionId, Write, Json) {
        match self.errand().await {
            (connection, Command::Write(write), body) => (connection, write, body),
            other => panic!("it is nothing to write: {other:?}"),
        }
    }

    /// Asks for what is held, of this connection or of another. What comes of it comes before its settlement.
    pub(super) async fn release(&mut self, conn: &mut Conn, from: Option<ConnectionId>) -> MessageId {
        let stamp = conn.stamp();
        let standing = Standing {
            held: false,
            ..conn.standing.clone()
        };
        self.question(stamp, MessageKind::Release { from }, standing, Bytes::new())
            .await;
        stamp
    }

    /// The same, when nothing comes of it: how many are left.
    pub(super) async fn release_of_nothing(&mut self, conn: &mut Conn, from: Option<ConnectionId>) -> u64 {
        let stamp = self.release(conn, from).await;
        self.settled(stamp).await
    }

    /// How many a release has left.
    pub(super) async fn settled(&mut self, release: MessageId) -> u64 {
        self.came_to(release).await.0
    }

    /// How many a release has left, and what it says of each; nothing if it did not come to an end.
    pub(super) async fn came_to(&mut self, release: MessageId) -> (u64, Option<Release>) {
        let said = self.said().await;
        assert_eq!(said.stamp, release);
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
