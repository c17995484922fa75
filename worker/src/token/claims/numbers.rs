//! Numbers that are kept as they were written: pure.
//!
//! A number of JSON may have any digits (RFC 8259 §6), and what reads it keeps 64 bits of
//! it. An application would be told another number than the issuer signed; so a token with such a number is refused.

/// The claims that are a NumericDate (RFC 7519 §2, OpenID Connect Core §2). Clocks give them more digits of a second than 64
/// bits keep, and none of those digits matters to anyone: they are rounded.
const DATES: [&[u8]; 4] = [b"\"exp\"", b"\"nbf\"", b"\"iat\"", b"\"auth_time\""];

/// Below 2^53 a date that is rounded to 64 bits is off by less than a second.
const MAX_ROUNDED_S: f64 = (1_u64 << 53) as f64;

/// Whether every number of a text that is known to be JSON is the same when it is read and written again, but for the
/// fractions of dates.
pub(in crate::token) fn are_kept(json: &[u8]) -> bool {
    let (mut rest, mut depth, mut name) = (json, 0_usize, &b""[..]);
    let begins = |byte: &u8| matches!(byte, b'"' | b'-' | b'0'..=b'9' | b'{' | b'[' | b'}' | b']');
    while let Some(at) = rest.iter().position(begins) {
        rest = &rest[at..];
        let length = match rest[0] {
            b'"' => string(rest),
            b'-' | b'0'..=b'9' => number(rest),
            _ => 1,
        };
        let (token, behind) = rest.split_at(length);
        match token[0] {
            // The last text before a number in the outermost object is its name.
            b'"' => name = token,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {
                let is_date = depth == 1 && DATES.contains(&name);
                if !str::from_utf8(token).is_ok_and(|token| is_kept(token) || is_date && is_rounded(token)) {
                    return false;
                }
            }
        }
        rest = behind;
    }
    true
}

fn is_rounded(text: &str) -> bool {
    text.contains('.') && text.parse().is_ok_and(|seconds: f64| seconds.abs() < MAX_ROUNDED_S)
}

fn string(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn number(text: &[u8]) -> usize {
    let of_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    text.iter().position(|byte| !of_number(byte)).unwrap_or(text.len())
}

fn is_kept(text: &str) -> bool {
    let whole = text.parse::<u64>().is_ok() || text.parse::<i64>().is_ok();
    // As it is written for applications.
    let written = |read| serde_json::Number::from_f64(read).map(|number| number.to_string());
    whole
        || text
            .parse()
            .ok()
            .and_then(written)
            .is_some_and(|written| digits(&written) == digits(text))
}

/// The significant digits, and where the point stands; alike for all ways to write one number.
fn digits(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse().ok()?),
        None => (text, 0_i64),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let significant = all.trim_start_matches('0');
    if significant.is_empty() {
        return Some((negative, String::new(), 0));
    }
    let before = i64::try_from(significant.len()).ok()? - i64::try_from(fraction.len()).ok()?;
    let point = exponent.checked_add(before)?;
    Some((negative, significant.trim_end_matches('0').to_owned(), point))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_can_be_kept_is_however_it_is_written() {
        for kept in [
            "0",
            "-0",
            "0.0",
            "1",
            "18446744073709551615",
            "-9223372036854775808",
            "0.1",
            "1.50",
            "1e15",
            "1E+2",
            "-2.5e-3",
            "1e300",
        ] {
            assert!(are_kept(format!(r#"{{"a":[{kept}]}}"#).as_bytes()), "{kept}");
        }
        assert!(
            are_kept(br#"{"a\"1e999":"18446744073709551616","b":true}"#),
            "that is text"
        );
    }

    #[test]
    fn what_would_be_another_number_is_not_kept() {
        for lost in [
            "18446744073709551616",
            "-9223372036854775809",
            "0.1000000000000000055",
            "1e400",
            "123456789012345678901234567890",
            "1e-400",
        ] {
            assert!(!are_kept(format!(r#"{{"a":{{"b":{lost}}}}}"#).as_bytes()), "{lost}");
        }
    }

    #[test]
    fn a_date_may_have_any_fraction_of_a_second_and_nothing_else_may() {
        let fraction = "1796000000.123456789";
        for name in ["exp", "nbf", "iat", "auth_time"] {
            for kept in [
                fraction,
                "1796000000.1234567",
                "1796000000.99999999999999999999",
                "0.30000000000000000001",
            ] {
                assert!(
                    are_kept(format!(r#"{{"a":[{{}}],"{name}" : {kept}}}"#).as_bytes()),
                    "{name} {kept}"
                );
            }
            for lost in ["1796000000123456789012", "17960000001234567890.5", "1e400"] {
                assert!(!are_kept(format!(r#"{{"{name}":{lost}}}"#).as_bytes()), "{name} {lost}");
            }
            for elsewhere in [
                format!(r#"{{"a":{{"{name}":{fraction}}}}}"#),
                format!(r#"{{"{name}":[{fraction}]}}"#),
                format!(r#"{{"a":"{name}","b":{fraction}}}"#),
            ] {
                assert!(!are_kept(elsewhere.as_bytes()), "{elsewhere}");
            }
        }
        assert!(!are_kept(format!(r#"{{"balance":{fraction}}}"#).as_bytes()));
    }

    proptest! {
        #[test]
        fn what_is_written_from_64_bits_is_kept(whole: u64, signed: i64, real in proptest::num::f64::NORMAL) {
            prop_assert!(is_kept(&whole.to_string()) && is_kept(&signed.to_string()));
            prop_assert!(is_kept(&serde_json::Value::from(real).to_string()), "{real}");
        }
    }
}
