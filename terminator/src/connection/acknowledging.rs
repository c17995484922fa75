//! A client's acknowledgements of pushes, which go no further than here: they wait for no one, and cost no broker anything.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::to_raw_value;
use shared::wire::protocol::push_ack::{NotAPushAck, PushAck};
use shared::wire::protocol::{ServerKind, ServerMessage};

use super::Connection;
use crate::session::acknowledging::Acknowledged;

/// What the client is told of it, if it has given it an `id`.
#[derive(Serialize)]
struct Told {
    /// How many of the pushes waited for that.
    acknowledged: usize,
    /// How many did not: they were acknowledged before, or are none of this connection's.
    unknown: usize,
}

impl Connection {
    /// Takes note of what a client has got. Tells whether the text says that, or is another message.
    pub(super) fn acknowledge(&mut self, text: &Bytes) -> bool {
        let ack = match PushAck::read(text) {
            Ok(ack) => ack,
            Err(NotAPushAck::Another) => return false,
            Err(NotAPushAck::Malformed(id, error)) => {
                self.entry.peer.tell(ServerMessage::error(id, &error).to_json().into());
                return true;
            }
        };
        let Acknowledged { done, known, unknown } = self.entry.peer.notify(|session, _| session.acknowledge(&ack));
        self.forwarder.metrics.pushes_acknowledged.increment(known as u64);
        self.forwarder
            .metrics
            .acknowledgements_unknown
            .increment(unknown as u64);
        self.conclude(done);
        if let Some(id) = ack.id {
            let told = Told {
                acknowledged: known,
                unknown,
            };
            // Two numbers can be written.
            let payload = to_raw_value(&told).ok();
            let reply = ServerMessage {
                kind: ServerKind::Reply,
                id: Some(id),
                payload: payload.as_deref(),
                error: None,
                auth: None,
            };
            self.entry.peer.tell(reply.to_json().into());
        }
        true
    }
}
