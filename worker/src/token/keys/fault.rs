//! Why a key, a key file or a set of keys stops the start, or is not taken later.
//!
//! A weak or ambiguous key is a mistake that no token would ever reveal, so it is
//! found before the first token. The texts are one line each and never show key
//! material.

use std::fmt;
use std::io;

use shared::credentials::why_unreadable;

use super::kind::Kind;
use super::limits::{MAX_FILE_BYTES, MAX_KEYS, MAX_RSA_BITS, MAX_SAME_KID, MIN_HMAC_BYTES, MIN_RSA_BITS};
use super::looks::Looks;
use crate::auth::identity::Issuer;
use crate::token::Algorithm;

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The operating system's word.
    #[error("cannot be read: {}", why_unreadable(*.0))]
    Unreadable(io::ErrorKind),
    /// A folder, a pipe or a device.
    #[error("is not a regular file")]
    NotAFile,
    /// Each look at it saw something else.
    #[error("is another at each look")]
    Unsteady,
    /// A key set is not that large; something else was named by mistake.
    #[error("is larger than {MAX_FILE_BYTES} bytes")]
    FileTooLarge,
    /// An entry without `issuer=` among several issuers.
    #[error("does not say `issuer=`, though `jwt-issuer` names several")]
    IssuerUnsaid,
    /// An `issuer=` that no token may come from.
    #[error("belongs to the issuer {:?}, which `jwt-issuer` does not name", .0.as_str())]
    IssuerUnknown(Issuer),
    /// A JWKS carries the names of its keys.
    #[error("is a JWKS, and its keys have their own names: `kid=` is for PEM, DER and secret files")]
    KidOnJwks,
    /// RFC 7517 §5; the place, since the text may be secret.
    #[error("is not a valid JWKS (line {line}, column {column})")]
    NotJwks {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// OpenID Connect Discovery 1.0 §3, RFC 8414 §2.
    #[error(
        "is a discovery document, not a JWKS: leave the entry out, and the keys of an issuer in `jwt-issuer` are found by it"
    )]
    DiscoveryDocument,
    /// An entry, or all entries together, without any key.
    #[error("holds no key")]
    NoKeys,
    /// More keys than anyone publishes.
    #[error("holds {0} keys, more than {MAX_KEYS}")]
    TooManyKeys(usize),
    /// A private key has no business where tokens are verified.
    #[error("holds a private key, only the public key belongs here")]
    PrivateKey,
    /// RFC 5280; of what is read, its public key alone counts, not its dates or its issuer.
    #[error("holds a certificate that cannot be read, extract its public key (openssl x509 -pubkey -noout)")]
    Certificate,
    /// One key a file, so that one `kid=` names one key.
    #[error("holds several PEM blocks, give each key a file of its own")]
    SeveralPemBlocks,
    /// RFC 7468.
    #[error("is not well-formed PEM")]
    Pem,
    /// None of the kinds that the algorithms are for.
    #[error("is not a public key of RSA, of P-256 or P-384 (as an uncompressed point), or of Ed25519")]
    UnsupportedKey,
    /// Neither a JWKS nor a public key, and not named a secret: nothing is a secret by accident (RFC 8725 §3.1).
    #[error("looks like {looks}; it is neither a JWKS nor a public key in PEM or DER{}", advice(*looks, named.as_deref()))]
    Unrecognized {
        /// What it is more likely to be.
        looks: Looks,
        /// The entry that names it a secret, if it could be one.
        named: Option<String>,
    },
    /// Named a secret, but known to others.
    #[error(
        "is named an HMAC secret but looks like {0}, which others may know; make one with: openssl rand -base64 48"
    )]
    PublicSecret(Looks),
    /// Named a secret, but easily guessed.
    #[error("is an HMAC secret of too little variety, make one with: openssl rand -base64 48")]
    GuessableSecret,
    /// A source does not become something else while it is used.
    #[error("was {was} and is now {now}; a source keeps its kind until the worker restarts")]
    KindChanged {
        /// What is in force.
        was: &'static str,
        /// What was found.
        now: &'static str,
    },
    /// A secret that travels, or that anyone who serves the set can choose.
    #[error("is a secret (`oct`) from a server; secrets are taken from files alone")]
    RemoteSecret,
    /// RFC 7518 §3.2.
    #[error("is an HMAC secret of {0} bytes, at least {MIN_HMAC_BYTES} are needed")]
    WeakSecret(usize),
    /// RFC 7518 §3.3.
    #[error("is an RSA key of {0} bits, {MIN_RSA_BITS} to {MAX_RSA_BITS} are needed")]
    RsaSize(u32),
    /// CVE-2017-15361.
    #[error(
        "is an RSA key of a weak generator (ROCA, CVE-2017-15361): its private key can be computed, make a new one"
    )]
    FactorableRsa,
    /// RFC 7517 §4, RFC 7518 §6: a member that is missing, of the wrong type or not canonical.
    #[error("has no valid member `{0}`")]
    Member(&'static str),
    /// RFC 7518 §6.1.
    #[error("has a `kty` that is not one of RSA, EC, OKP and oct")]
    KeyType,
    /// RFC 7518 §6.2.1.1, RFC 8037 §2.
    #[error("has a `crv` that is not one of P-256, P-384 and Ed25519")]
    Curve,
    /// The numbers do not form a key.
    #[error("is not a valid {0} public key")]
    NotAKey(Kind),
    /// RFC 7517 §4.2.
    #[error("has a `use` other than `sig`")]
    Use,
    /// RFC 7517 §4.3.
    #[error("has `key_ops` without `verify`")]
    KeyOps,
    /// RFC 7517 §4.4.
    #[error("has an `alg` that does not fit the key")]
    AlgorithmUnfit,
    /// RFC 7518 §6.2.2, §6.3.2, RFC 8037 §2.
    #[error("has the private member `{0}`")]
    PrivateMember(&'static str),
    /// A name that cannot tell keys apart.
    #[error("has an empty `kid`")]
    EmptyKid,
    /// RFC 7517 §4.5.
    #[error("has a `kid` that another key of the same issuer has for the same algorithm")]
    DuplicateKid,
    /// Each of them may have to be tried for one token.
    #[error("has a `kid` that more than {MAX_SAME_KID} issuers use for one algorithm")]
    KidSharedTooOften,
    /// `jwt-algorithms` leaves nothing.
    #[error("is a {kind} key, for which `jwt-algorithms` leaves none of {usable:?}")]
    NoAlgorithm {
        /// Of the key.
        kind: Kind,
        /// What the key alone would allow.
        usable: Vec<Algorithm>,
    },
    /// Anyone who publishes a public key must never see it used as a secret.
    #[error("is symmetric while other keys of its issuer are not: name the algorithms of both in `jwt-algorithms`")]
    Mixed,
    /// An issuer none of whose tokens could ever be verified.
    #[error("no key belongs to the issuer {:?} of `jwt-issuer`", .0.as_str())]
    IssuerWithoutKeys(Issuer),
    /// No one to trust.
    #[error("`jwt-issuer` names no issuer")]
    NoIssuer,
}

impl Fault {
    /// Whether the key is well-formed and what it was taken for, but must not be used: its issuer's other keys may be.
    pub(in crate::token) const fn is_of_the_key_alone(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedKey
                | Self::NotAKey(_)
                | Self::RsaSize(_)
                | Self::FactorableRsa
                | Self::NoAlgorithm { .. }
                | Self::WeakSecret(_)
                | Self::GuessableSecret
        )
    }
}

fn advice(looks: Looks, named: Option<&str>) -> String {
    match (named, looks.advice()) {
        (Some(named), _) => format!(". If it is an HMAC secret, name it one: {named}"),
        (None, Some(advice)) => format!(": {advice}"),
        (None, None) => String::new(),
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hmac => "HMAC",
            Self::Rsa => "RSA",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// One thing that is wrong with the keys, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyError {
    /// The entry of `jwt-keys`, unless all of them together are meant.
    pub entry: Option<String>,
    /// The key's `kid`, or its index from 0, where the entry holds several.
    pub key: Option<KeyName>,
    /// What is wrong.
    pub fault: Fault,
}

/// How an error calls a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// By its `kid`.
    Kid(String),
    /// By its place in the JWKS, from 0.
    Index(usize),
}

/// Everything that is wrong with the keys; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyErrors(pub Vec<KeyError>);

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kid(kid) => write!(f, "key {kid:?}"),
            Self::Index(index) => write!(f, "key {index}"),
        }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("jwt-keys")?;
        if let Some(entry) = &self.entry {
            write!(f, " {entry:?}")?;
        }
        if let Some(key) = &self.key {
            write!(f, " {key}")?;
        }
        write!(f, ": {}", self.fault)?;
        let hidden = self.entry.as_ref().is_some_and(|entry| entry.contains("***"));
        if hidden && matches!(self.fault, Fault::Unreadable(_)) {
            f.write_str(
                " (what names no file here is not shown, since it may be a secret: a secret goes into a file, `hmac:PATH`)",
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for KeyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for KeyError {}
impl std::error::Error for KeyErrors {}
