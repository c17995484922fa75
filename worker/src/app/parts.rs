//! What a worker works with, and how much it takes on.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::{Bus, ReplyQueues};
use shared::service::clock::Clock;
use shared::service::config::EventForm;
use shared::wire::grant::Policy;

use crate::admin::observer::Listener;
use crate::auth::identity::Issuer;
use crate::config::{Elevation, HoldOverflow, Policies, PublicTypes, RequiredScopes, Strategy};
use crate::message::opening::Sealing;
use crate::store::{ConnectionLimit, HoldLimits, Store, UnauthenticatedLimits};
use crate::token::{ClaimPath, Verifier};

/// What a worker works with.
#[derive(Clone)]
pub struct Parts {
    /// Where messages come from, and answers go.
    pub bus: Arc<dyn Bus>,
    /// What is known of each connection.
    pub store: Arc<dyn Store>,
    /// Who a token speaks for.
    pub verifier: Arc<Verifier>,
    /// Whose tokens are accepted: to whose subjects can be pushed, and whose can be revoked.
    pub issuers: Vec<Issuer>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// How much of everything.
    pub limits: Limits,
    /// By what sealed messages are opened.
    pub sealing: Sealing,
    /// Who gets each event as it happens.
    pub listener: Option<Listener>,
}

/// How much a worker takes on, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The prefix of all names on the broker.
    pub namespace: String,
    /// How many messages it has in flight at most: being handled, waiting to be, or waiting for a confirm.
    pub prefetch: u16,
    /// How many messages are handled at a time, at least 1.
    pub concurrency: usize,
    /// How much of that messages of one type have, of what others leave, in percent.
    pub type_percent: usize,
    /// The same for messages of one identity.
    pub identity_percent: usize,
    /// How often one message is delivered to be processed before it counts as failed.
    pub max_deliveries: u32,
    /// How long the handler may take over one message.
    pub handler_timeout: Duration,
    /// For how long a message is remembered, so that it has its effect once; none if it is not.
    pub idempotency: Option<Duration>,
    /// How much is held until a fresh token comes, and for how long.
    pub hold: HoldLimits,
    /// How much of connections that are no one's yet.
    pub unauthenticated: UnauthenticatedLimits,
    /// What terminators do when they have something for a connection whose authentication has expired.
    pub on_expired_push: Policy,
    /// How long a worker that stops may take to finish what it has.
    pub drain_timeout: Duration,
    /// By what a client proves who it is.
    pub strategy: Strategy,
    /// Whether who relays a message learns if its recipient is there.
    pub relay_tells_presence: bool,
    /// Into which queues an answer may go because someone else says so; nothing means any.
    pub reply_queues: Option<ReplyQueues>,
    /// A digest of the settings that say who may what, for other workers to compare.
    pub rules_digest: String,
    /// For how long a message's own token acts, if it allows more than its connection's.
    pub elevation: Elevation,
    /// The claims that name the client of a token.
    pub client_claims: Vec<String>,
    /// What happens to a message that comes without valid authentication.
    pub on_unauthenticated: Policies,
    /// What a token must allow, by the message's type.
    pub required_scopes: RequiredScopes,
    /// The claims in which scopes stand.
    pub scope_claims: Vec<ClaimPath>,
    /// Which messages anyone may send.
    pub public_types: PublicTypes,
    /// In how many queues clients' messages wait.
    pub message_shards: u16,
    /// To how many queues pushes are passed on; 1 means none.
    pub push_shards: u16,
    /// How long connections go on that a key has authenticated which was removed.
    pub removed_key_grace: Duration,
    /// In which form the ends of connections of lost terminators are told; none if they are not.
    pub connection_events: Option<EventForm>,
    /// For how long what a connection that is gone misses is kept for it; none if it is not.
    pub resume_window: Option<Duration>,
    /// Which pushes give way when too many are held.
    pub hold_overflow: HoldOverflow,
    /// How many connections an identity may have at a time; none if any number.
    pub connections_per_identity: Option<ConnectionLimit>,
    /// How many messages a second an identity may send; none if any number.
    pub messages_per_second_per_identity: Option<u32>,
}
