//! P2 and P6: the application sees the right identity, or none; and with it what the token allowed that the message acts by,
//! and never more.

use super::eras::authenticates;
use super::ledger::{Handled, Ledger, Message};
use crate::scenario::Kind;
use shared::wire::grant::Policy;

/// From the moment at which a message is judged to the one at which the application has it: operations of the store lie
/// between, and other messages.
const ON_ITS_WAY_MS: u64 = 2_000;

pub(super) fn judge(ledger: &Ledger<'_>, wrong: &mut Vec<String>) {
    for handled in &ledger.handled {
        if let Err(why) = judge_one(ledger, handled) {
            wrong.push(format!(
                "P2: {} ms: {} was handled as {}: {why}",
                handled.at, handled.id, handled.subject
            ));
        }
    }
}

fn judge_one(ledger: &Ledger<'_>, handled: &Handled<'_>) -> Result<(), String> {
    let message = ledger.messages.get(handled.id).ok_or("nobody sent it")?;
    if let Some(token) = message.token {
        if !token.genuine {
            return Err("its token is a forgery".to_owned());
        }
        if ledger.settings.strategy == "explicit" {
            return Err("it has a token, and the strategy is explicit".to_owned());
        }
        if token.subject != handled.subject {
            return Err(format!("its token is {}'s", token.subject));
        }
    } else if ledger.settings.strategy == "per-message" {
        return Err("it has no token, and needs one".to_owned());
    }
    // Its own token, and those that could stand for it: on its connection with no log-out between, or where it was resumed.
    let own = message.token.is_some().then_some(message);
    let mut proofs = own.into_iter().chain(proofs(ledger, message));
    let fits = |proof: &Message<'_>| {
        let token = proof.token.expect("it is a proof");
        let on_its_way = |since| handled.at <= ledger.sleeps.after(since, ON_ITS_WAY_MS);
        let in_time = ledger.settings.on_unauthenticated == Policy::Ignore || on_its_way(ledger.until(token));
        let taken_back = ledger.revocations.iter().any(|revocation| {
            ledger.means(revocation, proof)
                && revocation
                    .acknowledged
                    .is_some_and(|at| !on_its_way(at + revocation.grace_ms))
        });
        token.subject == handled.subject && proof.at <= handled.at && in_time && !taken_back
    };
    let allows = |proof: &Message<'_>| {
        let allowed = proof.token.map(|token| token.roles);
        // One that was held with a token of its own may do what both allow.
        let own = message.token.map(|token| token.roles);
        allowed.is_some_and(|allowed| own.map_or(allowed, |own| own.and(allowed)) == handled.roles)
    };
    let fitting: Vec<_> = proofs.by_ref().filter(|proof| fits(proof)).collect();
    if fitting.is_empty() {
        return Err("no token that says so was in force".to_owned());
    }
    if fitting.iter().any(|proof| allows(proof)) {
        return Ok(());
    }
    Err(format!(
        "with {:?}, which no token that was in force allows",
        handled.roles
    ))
}

fn proofs<'l>(ledger: &'l Ledger<'_>, message: &'l Message<'_>) -> impl Iterator<Item = &'l Message<'l>> {
    ledger.messages.values().filter(move |proof| {
        authenticates(ledger, proof)
            && if proof.socket == message.socket {
                !forgotten_between(ledger, proof, message)
            } else {
                proof.socket > message.socket
                    && ledger.sockets[&proof.socket]
                        .sent
                        .iter()
                        .any(|id| ledger.messages[id].resumes.is_some())
            }
    })
}

/// Whether a log-out that was not refused lies between the two. Where the store fails and no one has read the answer, it
/// may have been.
fn forgotten_between(ledger: &Ledger<'_>, one: &Message<'_>, other: &Message<'_>) -> bool {
    let (first, last) = (one.place.min(other.place), one.place.max(other.place));
    let refused = |id: &str| {
        let mut answers = ledger.answers(id).peekable();
        let unread = answers.peek().is_none() && ledger.settings.store_fails > 0;
        unread || answers.any(|(_, json)| json["type"] == "error")
    };
    ledger.sockets[&one.socket].sent[first..=last]
        .iter()
        .any(|id| ledger.messages[id].kind == Kind::Forget && !refused(id))
}
