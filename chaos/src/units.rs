//! Durations, sizes and times as scenario files and reports write them: `60s`, `384MiB`, `20261122T193012Z`.
//!
//! Knows nothing of scenarios; parse errors carry what would have been right.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One mebibyte, bytes.
pub const MIB: u64 = 1 << 20;

/// A text that is no quantity of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Not a duration.
    #[error(
        "`{0}` is no duration; right would be a number with a unit: `500ms`, `60s`, `3m`, `1h`"
    )]
    Duration(String),
    /// Not a size.
    #[error(
        "`{0}` is no size; right would be a number with a unit: `512KiB`, `384MiB`, `1GiB`, `4096B`"
    )]
    Bytes(String),
    /// Not a range of times.
    #[error(
        "`{0}` is no range; right would be two times with `..` between them, the later one last: `0s..30s`"
    )]
    Range(String),
}

fn split(text: &str) -> Option<(f64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let number: f64 = text[..digits].parse().ok()?;
    Some((number, &text[digits..]))
}

/// Parses `500ms`, `60s`, `1.5m`, `1h`.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let fail = || UnitError::Duration(text.to_owned());
    let (number, unit) = split(text).ok_or_else(fail)?;
    let scale = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(fail()),
    };
    Duration::try_from_secs_f64(number * scale).map_err(|_| fail())
}

/// Parses `512KiB`, `384MiB`, `1GiB`, `4096B`.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    let fail = || UnitError::Bytes(text.to_owned());
    let (number, unit) = split(text).ok_or_else(fail)?;
    let scale = match unit {
        "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(fail()),
    };
    Ok((number * scale) as u64)
}

/// Parses `0s..30s` into its two ends.
pub fn parse_range(text: &str) -> Result<(Duration, Duration), UnitError> {
    let fail = || UnitError::Range(text.to_owned());
    let (from, to) = text.split_once("..").ok_or_else(fail)?;
    let (from, to) = (parse_duration(from)?, parse_duration(to)?);
    if to <= from {
        return Err(fail());
    }
    Ok((from, to))
}

/// Bytes as people read them: `384 MiB`.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match bytes {
        0..=1023 => format!("{bytes} B"),
        1024..=1_048_575 => format!("{:.0} KiB", value / 1024.0),
        _ if bytes < 10 * 1024 * MIB => format!("{:.0} MiB", value / MIB as f64),
        _ => format!("{:.1} GiB", value / (1024.0 * MIB as f64)),
    }
}

/// A duration as the tools' flags take it: `1500ms`, `60s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

/// A count with separators: `1,200,000`.
#[must_use]
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// So many of something, in words: `1 scenario`, `2 scenarios`.
#[must_use]
pub fn count(n: usize, one: &str, many: &str) -> String {
    let what = if n == 1 { one } else { many };
    format!("{n} {what}")
}

/// Broken-down UTC of a moment: year, month, day, hour, minute, second.
fn civil(time: SystemTime) -> (i64, u32, u32, u64, u64, u64) {
    let seconds = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    let year = yoe + era * 400 + i64::from(month <= 2);
    (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
}

/// `2026-11-22T19:30:12Z`.
#[must_use]
pub fn rfc3339(time: SystemTime) -> String {
    let (y, mo, d, h, mi, s) = civil(time);
    format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}Z")
}

/// `20261122T193012Z`, fit for a folder's name.
#[must_use]
pub fn compact_utc(time: SystemTime) -> String {
    let (y, mo, d, h, mi, s) = civil(time);
    format!("{y:04}{mo:02}{d:02}T{h:02}{mi:02}{s:02}Z")
}

/// Milliseconds since the Unix epoch, now.
#[must_use]
pub fn unix_ms_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_parse() {
        assert_eq!(parse_duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(parse_duration("1.5m").unwrap(), Duration::from_secs(90));
        assert_eq!(parse_bytes("384MiB").unwrap(), 384 * MIB);
        assert_eq!(
            parse_range("0s..30s").unwrap(),
            (Duration::ZERO, Duration::from_secs(30))
        );
        for bad in ["", "60", "s", "60 s", "60sec", "-1s", "1..2s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
            assert!(parse_bytes(bad).is_err(), "{bad}");
        }
        assert!(parse_range("30s..30s").is_err());
    }

    #[test]
    fn times_print_as_utc() {
        let at = |s| UNIX_EPOCH + Duration::from_secs(s);
        assert_eq!(rfc3339(at(0)), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(at(951_782_400)), "2000-02-29T00:00:00Z");
        assert_eq!(compact_utc(at(1_795_375_812)), "20261122T193012Z");
    }

    #[test]
    fn figures_print_for_people() {
        assert_eq!(show_count(1_200_000), "1,200,000");
        assert_eq!(show_bytes(384 * MIB), "384 MiB");
        assert_eq!(count(1, "fault", "faults"), "1 fault");
        assert_eq!(count(0, "fault", "faults"), "0 faults");
        assert_eq!(show_duration(Duration::from_millis(1500)), "1500ms");
    }
}
