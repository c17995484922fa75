//! What a history comes to: which promises it breaks, and how long no one was served.
//!
//! | promise | what breaks it here |
//! |---|---|
//! | P1, P9 | a message of a connection that stayed open has no answer; a final refusal of a message that had a good token |
//! | P2, P3 | a handler saw another subject than the connection's |
//! | P4 | something on behalf of an identity was heard after its last token had ended, or 1 s after its revocation |
//! | P5 | an answer twice, an answer that no one asked for, an answer with someone else's content, an answer that another connection hears without the key of the one that asked |
//! | P6 | a push that is someone else's |
//! | P7 | a push that a connection which was open all along did not hear, and of which its producer was not told; or twice |
//! | P8 | a token in anything that was heard |
//! | P10 | a connection with a good token that was closed for its authentication |
//! | P11 | replies to a connection, or the first handling of its messages, in another order than that in which it sent them; pushes of one channel in another order than that in which they were confirmed |
//!
//! Messages that say whose they are: a payload of `{"of": CONNECTION, "id": ID}` comes back as it went; an answer with a
//! `subject` names who the handler saw; the payload of a push is `{"for": SUBJECT}`. What is in none of these forms is only
//! counted. Refusals have no order: they may be told at once.

mod order;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use serde_json::Value;

use self::order::Place;
use super::{Event, Line};

/// Whatever is sent this shortly before the end of a history may be answered after it.
const LAST_MS: u64 = 1_000;
/// The workers' leeway, P4's quarter of a second, and what a client on a busy machine needs to take note of what came.
const LATE_AFTER_MS: u64 = 5_000 + 250 + 1_750;
/// P4's second, and the same for the client.
const REVOKED_AFTER_MS: u64 = 1_000 + 1_750;
/// How many of each kind are told one by one.
const TOLD_MOST: usize = 5;
/// With what every JWT begins: the base64 of `{"`.
const TOKEN: &str = "eyJ";

/// A promise that a history breaks, and how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// As in `P5`.
    pub promise: &'static str,
    /// What happened.
    pub how: String,
}

/// What a history comes to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Messages that were sent.
    pub sent: usize,
    /// Messages that got a `reply`.
    pub replied: usize,
    /// Refusals that a client may try again after, by their code.
    pub refused: BTreeMap<String, usize>,
    /// Refusals that are final, by their code.
    pub refused_for_good: BTreeMap<String, usize>,
    /// Messages without an answer whose connection ended.
    pub unanswered_closed: usize,
    /// Messages without an answer whose connection stayed open.
    pub lost: usize,
    /// Answers that were heard by a connection that had shown the key of the one that asked.
    pub answered_elsewhere: usize,
    /// Answers that came again.
    pub twice: usize,
    /// Connections that ended, by close code.
    pub closed: BTreeMap<u16, usize>,
    /// Pushes that were confirmed.
    pub pushes: usize,
    /// What producers were told last of each, by the outcome.
    pub push_outcomes: BTreeMap<String, usize>,
    /// Pushes that did not arrive where someone was all along, and of which no one was told.
    pub pushes_lost: usize,
    /// Pushes that a connection heard again.
    pub pushes_twice: usize,
    /// The longest time in which no one got a reply, in milliseconds.
    pub gap_ms: u64,
    /// From the first harm to the first reply behind the longest gap that began after it, in milliseconds.
    pub back_after_ms: Option<u64>,
    /// All that breaks a promise; of many of a kind, the first few.
    pub broken: Vec<Broken>,
}

/// Judges a history.
#[must_use]
pub fn judge(lines: &[Line]) -> Judgement {
    let mut reading = Reading::default();
    for line in lines {
        reading.read(line);
    }
    reading.conclude(lines)
}

#[derive(Debug)]
struct Connection<'h> {
    subject: &'h str,
    opened_ms: u64,
    closed_ms: Option<u64>,
    /// Whether its messages have an order.
    ordered: bool,
    /// Which connection's key it has shown.
    shown: Option<&'h str>,
    /// All that it sent, by when in its order.
    places: HashMap<&'h str, usize>,
    /// The last one of which a reply was heard, and the last one that was handled for the first time.
    replied: Place<'h>,
    handled: Place<'h>,
    handled_once: BTreeSet<&'h str>,
    /// What is unanswered, and since when.
    open: BTreeMap<&'h str, u64>,
    answered: BTreeSet<&'h str>,
    /// Until when its tokens live; none if it never sent one.
    until_ms: Option<u64>,
    pushes: BTreeSet<&'h str>,
    /// The same, as they came.
    pushes_in_order: Vec<&'h str>,
}

impl<'h> Connection<'h> {
    fn new(subject: &'h str, ordered: bool, opened_ms: u64) -> Self {
        Self {
            subject,
            opened_ms,
            closed_ms: None,
            ordered,
            shown: None,
            places: HashMap::new(),
            replied: Place::default(),
            handled: Place::default(),
            handled_once: BTreeSet::new(),
            open: BTreeMap::new(),
            answered: BTreeSet::new(),
            until_ms: None,
            pushes: BTreeSet::new(),
            pushes_in_order: Vec::new(),
        }
    }
}

#[derive(Debug)]
struct PushedTo<'h> {
    subject: &'h str,
    at_ms: u64,
    told: Option<&'h Value>,
    deaf: bool,
    /// Of its producer's channels which one it was, and which one on it.
    place: (usize, usize),
}

#[derive(Debug, Default)]
struct Reading<'h> {
    judgement: Judgement,
    connections: HashMap<&'h str, Connection<'h>>,
    pushes: BTreeMap<&'h str, PushedTo<'h>>,
    /// What was told of a push before its confirm was noted.
    told_early: HashMap<&'h str, &'h Value>,
    /// How many channels the producer has lost.
    channel: usize,
    revoked: HashMap<&'h str, u64>,
    replies_ms: Vec<u64>,
    fault_ms: Option<u64>,
}

impl<'h> Reading<'h> {
    fn breaks(&mut self, promise: &'static str, how: String) {
        let told = self
            .judgement
            .broken
            .iter()
            .filter(|one| one.promise == promise)
            .count();
        if told < TOLD_MOST {
            self.judgement.broken.push(Broken { promise, how });
        }
    }

    fn read(&mut self, line: &'h Line) {
        let at_ms = line.at_ms;
        match &line.event {
            Event::Opened {
                connection,
                subject,
                ordered,
            } => {
                let opened = Connection::new(subject, *ordered, at_ms);
                self.connections.insert(connection, opened);
            }
            Event::Resumed { connection, of } => {
                if let Some(one) = self.connections.get_mut(connection.as_str()) {
                    one.shown = Some(of);
                }
            }
            Event::Sent {
                connection,
                id,
                until_ms,
            } => {
                if let Some(one) = self.connections.get_mut(connection.as_str()) {
                    one.places.insert(id, one.places.len());
                    one.open.insert(id, at_ms);
                    one.until_ms = one.until_ms.max(*until_ms);
                    self.judgement.sent += 1;
                }
            }
            Event::Handled { connection, id } => self.handled(connection, id),
            Event::Heard { connection, message } => self.heard(at_ms, connection, message),
            Event::Closed { connection, code } => {
                *self.judgement.closed.entry(*code).or_default() += 1;
                let Some(one) = self.connections.get_mut(connection.as_str()) else {
                    return;
                };
                one.closed_ms = Some(at_ms);
                let good = one.until_ms.is_some_and(|until| at_ms < until) && !self.revoked.contains_key(one.subject);
                if good && [4401, 4501, 4503].contains(code) {
                    self.breaks(
                        "P10",
                        format!("{connection} has a good token and is closed with {code}"),
                    );
                }
            }
            Event::Pushed { id, subject } => {
                let told = self.told_early.remove(id.as_str());
                let pushed = PushedTo {
                    subject,
                    at_ms,
                    told,
                    deaf: false,
                    place: (self.channel, self.pushes.len()),
                };
                self.pushes.insert(id, pushed);
            }
            Event::Told { id, outcome } => match self.pushes.get_mut(id.as_str()) {
                Some(push) => push.told = Some(outcome),
                None => _ = self.told_early.insert(id, outcome),
            },
            Event::Deaf { ids } => {
                self.channel += 1;
                for id in ids {
                    if let Some(push) = self.pushes.get_mut(id.as_str()) {
                        push.deaf = true;
                    }
                }
            }
            Event::Revoked { subject } => _ = self.revoked.entry(subject).or_insert(at_ms),
            Event::Fault { .. } => _ = self.fault_ms.get_or_insert(at_ms),
            Event::Healed { .. } => {}
        }
    }

    fn heard(&mut self, at_ms: u64, connection: &'h str, message: &'h Value) {
        let kind = message["type"].as_str().unwrap_or_default();
        if message.to_string().contains(TOKEN) {
            self.breaks("P8", format!("{connection} hears a token: {message}"));
        }
        let Some(one) = self.connections.get(connection) else {
            return;
        };
        let subject = one.subject;
        if matches!(kind, "reply" | "push") {
            let over = one.until_ms.is_some_and(|until| at_ms > until + LATE_AFTER_MS);
            let taken_back = self
                .revoked
                .get(subject)
                .is_some_and(|since| at_ms > since + REVOKED_AFTER_MS);
            if over || taken_back {
                self.breaks(
                    "P4",
                    format!("{connection} of {subject} hears at {at_ms} what it may not: {message}"),
                );
            }
        }
        match kind {
            "push" => self.heard_push(connection, subject, message),
            "reply" | "error" | "auth.ok" => self.heard_answer(at_ms, connection, subject, kind, message),
            _ => {}
        }
    }

    fn heard_push(&mut self, connection: &'h str, subject: &str, message: &'h Value) {
        let Some(id) = message["id"].as_str() else { return };
        if message["payload"]["for"].as_str().is_some_and(|whose| whose != subject) {
            self.breaks(
                "P6",
                format!("{connection} of {subject} hears a push of another: {message}"),
            );
        }
        let Some(one) = self.connections.get_mut(connection) else {
            return;
        };
        if one.pushes.insert(id) {
            one.pushes_in_order.push(id);
        } else {
            self.judgement.pushes_twice += 1;
            self.breaks("P7", format!("{connection} hears the push {id} twice"));
        }
    }

    fn heard_answer(&mut self, at_ms: u64, connection: &'h str, subject: &str, kind: &str, message: &'h Value) {
        let Some(id) = message["id"].as_str() else { return };
        let payload = &message["payload"];
        let entitled = self.entitled(connection);
        let Some(asker) = self.asker(&entitled, id, payload["of"].as_str()) else {
            return self.heard_unasked(connection, &entitled, id, message);
        };
        if asker != connection {
            self.judgement.answered_elsewhere += 1;
        }
        let Some(one) = self.connections.get_mut(asker) else {
            return;
        };
        one.open.remove(id);
        one.answered.insert(id);
        let good = one.until_ms.is_some_and(|until| at_ms < until) && !self.revoked.contains_key(subject);
        if kind == "error" {
            return self.refused(asker, good, id, &message["error"]);
        }
        if kind == "reply" {
            self.replied(asker, id);
        }
        self.judgement.replied += 1;
        self.replies_ms.push(at_ms);
        let of_another = |member: &str, own: &str| payload[member].as_str().is_some_and(|value| value != own);
        if of_another("of", asker) || of_another("id", id) {
            self.breaks("P5", format!("{connection} hears what was told to another: {message}"));
        }
        if of_another("subject", subject) {
            self.breaks(
                "P2",
                format!("a message of {subject} was handled as another's: {message}"),
            );
        }
    }

    /// Whose answers a connection may hear: its own, and those of the one whose key it has shown, and so on. Keys open
    /// nothing of another subject.
    fn entitled(&self, connection: &'h str) -> Vec<&'h str> {
        let mut entitled = vec![connection];
        let subject = self.connections.get(connection).map(|one| one.subject);
        while let Some(before) = entitled.last().and_then(|last| self.connections.get(last)?.shown) {
            let same = self.connections.get(before).map(|one| one.subject) == subject;
            if !same || entitled.contains(&before) {
                break;
            }
            entitled.push(before);
        }
        entitled
    }

    /// Which of those has asked `id` and heard nothing. Two may have: then it is the one that the answer names.
    fn asker(&self, entitled: &[&'h str], id: &str, named: Option<&str>) -> Option<&'h str> {
        let owed = |name: &&str| self.connections.get(name).is_some_and(|one| one.open.contains_key(id));
        let mut askers = entitled.iter().copied().filter(owed);
        let first = askers.next()?;
        let is_named = |name: &&str| Some(*name) == named;
        Some([first].into_iter().chain(askers).find(is_named).unwrap_or(first))
    }

    fn heard_unasked(&mut self, connection: &str, entitled: &[&str], id: &str, message: &Value) {
        let again = |name: &&str| self.connections.get(name).is_some_and(|one| one.answered.contains(id));
        if entitled.iter().any(again) {
            self.judgement.twice += 1;
            return self.breaks("P5", format!("{connection} hears a second answer to {id}: {message}"));
        }
        let named = message["payload"]["of"].as_str();
        let askers = self.connections.iter().filter(|(_, one)| one.places.contains_key(id));
        // The one that the answer names, where it does.
        let asker = askers
            .map(|(name, _)| *name)
            .min_by_key(|name| (Some(*name) != named, *name));
        let how = match asker {
            Some(asker) => format!("{connection} hears, without its key, what {asker} has asked: {message}"),
            None => format!("{connection} hears an answer to {id}, to which none is owed: {message}"),
        };
        self.breaks("P5", how);
    }

    fn refused(&mut self, connection: &str, good: bool, id: &str, error: &Value) {
        let code = error["code"].as_str().unwrap_or_default().to_owned();
        let temporary = error["temporary"] == true;
        let counts = if temporary {
            &mut self.judgement.refused
        } else {
            &mut self.judgement.refused_for_good
        };
        *counts.entry(code.clone()).or_default() += 1;
        if good && !temporary {
            self.breaks(
                "P1",
                format!("{connection} has a good token, and {id} is refused for good: {code}"),
            );
        }
    }

    fn conclude(mut self, lines: &[Line]) -> Judgement {
        let (first, last) = match lines {
            [first, .., last] => (first.at_ms, last.at_ms),
            _ => return self.judgement,
        };
        let mut lost = Vec::new();
        for (name, one) in &self.connections {
            if one.closed_ms.is_some() {
                self.judgement.unanswered_closed += one.open.len();
            } else {
                let old = one.open.iter().filter(|(_, sent)| **sent + LAST_MS <= last);
                lost.extend(old.map(|(id, sent)| format!("{name}: {id}, sent at {sent}, is never answered")));
            }
        }
        lost.sort();
        self.judgement.lost = lost.len();
        lost.into_iter().for_each(|how| self.breaks("P1", how));
        self.conclude_pushes(last);
        self.pushes_in_order();
        self.gaps(first);
        self.judgement
    }

    /// Who was open from before a push to the end must have heard it, unless its producer was told otherwise.
    fn conclude_pushes(&mut self, last: u64) {
        self.judgement.pushes = self.pushes.len();
        let mut lost = Vec::new();
        for (id, push) in &self.pushes {
            let outcome = push.told.and_then(|told| told["outcome"].as_str());
            let outcome = outcome.unwrap_or(if push.deaf { "not heard of" } else { "not told" });
            *self.judgement.push_outcomes.entry(outcome.to_owned()).or_default() += 1;
            let owed = matches!(outcome, "delivered" | "not told" | "held");
            let there = |one: &&Connection<'_>| {
                one.subject == push.subject && one.opened_ms + LAST_MS < push.at_ms && one.closed_ms.is_none()
            };
            let missed = self
                .connections
                .values()
                .filter(there)
                .any(|one| !one.pushes.contains(id));
            if owed && missed && push.at_ms + LAST_MS <= last {
                lost.push(format!(
                    "the push {id} to {} never arrives; its producer: {outcome}",
                    push.subject
                ));
            }
        }
        self.judgement.pushes_lost = lost.len();
        lost.into_iter().for_each(|how| self.breaks("P7", how));
    }

    fn gaps(&mut self, first: u64) {
        self.replies_ms.sort_unstable();
        let starts = [first].into_iter().chain(self.replies_ms.iter().copied());
        let gaps: Vec<_> = starts
            .zip(&self.replies_ms)
            .map(|(from, to)| (to - from, from, *to))
            .collect();
        self.judgement.gap_ms = gaps.iter().map(|gap| gap.0).max().unwrap_or_default();
        self.judgement.back_after_ms = self.fault_ms.and_then(|fault| {
            let after = gaps.iter().filter(|(_, _, to)| *to > fault);
            after.max_by_key(|gap| gap.0).map(|(_, _, to)| to - fault)
        });
    }
}

impl Judgement {
    /// Asserts that no promise is broken.
    ///
    /// # Panics
    /// If one is: with everything.
    pub fn assert_sound(&self) {
        assert!(self.sent > 0, "nothing was sent");
        assert!(self.broken.is_empty(), "{self}");
    }

    /// What the columns of [`Judgement::row`] mean.
    pub const HEAD: &'static str = "| fault | sent | refused | unanswered, closed | lost | twice | gap s | pushes: sent / lost / told otherwise |\n\
        |---|---|---|---|---|---|---|---|";

    /// One row of a table in Markdown.
    #[must_use]
    pub fn row(&self, fault: &str) -> String {
        let otherwise = self.push_outcomes.iter().filter(|(outcome, _)| *outcome != "delivered");
        format!(
            "| {fault} | {} | {} | {} | {} | {} | {:.1} | {} / {} / {} |",
            self.sent,
            self.refusals(),
            self.unanswered_closed,
            self.lost,
            self.twice + self.pushes_twice,
            self.gap_ms as f64 / 1_000.0,
            self.pushes,
            self.pushes_lost,
            listed(otherwise.map(|(outcome, count)| format!("{outcome} {count}"))),
        )
    }

    fn refusals(&self) -> String {
        let temporary = self.refused.iter().map(|(code, count)| format!("{code} {count}"));
        let final_ones = self.refused_for_good.iter();
        listed(temporary.chain(final_ones.map(|(code, count)| format!("{code} (final) {count}"))))
    }
}

fn listed(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        "0".to_owned()
    } else {
        parts.join(", ")
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", Self::HEAD, self.row("this"))?;
        writeln!(
            f,
            "{} replied, {} to a connection with the key of the one that asked; closed by code: {:?}; pushes: {:?}; served again {:?} ms after the fault",
            self.replied, self.answered_elsewhere, self.closed, self.push_outcomes, self.back_after_ms
        )?;
        for Broken { promise, how } in &self.broken {
            writeln!(f, "{promise} is broken: {how}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
