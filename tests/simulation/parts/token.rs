//! Tokens of a simulation, and what the oracle knows of each.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};
use shared::service::clock::Clock as _;
use tests::tokens::token::{AUDIENCE, ISSUER};
use tests::{Key, test_keys, token_for};
use worker::auth::identity::Issuer;
use worker::token::{KeySource, Keys, Rules, Verifier};

use super::clock::SimClock;

/// Always the same, so that a seed makes the same tokens in every process.
static KEY: LazyLock<Key> = LazyLock::new(|| Key::hmac("the-key-of-simulations,and-of-nothing-else"));

/// How long ago a token was issued that others are newer than.
const OLDER_S: u64 = 100;

/// How many tokens a verifier remembers.
const CACHE: usize = 1_000;

/// What a message brings to prove who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// No token.
    None,
    /// A token of that subject which lives for so long.
    Valid { subject: &'static str, lifetime: Duration },
    /// One that lives for so long, and was issued before others were.
    Older { subject: &'static str, lifetime: Duration },
    /// The good token that the same client used last; no token if it has none.
    Same,
    /// One that was good.
    Expired { subject: &'static str },
    /// One that never was.
    Invalid,
}

/// What tokens allow: any of two things, in a claim that is a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Roles(u8);

impl Roles {
    const NAMES: [&str; 2] = ["reads", "writes"];

    /// Those of the token of that number.
    fn of(number: u64) -> Self {
        // Neighbours differ, and so do neighbours but one.
        Self([1, 3, 2, 3, 0, 1, 2][usize::try_from(number % 7).expect("it is small")])
    }

    /// As an application sees them.
    pub(crate) fn of_claims(claims: &Map<String, Json>) -> Self {
        let named = |name: &&str| {
            claims
                .get("roles")
                .and_then(Json::as_array)
                .is_some_and(|all| all.contains(&json!(name)))
        };
        Self(
            (0..)
                .zip(Self::NAMES)
                .filter(|(_, name)| named(name))
                .map(|(bit, _)| 1 << bit)
                .sum(),
        )
    }

    fn names(self) -> Vec<&'static str> {
        (0..)
            .zip(Self::NAMES)
            .filter(|(bit, _)| self.0 & (1 << bit) != 0)
            .map(|(_, name)| name)
            .collect()
    }

    /// What both allow.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// As it is answered and compared.
    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn from_bits(bits: &Json) -> Self {
        Self(bits.as_u64().and_then(|bits| bits.try_into().ok()).unwrap_or(u8::MAX))
    }
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
    /// What it allows.
    pub(crate) roles: Roles,
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
            Proof::Older { subject, lifetime } => {
                Some(self.token(subject, OLDER_S, OLDER_S + lifetime.as_secs(), true))
            }
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
            .claim("jti", jti.as_str())
            .claim("roles", Roles::of(number).names());
        let signed = token.signed_with(&KEY);
        let signed = if genuine { signed } else { signed.signature([7; 32]) };
        let ms = |s| SimClock::ms_of(shared::service::clock::Timestamp::from_secs(s));
        Token {
            subject,
            jti,
            issued_ms: ms(iat),
            expires_ms: ms(iat + lifetime_s),
            roles: Roles::of(number),
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
