//! P11: what a connection sends is handled, and answered, in the order in which it was sent.

use std::collections::BTreeSet;

use shared::wire::grant::Policy;

use super::ledger::{Ledger, Line};
use super::state::bound;
use crate::scenario::Kind;
use crate::trace::Socket;

pub(super) fn judge(ledger: &Ledger<'_>, wrong: &mut Vec<String>) {
    if !ledger.settings.ordered {
        return;
    }
    for (socket, line) in &ledger.sockets {
        // What the store had taken without saying so may be handled after its client was told that it is not.
        let refused = |id: &str, before: u64| {
            let mut answers = ledger.answers(id);
            answers.any(|(at, json)| *at <= before && json["type"] == "error")
        };
        // And so may what it had lost that it was dropped, for anyone who takes over from a client that has left.
        let is_uncertain = !ledger.losses.is_empty() || ledger.settings.store_fails > 0;
        let left = |at: u64| is_uncertain && line.ended.is_some_and(|(ended, _)| ended <= at);
        let handled = ledger.handled.iter();
        let handled = handled.filter(|handled| !refused(handled.id, handled.at) && !left(handled.at));
        let handled = handled.map(|handled| handled.id);
        in_order(ledger, *socket, handled, "handled", wrong);
        if ledger.losses.is_empty() {
            // Answers that are held for who has logged out wait for them, whatever they ask when they are back.
            for era in 0..=line.sent.iter().filter(|id| logs_out(ledger, id)).count() {
                let answered = replied(line).filter(|id| era_of(ledger, line, id) == era);
                let answered = answered.filter(|id| !outlives_its_expiry(ledger, line, id));
                in_order(ledger, *socket, answered, "answered", wrong);
            }
        }
    }
}

/// What it was answered. What was refused may be told at once.
fn replied<'a>(line: &'a Line<'_>) -> impl Iterator<Item = &'a str> {
    let replies = line.read.iter().filter(|(_, json)| json["type"] == "reply");
    replies.filter_map(|(_, json)| json["id"].as_str())
}

/// How many log-outs were sent before it.
fn era_of(ledger: &Ledger<'_>, line: &Line<'_>, id: &str) -> usize {
    let before = line.sent.iter().take_while(|sent| **sent != id);
    before.filter(|sent| logs_out(ledger, sent)).count()
}

fn logs_out(ledger: &Ledger<'_>, id: &str) -> bool {
    ledger.messages[id].kind == Kind::Forget && ledger.accepted(id).is_some()
}

/// Whether it was let in although its connection had expired: so is its answer, which does not wait for one that is held for
/// the expiry.
fn outlives_its_expiry(ledger: &Ledger<'_>, line: &Line<'_>, id: &str) -> bool {
    let settings = &ledger.settings;
    let mixed = settings.on_unauthenticated == Policy::Ignore && settings.on_expired_push != Policy::Ignore;
    let handled = ledger.handled.iter().find(|handled| handled.id == id);
    mixed
        && handled.is_some_and(|handled| {
            let sent = ledger.messages[id].at;
            // What was sent in the same moment may have come behind it.
            let token = bound(ledger, line, sent.saturating_sub(1)).and_then(|message| message.token);
            token.is_none_or(|token| ledger.until(token) <= handled.at)
        })
}

/// The first time of each.
fn in_order<'a>(
    ledger: &Ledger<'_>,
    socket: Socket,
    ids: impl Iterator<Item = &'a str>,
    what: &str,
    wrong: &mut Vec<String>,
) {
    let mut before: Option<(usize, &str)> = None;
    let mut seen = BTreeSet::new();
    for id in ids {
        let Some(message) = ledger.messages.get(id).filter(|message| message.socket == socket) else {
            continue;
        };
        if !seen.insert(id) {
            continue;
        }
        match before {
            Some((place, earlier)) if message.place < place => {
                wrong.push(format!("P11: {id} on {socket:?} is {what} after {earlier}"));
            }
            _ => before = Some((message.place, id)),
        }
    }
}
