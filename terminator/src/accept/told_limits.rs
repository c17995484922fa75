//! What a client may send, as it is told at the handshake.
//!
//! A client that offers the subprotocol `countersign.limits` beside `countersign.v1.json` gets it as its first message, so that it can stay
//! below the limits at which its connection would be closed. A page can say no more than that in a handshake, and read only messages.

use shared::wire::protocol::ClientLimits;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// The message in its frame, as it goes behind the response.
pub(crate) fn frame(limits: &ClientLimits) -> Vec<u8> {
    let mut bytes = Vec::new();
    // To write into memory cannot fail.
    let _ = Frame::message(limits.to_json(), OpCode::Data(Data::Text), true).format(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn told(messages_per_second: Option<u32>) -> (Vec<u8>, String) {
        let frame = frame(&ClientLimits {
            max_message_bytes: 65_536,
            messages_per_second: messages_per_second.and_then(NonZeroU32::new),
            unauthenticated_messages_per_second: NonZeroU32::new(20),
        });
        let (head, text) = frame.split_at(2);
        (head.to_vec(), String::from_utf8(text.to_vec()).unwrap())
    }

    #[test]
    fn it_is_one_text_frame_and_does_not_name_what_has_no_limit() {
        let (head, text) = told(Some(1_000));
        assert_eq!(
            text,
            r#"{"type":"limits","payload":{"max_message_bytes":65536,"messages_per_second":1000,"unauthenticated_messages_per_second":20}}"#
        );
        // Final, text, not masked, of less than 126 bytes (RFC 6455 §5.2).
        assert_eq!(head, [0x81, u8::try_from(text.len()).unwrap()]);
        assert!(!told(None).1.contains(r#""messages_per_second""#));
    }
}
