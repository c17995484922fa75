//! Keeps the verifier's keys up to date for as long as it lives.
//!
//! A key server may be away, lie broken, or be slow, and none of that is a client's
//! fault: the last good set stays in force. What is found good takes the place of
//! the whole set at once, so that a key that was removed verifies nothing more, not
//! even what it has verified before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use shared::credentials::{Entry, Register};
use shared::service::clock::{Clock as _, SystemClock};
use shared::service::reload;
use shared::service::repetition::Repetitions;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::source::Remote;
use super::source::fetch::{Fetch, FetchError, Http, Limits};
use super::source::schedule::Schedule;
use super::source::watch::{Watched, watch};
use super::sources::{Found, KeySources, Place, first};
use crate::admin::metrics::{KeyMetrics, Reading};
use crate::token::{KeyErrors, KeySource, Keys, Verifier};
use crate::web::NoClient;

/// The files' changes wait here for a moment; a look that finds more waits until there is room.
const CHANGES: usize = 1;

/// Whether the keys of every source have been had, or else what is missing and why.
pub(crate) type KeyHealth = Result<(), String>;

/// What happened.
enum Event {
    /// Files have changed.
    Changed(Vec<Found>),
    /// The verifier does not know a key.
    Wanted,
    /// The schedule has something to do.
    Due,
    /// Someone wants everything to be read again.
    Reload,
}

/// How a source is. A line is logged when it changes; of refusals, one a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    /// Its newest content is in force.
    Good,
    /// It cannot be had.
    Away,
    /// It is not taken, for this reason.
    Refused(String),
}

/// Owns the contents of all sources.
pub(crate) struct KeyRefresher<F = Http> {
    contents: KeySources,
    remotes: Vec<(Place, Remote)>,
    fetch: F,
    schedule: Schedule,
    verifier: Arc<Verifier>,
    /// Why each of those is away that is.
    away: BTreeMap<Place, FetchError>,
    conditions: BTreeMap<Place, Condition>,
    /// Refusals, by source: each is told once a minute, however often it happens.
    refusals: Repetitions,
    /// The keys that are passed over, as was told.
    passed_over: BTreeSet<String>,
    health: watch::Sender<KeyHealth>,
    metrics: KeyMetrics,
    /// Where what is in force of each source is told.
    entries: BTreeMap<Place, Entry>,
}

impl KeyRefresher {
    /// A refresher that asks over HTTP. `verifier` has the keys that go with `contents`.
    ///
    /// # Errors
    /// If there is no HTTP to be had.
    pub(crate) fn over_http(contents: KeySources, verifier: Arc<Verifier>, ttl: Duration) -> Result<Self, NoClient> {
        let fetch = Http::new(
            contents.sources().filter_map(|(_, source, _)| source.remote()),
            Limits::USUAL,
        )?;
        Ok(Self::new(contents, fetch, verifier, ttl))
    }
}

impl<F: Fetch> KeyRefresher<F> {
    pub(in crate::token) fn new(contents: KeySources, fetch: F, verifier: Arc<Verifier>, ttl: Duration) -> Self {
        let remotes: Vec<_> = contents
            .sources()
            .filter_map(|(place, source, _)| Some((place, source.remote()?)))
            .collect();
        verifier.refresh_signal().settle(remotes.is_empty());
        let mut refresher = Self {
            remotes,
            fetch,
            schedule: Schedule::new(ttl, Instant::now()),
            verifier,
            away: BTreeMap::new(),
            conditions: BTreeMap::new(),
            refusals: Repetitions::default(),
            passed_over: BTreeSet::new(),
            health: watch::Sender::new(Ok(())),
            metrics: KeyMetrics::new(),
            entries: BTreeMap::new(),
            contents,
        };
        refresher.tell_passed_over();
        // Told with the keys that are passed over.
        let places: Vec<Place> = refresher.contents.sources().map(|(place, ..)| place).collect();
        refresher.conditions = places
            .into_iter()
            .map(|place| (place, refresher.condition(place)))
            .collect();
        refresher.tell_standing();
        refresher
    }

    /// What is in force of each source is told there, from now on.
    pub(crate) fn enter_into(&mut self, register: &Register) {
        let entries = self.contents.sources();
        self.entries = entries
            .map(|(place, source, _)| (place, register.enter("jwt-keys", &source.to_string())))
            .collect();
        for (place, entry) in &self.entries {
            match (self.contents.refusal(*place).map(first), self.contents.in_force(*place)) {
                (Some((Some(fault), _)), _) => entry.refused(&fault.to_string()),
                (_, Some((kind, until))) => entry.loaded(kind, SystemClock.now(), until),
                _ => {}
            }
        }
    }

    fn tell_entry(&self, place: Place, is_new: bool) {
        let Some(entry) = self.entries.get(&place) else { return };
        match (self.contents.refusal(place).map(first), self.contents.in_force(place)) {
            (Some((Some(fault), _)), _) => entry.refused(&fault.to_string()),
            (_, Some((kind, until))) if is_new => entry.loaded(kind, SystemClock.now(), until),
            _ => entry.well(),
        }
    }

    /// Whether the keys of every source have been had once, from now on.
    pub(crate) fn health(&self) -> watch::Receiver<KeyHealth> {
        self.health.subscribe()
    }

    /// Which sources have had no keys yet, and why.
    pub(crate) fn lack(&self) -> Option<String> {
        self.health.borrow().clone().err()
    }

    /// Asks every server once, so that a worker whose servers are there never has to say that they are not.
    /// That takes as long as one request may.
    pub(crate) async fn fetch_first(&mut self) {
        self.catch_up().await;
    }

    /// Keeps on, until it is dropped.
    pub(crate) async fn run(mut self) {
        let files = self
            .contents
            .sources()
            .filter(|(_, source, _)| source.remote().is_none());
        let files = files.map(|(place, source, known)| Watched::new(place, source.clone(), known.clone()));
        let (found, mut changes) = mpsc::channel(CHANGES);
        let watching = watch(files.collect(), found);
        let mut reloads = reload::reloads();
        let keeping = async {
            loop {
                match self.next_event(&mut changes, &mut reloads).await {
                    Event::Reload => {
                        let all_well = self.fetch_all().await;
                        self.schedule.fetched(all_well, Instant::now(), rand::random());
                    }
                    Event::Changed(found) => self.take_in(found),
                    Event::Wanted => self.schedule.want(),
                    Event::Due => {}
                }
                self.catch_up().await;
            }
        };
        tokio::join!(watching, keeping);
    }

    async fn next_event(&self, changes: &mut mpsc::Receiver<Vec<Found>>, reloads: &mut watch::Receiver<u64>) -> Event {
        tokio::select! {
            Ok(()) = reloads.changed(), if !self.remotes.is_empty() => Event::Reload,
            Some(found) = changes.recv() => Event::Changed(found),
            () = self.verifier.refresh_signal().asked_for() => Event::Wanted,
            () = sleep_until(self.schedule.next()), if !self.remotes.is_empty() => Event::Due,
        }
    }

    /// Does what the schedule has to do by now.
    async fn catch_up(&mut self) {
        if self.remotes.is_empty() {
            return;
        }
        if self.schedule.tick(Instant::now()) {
            self.verifier.refresh_signal().forget();
        }
        if self.schedule.is_due(Instant::now()) {
            let all_well = self.fetch_all().await;
            self.schedule.fetched(all_well, Instant::now(), rand::random());
        }
        self.verifier.refresh_signal().next(self.schedule.next_for_unknown());
    }

    /// Asks every server, and says whether every answer is in force now.
    async fn fetch_all(&mut self) -> bool {
        self.verifier.refresh_signal().begin();
        let fetch = &self.fetch;
        let requests = self
            .remotes
            .iter()
            .map(async |(place, remote)| (*place, remote.fetch(fetch).await));
        let mut found = Vec::new();
        for (place, answer) in join_all(requests).await {
            match answer {
                Ok(content) => {
                    self.away.remove(&place);
                    found.push((place, Ok(content)));
                }
                Err(reason) => {
                    self.metrics.read(Reading::Failed);
                    self.away.insert(place, reason);
                }
            }
        }
        self.take_in(found);
        let is_well = |place: &Place| !self.away.contains_key(place) && self.contents.refusal(*place).is_none();
        let all_well = self.remotes.iter().all(|(place, _)| is_well(place));
        if all_well {
            // After what was found is in place.
            self.verifier.refresh_signal().answer();
        }
        all_well
    }

    fn take_in(&mut self, found: Vec<Found>) {
        let places: Vec<Place> = found.iter().map(|(place, _)| *place).collect();
        let before: Vec<_> = self.contents.sources().map(|(_, _, content)| content.clone()).collect();
        if let Some(keys) = self.contents.take_in(found) {
            self.put_in_force(keys);
        }
        for (place, _, content) in self.contents.sources() {
            self.tell_entry(place, before.get(place) != Some(content));
        }
        for place in places {
            let is_refused = self.contents.refusal(place).is_some();
            self.metrics
                .read(if is_refused { Reading::Refused } else { Reading::Good });
        }
        self.tell_changes();
        self.tell_standing();
    }

    fn put_in_force(&mut self, keys: Keys) {
        let count = keys.len();
        let before = self.verifier.keys();
        self.verifier
            .refresh_signal()
            .gone(before.kids().filter(|kid| !keys.has(kid)));
        self.verifier.replace_keys(keys);
        self.metrics.replaced();
        info!(
            count,
            "there are new keys; cached verifications by the old ones are dropped"
        );
        self.tell_passed_over();
    }

    /// Tells each key that is passed over once, for as long as it stays where it is.
    fn tell_passed_over(&mut self) {
        let keys = self.verifier.keys();
        let told = std::mem::take(&mut self.passed_over);
        for error in keys.passed_over() {
            let why = error.to_string();
            if !told.contains(&why) && !self.passed_over.contains(&why) {
                warn!(why, "a key is skipped; all others are used");
            }
            self.passed_over.insert(why);
        }
    }

    fn condition(&self, place: Place) -> Condition {
        if self.away.contains_key(&place) {
            Condition::Away
        } else if let Some((Some(fault), _)) = self.contents.refusal(place).map(first) {
            Condition::Refused(fault.to_string())
        } else {
            Condition::Good
        }
    }

    fn tell_changes(&mut self) {
        for (place, source, _) in self.contents.sources() {
            let condition = self.condition(place);
            let before = self.conditions.get(&place).unwrap_or(&Condition::Good);
            if condition != *before {
                self.tell(place, source, &condition);
                self.conditions.insert(place, condition);
            }
        }
    }

    fn tell(&self, place: Place, source: &KeySource, condition: &Condition) {
        match condition {
            Condition::Good => info!(keys = %source, "keys are available again"),
            Condition::Away => {
                let reason = self.away.get(&place).map(ToString::to_string).unwrap_or_default();
                warn!(keys = %source, reason, "keys cannot be fetched; the last good ones, if any, stay in force");
            }
            Condition::Refused(fault) => {
                let others = self
                    .contents
                    .refusal(place)
                    .map_or(0, |errors: &KeyErrors| first(errors).1);
                if let Some(untold) = self.refusals.admit(&source.to_string(), Instant::now()) {
                    warn!(
                        fault,
                        others, untold, "the new keys cannot be used; the last good ones, if any, stay in force"
                    );
                }
            }
        }
    }

    fn tell_standing(&self) {
        let missing: Vec<_> = self
            .contents
            .awaited()
            .map(
                |(place, source)| match (self.away.get(&place), self.contents.refusal(place).map(first)) {
                    (Some(reason), _) => format!("jwt-keys \"{source}\": {reason}"),
                    (None, Some((Some(fault), _))) => fault.to_string(),
                    _ => format!("jwt-keys \"{source}\": not asked yet"),
                },
            )
            .collect();
        let health = if missing.is_empty() {
            Ok(())
        } else {
            Err(missing.join("; "))
        };
        self.health.send_if_modified(|told| {
            let is_new = *told != health;
            *told = health;
            is_new
        });
    }
}
