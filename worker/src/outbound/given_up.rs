//! What will never be written, and who is told.
//!
//! A push has a producer, who learns its outcome. An answer has a client, whose
//! connection learns it by the answer's `id`, anyone who may read that: there is nothing
//! else in it.

use bytes::Bytes;
use serde::Deserialize;
use shared::bus::Delivery;
use shared::wire::envelope::Command;
use shared::wire::id::MessageId;
use shared::wire::protocol::{ErrorBody, ErrorCode, ServerMessage};
use shared::wire::request_id::RequestId;

use super::metrics::{GaveUp, HeldKind};
use super::outcome::Outcome;
use super::{Outbound, OutboundError, confirmed, write};
use crate::admin::event::{Event, Redacted};
use crate::store::{HeldWrite, Mailbox};

/// What the producer of a push is told that does not fit into the hold.
pub(super) fn overflow() -> Outcome {
    Outcome::Refused {
        error: error(GaveUp::Overflow),
    }
}

fn error(why: GaveUp) -> ErrorBody {
    match why {
        // Anyone who it is for may have done all that was asked of it, and there is room again when the rest is written.
        GaveUp::Overflow => ErrorBody::new(ErrorCode::HoldOverflow, why.sentence()).for_now(),
        GaveUp::Expired => ErrorBody::new(ErrorCode::HoldExpired, why.sentence()),
    }
}

impl Outbound {
    /// Tells anyone who can do something about it. What is in `delivery` and has no one goes to the dead letters, unless its
    /// time was over.
    pub(super) async fn give_up(
        &self,
        held: &HeldWrite,
        mailbox: Mailbox,
        why: GaveUp,
        delivery: Option<&Delivery>,
    ) -> Result<(), OutboundError> {
        let kind = HeldKind::from(mailbox);
        self.note_given_up(held, mailbox, why).await;
        if kind == HeldKind::Reply {
            return self.refuse_answer(held, why).await;
        }
        let outcome = match why {
            GaveUp::Overflow => overflow(),
            GaveUp::Expired => Outcome::Expired,
        };
        match (&held.producer, delivery, why) {
            (Some(producer), _, _) => {
                let again = delivery.is_some_and(Delivery::is_redelivered);
                match mailbox {
                    Mailbox::Pushes(identity) => self.conclude(identity, producer, &outcome, again).await,
                    Mailbox::Answers(_) => self.outcomes_publisher.tell(producer, &outcome).await?,
                    // Others of its identity have it, or it is held for them: its producer is told what becomes of that.
                    Mailbox::Missed(_) => {}
                }
            }
            (None, Some(delivery), GaveUp::Overflow) if kind == HeldKind::Push => {
                let queue = self.names.undelivered().name;
                let code = ErrorCode::HoldOverflow;
                self.dead_letters.dead_letter_unheard(delivery, code, queue).await?;
            }
            (None, _, _) => {}
        }
        Ok(())
    }

    /// Something will not be written any more, or was never held.
    pub(super) async fn note_given_up(&self, write: &HeldWrite, mailbox: Mailbox, why: GaveUp) {
        let key = Redacted(&write.key);
        self.note_write(write, Event::GivenUp { key, mailbox, why }).await;
    }

    async fn refuse_answer(&self, held: &HeldWrite, why: GaveUp) -> Result<(), OutboundError> {
        let Some(message_id) = message_id(&held.key) else {
            return Ok(());
        };
        let (id, error) = (id(&held.body), error(why));
        let body = ServerMessage::error(id, &error).to_json();
        let refusal = HeldWrite {
            // If it was written after all, nothing more is told of it.
            key: held.key.clone(),
            body: String::new(),
            asker: None,
            producer: None,
            since: self.clock.now(),
            until: None,
        };
        let sent = self
            .submit(
                message_id.connection,
                &Command::Write(write(&refusal, None)),
                Bytes::from(body),
            )
            .await;
        // If its terminator is gone, so is its client.
        confirmed(sent).await?;
        Ok(())
    }
}

/// The request that something of the key `<message_id>.<index>` answers.
pub(super) fn message_id(key: &str) -> Option<MessageId> {
    key.rsplit_once('.')?.0.parse().ok()
}

/// The `id` of the message that an answer answers.
pub(super) fn id(body: &str) -> Option<RequestId<'static>> {
    #[derive(Deserialize)]
    struct Named {
        id: Option<RequestId<'static>>,
    }
    serde_json::from_str::<Named>(body).ok()?.id
}

#[cfg(test)]
mod tests {
    use shared::wire::id::{ConnectionId, Sequence, TerminatorId};

    use super::*;

    #[test]
    fn an_answer_s_key_tells_its_request_and_its_body_the_client_s_name_for_it() {
        let asked = MessageId {
            connection: ConnectionId {
                terminator: TerminatorId::random(),
                number: 0x1f,
            },
            sequence: Sequence::new(7),
        };
        assert_eq!(message_id(&format!("{asked}.0")), Some(asked));
        assert_eq!(message_id("p:whatever"), None);
        assert_eq!(
            id(r#"{"type":"reply","id":"a\"b","payload":1}"#),
            Some(RequestId::text("a\"b"))
        );
        assert_eq!(id(r#"{"id":7}"#), RequestId::integer("7").ok());
        assert_eq!(id(r#"{"type":"reply"}"#), None);
    }
}
