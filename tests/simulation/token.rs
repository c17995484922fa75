//! Tokens of a simulation, and what the oracle knows of each.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use shared::clock::Clock as _;
use tests::token::{AUDIENCE, ISSUER};
use tests::{Key, test_keys, token_for};
use worker::identity::Issuer;
use worker::token::{KeySource, Keys, Rules, Verifier};

use crate::clock::SimClock;

/// Always the same, so that a seed makes the same tokens in every process.
static KEY: LazyLock<Key> = LazyLock::new(|| Key::hmac("the key of simulations, and of nothing else"));

/// How many tokens a verifier remembers.
const CACHE: usize = 1_000;

/// What a message brings to prove who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// No token.
    None,
    /// A token of that subject which lives for so long.
    Valid { subject: &'static str, lifetime: Duration },
    /// The good token that the same client used last; no token if it has none.
    Same,
    /// One that was good.
    Expired { subject: &'static str },
    /// One that never was.
    Invalid,
}

/// One token, as the oracle knows it.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) subject: &'static str,
    pub(crate) jti: String,
    /// Its `iat`, in milliseconds since the beginning.
    pub(crate) issued_ms: u64,
    /// Its `exp`, without leeway.
    pub(crate) expires_ms: u64,
    /// Whether its signature holds.
    pub(crate) genuine: bool,
    pub(crate) text: String,
}

/// Issues tokens, and numbers them.
#[derive(Clone, Debug)]
pub(crate) struct Mint {
    clock: SimClock,
    issued: Arc<Mutex<u64>>,
}

impl Mint {
    pub(crate) fn new(clock: SimClock) -> Self {
        Self {
            clock,
            issued: Arc::default(),
        }
    }

    /// The token that `proof` asks for.
    pub(crate) fn issue(&self, proof: Proof, last: Option<&Token>) -> Option<Token> {
        match proof {
            Proof::None => None,
            Proof::Same => last.cloned(),
            Proof::Valid { subject, lifetime } => Some(self.token(subject, 0, lifetime.as_secs(), true)),
            // It was issued ten minutes ago, and ended a minute ago: beyond every leeway.
            Proof::Expired { subject } => Some(self.token(subject, 600, 540, true)),
            Proof::Invalid => Some(self.token("mallory", 0, 600, false)),
        }
    }

    /// The `jti` of the token that was issued last.
    pub(crate) fn last(&self) -> String {
        jti(*self.issued.lock().expect("no holder panics"))
    }

    fn token(&self, subject: &'static str, age_s: u64, lifetime_s: u64, genuine: bool) -> Token {
        let number = {
            let mut issued = self.issued.lock().expect("no holder panics");
            *issued += 1;
            *issued
        };
        let now_s = self.clock.now().as_secs();
        let (iat, jti) = (now_s - age_s, jti(number));
        let token = token_for(subject)
            .claim("iat", iat)
            .claim("exp", iat + lifetime_s)
            .claim("jti", jti.as_str());
        let signed = token.signed_with(&KEY);
        let signed = if genuine { signed } else { signed.signature([7; 32]) };
        let ms = |s| SimClock::ms_of(shared::clock::Timestamp::from_secs(s));
        Token {
            subject,
            jti,
            issued_ms: ms(iat),
            expires_ms: ms(iat + lifetime_s),
            genuine,
            text: signed.mint(),
        }
    }
}

fn jti(number: u64) -> String {
    format!("t{number}")
}

/// A verifier of these tokens.
pub(crate) fn verifier(leeway: Duration) -> Arc<Verifier> {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| {
        let file = test_keys().folder().join("simulation.secret");
        std::fs::write(&file, KEY.secret()).expect("the folder is there");
        file
    });
    let source: KeySource = format!("hmac:{}", FILE.display()).parse().expect("a path");
    let keys = Keys::load(&[source], &[Issuer::new(ISSUER)], &[]).expect("the key is good");
    let rules = Rules {
        leeway,
        ..Rules::new(vec![AUDIENCE.to_owned()])
    };
    Arc::new(Verifier::new(keys, rules, CACHE))
}
