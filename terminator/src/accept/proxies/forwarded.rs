//! The client that a chain of proxies names, in `X-Forwarded-For` or in `Forwarded` (RFC 7239): pure.
//!
//! Each proxy appends whom it has the request from, and the first entries may be anyone's invention. So the list is read from the
//! right, through the proxies that are trusted, to the first address that is not: that one is known from someone who is.

use std::net::IpAddr;

use super::ForwardedHeader;
use crate::accept::upgrade;

/// So many hops are looked at, from the right; a chain of proxies has two or three.
const MOST_HOPS: usize = 32;

/// Whom each proxy has the request from, the nearest first; nothing where it is not told as an address.
pub(crate) fn hops(head: &[u8], header: ForwardedHeader) -> Vec<Option<IpAddr>> {
    let lines = upgrade::values(head, header.as_str());
    let entries = lines.iter().rev().flat_map(|line| parts(line, ','));
    let address = |entry: &str| match header {
        ForwardedHeader::XForwardedFor => address_in(entry),
        ForwardedHeader::Forwarded => parts(entry, ';').find_map(|pair| {
            let (name, node) = pair.split_once('=')?;
            name.trim().eq_ignore_ascii_case("for").then(|| address_in(node))?
        }),
    };
    entries.take(MOST_HOPS).map(address).collect()
}

/// The client, by the address that `nearest` connected from and the hops before it.
pub(crate) fn client(nearest: IpAddr, hops: &[Option<IpAddr>], is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = nearest;
    for hop in hops {
        // What is no address was told by someone who is trusted, and is not to be known more exactly.
        let Some(address) = *hop else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// What is between separators, but for those within quotes (RFC 9110 §5.6.4), from the right. Whatever stands at the left, an open quote
/// above all, changes nothing of how the rest is read: the proxy that wrote the end may have passed on what its client had begun.
fn parts(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(at) = last_unquoted(text, separator) else {
            return rest.take();
        };
        rest = Some(&text[..at]);
        Some(&text[at + separator.len_utf8()..])
    })
}

/// Where the last separator is that is not within quotes.
fn last_unquoted(text: &str, separator: char) -> Option<usize> {
    let mut quoted = false;
    for (at, letter) in text.char_indices().rev() {
        if letter == '"' {
            let escapes = text[..at].bytes().rev().take_while(|byte| *byte == b'\\').count();
            // A backslash means nothing but within quotes.
            quoted = !quoted || escapes % 2 == 1;
        } else if letter == separator && !quoted {
            return Some(at);
        }
    }
    None
}

/// An address, with or without a port (which may be obfuscated, RFC 7239 §6.2), a zone, quotes and brackets: `192.0.2.1`,
/// `192.0.2.1:4711`, `"[2001:db8::1]:_port"`, `fe80::1%eth0`.
fn address_in(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim();
    let entry = entry
        .strip_prefix('"')
        .and_then(|entry| entry.strip_suffix('"'))
        .unwrap_or(entry);
    let address = match entry.strip_prefix('[').map(|entry| entry.split_once(']')) {
        Some(Some((address, port))) if port.is_empty() || port.starts_with(':') => address,
        Some(_) => return None,
        None => match entry.split_once(':') {
            Some((address, port)) if !port.contains(':') => address,
            _ => entry,
        },
    };
    let address = address.split_once('%').map_or(address, |(address, _)| address);
    Some(address.parse::<IpAddr>().ok()?.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(lines: &[&str]) -> Vec<u8> {
        format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes()
    }

    /// By a proxy at 10.0.0.1, where all of 10.0.0.0/8 are proxies.
    fn client_of(lines: &[&str], header: ForwardedHeader) -> String {
        let trusted = |address: IpAddr| address.to_string().starts_with("10.");
        let hops = hops(&head(lines), header);
        client("10.0.0.1".parse().unwrap(), &hops, trusted).to_string()
    }

    #[test]
    fn x_forwarded_for_is_read_from_the_right_to_the_first_that_is_not_trusted() {
        for (lines, expected) in [
            (&["X-Forwarded-For: 203.0.113.9"][..], "203.0.113.9"),
            (&["x-forwarded-for: 198.51.100.1, 203.0.113.9"], "203.0.113.9"),
            (&["X-Forwarded-For: 198.51.100.1, 203.0.113.9, 10.0.0.7"], "203.0.113.9"),
            (
                &[
                    "X-Forwarded-For: 198.51.100.1",
                    "X-Forwarded-For: 203.0.113.9 ,10.0.0.7",
                ],
                "203.0.113.9",
            ),
            (&["X-Forwarded-For: 10.0.0.9, 10.0.0.8"], "10.0.0.9"),
            (&["X-Forwarded-For: 203.0.113.9:4711"], "203.0.113.9"),
            (&["X-Forwarded-For: 2001:db8::1"], "2001:db8::1"),
            (&["X-Forwarded-For: [2001:db8::1]:80"], "2001:db8::1"),
            (&["X-Forwarded-For: ::ffff:203.0.113.9"], "203.0.113.9"),
            (&["X-Forwarded-For: fe80::1%eth0"], "fe80::1"),
            (&["X-Forwarded-For: 203.0.113.9, unknown"], "10.0.0.1"),
            (&["X-Forwarded-For: 203.0.113.9, [::1"], "10.0.0.1"),
            (&["X-Forwarded-For: 203.0.113.9, [2001:db8::1]x"], "10.0.0.1"),
            // What its client had begun, a proxy has passed on, and added to it.
            (&["X-Forwarded-For: \", 203.0.113.9"], "203.0.113.9"),
            (&["X-Forwarded-For: \u{fffd}\\, 203.0.113.9"], "203.0.113.9"),
            (&["X-Forwarded-For: 203.0.113.9, , 10.0.0.7"], "10.0.0.7"),
            (&["X-Forwarded-For: "], "10.0.0.1"),
            (&["Forwarded: for=203.0.113.9"], "10.0.0.1"),
            (&["X-Other: y"], "10.0.0.1"),
        ] {
            assert_eq!(client_of(lines, ForwardedHeader::XForwardedFor), expected, "{lines:?}");
        }
    }

    #[test]
    fn forwarded_is_read_likewise_with_its_pairs_and_quotes() {
        for (lines, expected) in [
            (
                &["Forwarded: for=203.0.113.9;proto=https;by=10.0.0.1"][..],
                "203.0.113.9",
            ),
            (&["Forwarded: For=\"[2001:db8::1]:4711\""], "2001:db8::1"),
            (
                &["Forwarded: proto=http;FOR=\"203.0.113.9:80\" , for=10.0.0.7"],
                "203.0.113.9",
            ),
            (&["Forwarded: host=\"a,for=1.1.1.1\";for=203.0.113.9"], "203.0.113.9"),
            (
                &["Forwarded: host=\"a\\\",for=1.1.1.1\";for=203.0.113.9"],
                "203.0.113.9",
            ),
            (
                &["Forwarded: for=198.51.100.1", "Forwarded: for=203.0.113.9"],
                "203.0.113.9",
            ),
            (&["Forwarded: for=198.51.100.1, for=_hidden"], "10.0.0.1"),
            (&["Forwarded: for=\"192.0.2.43:_port\""], "192.0.2.43"),
            (&["Forwarded: for=\"[fe80::1%eth0]:_port\""], "fe80::1"),
            (&["Forwarded: host=\"a\\\\\", for=203.0.113.9"], "203.0.113.9"),
            (&["Forwarded: host=\"a\\\\\";for=203.0.113.9"], "203.0.113.9"),
            // A quote that the client has opened, and the proxy has not closed.
            (&["Forwarded: for=1.1.1.1;x=\", for=203.0.113.9"], "203.0.113.9"),
            (&["Forwarded: for=1.1.1.1;x=\", for=\"[2001:db8::1]:1\""], "2001:db8::1"),
            (
                &["Forwarded: for=1.1.1.1;x=\"\\, for=\"[2001:db8::1]:1\""],
                "2001:db8::1",
            ),
            (&["Forwarded: for=198.51.100.1, proto=http"], "10.0.0.1"),
            (&["X-Forwarded-For: 203.0.113.9"], "10.0.0.1"),
        ] {
            assert_eq!(client_of(lines, ForwardedHeader::Forwarded), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_is_no_text_hides_nothing_behind_it() {
        let head = b"GET / HTTP/1.1\r\nX-Forwarded-For: \xff, 203.0.113.9\r\n\r\n";
        let hops = hops(head, ForwardedHeader::XForwardedFor);
        assert_eq!(hops, [Some("203.0.113.9".parse().unwrap()), None]);
    }

    proptest! {
        #[test]
        fn what_stands_at_the_left_changes_nothing_of_what_a_proxy_wrote(left in "\\PC*") {
            for (header, own) in [
                (ForwardedHeader::XForwardedFor, "203.0.113.9"),
                (ForwardedHeader::Forwarded, "for=203.0.113.9;host=\"a,b\""),
                (ForwardedHeader::Forwarded, "for=\"203.0.113.9:80\""),
            ] {
                let lines = format!("{}: {left}, {own}", header.as_str());
                prop_assert_eq!(client_of(&[&lines], header), "203.0.113.9");
            }
        }

        #[test]
        fn no_value_makes_it_panic(value in "\\PC*", forwarded: bool) {
            let header = if forwarded { ForwardedHeader::Forwarded } else { ForwardedHeader::XForwardedFor };
            let lines = format!("{}: {value}", header.as_str());
            let _ = client_of(&[&lines], header);
        }
    }
}
