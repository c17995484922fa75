//! P7: a push reaches each live connection of its identity, or the next one, once, and in its producer's order.

use std::collections::BTreeMap;

use super::eras::{Era, Eras};
use super::ledger::{Ledger, Push};
use crate::scenario::Kind;
use crate::trace::{End, Socket};

pub(super) fn judge(ledger: &Ledger<'_>, eras: &Eras, wrong: &mut Vec<String>) {
    let mut read: BTreeMap<&str, Vec<Socket>> = BTreeMap::new();
    for (socket, line) in &ledger.sockets {
        let mut last: BTreeMap<(usize, usize, usize), usize> = BTreeMap::new();
        for (at, json) in line.read.iter().filter(|(_, json)| json["type"] == "push") {
            let Some((id, push)) = json["id"].as_str().and_then(|id| ledger.pushes.get_key_value(id)) else {
                wrong.push(format!("P7: {at} ms: {socket:?} read a push that nobody sent: {json}"));
                continue;
            };
            let sockets = read.entry(id).or_default();
            if sockets.contains(socket) {
                wrong.push(format!("P7: {at} ms: {socket:?} read {id} once more"));
                continue;
            }
            sockets.push(*socket);
            // In order among what was sent while it was theirs without a break. What was sent before, or to a connection that
            // expired before it had read all, may come back later than what was held at once; and so may what was on its way
            // when the store lost that the connection is there.
            // And so may what was sent before a log-out and read after it.
            let logged_out = |id: &str| {
                let message = &ledger.messages[id];
                message.kind == Kind::Forget && (push.at..=*at).contains(&message.at) && ledger.accepted(id).is_some()
            };
            if line.sent.iter().any(|id| logged_out(id)) {
                continue;
            }
            if ledger.is_announcing(push.at) {
                continue;
            }
            let theirs = |era: &Era| era.subject == push.subject && (era.from..=era.until).contains(&push.at);
            let Some(era) = eras.on(*socket).iter().position(theirs) else {
                continue;
            };
            let losses = ledger.losses.iter().filter(|loss| **loss <= push.at).count();
            if last
                .insert((push.producer, era, losses), push.place)
                .is_some_and(|last| last > push.place)
            {
                wrong.push(format!("P7: {at} ms: {socket:?} read {id} after a later one"));
            }
        }
    }
    for (id, push) in &ledger.pushes {
        judge_one(
            ledger,
            eras,
            id,
            push,
            read.get(id).map_or(&[], |sockets| sockets),
            wrong,
        );
    }
}

fn judge_one(ledger: &Ledger<'_>, eras: &Eras, id: &str, push: &Push<'_>, read: &[Socket], wrong: &mut Vec<String>) {
    let outcome = |word: &str| push.outcomes.iter().find(|(_, json)| json["outcome"] == word);
    if push.outcomes.is_empty() {
        wrong.push(format!("P7: nobody was told what became of {id}"));
    }
    let refused = outcome("refused").is_some();
    for (socket, era) in eras.by(push.subject) {
        let there = era.from <= push.at && era.until >= ledger.sleeps.after(push.at, ledger.patience_ms());
        let excused = ledger.may_be_lost(push.at) || ledger.is_announcing(push.at) || may_be_unknown(ledger);
        if there && !refused && !read.contains(&socket) && !excused {
            wrong.push(format!("P7: {id} never reached {socket:?}, which was there"));
        }
    }
    if !read.is_empty() || refused {
        return;
    }
    match outcome("expired") {
        Some((at, _)) => {
            let missed = eras
                .by(push.subject)
                .find(|(_, era)| era.within(ledger, push.at, *at) >= ledger.patience_ms());
            if let Some((socket, _)) = missed.filter(|_| !is_purged(ledger)) {
                wrong.push(format!("P7: {id} was given up, though {socket:?} was there"));
            }
        }
        // What was written to a socket that broke may be lost with it, if its client acknowledges nothing.
        None if !ledger.settings.push_ack && breaks(ledger, push) || ledger.may_be_lost(push.at) => {}
        None => wrong.push(format!("P7: {id} is lost: {:?}", push.outcomes)),
    }
}

/// Whether the store may not know for long which connections there are: it has lost them, and announcements were purged.
fn may_be_unknown(ledger: &Ledger<'_>) -> bool {
    is_purged(ledger) && !ledger.losses.is_empty()
}

/// Whether the word that a connection has ended may have been purged, whose pushes wait for it then.
fn is_purged(ledger: &Ledger<'_>) -> bool {
    ledger.settings.answer_timeout.is_some()
}

/// Whether a socket of its identity ended without our doing after it was sent.
fn breaks(ledger: &Ledger<'_>, push: &Push<'_>) -> bool {
    ledger.sockets.values().any(|line| {
        let broke = |(at, end)| at >= push.at && matches!(end, End::Client | End::Crash);
        let mut tokens = line.sent.iter().filter_map(|id| ledger.messages[id].token);
        line.ended.is_some_and(broke) && tokens.any(|token| token.subject == push.subject)
    })
}
