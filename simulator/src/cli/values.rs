//! What flags are written as: times, sizes, windows, lists of CPUs.

use std::time::Duration;

use super::{CpuList, Window};

/// Parses `3s`, `500ms`, `2m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let at = text
        .find(|c: char| c.is_ascii_alphabetic())
        .ok_or_else(|| format!("{text:?} has no unit; write 3s, 500ms or 2m"))?;
    let (number, unit) = text.split_at(at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => {
            return Err(format!(
                "{unit:?} is no unit of time; write us, ms, s, m or h"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{number:?} is no number"))?;
    Duration::try_from_secs_f64(number * scale).map_err(|_| format!("{text:?} is out of range"))
}

/// Parses `640x360`.
pub(super) fn size(text: &str) -> Result<(u32, u32), String> {
    let parsed = text
        .split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match parsed {
        Some((width, height)) if (16..=8192).contains(&width) && (16..=8192).contains(&height) => {
            Ok((width, height))
        }
        _ => Err(format!(
            "{text:?} is no size; write 640x360, each side 16 to 8192"
        )),
    }
}

/// Parses `NAME=0s..30s`.
pub(super) fn window(text: &str) -> Result<Window, String> {
    let parts = text
        .split_once('=')
        .and_then(|(name, range)| Some((name, range.split_once("..")?)));
    let Some((name, (from, to))) = parts else {
        return Err(format!("{text:?} is no window; write NAME=0s..30s"));
    };
    let window = Window {
        name: name.to_owned(),
        from: duration(from)?,
        to: duration(to)?,
    };
    if window.name.is_empty() || window.from >= window.to {
        return Err(format!(
            "{text:?}: a window needs a name and must end after it starts"
        ));
    }
    Ok(window)
}

/// Parses `0,2-3`.
pub(super) fn cpu_list(text: &str) -> Result<CpuList, String> {
    let wrong = || format!("{text:?} is no list of CPUs; write 0 or 0,2-3");
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().map_err(|_| wrong())?;
        let to: usize = to.trim().parse().map_err(|_| wrong())?;
        if from > to || to >= 1024 {
            return Err(wrong());
        }
        cpus.extend(from..=to);
    }
    Ok(CpuList(cpus))
}
