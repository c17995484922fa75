//! Which peers are proxies, and which client is behind one.
//!
//! Limits per address are for clients, and clients behind one proxy have one address here: the proxy's. A proxy says who its client is,
//! in a header of the request or in a PROXY header before all else, and anyone else can write the same. So it is believed of the
//! proxies that are named (`trusted-proxies`), and of anyone who connects through a unix socket, whose permissions name him.

pub(crate) mod forwarded;
pub(crate) mod proxy_header;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use shared::service::config::{Shown, Value};

use crate::accept::addresses::ip_prefix;

/// A proxy, or a network of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrustedProxy(IpNet);

impl Value for TrustedProxy {
    fn parse(text: &str) -> Result<Self, String> {
        let one = |address: IpAddr| IpNet::from(address.to_canonical());
        let network = text.parse::<IpNet>().map(|network| network.trunc());
        network
            .or_else(|_| text.parse().map(one))
            .map(Self)
            .map_err(|_| "an IP address or a network, such as `10.0.0.0/8` or `2001:db8::/32`".to_owned())
    }

    fn show(&self) -> Shown {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            return self.0.addr().to_string().into();
        }
        self.0.to_string().into()
    }
}

shared::choice! {
    /// Where a trusted proxy says who its client is.
    pub enum ForwardedHeader {
        /// A list of addresses.
        XForwardedFor = "x-forwarded-for",
        /// As RFC 7239 has it.
        Forwarded = "forwarded",
    }
}

shared::choice! {
    /// Whether trusted proxies begin each connection with a PROXY header.
    pub enum ProxyProtocol {
        /// None does.
        Off = "off",
        /// Some do, some do not.
        V1v2 = "v1v2",
        /// All do, and there is no one but them.
        Required = "required",
    }
}

/// Who is believed, and what.
#[derive(Clone, Debug)]
pub(crate) struct Proxies {
    pub(crate) trusted: Vec<TrustedProxy>,
    pub(crate) header: ForwardedHeader,
    pub(crate) protocol: ProxyProtocol,
}

/// Who is at the other end of a connection, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemotePeer {
    pub(crate) address: IpAddr,
    /// Whether it is a proxy, so that its client is someone else.
    pub(crate) is_proxy: bool,
}

impl RemotePeer {
    /// Anyone who connects through a unix socket: someone on this machine whom its permissions let in.
    pub(crate) const LOCAL: Self = Self {
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        is_proxy: true,
    };

    /// Whose limits a client counts for, if it is one.
    pub(crate) fn prefix(self) -> Option<IpAddr> {
        (!self.is_proxy).then(|| ip_prefix(self.address))
    }
}

impl Proxies {
    /// Who that is.
    pub(crate) fn peer(&self, address: IpAddr) -> RemotePeer {
        let address = address.to_canonical();
        RemotePeer {
            address,
            is_proxy: self.trusts(address),
        }
    }

    /// Who is behind a peer, by the head of its request.
    pub(crate) fn client(&self, peer: RemotePeer, head: &[u8]) -> IpAddr {
        if !peer.is_proxy {
            return peer.address;
        }
        let hops = forwarded::hops(head, self.header);
        forwarded::client(peer.address, &hops, |address| self.trusts(address))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|proxy| proxy.0.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(networks: &[&str]) -> Proxies {
        Proxies {
            trusted: networks.iter().map(|text| TrustedProxy::parse(text).unwrap()).collect(),
            header: ForwardedHeader::XForwardedFor,
            protocol: ProxyProtocol::Off,
        }
    }

    #[test]
    fn a_proxy_is_who_is_named_by_an_address_or_a_network() {
        let proxies = proxies(&["10.1.2.3/8", "192.0.2.1", "2001:db8::/32", "::ffff:198.51.100.7"]);
        for (address, is_proxy) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8::7", true),
            ("2001:db9::7", false),
            ("198.51.100.7", true),
        ] {
            assert_eq!(proxies.peer(address.parse().unwrap()).is_proxy, is_proxy, "{address}");
        }
        let shown: Vec<_> = proxies.trusted.iter().map(|proxy| proxy.show()).collect();
        assert_eq!(
            shown,
            ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "198.51.100.7"].map(Shown::from)
        );
        for wrong in ["", "10.0.0.0/33", "proxy.example", "10.0.0.1:80"] {
            assert!(TrustedProxy::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn nobody_else_says_who_he_is() {
        let head = b"GET / HTTP/1.1\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
        let proxies = proxies(&["10.0.0.1"]);
        let client = |address: &str| proxies.client(proxies.peer(address.parse().unwrap()), head).to_string();
        assert_eq!(client("10.0.0.1"), "203.0.113.9");
        assert_eq!(client("10.0.0.2"), "10.0.0.2");
    }
}
