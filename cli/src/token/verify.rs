//! Checks a token with the worker's own verifier, under the worker's own settings.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use shared::clock::{Clock as _, SystemClock};
use worker::identity::Issuer;
use worker::token::{Algorithm, KeySource, Keys, Other, RequiredClaim, Rules, Verified, Verifier};

use super::TokenText;
use crate::{dev_key, human, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign token mint alice | countersign token verify
  countersign token verify --jwt-keys jwks.json --jwt-issuer https://id.example --jwt-audience chat eyJhbGciOi...

Exit status: 0 valid, 1 not valid, 2 it could not be checked.";

/// One token is verified, so one is enough.
const CACHE_CAPACITY: usize = 1;

/// The token, and a worker's `jwt-*` settings.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    token: TokenText,
    /// Keys to verify with: `[issuer=ISSUER;][kid=KID;]PATH` of a JWKS or a public key in PEM or DER, or
    /// `hmac:PATH` of an HMAC secret (default: the development key).
    #[arg(long, value_name = "KEY", env = "COUNTERSIGN_JWT_KEYS", value_delimiter = ',')]
    jwt_keys: Vec<KeySource>,
    /// Issuers to accept.
    #[arg(long, value_name = "ISSUER", env = "COUNTERSIGN_JWT_ISSUER", value_delimiter = ',', default_value = dev_key::ISSUER)]
    jwt_issuer: Vec<String>,
    /// Audiences to accept.
    #[arg(long, value_name = "AUDIENCE", env = "COUNTERSIGN_JWT_AUDIENCE", value_delimiter = ',', default_value = dev_key::AUDIENCE)]
    jwt_audience: Vec<String>,
    /// Algorithms to accept (default: all that fit the keys).
    #[arg(long, value_name = "ALG", env = "COUNTERSIGN_JWT_ALGORITHMS", value_delimiter = ',')]
    jwt_algorithms: Vec<Algorithm>,
    /// What clocks may differ by.
    #[arg(long, value_name = "DURATION", env = "COUNTERSIGN_JWT_LEEWAY", default_value = "5s", value_parser = human::parse_duration)]
    jwt_leeway: Duration,
    /// The longest lifetime of a token.
    #[arg(long, value_name = "DURATION", env = "COUNTERSIGN_JWT_MAX_LIFETIME", default_value = "24h", value_parser = human::parse_duration)]
    jwt_max_lifetime: Duration,
    /// The longest token, in bytes.
    #[arg(long, value_name = "BYTES", env = "COUNTERSIGN_JWT_MAX_SIZE", default_value_t = Rules::MAX_SIZE)]
    jwt_max_size: usize,
    /// Kinds of tokens to accept though they are no access tokens: bound, id, refresh, logout.
    #[arg(long, value_name = "KIND", env = "COUNTERSIGN_JWT_ALLOW", value_delimiter = ',')]
    jwt_allow: Vec<Other>,
    /// Claims that the token must have, perhaps with a value.
    #[arg(
        long,
        value_name = "CLAIM[=VALUE]",
        env = "COUNTERSIGN_JWT_REQUIRED_CLAIMS",
        value_delimiter = ','
    )]
    jwt_required_claims: Vec<RequiredClaim>,
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let token = args.token.read()?;
    let now = SystemClock.now();
    match args.verifier()?.verify(&token, now).result {
        Ok(verified) => {
            print::line(&describe(&verified, &human::relative(verified.expires_at, now)));
            Ok(ExitCode::SUCCESS)
        }
        Err(rejection) => {
            print::line(&format!("not valid: {rejection}"));
            Ok(ExitCode::from(1))
        }
    }
}

impl VerifyArgs {
    fn verifier(&self) -> anyhow::Result<Verifier> {
        Verifier::self_test()?;
        let rules = Rules {
            audiences: self.jwt_audience.clone(),
            leeway: self.jwt_leeway,
            max_size: self.jwt_max_size,
            max_lifetime: self.jwt_max_lifetime,
            allow: self.jwt_allow.clone(),
            required_claims: self.jwt_required_claims.clone(),
        };
        Ok(Verifier::new(self.keys()?, rules, CACHE_CAPACITY))
    }

    fn keys(&self) -> anyhow::Result<Keys> {
        let issuers: Vec<Issuer> = self.jwt_issuer.iter().map(|name| Issuer::new(name.as_str())).collect();
        let load = |sources: &[KeySource]| Keys::load(sources, &issuers, &self.jwt_algorithms);
        if !self.jwt_keys.is_empty() {
            return Ok(load(&self.jwt_keys)?);
        }
        let file = dev_key::SecretFile::create().context("cannot write the development key to a temporary file")?;
        Ok(load(&[file.entry().parse()?])?)
    }
}

fn describe(verified: &Verified, expiry: &str) -> String {
    format!("valid: {}, expires {expiry}", verified.identity)
}
