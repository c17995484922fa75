//! All the keys that tokens are verified with.
//!
//! Choosing among them follows the token's `kid` and `alg`; without a `kid`, the few
//! keys that fit are tried. A `kid` that no key has may mean one of the keys that were
//! given no name: a static key has one only if its entry says so, and its issuer may
//! well name it. A key's issuer is compared after its signature holds.

pub(crate) mod builder;
pub(crate) mod der;
pub(crate) mod fault;
pub(crate) mod jwk;
pub(crate) mod key;
pub(crate) mod kind;
pub(crate) mod limits;
pub(crate) mod looks;
pub(crate) mod pem;
pub(crate) mod refresh_signal;
pub(crate) mod refresher;
pub(crate) mod roca;
pub(crate) mod secret;
pub mod source;
pub(crate) mod sources;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use shared::wire::tag::KeyTag;

use super::keys::builder::{KeySetBuilder, Loaded, Unusable};
use super::keys::fault::{Fault, KeyError, KeyErrors};
use super::keys::key::Key;
use super::keys::limits::MAX_TRIED;
use super::keys::source::Content;
use super::{Algorithm, KeySource, Reason};
use crate::auth::identity::Issuer;

/// Where the keys of that `kid` stand: one for each issuer that uses it and each algorithm that it is used with.
pub(super) type ByKid = HashMap<Arc<str>, Vec<usize>>;

/// A checked, unchanging set of keys.
#[derive(Debug)]
pub struct Keys {
    keys: Vec<Key>,
    by_kid: ByKid,
    is_partial: bool,
    passed_over: Vec<KeyError>,
    unusable: Unusable,
}

impl Keys {
    /// Reads and checks every source. With one issuer, all keys are its own. Those at URLs are still to come.
    ///
    /// `allowed` narrows what the keys may be used for (`jwt-algorithms`); empty, it does not.
    ///
    /// # Errors
    /// All that is wrong with any of them, one line each.
    pub fn load(sources: &[KeySource], issuers: &[Issuer], allowed: &[Algorithm]) -> Result<Self, KeyErrors> {
        Self::assemble(sources.iter().map(|source| (source, source.read())), issuers, allowed)
    }

    /// [`Keys::load`] of one source that has this content.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn of_content(source: &KeySource, content: bytes::Bytes, issuer: &Issuer) -> Result<Self, KeyErrors> {
        let content = Ok(Content::Known(content));
        Self::assemble([(source, content)], std::slice::from_ref(issuer), &[])
    }

    /// [`Keys::load`] without the reading.
    pub(super) fn assemble<'a>(
        contents: impl IntoIterator<Item = (&'a KeySource, Result<Content, Fault>)>,
        issuers: &[Issuer],
        allowed: &[Algorithm],
    ) -> Result<Self, KeyErrors> {
        let mut loading = KeySetBuilder::new(issuers, allowed);
        for (source, content) in contents {
            loading.entry(source, content);
        }
        let Loaded {
            keys,
            by_kid,
            is_partial,
            passed_over,
            unusable,
        } = loading.finish()?;
        Ok(Self {
            keys,
            by_kid,
            is_partial,
            passed_over,
            unusable,
        })
    }

    /// What is wrong with the keys of its sources that are not among them, each with its name.
    pub fn passed_over(&self) -> &[KeyError] {
        &self.passed_over
    }

    /// What is wrong with all keys of the source in that place, from 0; none where a key is used or awaited.
    pub(super) fn unusable(&self, source: usize) -> Option<KeyErrors> {
        self.unusable.get(&source).map(|errors| KeyErrors(errors.clone()))
    }

    /// How many keys there are; 0 only while others are still to come.
    #[expect(clippy::len_without_is_empty, reason = "a whole set of keys is never empty")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are sources whose keys are still to come, so that a key that is not here may well exist.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// The names that its keys have.
    pub(super) fn kids(&self) -> impl Iterator<Item = &str> {
        self.by_kid.keys().map(|kid| &**kid)
    }

    /// By which what they have proved is known.
    pub(crate) fn tags(&self) -> BTreeSet<KeyTag> {
        self.keys.iter().map(|key| key.tag).collect()
    }

    /// Whether a key has that name.
    pub(super) fn has(&self, kid: &str) -> bool {
        self.by_kid.contains_key(kid)
    }

    /// The keys that may have signed a token with that header.
    pub(super) fn candidates(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Vec<&Key>, Reason> {
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        let candidates: Vec<&Key> = match kid {
            None => self.keys.iter().filter(fits).take(MAX_TRIED).collect(),
            Some(kid) => match self.by_kid.get(kid) {
                Some(named) => {
                    let named = named.iter().filter_map(|&index| self.keys.get(index));
                    named.filter(fits).collect()
                }
                None => {
                    let nameless = self.keys.iter().filter(|key| key.kid.is_none());
                    nameless.filter(fits).take(MAX_TRIED).collect()
                }
            },
        };
        match candidates.is_empty() {
            false => Ok(candidates),
            true if self.is_unknown(kid) => Err(Reason::UnknownKey),
            true => Err(Reason::Algorithm),
        }
    }

    /// What it means that none of the candidates signed it.
    pub(super) fn unsigned(&self, kid: Option<&str>) -> Reason {
        if self.is_unknown(kid) {
            Reason::UnknownKey
        } else {
            Reason::Signature
        }
    }

    fn is_unknown(&self, kid: Option<&str>) -> bool {
        kid.is_some_and(|kid| !self.has(kid))
    }
}
