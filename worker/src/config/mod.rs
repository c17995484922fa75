//! What a worker is told: its settings, which are also its manual.

mod event_issuer;
mod handler_kind;
mod key_entry;
mod policies;
mod public_types;
mod required_scopes;
mod store_url;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shared::bus::ReplyQueues;
use shared::service::config::{BrokerConfig, Config, Conflict, LogConfig, OneOrMore, Program, Size, TraceConfig};
use shared::wire::grant::Policy;

use crate::auth::identity::{Issuer, TENANT};
use crate::store::StoreFiles;
use crate::token::{ClaimPath, Discovery, Other, Reach, RequiredClaim, TokenType, UrlError};

pub use event_issuer::EventIssuer;
pub use handler_kind::{HandlerKind, UpstreamUrl};
pub use key_entry::KeyEntry;
pub use policies::Policies;
pub use public_types::PublicTypes;
pub use required_scopes::{Reading, RequiredScopes};
pub use store_url::{StoreForm, StoreUrl};

shared::settings! {
    /// The settings of a worker.
    pub struct WorkerConfig {
        use broker: BrokerConfig,
        use logging: LogConfig,
        use tracing: TraceConfig,
        /// The address and port of `/livez`, `/readyz` and `/metrics`, or `off`. Several workers on one machine need
        /// one each.
        pub admin_listen: Option<SocketAddr> = "127.0.0.1:9091",
        /// Whether `/console` on `admin-listen` is a page that shows what happens as it happens: verdicts, what
        /// is decided and why, rates and latencies. It has
        /// no lock, so whoever reaches the port may watch; tokens and payloads are never shown. It answers to IP addresses and
        /// `localhost` alone: from elsewhere, forward its port to your machine.
        pub console: bool = "off",
        /// The store of each connection's authentication, the same for all workers: `redis://user:password@host:port`,
        /// `rediss://` for TLS, `redis-cluster://host:port,host:port` for a cluster, or `memory:` for a single worker
        /// that may forget everything when it ends. Where it stands in a file, user and password there may change while
        /// the worker runs; anything else of it may not.
        pub store_url: StoreUrl = "redis://127.0.0.1:6379",
        /// A file with the name of the store's user, one line, instead of what `store-url` says. It is read again when it changes.
        pub store_username_file: Option<PathBuf> = "off",
        /// A file with the password of the store's user, one line of any letters, instead of what `store-url` says. It is read
        /// again when it changes, and the connection exchanged as soon as the store takes what is new.
        pub store_password_file: Option<PathBuf> = "off",
        /// The CA certificates, a PEM file, by which the store's certificate is believed, where `store-url` is `rediss://`; `off`
        /// for those of this machine (`SSL_CERT_FILE` names others). It is read again when it changes.
        pub store_ca: Option<PathBuf> = "off",
        /// The certificate, a PEM file, that we show the store. It and its key are read again when they change.
        pub store_cert: Option<PathBuf> = "off",
        /// The private key of `store-cert`, a PEM file.
        pub store_key: Option<PathBuf> = "off",
        /// The keys that sign tokens, comma separated; leave it out, and an issuer that is an `https://` URL is asked where its
        /// keys are (`/.well-known/openid-configuration`, or else RFC 8414), as is each of several of which no key is named here. Each is a file (a JWKS, or one public key or certificate in PEM or
        /// DER), an HMAC secret named as one (`hmac:PATH`; 32 bytes or more, for HS384 48 and for HS512 64; one trailing
        /// newline does not count), or the `https://` URL of a JWKS (`http://` on this machine alone). Nothing else is
        /// ever a secret. Before path or URL may stand whose keys they are, and before a path the key's name:
        /// `issuer=ISSUER;kid=KID;hmac:PATH`. Files that change are read again within seconds. What is new but not fit for
        /// use, or of another kind than before, is not taken, and the last good keys stay, as they do while a key server is away.
        pub jwt_keys: Vec<KeyEntry> = "",
        /// How often each URL of `jwt-keys` is asked for its keys; a key that was removed is accepted until then.
        /// Besides, all are asked when a token names a key that is unknown, but only once in 30 s.
        pub jwks_refresh_interval: Duration = "5m" in "1s"..="24h",
        /// The hosts besides an issuer's own at which the keys may be that it says are its own, comma separated, each perhaps with a
        /// port: `www.googleapis.com` for Google and Firebase.
        pub jwks_allow_hosts: Vec<String> = "",
        /// Whether keys, and what an issuer says of them, may be fetched over plain `http://` from other machines too. Whoever is on
        /// the way there can then let in anybody: switch it on for hosts inside a cluster alone.
        pub jwks_allow_http: bool = "off",
        /// The issuers whose tokens are accepted, comma separated, each exactly as in the claim `iss`. `{tenantid}` in one is
        /// what a token has in the claim `tid`, so that `https://login.microsoftonline.com/{tenantid}/v2.0` is every tenant of
        /// Entra ID; say with `jwt-required-claims` which of them you mean.
        pub jwt_issuer: OneOrMore<String>,
        /// The audiences we go by, comma separated: a token is accepted if its claim `aud`, or another of
        /// `jwt-audience-claims`, names one of them.
        pub jwt_audience: OneOrMore<String>,
        /// The claims that may name an audience of ours, comma separated; one that does is enough. Where an issuer writes no
        /// `aud`, or only one of its own, `aud,client_id,azp` lets the client count that asked for the token (Cognito's access tokens,
        /// Keycloak without an audience mapper).
        pub jwt_audience_claims: OneOrMore<String> = "aud",
        /// The claim that names whom a token speaks for, of 1 to 255 bytes. It must name somebody for good and nobody else of the
        /// issuer: `oid` for Entra ID, where `sub` is another for each application.
        pub jwt_subject_claim: String = "sub",
        /// The claims that name the client a token was issued to, comma separated; the first that a token has counts. Clients
        /// of one subject are told apart where one could get at what another may: in `idempotency-window`, and by `resume`.
        pub jwt_client_claims: Vec<String> = "azp,client_id",
        /// The algorithms of signatures that are accepted, comma separated, of those that the keys allow. Empty
        /// accepts all of these; name some to be stricter than the keys.
        pub jwt_algorithms: Vec<JwtAlgorithm> = "",
        /// By how much the clocks of the issuer and of this machine may differ: a token is taken for valid this much
        /// before `nbf` and after `exp`.
        pub jwt_leeway: Duration = "5s" in "0s"..="5m",
        /// The size in bytes of the largest token that is looked at; a larger one is invalid.
        pub jwt_max_size: Size = "8KiB" in "256"..="64KiB",
        /// The longest life of a token, from `iat` (or, without it, from now) to `exp`; one that would live longer is
        /// invalid. Keep it as short as your issuer's tokens let you.
        pub jwt_max_lifetime: Duration = "24h" in "1s"..="87600h",
        /// Kinds of tokens that are accepted though they are no access tokens, comma separated: `bound` to a key by `cnf`,
        /// whose proof cannot be checked here, `id` tokens, `refresh` and `logout` tokens. Empty refuses all of them, so
        /// that nobody gets in by a token that was meant for something else. Where an issuer has nothing but ID tokens,
        /// allow `id`.
        pub jwt_allow: Vec<Other> = "",
        /// The claims that every token must have, comma separated, each with its value where that counts:
        /// `email_verified=true,tenant`. A value is met by a text, a number, a truth value, or an item of a list.
        pub jwt_required_claims: Vec<RequiredClaim> = "",
        /// What the header member `typ` of tokens must say, comma separated: `at+jwt` lets access tokens by RFC 9068 in and no
        /// ID token. Empty accepts `JWT` and `at+jwt`, and tokens that do not say.
        pub jwt_type: Vec<TokenType> = "",
        /// The claims in which the scopes of `required-scopes` stand, comma separated, each as one text with spaces or a list:
        /// a claim, or a member within one, as in `scope,scp,roles,realm_access.roles`. Name none that users can write.
        pub jwt_scope_claims: OneOrMore<ClaimPath> = "scope,scp",
        /// How many valid tokens are remembered, so that their signature is checked once. Raise it above the number
        /// of clients that are active at a time; one takes about half a kilobyte.
        pub token_cache_capacity: usize = "100000" in "1"..="100000000",
        /// By what a client proves who it is: `per-message` counts only a message's own token, and refuses a message that
        /// has none with `auth_required` (`auth.authenticate` still
        /// renews the connection, for what is pushed to it), `explicit` only `auth.authenticate` (a token in any other
        /// message is a `bad_request`), and `both` takes a message's own token or else the connection's.
        pub strategy: Strategy = "both",
        /// For how long a message's own token acts if it allows more than its connection's: `connection` lets it become the
        /// connection's, also for messages that come without a token, as a renewal does; `message` lets it act for its
        /// message alone. Claims that differ count as more, but those that only tell one token from another (`exp`, `jti`).
        /// What is shown with `auth.authenticate` is always the connection's.
        pub elevation: Elevation = "connection",
        /// What happens to a message that comes without valid authentication: `ignore` handles it in the name of whoever
        /// was once proved on its connection (with its own token's claims, if it brought one that has expired), `close` refuses it and closes the connection (4401), `reauthenticate` asks
        /// the client for a fresh token and holds the message until it comes. Comma separated may follow TYPE=POLICY for
        /// types of messages that differ, with AMQP's wildcards: `reauthenticate,typing=ignore,admin.#=close`.
        pub on_unauthenticated: Policies = "reauthenticate",
        /// What happens to an answer or a push for a connection whose authentication has expired: `ignore` writes it all
        /// the same, `close` closes the connection (4401) and keeps it for the identity's next one, `reauthenticate` asks
        /// the client for a fresh token and holds it until it comes.
        pub on_expired_push: Policy = "reauthenticate",
        /// How long a message, an answer or a push is held, before it is given up and whoever can act is told so. An answer
        /// is held for the connection that asked, and for the one that shows its `resume` key; a push for its identity.
        pub hold_ttl: Duration = "5m" in "1s"..="1h",
        /// How many messages are held of one connection, how many answers to it, and how many pushes for one identity. What
        /// comes beyond is refused with `hold_overflow`.
        pub hold_max_messages: u64 = "100" in "1"..="10000",
        /// How many bytes of each are held.
        pub hold_max_bytes: Size = "1MiB" in "1KiB"..="64MiB",
        /// The same for a connection that nobody has ever proved to be on, as long as that is so; it is forgotten at once
        /// when such a connection closes. Keep it above the terminators' `auth-timeout`. It counts for no more than `hold-ttl`.
        pub unauthenticated_hold_ttl: Duration = "30s" in "1s"..="1h",
        /// How many messages are held of such a connection.
        pub unauthenticated_hold_max_messages: u64 = "16" in "1"..="10000",
        /// How many bytes are held of it.
        pub unauthenticated_hold_max_bytes: Size = "64KiB" in "1KiB"..="64MiB",
        /// How many bytes are held of all such connections of one terminator, together with some 512 for each message. What
        /// comes beyond is refused with `busy`.
        pub unauthenticated_hold_bytes_per_terminator: Size = "16MiB" in "1KiB"..="1024GiB",
        /// How many bytes are held of all such connections of all terminators, counted likewise.
        pub unauthenticated_hold_bytes_total: Size = "64MiB" in "1KiB"..="1024GiB",
        /// How many messages that `relay` holds for one identity may be one sender's. All senders together have half of
        /// `hold-max-messages` and of `hold-max-bytes`; the rest is for backends, whose pushes no user can keep out.
        pub relay_max_held: u64 = "25" in "1"..="10000",
        /// Whether who sends by `relay` is told if the recipient is there (`delivered` or `held`), or only that the message
        /// was taken (`accepted`).
        pub relay_tells_presence: bool = "on",
        /// On how many queues pushes wait for workers, each identity's on one of them and in its order. One means that one worker at a
        /// time brings all pushes on their way; with more it only passes them on, to `<namespace>.push.0` and so on, and several
        /// workers do the rest. All workers should have the same number. While it is being changed, pushes that are under way may overtake each
        /// other; none is lost.
        pub push_shards: u16 = "1" in "1"..="16",
        /// What handles a message once it is authenticated: `echo` answers with its payload, `relay` pushes it to another
        /// identity, `http:URL` posts it to an application (`http:https://app.example.com/messages`), `amqp` publishes it
        /// to applications on the exchange `<namespace>.app`.
        pub handler: HandlerKind = "echo",
        /// For how long a message is remembered by its `id`, or `off`. Within that time the same message of the same
        /// identity gets the same answer again and has no second effect, and another with its `id` is refused with
        /// `duplicate`. It costs a call of the store before and one after the handler. All workers must agree on it.
        pub idempotency_window: Option<Duration> = "off" in "1s"..="24h",
        /// The scopes that a message's token must have, in a claim of `jwt-scope-claims`, by the message's type, comma separated:
        /// `orders.create=orders:write,admin.#=admin`. As in AMQP's topics `*` is one word and `#` any number: `admin.#` is
        /// `admin` and all under it, `admin.*` only `admin.` and one word more, `#` all;
        /// several scopes are separated by spaces, and every entry that means a type must be met. Before an entry that is
        /// for some tokens only stands `issuer=ISSUER;` or `aud=AUDIENCE;`, and `-` is a scope that no token has:
        /// `issuer=https://partner.example;admin.#=-`. A token for several of our audiences may what it may by one of
        /// them. Who lacks a scope is told `forbidden`.
        pub required_scopes: RequiredScopes = "",
        /// The types of messages that anybody may send, comma separated, with AMQP's wildcards: `status,ticker.*`. Without a good
        /// token of its own such a message is handled as nobody's, whoever its connection is, and answered whatever its state;
        /// with one, it is handled as any other. The terminators' limits for connections that are nobody's hold, their
        /// `auth-timeout` among them: switch that off, or give such clients time, if some never authenticate.
        pub public_types: PublicTypes = "",
        /// Whether messages that terminators forward must be sealed (`seal-keys`): `accepted` takes them either way, `required` keeps
        /// what is not sealed as a dead letter, and tells its sender `internal`. What is injected is never sealed, and is taken in any
        /// case. Switch it on when all terminators seal.
        pub seal: Seal = "accepted",
        /// Into which queues injected messages may have their answers and producers their outcomes, by their `reply_to`, besides
        /// direct replies (`amq.rabbitmq.reply-to`): regular expressions, comma separated, of names of queues. The default
        /// are queues that RabbitMQ has named for whoever declared them. Queues of any namespace are never among them.
        pub reply_queues: ReplyQueues = r"^amq\.gen-",
        /// How many messages the broker may give this worker ahead of their acknowledgement. Higher is faster, up to
        /// a point. What of it has to wait for its turn goes to a worker that has nothing to do. Of injected messages,
        /// whose size nobody knows beforehand, it is 64 at most.
        pub prefetch: u16 = "512" in "1"..="65535",
        /// How many messages this worker handles at the same time. Raise it for handlers that mostly wait. Injected messages
        /// are at most half of them. To prove who sent a message, to authenticate and to renew waits for none of that. Keep
        /// `prefetch` at twice this, or a handler that hangs keeps logins waiting all the same.
        pub concurrency: usize = "256" in "1"..="65535",
        /// How much of `concurrency` messages of one `type` may take, in percent of what other types leave: so that an
        /// application that hangs does not keep the messages of another waiting.
        pub concurrency_per_type_percent: usize = "75" in "1"..="100",
        /// The same for messages of one identity, in percent of what other identities leave. Those who wait take turns,
        /// identity by identity. If too much waits and nothing moves, the newest messages of the type that most of them have are
        /// told `busy`.
        pub concurrency_per_identity_percent: usize = "25" in "1"..="100",
        /// How often the broker gives out a message whose handling fails, before it goes to the dead letters. The
        /// queue keeps the number it was declared with, so that all workers must agree on it.
        pub max_deliveries: u32 = "5" in "2"..="20",
        /// Which pushes give way when more are held than `hold-max-messages` or `hold-max-bytes`: the `newest`, whose producer is
        /// told `refused`, `hold_overflow`, or the `oldest`, which makes room for it, and whose producer is told that then. In
        /// either case whoever comes next is told how many were `missed`.
        pub hold_overflow: HoldOverflow = "newest",
        /// How long a connection may be gone for its client to get, with its `resume` key, all that its identity was pushed
        /// meanwhile, although others of it have got that: each push is kept for each such connection, 16 of an identity at
        /// most, within `hold-ttl` and the bounds of a hold. With `off` it gets only what nobody has got.
        pub resume_window: Option<Duration> = "2m" in "1s"..="1h",
        /// How long the handler, and the application behind it, may take for one message, before its client is told
        /// `busy`.
        pub handler_timeout: Duration = "30s" in "10ms"..="1h",
        /// The most revocations that are in force at a time. Each is kept for as long as a token that it means could live
        /// (`jwt-max-lifetime`, and what is held), so this number, divided by that time, is the rate that can go on for
        /// ever. None is dropped for another: one that is too many is refused, and its producer told. Each takes some 150 bytes
        /// in every worker and terminator, and 300 in the store.
        pub max_revocations: usize = "1000000" in "1"..="2000000",
        /// The address and port on which identity providers say by HTTP that somebody is logged out, or `off`: OpenID Connect
        /// Back-Channel Logout (`/backchannel-logout`), Security Event Tokens by push (`/security-events`) and Okta's Global Token
        /// Revocation (`/global-token-revocation`). What the issuer has signed becomes a revocation; nothing else is believed. It
        /// speaks plain HTTP: put TLS before it.
        pub provider_events_listen: Option<SocketAddr> = "off",
        /// The audiences for which such events may be meant, comma separated: the client that logs in, the receiver of a stream, the
        /// URL that Okta was given. Empty means those of `jwt-audience`.
        pub provider_events_audience: Vec<String> = "",
        /// Issuers of `jwt-issuer` whose events are about the subjects of another, comma separated, as in
        /// `https://acme.okta.com=https://acme.okta.com/oauth2/default`. What such an event names as its subject is what the other's
        /// tokens have in `jwt-subject-claim`. All other issuers speak of their own subjects alone.
        pub provider_events_issuers: Vec<EventIssuer> = "",
        /// How long the store may take for one answer. A message that needs it is then refused with
        /// `auth_unavailable`: neither let in nor logged out.
        pub store_timeout: Duration = "500ms" in "10ms"..="1m",
        /// How long a worker that is asked to end waits for the messages it is handling. What it cannot finish goes
        /// back to the broker and to another worker. Whoever stops it must wait longer than this before killing it.
        pub drain_timeout: Duration = "20s" in "0s"..="1h",
    }
}

impl WorkerConfig {
    fn seals_without_keys(&self) -> Option<Conflict> {
        let lacks = self.seal == Seal::Required && self.broker.seal_keys.is_empty();
        lacks.then(|| Conflict::new("seal", "needs keys to open with: set `seal-keys` too"))
    }

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

    /// Rules for the tokens of nobody.
    fn strangers(&self) -> impl Iterator<Item = Conflict> + use<'_> {
        let is_known = |name: &str| self.jwt_issuer.iter().any(|one| Issuer::new(one.as_str()).covers(name));
        let unknown =
            |all: &OneOrMore<String>, name: Option<&str>| name.is_some_and(|name| !all.iter().any(|one| one == name));
        self.required_scopes.sections().filter_map(move |(issuer, audience)| {
            if issuer.is_some_and(|issuer| !is_known(issuer)) {
                Some(Conflict::new(
                    "required-scopes",
                    "has a rule for an issuer that is not in `jwt-issuer`",
                ))
            } else if unknown(&self.jwt_audience, audience) {
                Some(Conflict::new(
                    "required-scopes",
                    "has a rule for an audience that is not in `jwt-audience`",
                ))
            } else {
                None
            }
        })
    }

    /// Issuers whose keys nobody could find.
    fn lost_issuers(&self) -> impl Iterator<Item = Conflict> + use<'_> {
        let crowded = self.jwt_issuer.iter().filter(|name| name.matches(TENANT).count() > 1);
        let crowded = crowded.map(|_| Conflict::new("jwt-issuer", "names an issuer with more than one `{tenantid}`"));
        let keyless = self.jwt_keys.is_empty();
        let lost = self
            .issuers()
            .into_iter()
            .filter(move |_| keyless)
            .filter_map(|issuer| {
                let reason = Discovery::of(&issuer, &self.reach()).err()?;
                let name = issuer.as_str().escape_debug();
                Some(match reason {
                    UrlError::Malformed => Conflict::new(
                        "jwt-keys",
                        format!("is required: the issuer `{name}` is no URL by which its keys could be found"),
                    ),
                    other => Conflict::new(
                        "jwt-issuer",
                        format!("the issuer `{name}` cannot be asked for its keys: {other}"),
                    ),
                })
            });
        crowded.chain(lost)
    }

    /// Issuers of events, or of those whom they are about, that are nobody's here.
    fn strange_speakers(&self) -> impl Iterator<Item = Conflict> + use<'_> {
        let is_known = |name: &str| self.jwt_issuer.iter().any(|one| one == name);
        let strange = self
            .provider_events_issuers
            .iter()
            .filter(move |entry| !is_known(entry.speaker()) || !is_known(entry.about()));
        strange.map(|_| Conflict::new("provider-events-issuers", "names an issuer that is not in `jwt-issuer`"))
    }

    /// Which servers are asked for keys.
    pub fn reach(&self) -> Reach {
        Reach {
            allow_http: self.jwks_allow_http,
            hosts: self.jwks_allow_hosts.clone(),
        }
    }

    /// What an operator may not have meant.
    pub fn doubts(&self) -> Vec<String> {
        let several = self.jwt_issuer.iter().count() > 1;
        let shared = several && self.required_scopes.sections().any(|(issuer, _)| issuer.is_none());
        let shared = shared.then(|| {
            "required-scopes: several issuers share rules, so that each of them says by itself who meets them; put \
             `issuer=ISSUER;` before those that are one's own, and `issuer=ISSUER;TYPE=-` for what another's tokens may not"
                .to_owned()
        });
        let crowded = (usize::from(self.prefetch) < self.concurrency.saturating_mul(2)).then(|| {
            "prefetch: is less than twice `concurrency`, so that messages that wait for a handler may use it up, and logins \
             wait with them"
                .to_owned()
        });
        let narrow = self.required_scopes.narrow().map(|(types, whole)| {
            format!(
                "required-scopes: `{types}` means one word more, and leaves `{whole}` unguarded otherwise, which an application may \
                 be bound to; write `{whole}` if all of it is meant"
            )
        });
        let plain = self.jwks_allow_http.then(|| {
            "jwks-allow-http: is on, so that keys may come over plain http, and whoever is on the way can let in anybody".to_owned()
        });
        shared.into_iter().chain(narrow).chain(crowded).chain(plain).collect()
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

  The passwords out of everybody's sight, and replaced while it runs:
    worker --config /etc/countersign.toml --amqp-password-file /etc/countersign/amqp-password \\
        --store-password-file /etc/countersign/store-password

  What would be in force, and where it came from:
    worker --config /etc/countersign.toml --print-config",
    };

    fn logging(&self) -> &LogConfig {
        &self.logging
    }

    fn check(&self) -> Vec<Conflict> {
        let without_port = self.console && self.admin_listen.is_none();
        let conflict = || Conflict::new("console", "needs a port: set `admin-listen` too");
        without_port
            .then(conflict)
            .into_iter()
            .chain(self.broker.conflicts())
            .chain(self.seals_without_keys())
            .chain(self.store_files().conflicts(&self.store_url))
            .chain(self.strangers())
            .chain(self.lost_issuers())
            .chain(self.strange_speakers())
            .collect()
    }
}

shared::choice! {
    /// Whether what terminators forward must be sealed.
    pub enum Seal {
        /// It may be.
        Accepted = "accepted",
        /// It must be.
        Required = "required",
    }
}

shared::choice! {
    /// By what a client proves who it is.
    pub enum Strategy {
        /// By each message's own token alone.
        PerMessage = "per-message",
        /// By `auth.authenticate` alone.
        Explicit = "explicit",
        /// By a message's own token, or else by the connection's.
        Both = "both",
    }
}

shared::choice! {
    /// For how long a message's own token acts, if it allows more than its connection's.
    pub enum Elevation {
        /// Until the connection has another.
        Connection = "connection",
        /// For that message.
        Message = "message",
    }
}

shared::choice! {
    /// Which of too many that are held give way.
    pub enum HoldOverflow {
        /// Those that come last.
        Newest = "newest",
        /// Those that came first.
        Oldest = "oldest",
    }
}

shared::choice! {
    /// An algorithm of signatures: RFC 7518 §3.1, and RFC 8037 §3.1 for `EdDSA`.
    pub enum JwtAlgorithm {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 = "RS256",
        /// RSASSA-PKCS1-v1_5 with SHA-384.
        Rs384 = "RS384",
        /// RSASSA-PKCS1-v1_5 with SHA-512.
        Rs512 = "RS512",
        /// RSASSA-PSS with SHA-256.
        Ps256 = "PS256",
        /// RSASSA-PSS with SHA-384.
        Ps384 = "PS384",
        /// RSASSA-PSS with SHA-512.
        Ps512 = "PS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// EdDSA on Curve25519.
        EdDsa = "EdDSA",
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
