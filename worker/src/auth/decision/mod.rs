//! What becomes of a message, given what its token proved and how its connection stood.
//!
//! Pure, so that it can be read, and tested, as the table that it is. It equals
//! what a reader would decide who takes a connection's messages one by one, in
//! order: where that cannot be known because an earlier message is not yet settled,
//! the answer is [`Decision::Again`], once.
//!
//! | the message | the connection | what becomes of it |
//! |---|---|---|
//! | is public, and has no good token | | handled as no one's |
//! | has a good token | is no one's, or the token's | handled by that token |
//! | | is another's | refused, and closed |
//! | has an invalid token | | refused |
//! | has an expired token | is another's | refused |
//! | | is no one's, or the token's | as the policy says, by that token |
//! | has none, and needs one | | refused |
//! | has none | something earlier, by which it may have to be decided, is unsettled | sent back, once |
//! | | is live | handled by the connection's grant |
//! | | is not | as the policy says |
//!
//! A good token makes the connection's grant, unless one is in force whose token was issued later, or (where a message's
//! token lasts for its message alone) that allows less. `docs/authority.md` has every case.

use std::sync::Arc;
use std::time::Duration;

use shared::wire::grant::Policy;
use shared::wire::protocol::{CloseCode, ErrorBody, ErrorCode, Reason};
use shared::wire::tag::{IdentityTag, TokenTag};

use crate::config::{Elevation, Strategy};
use crate::message::Purpose;
use crate::revocation::known::Judgement;
use crate::token::{self, Verified};

/// When to try again what cannot be found out at the moment: the store or the keys are asked anew each time.
pub(crate) const RETRY_MS: u64 = 1_000;

/// What a message brought to prove who sent it.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// No token.
    None,
    /// A good one.
    Good(Arc<Verified>),
    /// One that was good, and has been revoked.
    Revoked,
    /// One that was good until its time was over, and has not been revoked.
    Expired(Arc<Verified>),
    /// One that is good in a moment, or may be when its key has been asked for.
    NotYet {
        /// What lies in the future, or is unknown as yet.
        reason: token::Reason,
        /// For how long.
        wait: Duration,
    },
    /// One that proves nothing.
    Invalid(token::Reason),
    /// One of which it cannot be found out at the moment.
    Unknown,
}

/// Who sent a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sender {
    /// A terminator's client.
    Connection(Stand),
    /// Anyone, straight into the queue.
    Injector,
}

/// How the sender's connection stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    /// Whose it is, as far as has been proved.
    pub(crate) authenticated: Option<CurrentGrant>,
    /// Whether an earlier message, by which this one may have to be decided, is not yet settled.
    pub(crate) unsettled: bool,
    /// Whether a message of it is held.
    pub(crate) held: bool,
    /// Whether it was sent back already.
    pub(crate) again: bool,
}

/// The grant of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CurrentGrant {
    pub(crate) identity: IdentityTag,
    pub(crate) token: TokenTag,
    /// Whether it is in force.
    pub(crate) live: bool,
    /// Whether it was when the terminator received the message.
    pub(crate) was_live: bool,
    /// What has been revoked since.
    pub(crate) judgement: Judgement,
    /// Whether its token was issued later than the message's own.
    pub(crate) newer: bool,
    /// Whether the message's own token allows what it does not.
    pub(crate) exceeded: bool,
}

impl CurrentGrant {
    fn is_in_force(&self) -> bool {
        self.live && self.judgement != Judgement::Revoked
    }
}

/// What is decided upon.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) purpose: Purpose,
    pub(crate) proof: Proof,
    pub(crate) sender: Sender,
    pub(crate) strategy: Strategy,
    /// For how long a message's own token lasts, if it allows more than the connection's.
    pub(crate) elevation: Elevation,
    /// That of the message's type.
    pub(crate) policy: Policy,
    /// Whether anyone may send messages of its type.
    pub(crate) public: bool,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decision {
    /// It is handled on behalf of whom its token speaks for, with the token's claims.
    InOwnName {
        /// What the token proved.
        verified: Arc<Verified>,
        /// Whether the connection is to have the grant that the token earns.
        renews: bool,
    },
    /// It is handled on behalf of whom the connection was proved to be, with the claims of its grant.
    InConnectionsName,
    /// It is handled as no one's.
    Anonymously,
    /// The token is good.
    Authenticate {
        /// What it proved.
        verified: Arc<Verified>,
        /// Whether the connection is to have the grant that it earns.
        renews: bool,
    },
    /// The connection is to have none.
    Forget,
    /// It cannot be decided before what came earlier is settled.
    Again,
    /// It waits for a fresh token.
    Hold {
        /// What its own token proved until its time was over, if it brought one: it allows no more than that.
        own: Option<Arc<Verified>>,
        /// Why it may not be handled yet.
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
    if is_nobodys(case) {
        return Decision::Anonymously;
    }
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

/// Whether the message is no one's: anyone may send it, and no good token came with it. Where a token is taken with
/// `auth.authenticate` alone, one in another message is wrong, public or not.
fn is_nobodys(case: &Case) -> bool {
    let has_none = matches!(case.proof, Proof::None);
    let is_misplaced = case.strategy == Strategy::Explicit && !has_none && matches!(case.sender, Sender::Connection(_));
    case.public && case.purpose == Purpose::Application && !matches!(case.proof, Proof::Good(_)) && !is_misplaced
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
        Proof::Good(verified) => Decision::Authenticate {
            verified: verified.clone(),
            // What a client shows for its connection lasts, whatever it allows.
            renews: !stand
                .authenticated
                .is_some_and(|authenticated| authenticated.is_in_force() && authenticated.newer),
        },
        proof => closing_refusal(proof, case.policy),
    }
}

fn forget(case: &Case, stand: &Stand) -> Decision {
    match case.proof {
        // It may be sent back and forth once, which no good token should.
        Proof::None if stand.unsettled && !stand.again => Decision::Again,
        Proof::None => Decision::Forget,
        _ => Decision::refuse(ErrorCode::BadRequest, "`auth.logout` takes no `token`"),
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
        Proof::None if case.strategy == Strategy::PerMessage => closing_refusal(&case.proof, case.policy),
        Proof::None => without_token(case, stand),
        Proof::Good(verified) => with_token(case, verified, stand),
        Proof::Expired(verified) => with_expired(case, verified, stand),
        proof => closing_refusal(proof, case.policy),
    }
}

fn with_token(case: &Case, verified: &Arc<Verified>, stand: &Stand) -> Decision {
    let tag = TokenTag::of(verified.digest.as_bytes());
    let known = stand
        .authenticated
        .is_some_and(|authenticated| authenticated.token == tag);
    // The same token is the same identity's, which spares the steady state a digest.
    if !known && is_anothers(stand, verified.identity.tag()) {
        return mismatch();
    }
    Decision::InOwnName {
        verified: verified.clone(),
        // What is held waits for a proof that is newer than it; and who was sent back has not been told of theirs.
        renews: if known {
            stand.held || stand.again
        } else {
            lasts(case, stand)
        },
    }
}

/// Whether the token of a message becomes its connection's.
fn lasts(case: &Case, stand: &Stand) -> bool {
    let may_exceed = case.elevation == Elevation::Connection;
    match stand.authenticated {
        Some(authenticated) if authenticated.is_in_force() => {
            !authenticated.newer && (may_exceed || !authenticated.exceeded)
        }
        // What is under way may make a grant that it would exceed.
        Some(_) | None => may_exceed || !stand.unsettled,
    }
}

/// Whatever the policy, it acts by its own token, and not by more than what that allowed.
fn with_expired(case: &Case, verified: &Arc<Verified>, stand: &Stand) -> Decision {
    let hold = case.policy == Policy::Reauthenticate;
    if stand.unsettled && !stand.again && !hold {
        return Decision::Again;
    }
    match stand.authenticated {
        Some(authenticated) if authenticated.identity != verified.identity.tag() => refusal(&case.proof),
        Some(authenticated) if authenticated.judgement == Judgement::Revoked => revoked().and_close(CloseCode::Revoked),
        Some(authenticated) if case.policy == Policy::Ignore => {
            judged(&authenticated).unwrap_or_else(|| Decision::InOwnName {
                verified: verified.clone(),
                renews: false,
            })
        }
        _ if hold => Decision::Hold {
            own: Some(verified.clone()),
            reason: Reason::Expired,
        },
        _ => closing_refusal(&case.proof, case.policy),
    }
}

fn without_token(case: &Case, stand: &Stand) -> Decision {
    let may_change = stand.unsettled
        || stand
            .authenticated
            .is_some_and(|authenticated| authenticated.was_live && !authenticated.live);
    if may_change && !stand.again {
        return Decision::Again;
    }
    let Some(authenticated) = stand.authenticated else {
        return unauthenticated(case, Reason::Missing);
    };
    if authenticated.judgement == Judgement::Revoked {
        return revoked().and_close(CloseCode::Revoked);
    }
    if authenticated.live || case.policy == Policy::Ignore {
        return judged(&authenticated).unwrap_or(Decision::InConnectionsName);
    }
    unauthenticated(case, Reason::Expired)
}

/// Nothing that is in force authenticates it.
fn unauthenticated(case: &Case, reason: Reason) -> Decision {
    match case.policy {
        Policy::Ignore | Policy::Close => closing_refusal(&case.proof, case.policy),
        Policy::Reauthenticate => Decision::Hold { own: None, reason },
    }
}

/// Why nothing may be done by that grant, if so.
fn judged(authenticated: &CurrentGrant) -> Option<Decision> {
    match authenticated.judgement {
        Judgement::Good => None,
        Judgement::Revoked => Some(revoked().and_close(CloseCode::Revoked)),
        Judgement::Unknown => Some(unknown()),
    }
}

fn is_anothers(stand: &Stand, identity: IdentityTag) -> bool {
    stand
        .authenticated
        .is_some_and(|authenticated| authenticated.identity != identity)
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

/// Nothing follows from it about anyone's authentication.
fn unknown() -> Decision {
    Decision::Refuse {
        error: unavailable("authentication is temporarily unavailable"),
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
        Proof::NotYet { reason, wait } => not_yet(*reason, *wait),
        Proof::Revoked => revoked(),
        Proof::Unknown => unknown(),
    }
}

/// The same token is good after that, so its holder is told when, and nothing else follows from it.
fn not_yet(reason: token::Reason, wait: Duration) -> Decision {
    let why = token::Rejection::NotYet { reason, wait }.to_string();
    let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    Decision::Refuse {
        error: ErrorBody::new(ErrorCode::AuthUnavailable, why).retry_after_ms(wait_ms),
        close: None,
    }
}

/// The same, for a connection.
fn closing_refusal(proof: &Proof, policy: Policy) -> Decision {
    let refusal = refusal(proof);
    match proof {
        Proof::Good(_) | Proof::NotYet { .. } | Proof::Unknown => refusal,
        Proof::Revoked => refusal.and_close(CloseCode::Revoked),
        Proof::None | Proof::Expired(_) => refusal.and_close_by(policy, CloseCode::AuthRequired),
        Proof::Invalid(_) => refusal.and_close_by(policy, CloseCode::TokenInvalid),
    }
}

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
