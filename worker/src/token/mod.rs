//! From the text of a JWT to a verdict.
//!
//! Every message may carry a token, and what it may do rests on that token alone, so a verdict must be exact, and cheap the
//! second time. The modules, in the order in which a token passes them:
//!
//! - [`keys`]: files and what servers answer become keys, each bound to its issuer and to the algorithms it may be used with,
//!   and are kept up to date. What is doubtful stops the start, or is not taken later. [`keys::source`] says where they are.
//! - [`verifier`]: the order of the checks, and the clock.
//! - `cache`: who has been verified under the present keys.
//! - `compact`, `header`, `claims`: the strict reading that RFC 8725 asks for. The `jsonwebtoken` crate does the signatures
//!   alone: left to itself it accepts critical extensions, repeated claims and an `exp` in milliseconds.
//!
//! Nothing here does I/O but the reading of key files and key servers, those of the settings and no others: no token has ever
//! a say in where it goes. No error, `Debug` or `Display` shows any text of a token.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use shared::service::clock::Timestamp;
use shared::wire::tag::KeyTag;

use crate::auth::identity::Identity;

pub mod keys;

pub mod verifier;

mod cache;
pub(crate) mod claims;
mod compact;
mod header;
mod rejection;
mod rules;

#[cfg(test)]
mod tests;

pub use crate::token::claims::claim_path::ClaimPath;
pub use crate::token::claims::other::Other;
pub use crate::token::claims::purpose::RequiredClaim;
pub use crate::token::claims::token_type::TokenType;
pub use crate::token::keys::fault::{Fault, KeyError, KeyErrors, KeyName};
pub use crate::token::keys::kind::Kind;
pub use crate::token::keys::looks::Looks;
pub(crate) use crate::token::keys::refresher::{KeyHealth, KeyRefresher};
pub use crate::token::keys::secret::{check as check_secret, secret_in};
pub use crate::token::keys::source::KeySource;
pub use crate::token::keys::source::discovery::{Discovery, Reach};
pub use crate::token::keys::source::jwks_url::{JwksUrl, UrlError};
pub(crate) use crate::token::keys::sources::KeySources;
pub use jsonwebtoken::Algorithm;
pub use keys::Keys;
pub use rejection::{Reason, Rejection};
pub use rules::Rules;
pub(crate) use rules::SUB;
pub(crate) use verifier::Statement;
pub use verifier::Verifier;

/// The members of a JSON object in which none stands twice; none if it is no such thing.
pub(crate) fn unique_members(json: &[u8]) -> Option<Map<String, Value>> {
    crate::token::claims::members::Members::parse(json).map(|members| members.0)
}

/// The text of a JWT. It is a bearer's secret: it has no `Display` and no `Serialize`, and its `Debug` shows nothing.
#[derive(Clone)]
pub struct Token(Box<str>);

impl Token {
    /// Takes a token's text out of circulation.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The secret text, for the verifier.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// SHA-256 of a whole token, signature and all: names a token without telling it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of that token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// 64 lowercase hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// A token's own name: the `jti` of RFC 7519 §4.1.7, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TokenId(Arc<str>);

impl TokenId {
    pub(crate) fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id, as it stands in `jti`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a token proved, without the token.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// Whom it speaks for.
    pub identity: Identity,
    /// The moment of `exp`, without leeway.
    pub expires_at: Timestamp,
    /// The moment of `nbf`, without leeway.
    pub not_before: Option<Timestamp>,
    /// The moment of `iat`.
    pub issued_at: Option<Timestamp>,
    /// `jti`.
    pub token_id: Option<TokenId>,
    /// Every claim, the ones above included, as the issuer wrote them.
    pub claims: Map<String, Value>,
    /// Of the whole token.
    pub digest: Digest,
    /// The key that it was signed with.
    pub key: KeyTag,
}

/// Leaves the claims out: an application may keep in them what does not belong in a log.
impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("identity", &self.identity)
            .field("expires_at", &self.expires_at)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// What the verifier says of a token, and whether it knew it already: the caller counts hits and misses.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What the token proved, or why it proves nothing.
    pub result: Result<Arc<Verified>, Rejection>,
    /// What the token proved until its time was over, if that is all that is wrong with it. Nothing may be done in that
    /// name; but what is held for a fresh token may wait for one of the same identity alone.
    pub expired: Option<Arc<Verified>>,
    /// Whether the signature had been verified before, under the present keys.
    pub cached: bool,
}
