//! P4: nothing reaches a socket whose authentication has expired, was revoked, or was given up.

use serde_json::Value as Json;
use shared::wire::grant::Policy;

use super::eras::authenticates;
use super::ledger::{Ledger, Line, Message};
use crate::scenario::Kind;

/// How late something may be written after an expiry.
const LATE_MS: u64 = 250;
/// How late after a revocation was acknowledged.
const LATE_REVOKED_MS: u64 = 1_000;

pub(super) fn judge(ledger: &Ledger<'_>, wrong: &mut Vec<String>) {
    nothing_by_what_was_revoked(ledger, wrong);
    for (socket, line) in &ledger.sockets {
        let prompt = line.read.iter().zip(&line.waited).filter(|(_, waited)| !**waited);
        for ((at, json), _) in prompt {
            let Some(subject) = subject(ledger, json) else { continue };
            let read_at = ledger.sleeps.read_at(*at);
            if let Err(why) = may_read(ledger, line, read_at, subject, json["type"] == "reply") {
                wrong.push(format!(
                    "P4: {at} ms: {socket:?} read what is {subject}'s: {why}: {json}"
                ));
            }
        }
    }
}

/// P12: nothing is handled by a token that was revoked.
fn nothing_by_what_was_revoked(ledger: &Ledger<'_>, wrong: &mut Vec<String>) {
    for handled in &ledger.handled {
        let token = ledger.messages.get(handled.id).and_then(|message| message.token);
        let Some(token) = token else { continue };
        for revocation in &ledger.revocations {
            let Some(since) = revocation.acknowledged else { continue };
            let late = handled.at > ledger.sleeps.after(since, revocation.grace_ms + LATE_REVOKED_MS);
            if late && ledger.means_token(revocation, token) && !ledger.may_be_forgotten(revocation) {
                wrong.push(format!(
                    "P12: {} ms: {} was handled by a token that was taken back {} ms before",
                    handled.at,
                    handled.id,
                    handled.at - since
                ));
            }
        }
    }
}

/// On whose behalf something is written, if in anyone's.
fn subject<'j>(ledger: &Ledger<'_>, json: &'j Json) -> Option<&'j str> {
    match json["type"].as_str()? {
        "reply" => json["payload"]["as"].as_str(),
        "push" => ledger.pushes.get(json["id"].as_str()?).map(|push| push.subject),
        _ => None,
    }
}

fn may_read(ledger: &Ledger<'_>, line: &Line<'_>, at: u64, subject: &str, asked: bool) -> Result<(), &'static str> {
    let logged_out = line
        .read
        .iter()
        .filter(|(read, json)| *read <= at && json["type"] == "auth.ok");
    let logged_out = logged_out
        .filter_map(|(read, json)| Some((read, ledger.messages.get(json["id"].as_str()?)?)))
        // In the same moment the order in which the two were read cannot be told here.
        .filter(|(read, message)| message.kind == Kind::Forget && **read < at)
        .map(|(_, message)| message.place)
        .max();
    let proofs: Vec<_> = line
        .sent
        .iter()
        .map(|id| &ledger.messages[id])
        .filter(|proof| proof.at <= at && authenticates(ledger, proof))
        .filter(|proof| proof.token.is_some_and(|token| token.subject == subject))
        .collect();
    if proofs.is_empty() {
        return Err("it was never theirs");
    }
    let since: Vec<_> = proofs.iter().filter(|proof| Some(proof.place) > logged_out).collect();
    if since.is_empty() {
        return Err("it was logged out");
    }
    let kept: Vec<_> = since.iter().filter(|proof| !taken_back(ledger, proof, at)).collect();
    if kept.is_empty() {
        return Err("it was taken back");
    }
    let in_time = |proof: &Message<'_>| proof.token.is_some_and(|token| at <= ledger.until(token) + LATE_MS);
    // Anyone who lets an expired message in lets its answer out.
    let policy = match asked {
        true => ledger.settings.on_unauthenticated,
        false => ledger.settings.on_expired_push,
    };
    let ignored = policy == Policy::Ignore || ledger.settings.on_expired_push == Policy::Ignore;
    if ignored || kept.iter().any(|proof| in_time(proof)) {
        Ok(())
    } else {
        Err("it had expired")
    }
}

fn taken_back(ledger: &Ledger<'_>, proof: &Message<'_>, at: u64) -> bool {
    ledger.revocations.iter().any(|revocation| {
        let acknowledged = revocation.acknowledged;
        ledger.means(revocation, proof)
            && acknowledged.is_some_and(|since| at > ledger.sleeps.after(since, revocation.grace_ms + LATE_REVOKED_MS))
    })
}
