//! What credentials are in force: for `/metrics`, and for people at `/credentials` of the admin address.
//!
//! It knows where each comes from, of what kind it is, since when and until when. What it is, it is never told.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::gauge;
use serde::{Deserialize, Serialize};

use crate::service::clock::Timestamp;

/// One source of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The setting that names it.
    pub setting: String,
    /// The file, or the address, without a secret.
    pub source: String,
    /// What it is; empty as long as nothing is in force.
    pub kind: String,
    /// Since when what is in force is so, in seconds since 1970; nothing as long as nothing is.
    pub since: Option<u64>,
    /// Until when a certificate is good, likewise.
    pub until: Option<u64>,
    /// Why what is there now is not taken, if it is not.
    pub refused: Option<String>,
}

/// The credentials of a program. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub struct Register(Arc<Mutex<Vec<Row>>>);

impl Register {
    /// All of them, in the order in which they were entered.
    pub fn rows(&self) -> Vec<Row> {
        self.locked().clone()
    }

    /// Enters a source, of which nothing is in force yet.
    pub fn enter(&self, setting: &str, source: &str) -> Entry {
        let mut rows = self.locked();
        rows.push(Row {
            setting: setting.to_owned(),
            source: source.to_owned(),
            kind: String::new(),
            since: None,
            until: None,
            refused: None,
        });
        let entry = Entry {
            register: self.clone(),
            place: rows.len() - 1,
            labels: [("setting", setting.to_owned()), ("file", source.to_owned())],
        };
        entry.count_refused(false);
        entry
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One source's place in a register.
#[derive(Debug)]
pub struct Entry {
    register: Register,
    place: usize,
    labels: [(&'static str, String); 2],
}

impl Entry {
    /// What is there now is in force.
    pub fn loaded(&self, kind: &str, since: Timestamp, until: Option<Timestamp>) {
        let mut ended = false;
        self.change(|row| {
            kind.clone_into(&mut row.kind);
            row.since = Some(since.as_secs());
            ended = row.until.is_some();
            row.until = until.map(Timestamp::as_secs);
            row.refused = None;
        });
        // Seconds since 1970 are exact in a float for as long as there are certificates.
        gauge!("countersign_key_loaded_timestamp_seconds", &self.labels).set(since.as_secs() as f64);
        // The end of a certificate that is no longer there must not be waited for: what has no end is good for ever.
        if until.is_some() || ended {
            let until = until.map_or(f64::INFINITY, |until| until.as_secs() as f64);
            gauge!("countersign_certificate_not_after_timestamp_seconds", &self.labels).set(until);
        }
        self.count_refused(false);
    }

    /// What is there now is not taken; what was in force before still is.
    pub fn refused(&self, why: &str) {
        self.change(|row| row.refused = Some(why.to_owned()));
        self.count_refused(true);
    }

    /// What is there now is what is in force.
    pub fn well(&self) {
        self.change(|row| row.refused = None);
        self.count_refused(false);
    }

    fn change(&self, change: impl FnOnce(&mut Row)) {
        if let Some(row) = self.register.locked().get_mut(self.place) {
            change(row);
        }
    }

    fn count_refused(&self, refused: bool) {
        gauge!("countersign_key_refused", &self.labels).set(if refused { 1.0 } else { 0.0 });
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_refusal_stays_until_it_is_mended_and_takes_nothing_out_of_force() {
        let register = Register::default();
        let entry = register.enter("tls-cert", "/a.pem");
        let row = || register.rows().remove(0);
        assert_eq!((row().kind.as_str(), row().since), ("", None));
        let (since, until) = (Timestamp::from_secs(5), Timestamp::from_secs(9));
        entry.loaded("certificate", since, Some(until));
        entry.refused("is empty");
        assert_eq!((row().since, row().until), (Some(5), Some(9)));
        assert_eq!(row().refused.as_deref(), Some("is empty"));
        entry.well();
        assert_eq!(row().refused, None);
        entry.refused("is empty");
        entry.loaded("certificate", Timestamp::from_secs(7), None);
        assert_eq!((row().since, row().until, row().refused), (Some(7), None, None));
    }
    #[test]
    fn a_certificate_that_gives_way_to_a_key_without_an_end_leaves_none_behind() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let ends = || {
            let metrics = recorder.handle().render();
            let lines = metrics
                .lines()
                .filter(|line| line.starts_with("countersign_certificate_not_after"));
            lines
                .filter_map(|line| line.rsplit_once(' '))
                .map(|(_, value)| value.to_owned())
                .collect::<Vec<_>>()
        };
        metrics::with_local_recorder(&recorder, || {
            let entry = Register::default().enter("jwt-keys", "/key.pem");
            let now = Timestamp::from_secs(5);
            entry.loaded("key", now, None);
            assert_eq!(ends(), [""; 0]);
            for (until, told) in [(Some(Timestamp::from_secs(9)), "9"), (None, "inf"), (None, "inf")] {
                entry.loaded("key", now, until);
                assert_eq!(ends().iter().map(|end| end.to_lowercase()).collect::<Vec<_>>(), [told]);
            }
        });
    }
}
