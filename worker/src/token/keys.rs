//! All the keys that tokens are verified with.
//!
//! Loading is strict and says everything at once: whoever starts a worker with
//! four mistakes in its keys should not have to start it five times. Choosing
//! follows the token's `kid` alone; without one, the few keys that fit are tried.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::jwk::{self, Jwks};
use super::key::{Key, Kind, Material};
use super::{Algorithm, Fault, KeySource, Reason, pem};
use crate::identity::Issuer;

/// Keys of all sources together.
pub(super) const MAX_KEYS: usize = 1_000;
/// Keys tried for one token. 8 * 60 us (ES256) is about 0.5 ms a forged token.
const MAX_TRIED: usize = 8;
/// Issuers may use one `kid` by chance, or share a key; all of them can be tried.
pub(super) const MAX_SAME_KID: usize = MAX_TRIED;

/// A checked, unchanging set of keys.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<Key>,
    by_kid: HashMap<Arc<str>, Vec<usize>>,
}

/// One thing that is wrong with the keys, in one line.
#[derive(Debug, PartialEq, Eq)]
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
#[derive(Debug, PartialEq, Eq)]
pub struct KeyErrors(pub Vec<KeyError>);

impl Keys {
    /// Reads and checks every source. With one issuer, all keys are its own.
    ///
    /// `allowed` narrows what the keys may be used for (`jwt-algorithms`); empty, it does not.
    ///
    /// # Errors
    /// All that is wrong with any of them, one line each.
    pub fn load(sources: &[KeySource], issuers: &[Issuer], allowed: &[Algorithm]) -> Result<Self, KeyErrors> {
        Self::assemble(sources.iter().map(|source| (source, source.read())), issuers, allowed)
    }

    /// [`Keys::load`] without the reading.
    pub(super) fn assemble<'a>(
        contents: impl IntoIterator<Item = (&'a KeySource, Result<Vec<u8>, Fault>)>,
        issuers: &[Issuer],
        allowed: &[Algorithm],
    ) -> Result<Self, KeyErrors> {
        let mut loading = Loading {
            issuers,
            allowed,
            keys: Vec::new(),
            entries: Vec::new(),
            errors: Vec::new(),
        };
        for (source, content) in contents {
            loading.entry(source, content);
        }
        loading.finish()
    }

    /// How many keys there are; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a set of keys is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The keys that may have signed a token with that header.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<&Key>, Reason> {
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        let candidates: Vec<&Key> = match kid {
            None => self.keys.iter().filter(fits).take(MAX_TRIED).collect(),
            Some(kid) => {
                let named = self.by_kid.get(kid).ok_or(Reason::UnknownKey)?;
                named
                    .iter()
                    .filter_map(|&index| self.keys.get(index))
                    .filter(fits)
                    .collect()
            }
        };
        if candidates.is_empty() {
            Err(Reason::Algorithm)
        } else {
            Ok(candidates)
        }
    }
}

struct Loading<'a> {
    issuers: &'a [Issuer],
    allowed: &'a [Algorithm],
    keys: Vec<Key>,
    /// For each key, where it came from.
    entries: Vec<(String, Option<KeyName>)>,
    errors: Vec<KeyError>,
}

impl Loading<'_> {
    fn entry(&mut self, source: &KeySource, content: Result<Vec<u8>, Fault>) {
        let entry = source.to_string();
        let issuer = self
            .issuer_of(source)
            .map_err(|fault| self.fault(&entry, None, fault))
            .ok();
        // Without an issuer the keys cannot be used, but they can be found wrong.
        let issuer = issuer.unwrap_or_else(|| Issuer::new(""));
        match content {
            Err(fault) => self.fault(&entry, None, fault),
            Ok(content) if starts_with(&content, "{") => self.jwks(&entry, source, &issuer, &content),
            Ok(content) => {
                let kid = source.kid().map(Arc::from);
                match single(&content) {
                    Ok(material) => self.key(
                        &entry,
                        None,
                        Key {
                            issuer,
                            kid,
                            algorithms: Vec::new(),
                            material,
                        },
                        None,
                    ),
                    Err(fault) => self.fault(&entry, None, fault),
                }
            }
        }
    }

    fn issuer_of(&self, source: &KeySource) -> Result<Issuer, Fault> {
        match (source.issuer(), self.issuers) {
            (Some(issuer), issuers) if issuers.contains(issuer) => Ok(issuer.clone()),
            (Some(issuer), _) => Err(Fault::IssuerUnknown(issuer.clone())),
            (None, [only]) => Ok(only.clone()),
            // `finish` says that there is none at all.
            (None, []) => Ok(Issuer::new("")),
            (None, _) => Err(Fault::IssuerUnsaid),
        }
    }

    fn jwks(&mut self, entry: &str, source: &KeySource, issuer: &Issuer, content: &[u8]) {
        if source.kid().is_some() {
            self.fault(entry, None, Fault::KidOnJwks);
        }
        let keys = match Jwks::parse(trim_start(content)) {
            Err(fault) => return self.fault(entry, None, fault),
            Ok(jwks) if jwks.keys.is_empty() => return self.fault(entry, None, Fault::NoKeys),
            Ok(jwks) if jwks.keys.len() > MAX_KEYS => {
                return self.fault(entry, None, Fault::TooManyKeys(jwks.keys.len()));
            }
            Ok(jwks) => jwks.keys,
        };
        for (index, members) in keys.iter().enumerate() {
            let (kid, kid_fault) = match jwk::kid(members) {
                Ok(Some("")) => (None, Some(Fault::EmptyKid)),
                Ok(kid) => (kid, None),
                Err(fault) => (None, Some(fault)),
            };
            let name = kid.map_or(KeyName::Index(index), |kid| KeyName::Kid(kid.to_owned()));
            if let Some(fault) = kid_fault {
                self.fault(entry, Some(name.clone()), fault);
            }
            match jwk::parse(members) {
                Err(faults) => faults
                    .into_iter()
                    .for_each(|fault| self.fault(entry, Some(name.clone()), fault)),
                Ok(jwk) => {
                    let (issuer, kid, material) = (issuer.clone(), kid.map(Arc::from), jwk.material);
                    let key = Key {
                        issuer,
                        kid,
                        algorithms: Vec::new(),
                        material,
                    };
                    self.key(entry, Some(name), key, jwk.algorithm);
                }
            }
        }
    }

    /// Binds a key to its algorithms and adds it.
    fn key(&mut self, entry: &str, name: Option<KeyName>, mut key: Key, only: Option<Algorithm>) {
        let kind = key.material.kind;
        let usable = only.map_or_else(|| kind.algorithms().to_vec(), |algorithm| vec![algorithm]);
        let allowed = |algorithm: &&Algorithm| self.allowed.is_empty() || self.allowed.contains(algorithm);
        key.algorithms = usable.iter().filter(allowed).copied().collect();
        if key.algorithms.is_empty() {
            self.fault(entry, name.clone(), Fault::NoAlgorithm { kind, usable });
        }
        self.keys.push(key);
        self.entries.push((entry.to_owned(), name));
    }

    /// What only the whole set can have wrong.
    fn finish(mut self) -> Result<Keys, KeyErrors> {
        if self.issuers.is_empty() {
            self.errors.push(KeyError {
                entry: None,
                key: None,
                fault: Fault::NoIssuer,
            });
        }
        if self.keys.len() > MAX_KEYS {
            let fault = Fault::TooManyKeys(self.keys.len());
            self.errors.push(KeyError {
                entry: None,
                key: None,
                fault,
            });
        }
        self.refuse_mixture();
        let by_kid = self.index();
        if self.errors.is_empty() {
            self.refuse_lack();
        }
        if self.errors.is_empty() {
            Ok(Keys {
                keys: self.keys,
                by_kid,
            })
        } else {
            Err(KeyErrors(self.errors))
        }
    }

    fn refuse_mixture(&mut self) {
        let symmetric = |key: &Key| key.material.kind == Kind::Hmac;
        if self.keys.iter().all(symmetric) {
            return;
        }
        let secrets = self.keys.iter().zip(&self.entries).filter(|(key, _)| symmetric(key));
        self.errors.extend(secrets.map(|(_, place)| at(place, Fault::Mixed)));
    }

    fn index(&mut self) -> HashMap<Arc<str>, Vec<usize>> {
        let mut by_kid: HashMap<Arc<str>, Vec<usize>> = HashMap::new();
        for (index, (key, place)) in self.keys.iter().zip(&self.entries).enumerate() {
            let Some(kid) = &key.kid else { continue };
            let same = by_kid.entry(kid.clone()).or_default();
            if same
                .iter()
                .any(|&other| self.keys.get(other).is_some_and(|other| other.issuer == key.issuer))
            {
                self.errors.push(at(place, Fault::DuplicateKid));
            } else if same.len() == MAX_SAME_KID {
                self.errors.push(at(place, Fault::KidSharedTooOften));
            }
            same.push(index);
        }
        by_kid
    }

    /// Said only when nothing else is wrong: a key that was refused is not a key that was forgotten.
    fn refuse_lack(&mut self) {
        if self.keys.is_empty() {
            return self.errors.push(KeyError {
                entry: None,
                key: None,
                fault: Fault::NoKeys,
            });
        }
        let lacking = self
            .issuers
            .iter()
            .filter(|&issuer| self.keys.iter().all(|key| key.issuer != *issuer));
        let faults = lacking.map(|issuer| Fault::IssuerWithoutKeys(issuer.clone()));
        self.errors.extend(faults.map(|fault| KeyError {
            entry: None,
            key: None,
            fault,
        }));
    }

    fn fault(&mut self, entry: &str, key: Option<KeyName>, fault: Fault) {
        self.errors.push(KeyError {
            entry: Some(entry.to_owned()),
            key,
            fault,
        });
    }
}

fn at((entry, key): &(String, Option<KeyName>), fault: Fault) -> KeyError {
    KeyError {
        entry: Some(entry.clone()),
        key: key.clone(),
        fault,
    }
}

/// A file that holds one key: PEM, or the bytes of a secret.
fn single(content: &[u8]) -> Result<Material, Fault> {
    if starts_with(content, pem::BEGIN.trim_end()) {
        return pem::parse(trim_start(content));
    }
    let begins = |window: &[u8]| window == pem::BEGIN.as_bytes();
    if content.windows(pem::BEGIN.len()).any(begins) {
        return Err(Fault::PemInSecret);
    }
    // Editors and `echo` end a file with a newline that nobody means to be part of the secret.
    let secret = content.strip_suffix(b"\n").unwrap_or(content);
    Material::hmac(
        secret
            .strip_suffix(b"\r")
            .filter(|_| secret.len() < content.len())
            .unwrap_or(secret),
    )
}

fn starts_with(content: &[u8], prefix: &str) -> bool {
    trim_start(content).starts_with(prefix.as_bytes())
}

/// Without the byte order mark and white space that editors put first.
fn trim_start(content: &[u8]) -> &[u8] {
    content
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(content)
        .trim_ascii_start()
}

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
        write!(f, ": {}", self.fault)
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
