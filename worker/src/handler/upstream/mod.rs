//! What the handlers have in common that hand messages to an application in another process, in any language.
//!
//! Such an application gets who sent a message and what the token claims, and
//! never the token. It may be slow, broken or away, and none of that is the end
//! of a message: its client is told. No one in here keeps the time: the worker
//! cancels a handler that takes too long, and a call that is cancelled counts itself.
//!
//! - `asking`: a message as an application reads it.
//! - `saying`: what it says: an answer, or why there is none.
//! - `calls`: what is counted.

pub(super) mod metrics;
pub(super) mod reply;
pub(super) mod request;
