//! Key files that change.
//!
//! They are looked at, not subscribed to: that works on every file system, and
//! through the links that Kubernetes turns when a secret changes. A change counts
//! when two looks in a row see the same, because a file that is just being written
//! may be half a secret, which is one too. A file that never rests is refused, as by
//! `shared::credentials`.

use std::time::Duration;

use shared::credentials::MOST_UNSTEADY;
use shared::service::reload;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::Content;
use crate::token::keys::sources::{Found, Place};
use crate::token::{Fault, KeySource};

/// Between two looks.
pub(in crate::token) const PERIOD: Duration = Duration::from_secs(2);

type Seen = Result<Content, Fault>;

/// A file, and what has been seen in it.
pub(in crate::token) struct Watched {
    place: Place,
    source: KeySource,
    /// Nothing while the file does not rest: whatever it comes to rest at is told.
    told: Option<Seen>,
    last: Seen,
    unsteady: u32,
}

impl Watched {
    /// Of the file in that place it is known what is in it.
    pub(in crate::token) fn new(place: Place, source: KeySource, known: Content) -> Self {
        Self {
            place,
            source,
            told: Some(Ok(known.clone())),
            last: Ok(known),
            unsteady: 0,
        }
    }

    /// What to tell, having seen that.
    fn look(&mut self, seen: Seen, at_once: bool) -> Option<Found> {
        let is_still = at_once || seen == self.last;
        self.last = seen.clone();
        if !is_still {
            self.unsteady = self.unsteady.saturating_add(1);
            if self.unsteady != MOST_UNSTEADY {
                return None;
            }
            self.told = None;
            return Some((self.place, Err(Fault::Unsteady)));
        }
        self.unsteady = 0;
        if self.told.as_ref() == Some(&seen) {
            return None;
        }
        self.told = Some(seen.clone());
        match seen {
            Ok(Content::Awaited) => None,
            Ok(Content::Known(content)) => Some((self.place, Ok(content))),
            Err(fault) => Some((self.place, Err(fault))),
        }
    }
}

/// Tells what has changed in the files, until no one listens any more.
pub(in crate::token) async fn watch(mut files: Vec<Watched>, changes: mpsc::Sender<Vec<Found>>) {
    let mut reloads = reload::reloads();
    while !files.is_empty() {
        let at_once = tokio::select! {
            () = tokio::time::sleep(PERIOD) => false,
            _ = reloads.changed() => true,
            () = changes.closed() => return,
        };
        // Disks may be far away and slow. Only one look is under way at a time.
        let look = spawn_blocking(move || {
            let found: Vec<_> = files
                .iter_mut()
                .filter_map(|file| file.look(file.source.read(), at_once))
                .collect();
            (files, found)
        });
        let Ok((looked_at, found)) = look.await else { return };
        files = looked_at;
        if !found.is_empty() && changes.send(found).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn known(text: &'static str) -> Content {
        Content::Known(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn a_change_counts_when_it_is_seen_twice_and_is_told_once() {
        let mut file = Watched::new(7, "key".parse().unwrap(), known("old"));
        let told = |text: &'static str| Some((7, Ok(Bytes::from_static(text.as_bytes()))));
        for (seen, expected) in [
            ("old", None),
            ("ne", None),
            ("new", None),
            ("new", told("new")),
            ("new", None),
            ("old", None),
            ("new", None),
            ("old", None),
            ("old", told("old")),
        ] {
            assert_eq!(file.look(Ok(known(seen)), false), expected, "{seen}");
        }
        assert_eq!(file.look(Err(Fault::FileTooLarge), false), None);
        assert_eq!(
            file.look(Err(Fault::FileTooLarge), false),
            Some((7, Err(Fault::FileTooLarge)))
        );
        assert_eq!(file.look(Err(Fault::FileTooLarge), false), None);
        assert_eq!(file.look(Ok(known("new")), true), told("new"), "somebody asked for it");
    }

    #[test]
    fn a_file_that_never_rests_is_told_once_and_then_what_it_comes_to_rest_at() {
        let mut file = Watched::new(7, "key".parse().unwrap(), known("old"));
        let unsteady = (0..100).map(|look| known(if look % 2 == 0 { "a" } else { "b" }));
        let told: Vec<_> = unsteady.filter_map(|seen| file.look(Ok(seen), false)).collect();
        assert_eq!(told, [(7, Err(Fault::Unsteady))]);
        // Even if that is what was in force before.
        assert_eq!(file.look(Ok(known("old")), false), None);
        let rests = Some((7, Ok(Bytes::from_static(b"old"))));
        assert_eq!(file.look(Ok(known("old")), false), rests);
    }
}
