//! P1 and P5: every message is answered, once, where it was asked; and what is held is released when it can be.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::eras::{Eras, authenticates};
use super::ledger::{Ledger, Line, Message, is_given_up};
use super::state::{bound, is_newer};
use crate::scenario::Kind;
use crate::seat::is_two;
use crate::trace::Socket;

pub(super) fn judge(ledger: &Ledger<'_>, eras: &Eras, wrong: &mut Vec<String>) {
    for (socket, line) in &ledger.sockets {
        nothing_twice(ledger, *socket, line, wrong);
        if line.ended.is_none() && ledger.settings.to_the_end {
            for id in &line.sent {
                all_answered(ledger, eras, id, wrong);
            }
        }
        for (at, json) in &line.read {
            if json["error"]["code"] == "hold_expired" {
                released_when_possible(ledger, eras, *socket, *at, json, wrong);
            }
        }
    }
}

fn nothing_twice(ledger: &Ledger<'_>, socket: Socket, line: &Line<'_>, wrong: &mut Vec<String>) {
    let mut seen: BTreeMap<&str, Vec<Answer>> = BTreeMap::new();
    for (at, json) in &line.read {
        let (Some(id), Some(answer)) = (json["id"].as_str(), Answer::of(json)) else {
            continue;
        };
        let Some(message) = ledger.messages.get(id) else {
            wrong.push(format!("P5: {at} ms: {socket:?} was answered what nobody asked: {id}"));
            continue;
        };
        if message.socket != socket && !may_hear(ledger, socket, message.socket) {
            wrong.push(format!(
                "P5: {at} ms: {socket:?} was answered {id}, which it did not ask"
            ));
        }
        let before = seen.entry(id).or_default();
        let moved = message.socket != socket;
        if !answer.fits(before, is_two(Some(id)), moved, ledger.settings.store_fails > 0) {
            wrong.push(format!("P5: {at} ms: {socket:?} was answered {id} once more"));
        }
        before.push(answer);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// One reply of several.
    Part(u64),
    Whole,
    /// It, or a reply to it, was held for too long, or there was no room for it.
    GivenUp,
}

impl Answer {
    /// Whether it may come after these. Each of two replies may be held, and be given up in its turn; and if they
    /// `moved` to another connection, each by itself, they have no order.
    fn fits(self, before: &[Self], two: bool, moved: bool, store_fails: bool) -> bool {
        let more = match (self, before.last()) {
            (_, None) => return true,
            // The store held it without saying so, twice. A refusal is remembered as the first answer, not as a second one.
            (Self::Part(1..), Some(Self::Whole)) => return store_fails,
            (Self::Whole, _) | (_, Some(Self::Whole)) => false,
            (Self::Part(part), _) => !before
                .iter()
                .any(|other| matches!(other, Self::Part(before) if *before == part || *before > part && !moved)),
            (Self::GivenUp, _) => true,
        };
        more && two && before.len() == 1
    }

    fn of(json: &Json) -> Option<Self> {
        match json["type"].as_str()? {
            "reply" => Some(json["payload"]["n"].as_u64().map_or(Self::Whole, Self::Part)),
            "error" if is_given_up(json) => Some(Self::GivenUp),
            "error" | "auth.ok" => Some(Self::Whole),
            _ => None,
        }
    }
}

/// Whether a socket has shown the key of the one that asked, or of one that had shown it, and so on: no one else hears its
/// answers, who they are.
fn may_hear(ledger: &Ledger<'_>, socket: Socket, asked_by: Socket) -> bool {
    let mut shown = ledger.sockets[&socket]
        .sent
        .iter()
        .filter_map(|id| ledger.messages[id].resumes);
    shown.any(|key| {
        // Each was open before anyone who took over from it.
        let mut earlier = ledger.sockets.range(..socket);
        earlier.any(|(left, line)| line.keys.contains(&key) && (*left == asked_by || may_hear(ledger, *left, asked_by)))
    })
}

fn all_answered(ledger: &Ledger<'_>, eras: &Eras, id: &str, wrong: &mut Vec<String>) {
    let message = &ledger.messages[id];
    let answers: Vec<_> = ledger.answers(id).collect();
    let refused = answers.iter().any(|(_, json)| json["type"] == "error");
    let replies = answers.len();
    let handled = ledger.handled.iter().find(|handled| handled.id == id);
    let done = match message.kind {
        Kind::Authenticate | Kind::Forget | Kind::One => replies == 1,
        Kind::Deadly | Kind::DeadlyAnswer => refused && replies == 1,
        Kind::Two => refused || replies == 2,
        Kind::Silent => refused || handled.is_some(),
    };
    if done {
        return;
    }
    let Some(handled) = handled else {
        wrong.push(format!(
            "P1: {id} on {:?} is neither handled nor refused",
            message.socket
        ));
        return;
    };
    // Handled, and the answer was held because the authentication had expired: lost only if it never came back in time.
    let ttl_ms = u64::try_from(ledger.settings.hold_ttl.as_millis()).expect("it is short");
    let stable = eras.on(message.socket).iter().any(|era| {
        era.subject == handled.subject && era.within(ledger, handled.at, handled.at + ttl_ms) >= ledger.patience_ms()
    });
    let elsewhere = ledger
        .sockets
        .values()
        .flat_map(|line| &line.read)
        .any(|(_, json)| json["id"] == id);
    if stable && !elsewhere && !ledger.may_be_lost(handled.at) {
        wrong.push(format!("P1: the answer to {id} on {:?} never came", message.socket));
    }
}

fn released_when_possible(
    ledger: &Ledger<'_>,
    eras: &Eras,
    socket: Socket,
    at: u64,
    json: &Json,
    wrong: &mut Vec<String>,
) {
    let message = json["id"].as_str().and_then(|id| ledger.messages.get(id));
    // If it is told on another socket, that cannot have released it here.
    let Some(message) = message.filter(|message| message.socket == socket) else {
        return;
    };
    // A fresh token releases it. One that was used before does so only if its terminator knew by then that something is
    // held; the client has been asked for another.
    let line = &ledger.sockets[&socket];
    let fresh = |proof: &Message<'_>| {
        let mut before = line.sent[..proof.place].iter().map(|id| &ledger.messages[id]);
        let jti = |message: &Message<'_>| message.token.map(|token| token.jti.clone());
        let new = proof.kind == Kind::Authenticate || !before.any(|other| jti(other) == jti(proof));
        // One that was issued before the one in force changes nothing.
        let in_force = proof.at.checked_sub(1).and_then(|before| bound(ledger, line, before));
        new && !in_force.is_some_and(|in_force| is_newer(ledger, in_force, proof))
    };
    let released = line.sent[message.place..].iter().any(|id| {
        let proof = &ledger.messages[id];
        let accepted = ledger
            .accepted(id)
            .filter(|_| authenticates(ledger, proof) && fresh(proof));
        accepted.is_some_and(|since| {
            eras.on(socket).iter().any(|era| {
                era.from <= since && era.within(ledger, since, at) >= ledger.patience_ms() + ledger.lost_ms()
            })
        })
    });
    if released {
        wrong.push(format!(
            "P1: {at} ms: {} on {socket:?} was given up, though it could have been released",
            json["id"]
        ));
    }
}
