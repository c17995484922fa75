//! What happens to a connection because a moment has come, or something was revoked.

use std::time::Duration;

use shared::wire::id::Sequence;
use shared::wire::protocol::{CloseCode, Held, Reason};
use shared::wire::revocation::{Revocation, Revocations};
use tokio::time::Instant;

use super::effect::Event;
use super::notices::auth_required;
use super::{Life, Session};
use crate::events::Happening;
use crate::timers::now::Now;
use crate::timers::wheel::Tick;

/// When to look again at a connection that never authenticated, and whose messages may still do it.
const AUTH_RECHECK: Duration = Duration::from_secs(1);

impl Session {
    /// Its moment on the wheel has come; `forwarding` if its messages can reach the workers at the moment. Tells whether its
    /// task has something to do.
    pub(crate) fn fire(&mut self, tick: Tick, now: Instant, forwarding: bool) -> bool {
        if self.armed != Some(tick) {
            return false;
        }
        self.armed = None;
        self.rearm = true;
        let retries = self.held.tries_again(now);
        let due = retries || self.next_moment(now).is_some_and(|moment| moment <= now);
        if due {
            self.check_auth_timeout(now, forwarding);
            self.check_answers(now, forwarding);
            self.check_acknowledgements(now);
            self.check_grant(now);
            if !forwarding && self.outbound.fetch_ends().is_some_and(|end| end <= now) {
                self.outbound.postpone(now);
            }
        }
        due
    }

    /// For which moment it is to be armed, if what it waits for has changed; `arm` arms it in place of the tick that it was
    /// armed for.
    pub(crate) fn arm(&mut self, now: Instant, arm: impl FnOnce(Instant, Option<Tick>) -> Tick) {
        if !std::mem::take(&mut self.rearm) {
            return;
        }
        if let Some(moment) = self.next_moment(now) {
            self.armed = Some(arm(moment, self.armed));
        }
    }

    /// Looks at the clocks, before anything is decided.
    pub(crate) fn observe(&mut self, now: Now) {
        self.rearm |= self
            .auth_state
            .authentication_mut()
            .is_some_and(|authentication| authentication.observe(now));
    }

    /// Sees whether its grant is revoked, or was before it came. Tells whether that is news.
    pub(crate) fn heed(&mut self, revoked: &Revocations, now: Now) -> bool {
        let subject = self
            .auth_state
            .authentication()
            .map(|authentication| authentication.subject(self.id));
        let found = subject.and_then(|subject| revoked.of(&subject, now.wall)).copied();
        found.is_some_and(|revocation| self.revoked(&revocation, now))
    }

    /// Asks for a fresh token, once until one comes.
    pub(super) fn ask(&mut self, reason: Reason, now: Instant) {
        if !std::mem::replace(&mut self.asked, true) {
            self.require(reason, self.hold_ends(now).saturating_duration_since(now));
        }
    }

    fn revoked(&mut self, revocation: &Revocation, now: Now) -> bool {
        let Some(authentication) = self.auth_state.authentication_mut() else {
            return false;
        };
        let Some(effective) = authentication.revoke(revocation.effective, now) else {
            return false;
        };
        self.rearm = true;
        if effective <= now.instant {
            self.end(CloseCode::Revoked);
        } else {
            self.require(Reason::Revoked, effective.saturating_duration_since(now.instant));
        }
        true
    }

    fn check_auth_timeout(&mut self, now: Instant, forwarding: bool) {
        let Some(due) = self.auth_due else { return };
        if self.auth_state.was_ever_authenticated() {
            self.auth_due = None;
        } else if due <= now && forwarding {
            // What was sent in time may still authenticate it, and what comes later does not put that off.
            let next = self.in_flight.next();
            let late_from = *self
                .late_from
                .get_or_insert(Sequence::new(next.get() + u64::from(self.ahead)));
            let all_forwarded = self.ahead == 0 || next >= late_from;
            if all_forwarded && self.in_flight.oldest_open().is_none_or(|open| open >= late_from) {
                self.end(CloseCode::AuthTimeout);
            }
            self.auth_due = Some(now + AUTH_RECHECK);
        } else if due <= now {
            // No one can authenticate while the broker is away.
            self.auth_due = Some(now + AUTH_RECHECK);
        }
    }

    /// It has asked something. The moment to look is armed once for many requests.
    pub(super) fn asks(&mut self, now: Instant) {
        self.note_progress(now);
        if self.answer_due.is_none() {
            self.answer_due = self.around.limits.answer_timeout.map(|timeout| now + timeout);
            self.rearm = true;
        }
    }

    /// What it has asked first of all that is open has changed, if it has: something was answered, or nothing was open.
    pub(super) fn note_progress(&mut self, now: Instant) {
        let oldest = self.in_flight.oldest().map_or(0, Sequence::get);
        if oldest != self.oldest_asked {
            self.oldest_asked = oldest;
            self.progress = now;
        }
    }

    /// What it has asked is lost if it was not answered for so long, whatever came behind it: someone has purged a queue, or a
    /// broker has lost it.
    fn check_answers(&mut self, now: Instant, forwarding: bool) {
        let (Some(timeout), Some(due)) = (self.around.limits.answer_timeout, self.answer_due) else {
            return;
        };
        if due > now {
            return;
        }
        self.note_progress(now);
        if !forwarding {
            // While the broker is away nothing is lost but time.
            self.progress = now;
        }
        self.answer_due = (!self.in_flight.is_empty()).then_some(self.progress + timeout);
        if self.answer_due.is_some_and(|due| due <= now) {
            let open = self.in_flight.open_messages();
            self.happened(Event::RepliesLost { open });
            self.end(CloseCode::Internal);
        }
    }

    fn check_grant(&mut self, now: Instant) {
        let Some(authentication) = self.auth_state.authentication_mut() else {
            return;
        };
        let live = authentication.is_live(now);
        let revoked = authentication.is_revoked(now);
        let graced = authentication.revoked_at.is_some();
        let left = authentication.deadline.saturating_duration_since(now);
        let expires = now >= authentication.deadline && !std::mem::replace(&mut authentication.expiry_noted, true);
        let refresh = now >= authentication.refresh_at && !std::mem::replace(&mut authentication.refresh_told, true);
        if expires {
            self.happened(Event::Expired);
            self.tells(Happening::Expired);
        }
        if revoked {
            self.end(CloseCode::Revoked);
        } else if refresh && live && !graced && self.life == Life::Open {
            self.require(Reason::Expiring, left);
        }
    }

    fn require(&mut self, reason: Reason, deadline: Duration) {
        self.happened(Event::AuthRequired(reason));
        let held = Held {
            inbound: self.held.len() as u64,
            outbound: self.outbound.waiting(),
        };
        self.tell(auth_required(reason, deadline, held));
    }

    /// When the first of what is held is given up, or the connection itself.
    fn hold_ends(&self, now: Instant) -> Instant {
        let authentication = self.auth_state.authentication();
        let hold = authentication.map_or(Duration::ZERO, |authentication| authentication.hold);
        let inbound = self.held.oldest_until();
        let outbound = self.outbound.since().map(|since| since + hold);
        let never_bound = self.auth_due.filter(|_| !self.auth_state.was_ever_authenticated());
        let ends = [inbound, outbound, never_bound];
        ends.into_iter().flatten().min().unwrap_or_else(|| now + hold)
    }

    /// When something is to be done for it next, if nothing else happens.
    fn next_moment(&self, now: Instant) -> Option<Instant> {
        let (held, closing) = match self.life {
            Life::Open => (self.held.next_moment(now), None),
            Life::Closing { until, .. } => (None, Some(until)),
            Life::CloseReason(_) | Life::Gone | Life::Forgotten => return None,
        };
        let never_bound = self.auth_due.filter(|_| !self.auth_state.was_ever_authenticated());
        let authentication = self.auth_state.authentication();
        let moments = [
            held,
            closing,
            never_bound,
            authentication
                .filter(|authentication| !authentication.refresh_told)
                .map(|authentication| authentication.refresh_at),
            authentication
                .filter(|authentication| !authentication.expiry_noted)
                .map(|authentication| authentication.deadline),
            authentication.and_then(|authentication| authentication.revoked_at),
            self.outbound.fetch_ends(),
            self.ahead_due,
            self.answer_due,
            self.unacknowledged.as_deref().and_then(|all| all.due),
        ];
        moments.into_iter().flatten().min()
    }
}
