//! Who a verified token speaks for.
//!
//! Two issuers may both have an `alice`, so a subject means nothing without its
//! issuer, and whoever compares identities compares both. A [`Subject`] outside
//! of this crate is proof: nobody but the verifier, and what the crate keeps of
//! its verdicts, can make one. An [`Issuer`] is only a name, since the operator
//! writes it into the configuration.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use shared::tag::{IdentityTag, TokenIdTag};

/// The longest subject, in bytes: OpenID Connect Core §2 allows 255 characters of ASCII.
pub(crate) const MAX_SUBJECT_BYTES: usize = 255;

/// Who vouches for a subject: the `iss` of RFC 7519 §4.1.1, compared byte by byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Issuer(Arc<str>);

impl Issuer {
    /// The issuer of that name.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name, as it stands in `iss`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A subject that a verified token named: the `sub` of RFC 7519 §4.1.2, 1 to 255 bytes without control characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Arc<str>);

impl Subject {
    /// For the verifier, and for what this crate has kept of its verdicts.
    pub(crate) fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name, as it stands in `sub`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An issuer and one of its subjects: what messages, grants and pushes belong to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Identity {
    /// Who vouches.
    pub issuer: Issuer,
    /// For whom.
    pub subject: Subject,
}

impl Identity {
    /// For the verifier, and for what this crate has kept of its verdicts.
    pub(crate) fn new(issuer: Issuer, subject: Subject) -> Self {
        Self { issuer, subject }
    }

    /// Nobody: whoever sends a public message without a good token. No token's subject is empty.
    pub(crate) fn anonymous() -> Self {
        Self::new(Issuer::new(""), Subject::new(""))
    }

    /// Whether nobody has proved who it is.
    pub fn is_anonymous(&self) -> bool {
        self.subject.as_str().is_empty()
    }

    /// The name by which it is compared where it need not be read.
    pub fn tag(&self) -> IdentityTag {
        tag_of(&self.issuer, self.subject.as_str())
    }
}

/// The tag of an identity that somebody names, and that nobody has proved: for whoever pushes to it or revokes it.
pub fn tag_of(issuer: &Issuer, subject: &str) -> IdentityTag {
    IdentityTag::of(&digest_of(issuer, subject))
}

/// The tag of one token of an issuer, by its `jti` (RFC 7519 §4.1.7).
pub fn token_id_tag(issuer: &Issuer, token_id: &str) -> TokenIdTag {
    TokenIdTag::of(&digest_of(issuer, token_id))
}

/// Whether a token could name this subject.
pub(crate) fn is_subject(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_SUBJECT_BYTES && !name.contains(char::is_control)
}

/// Why a name does not tell an issuer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unnamed {
    /// There is no name, and more than one issuer.
    Several,
    /// It is the name of none.
    Unknown,
}

/// The issuer of that name, or the only one there is.
pub(crate) fn issuer_of<'a>(name: Option<&str>, issuers: &'a [Issuer]) -> Result<&'a Issuer, Unnamed> {
    match (name, issuers) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Unnamed::Several),
        (Some(name), issuers) => issuers
            .iter()
            .find(|issuer| issuer.as_str() == name)
            .ok_or(Unnamed::Unknown),
    }
}

fn digest_of(issuer: &Issuer, name: &str) -> [u8; 32] {
    // No issuer holds a NUL, so two pairs never have one text.
    let digest = Sha256::new()
        .chain_update(issuer.as_str())
        .chain_update([0])
        .chain_update(name);
    digest.finalize().into()
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Issuer({:?})", &*self.0)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({:?})", &*self.0)
    }
}

/// The subject, then its issuer, for people: not to be parsed, either may hold any character.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.subject, self.issuer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_no_subject() {
        assert!(Identity::anonymous().is_anonymous() && !is_subject(Identity::anonymous().subject.as_str()));
        assert!(!Identity::new(Issuer::new("i"), Subject::new("a")).is_anonymous());
    }

    #[test]
    fn the_alices_of_two_issuers_are_two_identities() {
        let alice = |issuer: &str| Identity::new(Issuer::new(issuer), Subject::new("alice"));
        assert_eq!(alice("https://a.example"), alice("https://a.example"));
        assert_ne!(alice("https://a.example"), alice("https://b.example"));
        assert_eq!(alice("https://a.example").to_string(), "alice of https://a.example");
    }
}
