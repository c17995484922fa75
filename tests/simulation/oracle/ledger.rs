//! A trace, sorted by what its events are about.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::sleeps::Sleeps;
use crate::parts::token::{Roles, Token};
use crate::scenario::{Kind, Settings};
use crate::trace::{End, Event, Socket, Taken};

/// Within which time after a loss terminators have announced all their connections.
const ANNOUNCED_MS: u64 = 8_000;
/// Within which time workers write back what the store has lost, and a worker that has died is followed by another.
const WRITTEN_BACK_MS: u64 = 5_000;

pub(crate) struct Ledger<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) sockets: BTreeMap<Socket, Line<'a>>,
    pub(crate) messages: BTreeMap<&'a str, Message<'a>>,
    pub(crate) handled: Vec<Handled<'a>>,
    pub(crate) pushes: BTreeMap<&'a str, Push<'a>>,
    pub(crate) revocations: Vec<Revocation<'a>>,
    /// When the store lost something.
    pub(crate) losses: Vec<u64>,
    /// When a worker died.
    kills: Vec<u64>,
    pub(crate) sleeps: Sleeps,
    /// When everything had ceased to break.
    pub(crate) calm_ms: u64,
}

#[derive(Default)]
pub(crate) struct Line<'a> {
    pub(crate) ended: Option<(u64, End)>,
    /// In the order in which its client wrote them.
    pub(crate) sent: Vec<&'a str>,
    pub(crate) read: Vec<(u64, &'a Json)>,
    /// Whether each of these may have waited until its client read again.
    pub(crate) waited: Vec<bool>,
    /// By what it can be resumed.
    pub(crate) keys: Vec<&'a str>,
    /// When its client did not read.
    pub(crate) asleep: Vec<(u64, u64)>,
}

pub(crate) struct Message<'a> {
    pub(crate) at: u64,
    pub(crate) socket: Socket,
    /// Its place in its socket's order.
    pub(crate) place: usize,
    pub(crate) kind: Kind,
    pub(crate) token: Option<&'a Token>,
    /// The key to what another connection has left.
    pub(crate) resumes: Option<&'a str>,
}

pub(crate) struct Handled<'a> {
    pub(crate) at: u64,
    pub(crate) id: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) roles: Roles,
}

pub(crate) struct Push<'a> {
    pub(crate) at: u64,
    pub(crate) subject: &'static str,
    pub(crate) producer: usize,
    /// Its place among all of its producer's.
    pub(crate) place: usize,
    pub(crate) outcomes: Vec<(u64, &'a Json)>,
}

pub(crate) struct Revocation<'a> {
    pub(crate) at: u64,
    pub(crate) taken: &'a Taken,
    pub(crate) grace_ms: u64,
    pub(crate) acknowledged: Option<u64>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn read(settings: &'a Settings, trace: &'a [(u64, Event)]) -> Self {
        let mut ledger = Self {
            settings,
            sockets: BTreeMap::new(),
            messages: BTreeMap::new(),
            handled: Vec::new(),
            pushes: BTreeMap::new(),
            revocations: Vec::new(),
            losses: Vec::new(),
            kills: Vec::new(),
            sleeps: Sleeps::default(),
            calm_ms: 0,
        };
        for (at, event) in trace {
            ledger.enter(*at, event);
        }
        ledger
    }

    fn enter(&mut self, at: u64, event: &'a Event) {
        match event {
            Event::Opened(socket) => drop(self.sockets.insert(*socket, Line::default())),
            Event::Sent {
                socket,
                id,
                kind,
                token,
                resumes,
            } => {
                let line = self.sockets.entry(*socket).or_default();
                let message = Message {
                    at,
                    socket: *socket,
                    place: line.sent.len(),
                    kind: *kind,
                    token: token.as_ref(),
                    resumes: resumes.as_deref(),
                };
                line.sent.push(id);
                self.messages.insert(id, message);
            }
            Event::Received { socket, json, waited } => {
                let line = self.sockets.entry(*socket).or_default();
                line.read.push((at, json));
                line.keys.extend(json["auth"]["resume"].as_str());
                line.waited.push(*waited);
            }
            Event::Asleep(socket) => self.sockets.entry(*socket).or_default().asleep.push((at, u64::MAX)),
            Event::Awake(socket) => {
                if let Some((_, until)) = self.sockets.entry(*socket).or_default().asleep.last_mut() {
                    *until = at;
                }
            }
            Event::Closed(socket, end) => self.sockets.entry(*socket).or_default().ended = Some((at, *end)),
            Event::Handled { id, subject, roles } => self.handled.push(Handled {
                at,
                id,
                subject,
                roles: *roles,
            }),
            Event::Pushing { id, subject, producer } => {
                let place = self.pushes.values().filter(|push| push.producer == *producer).count();
                let push = Push {
                    at,
                    subject,
                    producer: *producer,
                    place,
                    outcomes: Vec::new(),
                };
                self.pushes.insert(id, push);
            }
            Event::Outcome(id, json) => {
                if let Some(push) = self.pushes.get_mut(id.as_str()) {
                    push.outcomes.push((at, json));
                }
            }
            Event::Revoking { taken, grace_ms, .. } => self.revocations.push(Revocation {
                at,
                taken,
                grace_ms: *grace_ms,
                acknowledged: None,
            }),
            Event::Revoked(number, _) => {
                if let Some(revocation) = self.revocations.get_mut(*number) {
                    revocation.acknowledged = Some(at);
                }
            }
            Event::Lost(_) => self.losses.push(at),
            Event::Killed => self.kills.push(at),
            Event::Slept { ms } => self.sleeps.add(at, *ms),
            Event::Fault(_) | Event::Turned(_) => {}
            Event::Calm => self.calm_ms = at,
        }
    }

    /// Whether what was held at that time may be lost: in the store it was when it lost something.
    pub(crate) fn may_be_lost(&self, held: u64) -> bool {
        self.losses.iter().any(|lost| *lost >= held)
    }

    /// Whether the store may not know yet, at that time, which connections there are: what is pushed then goes to those that
    /// were announced first, if not to all.
    pub(crate) fn is_announcing(&self, at: u64) -> bool {
        self.losses
            .iter()
            .any(|lost| (*lost..self.sleeps.after(*lost, ANNOUNCED_MS)).contains(&at))
    }

    /// Whether a revocation may be forgotten: the store lost it, and a worker that knew it was dead before it could write
    /// that back.
    pub(crate) fn may_be_forgotten(&self, revocation: &Revocation<'_>) -> bool {
        let mut lost = self.losses.iter().filter(|lost| **lost >= revocation.at);
        let awake = |at: &u64| self.sleeps.awake(*at);
        let soon = |lost: u64| {
            let mut killed = self.kills.iter().map(awake);
            killed.any(|killed| killed.abs_diff(lost) < WRITTEN_BACK_MS)
        };
        lost.any(|lost| soon(awake(lost)))
    }

    pub(crate) fn leeway_ms(&self) -> u64 {
        u64::try_from(self.settings.leeway.as_millis()).expect("it is short")
    }

    /// How long a connection must be authenticated to get for certain whatever there is for it.
    pub(crate) fn patience_ms(&self) -> u64 {
        u64::try_from(self.settings.patience.as_millis()).expect("it is short")
    }

    /// How long a request that a purge has swallowed may keep back what comes behind it: its connection is closed then.
    pub(crate) fn lost_ms(&self) -> u64 {
        let timeout = self.settings.answer_timeout.unwrap_or_default();
        u64::try_from(timeout.as_millis()).expect("it is short")
    }

    /// Until when a token counts.
    pub(crate) fn until(&self, token: &Token) -> u64 {
        token.expires_ms + self.leeway_ms()
    }

    /// What was read in answer to a message on its own socket, each with when.
    pub(crate) fn answers(&self, id: &str) -> impl Iterator<Item = &(u64, &'a Json)> {
        let socket = self.messages.get(id).map(|message| message.socket);
        let line = socket.and_then(|socket| self.sockets.get(&socket));
        let read = line.map_or(&[][..], |line| &line.read);
        read.iter()
            .filter(move |(_, json)| json["id"] == id && json["type"] != "push")
    }

    /// When a message is known to have been accepted: answered, but not by an error, or handled.
    pub(crate) fn accepted(&self, id: &str) -> Option<u64> {
        let answered = self.answers(id).find(|(_, json)| json["type"] != "error");
        let handled = self.handled.iter().find(|handled| handled.id == id);
        // What was given up may be the answer of what was handled, and so may what the broker did not take.
        let kind = self.messages.get(id).map(|message| message.kind);
        let is_lost = |json: &Json| kind == Some(Kind::DeadlyAnswer) && json["error"]["code"] == "internal";
        let refused = |json: &Json| json["type"] == "error" && !is_given_up(json) && !is_lost(json);
        let refused = self.answers(id).any(|(_, json)| refused(json));
        answered
            .map(|(at, _)| *at)
            .or(handled.filter(|_| !refused).map(|handled| handled.at))
    }

    /// Whether a message with its token was sent before that revocation and is meant by it.
    pub(crate) fn means(&self, revocation: &Revocation<'_>, message: &Message<'_>) -> bool {
        let meant = |token| means(revocation.taken, token) && message.at < revocation.at;
        message.token.is_some_and(meant)
    }

    /// Whether a token was issued before that revocation and is meant by it.
    pub(crate) fn means_token(&self, revocation: &Revocation<'_>, token: &Token) -> bool {
        means(revocation.taken, token) && token.issued_ms < revocation.at
    }
}

fn means(taken: &Taken, token: &Token) -> bool {
    match taken {
        Taken::Subject(subject) => *subject == token.subject,
        Taken::Token(jti) => *jti == token.jti,
    }
}

/// Whether an error says that something was held too long, or was too much to be held.
pub(crate) fn is_given_up(json: &Json) -> bool {
    json["error"]["code"] == "hold_expired" || json["error"]["code"] == "hold_overflow"
}
