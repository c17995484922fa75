//! A message that is to have its effect once: anyone who handles it claims it first, and says afterwards what it came to.
//!
//! A claim is known by the identity and its own name for the message. While a run
//! of it lasts, no one else may begin, but for the same message where the broker says
//! that it is redelivered: the one who had that is dead, or has lost it. A second copy of the
//! message, which its terminator publishes when a confirm was lost, has to wait like any
//! other. A claim whose run is never heard of again is free when its lease is over.

use std::time::Duration;

use shared::wire::id::MessageId;
use shared::wire::tag::IdentityTag;

use super::around::store_part;

store_part! {
    /// Knows which messages have had their effect.
    pub trait ClaimStore {
        /// Begins a run of a message that is to have its effect once, if none has ended or lasts. The very same run may begin
        /// again, and so may one with the same message id if it was redelivered: the one who was given the message before has lost it.
        fn begin(claim: &'a Claim) -> Begun;

        /// Ends a run with what it came to, or with none if that is not kept: from then on that is told, for the window.
        /// Of several runs of one message the first that ends counts; tells what that came to, if it was not this one.
        fn finish(claim: &'a Claim, answer: Option<&'a str>) -> Option<String>;

        /// Ends a run that has had no effect: the message may begin anew. What another run has taken over stays.
        fn abandon(claim: &'a Claim) -> ();
    }
}

/// A SHA-256.
pub type Sha256Digest = [u8; 32];

/// By what a message is known when it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageKey {
    /// Whose it is.
    pub identity: IdentityTag,
    /// The digest of the identity's own name for it.
    pub id: Sha256Digest,
}

/// One attempt at handling a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which message of which connection it is; none if it was injected.
    pub forwarded_id: Option<MessageId>,
    /// Drawn at random, so that it is told from every other.
    pub number: u64,
}

/// That a run wants to have a message's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The message, by its identity and idempotency key.
    pub key: MessageKey,
    /// The digest of what it asks for.
    pub fingerprint: Sha256Digest,
    /// Who claims it.
    pub run: Run,
    /// Whether the broker says that the message was given to someone before, who has lost it: then it takes over a run
    /// with its message id.
    pub redelivered: bool,
    /// For how long no one else may begin, from now.
    pub lease: Duration,
    /// For how long it is known, from now.
    pub window: Duration,
}

impl Claim {
    /// For how long it is known when it begins: a run may last longer than the window.
    pub(super) fn begins_for(&self) -> Duration {
        self.window.max(self.lease)
    }
}

/// What is known of a message that is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing, or only that a run of it was cut off: it may begin.
    First,
    /// Another run of it lasts.
    Running {
        /// Whether that is a run of this very message, by its message id, and not of one that repeats it.
        same: bool,
    },
    /// It was handled, and came to this; nothing, if that is not kept.
    Done(Option<String>),
    /// The name is another message's.
    Conflict,
}
