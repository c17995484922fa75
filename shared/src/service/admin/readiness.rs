//! Whether a process should get traffic, as its parts see it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The checks of one process, by name. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Checks>>);

#[derive(Debug, Default)]
struct Checks {
    draining: bool,
    by_name: BTreeMap<&'static str, Result<(), String>>,
}

/// What `/readyz` tells.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ready: bool,
    /// Each check's name, with `ok` or why not.
    checks: BTreeMap<&'static str, String>,
}

impl Readiness {
    /// No checks yet: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the check `name`, which fails until its handle says otherwise.
    ///
    /// A second check of the same name takes the place of the first.
    pub fn check(&self, name: &'static str) -> CheckHandle {
        let handle = CheckHandle {
            name,
            readiness: self.clone(),
        };
        handle.failing("has not started yet");
        handle
    }

    /// From now on the process is not ready, whatever the checks say: it is about to end.
    pub fn draining(&self) {
        self.lock().draining = true;
    }

    /// Whether every check is well and nothing drains.
    pub fn is_ready(&self) -> bool {
        let checks = self.lock();
        !checks.draining && checks.by_name.values().all(Result::is_ok)
    }

    pub(super) fn report(&self) -> Report {
        let ready = self.is_ready();
        let checks = self.lock();
        let told = |result: &Result<(), String>| result.clone().err().unwrap_or_else(|| "ok".to_owned());
        let mut by_name: BTreeMap<_, _> = checks
            .by_name
            .iter()
            .map(|(name, result)| (*name, told(result)))
            .collect();
        if checks.draining {
            by_name.insert("draining", "the process is about to end".to_owned());
        }
        Report { ready, checks: by_name }
    }

    fn lock(&self) -> MutexGuard<'_, Checks> {
        // The one who panicked while holding it left whole values behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says how one check stands. Dropped, the check fails for good: no one looks after it any more.
#[derive(Debug)]
pub struct CheckHandle {
    name: &'static str,
    readiness: Readiness,
}

impl CheckHandle {
    /// All is well.
    pub fn ok(&self) {
        self.set(Ok(()));
    }

    /// It is not, for this reason. The reason is shown to anyone who can reach the admin port: no secrets.
    pub fn failing(&self, reason: impl Into<String>) {
        self.set(Err(reason.into()));
    }

    fn set(&self, result: Result<(), String>) {
        self.readiness.lock().by_name.insert(self.name, result);
    }
}

impl Drop for CheckHandle {
    fn drop(&mut self) {
        self.failing("has ended");
    }
}
