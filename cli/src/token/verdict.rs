//! What a worker with certain settings says of a token: for `token verify` and `token inspect` alike.

use std::sync::Arc;

use serde_json::{Value, json};
use shared::service::clock::Timestamp;
use worker::auth::checking::Checked;
use worker::token::{Rejection, Verified};

use super::settings::TokenSettings;
use crate::support::{human, print};

/// What it says.
pub(super) enum Verdict {
    /// What the token proves.
    Valid {
        /// The identity and the claims, without the token.
        verified: Arc<Verified>,
        /// For how many seconds more.
        left_s: u64,
        /// What it allows, as `required-scopes` counts it.
        scopes: Vec<String>,
    },
    /// Why it proves nothing.
    Invalid(Rejection),
    /// Why that cannot be told.
    Unknown(String),
}

impl Verdict {
    /// Asks, and says on the way which keys are not used, and why.
    pub(super) async fn of(token: &str, settings: &TokenSettings, now: Timestamp) -> Self {
        let checker = match settings.checker().await {
            Ok(checker) => checker,
            Err(error) => return Self::Unknown(format!("{error:#}")),
        };
        for key in checker.passed_over() {
            print::note(&format!("passed over: {key}"));
        }
        match checker.check(token, now) {
            Checked::Valid(verified) => {
                let left_s = verified.expires_at.saturating_since(now).as_secs();
                let scopes = checker.scopes(&verified).map(str::to_owned).collect();
                Self::Valid {
                    verified,
                    left_s,
                    scopes,
                }
            }
            Checked::Invalid(rejection) => Self::Invalid(rejection),
            Checked::Unknown(cause) => Self::Unknown(cause),
        }
    }

    /// The exit status of anyone who only asks for it.
    pub(super) const fn status(&self) -> u8 {
        match self {
            Self::Valid { .. } => 0,
            Self::Invalid(_) => 1,
            Self::Unknown(_) => 2,
        }
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Valid {
                verified,
                left_s,
                scopes,
            } => json!({
                "valid": true,
                "issuer": verified.identity.issuer.as_str(),
                "subject": verified.identity.subject.as_str(),
                "expires_in": left_s,
                "scopes": scopes,
                "claims": verified.claims,
            }),
            Self::Invalid(rejection) => json!({"valid": false, "reason": rejection.to_string()}),
            Self::Unknown(_) => json!({"valid": null, "reason": self.text()}),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Valid {
                verified,
                left_s,
                scopes,
            } => {
                let expiry = human::relative(Timestamp::from_secs(*left_s), Timestamp::from_secs(0));
                let scopes = match scopes[..] {
                    [] => String::new(),
                    _ => format!("; scopes: {}", scopes.join(" ")),
                };
                format!("valid: {}, expires {expiry}{scopes}", verified.identity)
            }
            Self::Invalid(rejection) => format!("not valid: {rejection}"),
            Self::Unknown(cause) => format!("cannot be checked: {cause}"),
        }
    }
}
