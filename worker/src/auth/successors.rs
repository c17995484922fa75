//! Who has taken over from whom: what a connection leaves goes to the one that showed its key, what that one leaves to
//! the next, and so on.
//!
//! Each successor is recorded before whatever is held of its predecessor is looked for, and whatever is held is held before an
//! successor is looked for: one of the two finds the other.

use std::collections::VecDeque;

use shared::wire::id::ConnectionId;

use crate::store::{Store, StoreError};

/// How far a line is followed: a client that came back so often within minutes comes back again.
pub(crate) const MOST_HEIRS: usize = 8;

/// How many connections one may have taken over, directly or not, and be given what is held of: more than any client has.
const MOST_TAKEN_OVER: usize = 32;

/// The connection that has what this one leaves: the last of its successors, or itself.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn last_heir(store: &dyn Store, connection: ConnectionId) -> Result<ConnectionId, StoreError> {
    let mut at = connection;
    for _ in 0..MOST_HEIRS {
        match store.successor(at).await? {
            Some(successor) => at = successor,
            None => break,
        }
    }
    Ok(at)
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
