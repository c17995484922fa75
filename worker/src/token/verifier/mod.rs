//! The order of the checks, and the clock.
//!
//! Cheap before dear, and proof before belief: size, shape and header first,
//! then the signature, and only then what the claims say. Time comes last and
//! expiry last of all, so that `Expired` means "this was a good token", which
//! is what makes it safe to ask its holder for a fresh one. A token from the
//! cache takes the same last step as a new one.

mod statement;

use std::iter::Peekable;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::{aws_lc, verify};
use shared::service::clock::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::cache::{Cache, Epoch};
use super::claims::Claims;
use super::compact::Compact;
use super::header::Header;
use super::keys::key::Key;
use super::keys::refresh_signal::{Answered, RefreshSignal};
use super::{Algorithm, Digest, Keys, Reason, Rejection, Rules, Verdict, Verified};
use crate::auth::identity::Identity;

pub(crate) use self::statement::Statement;

/// How far a token's time may lie ahead for it to be asked for again: what clocks are off by that no one has set wrong.
const MOST_AHEAD: Duration = Duration::from_secs(60);

impl Rules {
    /// Everything about a verified token that depends on the clock; expiry last.
    fn in_time(&self, token: &Verified, now: Timestamp) -> Result<(), Rejection> {
        let latest = now.saturating_add(self.leeway);
        let ahead = |date: Option<Timestamp>| date.map(|date| date.saturating_since(latest)).unwrap_or_default();
        let (begins, issued) = (ahead(token.not_before), ahead(token.issued_at));
        let wait = begins.max(issued);
        if !wait.is_zero() {
            let reason = if begins.is_zero() {
                Reason::IssuedInTheFuture
            } else {
                Reason::NotYetValid
            };
            let good_then = wait <= MOST_AHEAD && self.in_time(token, now.saturating_add(wait)).is_ok();
            return Err(match good_then {
                true => Rejection::NotYet { reason, wait },
                false => reason.into(),
            });
        }
        // The first catches an `exp` in milliseconds, the second a long life that has nearly passed.
        let too_late = token.expires_at > latest.saturating_add(self.max_lifetime);
        let too_long = |issued_at| token.expires_at.saturating_since(issued_at) > self.max_lifetime;
        if too_late || token.issued_at.is_some_and(too_long) {
            return Err(Reason::TooLongLived.into());
        }
        if now >= token.expires_at.saturating_add(self.leeway) {
            Err(Rejection::Expired)
        } else {
            Ok(())
        }
    }
}

/// The crypto provider does not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the crypto provider fails its self-test")]
pub struct SelfTestError;

/// Turns tokens into verdicts. Shared by all tasks of a worker.
pub struct Verifier {
    rules: Rules,
    cache: Cache,
    keys: RwLock<Arc<Keys>>,
    /// Changes with the keys, under their lock.
    epoch: AtomicU64,
    /// Tells when others are in place.
    replaced: watch::Sender<()>,
    refresh_signal: RefreshSignal,
}

impl Verifier {
    /// A verifier that remembers about `cache_capacity` tokens.
    pub fn new(keys: Keys, rules: Rules, cache_capacity: usize) -> Self {
        Self {
            rules,
            cache: Cache::new(cache_capacity),
            keys: RwLock::new(Arc::new(keys)),
            epoch: AtomicU64::new(0),
            replaced: watch::Sender::new(()),
            refresh_signal: RefreshSignal::settled(),
        }
    }

    /// Verifies one known signature and refuses one known forgery, so that a broken build fails at its start.
    ///
    /// # Errors
    /// If the provider gets either of them wrong.
    pub fn self_test() -> Result<(), SelfTestError> {
        // The example of RFC 7515 §A.1, its secret decoded.
        const SECRET: &[u8] = b"\x03\x23\x35\x4b\x2b\x0f\xa5\xbc\x83\x7e\x06\x65\x77\x7b\xa6\x8f\x5a\xb3\x28\xe6\xf0\x54\xc9\x28\xa9\x0f\x84\xb2\xd2\x50\x2e\xbf\xd3\xfb\x5a\x92\xd2\x06\x47\xef\x96\x8a\xb4\xc3\x77\x62\x3d\x22\x3d\x2e\x21\x72\x05\x2e\x4f\x08\xc0\xcd\x9a\xf5\x67\xd0\x80\xa3";
        const SIGNED: &str = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
        const SIGNATURE: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        const FORGERY: &str = "eBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        // Chosen by name, the provider cannot be missing or ambiguous, which would be a panic below.
        // Where there is one already, this changes nothing and that one is tested.
        let _already_installed = aws_lc::DEFAULT_PROVIDER.install_default();
        let key = DecodingKey::from_secret(SECRET);
        let holds = |signature| verify(signature, SIGNED.as_bytes(), &key, Algorithm::HS256).ok();
        match (holds(SIGNATURE), holds(FORGERY)) {
            (Some(true), Some(false)) => Ok(()),
            _ => Err(SelfTestError),
        }
    }

    /// Puts other keys in place of the present ones; no remembered verdict outlives the keys it rests on.
    pub fn replace_keys(&self, keys: Keys) {
        let mut current = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(keys);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        drop(current);
        self.replaced.send_replace(());
    }

    /// Changes whenever the keys do.
    pub(crate) fn replaced(&self) -> watch::Receiver<()> {
        self.replaced.subscribe()
    }

    /// The keys that it verifies with now.
    pub(crate) fn keys(&self) -> Arc<Keys> {
        self.current_keys().1
    }

    /// What it asks of every token.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// What that token proves at that moment.
    pub fn verify(&self, token: &str, now: Timestamp) -> Verdict {
        if token.len() > self.rules.max_size {
            let (bytes, limit) = (token.len(), self.rules.max_size);
            return Verdict::proves_nothing(Reason::TooLarge { bytes, limit }.into());
        }
        let digest = Digest::of(token);
        if let Some(verified) = self.cache.get(&digest, self.epoch.load(Ordering::Acquire)) {
            let in_time = self.rules.in_time(&verified, now);
            return Verdict::of(verified, in_time, true);
        }
        self.verify_anew(token, digest, now)
    }

    fn verify_anew(&self, token: &str, digest: Digest, now: Timestamp) -> Verdict {
        let parsed =
            Compact::parse(token).and_then(|compact| Ok((Header::parse(&compact.header, &self.rules.types)?, compact)));
        let (header, compact) = match parsed {
            Ok(parsed) => parsed,
            Err(reason) => return Verdict::proves_nothing(reason.into()),
        };
        // In this order: if all has been asked for, then what was found is among the keys that are looked at.
        let answered = self.refresh_signal.answered();
        let (epoch, keys) = self.current_keys();
        let verified = match prove(&compact, &header, digest, &keys, &self.rules) {
            Ok(verified) => Arc::new(verified),
            Err(reason) => return Verdict::proves_nothing(self.rejection(reason, &header, &keys, answered)),
        };
        let in_time = self.rules.in_time(&verified, now);
        if in_time.is_ok() {
            self.cache.insert(&verified, epoch);
        }
        Verdict::of(verified, in_time, false)
    }

    /// What it means that these keys do not prove a token.
    fn rejection(&self, reason: Reason, header: &Header, keys: &Keys, answered: Answered) -> Rejection {
        if reason == Reason::UnknownKey
            && let Some(kid) = &header.kid
            && let Some(wait) = self.refresh_signal.ask(kid, answered, Instant::now())
        {
            return Rejection::Unavailable { wait };
        }
        // Any of these may be otherwise under a key that is still to come; what the claims say will not.
        let rests_on_keys = matches!(
            reason,
            Reason::UnknownKey | Reason::Algorithm | Reason::Signature | Reason::Issuer
        );
        if rests_on_keys && keys.is_partial() {
            let wait = Duration::ZERO;
            Rejection::Unavailable { wait }
        } else {
            Rejection::Invalid(reason)
        }
    }

    /// All keys that there are have been asked for: what is unknown stays so.
    pub(crate) fn settle(&self) {
        self.refresh_signal.settle(true);
    }

    /// Where it is asked for keys that are unknown.
    pub(super) fn refresh_signal(&self) -> &RefreshSignal {
        &self.refresh_signal
    }

    fn current_keys(&self) -> (Epoch, Arc<Keys>) {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        (self.epoch.load(Ordering::Acquire), keys.clone())
    }

    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.cache.len()
    }
}

impl Verdict {
    /// It proves nothing, whatever the time.
    fn proves_nothing(rejection: Rejection) -> Self {
        Self {
            result: Err(rejection),
            expired: None,
            cached: false,
        }
    }

    /// It proves something, if it is in time.
    fn of(verified: Arc<Verified>, in_time: Result<(), Rejection>, cached: bool) -> Self {
        Self {
            expired: (in_time == Err(Rejection::Expired)).then(|| verified.clone()),
            result: in_time.map(|()| verified),
            cached,
        }
    }
}

/// The keys that signed it, of which there is one at least.
fn signers<'a>(
    compact: &'a Compact<'_>,
    header: &'a Header,
    keys: &'a Keys,
) -> Result<Peekable<impl Iterator<Item = &'a Key>>, Reason> {
    let candidates = keys.candidates(header.kid.as_deref(), header.algorithm)?;
    let holds = |key: &&Key| key.signed(compact.signed, compact.signature, header.algorithm);
    let mut signers = candidates.into_iter().filter(holds).peekable();
    signers.peek().ok_or_else(|| keys.unsigned(header.kid.as_deref()))?;
    Ok(signers)
}

/// Everything about a token that does not depend on the clock.
fn prove(
    compact: &Compact<'_>,
    header: &Header,
    digest: Digest,
    keys: &Keys,
    rules: &Rules,
) -> Result<Verified, Reason> {
    let mut signers = signers(compact, header, keys)?;
    let claims = Claims::parse(&compact.payload, rules)?;
    // Issuers may share a key, so the first whose key holds need not be the one that is claimed.
    let signer = signers
        .find(|key| key.issuer.is_of(&claims.issuer, &claims.all))
        .ok_or(Reason::Issuer)?;
    let issuer = signer.issuer.called(&claims.issuer);
    Ok(Verified {
        identity: Identity::new(issuer, claims.subject),
        expires_at: claims.expires_at,
        not_before: claims.not_before,
        issued_at: claims.issued_at,
        token_id: claims.token_id,
        claims: claims.all,
        digest,
        key: signer.tag,
    })
}
