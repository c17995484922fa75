//! Durations and moments as people write and read them.

use std::time::Duration;

use shared::clock::Timestamp;
use shared::config::Value;

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// Units from the greatest, with their seconds.
const UNITS: [(&str, u64); 4] = [("d", SECONDS_PER_DAY), ("h", 3_600), ("min", 60), ("s", 1)];

/// Reads `250ms`, `5s`, `5m` or `24h`, as the settings do.
///
/// # Errors
/// A sentence that says what a duration looks like.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    <Duration as Value>::parse(text).map_err(|want| format!("want {want}"))
}

/// `1 h 5 min`: the two greatest units that are not zero.
pub(crate) fn duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    let mut parts = Vec::new();
    for (name, seconds) in UNITS {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            parts.push(format!("{count} {name}"));
        }
    }
    if parts.is_empty() {
        return "less than a second".to_owned();
    }
    parts.truncate(2);
    parts.join(" ")
}

/// `in 5 min` or `3 h ago`.
pub(crate) fn relative(moment: Timestamp, now: Timestamp) -> String {
    if moment >= now {
        format!("in {}", duration(moment.saturating_since(now)))
    } else {
        format!("{} ago", duration(now.saturating_since(moment)))
    }
}

/// `2026-11-23 22:01:34 UTC`.
pub(crate) fn utc(moment: Timestamp) -> String {
    let seconds = moment.as_secs();
    let (year, month, day) = civil_date(seconds / SECONDS_PER_DAY);
    let of_day = seconds % SECONDS_PER_DAY;
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The Gregorian date so many days after 1970-01-01.
///
/// Years are counted from March, so that the leap day is a year's last
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil_date(days_since_epoch: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097; // 400 years
    let days = days_since_epoch + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_told_in_its_two_greatest_units() {
        assert_eq!(duration(Duration::from_secs(3_900)), "1 h 5 min");
        assert_eq!(duration(Duration::from_secs(90_061)), "1 d 1 h");
        assert_eq!(duration(Duration::from_millis(999)), "less than a second");
    }

    #[test]
    fn moments_are_told_in_utc_leap_days_too() {
        let told = |seconds| utc(Timestamp::from_secs(seconds));
        assert_eq!(told(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(told(951_825_599), "2000-02-29 11:59:59 UTC");
        assert_eq!(told(1_795_470_905), "2026-11-23 21:55:05 UTC");
        assert_eq!(told(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }
}
