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
    /// What the token proves, and for how many seconds more.
    Valid(Arc<Verified>, u64),
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
                let left = verified.expires_at.saturating_since(now).as_secs();
                Self::Valid(verified, left)
            }
            Checked::Invalid(rejection) => Self::Invalid(rejection),
            Checked::Unknown(cause) => Self::Unknown(cause),
        }
    }

    /// The exit status of whoever only asks for it.
    pub(super) const fn status(&self) -> u8 {
        match self {
            Self::Valid(..) => 0,
            Self::Invalid(_) => 1,
            Self::Unknown(_) => 2,
        }
    }

    /// For programs.
    pub(super) fn to_json(&self) -> Value {
        match self {
            Self::Valid(verified, left) => json!({
                "valid": true,
                "issuer": verified.identity.issuer.as_str(),
                "subject": verified.identity.subject.as_str(),
                "expires_in": left,
                "claims": verified.claims,
            }),
            Self::Invalid(rejection) => json!({"valid": false, "reason": rejection.to_string()}),
            Self::Unknown(_) => json!({"valid": null, "reason": self.text()}),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Valid(verified, left) => {
                let expiry = human::relative(Timestamp::from_secs(*left), Timestamp::from_secs(0));
                format!("valid: {}, expires {expiry}", verified.identity)
            }
            Self::Invalid(rejection) => format!("not valid: {rejection}"),
            Self::Unknown(cause) => format!("cannot be checked: {cause}"),
        }
    }
}
