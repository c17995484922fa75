//! What simulations come to: an oracle that never sees anything has nothing to say.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::scenario::Kind;
use crate::trace::{End, Event};

/// How often each thing that matters was seen.
#[derive(Default)]
pub(crate) struct Reach(Mutex<BTreeMap<String, u64>>);

/// What must be seen, again and again, in many seeds.
const WORDS: [&str; 26] = [
    "handled",
    "reply",
    "auth.ok",
    "auth.required expiring",
    "auth.required expired",
    "auth.required missing",
    "error auth_required",
    "error token_expired",
    "error token_invalid",
    "error token_revoked",
    "error identity_mismatch",
    "error hold_expired",
    "error bad_request",
    "push",
    "push held",
    "push delivered",
    "push expired",
    "revoked",
    "forgotten",
    "closed 4401",
    "closed 4503",
    "closed 4509",
    "crashed",
    "released",
    "a clock is turned",
    "the machines sleep",
];

impl Reach {
    /// Counts what is in a trace.
    pub(crate) fn count(&self, trace: &[(u64, Event)]) {
        let mut held: BTreeMap<&str, ()> = BTreeMap::new();
        let mut counts = self.0.lock().expect("no holder panics");
        let mut add = |word: String| *counts.entry(word).or_default() += 1;
        for (at, event) in trace {
            match event {
                Event::Handled { id, .. } => {
                    add("handled".to_owned());
                    if held.remove(id.as_str()).is_some() {
                        add("released".to_owned());
                    }
                }
                Event::Received { json, .. } => {
                    let kind = json["type"].as_str().unwrap_or_default();
                    let more = json["error"]["code"].as_str().or(json["reason"].as_str());
                    add(more.map_or(kind.to_owned(), |more| format!("{kind} {more}")));
                }
                Event::Outcome(_, json) => add(format!("push {}", json["outcome"].as_str().unwrap_or_default())),
                Event::Revoked(..) => add("revoked".to_owned()),
                Event::Sent { id, kind, token, .. } => {
                    if *kind == Kind::Forget {
                        add("forgotten".to_owned());
                    }
                    // With a token that has expired nothing is handled at once.
                    if token.as_ref().is_some_and(|token| token.expires_ms < *at) {
                        held.insert(id, ());
                    }
                }
                Event::Closed(_, End::Server(code)) => add(format!("closed {code}")),
                Event::Closed(_, End::Crash) => add("crashed".to_owned()),
                Event::Turned(_) => add("a clock is turned".to_owned()),
                Event::Slept { .. } => add("the machines sleep".to_owned()),
                _ => {}
            }
        }
    }

    /// Which of the things that matter were never seen.
    pub(crate) fn missing(&self) -> Vec<&'static str> {
        let counts = self.0.lock().expect("no holder panics");
        WORDS.into_iter().filter(|word| !counts.contains_key(*word)).collect()
    }

    /// How often each was seen.
    pub(crate) fn table(&self) -> String {
        let counts = self.0.lock().expect("no holder panics");
        let lines: Vec<_> = counts
            .iter()
            .map(|(word, count)| format!("{count:>9} {word}"))
            .collect();
        lines.join("\n")
    }
}
