//! When each socket was certainly authenticated, and as whom: from an answer that said so to the first thing that might
//! have ended it.

use std::collections::BTreeMap;

use super::ledger::{Ledger, Message};
use super::state::bound;
use crate::scenario::Kind;
use crate::trace::Socket;

/// A time in which a socket was authenticated for certain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Era {
    pub(super) from: u64,
    pub(super) until: u64,
    pub(super) subject: &'static str,
}

pub(super) struct Eras(BTreeMap<Socket, Vec<Era>>);

impl Eras {
    pub(super) fn of(ledger: &Ledger<'_>) -> Self {
        let eras = ledger.sockets.keys().map(|socket| (*socket, eras(ledger, *socket)));
        Self(eras.collect())
    }

    /// Those of one socket.
    pub(super) fn on(&self, socket: Socket) -> &[Era] {
        self.0.get(&socket).map_or(&[], |eras| eras)
    }

    /// Those of one subject, on whatever socket.
    pub(super) fn by<'s>(&'s self, subject: &'s str) -> impl Iterator<Item = (Socket, Era)> + use<'s> {
        self.0
            .iter()
            .flat_map(|(socket, eras)| eras.iter().map(|era| (*socket, *era)))
            .filter(move |(_, era)| era.subject == subject)
    }
}

impl Era {
    /// How long it overlaps the time between the two, while the machines were awake.
    pub(super) fn within(&self, ledger: &Ledger<'_>, from: u64, until: u64) -> u64 {
        let awake = |at| ledger.sleeps.awake(at);
        awake(self.until.min(until)).saturating_sub(awake(self.from.max(from)))
    }
}

fn eras(ledger: &Ledger<'_>, socket: Socket) -> Vec<Era> {
    let line = &ledger.sockets[&socket];
    let mut eras: Vec<Era> = Vec::new();
    for id in &line.sent {
        let message = &ledger.messages[id];
        let Some(token) = message.token.filter(|_| authenticates(ledger, message)) else {
            continue;
        };
        let Some(from) = ledger.accepted(id) else { continue };
        // It may have changed nothing, where another was in force.
        let before = message.at.checked_sub(1).and_then(|before| bound(ledger, line, before));
        let before = before.and_then(|before| before.token).map(|token| ledger.until(token));
        let mut until = before
            .filter(|before| *before > message.at)
            .map_or(ledger.until(token), |before| before.min(ledger.until(token)));
        // Whatever came after it on this socket and might have changed it.
        let after = line.sent.iter().map(|id| &ledger.messages[id]);
        let changes =
            after.filter(|other| other.place > message.place && (other.token.is_some() || other.kind == Kind::Forget));
        until = changes.map(|other| other.at).fold(until, u64::min);
        until = line.ended.map_or(until, |(at, _)| until.min(at));
        for revocation in &ledger.revocations {
            if ledger.means(revocation, message)
                || message.at >= revocation.at && may_be_meant(ledger, revocation.acknowledged, message.at)
            {
                until = until.min(revocation.at);
            }
        }
        if until <= from {
            continue;
        }
        match eras.last_mut() {
            // Renewed before it ended: there was no moment without.
            Some(last) if last.subject == token.subject && last.until >= message.at => last.until = until,
            _ => eras.push(Era {
                from,
                until,
                subject: token.subject,
            }),
        }
    }
    eras
}

/// A token that was issued while a revocation was under way, or within the leeway after it, may be meant by it or not.
pub(super) fn may_be_meant(ledger: &Ledger<'_>, acknowledged: Option<u64>, issued: u64) -> bool {
    acknowledged.is_none_or(|acknowledged| issued < acknowledged + 1_000 + ledger.leeway_ms())
}

/// Whether a message's token authenticates its connection, if it is good.
pub(super) fn authenticates(ledger: &Ledger<'_>, message: &Message<'_>) -> bool {
    let genuine = message.token.is_some_and(|token| token.genuine);
    genuine && (message.kind == Kind::Authenticate || ledger.settings.strategy != "explicit")
}
