//! From the contents of files and URLs to a set of keys, or to all that is wrong.
//!
//! Anyone who starts a worker with four mistakes in its keys should not have to
//! start it five times, so nothing here stops at the first: faults are collected,
//! of single keys as they are found, of the whole set at the end.
//!
//! A key set is mostly someone else's, and one bad key in it spoils no other: what
//! is for another use, of an unknown kind, weak or a private key is passed over, and
//! remembered to be told. That holds for a file with one such key, too, and for a set
//! of which nothing is left, as long as the issuer has other keys. A set in which two
//! keys cannot be told apart is refused.

use std::collections::BTreeMap;

use super::ByKid;
use super::fault::{Fault, KeyError, KeyErrors, KeyName};
use super::jwk::{self, Jwk, Jwks};
use super::key::{Key, Material};
use super::kind::Kind;
use super::limits::{MAX_KEYS, MAX_SAME_KID};
use super::looks::form::{Form, trim_start};
use super::pem;
use super::secret::secret_in;
use super::source::discovery::Discovery;
use super::source::{Content, Location};
use crate::auth::identity::Issuer;
use crate::token::claims::members::Members;
use crate::token::{Algorithm, KeySource};
use serde_json::Value;

/// Keys and mistakes found so far.
pub(in crate::token) struct KeySetBuilder<'a> {
    issuers: &'a [Issuer],
    allowed: &'a [Algorithm],
    keys: Vec<Key>,
    /// For each key, where it came from.
    places: Vec<Place>,
    /// Of the sources whose keys are still to come.
    awaited: Vec<Issuer>,
    /// How many sources there have been.
    sources: usize,
    /// What is wrong with keys that are left out.
    passed_over: Vec<KeyError>,
    findings: Vec<Finding>,
}

/// Something that is wrong.
struct Finding {
    error: KeyError,
    /// The source, from 0, and its issuer, if it does no harm where the issuer has other keys.
    spared: Option<(usize, Issuer)>,
}

/// A whole set.
pub(in crate::token) struct Loaded {
    pub(in crate::token) keys: Vec<Key>,
    pub(in crate::token) by_kid: ByKid,
    /// Whether keys are still to come.
    pub(in crate::token) is_partial: bool,
    pub(in crate::token) passed_over: Vec<KeyError>,
    /// Of the sources, from 0, that give no key: why.
    pub(in crate::token) unusable: Unusable,
}

/// Of sources, from 0, that give no key, what is wrong with their keys.
pub(in crate::token) type Unusable = BTreeMap<usize, Vec<KeyError>>;

/// Where a key came from: the entry, and how an error calls the key if the entry holds several.
type Place = (String, Option<KeyName>);

/// The source at hand.
struct Entry<'s> {
    text: String,
    source: &'s KeySource,
    issuer: Issuer,
    index: usize,
}

impl Entry<'_> {
    fn place(&self, name: Option<KeyName>) -> Place {
        (self.text.clone(), name)
    }
}

impl<'a> KeySetBuilder<'a> {
    pub(in crate::token) fn new(issuers: &'a [Issuer], allowed: &'a [Algorithm]) -> Self {
        Self {
            issuers,
            allowed,
            keys: Vec::new(),
            places: Vec::new(),
            awaited: Vec::new(),
            sources: 0,
            passed_over: Vec::new(),
            findings: Vec::new(),
        }
    }

    /// Adds the keys of one entry.
    pub(in crate::token) fn entry(&mut self, source: &KeySource, content: Result<Content, Fault>) {
        let text = source.to_string();
        // Keys of a wrong issuer are never used, but they too can be found wrong.
        let issuer = self.issuer_of(source).unwrap_or_else(|fault| {
            self.find(at(&(text.clone(), None), fault));
            source.issuer().cloned().unwrap_or_else(|| Issuer::new(""))
        });
        let index = self.sources;
        self.sources += 1;
        let entry = Entry {
            text,
            source,
            issuer,
            index,
        };
        match content {
            Err(fault) => self.fault(&entry, None, fault),
            Ok(Content::Awaited) => self.awaited.push(entry.issuer),
            Ok(Content::Known(content)) => match (source.location(), Form::of(&content)) {
                (Location::Url(_) | Location::Issuer(_), _) | (Location::File(_), Form::Jwks) => {
                    self.jwks(&entry, &content);
                }
                (_, form) => self.single(&entry, single(source, form, &content)),
            },
        }
    }

    fn single(&mut self, entry: &Entry<'_>, material: Result<Material, Fault>) {
        let added = material.and_then(|material| {
            let key = Key::new(entry.issuer.clone(), entry.source.kid(), material, None);
            self.key(entry, None, key)
        });
        match added {
            Ok(()) => {}
            Err(fault) if fault.is_of_the_key_alone() => self.spare(entry, [at(&entry.place(None), fault)]),
            Err(fault) => self.fault(entry, None, fault),
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

    fn jwks(&mut self, entry: &Entry<'_>, content: &[u8]) {
        if entry.source.kid().is_some() {
            self.fault(entry, None, Fault::KidOnJwks);
        }
        let keys = match Jwks::parse(trim_start(content)) {
            Err(_) if Discovery::is_document(trim_start(content)) => {
                return self.fault(entry, None, Fault::DiscoveryDocument);
            }
            Err(fault) => return self.fault(entry, None, fault),
            Ok(jwks) if jwks.keys.is_empty() => return self.spare(entry, [at(&entry.place(None), Fault::NoKeys)]),
            Ok(jwks) if jwks.keys.len() > MAX_KEYS => {
                return self.fault(entry, None, Fault::TooManyKeys(jwks.keys.len()));
            }
            Ok(jwks) => jwks.keys,
        };
        let (found_before, mut passed_over) = (self.keys.len(), Vec::new());
        for (index, members) in keys.iter().enumerate() {
            if let Err((name, faults)) = self.jwk(entry, index, members) {
                let place = entry.place(Some(name));
                passed_over.extend(faults.into_iter().map(|fault| at(&place, fault)));
            }
        }
        if found_before == self.keys.len() {
            self.spare(entry, passed_over);
        } else {
            self.passed_over.extend(passed_over);
        }
    }

    /// Adds one key of a set, or says all that is wrong with it.
    fn jwk(&mut self, entry: &Entry<'_>, index: usize, members: &Members) -> Result<(), (KeyName, Vec<Fault>)> {
        let kid = jwk::kid(members);
        let name = match kid {
            Ok(Some(kid)) => KeyName::Kid(kid.to_owned()),
            _ => KeyName::Index(index),
        };
        if entry.source.remote().is_some() && jwk::is_symmetric(members) {
            return Err((name, vec![Fault::RemoteSecret]));
        }
        let faults = match (kid, jwk::parse(members)) {
            (Ok(kid), Ok(Jwk { material, algorithm })) => {
                let issuer = issuer_of_jwk(&entry.issuer, members);
                let key = Key::new(issuer, kid, material, algorithm);
                match self.key(entry, Some(name.clone()), key) {
                    Ok(()) => return Ok(()),
                    Err(fault) => vec![fault],
                }
            }
            (kid, jwk) => kid.err().into_iter().chain(jwk.err().unwrap_or_default()).collect(),
        };
        Err((name, faults))
    }

    /// Narrows a key's algorithms to the allowed ones and adds it, if there are any.
    fn key(&mut self, entry: &Entry<'_>, name: Option<KeyName>, mut key: Key) -> Result<(), Fault> {
        let usable = key.algorithms.clone();
        key.algorithms
            .retain(|algorithm| self.allowed.is_empty() || self.allowed.contains(algorithm));
        if key.algorithms.is_empty() {
            let kind = key.material.kind;
            return Err(Fault::NoAlgorithm { kind, usable });
        }
        self.keys.push(key);
        self.places.push(entry.place(name));
        Ok(())
    }

    /// Checks what only the whole set can have wrong.
    pub(in crate::token) fn finish(mut self) -> Result<Loaded, KeyErrors> {
        if self.issuers.is_empty() {
            self.find(of_all(Fault::NoIssuer));
        }
        if self.keys.len() > MAX_KEYS {
            self.find(of_all(Fault::TooManyKeys(self.keys.len())));
        }
        self.refuse_mixture();
        let by_kid = self.index();
        let (mut errors, mut unusable) = (Vec::new(), Unusable::new());
        for Finding { error, spared } in std::mem::take(&mut self.findings) {
            match spared.filter(|(_, issuer)| self.has_keys_of(issuer)) {
                Some((source, _)) => {
                    self.passed_over.push(error.clone());
                    unusable.entry(source).or_default().push(error);
                }
                None => errors.push(error),
            }
        }
        if errors.is_empty() {
            errors = self.lack();
        }
        if !errors.is_empty() {
            return Err(KeyErrors(errors));
        }
        Ok(Loaded {
            keys: self.keys,
            by_kid,
            is_partial: !self.awaited.is_empty(),
            passed_over: self.passed_over,
            unusable,
        })
    }

    /// Whether it has any, or may have once they come.
    fn has_keys_of(&self, issuer: &Issuer) -> bool {
        self.keys.iter().any(|key| issuer.covers(key.issuer.as_str())) || self.awaited.contains(issuer)
    }

    /// Where both sorts are meant, `jwt-algorithms` names both, and has left a key of each.
    fn refuse_mixture(&mut self) {
        if !self.allowed.is_empty() {
            return;
        }
        let symmetric = |key: &Key| key.material.kind == Kind::Hmac;
        let is_mixed = |key: &Key| {
            let others = |other: &Key| other.issuer == key.issuer && !symmetric(other);
            symmetric(key) && self.keys.iter().any(others)
        };
        let secrets = self.keys.iter().zip(&self.places).filter(|(key, _)| is_mixed(key));
        let mixed: Vec<_> = secrets.map(|(_, place)| at(place, Fault::Mixed)).collect();
        mixed.into_iter().for_each(|error| self.find(error));
    }

    fn index(&mut self) -> ByKid {
        let (mut by_kid, mut errors) = (ByKid::new(), Vec::new());
        for (index, (key, place)) in self.keys.iter().zip(&self.places).enumerate() {
            let Some(kid) = &key.kid else { continue };
            let same = by_kid.entry(kid.clone()).or_default();
            let others = || same.iter().filter_map(|&other| self.keys.get(other));
            let serving = |algorithm: &Algorithm| others().filter(|other| other.algorithms.contains(algorithm)).count();
            if others().any(|other| other.issuer == key.issuer && key.shares_an_algorithm(other)) {
                errors.push(at(place, Fault::DuplicateKid));
            } else if key
                .algorithms
                .iter()
                .any(|algorithm| serving(algorithm) == MAX_SAME_KID)
            {
                errors.push(at(place, Fault::KidSharedTooOften));
            }
            same.push(index);
        }
        errors.into_iter().for_each(|error| self.find(error));
        by_kid
    }

    /// Said only when nothing else is wrong: a key that was refused is not a key that was forgotten.
    fn lack(&self) -> Vec<KeyError> {
        if self.keys.is_empty() && self.awaited.is_empty() {
            return vec![of_all(Fault::NoKeys)];
        }
        let lacking = self.issuers.iter().filter(|issuer| !self.has_keys_of(issuer));
        lacking
            .map(|issuer| of_all(Fault::IssuerWithoutKeys(issuer.clone())))
            .collect()
    }

    /// Of a source nothing is left, for these reasons.
    fn spare(&mut self, entry: &Entry<'_>, errors: impl IntoIterator<Item = KeyError>) {
        self.findings.extend(errors.into_iter().map(|error| Finding {
            error,
            spared: Some((entry.index, entry.issuer.clone())),
        }));
    }

    fn fault(&mut self, entry: &Entry<'_>, key: Option<KeyName>, fault: Fault) {
        self.find(at(&entry.place(key), fault));
    }

    fn find(&mut self, error: KeyError) {
        self.findings.push(Finding { error, spared: None });
    }
}

fn of_all(fault: Fault) -> KeyError {
    KeyError {
        entry: None,
        key: None,
        fault,
    }
}

/// A key of all tenants may be one tenant's alone, which Entra ID says in the key's member `issuer`.
fn issuer_of_jwk(issuer: &Issuer, jwk: &Members) -> Issuer {
    match jwk.get("issuer").and_then(Value::as_str) {
        Some(one) if issuer.covers(one) => Issuer::new(one),
        _ => issuer.clone(),
    }
}

fn at((entry, key): &Place, fault: Fault) -> KeyError {
    KeyError {
        entry: Some(entry.clone()),
        key: key.clone(),
        fault,
    }
}

/// A file that holds one key.
fn single(source: &KeySource, form: Form, content: &[u8]) -> Result<Material, Fault> {
    match (source.location(), form) {
        (Location::Secret(_), _) => Material::hmac(secret_in(content)?),
        (_, Form::Pem) => pem::parse(trim_start(content)),
        (_, Form::Der) => pem::parse_der(content),
        // A JWKS is none that holds one key, and taken care of before.
        (_, Form::Jwks) => Err(Fault::UnsupportedKey),
        (_, Form::Other(looks)) => Err(Fault::Unrecognized {
            looks,
            named: secret_in(content).is_ok().then(|| source.named_a_secret().to_string()),
        }),
    }
}
