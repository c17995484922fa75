//! Who a connection is, and by which of its messages: pure.
//!
//! Answers come in any order; what they say of the connection counts by the
//! sequence of the message that they answer, never by when they came. So a
//! log-out is not undone by the late answer to a message that was sent before it; and a
//! token that was issued earlier than the one in force changes nothing, whichever is heard of first.

mod history;
pub(crate) mod log_outs;

use std::sync::Arc;
use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::wire::envelope::{AuthSnapshot, Change};
use shared::wire::grant::{Grant, Policy};
use shared::wire::id::{ConnectionId, Sequence};
use shared::wire::revocation::Subject;
use shared::wire::tag::{IdentityTag, ResumeSecret, SessionTag, TokenIdTag};
use tokio::time::Instant;

use self::history::{AuthHistory, State, Texts};
use crate::events::Holder;
use crate::timers::now::{FAR, Now};

/// How long after its end a write that had begun before may still be on its way: with what the timers may be late, less
/// than the 250 ms that are promised.
const WRITE_GRACE: Duration = Duration::from_millis(200);

/// A connection's authentication.
#[derive(Debug)]
pub(crate) struct AuthState {
    by: Option<Sequence>,
    resume: ResumeSecret,
    authentication: Option<Box<Authentication>>,
    /// For messages that are decided late.
    past: AuthHistory,
    ever_authenticated: bool,
}

/// What is kept of a grant.
#[derive(Debug)]
pub(crate) struct Authentication {
    pub(crate) identity: IdentityTag,
    pub(crate) on_expired_push: Policy,
    pub(crate) hold: Duration,
    /// When it ends, on the clock that no one can turn back, and as tokens are dated.
    pub(crate) deadline: Instant,
    until: Timestamp,
    pub(crate) refresh_at: Instant,
    /// From when on a revocation forbids it.
    pub(crate) revoked_at: Option<Instant>,
    revoked_from: Option<Timestamp>,
    /// Whether the client was told that a fresh token should come.
    pub(crate) refresh_told: bool,
    /// Whether its expiry was counted.
    pub(crate) expiry_noted: bool,
    pub(crate) token_id: Option<TokenIdTag>,
    pub(crate) session: Option<SessionTag>,
    pub(crate) issued_at: Option<Timestamp>,
    /// The message that made it. One that was sent later may have left it as it is.
    made_by: Sequence,
    /// The log-out that came before it and all that it has replaced.
    after: Option<Sequence>,
    texts: Texts,
}

/// What came of a change.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// Nothing: a later message has changed the connection already.
    Stale,
    /// The connection has this grant, with so much waiting, and takes over what that connection has left held.
    Live {
        waiting: u64,
        resumes: Option<ConnectionId>,
    },
    /// It has none any more.
    Forgotten,
    /// It is another identity's.
    Stranger,
}

impl AuthState {
    pub(crate) fn new() -> Self {
        Self {
            by: None,
            resume: ResumeSecret::random(),
            authentication: None,
            past: AuthHistory::default(),
            ever_authenticated: false,
        }
    }

    /// Takes note of what the message `sequence` has made of the connection. `oldest_open` is the first message that is not
    /// settled.
    pub(crate) fn apply(
        &mut self,
        sequence: Sequence,
        change: Change,
        oldest_open: Option<Sequence>,
        now: Now,
    ) -> Applied {
        let newer = self.by.is_none_or(|by| sequence > by);
        match change {
            // Whichever of the two came first by sequence: one socket had tokens of two.
            Change::Live { grant, .. } if self.is_of_another(grant.identity) => Applied::Stranger,
            // Workers say so only if they did not know of the one in force yet.
            Change::Live { grant, .. } if newer && self.is_preceded_by(&grant, now) => Applied::Live {
                waiting: grant.waiting,
                resumes: grant.resumes,
            },
            Change::Live { grant, principal } if !newer && self.is_overtaken_by(sequence, &grant, now) => {
                let change = Change::Live {
                    grant: grant.clone(),
                    principal: principal.clone(),
                };
                self.past.remember(Some(sequence), State::of(change, now));
                self.settled(oldest_open, now.instant);
                let (by, change) = (self.by, Change::Live { grant, principal });
                let applied = self.become_of(sequence, change, now);
                self.by = by;
                applied
            }
            change if !newer => {
                self.past.remember(Some(sequence), State::of(change, now));
                self.settled(oldest_open, now.instant);
                Applied::Stale
            }
            change => {
                let state = self.authentication().and_then(Authentication::state);
                self.past.remember(self.by, state);
                let applied = self.become_of(sequence, change, now);
                self.settled(oldest_open, now.instant);
                applied
            }
        }
    }

    /// All before `oldest_open` is settled, or all there is.
    pub(crate) fn settled(&mut self, oldest_open: Option<Sequence>, now: Instant) {
        match oldest_open.filter(|oldest| self.by.is_some_and(|by| *oldest < by)) {
            Some(oldest) => self.past.forget_before(oldest, now),
            None => self.past.clear(),
        }
    }

    fn become_of(&mut self, sequence: Sequence, change: Change, now: Now) -> Applied {
        match change {
            Change::Live { grant, principal } => {
                let after = match &self.authentication {
                    Some(authentication) => authentication.after,
                    None => self.by,
                };
                self.by = Some(sequence);
                self.ever_authenticated = true;
                let (waiting, resumes) = (grant.waiting, grant.resumes);
                self.authentication = Some(Box::new(Authentication::new(grant, principal, (sequence, after), now)));
                Applied::Live { waiting, resumes }
            }
            Change::Forgotten => {
                self.by = Some(sequence);
                self.authentication = None;
                // The one who knew the old one was told it as someone who has left.
                self.resume = ResumeSecret::random();
                Applied::Forgotten
            }
        }
    }

    /// The grant, in force or expired.
    pub(crate) fn authentication(&self) -> Option<&Authentication> {
        self.authentication.as_deref()
    }

    pub(crate) fn authentication_mut(&mut self) -> Option<&mut Authentication> {
        self.authentication.as_deref_mut()
    }

    /// The message that last changed it.
    pub(crate) fn by(&self) -> Option<Sequence> {
        self.by
    }

    /// Whether it ever had a grant.
    pub(crate) fn was_ever_authenticated(&self) -> bool {
        self.ever_authenticated
    }

    /// Whether a grant is in force.
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        self.authentication()
            .is_some_and(|authentication| authentication.is_live(now))
    }

    /// What a worker is told of it with a message.
    pub(crate) fn snapshot(&self) -> AuthSnapshot {
        self.snapshot_of(
            self.by,
            self.authentication().map(|authentication| &authentication.texts),
        )
    }

    /// What a worker is told with a message that it decides late: what the connection was when that was read.
    pub(crate) fn snapshot_at(&self, sequence: Sequence, now: Instant) -> AuthSnapshot {
        match self.past.before(sequence, now) {
            Some((by, texts)) if self.by.is_some_and(|now| sequence < now) => self.snapshot_of(by, texts),
            Some(_) | None => self.snapshot(),
        }
    }

    fn snapshot_of(&self, by: Option<Sequence>, texts: Option<&Texts>) -> AuthSnapshot {
        AuthSnapshot {
            by,
            grant: texts.map(|texts| texts.facts.clone()),
            principal: texts.map(|texts| texts.principal.clone()),
            resume: texts.is_none().then_some(self.resume),
            unsettled: false,
            held: false,
            ordered: false,
            ahead: false,
            again: false,
            unsure: false,
        }
    }

    /// Whether a grant's token was issued earlier than that of the one in force.
    fn is_preceded_by(&self, grant: &Grant, now: Now) -> bool {
        let authentication = self
            .authentication()
            .filter(|authentication| authentication.is_live(now.instant));
        authentication
            .and_then(Authentication::grant)
            .is_some_and(|authentication| grant.precedes(&authentication))
    }

    /// Whether the message `sequence`, of which is heard only now, made a grant that what came after it could not replace.
    fn is_overtaken_by(&self, sequence: Sequence, grant: &Grant, now: Now) -> bool {
        let authentication = self
            .authentication()
            .filter(|authentication| authentication.after.is_none_or(|after| sequence > after));
        let is_overtaken = |authentication: &Authentication| {
            authentication.grant().is_some_and(|present| {
                let sent_later = sequence > authentication.made_by && !grant.precedes(&present);
                sent_later || present.precedes(grant)
            })
        };
        grant.is_live(now.wall) && authentication.is_some_and(is_overtaken)
    }

    fn is_of_another(&self, identity: IdentityTag) -> bool {
        self.authentication()
            .is_some_and(|authentication| authentication.identity != identity)
    }
}

impl Authentication {
    fn new(grant: Grant, principal: String, (made_by, after): (Sequence, Option<Sequence>), now: Now) -> Self {
        Self {
            identity: grant.identity,
            on_expired_push: grant.on_expired_push,
            hold: Duration::from_millis(grant.hold_ms).min(FAR),
            deadline: now.instant_of(grant.until),
            until: grant.until,
            refresh_at: now.instant_of(grant.refresh_at),
            revoked_at: None,
            revoked_from: None,
            refresh_told: false,
            expiry_noted: false,
            token_id: grant.token_id,
            session: grant.session,
            issued_at: grant.issued_at,
            made_by,
            after,
            texts: Texts {
                facts: grant.without_news().to_facts().into(),
                principal: principal.into(),
            },
        }
    }

    /// Whose the connection is by it.
    pub(crate) fn holder(&self) -> Holder {
        Holder {
            principal: self.texts.principal.clone(),
            until: self.until,
        }
    }

    /// What tells it from another of the same connection.
    pub(crate) fn facts(&self) -> Arc<str> {
        self.texts.facts.clone()
    }

    fn state(&self) -> Option<State> {
        Some(State {
            grant: self.grant()?,
            texts: self.texts.clone(),
            deadline: self.deadline,
        })
    }

    fn grant(&self) -> Option<Grant> {
        Grant::from_facts(&self.texts.facts)
    }

    /// Ends it where the wall clock says so and the other does not: that stands still while a machine sleeps or is frozen.
    /// Whichever says it first is right. Tells whether it did.
    pub(crate) fn observe(&mut self, now: Now) -> bool {
        let over_since = |moment: Timestamp| {
            let since = now.wall.saturating_since(moment);
            (now.wall >= moment).then(|| now.instant.checked_sub(since).unwrap_or(now.instant))
        };
        let expired = over_since(self.until);
        let revoked = self.revoked_from.and_then(over_since);
        let is_news = expired.is_some() && self.deadline > now.instant
            || revoked.is_some() && self.revoked_at.is_some_and(|at| at > now.instant);
        self.deadline = expired.into_iter().fold(self.deadline, Instant::min);
        self.revoked_at = revoked.into_iter().chain(self.revoked_at).min();
        is_news
    }

    /// A revocation that takes effect at that moment means it. Tells when that is, if it is earlier than what is known.
    pub(crate) fn revoke(&mut self, from: Timestamp, now: Now) -> Option<Instant> {
        let effective = now.instant_of(from);
        if self.revoked_at.is_some_and(|known| known <= effective) {
            return None;
        }
        self.revoked_at = Some(effective);
        self.revoked_from = Some(from);
        Some(effective)
    }

    pub(crate) fn is_revoked(&self, now: Instant) -> bool {
        self.revoked_at.is_some_and(|revoked_at| now >= revoked_at)
    }

    pub(crate) fn is_live(&self, now: Instant) -> bool {
        now < self.deadline && !self.is_revoked(now)
    }

    /// When it ends.
    pub(crate) fn ends_at(&self) -> Instant {
        self.revoked_at.map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// Until when a write on its behalf that has begun may take, if there is a limit.
    pub(crate) fn write_limit(&self) -> Option<Instant> {
        let expiry = (self.on_expired_push != Policy::Ignore).then_some(self.deadline);
        let end = expiry.into_iter().chain(self.revoked_at).min()?;
        Some(end + WRITE_GRACE)
    }

    /// What a revocation must mean to concern it.
    pub(crate) fn subject(&self, connection: ConnectionId) -> Subject {
        Subject {
            identity: self.identity,
            token_id: self.token_id,
            session: self.session,
            issued_at: self.issued_at,
            // Asked for when a grant or a revocation comes, and not worth the memory of every connection.
            proven: self.grant().and_then(|grant| grant.proven()),
            connection: Some(connection),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use shared::wire::tag::TokenTag;

    pub(crate) fn identity(number: u8) -> IdentityTag {
        IdentityTag::of(&[number; 32])
    }

    pub(crate) fn now() -> Now {
        Now {
            instant: Instant::now(),
            wall: Timestamp::from_secs(1_000),
        }
    }

    /// A grant of that identity, until so many seconds from [`now`].
    pub(crate) fn grant(of: u8, seconds: u64) -> Grant {
        Grant {
            identity: identity(of),
            until: Timestamp::from_secs(1_000 + seconds),
            refresh_at: Timestamp::from_secs(1_000 + seconds * 8 / 10),
            token: TokenTag::of(&[9; 32]),
            token_id: None,
            session: None,
            issued_at: None,
            proof: None,
            on_expired_push: Policy::Reauthenticate,
            hold_ms: 60_000,
            waiting: 0,
            resumes: None,
        }
    }

    pub(crate) fn live(grant: Grant) -> Change {
        Change::Live {
            grant,
            principal: "{}".to_owned(),
        }
    }

    fn sequence(number: u64) -> Sequence {
        Sequence::new(number)
    }

    #[test]
    fn the_late_answer_to_an_earlier_message_undoes_nothing() {
        let mut auth_state = AuthState::new();
        auth_state.apply(sequence(2), Change::Forgotten, None, now());
        assert_eq!(
            auth_state.apply(sequence(1), live(grant(1, 60)), None, now()),
            Applied::Stale
        );
        assert!(auth_state.authentication().is_none());
        assert_eq!(auth_state.by(), Some(sequence(2)));
    }

    #[test]
    fn a_message_that_is_decided_late_is_decided_by_what_was_sent_before_it() {
        let (mut auth_state, open) = (AuthState::new(), Some(sequence(2)));
        // The second message waits for the first, and the third and fourth are quicker than both.
        auth_state.apply(sequence(4), live(grant(1, 40)), Some(sequence(1)), now());
        assert_eq!(
            auth_state.snapshot_at(sequence(2), now().instant).grant,
            None,
            "the first may still bring a token"
        );
        assert_eq!(
            auth_state.apply(sequence(1), live(grant(1, 10)), open, now()),
            Applied::Stale
        );
        assert_eq!(
            auth_state.apply(sequence(3), live(grant(1, 30)), open, now()),
            Applied::Stale
        );
        let second = auth_state.snapshot_at(sequence(2), now().instant);
        assert_eq!(
            (second.by, second.grant),
            (Some(sequence(1)), Some(grant(1, 10).to_facts().into()))
        );
        assert_eq!(
            auth_state.snapshot_at(sequence(5), now().instant).grant,
            Some(grant(1, 40).to_facts().into())
        );
        auth_state.settled(None, now().instant);
        assert_eq!(
            auth_state.snapshot_at(sequence(2), now().instant),
            auth_state.snapshot(),
            "nothing is kept without an identity"
        );
    }

    #[test]
    fn a_grant_ends_by_the_clock_that_says_so_first() {
        let of_10_s = || {
            let mut auth_state = AuthState::new();
            auth_state.apply(sequence(1), live(grant(1, 10)), None, now());
            auth_state
        };
        let at = |of_tokens: u64, of_the_machine: u64| Now {
            instant: now().instant + Duration::from_secs(of_the_machine),
            wall: Timestamp::from_secs(1_000 + of_tokens),
        };
        // On the one, and on the other.
        for (of_tokens, of_the_machine, live) in [(9, 9, true), (10, 0, false), (0, 11, false), (3_600, 1, false)] {
            let (mut auth_state, later) = (of_10_s(), at(of_tokens, of_the_machine));
            let authentication = auth_state.authentication_mut().unwrap();
            assert_eq!(authentication.observe(later), !live && of_the_machine < 10, "{later:?}");
            assert_eq!(authentication.is_live(later.instant), live, "{later:?}");
            assert!(!authentication.observe(later), "it is told once");
        }
        // Nothing brings it back.
        let mut auth_state = of_10_s();
        let authentication = auth_state.authentication_mut().unwrap();
        authentication.observe(at(3_600, 1));
        authentication.observe(at(2, 2));
        assert!(!authentication.is_live(at(2, 2).instant));
        // Nor does a revocation wait for a clock that stood still.
        let mut auth_state = of_10_s();
        let authentication = auth_state.authentication_mut().unwrap();
        assert!(authentication.revoke(Timestamp::from_secs(1_005), at(1, 1)).is_some());
        assert!(!authentication.observe(at(4, 2)) && !authentication.is_revoked(at(4, 2).instant));
        assert!(authentication.observe(at(5, 2)) && authentication.is_revoked(at(5, 2).instant));
    }

    #[test]
    fn a_token_that_was_issued_earlier_changes_nothing_whichever_is_heard_of_first() {
        let issued = |at, seconds| Grant {
            issued_at: Some(Timestamp::from_secs(at)),
            ..grant(1, seconds)
        };
        let now = now();
        for order in [[1, 2], [2, 1]] {
            let mut auth_state = AuthState::new();
            for number in order {
                let grant = if number == 1 { issued(900, 60) } else { issued(800, 10) };
                auth_state.apply(sequence(number), live(grant), Some(sequence(1)), now);
            }
            assert_eq!(
                auth_state.snapshot().grant,
                Some(issued(900, 60).to_facts().into()),
                "{order:?}"
            );
            assert_eq!(
                auth_state.snapshot_at(sequence(2), now.instant).grant,
                Some(issued(900, 60).to_facts().into()),
                "{order:?}"
            );
            // When it has expired, any is better.
            let later = Now {
                instant: now.instant + Duration::from_secs(61),
                wall: Timestamp::from_secs(1_061),
            };
            auth_state.apply(sequence(3), live(issued(850, 90)), None, later);
            assert_eq!(
                auth_state.snapshot().grant,
                Some(issued(850, 90).to_facts().into()),
                "{order:?}"
            );
        }
    }

    #[test]
    fn a_log_out_ends_what_was_before_it_however_late_that_is_heard_of() {
        let mut auth_state = AuthState::new();
        let later = Grant {
            issued_at: Some(Timestamp::from_secs(900)),
            ..grant(1, 60)
        };
        auth_state.apply(sequence(2), Change::Forgotten, None, now());
        auth_state.apply(sequence(3), live(grant(1, 10)), None, now());
        assert_eq!(auth_state.apply(sequence(1), live(later), None, now()), Applied::Stale);
        assert_eq!(auth_state.snapshot().grant, Some(grant(1, 10).to_facts().into()));
    }

    #[test]
    fn a_renewed_grant_does_not_end_when_the_old_one_would_have() {
        let now = now();
        let mut auth_state = AuthState::new();
        auth_state.apply(sequence(1), live(grant(1, 10)), None, now);
        auth_state.apply(sequence(2), live(grant(1, 60)), None, now);
        assert!(auth_state.is_live(now.instant + Duration::from_secs(59)));
        assert!(!auth_state.is_live(now.instant + Duration::from_secs(60)));
    }

    #[test]
    fn two_identities_on_one_socket_are_told_apart_in_either_order() {
        for other in [1, 3] {
            let mut auth_state = AuthState::new();
            auth_state.apply(sequence(2), live(grant(1, 10)), None, now());
            assert_eq!(
                auth_state.apply(sequence(other), live(grant(2, 10)), None, now()),
                Applied::Stranger
            );
            assert_eq!(
                auth_state
                    .authentication()
                    .map(|authentication| authentication.identity),
                Some(identity(1))
            );
        }
    }

    #[test]
    fn after_a_log_out_another_may_log_in_and_the_secret_is_a_new_one() {
        let mut auth_state = AuthState::new();
        let first = auth_state.snapshot().resume;
        assert!(first.is_some());
        auth_state.apply(sequence(1), live(grant(1, 10)), None, now());
        assert_eq!(auth_state.snapshot().resume, None);
        auth_state.apply(sequence(2), Change::Forgotten, None, now());
        let second = auth_state.snapshot().resume;
        assert!(second.is_some() && second != first);
        assert!(matches!(
            auth_state.apply(sequence(3), live(grant(2, 10)), None, now()),
            Applied::Live { .. }
        ));
    }

    #[test]
    fn a_worker_is_told_the_grant_but_not_what_was_said_once() {
        let mut auth_state = AuthState::new();
        let resumed = Grant {
            waiting: 3,
            ..grant(1, 10)
        };
        auth_state.apply(sequence(1), live(resumed), None, now());
        let snapshot = auth_state.snapshot();
        assert_eq!(snapshot.grant, Some(grant(1, 10).to_facts().into()));
        assert_eq!(snapshot.by, Some(sequence(1)));
    }

    #[test]
    fn a_token_without_end_does_not_overflow_the_clock() {
        let mut auth_state = AuthState::new();
        let endless = Grant {
            until: Timestamp::from_millis(u64::MAX),
            refresh_at: Timestamp::from_millis(u64::MAX),
            hold_ms: u64::MAX,
            ..grant(1, 1)
        };
        auth_state.apply(sequence(1), live(endless), None, now());
        assert!(auth_state.is_live(now().instant));
    }

    proptest! {
        /// Whatever the order in which answers come, and how often, the token that was issued last counts, and of several
        /// the one that was sent last.
        #[test]
        fn the_token_that_was_issued_last_counts(
            tokens in proptest::collection::vec(900_u64..903, 1..6),
            mut order in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
            each in Just((0..6_usize).collect::<Vec<_>>()).prop_shuffle(),
        ) {
            let issued = |index: usize| Grant {
                issued_at: Some(Timestamp::from_secs(tokens[index])),
                ..grant(1, 60 + index as u64)
            };
            let places = order.drain(..).map(|place| place.index(tokens.len()));
            let mut auth_state = AuthState::new();
            for index in places.chain(each).filter(|index| *index < tokens.len()) {
                auth_state.apply(sequence(index as u64 + 1), live(issued(index)), Some(sequence(1)), now());
            }
            let last = (0..tokens.len()).max_by_key(|index| (tokens[*index], *index)).unwrap();
            prop_assert_eq!(auth_state.snapshot().grant, Some(issued(last).to_facts().into()));
        }

        /// Whatever the order in which answers come, the connection ends up as the last message by sequence made it.
        #[test]
        fn the_newest_change_counts(
            forgets in proptest::collection::vec(any::<bool>(), 1..20),
            order in proptest::collection::vec(any::<prop::sample::Index>(), 1..60),
        ) {
            let mut auth_state = AuthState::new();
            let mut newest = 0;
            for place in order {
                let index = place.index(forgets.len());
                let number = index as u64 + 1;
                let change = if forgets[index] { Change::Forgotten } else { live(grant(1, number)) };
                let applied = auth_state.apply(sequence(number), change, None, now());
                prop_assert_eq!(applied == Applied::Stale, number <= newest);
                newest = newest.max(number);
            }
            let last = usize::try_from(newest).unwrap() - 1;
            prop_assert_eq!(auth_state.authentication().is_none(), forgets[last]);
            prop_assert_eq!(auth_state.by(), Some(sequence(newest)));
        }
    }
}
