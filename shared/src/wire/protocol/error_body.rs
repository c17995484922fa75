//! An `error` as it crosses the socket: with a code of ours, or with one of the application's own.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{ErrorBody, ErrorCode};

/// What every code of an application begins with, so that none of ours is ever taken for it.
pub const OWN_PREFIX: &str = "app.";

/// What an application says of an error besides, for programs: one JSON text.
#[derive(Clone, Debug)]
pub struct Details(pub Box<RawValue>);

impl PartialEq for Details {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

impl Eq for Details {}

/// What an error says of the message's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It did not reach the application by this attempt.
    None,
    /// It may have had it, or have it still.
    Unknown,
}

/// The members in their order.
#[derive(Serialize, Deserialize)]
pub(super) struct Members {
    code: String,
    message: String,
    temporary: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retry_after_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    details: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    effect: Option<Effect>,
}

impl From<ErrorBody> for Members {
    fn from(error: ErrorBody) -> Self {
        Self {
            code: error.own.unwrap_or_else(|| error.code.as_str().to_owned()),
            message: error.message,
            temporary: error.temporary,
            retry_after_ms: error.retry_after_ms,
            details: error.details.map(|details| details.0),
            effect: error.effect,
        }
    }
}

/// A code that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("there is no such code")]
pub(super) struct UnknownCode;

impl TryFrom<Members> for ErrorBody {
    type Error = UnknownCode;

    fn try_from(members: Members) -> Result<Self, UnknownCode> {
        let ours = ErrorCode::ALL.into_iter().find(|code| code.as_str() == members.code);
        let own = ours.is_none().then_some(members.code);
        if own.as_ref().is_some_and(|own| !own.starts_with(OWN_PREFIX)) {
            return Err(UnknownCode);
        }
        Ok(Self {
            code: ours.unwrap_or(ErrorCode::BadRequest),
            message: members.message,
            temporary: members.temporary,
            retry_after_ms: members.retry_after_ms,
            own,
            details: members.details.map(Details),
            effect: members.effect,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_and_details_of_an_application_are_read_as_they_were_written() {
        let error = ErrorBody {
            own: Some("app.out_of_stock".to_owned()),
            details: Some(Details(RawValue::from_string(r#"{"left": 1.0}"#.to_owned()).unwrap())),
            ..ErrorBody::new(ErrorCode::BadRequest, "sold")
        };
        let text = serde_json::to_string(&error).unwrap();
        assert_eq!(
            text,
            r#"{"code":"app.out_of_stock","message":"sold","temporary":false,"details":{"left": 1.0}}"#
        );
        assert_eq!(serde_json::from_str::<ErrorBody>(&text).unwrap(), error);
        let unknown = text.replace("app.out_of_stock", "newer");
        assert!(serde_json::from_str::<ErrorBody>(&unknown).is_err());
    }
}
