//! What a worker is told: its settings, which are also its manual.

mod api_scope;
mod checks;
mod choices;
mod event_issuer;
mod handler_kind;
mod key_entry;
mod policies;
mod public_types;
mod required_scopes;
mod store_files;
mod store_url;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shared::bus::ReplyQueues;
use shared::service::config::{BrokerConfig, Config, Conflict, LogConfig, OneOrMore, Program, Size, TraceConfig};
use shared::wire::grant::Policy;

use crate::store::OnConnectionLimit;
use crate::token::{ClaimPath, Other, Reach, RequiredClaim, TokenType};

pub use api_scope::ApiScope;
pub use choices::{Elevation, HoldOverflow, JwtAlgorithm, Seal, Strategy};
pub use event_issuer::EventIssuer;
pub use handler_kind::{HandlerKind, UpstreamUrl};
pub use key_entry::KeyEntry;
pub use policies::Policies;
pub use public_types::PublicTypes;
pub use required_scopes::{Reading, RequiredScopes};
pub(crate) use required_scopes::{has as has_scope, scopes_in};
pub use store_files::StoreFiles;
pub use store_url::{StoreForm, StoreUrl};

shared::settings! {
    /// The settings of a worker.
    pub struct WorkerConfig {
        use broker: BrokerConfig,
        use logging: LogConfig,
        use tracing: TraceConfig,
        /// The address and port of `/livez`, `/readyz` and `/metrics`, or `off`. Several workers on one machine need
        /// different ports.
        pub admin_listen: Option<SocketAddr> = "127.0.0.1:9091",
        /// Names under which the admin port may be asked, comma separated, besides IP addresses and `localhost`. A page in
        /// an operator's browser could otherwise read it under a name of its own (DNS rebinding), so other names get 421;
        /// `/livez` answers to all.
        pub admin_allowed_hosts: Vec<String> = "",
        /// Whether `/console` on `admin-listen` serves a live page: token verifications, decisions and their reasons, rates
        /// and latencies. It is unauthenticated: keep the port on loopback or behind a firewall. It never shows tokens or
        /// payloads, and answers as `admin-allowed-hosts` says; from another machine, forward the port.
        pub console: bool = "off",
        /// The store of each connection's authentication, the same for all workers: `redis://user:password@host:port`,
        /// `rediss://` for TLS, `redis-cluster://host:port,host:port` for a cluster and `rediss-cluster://` for one with TLS,
        /// or `memory:` for a single worker that may forget everything when it stops. In a configuration file, user and
        /// password may change while the worker runs; the rest may not.
        pub store_url: StoreUrl = "redis://127.0.0.1:6379",
        /// A file with the name of the store's user, one line; it replaces the user in `store-url`. It is read again when
        /// it changes.
        pub store_username_file: Option<PathBuf> = "off",
        /// A file with the password of the store's user, one line of any characters; it replaces the password in
        /// `store-url`. It is read again when it changes, and the connection is replaced as soon as the store accepts the
        /// new password.
        pub store_password_file: Option<PathBuf> = "off",
        /// The CA certificates, a PEM file, that must have signed the store's certificate, if `store-url` is `rediss://` or
        /// `rediss-cluster://`; `off` for the CAs of this machine (`SSL_CERT_FILE` names others). It is read again when it
        /// changes.
        pub store_ca: Option<PathBuf> = "off",
        /// The client certificate for the store, a PEM file. It and its key are read again when they change.
        pub store_cert: Option<PathBuf> = "off",
        /// The private key of `store-cert`, a PEM file.
        pub store_key: Option<PathBuf> = "off",
        /// The keys that verify tokens, comma separated. Each is a file (a JWKS, or one public key or certificate in PEM or
        /// DER), an HMAC secret named as such (`hmac:PATH`; at least 32 bytes, for HS384 48 and for HS512 64; one trailing
        /// newline does not count), or the `https://` URL of a JWKS (`http://` on this machine only). No other file is ever
        /// used as a secret. Prefix a source with `issuer=ISSUER;` to bind its keys to one issuer, and a path with
        /// `kid=KID;` to name its key: `issuer=ISSUER;kid=KID;hmac:PATH`. An issuer that is an `https://` URL and has no
        /// source here is asked where its keys are (`/.well-known/openid-configuration`, otherwise RFC 8414), so leave this
        /// empty to use only that. Files that change are read again within seconds. A new version that cannot be used, or
        /// is of another kind than before, is refused and the last good keys stay in force, as they do while a key server
        /// is down.
        pub jwt_keys: Vec<KeyEntry> = "",
        /// How often each URL of `jwt-keys` is fetched; a key that was removed is accepted until then. In addition, all are
        /// fetched when a token names an unknown key, but at most once in 30 s.
        pub jwks_refresh_interval: Duration = "5m" in "1s"..="24h",
        /// Hosts other than the issuer's own from which the keys of an issuer may be fetched if its metadata names them,
        /// comma separated, each optionally with a port: `www.googleapis.com` for Google and Firebase.
        pub jwks_allow_hosts: Vec<String> = "",
        /// Whether keys, and an issuer's metadata, may be fetched over plain `http://` from other machines, too. Anyone on
        /// the network path can then supply keys of their own: turn it on only for hosts inside a cluster.
        pub jwks_allow_http: bool = "off",
        /// The accepted issuers of tokens, comma separated, each exactly as in the claim `iss`. `{tenantid}` stands
        /// for the token's claim `tid`, so that `https://login.microsoftonline.com/{tenantid}/v2.0` is every tenant of
        /// Entra ID; restrict the tenants with `jwt-required-claims`.
        pub jwt_issuer: OneOrMore<String>,
        /// The accepted audiences, comma separated: a token is accepted if its claim `aud`, or another of
        /// `jwt-audience-claims`, names one of them.
        pub jwt_audience: OneOrMore<String>,
        /// The claims that may name an accepted audience, comma separated; one that does is enough. If an issuer writes no
        /// `aud`, or only its own, `aud,client_id,azp` accepts the client that requested the token instead (Cognito's
        /// access tokens, Keycloak without an audience mapper).
        pub jwt_audience_claims: OneOrMore<String> = "aud",
        /// The claim that names the subject of a token, 1 to 255 bytes without control characters. It must name one user permanently and uniquely for
        /// the issuer: `oid` for Entra ID, where `sub` differs for each application.
        pub jwt_subject_claim: String = "sub",
        /// The claims that name the client that a token was issued to, comma separated; the first one that a token has is
        /// used. Clients of one subject are kept apart in `idempotency-window` and in `resume`, where one client could
        /// otherwise get what only another may have.
        pub jwt_client_claims: Vec<String> = "azp,client_id",
        /// The accepted signature algorithms, comma separated, out of those that the keys allow. Empty accepts all of
        /// these; list some to be stricter than the keys.
        pub jwt_algorithms: Vec<JwtAlgorithm> = "",
        /// How far the clocks of the issuer and of this machine may differ: a token is valid this long before `nbf` and
        /// after `exp`.
        pub jwt_leeway: Duration = "5s" in "0s"..="5m",
        /// The size in bytes of the largest token that is accepted; a larger one is invalid.
        pub jwt_max_size: Size = "8KiB" in "256"..="64KiB",
        /// The longest lifetime of a token, from `iat` (or, without it, from now) to `exp`; a token with a longer one is
        /// invalid. Keep it as short as your issuer's tokens allow.
        pub jwt_max_lifetime: Duration = "24h" in "1s"..="87600h",
        /// Kinds of tokens that are accepted although they are not access tokens, comma separated: `bound` to a key by
        /// `cnf` (the proof cannot be checked here), `id` tokens, `refresh` and `logout` tokens. Empty refuses all of them,
        /// so that a token that was meant for another purpose is not accepted. If an issuer has only ID tokens, allow `id`.
        pub jwt_allow: Vec<Other> = "",
        /// The claims that every token must have, comma separated, each optionally with its value:
        /// `email_verified=true,tenant`. A value matches a string, a number, a boolean, or an item of a list.
        pub jwt_required_claims: Vec<RequiredClaim> = "",
        /// The accepted values of the header member `typ`, comma separated: `at+jwt` accepts access tokens by RFC 9068 and
        /// no ID token. Empty accepts `JWT` and `at+jwt`, and tokens without `typ`.
        pub jwt_type: Vec<TokenType> = "",
        /// The claims that contain the scopes for `required-scopes`, comma separated, each a string with spaces or a list:
        /// a claim, or a member within one, as in `scope,scp,roles,realm_access.roles`. Name none that users can write.
        pub jwt_scope_claims: OneOrMore<ClaimPath> = "scope,scp",
        /// How many valid tokens are cached, so that their signature is verified once. Raise it above the number of clients
        /// that are active at a time; one entry takes about half a kilobyte.
        pub token_cache_capacity: usize = "100000" in "1"..="100000000",
        /// How a client authenticates: `per-message` uses only a message's own token, and refuses a message without one
        /// with `auth_required` (`auth.authenticate` still renews the connection, for what is pushed to it); `explicit`
        /// uses only `auth.authenticate` (a token in any other message is a `bad_request`); `both` uses a message's own
        /// token or, without one, the connection's.
        pub strategy: Strategy = "both",
        /// How long a message's own token acts if it allows more than its connection's: with `connection` it becomes the
        /// connection's, also for messages without a token, as a renewal does; with `message` it acts for its message only.
        /// A token allows more if it has other claims, except those that only distinguish tokens (`exp`, `jti`). A token
        /// sent with `auth.authenticate` always becomes the connection's.
        pub elevation: Elevation = "connection",
        /// What happens to a message without valid authentication: `ignore` handles it with the identity that its
        /// connection once proved (if it brought an expired token, with that token's claims), `close` refuses it and closes
        /// the connection (4401), `reauthenticate` asks the client for a fresh token and holds the message until it comes.
        /// TYPE=POLICY entries, comma separated, set another policy for some types, with AMQP's wildcards:
        /// `reauthenticate,typing=ignore,admin.#=close`.
        pub on_unauthenticated: Policies = "reauthenticate",
        /// What happens to a reply or a push for a connection with an expired authentication: `ignore` writes it anyway,
        /// `close` closes the connection (4401) and keeps it for the identity's next one, `reauthenticate` asks the client
        /// for a fresh token and holds it until it comes.
        pub on_expired_push: Policy = "reauthenticate",
        /// How long a message, a reply or a push is held before it is dropped and its sender is told. A reply is held for
        /// the connection that asked, and for the one that shows its `resume` key; a push for its identity.
        pub hold_ttl: Duration = "5m" in "1s"..="1h",
        /// How many messages of one connection are held, how many replies to it, and how many pushes for one identity. More
        /// are refused with `hold_overflow`.
        pub hold_max_messages: u64 = "100" in "1"..="10000",
        /// How many bytes of each are held.
        pub hold_max_bytes: Size = "1MiB" in "1KiB"..="64MiB",
        /// How long a message is held for a connection that has never authenticated; such messages are dropped at once when
        /// the connection closes. Keep it above the terminators' `auth-timeout`. A value above `hold-ttl` has no further
        /// effect.
        pub unauthenticated_hold_ttl: Duration = "30s" in "1s"..="1h",
        /// How many messages are held for such a connection.
        pub unauthenticated_hold_max_messages: u64 = "16" in "1"..="10000",
        /// How many bytes are held for it.
        pub unauthenticated_hold_max_bytes: Size = "64KiB" in "1KiB"..="64MiB",
        /// How many bytes are held for all such connections of one terminator, counting about 512 more for each message.
        /// More messages are refused with `busy`.
        pub unauthenticated_hold_bytes_per_terminator: Size = "16MiB" in "1KiB"..="1024GiB",
        /// How many bytes are held for all such connections of all terminators, counted in the same way.
        pub unauthenticated_hold_bytes_total: Size = "64MiB" in "1KiB"..="1024GiB",
        /// How many of the messages that `relay` holds for one identity may come from one sender. All senders together have
        /// half of `hold-max-messages` and of `hold-max-bytes`; the rest is reserved for backends, so that users cannot
        /// keep a backend's pushes out.
        pub relay_max_held: u64 = "25" in "1"..="10000",
        /// Whether a sender of `relay` is told if the recipient is connected (`delivered` or `held`), or only that the
        /// message was accepted (`accepted`).
        pub relay_tells_presence: bool = "on",
        /// On how many queues pushes wait for workers, all of one identity on one of them and in order. With one, a single
        /// worker at a time delivers all pushes. With more, it only passes them on, to `<namespace>.push.0` and so on, and
        /// several workers do the rest. All workers should have the same number. While it changes, pushes on their way may
        /// overtake each other; none is lost.
        pub push_shards: u16 = "1" in "1"..="16",
        /// What handles an authenticated message: `echo` answers with its payload, `relay` pushes it to another identity,
        /// `http:URL` posts it to an application (`http:https://app.example.com/messages`), `amqp` publishes it to
        /// applications on the exchange `<namespace>.app`.
        pub handler: HandlerKind = "echo",
        /// How long a message is remembered by its `id`, or `off`. Within that time the same message of the same identity
        /// gets the same reply again and has no second effect, and another message with its `id` is refused with
        /// `duplicate`. It costs one call of the store before the handler and one after it. All workers must agree on it.
        pub idempotency_window: Option<Duration> = "off" in "1s"..="24h",
        /// The scopes that a message's token must have, in a claim of `jwt-scope-claims`, by the message's type, comma
        /// separated: `orders.create=orders:write,admin.#=admin`. As in AMQP's topics `*` is one word and `#` any number:
        /// `admin.#` is `admin` and everything under it, `admin.*` only `admin.` and one word more, `#` every type. Several
        /// scopes are separated by spaces, and every entry that matches a type must be met. Prefix an entry with
        /// `issuer=ISSUER;` or `aud=AUDIENCE;` to apply it to those tokens only; `-` is a scope that no token has:
        /// `issuer=https://partner.example;admin.#=-`. A token for several accepted audiences may do what one of them
        /// allows. A token without the scope gets `forbidden`.
        pub required_scopes: RequiredScopes = "",
        /// The types of messages that anyone may send, comma separated, with AMQP's wildcards: `status,ticker.*`. Without a
        /// valid token of its own such a message is handled as anonymous, whatever the identity and the state of its
        /// connection; with one, it is handled like any other. The terminators' limits for unauthenticated connections
        /// apply, `auth-timeout` among them: turn that off, or extend it, if some clients never authenticate.
        pub public_types: PublicTypes = "",
        /// Whether messages that terminators forward must be sealed (`seal-keys`): `accepted` takes them either way;
        /// `required` dead-letters a message that is not sealed, and tells its sender `internal`. Injected messages are
        /// never sealed, and always accepted. Set it to `required` when all terminators seal.
        pub seal: Seal = "accepted",
        /// The queues that `reply_to` of an injected message or a push may name, besides direct replies
        /// (`amq.rabbitmq.reply-to`): regular expressions of queue names, comma separated. The default allows the queues
        /// that RabbitMQ itself has named. Queues of a Countersign namespace are never allowed.
        pub reply_queues: ReplyQueues = r"^amq\.gen-",
        /// How many unacknowledged messages the broker may give this worker. Higher is faster, up to a point. Messages that
        /// have to wait here move to a worker that is idle. Where messages are large, fewer are given: about 64 MiB, going
        /// by those that came last. Of injected messages, with a size that is not known in advance, it is at most 64.
        pub prefetch: u16 = "512" in "1"..="65535",
        /// How many messages this worker handles at the same time. Raise it for handlers that mostly wait. At most half of
        /// them are injected messages. Verifying, authenticating and renewing do not count. Keep `prefetch` at twice this
        /// or more, or a handler that hangs also delays logins.
        pub concurrency: usize = "256" in "1"..="65535",
        /// How much of `concurrency` messages of one `type` may take, in percent of what other types leave, so that one
        /// application that hangs does not delay the messages of another.
        pub concurrency_per_type_percent: usize = "75" in "1"..="100",
        /// The same for messages of one identity, in percent of what other identities leave. Waiting messages take turns,
        /// identity by identity. If too many wait and none moves, the newest of the type with the most waiting are refused
        /// with `busy`.
        pub concurrency_per_identity_percent: usize = "25" in "1"..="100",
        /// How often the broker delivers a message that workers fail to handle before it is dead-lettered. The queue keeps
        /// the number that it was declared with, so all workers must agree on it.
        pub max_deliveries: u32 = "5" in "2"..="20",
        /// How many connections of one identity may be authenticated at a time, on all terminators together, or `off`. A
        /// connection counts until it closes or logs out; one that did not close properly, until it is found gone.
        pub max_connections_per_identity: Option<u64> = "off" in "1"..="1000",
        /// What happens to one connection more: `refuse` answers it with `forbidden` and closes it with 4505; `close-oldest`
        /// accepts it, and closes the one that was authenticated first with 4505.
        pub on_connection_limit: OnConnectionLimit = "refuse",
        /// How many messages one identity may send in a second, on all its connections and through the queue together, or
        /// `off`; as many may come at once. More are refused with `rate_limited` and `retry_after_ms`. Each message then
        /// costs one more call of the store; while that is unavailable, messages are not limited.
        pub messages_per_second_per_identity: Option<u32> = "off" in "1"..="1000000",
        /// Which pushes are dropped when more are held than `hold-max-messages` or `hold-max-bytes` allow: the `newest`
        /// (its producer gets the outcome `refused`, `hold_overflow`), or the `oldest`, to make room for it (the producer
        /// of the oldest gets that outcome). In either case the identity's next connection is told how many were `missed`.
        pub hold_overflow: HoldOverflow = "newest",
        /// How long after its connection closed a client still gets, with its `resume` key, every push to its identity in
        /// the meantime, including those that other connections received: each push is kept for each such connection, 16 of
        /// an identity at most, within `hold-ttl` and the limits of a hold. With `off` it gets only pushes that no
        /// connection received.
        pub resume_window: Option<Duration> = "2m" in "1s"..="1h",
        /// How long the handler, and the application behind it, may take for one message before its client is told `busy`.
        pub handler_timeout: Duration = "30s" in "10ms"..="1h",
        /// How long connections may go on that a key has authenticated which is removed from `jwt-keys`. Their clients are
        /// asked for a fresh token at once; connections without one are closed with 4503 when this time is over. With `0s`
        /// they are closed as soon as a worker sees that the key is gone.
        pub removed_key_grace: Duration = "30s" in "0s"..="24h",
        /// How many revocations may be in force at a time. Each is kept for as long as a token that it applies to could
        /// live (`jwt-max-lifetime`, and what is held), so this number divided by that time is the sustainable rate. None
        /// displaces another: one too many is refused, and its producer told. Each takes some 150 bytes in every worker and
        /// terminator, and 300 in the store.
        pub max_revocations: usize = "1000000" in "1"..="2000000",
        /// The address and port on which identity providers report logouts by HTTP, or `off`: OpenID Connect Back-Channel
        /// Logout (`/backchannel-logout`), Security Event Tokens by push (`/security-events`) and Okta's Global Token
        /// Revocation (`/global-token-revocation`). Only events that the issuer has signed become revocations. It speaks
        /// plain HTTP: put TLS in front of it.
        pub provider_events_listen: Option<SocketAddr> = "off",
        /// The audiences that such events may be meant for, comma separated: the client that logs in, the receiver of a
        /// stream, the URL that Okta calls. Empty means those of `jwt-audience`.
        pub provider_events_audience: Vec<String> = "",
        /// Issuers of `jwt-issuer` that send events about the subjects of another issuer, comma separated, as in
        /// `https://acme.okta.com=https://acme.okta.com/oauth2/default`. The subject of such an event is compared with
        /// `jwt-subject-claim` of the other issuer's tokens. All other issuers may only revoke their own subjects.
        pub provider_events_issuers: Vec<EventIssuer> = "",
        /// The address and port on which backends push, revoke and look at connections by HTTP, or `off`: see
        /// docs/http-api.md. It speaks plain HTTP: put TLS in front of it.
        pub api_listen: Option<SocketAddr> = "off",
        /// A file with the keys of those backends, one a line: a name, the key (32 to 256 characters) or
        /// `sha256:` and the SHA-256 of the key in hexadecimal, and what the key allows, comma separated: `push`, `revoke`, `inspect`.
        /// It is read again when it changes.
        pub api_keys: Option<PathBuf> = "off",
        /// The scope by which a token of `jwt-issuer` is accepted in place of a key, or `off`: with `countersign` a token that
        /// has this scope in a claim of `jwt-scope-claims` may do everything, one with `countersign:push`,
        /// `countersign:revoke` or `countersign:inspect` that alone. Choose a scope that no token of a user has.
        pub api_scope: Option<ApiScope> = "off",
        /// How many requests a second each key, and each subject of a token, may make; a second's worth may come at once. More
        /// get 429. Each worker counts for itself.
        pub api_requests_per_second: u32 = "100" in "1"..="100000",
        /// The size in bytes of the largest request body; a larger one gets 413.
        pub api_max_body_size: Size = "1MiB" in "1KiB"..="16MiB",
        /// How long one call of the store may take. After that the message that needs it is refused with
        /// `auth_unavailable`: its client is neither authenticated nor logged out.
        pub store_timeout: Duration = "500ms" in "10ms"..="1m",
        /// How long a worker that is asked to stop waits for the messages that it is handling. What it cannot finish goes
        /// back to the broker and to another worker. The supervisor must wait longer than this before it kills the process.
        pub drain_timeout: Duration = "20s" in "0s"..="1h",
    }
}

impl WorkerConfig {
    /// The files of the store.
    pub fn store_files(&self) -> StoreFiles {
        StoreFiles {
            username: self.store_username_file.clone(),
            password: self.store_password_file.clone(),
            ca: self.store_ca.clone(),
            certificate: self.store_cert.clone(),
            key: self.store_key.clone(),
        }
    }

    /// Which servers are asked for keys.
    pub fn reach(&self) -> Reach {
        Reach {
            allow_http: self.jwks_allow_http,
            hosts: self.jwks_allow_hosts.clone(),
        }
    }
}

impl Config for WorkerConfig {
    const PROGRAM: Program = Program {
        name: "worker",
        version: env!("CARGO_PKG_VERSION"),
        about: "Authenticates every message by its own token, handles it and answers",
        examples: "\
Examples:
  On this machine, with a broker and a Redis on it:
    worker --jwt-keys hmac:secret.txt --jwt-issuer https://login.example.com --jwt-audience chat

  With the public keys of two issuers:
    worker --jwt-keys 'issuer=https://a.example;/etc/keys/a.pem,issuer=https://b.example;/etc/keys/b.json' \\
        --jwt-issuer https://a.example,https://b.example --jwt-audience chat

  With the keys that an issuer says are its own:
    worker --jwt-issuer https://login.example.com --jwt-audience chat

  With passwords in files, which may be replaced while it runs:
    worker --config /etc/countersign.toml --amqp-password-file /etc/countersign/amqp-password \\
        --store-password-file /etc/countersign/store-password

  The settings that would be in force, and where each came from:
    worker --config /etc/countersign.toml --print-config",
    };

    fn logging(&self) -> &LogConfig {
        &self.logging
    }

    fn check(&self) -> Vec<Conflict> {
        self.conflicts()
    }
}

#[cfg(test)]
mod tests {
    use shared::service::config::{self, Settings, is_a_setting};

    use super::*;

    const REQUIRED: [(&str, &str); 3] = [("jwt-keys", "k"), ("jwt-issuer", "i"), ("jwt-audience", "a")];

    fn with<'a>(pairs: &[(&'a str, &'a str)]) -> Result<WorkerConfig, config::ConfigErrors> {
        config::from_pairs(REQUIRED.iter().chain(pairs).copied())
    }

    #[test]
    fn issuer_and_audience_are_asked_for_at_once_and_keys_where_nobody_could_find_them() {
        let errors = config::from_pairs::<WorkerConfig>([]).unwrap_err().to_string();
        assert_eq!(errors.lines().count(), 2, "{errors}");
        for (name, _) in &REQUIRED[1..] {
            assert!(errors.contains(&format!("{name} (default): is required")), "{errors}");
        }
        for (name, _) in REQUIRED {
            assert!(with(&[(name, "")]).is_err(), "{name}");
        }
        let keyless = |issuer| config::from_pairs::<WorkerConfig>([("jwt-issuer", issuer), ("jwt-audience", "a")]);
        assert!(keyless("https://login.example").is_ok());
        assert!(
            keyless("i")
                .unwrap_err()
                .to_string()
                .contains("jwt-keys (default): is required")
        );
        for (issuer, why) in [
            ("http://login.example", "jwks-allow-http"),
            ("https://u:hunter2@login.example", "password"),
            ("https://login.example/{tenantid}/{tenantid}", "more than one"),
        ] {
            let errors = keyless(issuer).unwrap_err().to_string();
            assert!(errors.contains(why) && errors.contains("jwt-issuer"), "{errors}");
        }
        let plain = [
            ("jwt-issuer", "http://login.example"),
            ("jwt-audience", "a"),
            ("jwks-allow-http", "true"),
        ];
        let doubts = config::from_pairs::<WorkerConfig>(plain).unwrap().doubts();
        assert!(
            doubts.iter().any(|doubt| doubt.contains("jwks-allow-http")),
            "{doubts:?}"
        );
    }

    #[test]
    fn the_defaults_are_those_of_the_manual() {
        let config = with(&[]).unwrap();
        assert_eq!(config.jwt_leeway, Duration::from_secs(5));
        assert_eq!(config.jwt_max_lifetime, Duration::from_secs(86_400));
        assert_eq!(
            (config.prefetch, config.concurrency, config.max_deliveries),
            (512, 256, 5)
        );
        assert!(config.jwt_algorithms.is_empty());
        assert_eq!(config.strategy, Strategy::Both);
        assert_eq!(config.on_unauthenticated, Policies::all(Policy::Reauthenticate));
        assert_eq!(config.on_expired_push, Policy::Reauthenticate);
        assert_eq!(
            (config.hold_ttl, config.hold_max_messages, config.hold_max_bytes.bytes()),
            (Duration::from_secs(300), 100, 1_024 * 1_024)
        );
    }

    #[test]
    fn every_setting_is_in_the_list_of_all_and_explains_itself() {
        for setting in WorkerConfig::settings() {
            assert!(is_a_setting(&setting.name), "{}", setting.name);
            assert!(setting.doc.ends_with('.'), "{}", setting.name);
        }
    }

    #[test]
    fn every_bound_can_be_read_and_is_kept() {
        for setting in WorkerConfig::settings() {
            let Some((least, most)) = setting.range else { continue };
            for bound in [least, most] {
                with(&[(setting.name.as_str(), bound)]).unwrap();
            }
            let beyond = format!("1{most}");
            let errors = with(&[(setting.name.as_str(), &beyond)]).unwrap_err().to_string();
            assert!(errors.contains(most), "{errors}");
        }
    }

    #[test]
    fn a_rule_for_the_tokens_of_nobody_is_a_mistake() {
        for (rule, known) in [("issuer=x;a=b", "jwt-issuer"), ("aud=x;a=b", "jwt-audience")] {
            let errors = with(&[("required-scopes", rule)]).unwrap_err().to_string();
            assert!(errors.contains("required-scopes") && errors.contains(known), "{errors}");
        }
        assert!(with(&[("required-scopes", "issuer=i;aud=a;a=b")]).is_ok());
    }

    #[test]
    fn a_port_for_backends_and_its_keys_go_together() {
        let errors = |pairs: &[(&str, &str)]| with(pairs).unwrap_err().to_string();
        assert!(errors(&[("api-listen", "127.0.0.1:0")]).contains("`api-keys` or `api-scope`"));
        for credential in [("api-keys", "/keys"), ("api-scope", "countersign")] {
            assert!(errors(&[credential]).contains("`api-listen`"), "{credential:?}");
            assert!(with(&[("api-listen", "127.0.0.1:0"), credential]).is_ok());
        }
    }

    #[test]
    fn what_may_not_be_meant_is_told() {
        let doubts = |pairs: &[(&str, &str)]| with(pairs).unwrap().doubts().join("\n");
        assert_eq!(doubts(&[("required-scopes", "admin.#=admin")]), "");
        assert!(doubts(&[("required-scopes", "admin.*=admin")]).contains("`admin.#`"));
        let several = [("required-scopes", "a=b"), ("jwt-issuer", "i,j")];
        assert!(doubts(&several).contains("several issuers"));
        let apart = [("required-scopes", "issuer=i;a=b"), ("jwt-issuer", "i,j")];
        assert_eq!(doubts(&apart), "");
    }

    #[test]
    fn an_algorithm_is_one_of_the_list_and_none_is_not() {
        let config = with(&[("jwt-algorithms", "EdDSA, ES256")]).unwrap();
        assert_eq!(config.jwt_algorithms, [JwtAlgorithm::EdDsa, JwtAlgorithm::Es256]);
        let errors = with(&[("jwt-algorithms", "ES256,none")]).unwrap_err().to_string();
        assert!(errors.contains("`HS256`") && errors.contains("`EdDSA`"), "{errors}");
    }

    #[test]
    fn keys_keep_their_grammar_for_whoever_reads_them() {
        let config = with(&[("jwt-keys", "issuer=https://a;kid=1;/k/a.pem, /k/b.json")]).unwrap();
        let entries: Vec<_> = config.jwt_keys.iter().map(KeyEntry::expose).collect();
        assert_eq!(entries, ["issuer=https://a;kid=1;/k/a.pem", "/k/b.json"]);
    }
}
