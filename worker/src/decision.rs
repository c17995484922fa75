//! What becomes of a message, given what its token proved and how its connection stood.
//!
//! Pure, so that it can be read, and tested, as the table that it is. It equals
//! what a reader would decide who takes a connection's messages one by one, in
//! order: where that cannot be known because an earlier message is not yet settled,
//! the answer is [`Decision::Again`], once.
//!
//! | the message | the connection | what becomes of it |
//! |---|---|---|
//! | has a good token | is nobody's, or the token's | handled in the token's name |
//! | | is another's | refused, and closed |
//! | has an invalid token | | refused |
//! | has an expired token | is another's | refused |
//! | | is nobody's, or the token's | as the policy says |
//! | has none | is live | handled in the connection's name |
//! | | is not, and something earlier is unsettled | sent back, once |
//! | | is not | as the policy says |

use std::sync::Arc;

use shared::grant::Policy;
use shared::protocol::{CloseCode, ErrorBody, ErrorCode, Reason};
use shared::tag::{IdentityTag, TokenTag};

use crate::config::Strategy;
use crate::message::Purpose;
use crate::revoked::Judgement;
use crate::token::{self, Verified};

/// When to try again what cannot be found out just now: the store or the keys are asked anew each time.
pub(crate) const RETRY_MS: u64 = 1_000;

/// What a message brought to prove who sent it.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// No token.
    None,
    /// A good one.
    Good(Arc<Verified>),
    /// One that was good, and has been taken back.
    Revoked,
    /// One that was good until its time was over.
    Expired(IdentityTag),
    /// One that proves nothing.
    Invalid(token::Reason),
    /// One of which it cannot be found out just now.
    Unknown,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sender {
    /// A terminator's client.
    Connection(Stand),
    /// Anybody, straight into the queue.
    Injector,
}

/// How the sender's connection stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    /// Whose it is, as far as has been proved.
    pub(crate) bound: Option<Standing>,
    /// Whether an earlier message is not yet settled.
    pub(crate) unsettled: bool,
    /// Whether a message of it is held.
    pub(crate) held: bool,
    /// Whether it was sent back already.
    pub(crate) again: bool,
}

/// The grant of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) identity: IdentityTag,
    pub(crate) token: TokenTag,
    /// Whether it is in force.
    pub(crate) live: bool,
    /// Whether it was when the terminator received the message.
    pub(crate) was_live: bool,
    /// What has been revoked since.
    pub(crate) judgement: Judgement,
}

/// What is decided upon.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) purpose: Purpose,
    pub(crate) proof: Proof,
    pub(crate) sender: Sender,
    pub(crate) strategy: Strategy,
    /// That of the message's type.
    pub(crate) policy: Policy,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// It is handled in the name of whom its token speaks for.
    InOwnName {
        /// What the token proved.
        verified: Arc<Verified>,
        /// Whether the connection is to have the grant that the token earns.
        renews: bool,
    },
    /// It is handled in the name of whom the connection was proved to be.
    InConnectionsName,
    /// The connection is to have the grant that the token earns.
    Authenticate(Arc<Verified>),
    /// The connection is to have none.
    Forget,
    /// It cannot be decided before what came earlier is settled.
    Again,
    /// It waits for a fresh token.
    Hold {
        /// In whose name alone it may be handled.
        owner: Option<IdentityTag>,
        /// Why.
        reason: Reason,
    },
    /// It is not handled, and this is why.
    Refuse {
        /// What its sender is told.
        error: ErrorBody,
        /// Whether the connection ends with it.
        close: Option<CloseCode>,
    },
}

impl Decision {
    fn refuse(code: ErrorCode, why: impl Into<String>) -> Self {
        Self::Refuse {
            error: ErrorBody::new(code, why),
            close: None,
        }
    }

    fn and_close(self, code: CloseCode) -> Self {
        match self {
            Self::Refuse { error, .. } => Self::Refuse {
                error,
                close: Some(code),
            },
            other => other,
        }
    }

    fn and_close_by(self, policy: Policy, code: CloseCode) -> Self {
        match policy {
            Policy::Close => self.and_close(code),
            Policy::Ignore | Policy::Reauthenticate => self,
        }
    }
}

/// Decides.
pub(crate) fn decide(case: &Case) -> Decision {
    let stand = match case.sender {
        Sender::Connection(stand) => stand,
        Sender::Injector => return injected(case),
    };
    match case.purpose {
        Purpose::Authenticate => authenticate(case, &stand),
        Purpose::Forget => forget(case, &stand),
        Purpose::Application => application(case, &stand),
    }
}

/// There is no connection: its own token is all that counts.
fn injected(case: &Case) -> Decision {
    if case.purpose != Purpose::Application {
        return Decision::refuse(
            ErrorCode::BadRequest,
            "there is no connection that could be authenticated",
        );
    }
    match &case.proof {
        Proof::Good(verified) => Decision::InOwnName {
            verified: verified.clone(),
            renews: false,
        },
        proof => refusal(proof),
    }
}

fn authenticate(case: &Case, stand: &Stand) -> Decision {
    match &case.proof {
        Proof::None => Decision::refuse(ErrorCode::BadRequest, "`auth.authenticate` needs a `token`"),
        Proof::Good(verified) if is_anothers(stand, verified.identity.tag()) => mismatch(),
        Proof::Good(verified) => Decision::Authenticate(verified.clone()),
        proof => closing_refusal(proof, case.policy),
    }
}

fn forget(case: &Case, stand: &Stand) -> Decision {
    match case.proof {
        // It may be sent back and forth once, which no token should.
        Proof::None if stand.unsettled && !stand.again => Decision::Again,
        Proof::None => Decision::Forget,
        _ => Decision::refuse(ErrorCode::BadRequest, "`auth.forget` takes no `token`"),
    }
}

fn application(case: &Case, stand: &Stand) -> Decision {
    if case.strategy == Strategy::Explicit && !matches!(case.proof, Proof::None) {
        return Decision::refuse(
            ErrorCode::BadRequest,
            "a `token` is taken with `auth.authenticate` alone",
        );
    }
    match &case.proof {
        Proof::None => without_token(case, stand),
        Proof::Good(verified) => with_token(verified, stand),
        Proof::Expired(owner) => match stand.bound {
            Some(bound) if bound.identity != *owner => refusal(&case.proof),
            _ => unauthenticated(case, stand, Some(*owner)),
        },
        proof => closing_refusal(proof, case.policy),
    }
}

fn with_token(verified: &Arc<Verified>, stand: &Stand) -> Decision {
    let tag = TokenTag::of(verified.digest.as_bytes());
    let known = stand.bound.is_some_and(|bound| bound.token == tag);
    // The same token is the same identity's, which spares the steady state a digest.
    if !known && is_anothers(stand, verified.identity.tag()) {
        return mismatch();
    }
    Decision::InOwnName {
        verified: verified.clone(),
        // What is held waits for a proof that is newer than it.
        renews: !known || stand.held,
    }
}

fn without_token(case: &Case, stand: &Stand) -> Decision {
    let own_needed = case.strategy == Strategy::PerMessage;
    if let Some(bound) = stand.bound
        && bound.live
        && !own_needed
        && bound.judgement != Judgement::Revoked
    {
        return in_connections_name(&bound);
    }
    let may_change = stand.unsettled || stand.bound.is_some_and(|bound| bound.was_live && !bound.live);
    if may_change && !stand.again && !own_needed {
        return Decision::Again;
    }
    let owner = stand.bound.map(|bound| bound.identity);
    unauthenticated(case, stand, owner)
}

/// There is no valid authentication for it.
fn unauthenticated(case: &Case, stand: &Stand, owner: Option<IdentityTag>) -> Decision {
    match stand.bound {
        Some(bound) if bound.judgement == Judgement::Revoked => return revoked().and_close(CloseCode::Revoked),
        Some(bound) if case.policy == Policy::Ignore => return in_connections_name(&bound),
        _ => {}
    }
    let lapsed = stand.bound.is_some_and(|bound| !bound.live);
    match case.policy {
        Policy::Ignore => refusal(&case.proof),
        Policy::Close => refusal(&case.proof).and_close(CloseCode::AuthRequired),
        Policy::Reauthenticate => Decision::Hold {
            owner,
            reason: if lapsed || matches!(case.proof, Proof::Expired(_)) {
                Reason::Expired
            } else {
                Reason::Missing
            },
        },
    }
}

fn in_connections_name(bound: &Standing) -> Decision {
    match bound.judgement {
        Judgement::Good => Decision::InConnectionsName,
        Judgement::Revoked => revoked().and_close(CloseCode::Revoked),
        Judgement::Unknown => unknown(),
    }
}

fn is_anothers(stand: &Stand, identity: IdentityTag) -> bool {
    stand.bound.is_some_and(|bound| bound.identity != identity)
}

fn mismatch() -> Decision {
    Decision::refuse(
        ErrorCode::IdentityMismatch,
        "the token is another identity's than the connection's",
    )
    .and_close(CloseCode::IdentityMismatch)
}

fn revoked() -> Decision {
    Decision::refuse(ErrorCode::TokenRevoked, "the authentication was revoked")
}

/// Nothing follows from it about anybody's authentication.
fn unknown() -> Decision {
    Decision::Refuse {
        error: unavailable("whether the authentication is good cannot be found out just now"),
        close: None,
    }
}

/// What a sender is told while the store or the keys are away.
pub(crate) fn unavailable(why: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::AuthUnavailable, why).retry_after_ms(RETRY_MS)
}

/// What is said of a proof that proves nothing.
fn refusal(proof: &Proof) -> Decision {
    match proof {
        Proof::None | Proof::Good(_) => Decision::refuse(ErrorCode::AuthRequired, "the message carries no token"),
        Proof::Expired(_) => Decision::refuse(ErrorCode::TokenExpired, "the token has expired"),
        Proof::Invalid(reason) => {
            Decision::refuse(ErrorCode::TokenInvalid, token::Rejection::Invalid(*reason).to_string())
        }
        Proof::Revoked => revoked(),
        Proof::Unknown => unknown(),
    }
}

/// The same, for a connection.
fn closing_refusal(proof: &Proof, policy: Policy) -> Decision {
    let refusal = refusal(proof);
    match proof {
        Proof::None | Proof::Good(_) | Proof::Unknown => refusal,
        Proof::Revoked => refusal.and_close(CloseCode::Revoked),
        Proof::Expired(_) => refusal.and_close_by(policy, CloseCode::AuthRequired),
        Proof::Invalid(_) => refusal.and_close_by(policy, CloseCode::TokenInvalid),
    }
}

#[cfg(test)]
mod tests;
