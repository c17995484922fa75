//! What becomes of a connection's messages if each is decided before the next is sent.
//!
//! It allows more than one outcome in two places, and says which. A message with
//! a token of its own is judged by that token together with what its terminator
//! knew of the connection when it forwarded it, which may lack what was still
//! under way: the messages since the last `auth.` message that changed anything, behind which
//! nothing is forwarded before that is known, or since the last silence. And whether a token that is used again
//! releases what is held depends on whether the terminator knew that something is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use shared::wire::grant::Policy;

use crate::oracle::ledger::{Ledger, Message};
use crate::parts::token::{Roles, Token};
use crate::scenario::{Kind, Settings};
use crate::trace::{End, Event, Socket, Taken};

/// Silence that is long enough for everything to be settled.
const SILENCE_MS: u64 = 5_000;

/// What is seen of a message's fate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It was handled in that name, and was allowed so much.
    Handled(String, Roles),
    /// It was refused with that code.
    Refused(String),
    /// It was an `auth.` message, and done.
    Done,
    /// Nothing was heard of it.
    Silence,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Authenticated {
    subject: &'static str,
    issued: u64,
    until: u64,
    roles: Roles,
    jti: String,
    /// By the message at that place.
    by: usize,
}

struct Held<'a> {
    id: &'a str,
    owner: Option<&'static str>,
    /// The expired token that it came with.
    own: Option<&'a Token>,
    /// What it may have come to already, if its release was a matter of chance.
    perhaps: BTreeSet<Fate>,
}

/// One connection, as the model has it.
struct Connection<'a> {
    settings: &'a Settings,
    leeway_ms: u64,
    auth: Option<Authenticated>,
    /// What a terminator knows for certain.
    known: Option<Authenticated>,
    held: Vec<Held<'a>>,
    /// What is being released: anyone who brings another token meanwhile may have it released by that.
    releasing: Vec<Held<'a>>,
    allowed: BTreeMap<&'a str, BTreeSet<Fate>>,
    /// It must end with this code.
    ends: Option<u16>,
    /// What was sent since the last silence, and may not have been answered yet.
    together: Vec<&'a str>,
    /// What becomes of it from here on is a matter of chance.
    unsure: bool,
    /// When what was revoked.
    revocations: Vec<(u64, &'a Taken)>,
}

/// In what a trace differs from the model.
pub(crate) fn judge(settings: &Settings, trace: &[(u64, Event)]) -> Vec<String> {
    let ledger = Ledger::read(settings, trace);
    let mut wrong = Vec::new();
    for socket in ledger.sockets.keys() {
        judge_socket(&ledger, *socket, &mut wrong);
    }
    wrong
}

fn judge_socket(ledger: &Ledger<'_>, socket: Socket, wrong: &mut Vec<String>) {
    let line = &ledger.sockets[&socket];
    let mut connection = Connection::new(ledger);
    let mut last = 0;
    let mut rest = line.sent.iter().map(|id| (*id, &ledger.messages[id])).peekable();
    while let Some((id, message)) = rest.peek().copied() {
        connection.meanwhile(last, message.at);
        if connection.ends.is_some() || connection.unsure {
            break;
        }
        last = message.at;
        connection.take(id, message);
        rest.next();
    }
    connection.meanwhile(last, u64::MAX);
    // What was under way together with the message that closes may close, too, and be the first to.
    let together: Vec<_> = rest
        .take_while(|(_, message)| message.at < last + SILENCE_MS)
        .map(|(_, message)| message)
        .collect();
    let mut others = connection.closed_by(&together);
    // A connection that waits for what came before is cut off at once when its authentication is revoked.
    if connection.is_taken_back(last, u64::MAX) {
        others.insert(4503);
    }
    let ended = line.ended.map(|(_, end)| end);
    match (connection.ends, ended) {
        _ if connection.unsure => connection.cut(),
        (None, None) => connection.stay(),
        // A client that leaves may miss what it asked, as may one that is cut off while it is being answered.
        (Some(code), Some(End::Server(told))) if code == told || others.contains(&told) => connection.cut(),
        (expected, ended) => wrong.push(format!(
            "{socket:?} should end with {expected:?}, and did with {ended:?}"
        )),
    }
    for (id, allowed) in &connection.allowed {
        let fate = fate(ledger, id);
        if !allowed.contains(&fate) {
            wrong.push(format!("{id} on {socket:?} should be {allowed:?}, and was {fate:?}"));
        }
    }
}

fn fate(ledger: &Ledger<'_>, id: &str) -> Fate {
    let answers: Vec<&Json> = ledger.answers(id).map(|(_, json)| *json).collect();
    match answers.as_slice() {
        [] => Fate::Silence,
        [one] if one["type"] == "error" => Fate::Refused(one["error"]["code"].as_str().unwrap_or_default().to_owned()),
        [one] if one["type"] == "auth.ok" => Fate::Done,
        [one] => {
            let answer = &one["payload"];
            let subject = answer["as"].as_str().unwrap_or_default();
            Fate::Handled(subject.to_owned(), Roles::from_bits(&answer["may"]))
        }
        several => Fate::Refused(format!("answered {} times", several.len())),
    }
}

fn refused(code: &str) -> Fate {
    Fate::Refused(code.to_owned())
}

impl<'a> Connection<'a> {
    fn new(ledger: &Ledger<'a>) -> Self {
        Self {
            settings: ledger.settings,
            leeway_ms: ledger.leeway_ms(),
            auth: None,
            known: None,
            held: Vec::new(),
            releasing: Vec::new(),
            allowed: BTreeMap::new(),
            ends: None,
            together: Vec::new(),
            unsure: false,
            revocations: ledger.revocations.iter().map(|one| (one.at, one.taken)).collect(),
        }
    }

    /// What happens between two messages: silence, and revocations, which come when all is silent.
    fn meanwhile(&mut self, last: u64, next: u64) {
        if next.saturating_sub(last) >= SILENCE_MS {
            self.known = self.auth.clone();
            self.together.clear();
            self.releasing.clear();
        }
        if self.ends.is_none() && self.is_taken_back(last, next) {
            self.ends = Some(4503);
        }
    }

    /// Whether the grant in force is revoked in that time.
    fn is_taken_back(&self, last: u64, next: u64) -> bool {
        let mut between = self.revocations.iter().filter(|(at, _)| (last..next).contains(at));
        let means_it = |(_, taken): &(u64, &Taken)| {
            self.auth
                .as_ref()
                .is_some_and(|auth| means(taken, auth.subject, &auth.jti))
        };
        between.any(means_it)
    }

    /// With what codes messages that are sent together may close the connection.
    fn closed_by(&self, together: &[&Message<'_>]) -> BTreeSet<u16> {
        let strict = self.settings.on_unauthenticated == Policy::Close;
        let mut codes = BTreeSet::new();
        let mut subjects: BTreeSet<_> = self.auth.iter().map(|auth| auth.subject).collect();
        for message in together {
            let code = match message.token.map(|token| (token, self.judge(token, message.at))) {
                None => (strict && message.kind != Kind::Forget).then_some(4401),
                Some((_, Judged::Expired)) => strict.then_some(4401),
                Some((_, Judged::Invalid)) => strict.then_some(4501),
                Some((_, Judged::Revoked)) => Some(4503),
                Some((token, Judged::Valid)) => {
                    subjects.insert(token.subject);
                    (subjects.len() > 1).then_some(4509)
                }
            };
            codes.extend(code);
        }
        codes
    }

    fn take(&mut self, id: &'a str, message: &Message<'a>) {
        self.together.push(id);
        let mut fates = BTreeSet::new();
        match message.kind {
            Kind::Authenticate => self.authenticate(message, &mut fates),
            Kind::Forget => {
                self.forget();
                fates.insert(Fate::Done);
            }
            Kind::One | Kind::Two | Kind::Silent | Kind::Deadly | Kind::DeadlyAnswer => {
                self.ask(id, message, &mut fates)
            }
        }
        let done = fates.contains(&Fate::Done);
        if !fates.is_empty() {
            self.allowed.insert(id, fates);
        }
        // One that was refused says nothing of what was sent before it.
        if done && message.kind != Kind::One {
            self.known = self.auth.clone();
        }
    }

    fn authenticate(&mut self, message: &Message<'a>, fates: &mut BTreeSet<Fate>) {
        let Some(token) = message.token else {
            fates.insert(refused("bad_request"));
            return;
        };
        match self.judge(token, message.at) {
            Judged::Valid => {
                fates.insert(Fate::Done);
                self.bind(token, message, fates);
            }
            Judged::Expired => drop(fates.insert(refused("token_expired"))),
            Judged::Invalid => drop(fates.insert(refused("token_invalid"))),
            Judged::Revoked => {
                fates.insert(refused("token_revoked"));
                self.ends = Some(4503);
            }
        }
        let closes = self.settings.on_unauthenticated == Policy::Close;
        match fates.first() {
            Some(Fate::Refused(code)) if closes && code == "token_expired" => self.ends = Some(4401),
            Some(Fate::Refused(code)) if closes && code == "token_invalid" => self.ends = Some(4501),
            _ => {}
        }
    }

    fn forget(&mut self) {
        self.auth = None;
        // What was handled and not yet answered is told to who it was, later.
        for id in std::mem::take(&mut self.together) {
            if let Some(fates) = self.allowed.get_mut(id) {
                fates.insert(Fate::Silence);
            }
        }
        self.releasing.clear();
        for held in std::mem::take(&mut self.held) {
            let mut fates = held.perhaps;
            fates.insert(refused("auth_required"));
            self.allowed.insert(held.id, fates);
        }
    }

    fn ask(&mut self, id: &'a str, message: &Message<'a>, fates: &mut BTreeSet<Fate>) {
        let Some(token) = message.token else {
            return self.ask_without(id, message, fates);
        };
        if self.settings.strategy == "explicit" {
            fates.insert(refused("bad_request"));
            return;
        }
        match self.judge(token, message.at) {
            Judged::Valid => {
                fates.insert(Fate::Handled(token.subject.to_owned(), token.roles));
                self.bind(token, message, fates);
            }
            Judged::Invalid => {
                fates.insert(refused("token_invalid"));
                if self.settings.on_unauthenticated == Policy::Close {
                    self.ends = Some(4501);
                }
            }
            Judged::Expired => self.ask_expired(id, token, fates),
            Judged::Revoked => {
                fates.insert(refused("token_revoked"));
                self.ends = Some(4503);
            }
        }
    }

    fn ask_expired(&mut self, id: &'a str, token: &'a Token, fates: &mut BTreeSet<Fate>) {
        let stranger = |auth: &Option<Authenticated>| auth.as_ref().is_some_and(|auth| auth.subject != token.subject);
        if stranger(&self.auth) {
            fates.insert(refused("token_expired"));
            if !stranger(&self.known) && self.settings.on_unauthenticated == Policy::Reauthenticate {
                // Its terminator may not have known yet whose the connection is: held, and found out at its release.
                fates.extend([
                    refused("identity_mismatch"),
                    refused("auth_required"),
                    refused("hold_expired"),
                ]);
                fates.insert(Fate::Silence);
            }
            return;
        }
        match self.settings.on_unauthenticated {
            Policy::Ignore if self.auth.is_some() => {
                fates.insert(Fate::Handled(token.subject.to_owned(), token.roles));
            }
            _ => self.unauthenticated(id, Some(token.subject), Some(token), fates),
        }
    }

    fn ask_without(&mut self, id: &'a str, message: &Message<'a>, fates: &mut BTreeSet<Fate>) {
        if self.settings.strategy == "per-message" {
            fates.insert(refused("auth_required"));
            if self.settings.on_unauthenticated == Policy::Close {
                self.ends = Some(4401);
            }
            return;
        }
        let ignored = self.settings.on_unauthenticated == Policy::Ignore;
        match self.auth.as_ref().filter(|auth| ignored || message.at < auth.until) {
            Some(auth) => drop(fates.insert(Fate::Handled(auth.subject.to_owned(), auth.roles))),
            None => {
                let owner = self.auth.as_ref().map(|auth| auth.subject);
                self.unauthenticated(id, owner, None, fates);
            }
        }
    }

    fn unauthenticated(
        &mut self,
        id: &'a str,
        owner: Option<&'static str>,
        own: Option<&'a Token>,
        fates: &mut BTreeSet<Fate>,
    ) {
        let code = if own.is_some() {
            "token_expired"
        } else {
            "auth_required"
        };
        match self.settings.on_unauthenticated {
            Policy::Ignore => drop(fates.insert(refused(code))),
            Policy::Close => {
                fates.insert(refused(code));
                self.ends = Some(4401);
            }
            Policy::Reauthenticate => self.held.push(Held {
                id,
                owner,
                own,
                perhaps: BTreeSet::new(),
            }),
        }
    }

    /// A good token: it is the connection's from now on, and releases what is held, unless the connection is another's.
    fn bind(&mut self, token: &Token, message: &Message<'a>, fates: &mut BTreeSet<Fate>) {
        if self.auth.as_ref().is_some_and(|auth| auth.subject != token.subject) {
            fates.insert(refused("identity_mismatch"));
            self.ends = Some(4509);
            return;
        }
        let same = |auth: &Option<Authenticated>| auth.as_ref().is_some_and(|auth| auth.jti == token.jti);
        // Whether it changes nothing depends on whether what is in force was known already when it was answered.
        let newer = |auth: &&Authenticated| message.at < auth.until && token.issued_ms < auth.issued;
        let older = self.auth.as_ref().is_some_and(|auth| newer(&auth));
        let perhaps = older || message.kind == Kind::One && (same(&self.auth) || same(&self.known));
        for releasing in &self.releasing {
            let released = self.released(releasing, token.subject, token.roles, message.at);
            self.allowed.entry(releasing.id).or_default().insert(released);
        }
        for mut held in std::mem::take(&mut self.held) {
            held.perhaps
                .insert(self.released(&held, token.subject, token.roles, message.at));
            // The proof was newer than it, and the grant the other.
            if let Some(auth) = self.auth.as_ref().filter(|_| older) {
                held.perhaps
                    .insert(self.released(&held, auth.subject, auth.roles, message.at));
            }
            if perhaps {
                self.held.push(held);
            } else {
                self.allowed.insert(held.id, held.perhaps.clone());
                self.releasing.push(held);
            }
        }
        if older {
            return;
        }
        self.auth = Some(Authenticated {
            subject: token.subject,
            issued: token.issued_ms,
            roles: token.roles,
            until: token.expires_ms + self.leeway_ms,
            jti: token.jti.clone(),
            by: message.place,
        });
    }

    /// What becomes of something held, by that token of that subject which allows so much.
    fn released(&self, held: &Held<'_>, subject: &str, roles: Roles, at: u64) -> Fate {
        if held.own.is_some_and(|own| self.is_revoked(own, at)) {
            refused("token_revoked")
        } else if held.owner.is_none_or(|owner| owner == subject) {
            let roles = held.own.map_or(roles, |own| own.roles.and(roles));
            Fate::Handled(subject.to_owned(), roles)
        } else {
            refused("identity_mismatch")
        }
    }

    /// What is still held when nothing comes any more stays so.
    fn stay(&mut self) {
        for held in std::mem::take(&mut self.held) {
            let mut fates = held.perhaps;
            fates.insert(Fate::Silence);
            self.allowed.insert(held.id, fates);
        }
    }

    /// The socket was closed: what was under way may have been answered before, or not, and what waited to be sent a second
    /// time was refused.
    fn cut(&mut self) {
        for fates in self.allowed.values_mut() {
            fates.insert(Fate::Silence);
            fates.insert(refused("auth_required"));
        }
        self.held.clear();
    }

    fn is_revoked(&self, token: &Token, at: u64) -> bool {
        self.revocations
            .iter()
            .any(|(since, taken)| *since < at && token.issued_ms < *since && means(taken, token.subject, &token.jti))
    }

    fn judge(&self, token: &Token, at: u64) -> Judged {
        if !token.genuine {
            Judged::Invalid
        } else if self.is_revoked(token, at) {
            Judged::Revoked
        } else if at >= token.expires_ms + self.leeway_ms {
            Judged::Expired
        } else {
            Judged::Valid
        }
    }
}

enum Judged {
    Valid,
    Expired,
    Invalid,
    Revoked,
}

fn means(taken: &Taken, subject: &str, jti: &str) -> bool {
    match taken {
        Taken::Subject(of) => *of == subject,
        Taken::Token(of) => of == jti,
    }
}
