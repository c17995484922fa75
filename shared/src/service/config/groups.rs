//! The settings that terminator and worker have in common, each told once.

use std::fmt;
use std::path::PathBuf;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use super::units::Share;
use super::url::{AmqpUrl, OtlpUrl};
use super::value::{OneOrMore, Value};
use super::{Conflict, Shown};
use crate::bus::topology::{self, Names};
use crate::credentials::ClientTlsFiles;

crate::settings! {
    /// The broker, and our place in it. All terminators and workers of one deployment agree on these.
    pub struct BrokerConfig {
        /// The RabbitMQ broker, `amqp://user:password@host:port/vhost`, or `amqps://` for TLS; an IPv6 address goes in
        /// brackets, `amqp://[::1]:5672/%2f`. List several nodes of one cluster, comma separated, and another is tried when
        /// one is down. A connection sends a heartbeat every 5 s and is closed after 10 s of silence; `?heartbeat=SECONDS`
        /// at the end of a URL changes that. In a configuration file, user and password may change while the program runs;
        /// the rest may not.
        pub amqp_url: OneOrMore<AmqpUrl> = "amqp://127.0.0.1:5672/%2f",
        /// A file with the name of the broker's user, one line; it replaces the user in `amqp-url`. It is read again when
        /// it changes.
        pub amqp_username_file: Option<PathBuf> = "off",
        /// A file with the password of the broker's user, one line of any characters; it replaces the password in
        /// `amqp-url`. It is read again when it changes: new connections use the new password, open ones stay.
        pub amqp_password_file: Option<PathBuf> = "off",
        /// The CA certificates, a PEM file, that must have signed the broker's certificate, if `amqp-url` is `amqps://`;
        /// `off` for the CAs of this machine (`SSL_CERT_FILE` names others). It is read again when it changes.
        pub amqp_ca: Option<PathBuf> = "off",
        /// The client certificate for the broker, a PEM file. It and its key are read again when they change.
        pub amqp_cert: Option<PathBuf> = "off",
        /// The private key of `amqp-cert`, a PEM file.
        pub amqp_key: Option<PathBuf> = "off",
        /// The prefix of every queue, exchange and store key: 1 to 64 of `A-Z a-z 0-9 _ . -`. Change it to run several
        /// deployments on one broker; the terminators and workers of one deployment need the same value.
        pub namespace: Namespace = "countersign",
        /// The files of the keys that encrypt clients' messages on the broker, comma separated; empty encrypts nothing.
        /// Each has 32 random bytes in Base64, as `openssl rand -base64 32` prints them. Terminators seal with the first
        /// key, and workers open with any, so give a new key to workers first. The files are read again when they change.
        pub seal_keys: Vec<PathBuf> = "",
        /// Whether messages for the same queue that leave at the same moment go into one AMQP message, which lowers the
        /// broker's load: `auto`, or `off`. A single message always goes as it is, and batches are always read. Set it to
        /// `off` while terminators or workers run that are too old to read batches.
        pub batch: Batch = "auto",
        /// In how many queues clients' messages wait for workers, those of one connection all in one of them. A queue is led by one
        /// node of the broker, on one of its cores; more of them spread over a cluster. Terminators choose the queue, and workers
        /// take from all of them: from as many as this says, and from those beyond that they find on the broker, at their start and
        /// every 30 s. So raise it on the workers first. Nothing is lost when it changes.
        pub message_shards: u16 = "1" in "1"..="16",
        /// Whether what happens to connections (opened, authenticated, closed and more) is published to the topic exchange
        /// `<namespace>.events`, for presence, webhooks or an audit log. Terminators publish it; workers do so for the
        /// connections of a terminator that was lost, so turn it on for both, workers first. `on` has each event in an AMQP
        /// message of its own; `batched` has those of the same kind that happen within 20 ms in one, as a JSON array, which
        /// costs a fraction.
        pub connection_events: Option<EventForm> = "off",
    }
}

/// What is contradictory in the settings of a server's CA, and of our certificate and key, each set or not.
pub fn tls_conflicts(
    [ca, certificate, key]: [(&'static str, bool); 3],
    url: &str,
    scheme: &str,
    has_tls: bool,
) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for ((one, is_set), (other, other_is_set)) in [(certificate, key), (key, certificate)] {
        if is_set && !other_is_set {
            conflicts.push(Conflict::new(one, format!("needs `{other}` beside it")));
        }
    }
    if let Some((one, _)) = [ca, certificate, key].into_iter().find(|(_, is_set)| *is_set)
        && !has_tls
    {
        let problem = format!("is for TLS, and `{url}` does not begin with `{scheme}`");
        conflicts.push(Conflict::new(one, problem));
    }
    conflicts
}

crate::choice! {
    /// Whether messages travel together.
    pub enum Batch {
        /// Never.
        Off = "off",
        /// When several leave at the same moment.
        Auto = "auto",
    }
}

crate::choice! {
    /// In which messages what happens to connections is told.
    pub enum EventForm {
        /// Each event in one of its own.
        On = "on",
        /// Those of one kind that happen at the same time in one.
        Batched = "batched",
    }
}

impl BrokerConfig {
    /// How we show ourselves to the broker, and whom we believe.
    pub fn tls_files(&self) -> ClientTlsFiles {
        let identity = self.amqp_cert.clone().zip(self.amqp_key.clone());
        ClientTlsFiles {
            ca: self.amqp_ca.clone().map(|path| ("amqp-ca", path)),
            identity: identity.map(|(certificate, key)| [("amqp-cert", certificate), ("amqp-key", key)]),
        }
    }

    /// What contradicts itself.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let tls = [
            ("amqp-ca", self.amqp_ca.is_some()),
            ("amqp-cert", self.amqp_cert.is_some()),
            ("amqp-key", self.amqp_key.is_some()),
        ];
        let has_tls = self.amqp_url.iter().all(|url| url.expose().starts_with("amqps:"));
        tls_conflicts(tls, "amqp-url", "amqps://", has_tls)
    }

    /// Under which names messages travel together; none if they never do.
    pub fn batches(&self) -> Option<Names> {
        match self.batch {
            Batch::Off => None,
            Batch::Auto => Some(Names::new(self.namespace.as_str())),
        }
    }
}

crate::settings! {
    /// What is logged, to standard error.
    pub struct LogConfig {
        /// What is logged: `error`, `warn`, `info`, `debug`, `trace` or `off`, for everything or, comma separated, for a
        /// part: `info,terminator=debug`. Payloads and tokens are never logged, whatever the filter. `lapin`, the AMQP
        /// library, is off by default, because a lost broker is logged already.
        pub log_filter: LogFilter = "info,lapin=off",
        /// The format of the log: `text` for people, `json` (one object a line) for machines.
        pub log_format: LogFormat = "text",
    }
}

crate::settings! {
    /// Which messages are followed on their way, and who is told.
    pub struct TraceConfig {
        /// The OpenTelemetry collector that receives traces, `http://host:4318` or `https://…` (OTLP over HTTP; the path
        /// `/v1/traces` is added), or `off`. Headers are read from `OTEL_EXPORTER_OTLP_HEADERS`. A collector that is down
        /// delays nothing: the spans that it misses are counted.
        pub otlp_endpoint: Option<OtlpUrl> = "off",
        /// The share of messages that are traced, from 0 to 1. Terminators decide for messages from sockets, and workers
        /// follow. An injected message with a sampled `traceparent` is traced, up to 100 a second for each worker; a client
        /// on a socket cannot ask for a trace.
        pub trace_sample_ratio: Share = "0.01",
    }
}

/// The prefix of every name we take in the broker and in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace(String);

impl Namespace {
    /// With 64 bytes for the prefix, every name made from it stays under the 255 bytes of an AMQP short string.
    pub const MAX_BYTES: usize = 64;

    /// The prefix, without a separator at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for Namespace {
    fn parse(text: &str) -> Result<Self, String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        if !(1..=Self::MAX_BYTES).contains(&text.len()) || !text.bytes().all(allowed) {
            return Err(format!("1 to {} of `A-Z a-z 0-9 _ . -`", Self::MAX_BYTES));
        }
        // AMQP 0-9-1 reserves these names; the broker would refuse every declaration.
        if text == "amq" || text.starts_with("amq.") {
            return Err("a name that does not begin with `amq.`, which AMQP keeps for itself".to_owned());
        }
        // `x.internal` would take the exchange that another namespace, `x`, trusts; and so with every name made from one.
        if let Some(word) = text.split('.').skip(1).find(|word| topology::is_reserved(word)) {
            return Err(format!(
                "a name without `.{word}`, which is kept for what belongs to the namespace before it"
            ));
        }
        if text.ends_with('.') || text.contains("..") {
            return Err("a name without an empty word between dots".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> Shown {
        self.as_str().into()
    }
}

/// A filter in the language of `tracing_subscriber::EnvFilter`, known to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter itself.
    pub fn filter(&self) -> EnvFilter {
        // It was parsed once, so that nothing is left to be lost here.
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

impl Value for LogFilter {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || "a level (`info`), or levels of parts (`info,terminator=debug`)".to_owned();
        // A word alone could be a part's name too; but then a slip in `info` would silence everything.
        let is_clear = |word: &str| !word.is_empty() && (word.contains('=') || word.parse::<LevelFilter>().is_ok());
        if !text.split(',').all(|word| is_clear(word.trim())) {
            return Err(wanted());
        }
        EnvFilter::builder().parse(text).map_err(|_| wanted())?;
        Ok(Self(text.to_owned()))
    }

    fn show(&self) -> Shown {
        self.0.as_str().into()
    }
}

crate::choice! {
    /// How a line of the log is written.
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// For machines: one JSON object a line.
        Json = "json",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_leaves_room_for_what_is_appended_and_is_not_amqps_own() {
        for right in ["a", "countersign", "team-a.prod_2", &"x".repeat(64), "amqp"] {
            assert!(Namespace::parse(right).is_ok(), "{right}");
        }
        for wrong in [
            "",
            "a b",
            "ä",
            "a/b",
            "a:b",
            &"x".repeat(65),
            "amq",
            "amq.mine",
            "x.internal",
            "x.app",
            "x.return.1",
            "x.messages",
            "a.dead.b",
            "x.",
            "a..b",
        ] {
            assert!(Namespace::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_log_filter_is_checked_before_it_is_needed() {
        for right in ["info", "off", "info,terminator=debug"] {
            assert!(LogFilter::parse(right).is_ok(), "{right}");
        }
        for wrong in ["", "inof", "info,", "terminator=loud", "a=b=c"] {
            assert!(LogFilter::parse(wrong).is_err(), "{wrong}");
        }
    }
}
