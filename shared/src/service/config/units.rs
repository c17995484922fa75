//! Durations and sizes, written with their unit, and shares, which have none.

use std::time::Duration;

use super::Shown;
use super::value::{Bounded, Value};

/// Units of time, in milliseconds, the greatest first.
const TIME: [(&str, u64); 4] = [("h", 60 * 60 * 1_000), ("m", 60 * 1_000), ("s", 1_000), ("ms", 1)];

/// Units of size, in bytes, the greatest first; a number without a unit is bytes.
const SIZE: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];

/// Reads whole digits and a unit out of `units`.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Writes `amount` in the greatest of `units` that it is a whole multiple of.
fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let whole = units
        .iter()
        .find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor));
    // Zero is a multiple of everything; it reads best in the unit of common use, the last but one.
    let (unit, factor) = whole.or_else(|| units.iter().rev().nth(1)).copied().unwrap_or(("", 1));
    format!("{}{unit}", amount / factor)
}

impl Value for Duration {
    fn parse(text: &str) -> Result<Self, String> {
        let ms = parse(text, &TIME).ok_or("a duration such as `250ms`, `5s`, `5m` or `24h`")?;
        Ok(Self::from_millis(ms))
    }

    fn show(&self) -> Shown {
        // Every duration was read as a u64 of milliseconds.
        show(u64::try_from(self.as_millis()).unwrap_or(u64::MAX), &TIME).into()
    }
}

impl Bounded for Duration {
    type Bound = Self;

    fn bound(&self) -> Option<&Self> {
        Some(self)
    }
}

/// A number of bytes, written `65536`, `64KiB` or `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(usize);

impl Size {
    /// A size of so many bytes.
    pub const fn from_bytes(bytes: usize) -> Self {
        Self(bytes)
    }

    /// How many bytes.
    pub const fn bytes(self) -> usize {
        self.0
    }
}

impl Value for Size {
    fn parse(text: &str) -> Result<Self, String> {
        let bytes = parse(text, &SIZE).and_then(|bytes| usize::try_from(bytes).ok());
        bytes
            .map(Self)
            .ok_or_else(|| "a size in bytes, such as `65536`, `64KiB` or `1MiB`".to_owned())
    }

    fn show(&self) -> Shown {
        // Shown as text even where it is plain bytes, so that a size always looks like one.
        show(self.0 as u64, &SIZE).into()
    }
}

impl Bounded for Size {
    type Bound = Self;

    fn bound(&self) -> Option<&Self> {
        Some(self)
    }
}

/// A share of the whole, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// Nothing of it.
    pub const NONE: Self = Self(0.0);

    /// From 0 to 1.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Value for Share {
    fn parse(text: &str) -> Result<Self, String> {
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share
            .map(Self)
            .ok_or_else(|| "a share from 0 to 1, such as `0.01`".to_owned())
    }

    fn show(&self) -> Shown {
        Shown::Float(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn duration(text: &str) -> Result<Duration, String> {
        Duration::parse(text)
    }

    #[test]
    fn a_duration_is_whole_digits_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("5 m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in [
            "",
            "5",
            "s",
            "-5s",
            "1.5s",
            "5S",
            "5s5",
            "99999999999999999999ms",
            "18446744073709551615h",
        ] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_size_is_bytes_or_has_a_binary_unit() {
        assert_eq!(Size::parse("65536"), Ok(Size(65_536)));
        assert_eq!(Size::parse("64KiB"), Ok(Size(65_536)));
        assert_eq!(Size::parse("1MiB"), Ok(Size(1 << 20)));
        for wrong in ["", "64k", "64KB", "KiB", "-1", "1.5MiB", "18446744073709551615GiB"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_none_all_or_between() {
        for (text, share) in [("0", 0.0), ("0.01", 0.01), ("1", 1.0), ("1.0", 1.0), ("1e-6", 1e-6)] {
            assert_eq!(Share::parse(text).map(Share::get), Ok(share));
        }
        for wrong in ["", "1%", "-0.1", "1.1", "NaN", "inf", "0,5"] {
            assert!(Share::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_read_back_as_the_same() {
        for ms in [0, 1, 250, 1_000, 1_001, 5_000, 300_000, 86_400_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(Duration::parse(duration.show().as_str().unwrap()), Ok(duration));
        }
        for bytes in [0, 1, 1_000, 1_024, 65_536, 1 << 20, 1 << 30] {
            assert_eq!(Size::parse(Size(bytes).show().as_str().unwrap()), Ok(Size(bytes)));
        }
        assert_eq!(Duration::from_secs(300).show().as_str(), Some("5m"));
        assert_eq!(Duration::ZERO.show().as_str(), Some("0s"));
        assert_eq!(Size(1_000).show().as_str(), Some("1000"));
    }
}
