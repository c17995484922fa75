//! X.509 certificates in PEM: the chain, its key, and from when until when it is good.
//!
//! The TLS that is linked tells the two times to no one, so they are read here, and nothing else of a certificate
//! (RFC 5280 §4.1). What cannot be read has no times; whether it is a certificate is for TLS to say.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::service::clock::Timestamp;

/// From when until when a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before that.
    pub from: Timestamp,
    /// Not after that.
    pub until: Timestamp,
}

/// The certificates in a PEM file, in their order.
///
/// # Errors
/// That there are none, or that they cannot be read.
pub fn chain(content: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(content)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("cannot be read as PEM: {error}"))?;
    if chain.is_empty() {
        return Err("has no certificate in PEM in it".to_owned());
    }
    Ok(chain)
}

/// The private key in a PEM file: PKCS #8, PKCS #1 or SEC 1.
///
/// # Errors
/// That there is none.
pub fn private_key(content: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(content).map_err(|_| "has no private key in PEM in it".to_owned())
}

/// When the first of these certificates ends.
pub fn ends(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    chain.iter().filter_map(|der| validity(der)).map(|it| it.until).min()
}

/// What is doubtful about the first certificate of a chain, which is the one that counts, at that moment.
pub fn doubt(chain: &[CertificateDer<'_>], now: Timestamp) -> Option<&'static str> {
    let validity = validity(chain.first()?)?;
    if validity.until < now {
        Some("it has expired: peers will refuse it")
    } else if now < validity.from {
        Some("it is not valid yet: peers will refuse it")
    } else {
        None
    }
}

/// The times of a certificate in DER.
pub fn validity(certificate: &[u8]) -> Option<Validity> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate, SEQUENCE)?;
    // The version may be missing; serial number, algorithm and issuer may not.
    if let Some((_, behind)) = element(rest, VERSION) {
        rest = behind;
    }
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    let (times, _) = element(rest, SEQUENCE)?;
    let (from, behind) = time(times)?;
    let (until, _) = time(behind)?;
    Some(Validity { from, until })
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

/// The content of the element at the beginning, if it has this tag, and what is behind it (X.690 §8.1).
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    if first != tag {
        return None;
    }
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        short @ 0..=0x7f => (usize::from(short), rest),
        // Certificates that need more than three bytes for a length are larger than any file that is read.
        long @ 0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let length = length.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ` (RFC 5280 §4.1.2.5).
fn time(bytes: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest, year_digits) = match *bytes.first()? {
        UTC_TIME => element(bytes, UTC_TIME).map(|(text, rest)| (text, rest, 2))?,
        GENERALIZED_TIME => element(bytes, GENERALIZED_TIME).map(|(text, rest)| (text, rest, 4))?,
        _ => return None,
    };
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != year_digits + 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| {
        digits
            .iter()
            .fold(0_u64, |sum, digit| sum * 10 + u64::from(digit - b'0'))
    };
    let (year, others) = digits.split_at(year_digits);
    let year = match (year_digits, number(year)) {
        (2, year @ 50..) => 1_900 + year,
        (2, year) => 2_000 + year,
        (_, year) => year,
    };
    let mut pairs = others.chunks(2).map(number);
    let (month, day) = (pairs.next()?, pairs.next()?);
    let (hour, minute, second) = (pairs.next()?, pairs.next()?, pairs.next()?);
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !in_range {
        return None;
    }
    let days = days_since_1970(year, month, day);
    Some((
        Timestamp::from_secs(days * 86_400 + hour * 3_600 + minute * 60 + second),
        rest,
    ))
}

/// Of the Gregorian calendar; 0 for what was before 1970.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March, so that the day that comes now and then is their last.
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let month = (month + 9) % 12;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days.saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For `localhost`, from 2020 to 2120.
    const CERTIFICATE: &str = include_str!("certificate/localhost.pem");

    #[test]
    fn the_two_times_of_a_certificate_are_read() {
        let chain = chain(CERTIFICATE.as_bytes()).unwrap();
        let validity = validity(&chain[0]).unwrap();
        assert_eq!(validity.from, Timestamp::from_secs(1_577_836_800));
        assert_eq!(validity.until, Timestamp::from_secs(4_733_510_400));
        assert_eq!(ends(&chain), Some(validity.until));
        for (at, doubtful) in [(1_577_836_799, true), (1_577_836_800, false), (4_733_510_401, true)] {
            assert_eq!(doubt(&chain, Timestamp::from_secs(at)).is_some(), doubtful, "{at}");
        }
    }

    #[test]
    fn days_are_counted_as_the_calendar_has_them() {
        for (year, month, day, days) in [
            (1970, 1, 1, 0),
            (1970, 12, 31, 364),
            (2000, 2, 29, 11_016),
            (2000, 3, 1, 11_017),
            (2026, 11, 29, 20_786),
            (1950, 1, 1, 0),
        ] {
            assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn whatever_is_cut_or_changed_is_read_or_has_no_times() {
        let chain = chain(CERTIFICATE.as_bytes()).unwrap();
        for cut in 0..chain[0].len() {
            assert!(validity(&chain[0][..cut]).is_none(), "{cut}");
            for bit in 0..8 {
                let mut changed = chain[0].to_vec();
                changed[cut] ^= 1 << bit;
                let _ = validity(&changed);
            }
        }
    }

    #[test]
    fn every_certificate_of_this_machine_has_times() {
        let bundle = std::fs::read("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
        for certificate in chain(&bundle).unwrap_or_default() {
            let validity = validity(&certificate).expect("two times");
            assert!(validity.from < validity.until);
        }
    }

    #[test]
    fn what_is_no_certificate_and_no_key_is_said_to_be_none() {
        for content in [
            "",
            "secret",
            "-----BEGIN PRIVATE KEY-----\nMIG\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(chain(content.as_bytes()).is_err(), "{content}");
        }
        assert!(private_key(CERTIFICATE.as_bytes()).is_err());
    }
}
