//! Times and sizes in options: `"30s"`, `"512MB"`.

use std::time::Duration;

/// A whole number and the unit behind it.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    Some((number, text[end..].trim_start()))
}

/// `"30s"`: a whole number of us, ms, s, min or h. The error is a remedy.
pub fn duration(text: &str) -> Result<Duration, String> {
    let help = "write a whole number with a unit out of us, ms, s, min and h, like \"30s\"";
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` is no duration: {help}"))?;
    let micros = match unit {
        "us" | "µs" => Some(number),
        "ms" => number.checked_mul(1_000),
        "s" => number.checked_mul(1_000_000),
        "min" => number.checked_mul(60_000_000),
        "h" => number.checked_mul(3_600_000_000),
        "" => return Err(format!("`{text}` has no unit: {help}")),
        other => return Err(format!("`{other}` is no unit of time: {help}")),
    };
    match micros {
        Some(0) => Err("a timeout of zero would end every attempt at once: give it some time".to_owned()),
        Some(micros) => Ok(Duration::from_micros(micros)),
        None => Err(format!("`{text}` is too long: the longest duration has 2^64 microseconds")),
    }
}

/// `"512MB"` in MiB. As on AWS, MB means MiB. The error is a remedy.
pub fn memory(text: &str) -> Result<u64, String> {
    let help = "write a whole number with a unit out of MB (= MiB) and GB (= GiB), like \"512MB\"";
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` is no size: {help}"))?;
    let mebibytes = match unit {
        "" | "MB" | "MiB" => Some(number),
        "GB" | "GiB" => number.checked_mul(1024),
        other => return Err(format!("`{other}` is no unit of memory here: {help}")),
    };
    match mebibytes {
        Some(0) => Err("a function can't run without memory: give it some".to_owned()),
        Some(mebibytes) => Ok(mebibytes),
        None => Err(format!("`{text}` is more memory than there is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("5 min"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("7ms"), Ok(Duration::from_millis(7)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for (text, part) in [
            ("soon", "no duration"),
            ("30", "no unit"),
            ("1.5s", "no unit of time"),
            ("3 days", "`days`"),
            ("0s", "zero"),
            ("99999999999999h", "too long"),
            ("99999999999999999999s", "no duration"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(memory("512MB"), Ok(512));
        assert_eq!(memory("512 MiB"), Ok(512));
        assert_eq!(memory("2GB"), Ok(2048));
        assert_eq!(memory("128"), Ok(128));
        for (text, part) in [("lots", "no size"), ("5kB", "`kB`"), ("0MB", "without memory")] {
            let error = memory(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
