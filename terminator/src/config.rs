//! What a terminator is told: its settings, which are also its manual.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use shared::service::config::{BrokerConfig, Config, Conflict, LogConfig, OneOrMore, Program, Size, TraceConfig};

use crate::accept::doors::ListenAddress;
use crate::accept::origin::AllowedOrigin;
use crate::accept::proxies::{ForwardedHeader, ProxyProtocol, TrustedProxy};

shared::settings! {
    /// The settings of a terminator.
    pub struct TerminatorConfig {
        use broker: BrokerConfig,
        use logging: LogConfig,
        use tracing: TraceConfig,
        /// Where clients are accepted, comma separated: an address and a port, as in `0.0.0.0:8080` or `[::]:8080` (which takes IPv4, too,
        /// unless that has an entry of its own on that port), or a unix socket, as in `unix:/run/countersign/terminator.sock`, to which its
        /// own user and group may connect. Port 0 takes any free one; which is told on standard output.
        pub listen: OneOrMore<ListenAddress> = "127.0.0.1:8080",
        /// The address and port of `/livez`, `/readyz` and `/metrics`, or `off`. Keep it out of the reach of clients.
        pub admin_listen: Option<SocketAddr> = "127.0.0.1:9090",
        /// Names under which the admin port may be asked, comma separated, besides IP addresses and `localhost`. A page in
        /// an operator's browser could otherwise read it under a name of its own (DNS rebinding), so other names get 421;
        /// `/livez` answers to all.
        pub admin_allowed_hosts: Vec<String> = "",
        /// Whether `/console` on `admin-listen` serves a live page: connections, the state of their authentication, what is
        /// held, rates and latencies. It is unauthenticated: keep the port on loopback or behind a firewall. It never shows
        /// tokens or payloads, and answers as `admin-allowed-hosts` says; from another machine, forward the port.
        pub console: bool = "off",
        /// The origins of web pages that may connect, comma separated, each as a browser sends it in `Origin`:
        /// `https://app.example.com`. Scheme, host and port must match; the default ports 80 and 443 are left out. Empty
        /// allows only pages of the same host and port (with `tls-cert` only over `https`; behind a proxy the client's
        /// scheme is unknown); `*` allows every page. Clients that send no `Origin` are not browsers, and are not
        /// restricted.
        pub allowed_origins: Vec<AllowedOrigin> = "",
        /// The proxies in front of the terminators, comma separated: addresses, and networks such as `10.0.0.0/8`. What they
        /// report as their client's address is believed, and limits per IP address count their clients instead of the
        /// proxies. What other peers report is ignored. A peer on a unix socket is trusted without being listed.
        pub trusted_proxies: Vec<TrustedProxy> = "",
        /// The request header in which trusted proxies report their client's address: `x-forwarded-for`, or `forwarded`
        /// (RFC 7239). The other one is ignored, because a proxy passes on what its client wrote there. The header is read
        /// from the right, past the trusted proxies, to the first address that is not one.
        pub forwarded_header: ForwardedHeader = "x-forwarded-for",
        /// Whether trusted proxies begin a connection with a PROXY header, version 1 or 2: `off`; `v1v2`, with or without;
        /// `required`, where only trusted proxies may connect and each connection must have one. A header that is not
        /// allowed, missing or malformed closes the connection, counted as `proxy_header`.
        pub proxy_protocol: ProxyProtocol = "off",
        /// The certificate chain, a PEM file, with which the terminator serves TLS itself; `off` if a proxy in front does,
        /// or in development. It and its key are read again when they change: new handshakes use the new pair, and a pair
        /// that does not match is refused.
        pub tls_cert: Option<PathBuf> = "off",
        /// The private key of `tls-cert`, a PEM file.
        pub tls_key: Option<PathBuf> = "off",
        /// The CA certificates, a PEM file, one of which must have signed each client's certificate, or `off` if clients
        /// need none. The certificate does not identify the client; only tokens do. It is read again when it changes.
        pub tls_client_ca: Option<PathBuf> = "off",
        /// How many connections may be open at once, all clients together; more get HTTP status 503. Each takes one open
        /// file. Where the limit of open files is lower, only as many connections are accepted as there are files for: a
        /// warning at the start says so, and `/readyz` fails while they are used up.
        pub max_connections: usize = "100000" in "1"..="10000000",
        /// How many connections one IP address (for IPv6: one /64 network) may have open at once, or `off`; more get HTTP
        /// status 429. Behind a proxy, set `trusted-proxies`, or all its clients share one address. Raise it if many clients
        /// come through one gateway that does not report their addresses.
        pub max_connections_per_ip: Option<usize> = "1000" in "1"..="10000000",
        /// How many WebSocket handshakes one IP address (for IPv6: one /64 network) may have under way at once, TLS
        /// included, or `off`; more get HTTP status 429, or with `tls-cert` a TLS alert. Behind a proxy, set
        /// `trusted-proxies`.
        pub max_handshakes_per_ip: Option<usize> = "128" in "1"..="100000",
        /// How many handshakes one IP address may begin within a second, or `off`; five times as many may come at once.
        /// More are refused in the same way.
        pub handshakes_per_second_per_ip: Option<u32> = "200" in "1"..="1000000",
        /// How many messages a second one connection may send, or `off`. A connection that sends more is closed with 4429.
        pub messages_per_second: Option<u32> = "1000" in "1"..="1000000",
        /// How many messages a second one connection may send before it has ever authenticated, or `off`. A connection that
        /// sends more is closed with 4429.
        pub unauthenticated_messages_per_second: Option<u32> = "20" in "1"..="1000000",
        /// How many messages of a connection that has never authenticated may be in flight before its socket is no longer
        /// read.
        pub unauthenticated_in_flight: usize = "8" in "1"..="10000",
        /// How many bytes of messages of all such connections together may be in flight. Beyond it, their sockets are read
        /// again one after the other as room becomes free. Authenticated connections never wait behind more than this.
        pub unauthenticated_in_flight_bytes: Size = "1MiB" in "64KiB"..="1024GiB",
        /// The size in bytes of the largest message a client may send; a larger one closes its connection with 1009. The
        /// broker must allow as much (RabbitMQ's `max_message_size`, 16 MiB since its version 4), and so must the workers'
        /// `hold-max-bytes`, if such a message may wait for a fresh token.
        pub max_message_size: Size = "64KiB" in "1KiB"..="16MiB",
        /// How many messages of one connection may be in flight, sent and not yet answered. As many
        /// more (at least 64) are read ahead, up to 1 MiB, so that pings and acknowledgements are answered and a fresh token
        /// or a cancel takes effect; then the socket is no longer read. Raise it for clients that send many messages over a
        /// slow network.
        pub max_in_flight: usize = "64" in "1"..="10000",
        /// Whether the messages of one connection are handled, and answered, one after the other in the order in which they
        /// came: `connection`, or `none`. Different connections are handled side by side either way, on any number of
        /// workers; what a connection has sent meanwhile goes to one worker together. A slow message delays the later ones
        /// of its own connection, but neither pings nor a fresh token, up to what is read ahead (`max-in-flight`).
        pub order: Order = "connection",
        /// Whether clients may acknowledge pushes, by messages of type `push.ack`. A push that was written to such a client,
        /// and is not acknowledged when the connection ends, is held for the identity's next connection, and its producer is
        /// told `delivered` when it is acknowledged. A client that leaves a push unacknowledged for a minute is closed with
        /// 4410. With `off`, messages of this type go to the handler.
        pub push_ack: bool = "off",
        /// How many bytes may wait to be sent to one client. A client that reads too slowly and has more is closed with
        /// 4410.
        pub send_queue_bytes: Size = "1MiB" in "4KiB"..="64MiB",
        /// How many bytes may wait to be sent to all clients together. Above three quarters of it, or of the unacknowledged
        /// messages that the broker allows, the clients with the most waiting bytes that have read nothing for a second are
        /// closed with 4410, until half of it is free. What was not written to them goes back to the workers.
        pub send_queue_bytes_total: Size = "256MiB" in "1MiB"..="1024GiB",
        /// How many bytes of messages from all clients together may be received and not yet confirmed by the broker. Beyond
        /// it, sockets are read again one after the other as room becomes free. A quarter as many may be read ahead of their
        /// turn besides; beyond that, 16 KiB of each connection.
        pub receive_queue_bytes_total: Size = "128MiB" in "1MiB"..="1024GiB",
        /// How many bytes the head of a handshake's request may have, cookies included; a larger one gets HTTP status 431.
        pub max_handshake_size: Size = "16KiB" in "1KiB"..="1MiB",
        /// How long a client may take from connecting to the end of the WebSocket handshake, TLS included.
        pub handshake_timeout: Duration = "10s" in "100ms"..="5m",
        /// How long a connection may be open before it has authenticated for the first time, or `off`. After that it is
        /// closed with 4408, as soon as what it sent in time is answered; the time does not run out while the broker is
        /// down. Messages of the workers' `public-types` do not authenticate: turn this off if some clients send nothing
        /// else.
        pub auth_timeout: Option<Duration> = "15s" in "100ms"..="1h",
        /// How long the oldest unanswered message of a connection may wait for its answer, or `off`, while the broker is
        /// reachable; a message that is held waits no longer. After that it counts as lost, as when a queue was purged, and
        /// the connection is closed with 1011, so that its client reconnects and asks again. Keep it longer than the workers' `handler-timeout` plus the time in the queue.
        pub answer_timeout: Option<Duration> = "5m" in "1s"..="24h",
        /// How long a client may send nothing, not even the answer to a ping, before its connection counts as dead. A ping
        /// is sent at half that time. Keep it below the idle timeout of every proxy in between.
        pub idle_timeout: Duration = "60s" in "1s"..="1h",
        /// How long to wait for a broker that is down. Until then nothing is forwarded and nothing is lost; after it,
        /// messages that could not be published are refused with `busy`, so that clients can retry.
        pub publish_timeout: Duration = "30s" in "100ms"..="1h",
        /// How long a terminator that is asked to stop still accepts clients while `/readyz` reports that it drains, so
        /// that a load balancer notices and sends clients elsewhere. Use a few seconds behind a load balancer or in
        /// Kubernetes.
        pub drain_delay: Duration = "0s" in "0s"..="10m",
        /// How many connections a second a draining terminator closes. All are closed within three quarters of
        /// `drain-timeout`, so for many connections and a low rate raise that, too.
        pub drain_connections_per_second: u32 = "1000" in "1"..="1000000",
        /// How long a terminator that is asked to stop waits for the replies to messages in flight before it closes its
        /// connections anyway. The supervisor must wait longer than this plus `drain-delay` before it kills the process.
        pub drain_timeout: Duration = "20s" in "0s"..="1h",
    }
}

impl Config for TerminatorConfig {
    const PROGRAM: Program = Program {
        name: "terminator",
        version: env!("CARGO_PKG_VERSION"),
        about: "Accepts WebSockets, forwards each message to the broker and delivers what comes back",
        examples: "\
Examples:
  On this machine, with a broker on it:
    terminator

  For a web application, behind a proxy that speaks TLS:
    terminator --listen 0.0.0.0:8080 --allowed-origins https://app.example.com \\
        --amqp-url amqp://terminator@rabbit-1/%2f,amqp://terminator@rabbit-2/%2f \\
        --amqp-password-file /etc/countersign/amqp-password

  The settings that would be in force, and where each came from:
    terminator --config /etc/countersign.toml --print-config",
    };

    fn logging(&self) -> &LogConfig {
        &self.logging
    }

    fn check(&self) -> Vec<Conflict> {
        let mut conflicts = self.broker.conflicts();
        if self.tls_client_ca.is_some() && self.tls_cert.is_none() {
            conflicts.push(Conflict::new(
                "tls-client-ca",
                "is for TLS: set `tls-cert` and `tls-key` too",
            ));
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => conflicts.push(Conflict::new("tls-cert", "needs its private key: set `tls-key` too")),
            (None, Some(_)) => conflicts.push(Conflict::new("tls-key", "needs its certificate: set `tls-cert` too")),
            (Some(_), Some(_)) | (None, None) => {}
        }
        let is_admin = |address: &ListenAddress| match (address, self.admin_listen) {
            (ListenAddress::Tcp(address), Some(admin)) => *address == admin && admin.port() != 0,
            _ => false,
        };
        let is_tcp = |address: &ListenAddress| matches!(address, ListenAddress::Tcp(_));
        if self.proxy_protocol != ProxyProtocol::Off
            && self.trusted_proxies.is_empty()
            && self.listen.iter().any(is_tcp)
        {
            conflicts.push(Conflict::new(
                "proxy-protocol",
                "is for proxies: name them in `trusted-proxies`",
            ));
        }
        if self.listen.iter().any(is_admin) {
            conflicts.push(Conflict::new(
                "admin-listen",
                "is the same address as `listen`: give each a port of its own",
            ));
        }
        if self.console && self.admin_listen.is_none() {
            conflicts.push(Conflict::new("console", "needs a port: set `admin-listen` too"));
        }
        if self.allowed_origins.len() > 1 && self.allowed_origins.contains(&AllowedOrigin::Any) {
            let problem = "`*` already allows every page: name pages, or `*` alone";
            conflicts.push(Conflict::new("allowed-origins", problem));
        }
        conflicts
    }
}

shared::choice! {
    /// In which order the messages of one connection are handled.
    pub enum Order {
        /// In that in which they came.
        Connection = "connection",
        /// In any.
        None = "none",
    }
}

#[cfg(test)]
mod tests {
    use shared::service::config::{self, Settings, Value as _, is_a_setting};

    use super::*;

    fn errors(pairs: &[(&str, &str)]) -> String {
        config::from_pairs::<TerminatorConfig>(pairs.iter().copied())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn the_defaults_stand_on_their_own() {
        let config: TerminatorConfig = config::from_pairs([]).unwrap();
        assert_eq!(config.listen.first().to_string(), "127.0.0.1:8080");
        assert_eq!(config.max_message_size.bytes(), 65_536);
        assert_eq!(config.broker.namespace.as_str(), "countersign");
        assert!(config.allowed_origins.is_empty() && config.tls_cert.is_none());
    }

    #[test]
    fn every_setting_is_in_the_list_of_all_and_explains_itself() {
        for setting in TerminatorConfig::settings() {
            assert!(is_a_setting(&setting.name), "{}", setting.name);
            assert!(setting.doc.ends_with('.'), "{}", setting.name);
        }
    }

    #[test]
    fn every_bound_can_be_read_and_is_kept() {
        for setting in TerminatorConfig::settings() {
            let Some((least, most)) = setting.range else { continue };
            for bound in [least, most] {
                config::from_pairs::<TerminatorConfig>([(setting.name.as_str(), bound)]).unwrap();
            }
            let beyond = format!("1{most}");
            assert!(errors(&[(&setting.name, &beyond)]).contains(most), "{}", setting.name);
        }
    }

    #[test]
    fn a_certificate_and_its_key_come_together() {
        assert!(errors(&[("tls-cert", "/c.pem")]).contains("tls-key"));
        assert!(errors(&[("tls-key", "/k.pem")]).contains("tls-cert"));
        config::from_pairs::<TerminatorConfig>([("tls-cert", "/c.pem"), ("tls-key", "/k.pem")]).unwrap();
    }

    #[test]
    fn clients_and_operators_do_not_share_a_port() {
        assert!(errors(&[("listen", "127.0.0.1:80"), ("admin-listen", "127.0.0.1:80")]).starts_with("admin-listen"));
        config::from_pairs::<TerminatorConfig>([("listen", "127.0.0.1:0"), ("admin-listen", "127.0.0.1:0")]).unwrap();
        let several = [
            ("listen", "unix:/run/x.sock, 127.0.0.1:80"),
            ("admin-listen", "127.0.0.1:80"),
        ];
        assert!(errors(&several).starts_with("admin-listen"));
    }

    #[test]
    fn proxy_headers_are_taken_from_proxies_that_are_named() {
        for protocol in ["v1v2", "required"] {
            let (protocol, unix) = (("proxy-protocol", protocol), ("listen", "unix:/run/x.sock"));
            assert!(errors(&[protocol]).contains("trusted-proxies"));
            assert!(errors(&[protocol, ("listen", "unix:/run/x.sock,127.0.0.1:80")]).contains("trusted-proxies"));
            config::from_pairs::<TerminatorConfig>([protocol, ("trusted-proxies", "10.0.0.0/8, ::1")]).unwrap();
            config::from_pairs::<TerminatorConfig>([protocol, unix]).unwrap();
        }
    }

    #[test]
    fn a_console_needs_a_port() {
        assert!(errors(&[("console", "on"), ("admin-listen", "off")]).contains("admin-listen"));
        assert!(errors(&[("console", "maybe")]).contains("`on` or `off`"));
        assert!(
            config::from_pairs::<TerminatorConfig>([("console", "true")])
                .unwrap()
                .console
        );
    }

    #[test]
    fn an_origin_is_written_as_a_browser_sends_it() {
        let origin = AllowedOrigin::parse("HTTPS://App.example.com:443").unwrap();
        assert_eq!(origin.show(), "https://app.example.com".into());
        assert_eq!(AllowedOrigin::parse("*"), Ok(AllowedOrigin::Any));
        for wrong in [
            "",
            "null",
            "app.example.com",
            "https://a/",
            "https://a/b",
            "https://*.a",
            "://a",
            "https://",
            "https://a:b",
            "https://a:65536",
            "chrome-extension://a:",
        ] {
            assert!(AllowedOrigin::parse(wrong).is_err(), "{wrong}");
        }
        assert!(errors(&[("allowed-origins", "*,https://a.example")]).contains("alone"));
    }
}
