//! Names of fixed size for what must be compared but need not be read.
//!
//! A terminator must know whether two messages are for the same identity, and
//! whether a revocation means the token that its connection lives by. It needs
//! neither the names nor the texts, so it gets 128 bits of their SHA-256, made by
//! a worker: short enough to cross the broker with every message, and too long
//! for two of them to meet by chance.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::id::MalformedId;

/// 32 lowercase hexadecimal digits.
const DIGITS: usize = 32;

macro_rules! tags {
    ($($(#[$meta:meta])* $name:ident,)+) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// The tag of whatever has this digest: its first 128 bits.
            pub fn of(digest: &[u8; 32]) -> Self {
                let mut first = [0; 16];
                first.copy_from_slice(&digest[..16]);
                Self(u128::from_be_bytes(first))
            }

            /// Which of `count` shares it belongs to, from 0: the same for everyone, and about as many to each.
            pub fn share_of(self, count: u16) -> u16 {
                u16::try_from(self.0 % u128::from(count.max(1))).unwrap_or_default()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = MalformedId;

            fn from_str(text: &str) -> Result<Self, MalformedId> {
                let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                if text.len() != DIGITS || !digits {
                    return Err(MalformedId);
                }
                u128::from_str_radix(text, 16).map(Self).map_err(|_| MalformedId)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

tags! {
    /// An issuer and one of its subjects.
    IdentityTag,
    /// One text of a token, signature and all.
    TokenTag,
    /// An issuer and the `jti` of one of its tokens (RFC 7519 §4.1.7).
    TokenIdTag,
    /// An issuer and one of the keys that its tokens are verified with.
    KeyTag,
    /// An issuer and the `sid` of a session with it (OpenID Connect Front-Channel Logout 1.0 §3).
    SessionTag,
}

/// The secret by which a client that comes back proves that it had a connection before. The terminator draws it when
/// the connection opens; the client is told when it has proved who it is; the store knows its digest only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ResumeSecret(u128);

impl ResumeSecret {
    /// Draws a new one.
    pub fn random() -> Self {
        Self(crate::service::chance::bits())
    }
}

impl fmt::Display for ResumeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// It is a secret, so it is not shown.
impl fmt::Debug for ResumeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResumeSecret(redacted)")
    }
}

impl FromStr for ResumeSecret {
    type Err = MalformedId;

    fn from_str(text: &str) -> Result<Self, MalformedId> {
        text.parse::<TokenTag>().map(|TokenTag(bits)| Self(bits))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tag_reads_back_as_it_was_written(digest: [u8; 32]) {
            let tag = IdentityTag::of(&digest);
            prop_assert_eq!(tag.to_string().parse(), Ok(tag));
            let json = serde_json::to_string(&tag).unwrap();
            prop_assert_eq!(serde_json::from_str::<IdentityTag>(&json).unwrap(), tag);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<IdentityTag>();
            let _ = text.parse::<ResumeSecret>();
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = ResumeSecret::random();
        assert!(!format!("{secret:?}").contains(&secret.to_string()));
    }
}
