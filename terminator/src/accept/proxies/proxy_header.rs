//! The header with which a proxy begins a connection to say whose it is: the PROXY protocol, versions 1 and 2.
//!
//! Source: <https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt>. It is read by the crate `ppp`; how long it may be, and what is none
//! at all, is decided here: pure.

use std::net::IpAddr;

use ppp::{PartialResult as _, v1, v2};

/// The longest header of version 1 (§2.1).
const MOST_V1_BYTES: usize = 107;
/// The longest of version 2: addresses take 216 bytes at most, and the rest is what a proxy tells of the client's TLS.
pub(crate) const MOST_BYTES: usize = 4 * 1024;
/// How version 1 begins.
const V1: &[u8] = b"PROXY ";

/// What the first bytes of a connection amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// More bytes are needed.
    Partial,
    /// They are something else.
    Nothing,
    /// A header of that length. Its source is nothing where the proxy speaks for itself, as in its health checks, or does not know.
    Header { length: usize, source: Option<IpAddr> },
    /// It begins as a header, and is none.
    Malformed,
}

/// Whether these bytes begin as a header does.
pub(crate) fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(V1) || bytes.starts_with(v2::PROTOCOL_PREFIX)
}

/// Reads the header that a connection begins with.
pub(crate) fn read(bytes: &[u8]) -> Found {
    if begins(bytes) {
        return if bytes.starts_with(V1) {
            read_v1(bytes)
        } else {
            read_v2(bytes)
        };
    }
    match V1.starts_with(bytes) || v2::PROTOCOL_PREFIX.starts_with(bytes) {
        true => Found::Partial,
        false => Found::Nothing,
    }
}

fn read_v1(bytes: &[u8]) -> Found {
    let bytes = &bytes[..bytes.len().min(MOST_V1_BYTES)];
    if !bytes.windows(2).any(|pair| pair == b"\r\n") {
        return match bytes.len() < MOST_V1_BYTES {
            true => Found::Partial,
            false => Found::Malformed,
        };
    }
    let Ok(header) = v1::Header::try_from(bytes) else {
        return Found::Malformed;
    };
    let source = match header.addresses {
        v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Unknown => None,
    };
    Found::Header {
        length: header.header.len(),
        source,
    }
}

fn read_v2(bytes: &[u8]) -> Found {
    let length = bytes
        .get(14..16)
        .map(|length| length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)));
    if length.is_some_and(|length| 16 + length > MOST_BYTES) {
        return Found::Malformed;
    }
    let header = v2::Header::try_from(bytes);
    if header.is_incomplete() {
        return Found::Partial;
    }
    let Ok(header) = header else { return Found::Malformed };
    let source = match (header.command, header.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
        _ => None,
    };
    Found::Header {
        length: header.header.len(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = v2::PROTOCOL_PREFIX.to_vec();
        bytes.extend([0x20 | command, family << 4 | 1]);
        bytes.extend((addresses.len() as u16).to_be_bytes());
        bytes.extend(addresses);
        bytes
    }

    fn header(length: usize, source: &str) -> Found {
        Found::Header {
            length,
            source: source.parse().ok(),
        }
    }

    #[test]
    fn both_versions_tell_the_source_and_where_they_end() {
        let text = b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\nGET / HTTP/1.1\r\n";
        assert_eq!(read(text), header(42, "203.0.113.9"));
        assert_eq!(
            read(b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n"),
            header(37, "2001:db8::1")
        );
        assert_eq!(read(b"PROXY UNKNOWN\r\n"), header(15, ""));
        let mut binary = v2_header(1, 1, &[203, 0, 113, 9, 10, 0, 0, 1, 0, 1, 0, 2]);
        binary.extend(b"GET /");
        assert_eq!(read(&binary), header(28, "203.0.113.9"));
        let with_tlv = [&[0; 36][..], &[4, 0, 2, 7, 7]].concat();
        assert_eq!(read(&v2_header(1, 2, &with_tlv)), header(16 + 41, "::"));
        assert_eq!(read(&v2_header(0, 1, &[1; 12])), header(28, ""), "of the proxy itself");
        assert_eq!(read(&v2_header(1, 3, &[0; 216])), header(232, ""), "of a unix socket");
        assert_eq!(read(&v2_header(0, 0, &[])), header(16, ""));
    }

    #[test]
    fn what_is_cut_needs_more_and_what_is_something_else_is_nothing() {
        for whole in [
            b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n".to_vec(),
            v2_header(1, 1, &[1; 12]),
        ] {
            for length in 0..whole.len() {
                assert_eq!(read(&whole[..length]), Found::Partial, "{length}");
            }
        }
        for other in ["GET / HTTP/1.1\r\n", "PUT", "PROXX", "\r\n\r\nGET", "\x16\x03\x01"] {
            assert_eq!(read(other.as_bytes()), Found::Nothing, "{other:?}");
        }
    }

    #[test]
    fn what_only_begins_as_a_header_is_malformed_and_none_is_without_end() {
        for wrong in [
            b"PROXY TCP4 203.0.113.9\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.999 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY \xff\r\n".to_vec(),
            [V1, &[b'x'; 200]].concat(),
            v2_header(1, 1, &[1; 11]),
            v2_header(7, 1, &[1; 12]),
            v2_header(1, 1, &[1; 5_000]),
        ] {
            assert_eq!(read(&wrong), Found::Malformed, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_end_beyond_themselves(which in 0_usize..3, bytes: Vec<u8>) {
            let start: &[u8] = [b"", V1, v2::PROTOCOL_PREFIX][which];
            let bytes = [start, &bytes].concat();
            if let Found::Header { length, .. } = read(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
