//! What becomes of a message, given what its token proved.
//!
//! Pure, so that it can be read, and tested, as the table that it is.

use std::sync::Arc;

use shared::id::Stamp;
use shared::protocol::{ErrorBody, ErrorCode};

use crate::token::{Rejection, Verified};

/// When to try again while a key is being asked for: most often it is there by then.
const KEYS_RETRY_MS: u64 = 1_000;

/// What a message brought to prove who sent it.
pub(crate) enum Proof {
    /// No token.
    None,
    /// A token, and what the verifier says of it.
    Token(Result<Arc<Verified>, Rejection>),
}

/// Who sent a message. A connection's authentication is renewed by the tokens of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A terminator's client.
    Connection(Stamp),
    /// Anybody, straight into the queue.
    Injector,
}

/// What becomes of it.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    /// It is handled in the name of whom the token speaks for.
    Process {
        /// What the token proved.
        verified: Arc<Verified>,
        /// By which message what the token proved of its connection is to be recorded first.
        record: Option<Stamp>,
    },
    /// It is not handled, and this is why.
    Refuse(ErrorBody),
}

/// Decides.
pub(crate) fn decide(proof: Proof, sender: Sender) -> Decision {
    let rejection = match proof {
        Proof::None => {
            return Decision::Refuse(ErrorBody::new(ErrorCode::AuthRequired, "the message carries no token"));
        }
        Proof::Token(Ok(verified)) => {
            let record = match sender {
                Sender::Connection(stamp) => Some(stamp),
                Sender::Injector => None,
            };
            return Decision::Process { verified, record };
        }
        Proof::Token(Err(rejection)) => rejection,
    };
    let code = match rejection {
        Rejection::Expired => ErrorCode::TokenExpired,
        Rejection::Invalid(_) => ErrorCode::TokenInvalid,
        Rejection::Unavailable => {
            let refusal = ErrorBody::new(ErrorCode::AuthUnavailable, rejection.to_string());
            return Decision::Refuse(refusal.retry_after_ms(KEYS_RETRY_MS));
        }
    };
    Decision::Refuse(ErrorBody::new(code, rejection.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Reason;

    fn refusal(proof: Proof) -> ErrorBody {
        match decide(proof, Sender::Injector) {
            Decision::Refuse(error) => error,
            Decision::Process { .. } => panic!("it was let in"),
        }
    }

    #[test]
    fn whoever_proves_nothing_is_refused_and_told_why() {
        assert_eq!(refusal(Proof::None).code, ErrorCode::AuthRequired);
        let expired = refusal(Proof::Token(Err(Rejection::Expired)));
        assert_eq!((expired.code, expired.temporary), (ErrorCode::TokenExpired, false));
        let invalid = refusal(Proof::Token(Err(Reason::Signature.into())));
        assert_eq!(invalid.code, ErrorCode::TokenInvalid);
        assert!(invalid.message.contains(&Reason::Signature.to_string()));
        let unavailable = refusal(Proof::Token(Err(Rejection::Unavailable)));
        assert_eq!(
            (unavailable.code, unavailable.temporary, unavailable.retry_after_ms),
            (ErrorCode::AuthUnavailable, true, Some(KEYS_RETRY_MS))
        );
    }
}
