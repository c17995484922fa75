//! Readers of bytes that anyone may have written, and what is true of each whatever they are.
//!
//! They are fed by a fuzzer that is guided by what it reaches (`run`), and blindly by a claim (`hostile::mutated`).

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use shared::bus::batch;
use shared::wire::envelope::undelivered::Undelivered;
use shared::wire::envelope::{ForwardedMessage, Release, Return, run};
use worker::auth::identity::Issuer;
use worker::dead_letter::redact;
use worker::token::{KeySource, Keys};

/// A token, in shape: nothing of its signature may be left where someone looks.
const TOKEN: &str =
    "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.cGxhbnRlZC1zaWduYXR1cmUtb2YtNjQtYnl0ZXMtd2hpY2gtbm8tc2VlZC1oYXMtaW4taXQ";
const SIGNATURE: &[u8] = b"cGxhbnRlZC1zaWduYXR1cmUtb2YtNjQtYnl0ZXMtd2hpY2gtbm8tc2VlZC1oYXMtaW4taXQ";

/// What someone puts into one of our queues: it is read or refused, and so is each message in it.
pub(crate) fn batch(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let _ = Release::read(&bytes);
    if let Ok(entries) = run::decode(&bytes) {
        assert!((1..=run::MOST_ENTRIES).contains(&entries.len()));
    }
    let Ok(messages) = batch::read(&bytes) else { return };
    for message in &messages {
        let _ = Return::read(message);
        let _ = Undelivered::read(message);
        let _ = ForwardedMessage::read(&message.properties);
    }
}

/// What a client sends: a message is one JSON object that names its type, and no other text is one.
pub(crate) fn message(bytes: &[u8]) {
    let Ok((id, kind, payload)) = worker::read_client_message(bytes) else {
        return;
    };
    let members: BTreeMap<String, IgnoredAny> = serde_json::from_slice(bytes).expect("an object");
    assert!(members.contains_key("type") && (1..=128).contains(&kind.len()));
    assert!(id.is_none_or(|id| (1..=128).contains(&id.len())));
    if let Some(payload) = payload {
        serde_json::from_str::<IgnoredAny>(payload).expect("a JSON text");
    }
}

/// What comes before a socket: its head ends at one place, however much of the rest is there.
pub(crate) fn handshake(bytes: &[u8]) {
    match terminator::read_handshake(bytes) {
        Ok(None) => {}
        Ok(Some(length)) => {
            assert_eq!(terminator::read_handshake(&bytes[..length]), Ok(Some(length)));
            assert_eq!(terminator::read_handshake(&bytes[..length - 1]), Ok(None));
        }
        Err(response) => assert!(response.starts_with("HTTP/1.1 4") && response.ends_with('\n')),
    }
}

/// What stands in a file of keys, or comes from a server of them: there is one key at least, or a reason.
pub(crate) fn keys(bytes: &[u8]) {
    for source in ["key", "hmac:key", "https://keys.test/jwks"] {
        let source: KeySource = source.parse().expect("it is one");
        match Keys::of_content(
            &source,
            Bytes::copy_from_slice(bytes),
            &Issuer::new("https://issuer.test"),
        ) {
            Ok(keys) => assert_ne!(keys.len(), 0),
            Err(why) => assert!(!why.to_string().is_empty()),
        }
    }
}

/// What is kept for people to look at: nothing of a token is left, wherever it stood.
pub(crate) fn redaction(bytes: &[u8]) {
    let signed = |text: &[u8]| text.windows(SIGNATURE.len()).any(|window| window == SIGNATURE);
    let (before, behind) = bytes.split_at(bytes.len() / 2);
    for body in [bytes, &[before, TOKEN.as_bytes(), behind].concat()] {
        let kept = redact::body(body);
        assert_eq!(redact::body(&kept), kept, "nothing more is to be taken out");
        assert!(!signed(&kept) || signed(bytes));
    }
}
