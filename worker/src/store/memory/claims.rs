//! Messages that are to have their effect once.

use std::collections::HashMap;

use shared::service::clock::Timestamp;
use shared::wire::tag::IdentityTag;

use super::MemoryStore;
use super::expiring::Expiring;
use crate::store::claim::Sha256Digest;
use crate::store::{Begun, Call, Claim, ClaimStore, MOST_ANSWER_BYTES, MOST_CLAIMS, Run};

impl ClaimStore for MemoryStore {
    fn begin<'a>(&'a self, claim: &'a Claim) -> Call<'a, Begun> {
        self.step(move |state, now| state.claims.begin(claim, now))
    }

    fn finish<'a>(&'a self, claim: &'a Claim, answer: Option<&'a str>) -> Call<'a, Option<String>> {
        self.step(move |state, now| state.claims.finish(claim, answer, now))
    }

    fn abandon<'a>(&'a self, claim: &'a Claim) -> Call<'a, ()> {
        self.step(move |state, now| state.claims.abandon(claim, now))
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    by_identity: Expiring<IdentityTag, HashMap<Sha256Digest, Record>>,
}

#[derive(Clone, Debug)]
struct Record {
    fingerprint: Sha256Digest,
    state: State,
    gone_at: Timestamp,
}

#[derive(Clone, Debug)]
enum State {
    Running { run: Run, until: Timestamp },
    Done(Option<String>),
}

impl Record {
    fn answer_bytes(&self) -> usize {
        match &self.state {
            State::Done(Some(answer)) => answer.len(),
            State::Done(None) | State::Running { .. } => 0,
        }
    }
}

impl Claims {
    pub(super) fn begin(&mut self, claim: &Claim, now: Timestamp) -> Begun {
        if let Some(record) = self.present(claim, now) {
            if record.fingerprint != claim.fingerprint {
                return Begun::Conflict;
            }
            match &record.state {
                State::Done(answer) => return Begun::Done(answer.clone()),
                State::Running { run, until } => {
                    let same = run.forwarded_id.is_some() && run.forwarded_id == claim.run.forwarded_id;
                    let takes_over = run.number == claim.run.number || (same && claim.redelivered);
                    if !takes_over && *until > now {
                        return Begun::Running { same };
                    }
                }
            }
        }
        let running = State::Running {
            run: claim.run,
            until: now.saturating_add(claim.lease),
        };
        self.write(claim, running, now, now.saturating_add(claim.begins_for()));
        Begun::First
    }

    pub(super) fn finish(&mut self, claim: &Claim, answer: Option<&str>, now: Timestamp) -> Option<String> {
        if let Some(record) = self.present(claim, now) {
            match &record.state {
                _ if record.fingerprint != claim.fingerprint => return None,
                State::Done(answer) => return answer.clone(),
                State::Running { .. } => {}
            }
        }
        let done = State::Done(answer.map(str::to_owned));
        self.write(claim, done, now, now.saturating_add(claim.window));
        None
    }

    pub(super) fn abandon(&mut self, claim: &Claim, now: Timestamp) {
        let is_ours =
            |record: &Record| matches!(&record.state, State::Running { run, .. } if run.number == claim.run.number);
        if let Some(records) = self.by_identity.get_mut(&claim.key.identity, now)
            && records.get(&claim.key.id).is_some_and(is_ours)
        {
            records.remove(&claim.key.id);
        }
    }

    fn present(&self, claim: &Claim, now: Timestamp) -> Option<&Record> {
        let records = self.by_identity.get(&claim.key.identity, now)?;
        records.get(&claim.key.id).filter(|record| record.gone_at > now)
    }

    fn write(&mut self, claim: &Claim, state: State, now: Timestamp, gone_at: Timestamp) {
        let records = self.by_identity.enter(claim.key.identity, now, gone_at, HashMap::new);
        let record = Record {
            fingerprint: claim.fingerprint,
            state,
            gone_at,
        };
        records.insert(claim.key.id, record);
        if records.len() > MOST_CLAIMS {
            records.retain(|_, record| record.gone_at > now);
        }
        if records.len() > MOST_CLAIMS
            && let Some(oldest) = oldest(records, |_| true)
        {
            records.remove(&oldest);
        }
        let mut bytes: usize = records.values().map(Record::answer_bytes).sum();
        while bytes > MOST_ANSWER_BYTES
            && let Some(oldest) = oldest(records, |record| record.answer_bytes() > 0)
            && let Some(record) = records.get_mut(&oldest)
        {
            bytes -= record.answer_bytes();
            record.state = State::Done(None);
        }
    }
}

/// The one of those that is forgotten first.
fn oldest(records: &HashMap<Sha256Digest, Record>, of: impl Fn(&Record) -> bool) -> Option<Sha256Digest> {
    let some = records.iter().filter(|(_, record)| of(record));
    // A map's order is no one's: the same state must give the same answer.
    some.min_by_key(|(id, record)| (record.gone_at, **id))
        .map(|(id, _)| *id)
}
