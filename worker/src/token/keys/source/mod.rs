//! Where keys come from: one entry of the setting `jwt-keys`.
//!
//! `[issuer=ISSUER;][kid=KID;]PATH|hmac:PATH|URL`. A secret is one only where it is
//! named one, by `hmac:`. Any other file is a JWKS or a public key, told apart by
//! parsing it (`form`), and behind a URL is a JWKS: a page of an error or someone's
//! public key must never become a secret, with which anyone who has it could sign
//! (RFC 8725 §3.1).

pub(crate) mod discovery;
pub(crate) mod fetch;
pub(crate) mod jwks_url;
pub(crate) mod schedule;
pub(crate) mod watch;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use shared::credentials::{self, FileFault};

use super::source::discovery::{Discovery, Reach};
use super::source::fetch::{Fetch, FetchError};
use super::source::jwks_url::{JwksUrl, UrlError};
use crate::auth::identity::Issuer;
use crate::token::Fault;

pub use super::limits::MAX_FILE_BYTES;
pub use shared::credentials::shown;

/// What names a file as an HMAC secret.
pub const SECRET: &str = "hmac:";

/// One entry of `jwt-keys`. Its `Display` is the entry as it would be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySource {
    issuer: Option<Issuer>,
    kid: Option<String>,
    location: Location,
}

/// Where the content of an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A JWKS, or a public key in PEM or DER.
    File(PathBuf),
    /// An HMAC secret, written `hmac:PATH`.
    Secret(PathBuf),
    /// A JWKS on a server.
    Url(JwksUrl),
    /// A JWKS wherever its issuer says.
    Issuer(Discovery),
}

/// Keys that someone has to be asked for.
#[derive(Clone, Debug)]
pub(in crate::token) enum Remote {
    /// At this address.
    Url(JwksUrl),
    /// Where the issuer says.
    Issuer(Discovery),
}

impl Remote {
    /// Whether TLS is needed on the way.
    pub(in crate::token) fn is_secure(&self) -> bool {
        match self {
            Self::Url(url) => url.is_secure(),
            Self::Issuer(discovery) => discovery.is_secure(),
        }
    }

    /// The keys.
    pub(in crate::token) async fn fetch(&self, fetch: &impl Fetch) -> Result<Bytes, FetchError> {
        match self {
            Self::Url(url) => fetch.fetch(url).await,
            Self::Issuer(discovery) => discovery.keys(fetch).await,
        }
    }
}

/// What is known of an entry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::token) enum Content {
    /// All of it.
    Known(Bytes),
    /// Nothing yet: its server has to be asked.
    Awaited,
}

impl KeySource {
    /// Whose keys these are; may be unsaid while there is only one issuer.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.issuer.as_ref()
    }

    /// The `kid` of the one key in a PEM, DER or secret file.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Where its content is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The keys that this issuer says are its own.
    ///
    /// # Errors
    /// If its name is no URL that may be asked.
    pub fn discovered(issuer: &Issuer, reach: &Reach) -> Result<Self, UrlError> {
        Ok(Self {
            issuer: Some(issuer.clone()),
            kid: None,
            location: Location::Issuer(Discovery::of(issuer, reach)?),
        })
    }

    /// Who has to be asked, if it is someone else.
    pub(in crate::token) fn remote(&self) -> Option<Remote> {
        match &self.location {
            Location::File(_) | Location::Secret(_) => None,
            Location::Url(url) => Some(Remote::Url(url.clone())),
            Location::Issuer(discovery) => Some(Remote::Issuer(discovery.clone())),
        }
    }

    /// The same entry with its file named a secret: what to write if it is one.
    pub(in crate::token) fn named_a_secret(&self) -> Self {
        let mut named = self.clone();
        if let Location::File(path) = named.location {
            named.location = Location::Secret(path);
        }
        named
    }

    /// The content as far as this machine has it.
    pub(in crate::token) fn read(&self) -> Result<Content, Fault> {
        match &self.location {
            Location::File(path) | Location::Secret(path) => read(path).map(Content::Known),
            Location::Url(_) | Location::Issuer(_) => Ok(Content::Awaited),
        }
    }
}

fn read(path: &Path) -> Result<Bytes, Fault> {
    credentials::read(path).map_err(|fault| match fault {
        FileFault::Unreadable(kind) => Fault::Unreadable(kind),
        FileFault::TooLarge => Fault::FileTooLarge,
        FileFault::NotAFile | FileFault::Content(_) => Fault::NotAFile,
    })
}

/// Why an entry of `jwt-keys` cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing to load.
    #[error("the entry names no file")]
    NoPath,
    /// Neither `issuer` nor `kid`.
    #[error("the option {0:?} is unknown, an entry is [issuer=ISSUER;][kid=KID;]PATH, ...hmac:PATH or ...URL")]
    UnknownOption(String),
    /// Which one would count?
    #[error("the option `{0}` is given twice")]
    Twice(&'static str),
    /// An option with nothing behind its `=`.
    #[error("the option `{0}` is empty")]
    Empty(&'static str),
    /// A JWKS carries the names of its keys.
    #[error("at a URL is a JWKS, and its keys have their own names: `kid=` is for PEM, DER and secret files")]
    KidOnUrl,
    /// Not the keys, but who says where they are.
    #[error(
        "is the address of a discovery document, not of keys: leave it out, and the keys of an issuer in `jwt-issuer` are found by it"
    )]
    Discovery,
    /// A secret is never fetched.
    #[error("an HMAC secret is taken from a file alone: write `hmac:PATH`")]
    SecretOnUrl,
    /// A URL that keys are not fetched from.
    #[error(transparent)]
    Url(#[from] UrlError),
}

impl FromStr for KeySource {
    type Err = SourceError;

    fn from_str(entry: &str) -> Result<Self, SourceError> {
        Self::parse(entry, false)
    }
}

impl KeySource {
    /// Reads an entry, whose URL may be a plain `http` one from elsewhere if that is allowed.
    ///
    /// # Errors
    /// Why it cannot be understood.
    pub fn parse(entry: &str, allow_http: bool) -> Result<Self, SourceError> {
        let (mut issuer, mut kid) = (None, None);
        let mut rest = entry.trim();
        while let Some((option, behind)) = rest.split_once(';') {
            // A `;` in a path is the path's own as long as nothing before it looks like an option.
            match option.split_once('=') {
                Some(("issuer", value)) => set(&mut issuer, "issuer", value)?,
                Some(("kid", value)) => set(&mut kid, "kid", value)?,
                Some((name, _)) if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                    return Err(SourceError::UnknownOption(name.to_owned()));
                }
                _ => break,
            }
            rest = behind;
        }
        if rest.is_empty() {
            return Err(SourceError::NoPath);
        }
        let location = if let Some(path) = rest.strip_prefix(SECRET) {
            if path.is_empty() {
                return Err(SourceError::NoPath);
            }
            if JwksUrl::is_meant_by(path) {
                return Err(SourceError::SecretOnUrl);
            }
            Location::Secret(path.into())
        } else if JwksUrl::is_meant_by(rest) {
            let url = JwksUrl::parse(rest, allow_http)?;
            if Discovery::is_at(&url) {
                return Err(SourceError::Discovery);
            }
            Location::Url(url)
        } else {
            Location::File(rest.into())
        };
        if kid.is_some() && matches!(location, Location::Url(_)) {
            return Err(SourceError::KidOnUrl);
        }
        Ok(Self {
            issuer: issuer.map(Issuer::new),
            kid,
            location,
        })
    }
}

fn set(option: &mut Option<String>, name: &'static str, value: &str) -> Result<(), SourceError> {
    if value.is_empty() {
        return Err(SourceError::Empty(name));
    }
    match option.replace(value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(SourceError::Twice(name)),
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_found = matches!(self.location, Location::Issuer(_));
        if let Some(issuer) = self.issuer.as_ref().filter(|_| !is_found) {
            write!(f, "issuer={issuer};")?;
        }
        if let Some(kid) = &self.kid {
            write!(f, "kid={kid};")?;
        }
        match &self.location {
            Location::File(path) => f.write_str(&shown(path)),
            Location::Secret(path) => write!(f, "{SECRET}{}", shown(path)),
            Location::Url(url) => write!(f, "{url}"),
            Location::Issuer(discovery) => write!(f, "{discovery}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(entry: &str) -> Result<KeySource, SourceError> {
        entry.parse()
    }

    fn file(path: &str) -> Location {
        Location::File(path.into())
    }

    #[test]
    fn an_entry_is_a_path_with_an_issuer_and_a_kid_before_it() {
        let source = parse("issuer=https://a.example/;kid=1;/etc/keys/a.pem").unwrap();
        assert_eq!(source.issuer(), Some(&Issuer::new("https://a.example/")));
        assert_eq!((source.kid(), source.location()), (Some("1"), &file("/etc/keys/a.pem")));
        assert_eq!(parse("kid=1;issuer=https://a.example/;/etc/keys/a.pem"), Ok(source));
        let bare = parse("keys.json").unwrap();
        assert_eq!(
            (bare.issuer(), bare.kid(), bare.location()),
            (None, None, &file("keys.json"))
        );
    }

    #[test]
    fn an_entry_is_written_as_it_is_read() {
        for entry in [
            "a.pem",
            "hmac:a.secret",
            "issuer=i;kid=1;hmac:/k/a.secret",
            "kid=1;a.pem",
            "issuer=i;a.pem",
            "issuer=i;kid=a=b;dir/a;b=c.pem",
            "issuer=https://a.example/;https://a.example/keys?a=b;c=d",
        ] {
            assert_eq!(parse(entry).unwrap().to_string(), entry);
        }
    }

    #[test]
    fn an_entry_that_says_too_little_or_too_much_is_refused() {
        assert_eq!(parse(""), Err(SourceError::NoPath));
        assert_eq!(parse("issuer=i;"), Err(SourceError::NoPath));
        assert_eq!(parse("hmac:"), Err(SourceError::NoPath));
        assert_eq!(parse("hmac:https://a.example/"), Err(SourceError::SecretOnUrl));
        assert_eq!(parse("issuer=;a"), Err(SourceError::Empty("issuer")));
        assert_eq!(parse("kid=;a"), Err(SourceError::Empty("kid")));
        assert_eq!(parse("kid=1;kid=1;a"), Err(SourceError::Twice("kid")));
        assert_eq!(parse("alg=RS256;a"), Err(SourceError::UnknownOption("alg".to_owned())));
    }

    #[test]
    fn a_url_is_told_by_its_scheme_and_has_no_kid() {
        for url in ["https://a.example/jwks", "HTTPS://a.example/jwks"] {
            let source = parse(&format!("issuer=https://a.example;{url}")).unwrap();
            assert_eq!(
                source.location(),
                &Location::Url("https://a.example/jwks".parse().unwrap())
            );
            assert_eq!(source.read(), Ok(Content::Awaited));
            assert_eq!(parse(&format!("kid=1;{url}")), Err(SourceError::KidOnUrl));
        }
        assert_eq!(parse("http://a.example/"), Err(UrlError::Plain.into()));
    }
}
