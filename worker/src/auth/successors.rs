//! Who has taken over from whom: what a connection leaves goes to the one that showed its key, what that one leaves to
//! the next, and so on.
//!
//! Each successor is recorded before whatever is held of its predecessor is looked for, and whatever is held is held before a
//! successor is looked for: one of the two finds the other.

use std::collections::VecDeque;

use shared::wire::id::ConnectionId;

use crate::store::{Store, StoreError};

/// How far successors are followed: a client that came back so often within minutes comes back again.
const MOST_SUCCESSORS: usize = 16;

/// How many connections one may have taken over, directly or not, and be given what is held of: more than any client has.
const MOST_TAKEN_OVER: usize = 32;

/// Those that have taken over from a connection, one from the other.
pub(crate) struct Successors<'a> {
    store: &'a dyn Store,
    last: ConnectionId,
    left: usize,
}

impl<'a> Successors<'a> {
    /// Of that connection.
    pub(crate) fn of(store: &'a dyn Store, connection: ConnectionId) -> Self {
        Self {
            store,
            last: connection,
            left: MOST_SUCCESSORS,
        }
    }

    /// The next one, if there is one and the line is not longer than is followed.
    ///
    /// # Errors
    /// If the store does not answer.
    pub(crate) async fn next(&mut self) -> Result<Option<ConnectionId>, StoreError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Ok(None);
        };
        let next = self.store.successor(self.last).await?;
        (self.last, self.left) = (next.unwrap_or(self.last), left);
        Ok(next)
    }
}

/// The connection that has what this one leaves: the last of its successors, or itself.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn last_successor(store: &dyn Store, connection: ConnectionId) -> Result<ConnectionId, StoreError> {
    let mut successors = Successors::of(store, connection);
    while successors.next().await?.is_some() {}
    Ok(successors.last)
}

/// Those whose successor this connection is, directly or not: the latest first. What another has taken over since is not
/// among them.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn taken_over(store: &dyn Store, connection: ConnectionId) -> Result<Vec<ConnectionId>, StoreError> {
    let (mut found, mut successors) = (Vec::new(), VecDeque::from([connection]));
    while let Some(successor) = successors.pop_front() {
        for earlier in store.predecessors(successor).await?.into_iter().rev() {
            if found.len() >= MOST_TAKEN_OVER {
                return Ok(found);
            }
            let is_known = earlier == connection || found.contains(&earlier);
            if !is_known && store.successor(earlier).await? == Some(successor) {
                found.push(earlier);
                successors.push_back(earlier);
            }
        }
    }
    Ok(found)
}
