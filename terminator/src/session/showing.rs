//! A connection as a person sees it on the console: how its authentication stands, and what waits.

use std::time::Duration;

use serde::Serialize;
use shared::wire::id::ConnectionId;
use shared::wire::tag::IdentityTag;

use super::auth_state::Authentication;
use super::{Life, Session};
use crate::timers::now::{FAR, Now};

/// How a connection's authentication stands, the most remarkable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It was revoked.
    Revoked,
    /// It is over.
    Expired,
    /// A fresh token should come.
    Expiring,
    /// It takes its leave.
    Closing,
    /// There is none.
    Anonymous,
    /// It is good.
    Live,
}

impl State {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Revoked,
        Self::Expired,
        Self::Expiring,
        Self::Closing,
        Self::Anonymous,
        Self::Live,
    ];
}

/// What is shown of a connection. Neither its token nor anything that it sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown {
    /// The connection's id.
    pub id: ConnectionId,
    /// How it stands.
    pub state: State,
    /// Whose it is: the terminator knows no name.
    pub identity: Option<IdentityTag>,
    /// Milliseconds until it expires; below zero since it has.
    pub left_ms: Option<i64>,
    /// Milliseconds from the token's issue to its end, if it tells.
    pub life_ms: Option<i64>,
    /// Messages that are on their way.
    pub in_flight: usize,
    /// Messages of its client that wait for a fresh token.
    pub held_in: usize,
    /// Answers and pushes that are known to wait for one.
    pub held_out: u64,
}

impl Session {
    /// How it stands.
    pub(crate) fn state(&self, now: Now) -> State {
        match self.auth_state.authentication() {
            _ if self.life != Life::Open => State::Closing,
            None => State::Anonymous,
            Some(authentication) if authentication.is_revoked(now.instant) => State::Revoked,
            Some(authentication) if !authentication.is_live(now.instant) => State::Expired,
            Some(authentication) if authentication.revoked_at.is_some() || now.instant >= authentication.refresh_at => {
                State::Expiring
            }
            Some(_) => State::Live,
        }
    }

    /// What is shown of it.
    pub(crate) fn shown(&self, now: Now) -> Shown {
        let authentication = self.auth_state.authentication();
        let left_ms = authentication.map(|authentication| left_ms(authentication, now));
        let levels = self.levels();
        Shown {
            id: self.id,
            state: self.state(now),
            identity: authentication.map(|authentication| authentication.identity),
            left_ms,
            life_ms: left_ms
                .zip(authentication.and_then(|authentication| age_ms(authentication, now)))
                .map(|(left, age)| left + age),
            in_flight: levels.in_flight,
            held_in: levels.held_inbound,
            held_out: self.outbound.waiting() + levels.held_outbound as u64,
        }
    }
}

fn left_ms(authentication: &Authentication, now: Now) -> i64 {
    let end = authentication
        .revoked_at
        .map_or(authentication.deadline, |revoked| revoked.min(authentication.deadline));
    let ahead = millis(end.saturating_duration_since(now.instant));
    ahead - millis(now.instant.saturating_duration_since(end))
}

fn age_ms(authentication: &Authentication, now: Now) -> Option<i64> {
    let issued_at = authentication.issued_at?;
    Some(millis(now.wall.saturating_since(issued_at)))
}

/// So far from the largest number that two of them can be added.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.min(FAR).as_millis()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use shared::wire::grant::Grant;
    use shared::wire::id::TerminatorId;
    use tokio::time::Instant;

    use super::*;
    use crate::session::auth_state::tests::{grant, now};

    fn session() -> Session {
        let id = ConnectionId {
            terminator: TerminatorId::random(),
            number: 1,
        };
        Session::new(crate::tests::common().around.clone(), id, Instant::now())
    }

    fn later(now: Now, seconds: u64) -> Now {
        let time = Duration::from_secs(seconds);
        Now {
            instant: now.instant + time,
            wall: now.wall.saturating_add(time),
        }
    }

    #[tokio::test]
    async fn it_goes_from_nobody_by_live_and_expiring_to_expired() {
        let (mut session, now) = (session(), now());
        let shown = session.shown(now);
        assert_eq!(
            (shown.state, shown.identity, shown.left_ms),
            (State::Anonymous, None, None)
        );
        let grant = Grant {
            refresh_at: now.wall.saturating_add(Duration::from_secs(8)),
            issued_at: Some(now.wall),
            ..grant(1, 10)
        };
        session.bind(grant, now);
        let seen = |seconds| {
            let shown = session.shown(later(now, seconds));
            (shown.state, shown.left_ms, shown.life_ms)
        };
        assert_eq!(seen(7), (State::Live, Some(3_000), Some(10_000)));
        assert_eq!(seen(8), (State::Expiring, Some(2_000), Some(10_000)));
        assert_eq!(seen(13), (State::Expired, Some(-3_000), Some(10_000)));
    }

    #[tokio::test]
    async fn what_was_taken_back_with_a_grace_expires_before_it_is_revoked() {
        let (mut session, now) = (session(), now());
        session.bind(grant(1, 10), now);
        session.auth_state.authentication_mut().unwrap().revoked_at = Some(now.instant + Duration::from_secs(4));
        let seen = |seconds| {
            let shown = session.shown(later(now, seconds));
            (shown.state, shown.left_ms)
        };
        assert_eq!(seen(1), (State::Expiring, Some(3_000)));
        assert_eq!(seen(5), (State::Revoked, Some(-1_000)));
    }
}
