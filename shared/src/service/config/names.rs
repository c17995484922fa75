//! Names of settings: those that exist, and what a wrong one was probably meant to be.
//!
//! One file and one environment may serve terminator and worker, so each of the two
//! has to pass over the other's settings and still stop at a slip of the pen. Neither
//! may depend on the other: the names stand here, and a test compares them with both.

use strsim::levenshtein;

use super::{ConfigError, Origin, Setting};

/// The name of every setting of every program, sorted.
pub const EVERY_SETTING: &[&str] = &[
    "admin-allowed-hosts",
    "admin-listen",
    "allowed-origins",
    "amqp-ca",
    "amqp-cert",
    "amqp-key",
    "amqp-password-file",
    "amqp-url",
    "amqp-username-file",
    "answer-timeout",
    "api-keys",
    "api-listen",
    "api-max-body-size",
    "api-requests-per-second",
    "api-scope",
    "auth-timeout",
    "batch",
    "concurrency",
    "concurrency-per-identity-percent",
    "concurrency-per-type-percent",
    "connection-events",
    "console",
    "drain-connections-per-second",
    "drain-delay",
    "drain-timeout",
    "elevation",
    "forwarded-header",
    "handler",
    "handler-timeout",
    "handshake-timeout",
    "handshakes-per-second-per-ip",
    "hold-max-bytes",
    "hold-max-messages",
    "hold-overflow",
    "hold-ttl",
    "idempotency-window",
    "idle-timeout",
    "jwks-allow-hosts",
    "jwks-allow-http",
    "jwks-refresh-interval",
    "jwt-algorithms",
    "jwt-allow",
    "jwt-audience",
    "jwt-audience-claims",
    "jwt-client-claims",
    "jwt-issuer",
    "jwt-keys",
    "jwt-leeway",
    "jwt-max-lifetime",
    "jwt-max-size",
    "jwt-required-claims",
    "jwt-scope-claims",
    "jwt-subject-claim",
    "jwt-type",
    "listen",
    "log-filter",
    "log-format",
    "max-connections",
    "max-connections-per-identity",
    "max-connections-per-ip",
    "max-deliveries",
    "max-handshake-size",
    "max-handshakes-per-ip",
    "max-in-flight",
    "max-message-size",
    "max-revocations",
    "message-shards",
    "messages-per-second",
    "messages-per-second-per-identity",
    "namespace",
    "on-connection-limit",
    "on-expired-push",
    "on-unauthenticated",
    "order",
    "otlp-endpoint",
    "prefetch",
    "provider-events-audience",
    "provider-events-issuers",
    "provider-events-listen",
    "proxy-protocol",
    "public-types",
    "publish-timeout",
    "push-ack",
    "push-shards",
    "receive-queue-bytes-total",
    "relay-max-held",
    "relay-tells-presence",
    "removed-key-grace",
    "reply-queues",
    "required-scopes",
    "resume-window",
    "seal",
    "seal-keys",
    "send-queue-bytes",
    "send-queue-bytes-total",
    "store-ca",
    "store-cert",
    "store-key",
    "store-password-file",
    "store-timeout",
    "store-url",
    "store-username-file",
    "strategy",
    "tls-cert",
    "tls-client-ca",
    "tls-key",
    "token-cache-capacity",
    "trace-sample-ratio",
    "trusted-proxies",
    "unauthenticated-hold-bytes-per-terminator",
    "unauthenticated-hold-bytes-total",
    "unauthenticated-hold-max-bytes",
    "unauthenticated-hold-max-messages",
    "unauthenticated-hold-ttl",
    "unauthenticated-in-flight",
    "unauthenticated-in-flight-bytes",
    "unauthenticated-messages-per-second",
];

/// What settings were called before, and what they are called now. The former name means the same.
const FORMER: &[(&str, &str)] = &[
    ("broker-patience", "publish-timeout"),
    ("idempotency", "idempotency-window"),
    ("jwks-ttl", "jwks-refresh-interval"),
    ("log", "log-filter"),
    ("token-cache", "token-cache-capacity"),
    ("trace-ratio", "trace-sample-ratio"),
];

/// The name that a setting has now.
pub(super) fn current(name: &str) -> &str {
    FORMER
        .iter()
        .find(|(former, _)| *former == name)
        .map_or(name, |(_, current)| current)
}

/// Whether `name` is a setting of any of the programs.
pub fn is_a_setting(name: &str) -> bool {
    EVERY_SETTING.binary_search(&name).is_ok()
}

/// The one of `names` that `name` was probably meant to be.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // One slip in three letters is a slip; more is another word.
    let tolerance = name.len().min(12) / 3;
    let name = name.replace('_', "-").to_lowercase();
    let near = names.into_iter().map(|other| (levenshtein(&name, other), other));
    near.filter(|(distance, _)| *distance <= tolerance)
        .min()
        .map(|(_, other)| other)
}

/// The error for a name that is not a setting, with what was probably meant.
pub(super) fn unknown(name: &str, origin: Origin, own: &[Setting]) -> ConfigError {
    // A flag is for one program alone; what it may have been meant to be is one of that program's.
    let meant = match origin {
        Origin::File(_) | Origin::Environment => nearest(name, EVERY_SETTING.iter().copied()),
        Origin::Flag | Origin::CommandLine | Origin::Code | Origin::Default => {
            nearest(name, own.iter().map(|own| own.name.as_str()))
        }
    };
    let problem = meant.map_or_else(
        || "no such setting".to_owned(),
        |it| format!("no such setting; did you mean `{it}`?"),
    );
    ConfigError::new(name, origin, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_none_stands_twice() {
        assert!(EVERY_SETTING.is_sorted_by(|a, b| a < b));
        assert!(EVERY_SETTING.iter().all(|name| is_a_setting(name)));
        assert!(!is_a_setting("listne"));
        for (former, current) in FORMER {
            assert!(!is_a_setting(former) && is_a_setting(current), "{former}");
        }
    }

    #[test]
    fn a_slip_is_told_from_another_word() {
        let meant = |name| nearest(name, EVERY_SETTING.iter().copied());
        assert_eq!(meant("amqp_url"), Some("amqp-url"));
        assert_eq!(meant("listne"), Some("listen"));
        assert_eq!(meant("max-delivery"), Some("max-deliveries"));
        assert_eq!(meant("Namespace"), Some("namespace"));
        assert_eq!(meant("colour"), None);
        assert_eq!(meant("x"), None);
    }
}
