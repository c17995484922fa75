//! Makes a token.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};
use shared::service::clock::{Clock as _, SystemClock, Timestamp};

use super::signing_key::SigningKey;
use crate::support::{dev_key, human, message, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign token mint alice
  countersign token mint alice --expires-in 1h --claim 'roles=[\"admin\"]'
  countersign token mint alice --key private.pem --kid 2026 --issuer https://id.example --audience chat

Without --key it is the development key, which is public: for development only.";

/// What the token says, and who signs it.
#[derive(Debug, Args)]
pub(crate) struct MintArgs {
    /// The subject: the claim `sub`.
    #[arg(value_parser = subject)]
    subject: String,
    #[command(flatten)]
    signer: SignerArgs,
    /// How long the token is valid: 30s, 5m, 12h.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = human::parse_duration)]
    expires_in: Duration,
    /// Another claim, its value as JSON; it overrides the other flags. May be repeated.
    #[arg(long = "claim", value_name = "NAME=JSON", value_parser = claim)]
    claims: Vec<(String, Value)>,
}

/// Whose tokens they are, and the key that signs them.
#[derive(Clone, Debug, Args)]
pub(crate) struct SignerArgs {
    /// The issuer: the claim `iss`.
    #[arg(long, default_value = dev_key::ISSUER)]
    issuer: String,
    /// The audience: the claim `aud`. May be repeated.
    #[arg(long, default_value = dev_key::AUDIENCE)]
    audience: Vec<String>,
    /// The key: a PEM or JWK file with a private key, or `hmac:FILE` with an HMAC secret (default: the
    /// development key).
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The algorithm, of those that fit the key (default: HS256, RS256, ES256, ES384 or EdDSA, as the key is).
    #[arg(long)]
    alg: Option<Algorithm>,
    /// The key's name, for the header (default: that of the JWK, if it has one).
    #[arg(long)]
    kid: Option<String>,
}

/// Signs tokens for any subject.
pub(crate) struct Signer {
    key: SigningKey,
    issuer: String,
    audience: Value,
}

impl SignerArgs {
    /// Loads the key.
    pub(crate) fn signer(&self) -> anyhow::Result<Signer> {
        let key = match &self.key {
            Some(path) => SigningKey::load(path, self.alg, self.kid.clone())?,
            None => SigningKey::development(self.alg, self.kid.clone())?,
        };
        let audience = match self.audience.as_slice() {
            [one] => Value::from(one.as_str()),
            several => Value::from(several),
        };
        Ok(Signer {
            key,
            issuer: self.issuer.clone(),
            audience,
        })
    }
}

impl Signer {
    /// Signs with the development key.
    pub(crate) fn development() -> anyhow::Result<Self> {
        Ok(Self {
            key: SigningKey::development(None, None)?,
            issuer: dev_key::ISSUER.to_owned(),
            audience: dev_key::AUDIENCE.into(),
        })
    }

    /// A token for `subject`, good from `now` until `lifetime` later, with further claims that win over these.
    pub(crate) fn token(
        &self,
        subject: &str,
        now: Timestamp,
        lifetime: Duration,
        further: &[(String, Value)],
    ) -> anyhow::Result<String> {
        let mut claims = Map::new();
        claims.insert("iss".to_owned(), self.issuer.as_str().into());
        claims.insert("aud".to_owned(), self.audience.clone());
        claims.insert("sub".to_owned(), subject.into());
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), now.saturating_add(lifetime).as_secs().into());
        claims.extend(further.iter().cloned());
        self.key.sign(&claims)
    }
}

pub(super) fn run(args: &MintArgs) -> anyhow::Result<ExitCode> {
    let signer = args.signer.signer()?;
    let token = signer.token(&args.subject, SystemClock.now(), args.expires_in, &args.claims)?;
    print::line(&token);
    Ok(ExitCode::SUCCESS)
}

fn subject(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 255 || text.contains(char::is_control) {
        return Err("a subject is 1 to 255 bytes without control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn claim(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("a claim is NAME=JSON, as in 'roles=[\"admin\"]'")?;
    Ok((name.to_owned(), message::json(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    fn claims_of(token: &str) -> Value {
        let payload = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    #[test]
    fn a_token_says_who_for_whom_and_for_how_long() {
        let signer = Signer::development().unwrap();
        let now = Timestamp::from_secs(1_000);
        let token = signer.token("alice", now, Duration::from_secs(300), &[]).unwrap();
        let expected = serde_json::json!({
            "iss": "countersign-dev", "aud": "countersign", "sub": "alice", "iat": 1_000, "exp": 1_300
        });
        assert_eq!(claims_of(&token), expected);
    }

    #[test]
    fn a_claim_that_is_given_wins() {
        let signer = Signer::development().unwrap();
        let now = Timestamp::from_secs(1_000);
        let further = [claim("exp=1").unwrap(), claim("roles=[\"a=b\"]").unwrap()];
        let claims = claims_of(&signer.token("alice", now, Duration::from_secs(300), &further).unwrap());
        assert_eq!(
            (&claims["exp"], &claims["roles"]),
            (&1.into(), &serde_json::json!(["a=b"]))
        );
    }

    #[test]
    fn a_claim_that_is_no_json_is_refused_with_the_remedy() {
        assert!(claim("role=admin").unwrap_err().contains("'\"admin\"'"));
        assert!(claim("role").is_err());
    }
}
