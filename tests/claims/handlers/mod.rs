//! What an application behind a worker gets and may say.

pub(crate) mod amqp;
pub(crate) mod examples;
pub(crate) mod expiring_run;
pub(crate) mod flapping;
pub(crate) mod http;
pub(crate) mod idempotency;
pub(crate) mod one_effect;
pub(crate) mod rejected;
pub(crate) mod relay;
pub(crate) mod revoked_meanwhile;
pub(crate) mod scopes;
pub(crate) mod sharing;
pub(crate) mod slow_is_alone;
