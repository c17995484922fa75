//! What becomes of a client's messages as its authentication comes and goes.

mod counting;
mod forgetting;
mod holding;
mod limits;
mod order;
mod policies;
mod resuming;
mod strategies;

use std::time::Duration;

use super::connection::{Conn, Said, authenticate};
use super::fixture::Fixture;

/// A token of 300 seconds is past its time, and past the leeway.
const EXPIRY: Duration = Duration::from_secs(306);

impl Fixture {
    /// A connection of `subject`, authenticated for 300 seconds.
    async fn authenticated(&mut self, number: u64, subject: &str) -> Conn {
        let mut conn = Conn::new(self, number);
        let said = self.say(&mut conn, authenticate(subject, 300)).await;
        assert_eq!(said.body["type"], "auth.ok", "{said:?}");
        conn
    }

    /// The same, when its time is over.
    pub(super) async fn expired(&mut self, number: u64, subject: &str) -> Conn {
        let conn = self.authenticated(number, subject).await;
        self.clock.advance(EXPIRY);
        conn
    }

    /// Renews a connection for an hour more.
    pub(super) async fn renew(&mut self, conn: &mut Conn, subject: &str) -> Said {
        let said = self.say(conn, authenticate(subject, 3_600)).await;
        assert_eq!(said.body["type"], "auth.ok", "{said:?}");
        said
    }

    /// Why things happened on a connection, oldest first.
    async fn why(&self, conn: &Conn) -> Vec<(String, String)> {
        super::fixture::settle().await;
        let decisions = self.store.decisions(conn.id).await.unwrap();
        decisions.into_iter().map(|one| (one.what, one.why)).collect()
    }
}
