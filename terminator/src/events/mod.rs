//! What happens to a connection that is told outside: one enum for all of it, noted by its session as it happens.
//!
//! The session only notes it ([`News`]), with what was true then. The connection's handle takes it out under the same lock, so that
//! the order of a connection's events is the order in which they happened, and hands it to the [`publisher`].

pub(crate) mod publisher;

use std::sync::Arc;

use shared::service::clock::Timestamp;
use shared::wire::connection_event::{ConnectionEvent, EventKind};
use shared::wire::id::ConnectionId;
use shared::wire::principal::PrincipalNames;

use crate::connection::close_reason::CloseReason;

/// What is said of a connection that its client ended.
const LEFT: &str = "closed by its client";

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happening {
    Opened,
    Authenticated,
    Renewed,
    Expired,
    LoggedOut,
    Revoked,
    Closed(CloseReason),
}

impl Happening {
    const fn kind(self) -> EventKind {
        match self {
            Self::Opened => EventKind::Opened,
            Self::Authenticated => EventKind::Authenticated,
            Self::Renewed => EventKind::Renewed,
            Self::Expired => EventKind::Expired,
            Self::LoggedOut => EventKind::LoggedOut,
            Self::Revoked => EventKind::Revoked,
            Self::Closed(_) => EventKind::Closed,
        }
    }
}

/// Whose a connection is, at some moment.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    /// The principal, as workers have written it.
    pub(crate) principal: Arc<str>,
    /// Until when it is authenticated, as tokens are dated.
    pub(crate) until: Timestamp,
}

/// One event of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) what: Happening,
    sequence: u64,
    holder: Option<Holder>,
    again: bool,
}

/// What has happened to a connection and was not handed on yet.
#[derive(Debug, Default)]
pub(crate) struct News {
    last: u64,
    untold: Vec<Event>,
}

impl News {
    /// Of a connection that was just opened.
    pub(crate) fn begin() -> Box<Self> {
        let mut news = Self::default();
        news.add(Happening::Opened, None, false);
        Box::new(news)
    }

    /// Something has happened.
    pub(crate) fn note(&mut self, what: Happening, holder: Option<Holder>) {
        self.add(what, holder, false);
    }

    /// What was told before may be lost, or a worker may have told the connection's end, with the next number: all that is
    /// so now is told again, behind that.
    pub(crate) fn repeat(&mut self, holder: Option<Holder>, has_expired: bool) {
        self.last += 1;
        self.add(Happening::Opened, None, true);
        if holder.is_some() {
            self.add(Happening::Authenticated, holder.clone(), true);
            if has_expired {
                self.add(Happening::Expired, holder, true);
            }
        }
    }

    /// What was not handed on yet, in its order.
    pub(crate) fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.untold)
    }

    fn add(&mut self, what: Happening, holder: Option<Holder>, again: bool) {
        self.last += 1;
        self.untold.push(Event {
            what,
            sequence: self.last,
            holder,
            again,
        });
    }
}

impl Event {
    /// Whether it is the first of its connection.
    pub(crate) const fn is_beginning(&self) -> bool {
        self.sequence == 1
    }

    /// As it is published.
    fn told(&self, connection: ConnectionId, at: Timestamp) -> ConnectionEvent {
        let names = self
            .holder
            .as_ref()
            .and_then(|holder| PrincipalNames::of(&holder.principal));
        let (code, reason) = match self.what {
            Happening::Closed(reason) => (
                reason.code().map(|code| code.code()),
                Some(reason.code().map_or(LEFT, |code| code.reason()).to_owned()),
            ),
            _ => (None, None),
        };
        let proves = matches!(self.what, Happening::Authenticated | Happening::Renewed);
        let (identity, jti, sid) = match names {
            Some(names) => (Some(names.identity), names.jti, names.sid),
            None => (None, None, None),
        };
        ConnectionEvent {
            event: self.what.kind(),
            connection,
            terminator: connection.terminator,
            sequence: self.sequence,
            at_ms: at,
            identity,
            jti,
            sid,
            expires_at_ms: self.holder.as_ref().filter(|_| proves).map(|holder| holder.until),
            code,
            reason,
            again: self.again,
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::id::TerminatorId;
    use shared::wire::protocol::CloseCode;

    use super::*;

    fn holder() -> Holder {
        Holder {
            principal: r#"{"c":{"iss":"i","sub":"alice","jti":"j","scope":"all"},"r":"secret"}"#.into(),
            until: Timestamp::from_secs(300),
        }
    }

    fn told(event: &Event) -> ConnectionEvent {
        let terminator = TerminatorId::random();
        event.told(ConnectionId { terminator, number: 1 }, Timestamp::from_secs(1))
    }

    #[test]
    fn each_event_has_the_next_number_and_names_whose_the_connection_was() {
        let mut news = News::begin();
        for what in [Happening::Authenticated, Happening::Renewed, Happening::Expired] {
            news.note(what, Some(holder()));
        }
        let events = news.take();
        assert_eq!(
            events.iter().map(|event| event.sequence).collect::<Vec<_>>(),
            [1, 2, 3, 4]
        );
        assert_eq!(told(&events[0]).identity, None);
        for (event, proves) in events[1..].iter().zip([true, true, false]) {
            let event = told(event);
            assert_eq!(event.identity.as_ref().unwrap().subject, "alice");
            assert_eq!(
                (event.jti.as_deref(), event.expires_at_ms.is_some()),
                (Some("j"), proves)
            );
            let text = String::from_utf8(event.to_json()).unwrap();
            assert!(!text.contains("secret") && !text.contains("scope"), "{text}");
        }
        assert!(news.take().is_empty());
    }

    #[test]
    fn an_end_says_by_whom_and_why() {
        let mut news = News::default();
        news.note(Happening::Closed(CloseReason::Left), None);
        news.note(Happening::Closed(CloseReason::close(CloseCode::SlowReader)), None);
        let ends: Vec<_> = news.take().iter().map(told).collect();
        assert_eq!((ends[0].code, ends[0].reason.as_deref()), (None, Some(LEFT)));
        let reason = Some(CloseCode::SlowReader.reason());
        assert_eq!((ends[1].code, ends[1].reason.as_deref()), (Some(4410), reason));
    }

    #[test]
    fn what_is_told_again_comes_after_an_end_that_a_worker_may_have_told() {
        let mut news = News::begin();
        news.note(Happening::Authenticated, Some(holder()));
        let last = news.take().pop().unwrap().sequence;
        news.repeat(Some(holder()), true);
        let again = news.take();
        let kinds: Vec<_> = again.iter().map(|event| event.what.kind()).collect();
        assert_eq!(kinds, [EventKind::Opened, EventKind::Authenticated, EventKind::Expired]);
        assert_eq!(again[0].sequence, last + 2);
        assert!(again.iter().all(|event| event.again));
        news.repeat(None, false);
        assert_eq!(news.take().len(), 1);
    }
}
