//! Names made from chance and dates, in the forms that Lambda uses.

use std::time::{SystemTime, UNIX_EPOCH};

const HEX: &[u8; 16] = b"0123456789abcdef";

fn hex(bytes: &[u8], out: &mut String) {
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)].into());
        out.push(HEX[usize::from(byte & 15)].into());
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The system's generator fails only where there is none at all; no service runs there.
    getrandom::fill(&mut bytes).expect("the system's random number generator works");
    bytes
}

/// A new request id: a random UUID.
pub(crate) fn request_id() -> String {
    let mut bytes: [u8; 16] = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut out = String::with_capacity(36);
    for (index, range) in [0..4, 4..6, 6..8, 8..10, 10..16].into_iter().enumerate() {
        if index > 0 {
            out.push('-');
        }
        hex(&bytes[range], &mut out);
    }
    out
}

/// A new X-Ray trace header that asks for no sampling.
pub(crate) fn trace_id(now: SystemTime) -> String {
    let bytes: [u8; 20] = random();
    let mut out = format!("Root=1-{:08x}-", epoch_seconds(now));
    hex(&bytes[..12], &mut out);
    out.push_str(";Parent=");
    hex(&bytes[12..], &mut out);
    out.push_str(";Sampled=0");
    out
}

/// A new log stream name: the date, the version, a random number.
pub(crate) fn log_stream(now: SystemTime) -> String {
    let (year, month, day) = date(epoch_seconds(now));
    let mut out = format!("{year:04}/{month:02}/{day:02}/[$LATEST]");
    hex(&random::<16>(), &mut out);
    out
}

/// Milliseconds since 1970.
pub(crate) fn epoch_millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn epoch_seconds(time: SystemTime) -> u64 {
    epoch_millis(time) / 1000
}

/// The time as `2026-11-20T05:46:57.874Z`.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let millis = epoch_millis(time);
    let seconds = millis / 1000;
    let (year, month, day) = date(seconds);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", millis % 1000)
}

/// Year, month and day in the Gregorian calendar, by counting from 1 March of a year 0 so that the leap day
/// comes last (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(epoch_seconds: u64) -> (u64, u64, u64) {
    let days = epoch_seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn request_ids_are_random_uuids() {
        let id = request_id();
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]));
        assert_ne!(id, request_id());
    }

    #[test]
    fn timestamps_follow_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_399, "2000-02-28T23:59:59.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (951_868_800, "2000-03-01T00:00:00.007Z"),
            (1_735_689_599, "2024-12-31T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7)), expected);
        }
    }

    #[test]
    fn traces_and_log_streams_have_the_documented_form() {
        let time = UNIX_EPOCH + Duration::from_secs(1_542_409_706);
        let trace = trace_id(time);
        assert!(trace.starts_with("Root=1-5bef4dea-"), "{trace}");
        assert_eq!(
            trace.len(),
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1".len()
        );
        assert!(log_stream(time).starts_with("2018/11/16/[$LATEST]"));
    }
}
