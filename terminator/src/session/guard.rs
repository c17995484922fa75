//! The last word before a write: whether what is on behalf of an identity may be written to this socket now. Pure.

use shared::wire::grant::Policy;
use shared::wire::tag::IdentityTag;
use tokio::time::Instant;

use super::auth_state::Authentication;

/// What the guard says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// It may be written.
    Write,
    /// It is this connection's, and its authentication has expired or was revoked.
    Expired,
    /// It is someone else's.
    Stranger,
}

/// Whether what is on behalf of `identity` may be written to a connection that is bound like that.
pub(crate) fn guard(authentication: Option<&Authentication>, identity: IdentityTag, now: Instant) -> Guard {
    match authentication {
        Some(authentication) if authentication.identity == identity => {
            let excused = authentication.on_expired_push == Policy::Ignore && !authentication.is_revoked(now);
            if excused || authentication.is_live(now) {
                Guard::Write
            } else {
                Guard::Expired
            }
        }
        Some(_) | None => Guard::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::auth_state::AuthState;
    use crate::session::auth_state::tests::{grant, identity, live, now};
    use crate::timers::now::Now;
    use shared::wire::grant::Grant;
    use shared::wire::id::Sequence;

    fn authentication(policy: Policy, now: Now) -> AuthState {
        let mut auth_state = AuthState::new();
        let grant = Grant {
            on_expired_push: policy,
            ..grant(1, 10)
        };
        auth_state.apply(Sequence::FIRST, live(grant), None, now);
        auth_state
    }

    fn verdict(auth_state: &AuthState, of: u8, now: Now, seconds: u64) -> Guard {
        guard(
            auth_state.authentication(),
            identity(of),
            now.instant + Duration::from_secs(seconds),
        )
    }

    #[test]
    fn nothing_is_written_to_a_stranger_or_to_nobody() {
        let now = now();
        for policy in [Policy::Ignore, Policy::Close, Policy::Reauthenticate] {
            assert_eq!(verdict(&authentication(policy, now), 2, now, 0), Guard::Stranger);
        }
        assert_eq!(verdict(&AuthState::new(), 1, now, 0), Guard::Stranger);
    }

    #[test]
    fn what_comes_at_the_deadline_is_late_unless_expiries_are_ignored() {
        let now = now();
        for (policy, at_the_end) in [
            (Policy::Ignore, Guard::Write),
            (Policy::Close, Guard::Expired),
            (Policy::Reauthenticate, Guard::Expired),
        ] {
            let auth_state = authentication(policy, now);
            assert_eq!(verdict(&auth_state, 1, now, 9), Guard::Write);
            assert_eq!(verdict(&auth_state, 1, now, 10), at_the_end, "{policy:?}");
        }
    }

    #[test]
    fn a_revocation_is_never_ignored() {
        let now = now();
        let mut auth_state = authentication(Policy::Ignore, now);
        auth_state.authentication_mut().unwrap().revoked_at = Some(now.instant + Duration::from_secs(5));
        assert_eq!(verdict(&auth_state, 1, now, 4), Guard::Write);
        assert_eq!(verdict(&auth_state, 1, now, 5), Guard::Expired);
        assert_eq!(verdict(&auth_state, 1, now, 11), Guard::Expired);
    }
}
