//! How many files a terminator may have open, each socket being one.
//!
//! Without any left, `/readyz` could not be answered, nor the broker reached again. So where the system allows fewer files than
//! `max-connections` needs, only as many clients are accepted as there are files for; the others are refused with 503, and the
//! terminator is not ready while all places are taken.

use std::sync::Arc;
use std::time::Duration;

use shared::service::admin::CheckHandle;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tracing::{info, warn};

/// Files that a terminator has open besides its clients' sockets, at most: connections to the broker, standard streams, its log,
/// requests for health and metrics.
const OTHER_FILES: u64 = 64;
/// This part of the files is for handshakes and refusals that are under way: one in eight.
const SHARE_OF_HANDSHAKES: u64 = 8;
/// How often the check is brought up to date.
const LOOK: Duration = Duration::from_secs(1);

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    pub(crate) max_connections: usize,
    /// Whether the limit of open files allows no more.
    pub(crate) is_short: bool,
}

impl OpenFiles {
    /// As many connections as are asked for, whatever the system allows.
    pub(crate) const fn unlimited(max_connections: usize) -> Self {
        Self {
            max_connections,
            is_short: false,
        }
    }

    /// As many as are asked for, or as the system allows, once the limit is raised as far as it may be: most systems start a process
    /// with far fewer files than it may have.
    pub(crate) fn raised(max_connections: usize) -> Self {
        let open_files = match rlimit::increase_nofile_limit(u64::MAX) {
            Ok(open_files) => open_files,
            Err(error) => {
                warn!(%error, "cannot raise the limit of open files");
                return Self::unlimited(max_connections);
            }
        };
        let files = Self::within(open_files, max_connections);
        if files.is_short {
            warn!(
                open_files,
                max_connections,
                taken = files.max_connections,
                "the limit of open files is lower than max-connections needs: raise that limit, or lower max-connections"
            );
        } else {
            info!(open_files, "the limit of open files; each socket is one");
        }
        files
    }

    fn within(open_files: u64, max_connections: usize) -> Self {
        if open_files >= (max_connections as u64).saturating_add(OTHER_FILES) {
            return Self::unlimited(max_connections);
        }
        let taken = open_files
            .saturating_sub(OTHER_FILES + open_files / SHARE_OF_HANDSHAKES)
            .max(1);
        Self {
            max_connections: usize::try_from(taken).unwrap_or(usize::MAX).min(max_connections),
            is_short: true,
        }
    }
}

/// Fails the check while no further connection may come; runs for ever.
pub(crate) async fn watch(check: CheckHandle, connections: Arc<Semaphore>) {
    loop {
        match connections.available_permits() {
            0 => check.failing("the limit of open files is used up: raise it, or lower max-connections"),
            _ => check.ok(),
        }
        sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_taken_as_are_asked_for_or_as_the_files_allow() {
        assert_eq!(OpenFiles::within(100_064, 100_000), OpenFiles::unlimited(100_000));
        let short = OpenFiles::within(1_024, 100_000);
        assert_eq!((short.max_connections, short.is_short), (1_024 - 64 - 128, true));
        assert_eq!(OpenFiles::within(20, 100_000).max_connections, 1);
        assert_eq!(OpenFiles::within(1_070, 1_010).max_connections, 1_070 - 64 - 133);
    }
}
