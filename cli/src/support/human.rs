//! Durations and moments as people write and read them.

use std::time::Duration;

use shared::service::clock::Timestamp;
use shared::service::config::Value;
use shared::wire::id::ConnectionId;

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

/// Reads the name of a connection.
///
/// # Errors
/// A sentence that says what one looks like, and where it stands.
pub(crate) fn parse_connection(text: &str) -> Result<ConnectionId, String> {
    text.parse().map_err(|_| {
        "want a connection's id such as 0f3c9a2b7d51e604.1f; logs have it, clients have it in auth.resume before its \
         last dot, and `countersign inspect identity` lists it"
            .to_owned()
    })
}

/// Reads a moment: seconds since 1970, as a NumericDate (RFC 7519 §2), or a date and time in UTC (RFC 3339).
///
/// # Errors
/// A sentence that says what a moment looks like.
pub(crate) fn parse_moment(text: &str) -> Result<Timestamp, String> {
    // 253,402,300,799 s is the end of the year 9999.
    if let Some(seconds) = text.parse().ok().filter(|seconds| *seconds <= 253_402_300_799) {
        return Ok(Timestamp::from_secs(seconds));
    }
    rfc3339(text).ok_or_else(|| "want seconds since 1970, or a time in UTC such as 2026-11-23T22:01:34Z".to_owned())
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = text.split_once(['T', ' '])?;
    let date = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time.strip_suffix('Z')?, ':', [2, 2, 2])?;
    let days = days_since_epoch(date)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let of_day = hour * 3_600 + minute * 60 + second;
    Some(Timestamp::from_secs(days * SECONDS_PER_DAY + of_day))
}

/// Three numbers of so many digits each.
fn numbers(text: &str, separator: char, digits: [usize; 3]) -> Option<[u64; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let parts: [&str; 3] = parts.try_into().ok()?;
    let mut read = [0; 3];
    for ((part, digits), number) in parts.into_iter().zip(digits).zip(&mut read) {
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    Some(read)
}

/// The inverse of [`civil_date`], which decides what is a date.
fn days_since_epoch(date: [u64; 3]) -> Option<u64> {
    let [year, month, day] = date;
    // No date is further than this from 365.2425 days a year and 30.44 days a month.
    let guess = (year.checked_sub(1970)? * 146_097 / 400 + month * 3_044 / 100 + day).saturating_sub(40);
    (guess..guess + 80).find(|days| civil_date(*days) == (year, month, day))
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

/// `22:01:34.120`, in UTC.
pub(crate) fn time_of_day(moment: Timestamp) -> String {
    let ms = moment.as_millis() % (SECONDS_PER_DAY * 1_000);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{:03}", ms % 1_000)
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
    fn a_moment_is_read_as_it_is_told() {
        for seconds in [
            0,
            951_825_599,
            951_868_800,
            1_795_470_905,
            4_107_542_400,
            253_402_300_799,
        ] {
            let moment = Timestamp::from_secs(seconds);
            let text = utc(moment).replace(" UTC", "Z");
            assert_eq!(parse_moment(&text), Ok(moment), "{text}");
            assert_eq!(parse_moment(&text.replace(' ', "T")), Ok(moment));
            assert_eq!(parse_moment(&seconds.to_string()), Ok(moment));
        }
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        for text in [
            "",
            "-1",
            "now",
            "1795470905000",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T22:01:34+01:00",
            "2026-11-23",
            "1969-12-31T23:59:59Z",
        ] {
            assert!(parse_moment(text).is_err(), "{text}");
        }
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
