//! What is asked of every token, by the settings.

use std::time::Duration;

use super::claims::audience;
use super::{Other, RequiredClaim, TokenType};

/// The claim that names whom a token speaks for, unless `jwt-subject-claim` names another: RFC 7519 §4.1.2.
pub(crate) const SUB: &str = "sub";

/// What is asked of every token, whatever key signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A token must be meant for one of them (`jwt-audience`); with none, none is accepted.
    pub audiences: Vec<String>,
    /// The claims that may name it (`jwt-audience-claims`).
    pub audience_claims: Vec<String>,
    /// The claim that names whom a token speaks for (`jwt-subject-claim`).
    pub subject_claim: String,
    /// What the header may call a token (`jwt-type`); empty, the usual.
    pub types: Vec<TokenType>,
    /// What clocks may differ by (`jwt-leeway`).
    pub leeway: Duration,
    /// Of the token's text, in bytes (`jwt-max-size`).
    pub max_size: usize,
    /// From `iat`, or else from now, to `exp` (`jwt-max-lifetime`).
    pub max_lifetime: Duration,
    /// Kinds of tokens that are accepted though they are no access tokens (`jwt-allow`).
    pub allow: Vec<Other>,
    /// Claims that a token must have (`jwt-required-claims`).
    pub required_claims: Vec<RequiredClaim>,
}

impl Rules {
    /// 5 seconds.
    pub const LEEWAY: Duration = Duration::from_secs(5);
    /// 8 KiB = 8 * 1,024 bytes: what most HTTP servers take as a header.
    pub const MAX_SIZE: usize = 8 * 1_024;
    /// 24 hours = 24 * 60 * 60 seconds.
    pub const MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

    /// The defaults, for these audiences.
    pub fn new(audiences: Vec<String>) -> Self {
        Self {
            audiences,
            audience_claims: vec![audience::AUD.to_owned()],
            subject_claim: SUB.to_owned(),
            types: Vec::new(),
            leeway: Self::LEEWAY,
            max_size: Self::MAX_SIZE,
            max_lifetime: Self::MAX_LIFETIME,
            allow: Vec::new(),
            required_claims: Vec::new(),
        }
    }
}
