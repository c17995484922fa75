//! Who is on which connection, and who may take over what it leaves.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::id::ConnectionId;

use super::Expiring;
use crate::identity::Identity;
use crate::store::{Authentication, Recorded, ResumeDigest};

pub(super) struct Authentications {
    leeway: Duration,
    by_connection: Expiring<ConnectionId, Entry>,
}

struct Entry {
    authentication: Authentication,
    /// Who it is, or was before it closed, and what proves it.
    owner: Option<(Identity, ResumeDigest)>,
    heir: Option<ConnectionId>,
}

impl Authentications {
    pub(super) fn new(leeway: Duration) -> Self {
        Self {
            leeway,
            by_connection: Expiring::default(),
        }
    }

    pub(super) fn record(&mut self, connection: ConnectionId, next: &Authentication, now: Timestamp) -> Recorded {
        let present = self.by_connection.get(&connection, now);
        let recorded = judge(present.map(|entry| &entry.authentication), next);
        if recorded == Recorded::Stale {
            return recorded;
        }
        let owner = match next {
            Authentication::Live { identity, resume, .. } => Some((identity.clone(), *resume)),
            Authentication::Forgotten { .. } => None,
            Authentication::Closed { .. } => present.and_then(|entry| entry.owner.clone()),
        };
        let entry = Entry {
            authentication: next.clone(),
            owner,
            heir: present.and_then(|entry| entry.heir),
        };
        let gone_at = now.saturating_add(next.kept_for(now, self.leeway));
        self.by_connection.put(connection, entry, now, gone_at);
        recorded
    }

    pub(super) fn get(&self, connection: ConnectionId, now: Timestamp) -> Option<Authentication> {
        let entry = self.by_connection.get(&connection, now)?;
        Some(entry.authentication.clone())
    }

    pub(super) fn resume(
        &mut self,
        connection: ConnectionId,
        secret: &ResumeDigest,
        identity: &Identity,
        heir: ConnectionId,
        now: Timestamp,
    ) -> bool {
        let Some(entry) = self.by_connection.get_mut(&connection, now) else {
            return false;
        };
        let proved = entry.owner.as_ref() == Some(&(identity.clone(), *secret));
        if proved {
            entry.heir = Some(heir);
        }
        proved
    }

    pub(super) fn heir(&self, connection: ConnectionId, now: Timestamp) -> Option<ConnectionId> {
        self.by_connection.get(&connection, now)?.heir
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_connection.len()
    }
}

/// What becomes of the write `next` where `present` is. Redis decides the same in `record.lua`.
fn judge(present: Option<&Authentication>, next: &Authentication) -> Recorded {
    let Some(present) = present else {
        return Recorded::Changed;
    };
    if next == present {
        Recorded::Changed
    } else if next.by() <= present.by() {
        Recorded::Stale
    } else if next.agrees_with(present) {
        Recorded::Unchanged
    } else {
        Recorded::Changed
    }
}
