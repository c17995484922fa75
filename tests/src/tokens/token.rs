//! Tokens for claims: good ones by default, and every bad one that RFC 8725 warns of.
//!
//! Header and payload are written here rather than by a JWT library, which would refuse to write the attacks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::key::{Key, test_keys};
use crate::wait;

/// The `iss` of tokens unless told otherwise.
pub const ISSUER: &str = "https://issuer.test";

/// The `aud` of tokens unless told otherwise.
pub const AUDIENCE: &str = "countersign-tests";

/// How long a token lives unless told otherwise.
const LIFETIME: Duration = Duration::from_secs(300);

/// Programs that count with a monotonic clock may see an expiry this much later than the clock says.
const EXPIRY_IS_SEEN: Duration = Duration::from_millis(50);

/// A token to be: made by [`token_for`], written by [`Builder::mint`].
#[derive(Debug, Clone)]
pub struct Builder<'k> {
    header: Map<String, Value>,
    claims: Map<String, Value>,
    header_text: Option<String>,
    payload_text: Option<String>,
    signature: Option<Vec<u8>>,
    key: &'k Key,
}

/// A valid token for `subject`: signed with HS256 by the key that every stack trusts, for five minutes, with a `jti` of
/// its own.
#[must_use]
pub fn token_for(subject: &str) -> Builder<'static> {
    let now = seconds(SystemTime::now());
    let claims = json!({
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": subject,
        "iat": now,
        "exp": now + LIFETIME.as_secs(),
        "jti": format!("{:016x}", rand::random::<u64>()),
    });
    let Value::Object(claims) = claims else {
        unreachable!("it was written as an object")
    };
    let unsigned = Builder {
        header: Map::new(),
        claims,
        header_text: None,
        payload_text: None,
        signature: None,
        key: &test_keys().hs256,
    };
    unsigned.header("typ", "JWT").signed_with(&test_keys().hs256)
}

impl<'k> Builder<'k> {
    /// Sets a claim, to whatever JSON.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a claim out.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// Sets a field of the header, to whatever JSON. The signature stays that of the key.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.to_owned(), value.into());
        self
    }

    /// Leaves a field of the header out.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// Issued by someone else.
    #[must_use]
    pub fn issuer(self, issuer: &str) -> Self {
        self.claim("iss", issuer)
    }

    /// Meant for someone else.
    #[must_use]
    pub fn audience(self, audience: &str) -> Self {
        self.claim("aud", audience)
    }

    /// Lives for `duration` from now. `exp` is in whole seconds, rounded up: see [`Builder::expires_at`].
    #[must_use]
    pub fn expiring_in(self, duration: Duration) -> Self {
        let expiry = SystemTime::now() + duration + Duration::from_nanos(999_999_999);
        self.claim("exp", seconds(expiry))
    }

    /// Expired `duration` ago, and was issued a lifetime before.
    #[must_use]
    pub fn expired_since(self, duration: Duration) -> Self {
        let expiry = SystemTime::now() - duration;
        self.claim("exp", seconds(expiry))
            .claim("iat", seconds(expiry - LIFETIME))
    }

    /// The moment that its `exp` names, without any leeway.
    ///
    /// # Panics
    /// If `exp` is not a number of seconds.
    #[must_use]
    pub fn expires_at(&self) -> SystemTime {
        let seconds = self
            .claims
            .get("exp")
            .and_then(Value::as_u64)
            .expect("an exp in whole seconds");
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Waits until it has expired, where there is no leeway.
    pub async fn expired(&self) {
        wait::until(self.expires_at() + EXPIRY_IS_SEEN).await;
    }

    /// Signs with this key, and says so in the header (`alg`, and `kid` if the key has one). Fields set afterwards lie.
    #[must_use]
    pub fn signed_with<'n>(self, key: &'n Key) -> Builder<'n> {
        let Builder {
            mut header,
            claims,
            header_text,
            payload_text,
            signature,
            ..
        } = self;
        header.insert("alg".into(), key.algorithm().name().into());
        match key.id() {
            Some(id) => header.insert("kid".into(), id.into()),
            None => header.remove("kid"),
        };
        Builder {
            header,
            claims,
            header_text,
            payload_text,
            signature,
            key,
        }
    }

    /// This very text as the header, be it JSON or not.
    #[must_use]
    pub fn raw_header(mut self, text: &str) -> Self {
        self.header_text = Some(text.to_owned());
        self
    }

    /// This very text as the payload, be it JSON or not: for claims that stand twice, floats, and the like.
    #[must_use]
    pub fn raw_payload(mut self, text: &str) -> Self {
        self.payload_text = Some(text.to_owned());
        self
    }

    /// The payload as it would be written, to be altered and given to [`Builder::raw_payload`].
    #[must_use]
    pub fn payload_text(&self) -> String {
        self.payload_text
            .clone()
            .unwrap_or_else(|| Value::Object(self.claims.clone()).to_string())
    }

    /// These very bytes as the signature; none at all makes a token that ends in a dot.
    #[must_use]
    pub fn signature(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.signature = Some(bytes.into());
        self
    }

    /// The token, in the compact form (RFC 7515, section 3.1).
    #[must_use]
    pub fn mint(&self) -> String {
        let header = self
            .header_text
            .clone()
            .unwrap_or_else(|| Value::Object(self.header.clone()).to_string());
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(self.payload_text())
        );
        let signature = self
            .signature
            .clone()
            .unwrap_or_else(|| self.key.sign(signed.as_bytes()));
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}
