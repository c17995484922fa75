//! What is wrong with what a provider, or someone who says that they are one, has sent.
//!
//! The texts go to the one who sent it and into the log. They name members and never repeat what stands in them.

use crate::token::{Reason, Rejection};

/// Why it is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EventFault {
    /// HTTP, or what it carries, is not as its kind has it.
    #[error("{0}")]
    Request(&'static str),
    /// No issuer of ours has signed it.
    #[error("{0}")]
    Token(Rejection),
    /// RFC 8725 §3.8.
    #[error("no issuer of `jwt-issuer` with this `iss` has signed it")]
    Issuer,
    /// RFC 8725 §3.11.
    #[error("the header member `typ` is not the one of its kind")]
    Type,
    /// RFC 8725 §3.9.
    #[error("the claim `aud` names none of `provider-events-audience`")]
    Audience,
    /// A claim that it must have.
    #[error("the claim `{0}` is missing or malformed")]
    Claim(&'static str),
    /// It would do as an ID token (Back-Channel Logout §2.4).
    #[error("the claim `nonce` must not be there")]
    Nonce,
    /// By `iat`.
    #[error("it is too old: the claim `iat` lies more than an hour back")]
    TooOld,
    /// By `exp`.
    #[error("it has expired")]
    Expired,
    /// By `iat` or `nbf`.
    #[error("it lies in the future")]
    Future,
    /// Its `jti` came before.
    #[error("it was received before: its `jti` is known")]
    Replayed,
    /// What its kind has among `events`.
    #[error("the claim `events` has no such event")]
    NoEvent,
    /// No one is meant.
    #[error("it names neither a subject nor a session")]
    NoSubject,
    /// RFC 9493 §3.
    #[error("its subject identifier has a format that is not supported")]
    SubjectFormat,
    /// Another issuer's subjects are none of its business.
    #[error("its subject belongs to another issuer, which `provider-events-issuers` does not name")]
    ForeignSubject,
    /// No one is known here by what it says.
    #[error("it names its subject otherwise than the claim that `jwt-subject-claim` names")]
    SubjectClaim,
}

impl EventFault {
    /// The code of RFC 8935 §2.4.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Issuer => "invalid_issuer",
            Self::Audience => "invalid_audience",
            Self::ForeignSubject => "access_denied",
            Self::Token(Rejection::Invalid(Reason::UnknownKey | Reason::Signature | Reason::Algorithm)) => {
                "invalid_key"
            }
            _ => "invalid_request",
        }
    }

    /// Whether it is what proves who sends it that is wrong, rather than what is sent.
    pub(super) const fn is_of_sender(self) -> bool {
        !matches!(
            self,
            Self::Request(_) | Self::NoSubject | Self::SubjectFormat | Self::ForeignSubject | Self::SubjectClaim
        )
    }
}

impl From<Rejection> for EventFault {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Invalid(Reason::Issuer) => Self::Issuer,
            Rejection::Invalid(Reason::MissingClaim("iss") | Reason::MalformedClaim("iss")) => Self::Issuer,
            other => Self::Token(other),
        }
    }
}
