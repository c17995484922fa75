//! Tokens, keys, identities, expiry and revocation.

pub(crate) mod auth_timeout;
pub(crate) mod authority;
pub(crate) mod authority_table;
pub(crate) mod discovery;
pub(crate) mod expiry;
pub(crate) mod keys;
pub(crate) mod policies;
pub(crate) mod provider_events;
pub(crate) mod providers;
pub(crate) mod public_types;
pub(crate) mod real_provider;
pub(crate) mod revocation;
pub(crate) mod strategies;
pub(crate) mod token_claims;
pub(crate) mod tokens;
