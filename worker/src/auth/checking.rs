//! One token, checked as a worker would, by a worker's settings and code: for the tool at the shell.
//!
//! A worker can wait for a key server and asks it again; a person wants to know now. So every server is asked once,
//! and a key that is then unknown is unknown, while what could not be asked is told with its reason.

use std::sync::Arc;

use shared::credentials::Register;
use shared::service::clock::Timestamp;

use crate::app::start::{self, StartError};
use crate::config::{WorkerConfig, scopes_in};
use crate::token::{ClaimPath, KeyError, Rejection, Verified, Verifier};

/// A verifier of a worker with these settings, whose keys have just been asked for.
pub struct Checker {
    verifier: Arc<Verifier>,
    missing: Option<String>,
    scope_claims: Vec<ClaimPath>,
}

/// What a worker would say.
pub enum Checked {
    /// What it proves.
    Valid(Arc<Verified>),
    /// Why it proves nothing.
    Invalid(Rejection),
    /// Why that cannot be told.
    Unknown(String),
}

impl Checker {
    /// Reads the keys, and asks every server that has some.
    ///
    /// # Errors
    /// Why a worker would not start with these settings.
    pub async fn new(config: &WorkerConfig) -> Result<Self, StartError> {
        let (verifier, contents) = start::verifier(config)?;
        let refresher = start::refresher(config, contents, &verifier, &Register::default()).await?;
        let missing = refresher.lack();
        if missing.is_none() {
            verifier.settle();
        }
        Ok(Self {
            verifier,
            missing,
            scope_claims: config.jwt_scope_claims.to_vec(),
        })
    }

    /// What is wrong with keys that are not used.
    pub fn passed_over(&self) -> Vec<String> {
        let keys = self.verifier.keys();
        keys.passed_over().iter().map(KeyError::to_string).collect()
    }

    /// The scopes that a worker finds in what a token proved.
    pub fn scopes<'v>(&'v self, verified: &'v Verified) -> impl Iterator<Item = &'v str> {
        scopes_in(&verified.claims, &self.scope_claims).filter(|scope| !scope.is_empty())
    }

    /// What that token proves at that moment.
    pub fn check(&self, token: &str, now: Timestamp) -> Checked {
        match (self.verifier.verify(token, now).result, &self.missing) {
            (Ok(verified), _) => Checked::Valid(verified),
            (Err(Rejection::Unavailable { .. }), Some(missing)) => Checked::Unknown(missing.clone()),
            (Err(rejection), _) => Checked::Invalid(rejection),
        }
    }
}
