//! Whether it is a message's turn, where a connection's messages have an order: pure.
//!
//! Who brings a fresh token counts at once, and is handled after what waits for one. All others of its connection wait with
//! that, in their order: even if their connection is in force, for what waits may have had a token of its own. But what
//! anyone may send waits for no one.

use shared::wire::envelope::AuthSnapshot;
use shared::wire::protocol::Reason;

use crate::auth::decision::{Decision, unavailable};
use crate::token::Verified;

/// What is decided, or that it is held behind what is held already.
pub(in crate::process) fn behind_what_is_held(snapshot: &AuthSnapshot, decision: Decision) -> Decision {
    if !(snapshot.ordered && snapshot.held) {
        return decision;
    }
    match decision {
        Decision::InOwnName {
            verified,
            renews: false,
        } => Decision::Hold {
            own: Some(verified),
            reason: Reason::Expired,
        },
        Decision::InConnectionsName => Decision::Hold {
            own: None,
            reason: Reason::Expired,
        },
        // The store took neither its grant nor what had to be released first.
        Decision::InOwnName { renews: true, .. } if snapshot.again => Decision::Refuse {
            error: unavailable("held messages come first, and cannot be handled at the moment"),
            close: None,
        },
        other => other,
    }
}

/// Whether it goes back to its terminator until its turn: it was sent ahead, or brings the token for which others wait. If so,
/// the token that counts nevertheless, if there is one.
pub(in crate::process) fn awaited<'d>(snapshot: &AuthSnapshot, decision: &'d Decision) -> Option<Option<&'d Verified>> {
    let renewing = match decision {
        Decision::InOwnName { verified, renews: true } => Some(&**verified),
        _ => None,
    };
    match decision {
        _ if snapshot.again => None,
        // It has no other turn.
        Decision::Authenticate { .. } => None,
        _ if snapshot.ahead => Some(renewing),
        _ if snapshot.ordered && snapshot.held => renewing.map(Some),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDERED: AuthSnapshot = AuthSnapshot {
        by: None,
        grant: None,
        principal: None,
        resume: None,
        unsettled: false,
        held: false,
        ordered: true,
        ahead: false,
        again: false,
        unsure: false,
    };

    #[test]
    fn nobody_overtakes_what_is_held_but_what_anybody_may_send() {
        let held = AuthSnapshot { held: true, ..ORDERED };
        let decided = |snapshot: &AuthSnapshot| behind_what_is_held(snapshot, Decision::InConnectionsName);
        assert!(matches!(decided(&held), Decision::Hold { own: None, .. }));
        for other in [
            ORDERED,
            AuthSnapshot {
                ordered: false,
                ..held.clone()
            },
        ] {
            assert!(matches!(decided(&other), Decision::InConnectionsName));
        }
        assert!(matches!(
            behind_what_is_held(&held, Decision::Anonymously),
            Decision::Anonymously
        ));
        assert!(matches!(behind_what_is_held(&held, Decision::Forget), Decision::Forget));
    }

    #[test]
    fn what_was_sent_ahead_comes_back_once() {
        let ahead = AuthSnapshot { ahead: true, ..ORDERED };
        assert!(matches!(awaited(&ahead, &Decision::InConnectionsName), Some(None)));
        assert!(awaited(&ORDERED, &Decision::InConnectionsName).is_none());
        let again = AuthSnapshot { again: true, ..ahead };
        assert!(awaited(&again, &Decision::InConnectionsName).is_none());
    }
}
