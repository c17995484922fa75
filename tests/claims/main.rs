//! Claims about the whole, by subject. They go in through the socket or the queue, and never look inside.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "the functions that claims share are test code, and fail as claims do"
)]

mod alive;
mod answers_home;
mod asyncapi;
mod audit;
mod auth_timeout;
mod authority;
mod authority_table;
mod batches;
mod broker_faults;
mod bus;
mod cancelling;
mod cluster;
mod crowds;
mod deadlines;
mod discovery;
mod documents;
mod drain;
mod edge;
mod forecast;
mod frames;
mod fuzzed_injection;
mod garbage;
mod handlers_amqp;
mod handlers_examples;
mod handlers_http;
mod handlers_relay;
mod handlers_scopes;
mod handshake;
mod harness;
mod holds;
mod hostile;
mod idempotency;
mod in_order;
mod injection;
mod keys;
mod kills;
mod lapse;
mod limits;
mod manifests;
mod message;
mod monitoring;
mod one_effect;
mod operator_policy;
mod operators;
mod order;
mod permissions;
mod poison;
mod policies;
mod printed;
mod promises;
mod providers;
mod public_types;
mod push_outcomes;
mod pushes;
mod pushes_along;
mod refusals;
mod rejected;
mod resume;
mod revocation;
mod secrecy;
mod settings;
mod slow_is_alone;
mod start;
mod store;
mod store_faults;
mod store_losses;
mod strategies;
mod tls;
mod token_claims;
mod tokens;
mod topology;
mod traces;
mod vocabulary;
