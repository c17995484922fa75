//! P3: the last message that changed a connection's authentication, in the order in which they were sent, is the one that
//! counts. And what was revoked is closed.

use super::eras::{authenticates, may_be_meant};
use super::ledger::{Ledger, Line, Message};
use crate::scenario::Kind;
use crate::trace::End;

/// A token that ends so soon after the last request may have ended before it.
const MARGIN_MS: u64 = 3_000;
/// A revocation closes what it means this long after it was acknowledged.
const CLOSED_MS: u64 = 1_500;

pub(super) fn judge(ledger: &Ledger<'_>, wrong: &mut Vec<String>) {
    for (socket, line) in &ledger.sockets {
        if line.ended.is_none()
            && let Some(last) = line.sent.last().filter(|id| ledger.messages[*id].at >= ledger.calm_ms)
        {
            judge_probe(ledger, line, last, wrong);
        }
        for revocation in &ledger.revocations {
            let Some(acknowledged) = revocation.acknowledged else {
                wrong.push("nobody was told what became of a revocation".to_owned());
                continue;
            };
            let deadline = ledger.sleeps.after(acknowledged, revocation.grace_ms + CLOSED_MS);
            let untouched = !line.sent.iter().any(|id| {
                let message = &ledger.messages[id];
                changes(ledger, message) && (revocation.at.saturating_sub(CLOSED_MS)..deadline).contains(&message.at)
            });
            let bound = bound(ledger, line, revocation.at);
            let meant = bound.is_some_and(|message| {
                let live = message.token.is_some_and(|token| ledger.until(token) > deadline);
                live && ledger.means(revocation, message)
            });
            // Anyone who does not read does not see it.
            let asleep = line
                .asleep
                .iter()
                .any(|(from, until)| (*from..=*until).contains(&deadline));
            let gone = asleep || line.ended.is_some_and(|(at, _)| at <= deadline);
            if untouched && meant && !gone && !ledger.may_be_forgotten(revocation) {
                wrong.push(format!("P4: {deadline} ms: {socket:?} was revoked, and is still open"));
            }
            let closed = line.ended.is_some_and(|(_, end)| end == End::Server(4503));
            if closed && ledger.revocations.is_empty() {
                wrong.push(format!("{socket:?} was closed as revoked, and nothing was"));
            }
        }
    }
}

fn judge_probe(ledger: &Ledger<'_>, line: &Line<'_>, id: &str, wrong: &mut Vec<String>) {
    let probe = &ledger.messages[id];
    if probe.kind != Kind::One || probe.token.is_some() || ledger.settings.strategy == "per-message" {
        return;
    }
    let Some(bound) = bound(ledger, line, probe.at) else {
        return;
    };
    let Some(token) = bound.token else { return };
    // The store may have taken what it did not say that it took.
    let may_count = |id: &&&str| {
        let later = &ledger.messages[**id];
        later.place > bound.place && later.at <= probe.at && authenticates(ledger, later)
    };
    let is_unsure = |id: &&str| {
        ledger
            .answers(id)
            .any(|(_, json)| json["error"]["code"] == "auth_unavailable")
    };
    if line.sent.iter().filter(may_count).any(is_unsure) {
        return;
    }
    let revoked = ledger.revocations.iter().any(|revocation| {
        let issued = bound.at;
        ledger.means(revocation, bound) || may_be_meant(ledger, revocation.acknowledged, issued)
    });
    if revoked || ledger.until(token) < probe.at + MARGIN_MS {
        return;
    }
    let told = ledger.answers(id).find_map(|(_, json)| json["payload"]["as"].as_str());
    // What waits for a fresh token has all behind it wait too, where there is an order.
    let waits = |other: &&str| {
        let mut answers = ledger.answers(other);
        let mut handled = ledger.handled.iter();
        !answers.any(|(at, _)| *at <= probe.at)
            && !handled.any(|handled| handled.id == *other && handled.at <= probe.at)
    };
    if told.is_none() && ledger.settings.ordered && line.sent[..probe.place].iter().any(waits) {
        return;
    }
    if told != Some(token.subject) {
        wrong.push(format!(
            "P3: {id} on {:?} should be handled as {}, and was as {told:?}",
            probe.socket, token.subject
        ));
    }
}

/// The message by which the socket is authenticated at that time, in the order of sending; none if it is no one's. A
/// token that was issued earlier than the one in force changes nothing.
pub(super) fn bound<'l>(ledger: &'l Ledger<'_>, line: &'l Line<'_>, at: u64) -> Option<&'l Message<'l>> {
    let mut bound = None;
    for id in &line.sent {
        let message = &ledger.messages[id];
        if message.at > at || ledger.accepted(id).is_none() {
            continue;
        }
        if message.kind == Kind::Forget {
            bound = None;
        } else if authenticates(ledger, message) && !bound.is_some_and(|bound| is_newer(ledger, bound, message)) {
            bound = Some(message);
        }
    }
    bound
}

/// Whether the token of the first was still in force when the other was sent, and was issued later.
pub(super) fn is_newer(ledger: &Ledger<'_>, one: &Message<'_>, other: &Message<'_>) -> bool {
    let (Some(token), Some(of_other)) = (one.token, other.token) else {
        return false;
    };
    other.at < ledger.until(token) && of_other.issued_ms < token.issued_ms
}

fn changes(ledger: &Ledger<'_>, message: &Message<'_>) -> bool {
    message.kind == Kind::Forget || authenticates(ledger, message)
}
