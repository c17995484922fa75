//! By what two messages are the same: pure.
//!
//! A message's name is its `id`, which is its identity's own, and its client's. What it asks for is its
//! `type`, and its payload byte by byte, as the client wrote it: a client that sends
//! again sends what it sent, and two texts that only mean the same might not, to a
//! handler. The token is no part of it, because it is renewed.

use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::auth::identity::Identity;
use crate::store::{MessageKey, Sha256Digest};

/// By what it is known when it comes again, from the same client of the same identity.
pub(super) fn key(identity: &Identity, client: Option<&str>, id: &str) -> MessageKey {
    let digest = Sha256::new_with_prefix(id);
    // The length goes last, so that no two pairs have one text.
    let digest = match client {
        Some(client) => digest
            .chain_update(client)
            .chain_update((client.len() as u64).to_be_bytes()),
        None => digest,
    };
    MessageKey {
        identity: identity.tag(),
        id: digest.finalize().into(),
    }
}

/// What it asks for.
pub(crate) fn fingerprint(kind: &str, payload: Option<&RawValue>) -> Sha256Digest {
    // The length goes first, so that no two pairs have one text. No payload is an empty text, as no JSON is.
    let digest = Sha256::new()
        .chain_update((kind.len() as u64).to_be_bytes())
        .chain_update(kind)
        .chain_update(payload.map_or("", RawValue::get));
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::auth::identity::{Issuer, Subject};

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    proptest! {
        #[test]
        fn a_fingerprint_tells_type_and_payload_apart(kind: [String; 2], number: [u8; 2]) {
            let of = |index: usize| fingerprint(&kind[index], Some(&raw(&number[index].to_string())));
            prop_assert_eq!(of(0), of(0));
            prop_assert_eq!(of(0) == of(1), kind[0] == kind[1] && number[0] == number[1]);
        }
    }

    #[test]
    fn what_is_moved_between_type_and_payload_is_another_message() {
        let texts = [
            ("a", Some("1")),
            ("a1", None),
            ("", Some("1")),
            ("a", Some("null")),
            ("a", None),
        ];
        for one in texts {
            for other in texts {
                let of = |(kind, payload): (&str, Option<&str>)| fingerprint(kind, payload.map(raw).as_deref());
                assert_eq!(of(one) == of(other), one == other, "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_name_is_its_identity_s_own() {
        let identity = |issuer: &str, subject: &str| Identity::new(Issuer::new(issuer), Subject::new(subject));
        let (alice, her_namesake) = (identity("https://a", "alice"), identity("https://b", "alice"));
        assert_eq!(key(&alice, None, "1"), key(&alice, None, "1"));
        assert_eq!(key(&alice, Some("app"), "1"), key(&alice, Some("app"), "1"));
        assert_ne!(key(&alice, None, "1"), key(&alice, None, "2"));
        assert_ne!(key(&alice, None, "1"), key(&her_namesake, None, "1"));
        assert_ne!(key(&alice, Some("app"), "1"), key(&alice, Some("bank"), "1"));
        assert_ne!(key(&alice, Some("app"), "1"), key(&alice, None, "1app"));
        assert_ne!(key(&alice, Some("1app"), "1"), key(&alice, Some("app"), "11"));
    }
}
