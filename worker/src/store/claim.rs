//! A message that is to have its effect once: whoever handles it claims it first, and says afterwards what it came to.
//!
//! A claim is known by the identity and its own name for the message. While a run
//! of it lasts, nobody else may begin, but for the same message where the broker says
//! that it is redelivered: whoever had that is dead, or has lost it. A second copy of the
//! message, which its terminator publishes when a confirm was lost, has to wait like any
//! other. A claim whose run is never heard of again is free when its lease is over.

use std::time::Duration;

use shared::wire::id::MessageId;
use shared::wire::tag::IdentityTag;

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
    /// Which message of which connection it is; nothing if it was injected.
    pub stamp: Option<MessageId>,
    /// Drawn at random, so that it is told from every other.
    pub number: u64,
}

/// That a run wants to have a message's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which message.
    pub key: MessageKey,
    /// The digest of what it asks for.
    pub fingerprint: Sha256Digest,
    /// Who claims it.
    pub run: Run,
    /// Whether the broker says that the message was given to somebody before, who has lost it: then it takes over a run
    /// with its stamp.
    pub redelivered: bool,
    /// For how long nobody else may begin, from now.
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
        /// Whether that is a run of this very message, by its stamp, and not of one that repeats it.
        same: bool,
    },
    /// It was handled, and came to this; nothing, if that is not kept.
    Done(Option<String>),
    /// The name is another message's.
    Conflict,
}
