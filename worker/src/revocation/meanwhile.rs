//! What is revoked between the moment when a message is judged and the one when it is handled.
//!
//! A message may wait for the store, for a place, or behind what is released before it. So it is judged again when its turn has
//! come, if anything may have been revoked since.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::id::ConnectionId;
use shared::wire::protocol::{ErrorBody, ErrorCode};
use shared::wire::revocation::Subject;

use super::known::{Judgement, Revoked};
use crate::auth::decision::unavailable;
use crate::auth::snapshot::{Authenticated, subject_of};
use crate::token::Verified;

/// How long a judgement holds if nothing was said since: a revocation may have been said before, to take effect later.
const HOLDS: Duration = Duration::from_millis(250);

/// By what a message is handled, and when that was judged.
#[derive(Clone, Copy)]
pub(crate) struct Accepted<'a> {
    pub(crate) by: By<'a>,
    /// Before it was judged.
    pub(crate) seen: Seen,
}

/// By what a message is handled.
#[derive(Clone, Copy)]
pub(crate) enum By<'a> {
    /// It needs no identity.
    Nothing,
    /// Its own token, which perhaps came by a connection.
    Token(&'a Verified, Option<ConnectionId>),
    /// Its connection's authentication.
    Grant(&'a Authenticated, ConnectionId),
    /// The authentication that releases it, and what it was accepted by when it was held.
    Release(&'a [Option<Subject>; 2]),
}

/// What was known at a moment.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    at: Timestamp,
    changes: u64,
}

impl Revoked {
    /// What is known now.
    pub(crate) fn seen(&self, now: Timestamp) -> Seen {
        Seen {
            at: now,
            changes: self.changes(),
        }
    }

    /// Whether a message that was accepted may still be handled.
    ///
    /// # Errors
    /// If not: what its sender is told.
    pub(crate) fn still(&self, accepted: &Accepted<'_>, now: Timestamp) -> Result<(), ErrorBody> {
        self.runs(now);
        let Seen { at, changes } = accepted.seen;
        if changes == self.changes() && now.saturating_since(at) < HOLDS {
            return Ok(());
        }
        let subjects = match accepted.by {
            By::Nothing => [None, None],
            By::Token(verified, connection) => [Some(subject_of(verified, connection)), None],
            By::Grant(authenticated, connection) => [Some(authenticated.subject(connection)), None],
            By::Release(both) => *both,
        };
        for subject in subjects.iter().flatten() {
            match self.judge(subject, now) {
                Judgement::Good => {}
                Judgement::Revoked => {
                    let why = "what the message was accepted by was revoked while it waited";
                    return Err(ErrorBody::new(ErrorCode::TokenRevoked, why));
                }
                Judgement::Unknown => return Err(unavailable("authentication is temporarily unavailable")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::revocation::{Revocation, Revocations, Target};
    use shared::wire::tag::IdentityTag;

    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + ms)
    }

    fn subject(who: u8) -> Subject {
        Subject {
            identity: IdentityTag::of(&[who; 32]),
            token_id: None,
            session: None,
            issued_at: Some(at(0)),
            proven: None,
            connection: None,
        }
    }

    fn revocation(who: u8, effective: Timestamp) -> Revocation {
        Revocation {
            target: Target::Identity(IdentityTag::of(&[who; 32])),
            issued_before: at(1),
            effective,
            until: at(1_000_000),
        }
    }

    #[test]
    fn whatever_was_said_since_counts_and_what_was_said_before_to_take_effect_later() {
        let revoked = Revoked::loaded(Revocations::default());
        revoked.add(&[revocation(1, at(500))], at(0));
        let [of_one, of_other, of_third] = [[1, 3], [2, 3], [2, 4]].map(|both| both.map(|who| Some(subject(who))));
        let by = |both| Accepted {
            by: By::Release(both),
            seen: revoked.seen(at(0)),
        };
        let code = |accepted: &Accepted<'_>, ms| revoked.still(accepted, at(ms)).map_err(|error| error.code);
        let (one, other, third) = (by(&of_one), by(&of_other), by(&of_third));
        assert_eq!(code(&one, 499), Ok(()));
        assert_eq!(code(&one, 500), Err(ErrorCode::TokenRevoked));
        assert_eq!(code(&other, 0), Ok(()));
        revoked.add(&[revocation(3, at(0))], at(0));
        assert_eq!(code(&other, 0), Err(ErrorCode::TokenRevoked), "its own, too");
        let nobody = Accepted {
            by: By::Nothing,
            ..other
        };
        assert_eq!(code(&nobody, 9_000), Ok(()));
        assert_eq!(code(&third, 0), Ok(()), "nothing was said of it");
        revoked.unload();
        assert_eq!(code(&third, 0), Err(ErrorCode::AuthUnavailable));
    }
}
