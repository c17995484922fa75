//! Which events are decisions that a person may ask about.

use std::borrow::Cow;

use shared::wire::envelope::Bounced;
use shared::wire::protocol::{CloseCode, ErrorCode};

use super::Event;
use super::words::Released;
use crate::outbound::metrics::GaveUp;
use crate::store::Mailbox;

impl Event<'_> {
    /// What a person may ask about later: what was decided, and why. None if it is no decision.
    pub(in crate::admin) fn decision(&self) -> Option<(&'static str, Cow<'_, str>)> {
        Some(match *self {
            Self::Authenticated { resumes: None } => ("granted", "auth.authenticate".into()),
            Self::Authenticated { resumes: Some(old) } => {
                ("granted", format!("auth.authenticate, resuming {old}").into())
            }
            Self::LoggedOut { .. } => ("forgotten", "auth.logout".into()),
            Self::Held { reason, .. } => ("held", reason.as_str().into()),
            Self::Refused { code, why, .. } if is_noted(code) || code == ErrorCode::Duplicate => {
                ("refused", format!("{}: {why}", code.as_str()).into())
            }
            Self::HoldEnded { how, why } => (how.as_str(), why.into()),
            Self::Released { by } => (Released::Handled.as_str(), format!("by {by}").into()),
            Self::Closed { code } => {
                let known = CloseCode::from_code(code.into());
                (
                    "closed",
                    format!("{code}: {}", known.map_or("", CloseCode::reason)).into(),
                )
            }
            Self::ReplyHeld { why: Bounced::Expired } => ("answer_held", "its authentication had expired".into()),
            Self::ReplyHeld { why: Bounced::Gone } => {
                ("answer_held", "no connection that may receive it was open".into())
            }
            Self::GivenUp {
                mailbox: Mailbox::Answers(_),
                why,
                ..
            } => match why {
                GaveUp::Overflow => ("answer_dropped", why.sentence().into()),
                GaveUp::Expired => ("answer_expired", why.sentence().into()),
            },
            Self::ReplyFetched { to } => ("answer_released", format!("to {to}").into()),
            _ => return None,
        })
    }
}

/// Whether a refusal is about authentication, and known to be right: a person may ask why.
pub(crate) const fn is_noted(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::AuthRequired
            | ErrorCode::TokenExpired
            | ErrorCode::TokenInvalid
            | ErrorCode::TokenRevoked
            | ErrorCode::IdentityMismatch
            | ErrorCode::HoldOverflow
            | ErrorCode::HoldExpired
    )
}
