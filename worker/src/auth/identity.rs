//! Who a verified token speaks for.
//!
//! Two issuers may both have an `alice`, so a subject means nothing without its
//! issuer, and anyone who compares identities compares both. A [`Subject`] outside
//! of this crate is proof: no one but the verifier, and what the crate keeps of
//! its verdicts, can make one. An [`Issuer`] is only a name, since the operator
//! writes it into the configuration.

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use shared::wire::tag::{IdentityTag, SessionTag, TokenIdTag};

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

/// Stands in an issuer's name for the tenant that a token names in the claim `tid`, as Entra ID has it.
pub(crate) const TENANT: &str = "{tenantid}";

/// The claim that names the tenant.
const TENANT_CLAIM: &str = "tid";

impl Issuer {
    /// Whether it stands for many.
    pub fn has_tenants(&self) -> bool {
        self.0.contains(TENANT)
    }

    /// Whether that is its name, or the name of one that it stands for.
    pub fn covers(&self, name: &str) -> bool {
        self.as_str() == name || self.tenant_in(name).is_some()
    }

    /// Whether a token with that `iss` and these claims may be its own.
    pub(crate) fn is_of(&self, iss: &str, claims: &Map<String, Value>) -> bool {
        match self.has_tenants() {
            false => self.as_str() == iss,
            true => self
                .tenant_in(iss)
                .is_some_and(|tenant| claims.get(TENANT_CLAIM).is_some_and(|tid| tid == tenant)),
        }
    }

    /// It, as a token calls it.
    pub(crate) fn called(&self, iss: &str) -> Self {
        match self.has_tenants() {
            false => self.clone(),
            true => Self::new(iss),
        }
    }

    /// Which tenant's issuer that is. A tenant's name is a GUID or a domain, so that it never takes part of a path with it.
    fn tenant_in<'n>(&self, name: &'n str) -> Option<&'n str> {
        let (before, behind) = self.0.split_once(TENANT)?;
        let tenant = name.strip_prefix(before)?.strip_suffix(behind)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
        let is_one = !tenant.is_empty() && tenant.bytes().all(is_plain) && tenant.bytes().any(|byte| byte != b'.');
        is_one.then_some(tenant)
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
    /// The issuer, from the claim `iss`.
    pub issuer: Issuer,
    /// The subject, from the claim that names it, usually `sub`.
    pub subject: Subject,
    /// By which it is compared where it need not be read: asked for with every message, and found out once.
    tag: IdentityTag,
}

impl Identity {
    /// For the verifier, and for what this crate has kept of its verdicts.
    pub(crate) fn new(issuer: Issuer, subject: Subject) -> Self {
        let tag = tag_of(&issuer, subject.as_str());
        Self { issuer, subject, tag }
    }

    /// No one: anyone who sends a public message without a good token. No token's subject is empty.
    pub(crate) fn anonymous() -> Self {
        Self::new(Issuer::new(""), Subject::new(""))
    }

    /// Whether no one has proved who it is.
    pub fn is_anonymous(&self) -> bool {
        self.subject.as_str().is_empty()
    }

    /// The name by which it is compared where it need not be read.
    pub const fn tag(&self) -> IdentityTag {
        self.tag
    }
}

/// The tag of an identity that someone names, and that no one has proved: for anyone who pushes to it or revokes it.
pub fn tag_of(issuer: &Issuer, subject: &str) -> IdentityTag {
    IdentityTag::of(&digest_of(issuer, subject))
}

/// The tag of one token of an issuer, by its `jti` (RFC 7519 §4.1.7).
pub fn token_id_tag(issuer: &Issuer, token_id: &str) -> TokenIdTag {
    TokenIdTag::of(&digest_of(issuer, token_id))
}

/// The tag of one session with an issuer, by the `sid` of its tokens (OpenID Connect Front-Channel Logout 1.0 §3).
pub fn session_tag(issuer: &Issuer, session: &str) -> SessionTag {
    SessionTag::of(&digest_of(issuer, session))
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
pub(crate) fn issuer_of(name: Option<&str>, issuers: &[Issuer]) -> Result<Issuer, Unnamed> {
    match (name, issuers) {
        (None, [only]) if !only.has_tenants() => Ok(only.clone()),
        (None, _) => Err(Unnamed::Several),
        (Some(name), issuers) => issuers
            .iter()
            .find(|issuer| !name.contains(TENANT) && issuer.covers(name))
            .map(|issuer| issuer.called(name))
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
    use serde_json::json;

    use super::*;

    #[test]
    fn nobody_is_no_subject() {
        assert!(Identity::anonymous().is_anonymous() && !is_subject(Identity::anonymous().subject.as_str()));
        assert!(!Identity::new(Issuer::new("i"), Subject::new("a")).is_anonymous());
    }

    #[test]
    fn an_issuer_of_tenants_is_of_the_tenant_that_a_token_names_and_of_no_other() {
        let issuer = Issuer::new("https://login.example/{tenantid}/v2.0");
        let is_of = |iss: &str, claims: Value| issuer.is_of(iss, claims.as_object().unwrap());
        let (one, other) = (
            "9188040d-6c67-4c5b-b112-36a304b66dad",
            "72f988bf-86f1-41af-91ab-2d7cd011db47",
        );
        let iss = format!("https://login.example/{one}/v2.0");
        assert!(is_of(&iss, json!({"tid": one})));
        for (iss, claims) in [
            (iss.as_str(), json!({"tid": other})),
            (&iss, json!({})),
            (&iss, json!({"tid": [one]})),
            (&format!("{iss}/"), json!({"tid": one})),
            ("https://login.example/{tenantid}/v2.0", json!({"tid": "{tenantid}"})),
            ("https://login.example//v2.0", json!({"tid": ""})),
            ("https://login.example/a/b/v2.0", json!({"tid": "a/b"})),
            ("https://login.example/../v2.0", json!({"tid": ".."})),
            ("https://evil.example/a/v2.0", json!({"tid": "a"})),
        ] {
            assert!(!is_of(iss, claims.clone()), "{iss} {claims}");
        }
        let issuers = [issuer];
        assert_eq!(issuer_of(Some(&iss), &issuers), Ok(Issuer::new(iss.as_str())));
        assert_eq!(issuer_of(None, &issuers), Err(Unnamed::Several));
        assert_eq!(
            issuer_of(Some("https://login.example/{tenantid}/v2.0"), &issuers),
            Err(Unnamed::Unknown)
        );
    }

    #[test]
    fn the_alices_of_two_issuers_are_two_identities() {
        let alice = |issuer: &str| Identity::new(Issuer::new(issuer), Subject::new("alice"));
        assert_eq!(alice("https://a.example"), alice("https://a.example"));
        assert_ne!(alice("https://a.example"), alice("https://b.example"));
        assert_eq!(alice("https://a.example").to_string(), "alice of https://a.example");
    }
}
