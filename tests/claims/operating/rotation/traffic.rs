//! What goes on while something is replaced: 300 messages a second, sent whatever is answered. It is the same for every rotation,
//! and so is what must come of it.

use std::net::SocketAddr;

use tests::peers::load::Running;
use tests::{Load, Span, Stack};

const PER_SECOND: u32 = 300;

/// Eight connections that send all the time.
pub(crate) struct Traffic(Running);

impl Traffic {
    /// By that token, as soon as some of it is answered.
    pub(crate) async fn on(stack: &Stack, token: &str) -> Self {
        let terminators = stack.terminators().iter();
        Self::to(terminators.map(tests::Program::address), token).await
    }

    /// The same to whatever listens there.
    pub(crate) async fn to(addresses: impl IntoIterator<Item = SocketAddr>, token: &str) -> Self {
        let load = Load::on_addresses(addresses, token).messages(usize::MAX);
        let traffic = Self(load.per_second(PER_SECOND).start(300.s()));
        traffic.goes_on().await;
        traffic
    }

    /// Waits until as many as are sent in a second have been answered from now on.
    pub(crate) async fn goes_on(&self) {
        self.0.until_answered(self.0.answered() + PER_SECOND as usize).await;
    }

    /// Ends it. Each message was answered once, with a reply, and no socket was closed.
    pub(crate) async fn lost_nothing(self) {
        self.0.enough();
        let tally = self.0.finish().await;
        tally.assert_each_replied_once();
        assert!(tally.broken.is_empty(), "{tally:?}");
    }

    /// The same, where messages may be refused.
    pub(crate) async fn was_answered(self) {
        self.0.enough();
        let tally = self.0.finish().await;
        tally.assert_each_answered_once();
        assert!(tally.broken.is_empty(), "{tally:?}");
    }
}
