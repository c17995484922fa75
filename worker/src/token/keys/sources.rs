//! The last good content of every source, and the set of keys that they make.
//!
//! Keys of one source can spoil those of another (a `kid` twice, a secret among
//! public keys), so new content is good only if the whole set is. What is not good
//! is set aside, and the set stays as it was. It is tried again when something else
//! has changed: a key may have moved from one file to another. A source that had keys
//! is not taken to have none.

use bytes::Bytes;
use shared::credentials;
use shared::service::clock::Timestamp;

use super::fault::{Fault, KeyError, KeyErrors};
use super::jwk::{self, Jwks};
use super::looks::form::{Form, trim_start};
use super::source::{Content, Location};
use crate::auth::identity::Issuer;
use crate::token::{Algorithm, KeySource, Keys};

/// Which of the sources, from 0.
pub(in crate::token) type Place = usize;

/// What a source was found to hold.
pub(in crate::token) type Found = (Place, Result<Bytes, Fault>);

/// All sources, in the order of the setting.
pub(crate) struct KeySources {
    held: Vec<Held>,
    issuers: Vec<Issuer>,
    allowed: Vec<Algorithm>,
}

struct Held {
    source: KeySource,
    good: Content,
    /// Why it gives no key, if it has not since the start.
    unusable: Option<KeyErrors>,
    set_aside: Option<SetAside>,
}

impl Held {
    /// A source never turns into something else while it is used: what was a key set yesterday and is a secret today is
    /// someone's slip.
    fn keeps_its_kind(&self, content: &Result<Bytes, Fault>) -> Result<(), KeyErrors> {
        let (Content::Known(good), Ok(content)) = (&self.good, content) else {
            return Ok(());
        };
        // Of what cannot be read, the loader says so.
        let (Some(was), Some(now)) = (kind_of(&self.source, good), kind_of(&self.source, content)) else {
            return Ok(());
        };
        // A set that had both may lose its secrets, or its public keys.
        if was == now || (was == BOTH && (now == PUBLIC_SET || now == SECRET_SET)) {
            return Ok(());
        }
        Err(KeyErrors(vec![KeyError {
            entry: Some(self.source.to_string()),
            key: None,
            fault: Fault::KindChanged { was, now },
        }]))
    }
}

const PUBLIC_SET: &str = "a JWKS of public keys";
const SECRET_SET: &str = "a JWKS of secrets";
const BOTH: &str = "a JWKS of public keys and secrets";

/// What a source holds; none if that cannot be told.
fn kind_of(source: &KeySource, content: &[u8]) -> Option<&'static str> {
    Some(match (source.location(), Form::of(content)) {
        (Location::Secret(_), _) => "an HMAC secret",
        // Of what a server publishes, secrets are passed over.
        (Location::Url(_) | Location::Issuer(_), _) => PUBLIC_SET,
        (_, Form::Jwks) => {
            let keys = Jwks::parse(trim_start(content))
                .ok()
                .filter(|jwks| !jwks.keys.is_empty())?
                .keys;
            let secrets = keys.iter().filter(|key| jwk::is_symmetric(key)).count();
            match secrets {
                0 => PUBLIC_SET,
                all if all == keys.len() => SECRET_SET,
                _ => BOTH,
            }
        }
        (_, Form::Pem) => "a key in PEM",
        (_, Form::Der) => "a key in DER",
        (_, Form::Other(_)) => return None,
    })
}

/// Content that is not good, as long as the source has no other.
struct SetAside {
    content: Result<Bytes, Fault>,
    why: KeyErrors,
}

impl KeySources {
    /// Reads the files, and leaves the URLs for later.
    ///
    /// # Errors
    /// All that is wrong with any of them.
    pub(crate) fn load(
        sources: Vec<KeySource>,
        issuers: Vec<Issuer>,
        allowed: Vec<Algorithm>,
    ) -> Result<(Self, Keys), KeyErrors> {
        let read: Vec<_> = sources.iter().map(KeySource::read).collect();
        let keys = Keys::assemble(sources.iter().zip(read.clone()), &issuers, &allowed)?;
        // None of them failed, or there would be no keys.
        let held = sources
            .into_iter()
            .zip(read)
            .enumerate()
            .map(|(place, (source, good))| Held {
                source,
                good: good.unwrap_or(Content::Awaited),
                unusable: keys.unusable(place),
                set_aside: None,
            });
        let contents = Self {
            held: held.collect(),
            issuers,
            allowed,
        };
        Ok((contents, keys))
    }

    /// Takes in what was found. Returns the new set of keys if there is one.
    pub(in crate::token) fn take_in(&mut self, found: impl IntoIterator<Item = Found>) -> Option<Keys> {
        let mut keys = None;
        for (place, content) in found {
            keys = self.offer(place, content).or(keys);
        }
        if keys.is_some() {
            // Each round takes in one at least, or is the last.
            while let Some(more) = self.retry() {
                keys = Some(more);
            }
        }
        keys
    }

    /// What is wrong with the newest content of a source, if anything is.
    pub(in crate::token) fn refusal(&self, place: Place) -> Option<&KeyErrors> {
        let held = self.held.get(place)?;
        held.set_aside
            .as_ref()
            .map(|aside| &aside.why)
            .or(held.unusable.as_ref())
    }

    /// Of what kind is what is in force of a source, and until when a certificate there is good.
    pub(in crate::token) fn in_force(&self, place: Place) -> Option<(&'static str, Option<Timestamp>)> {
        let held = self.held.get(place)?;
        let Content::Known(content) = &held.good else {
            return None;
        };
        let kind = kind_of(&held.source, content)?;
        let in_pem = credentials::chain(content)
            .ok()
            .and_then(|chain| credentials::ends(&chain));
        let until = in_pem.or_else(|| credentials::validity(content).map(|validity| validity.until));
        Some((kind, until))
    }

    /// The sources whose keys are still to come.
    pub(in crate::token) fn awaited(&self) -> impl Iterator<Item = (Place, &KeySource)> {
        let awaited = |(_, held): &(Place, &Held)| held.good == Content::Awaited;
        self.each().filter(awaited).map(|(place, held)| (place, &held.source))
    }

    /// Every source, with what is known of it.
    pub(in crate::token) fn sources(&self) -> impl Iterator<Item = (Place, &KeySource, &Content)> {
        self.each().map(|(place, held)| (place, &held.source, &held.good))
    }

    fn each(&self) -> impl Iterator<Item = (Place, &Held)> {
        self.held.iter().enumerate()
    }

    fn retry(&mut self) -> Option<Keys> {
        let again: Vec<Found> = self
            .each()
            .filter_map(|(place, held)| Some((place, held.set_aside.as_ref()?.content.clone())))
            .collect();
        let mut keys = None;
        for (place, content) in again {
            keys = self.offer(place, content).or(keys);
        }
        keys
    }

    fn offer(&mut self, place: Place, content: Result<Bytes, Fault>) -> Option<Keys> {
        let held = self.held.get(place)?;
        let same = |content: &Bytes| held.good == Content::Known(content.clone());
        let is_new = !content.as_ref().is_ok_and(same);
        let tried = is_new.then(|| {
            held.keeps_its_kind(&content)?;
            let keys = self.with(place, &content)?;
            keys.unusable(place).map_or(Ok(keys), Err)
        });
        let held = self.held.get_mut(place)?;
        match tried {
            None => {
                held.set_aside = None;
                None
            }
            Some(Ok(keys)) => {
                held.set_aside = None;
                held.unusable = None;
                held.good = content.map_or(Content::Awaited, Content::Known);
                Some(keys)
            }
            Some(Err(why)) => {
                held.set_aside = Some(SetAside { content, why });
                None
            }
        }
    }

    /// The keys, if the source in that place held that.
    fn with(&self, place: Place, content: &Result<Bytes, Fault>) -> Result<Keys, KeyErrors> {
        let contents = self.each().map(|(other, held)| {
            let content = if other == place {
                content.clone().map(Content::Known)
            } else {
                Ok(held.good.clone())
            };
            (&held.source, content)
        });
        Keys::assemble(contents, &self.issuers, &self.allowed)
    }
}

/// The first thing that is wrong, and how many others are.
pub(in crate::token) fn first(errors: &KeyErrors) -> (Option<&KeyError>, usize) {
    (errors.0.first(), errors.0.len().saturating_sub(1))
}
