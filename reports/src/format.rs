//! Numbers for people: a short form with a unit, and the exact value for a tooltip; and moments as numbers. Knows units, not meanings.

/// A number in two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Rounded, in the unit that reads best: `203.4 MiB`, `1.46 ms`, `400,000/s`.
    pub short: String,
    /// As recorded: `213,278,720 bytes`.
    pub exact: String,
}

/// What a number counts; taken from a unit word or from the end of a figure's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Mebibytes.
    Mebibytes,
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Share, 0..=1.
    Ratio,
    /// Share, 0..=100.
    Percent,
    /// Percentage points.
    Points,
    /// Events per second.
    PerSecond,
    /// Mebibytes per second.
    MebibytesPerSecond,
    /// Events per hour.
    PerHour,
    /// Processor cores.
    Cores,
    /// Anything else: a plain count.
    Count,
}

impl Unit {
    /// From the word in an expectation's `unit`; a word nobody knows is a count.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        match word.trim() {
            "bytes" | "byte" | "B" => Self::Bytes,
            "MiB" => Self::Mebibytes,
            "MiB/s" => Self::MebibytesPerSecond,
            "1/h" | "/h" | "per hour" => Self::PerHour,
            "s" | "seconds" => Self::Seconds,
            "ms" | "milliseconds" => Self::Millis,
            "us" | "µs" | "μs" | "microseconds" => Self::Micros,
            "ratio" | "share" => Self::Ratio,
            "%" | "percent" => Self::Percent,
            "points" | "pp" => Self::Points,
            "/s" | "1/s" | "per_s" | "per second" | "switches/s" | "ops/s" | "requests/s" => {
                Self::PerSecond
            }
            "cores" => Self::Cores,
            _ => Self::Count,
        }
    }

    /// From a figure's name, whose unit is its last word; a window's name may follow behind a point, as in
    /// `switch_p99_ms.pressed`.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        const ENDINGS: [(&str, Unit); 15] = [
            ("_mib", Unit::Mebibytes),
            ("_mib_s", Unit::MebibytesPerSecond),
            ("_per_hour", Unit::PerHour),
            ("_per_s", Unit::PerSecond),
            ("per_session", Unit::Bytes),
            ("_bytes", Unit::Bytes),
            ("_seconds", Unit::Seconds),
            ("_us", Unit::Micros),
            ("_ms", Unit::Millis),
            ("_s", Unit::Seconds),
            ("_ratio", Unit::Ratio),
            ("_share", Unit::Ratio),
            ("_percent", Unit::Percent),
            ("_points", Unit::Points),
            ("_cores", Unit::Cores),
        ];
        let name = name.split_once('.').map_or(name, |(figure, _)| figure);
        let by_ending = ENDINGS
            .iter()
            .find(|(ending, _)| name.ends_with(ending))
            .map(|(_, unit)| *unit);
        by_ending.unwrap_or(if name.contains("_bytes_per_") {
            Self::Bytes
        } else {
            Self::Count
        })
    }

    /// Of a value that is stated with a unit word; without one (schema version 1 has some) the figure's name says.
    #[must_use]
    pub fn stated(word: &str, name: &str) -> Self {
        if word.trim().is_empty() {
            Self::of_name(name)
        } else {
            Self::of_word(word)
        }
    }

    /// Whether it is a length of time.
    #[must_use]
    pub fn is_time(self) -> bool {
        matches!(self, Self::Seconds | Self::Millis | Self::Micros)
    }

    /// Whether it is something per time.
    #[must_use]
    pub fn is_rate(self) -> bool {
        matches!(
            self,
            Self::PerSecond | Self::PerHour | Self::MebibytesPerSecond | Self::Cores
        )
    }
}

/// What was seen and its bound without what they count: short, or with every digit where they would read alike without being so.
#[must_use]
pub fn show_against(seen: f64, bound: f64, unit: Unit) -> [String; 2] {
    let both = [seen, bound].map(|value| show(value, unit));
    if both[0].short != both[1].short || seen == bound {
        return both.map(|shown| shown.short);
    }
    both.map(|shown| shown.exact)
}

/// `value` as an expectation states it, with what a plain count counts: `1.46 ms`, `203.4 MiB`, `3 kills`.
#[must_use]
pub fn stated(value: f64, word: &str, name: &str) -> String {
    let unit = Unit::stated(word, name);
    show(value, unit).short + &counted(value, unit, word)
}

/// What was seen and its bound as an expectation states them; with every digit where they would read alike without being so.
#[must_use]
pub fn stated_against(seen: f64, bound: f64, word: &str, name: &str) -> [String; 2] {
    let unit = Unit::stated(word, name);
    let [mut shown, mut demanded] = show_against(seen, bound, unit);
    shown += &counted(seen, unit, word);
    demanded += &counted(bound, unit, word);
    [shown, demanded]
}

/// What a plain count counts, behind a blank; nothing where its unit is a word of no use such as `count`.
#[must_use]
pub fn counted(value: f64, unit: Unit, word: &str) -> String {
    if unit == Unit::Count && !matches!(word, "" | "1" | "count") {
        format!(" {}", of_as_many(value, word))
    } else {
        String::new()
    }
}

/// The word for that many of what `plural` names: one kill, two kills; one pass, two passes; one entry, two entries. Signs such as ns
/// have no plural.
fn of_as_many(value: f64, plural: &str) -> String {
    const ENDINGS: [(&str, &str); 6] = [
        ("sses", "ss"),
        ("ches", "ch"),
        ("shes", "sh"),
        ("xes", "x"),
        ("ies", "y"),
        ("s", ""),
    ];
    let one = value == 1.0 && plural.len() > 3 && !plural.contains('/');
    let singular = ENDINGS
        .iter()
        .filter(|_| one)
        .find_map(|(many, one)| Some(plural.strip_suffix(many)?.to_owned() + one));
    singular.unwrap_or_else(|| plural.to_owned())
}

/// `value` in `unit`, both forms.
#[must_use]
pub fn show(value: f64, unit: Unit) -> Shown {
    if !value.is_finite() {
        return Shown {
            short: "–".into(),
            exact: "not a number".into(),
        };
    }
    let number = grouped_exact(value);
    let (short, exact) = match unit {
        Unit::Bytes => (bytes(value), format!("{number} bytes")),
        Unit::Mebibytes => (bytes(value * 1_048_576.0), format!("{number} MiB")),
        Unit::Seconds => (seconds(value), format!("{number} s")),
        Unit::Millis => (seconds(value / 1e3), format!("{number} ms")),
        Unit::Micros => (seconds(value / 1e6), format!("{number} µs")),
        Unit::Ratio => (format!("{} %", rounded(value * 100.0)), number),
        Unit::Percent => (format!("{} %", rounded(value)), format!("{number} %")),
        Unit::Points => {
            let points = of_as_many(value, "points");
            (
                format!("{} {points}", rounded(value)),
                format!("{number} percentage {points}"),
            )
        }
        Unit::PerSecond => (
            format!("{}/s", rounded(value)),
            format!("{number} per second"),
        ),
        Unit::MebibytesPerSecond => (
            format!("{}/s", bytes(value * 1_048_576.0)),
            format!("{number} MiB per second"),
        ),
        Unit::PerHour => (
            format!("{} per hour", rounded(value)),
            format!("{number} per hour"),
        ),
        Unit::Cores => {
            let cores = of_as_many(value, "cores");
            (
                format!("{} {cores}", rounded(value)),
                format!("{number} {cores}"),
            )
        }
        Unit::Count => (rounded(value), number),
    };
    Shown { short, exact }
}

/// Bytes with a binary prefix: `640 B`, `61.0 KiB`, `203.4 MiB`.
#[must_use]
pub fn bytes(value: f64) -> String {
    const PREFIXES: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if value.abs() < 1024.0 {
        return format!("{} B", rounded(value));
    }
    let mut scaled = value / 1024.0;
    let mut prefix = 0;
    while scaled.abs() >= 1024.0 && prefix + 1 < PREFIXES.len() {
        scaled /= 1024.0;
        prefix += 1;
    }
    let digits = if (scaled - scaled.round()).abs() < 0.005 {
        0
    } else {
        1
    };
    format!("{scaled:.digits$} {}", PREFIXES[prefix])
}

/// A duration in seconds, in the unit that reads best: `830 µs`, `1.46 ms`, `60 s`, `6 min 5 s`.
#[must_use]
pub fn seconds(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 {
        "0 s".into()
    } else if size < 1e-3 {
        format!("{} µs", significant(value * 1e6))
    } else if size < 1.0 {
        format!("{} ms", significant(value * 1e3))
    } else if size < 120.0 {
        format!("{} s", significant(value))
    } else {
        let whole = value.round();
        format!(
            "{:.0} min {:.0} s",
            (whole / 60.0).trunc(),
            (whole % 60.0).abs()
        )
    }
}

/// A count: whole numbers grouped by thousands, fractions to about four digits.
#[must_use]
pub fn rounded(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 {
        grouped(value.round(), 0)
    } else {
        significant(value)
    }
}

/// About three significant digits, without trailing zeros behind a point: what is little is not shown as nothing.
fn significant(value: f64) -> String {
    const DIGITS_MAX: f64 = 9.0;
    let whole = value.abs().log10().floor();
    let digits = (2.0 - whole).clamp(0.0, DIGITS_MAX) as usize;
    trim_zeros(&grouped(value, digits))
}

fn trim_zeros(text: &str) -> String {
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text.to_owned()
    }
}

/// All digits that were recorded (at most six behind the point), grouped by thousands.
fn grouped_exact(value: f64) -> String {
    trim_zeros(&grouped(value, 6))
}

fn grouped(value: f64, digits: usize) -> String {
    let plain = format!("{:.digits$}", value.abs());
    let (whole, fraction) = plain
        .split_once('.')
        .map_or((plain.as_str(), None), |(w, f)| (w, Some(f)));
    let mut text = String::with_capacity(plain.len() + plain.len() / 3 + 1);
    if value < 0.0 && plain.bytes().any(|b| b.is_ascii_digit() && b != b'0') {
        text.push('-');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if let Some(fraction) = fraction {
        text.push('.');
        text.push_str(fraction);
    }
    text
}

/// Milliseconds since the Unix epoch of a moment as records write it, `2026-11-22T19:34:00Z`. None for anything else.
#[must_use]
pub fn unix_ms(rfc3339: &str) -> Option<u64> {
    let (date, time) = rfc3339.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = whole(date, '-')?;
    let [hour, minute, second] = whole(time, ':')?;
    let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
    if !fits || second > 60 {
        return None;
    }
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second;
    u64::try_from(seconds * 1000).ok()
}

/// Three whole numbers with `between` between them.
fn whole(text: &str, between: char) -> Option<[i64; 3]> {
    let parts: Vec<i64> = text
        .split(between)
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    parts.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(value: f64, unit: Unit) -> String {
        show(value, unit).short
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(short(402_653_184.0, Unit::Bytes), "384 MiB");
        assert_eq!(short(213_278_720.0, Unit::Bytes), "203.4 MiB");
        assert_eq!(short(61.2, Unit::Bytes), "61.2 B");
        assert_eq!(short(399_987.4, Unit::PerSecond), "399,987/s");
        assert_eq!(short(1_460.0, Unit::Micros), "1.46 ms");
        assert_eq!(short(830.0, Unit::Micros), "830 µs");
        assert_eq!(short(10.0, Unit::Millis), "10 ms");
        assert_eq!(short(365.0, Unit::Seconds), "6 min 5 s");
        assert_eq!(short(0.9921, Unit::Ratio), "99.2 %");
        assert_eq!(short(0.0, Unit::Ratio), "0 %");
        assert_eq!(short(1_200_000.0, Unit::Count), "1,200,000");
        assert_eq!(short(0.004, Unit::Ratio), "0.4 %");
        assert_eq!(short(0.001_649, Unit::Ratio), "0.165 %");
        assert_eq!(short(4e-7, Unit::Ratio), "0.00004 %");
        assert_eq!(short(0.2374, Unit::Cores), "0.237 cores");
        assert_eq!(short(f64::NAN, Unit::Count), "–");
        assert_eq!(short(-0.0, Unit::Count), "0");
        assert_eq!(short(-1500.0, Unit::Count), "-1,500");
    }

    #[test]
    fn a_stated_unit_goes_before_the_name() {
        assert_eq!(stated(3.0, "kills", "service_oom_kills"), "3 kills");
        assert_eq!(stated(1.0, "kills", "service_oom_kills"), "1 kill");
        assert_eq!(stated(1.0, "switches", ""), "1 switch");
        assert_eq!(stated(1.0, "losses", ""), "1 loss");
        assert_eq!(stated(1.0, "entries", ""), "1 entry");
        assert_eq!(stated(1.0, "ns", ""), "1 ns");
        assert_eq!(stated(1.0, "cores", ""), "1 core");
        assert_eq!(stated(1.0, "points", ""), "1 point");
        assert_eq!(stated(0.0, "uploads", ""), "0 uploads");
        assert_eq!(stated(12.345, "ms", "odd_s"), "12.3 ms");
        assert_eq!(stated(2.0, "", "recovery_s"), "2 s");
        assert_eq!(stated(2.0, "count", "evictions"), "2");
        let alike = stated_against(0.89996, 0.9, "ratio", "hit_ratio");
        assert_eq!(alike, ["0.89996", "0.9"]);
        assert_eq!(stated_against(0.5, 0.9, "ratio", ""), ["50 %", "90 %"]);
        assert_eq!(stated_against(0.9, 0.9, "ratio", ""), ["90 %", "90 %"]);
    }

    #[test]
    fn exact_keeps_every_digit() {
        assert_eq!(show(213_278_720.0, Unit::Bytes).exact, "213,278,720 bytes");
        assert_eq!(show(0.992_137, Unit::Ratio).exact, "0.992137");
    }

    #[test]
    fn moments_are_utc() {
        assert_eq!(unix_ms("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(unix_ms("2000-02-29T00:00:00Z"), Some(951_782_400_000));
        assert_eq!(unix_ms("2026-11-22T19:30:12Z"), Some(1_795_375_812_000));
        for bad in [
            "",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "2026-11-22T19:30Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(unix_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn units_come_from_names_and_words() {
        assert_eq!(Unit::of_name("peak_bytes"), Unit::Bytes);
        assert_eq!(Unit::of_name("switch_rate_per_s"), Unit::PerSecond);
        assert_eq!(Unit::of_name("switch_p99_us"), Unit::Micros);
        assert_eq!(Unit::of_name("recovery_s"), Unit::Seconds);
        assert_eq!(Unit::of_name("hit_ratio"), Unit::Ratio);
        assert_eq!(Unit::of_name("bytes_per_session"), Unit::Bytes);
        assert_eq!(Unit::of_name("evictions"), Unit::Count);
        assert_eq!(Unit::of_name("switch_p99_ms.pressed"), Unit::Millis);
        assert_eq!(short(320.0, Unit::of_name("service_peak_mib")), "320 MiB");
        assert_eq!(short(800.0, Unit::of_name("burst_rate_mib_s")), "800 MiB/s");
        assert_eq!(short(800.0, Unit::of_word("MiB/s")), "800 MiB/s");
        assert_eq!(Unit::of_word("µs"), Unit::Micros);
        assert_eq!(Unit::of_word("kills"), Unit::Count);
    }
}
