//! From settings to what a worker works with.
//!
//! What an operator has to fix stops the start, all of it told at once; what
//! recovers by itself (a broker or a store that is away) does not.

use std::sync::Arc;

use shared::bus::rabbitmq::{Access, RabbitmqConfig};
use shared::bus::topology::Names;
use shared::credentials::{CredentialError, Credentials, Register};
use shared::service::admin::AdminError;
use shared::service::clock::Clock;
use shared::service::lifecycle::AnotherCryptoProvider;
use shared::service::telemetry::TelemetryError;
use shared::service::trace::TraceError;
use shared::wire::seal::Sealer;

use super::parts::Limits;
use crate::auth::agreement;
use crate::auth::identity::Issuer;
use crate::config::{JwtAlgorithm, KeyEntry, Seal, WorkerConfig};
use crate::handler::builtin::Application;
use crate::message::opening::Sealing;
use crate::store::{self, ConnectionLimit, HoldLimits, Store, StoreError, UnauthenticatedLimits};
use crate::token::keys::source::SourceError;
use crate::token::verifier::SelfTestError;
use crate::token::{Algorithm, KeyErrors, KeyRefresher, KeySource, KeySources, Rules, Verifier};
use crate::web::NoClient;
use crate::web::server::ListenError;

/// Why a worker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Entries of `jwt-keys` cannot be understood; a line each.
    #[error("{}", lines(.0))]
    KeyEntries(Vec<(KeyEntry, SourceError)>),
    /// The keys are not fit for use; a line each.
    #[error("{0}")]
    Keys(KeyErrors),
    /// Neither keys nor applications can be asked.
    #[error(transparent)]
    Http(#[from] NoClient),
    /// A password, a certificate or a key cannot be used.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// `store-url` is not one.
    #[error("{0}")]
    Store(StoreError),
    /// The signatures of this build cannot be trusted.
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    /// TLS would panic.
    #[error(transparent)]
    Crypto(#[from] AnotherCryptoProvider),
    /// The metrics have no home.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// There is no way for traces.
    #[error("otlp-endpoint: {0}")]
    Trace(#[from] TraceError),
    /// `admin-listen` is taken, or not ours.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The same of `provider-events-listen` or `api-listen`.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl StartError {
    /// Whether the settings are at fault, rather than the machine.
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::KeyEntries(_) | Self::Keys(_) | Self::Credential(_) | Self::Store(_)
        )
    }
}

impl WorkerConfig {
    /// How much of everything.
    pub fn limits(&self) -> Limits {
        let hold = HoldLimits {
            messages: self.hold_max_messages,
            bytes: self.hold_max_bytes.bytes() as u64,
            of_sender: self.relay_max_held,
            ttl: self.hold_ttl,
        };
        let unauthenticated = HoldLimits {
            messages: self.unauthenticated_hold_max_messages.min(hold.messages),
            bytes: (self.unauthenticated_hold_max_bytes.bytes() as u64).min(hold.bytes),
            ttl: self.unauthenticated_hold_ttl.min(hold.ttl),
            ..hold
        };
        Limits {
            namespace: self.broker.namespace.as_str().to_owned(),
            prefetch: self.prefetch,
            concurrency: self.concurrency,
            type_percent: self.concurrency_per_type_percent,
            identity_percent: self.concurrency_per_identity_percent,
            max_deliveries: self.max_deliveries,
            handler_timeout: self.handler_timeout,
            idempotency: self.idempotency_window,
            drain_timeout: self.drain_timeout,
            strategy: self.strategy,
            relay_tells_presence: self.relay_tells_presence,
            rules_digest: agreement::digest(self),
            reply_queues: Some(self.reply_queues.clone()),
            elevation: self.elevation,
            client_claims: self.jwt_client_claims.clone(),
            on_unauthenticated: self.on_unauthenticated.clone(),
            required_scopes: self.required_scopes.clone(),
            scope_claims: self.jwt_scope_claims.to_vec(),
            public_types: self.public_types.clone(),
            message_shards: self.broker.message_shards,
            push_shards: self.push_shards,
            removed_key_grace: self.removed_key_grace,
            connection_events: self.broker.connection_events,
            resume_window: self.resume_window,
            hold_overflow: self.hold_overflow,
            connections_per_identity: self.max_connections_per_identity.map(|most| ConnectionLimit {
                most,
                on_more: self.on_connection_limit,
            }),
            messages_per_second_per_identity: self.messages_per_second_per_identity,
            on_expired_push: self.on_expired_push,
            hold,
            unauthenticated: UnauthenticatedLimits {
                hold: unauthenticated,
                bytes_of_terminator: self.unauthenticated_hold_bytes_per_terminator.bytes() as u64,
                bytes_of_all: self.unauthenticated_hold_bytes_total.bytes() as u64,
            },
        }
    }

    /// What is asked of every token.
    pub fn token_rules(&self) -> Rules {
        Rules {
            audiences: self.jwt_audience.to_vec(),
            audience_claims: self.jwt_audience_claims.to_vec(),
            subject_claim: self.jwt_subject_claim.clone(),
            types: self.jwt_type.clone(),
            leeway: self.jwt_leeway,
            max_size: self.jwt_max_size.bytes(),
            max_lifetime: self.jwt_max_lifetime,
            allow: self.jwt_allow.clone(),
            required_claims: self.jwt_required_claims.clone(),
        }
    }

    /// Whose tokens are accepted.
    pub fn issuers(&self) -> Vec<Issuer> {
        let names = self.jwt_issuer.iter();
        names.map(|name| Issuer::new(name.as_str())).collect()
    }
}

fn lines(wrong: &[(KeyEntry, SourceError)]) -> String {
    let lines: Vec<_> = wrong
        .iter()
        .map(|(entry, fault)| format!("jwt-keys {:?}: {fault}", entry.to_string()))
        .collect();
    lines.join("\n")
}

/// The verifier with its keys, those in files read and checked, and what they were made of.
pub(crate) fn verifier(config: &WorkerConfig) -> Result<(Arc<Verifier>, KeySources), StartError> {
    Verifier::self_test()?;
    let (mut sources, mut wrong) = (Vec::new(), Vec::new());
    for entry in &config.jwt_keys {
        match KeySource::parse(entry.expose(), config.jwks_allow_http) {
            Ok(source) => sources.push(source),
            Err(fault) => wrong.push((entry.clone(), fault)),
        }
    }
    if !wrong.is_empty() {
        return Err(StartError::KeyEntries(wrong));
    }
    let issuers = config.issuers();
    sources.extend(discovered(config, &issuers, &sources));
    let algorithms: Vec<_> = config.jwt_algorithms.iter().copied().map(algorithm).collect();
    let (contents, keys) = KeySources::load(sources, issuers, algorithms).map_err(StartError::Keys)?;
    let verifier = Verifier::new(keys, config.token_rules(), config.token_cache_capacity);
    Ok((Arc::new(verifier), contents))
}

/// The keys of those issuers of which none is named, as far as they can be asked; of the others it is said that they have none.
fn discovered(config: &WorkerConfig, issuers: &[Issuer], named: &[KeySource]) -> Vec<KeySource> {
    let has_keys = |issuer: &Issuer| match issuers {
        [_] => !named.is_empty(),
        _ => named.iter().any(|source| source.issuer() == Some(issuer)),
    };
    let without = issuers.iter().filter(|issuer| !has_keys(issuer));
    without
        .filter_map(|issuer| KeySource::discovered(issuer, &config.reach()).ok())
        .collect()
}

/// Who keeps a verifier's keys up to date. Every server has been asked once.
pub(crate) async fn refresher(
    config: &WorkerConfig,
    contents: KeySources,
    verifier: &Arc<Verifier>,
    register: &Register,
) -> Result<KeyRefresher, StartError> {
    let mut refresher = KeyRefresher::over_http(contents, verifier.clone(), config.jwks_refresh_interval)?;
    refresher.enter_into(register);
    refresher.fetch_first().await;
    Ok(refresher)
}

/// The store, which may be away.
pub(crate) fn store(
    config: &WorkerConfig,
    clock: Arc<dyn Clock>,
    credentials: &mut Credentials,
) -> Result<Arc<dyn Store>, StartError> {
    let settings = store::Settings {
        url: config.store_url.expose(),
        namespace: config.broker.namespace.as_str().to_owned(),
        timeout: config.store_timeout,
        leeway: config.jwt_leeway,
        max_revocations: config.max_revocations,
    };
    if config.store_url.is_memory() {
        return store::open(&settings, clock).map_err(StartError::Store);
    }
    let access = store::Access::load(&config.store_url, &config.store_files(), credentials)?;
    store::open_by(access, &settings, clock).map_err(StartError::Store)
}

/// By what sealed messages are opened.
pub(crate) fn sealing(config: &WorkerConfig, credentials: &mut Credentials) -> Result<Sealing, StartError> {
    let namespace = config.broker.namespace.as_str();
    Ok(Sealing {
        sealer: Sealer::load(&config.broker.seal_keys, namespace, credentials)?,
        required: config.seal == Seal::Required,
    })
}

/// How the broker is reached, and what is declared there.
pub(crate) fn rabbitmq(config: &WorkerConfig, access: Access, application: &Application) -> RabbitmqConfig {
    let mut rabbitmq = RabbitmqConfig::of_program("worker", &config.broker, access);
    let names = Names::new(config.broker.namespace.as_str());
    // A message may be moved there, and an application answer, as soon as there is a connection.
    let needed = application.topology(&names);
    rabbitmq.topology.exchanges.extend(needed.exchanges);
    rabbitmq.topology.queues.extend(names.retries(config.max_deliveries));
    if config.push_shards > 1 {
        let shards = (0..config.push_shards).map(|shard| names.push_shard(shard));
        rabbitmq.topology.queues.extend(shards);
    }
    rabbitmq.topology.queues.extend(needed.queues);
    rabbitmq
}

const fn algorithm(name: JwtAlgorithm) -> Algorithm {
    match name {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Hs384 => Algorithm::HS384,
        JwtAlgorithm::Hs512 => Algorithm::HS512,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Rs384 => Algorithm::RS384,
        JwtAlgorithm::Rs512 => Algorithm::RS512,
        JwtAlgorithm::Ps256 => Algorithm::PS256,
        JwtAlgorithm::Ps384 => Algorithm::PS384,
        JwtAlgorithm::Ps512 => Algorithm::PS512,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::Es384 => Algorithm::ES384,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests {
    use shared::service::config;

    use super::*;

    fn error(keys: &str) -> StartError {
        let pairs = [("jwt-keys", keys), ("jwt-issuer", "https://a"), ("jwt-audience", "app")];
        let config = config::from_pairs::<WorkerConfig>(pairs).expect("only the keys are wrong");
        verifier(&config).err().expect("there is no such key")
    }

    #[test]
    fn every_wrong_key_is_named_on_a_line_of_its_own() {
        for keys in ["/none/a, /none/b", "kid=;/a, http://b", "http://b, https://u:hunter2@c"] {
            let error = error(keys);
            assert!(error.is_configuration());
            assert_eq!(
                error
                    .to_string()
                    .lines()
                    .filter(|line| line.starts_with("jwt-keys \""))
                    .count(),
                2,
                "{error}"
            );
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
