//! HMAC secrets: what may be one.
//!
//! Anyone who knows a secret signs in anyone's name, and no token ever shows that it
//! was a bad one. So what was made to be shown to others (a public key, a page, JSON, a
//! token, text of several words) is refused even where it is named a secret (RFC 8725
//! §3.1), and so is what is short or of little variety (RFC 7518 §3.2).

use std::collections::BTreeMap;

use super::limits::MIN_HMAC_BYTES;
use super::looks::looks;
use crate::token::Fault;

/// What the letters alone must allow for.
const MIN_BITS: f64 = 128.0;
/// What the letters that are there show of it. 128 random bits in 32 hexadecimal digits show about 110, since so short a
/// text does not use all digits equally; what shows much less is a pattern.
const MIN_SHOWN_BITS: f64 = 80.0;

/// The secret in a file: all of it but one newline at its end, which editors and `echo` leave there.
///
/// # Errors
/// Why it must not be used as one.
pub fn secret_in(content: &[u8]) -> Result<&[u8], Fault> {
    let secret = content
        .strip_suffix(b"\r\n")
        .or_else(|| content.strip_suffix(b"\n"))
        .unwrap_or(content);
    check(secret).map(|()| secret)
}

/// Whether these bytes may be used as a secret.
///
/// # Errors
/// Why they must not.
pub fn check(secret: &[u8]) -> Result<(), Fault> {
    if secret.len() < MIN_HMAC_BYTES {
        return Err(Fault::WeakSecret(secret.len()));
    }
    let looks = looks(secret);
    if !looks.may_be_secret() {
        return Err(Fault::PublicSecret(looks));
    }
    if bits_of_letters(secret) < MIN_BITS || shown_bits(secret) < MIN_SHOWN_BITS {
        return Err(Fault::GuessableSecret);
    }
    Ok(())
}

/// What a text of that length could hold at most, of letters as these are.
fn bits_of_letters(secret: &[u8]) -> f64 {
    let distinct = counts(secret.iter().copied()).len();
    let letters = if distinct <= 8 {
        distinct
    } else if secret.iter().all(u8::is_ascii_digit) {
        10
    } else if secret.iter().all(u8::is_ascii_hexdigit) {
        16
    } else {
        256
    };
    (letters as f64).log2() * secret.len() as f64
}

/// The least of what the letters, the steps from one to the next, and the part that is repeated show.
fn shown_bits(secret: &[u8]) -> f64 {
    let steps = |bytes: &[u8]| -> Vec<u8> { bytes.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect() };
    let part = &secret[..period(secret)];
    entropy(part).min(entropy(&steps(secret)))
}

/// Shannon's, of all letters together, in bits.
fn entropy(bytes: &[u8]) -> f64 {
    let all = bytes.len() as f64;
    let of = |count: usize| count as f64 * (all / count as f64).log2();
    counts(bytes.iter().copied()).into_values().map(of).sum()
}

fn counts(bytes: impl Iterator<Item = u8>) -> BTreeMap<u8, usize> {
    let mut counts = BTreeMap::new();
    for byte in bytes {
        *counts.entry(byte).or_default() += 1;
    }
    counts
}

/// After how many bytes it begins anew; its length if it never does.
fn period(bytes: &[u8]) -> usize {
    // The failure function of Knuth, Morris and Pratt: linear, since a file may have a mebibyte.
    let mut borders = vec![0; bytes.len()];
    let mut border = 0;
    for at in 1..bytes.len() {
        while border > 0 && bytes[at] != bytes[border] {
            border = borders[border - 1];
        }
        border += usize::from(bytes[at] == bytes[border]);
        borders[at] = border;
    }
    bytes.len() - borders.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use sha2::{Digest as _, Sha384};

    use super::*;

    #[test]
    fn what_random_generators_print_is_a_secret() {
        for _ in 0..200 {
            let bytes: [u8; 32] = rand::random();
            assert_eq!(check(&bytes), Ok(()), "{bytes:?}");
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(
                (check(hex.as_bytes()), check(&hex.as_bytes()[..32])),
                (Ok(()), Ok(())),
                "{hex}"
            );
        }
        // The same ones each time: of a million, one looks like a key by chance.
        for number in 0..10_000_u32 {
            let bytes = Sha384::digest(number.to_be_bytes());
            for text in [STANDARD.encode(&bytes[..]), URL_SAFE_NO_PAD.encode(&bytes[..32])] {
                assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
            }
        }
        assert_eq!(
            check(b"for-development-only-everybody-knows-this-secret-of-countersign"),
            Ok(())
        );
    }

    #[test]
    fn what_is_short_or_of_little_variety_is_none() {
        assert_eq!(check(&[7; 31]), Err(Fault::WeakSecret(31)));
        let digits = "31415926535897932384626433832795028841";
        for text in [
            "k".repeat(1_000),
            "ab".repeat(500),
            "password".repeat(100),
            "0123456789".repeat(20),
            "abcdefghijklmnopqrstuvwxyz0123456789".to_owned(),
            digits.to_owned(),
        ] {
            assert_eq!(check(text.as_bytes()), Err(Fault::GuessableSecret), "{text}");
        }
        let bits = "0110100110010110100101100110100110010110011010010110100110010110";
        assert!(check(bits.as_bytes()).is_err());
        assert_eq!(check(format!("{digits}9").as_bytes()), Ok(()));
    }

    #[test]
    fn one_newline_at_the_end_is_no_part_of_it() {
        let secret = b"a-secret-that-is-not-in-any-list-of-secrets";
        for end in ["", "\n", "\r\n"] {
            assert_eq!(secret_in(&[secret, end.as_bytes()].concat()), Ok(&secret[..]));
        }
        assert_eq!(
            secret_in(&[secret, &b"\n\n"[..]].concat()).unwrap().len(),
            secret.len() + 1
        );
    }
}
