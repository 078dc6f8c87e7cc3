//! The log of an invocation, in Lambda's form.

use std::time::Duration;

/// How much of a log is kept, in bytes.
const TAIL: usize = 4096;

/// What a GB-second of a function on x86 costs in most regions, in US dollars, without the free tier: from memory,
/// 2026-11-21, not compared with AWS's price list.
pub const GB_SECOND: f64 = 0.000_016_666_7;
/// What a request costs: likewise.
pub const REQUEST: f64 = 0.000_000_2;

/// The last lines of a log.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    text: String,
}

impl Tail {
    pub(crate) fn clear(&mut self) {
        self.text.clear();
    }

    pub(crate) fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
        // Cut now and then instead of with every line.
        if self.text.len() > 4 * TAIL {
            self.text.drain(..self.start());
        }
    }

    /// The last 4 KiB.
    pub(crate) fn text(&self) -> &str {
        &self.text[self.start()..]
    }

    fn start(&self) -> usize {
        self.text.ceil_char_boundary(self.text.len().saturating_sub(TAIL))
    }
}

/// The figures in a `REPORT` line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) duration: Duration,
    /// MiB that the function may use.
    pub(crate) memory: u64,
    /// MiB that it used.
    pub(crate) max_memory: u64,
    pub(crate) init: Option<Duration>,
    /// `timeout`, or `error` with its type.
    pub(crate) status: Option<(&'a str, Option<&'a str>)>,
}

impl Report<'_> {
    pub(crate) fn line(&self) -> String {
        let millis = self.duration.as_secs_f64() * 1e3;
        // The start of an instance is billed, too, since August 2025.
        let billed = (self.duration + self.init.unwrap_or_default()).as_secs_f64() * 1e3;
        let mut line = format!(
            "REPORT RequestId: {}\tDuration: {millis:.2} ms\tBilled Duration: {:.0} ms\tMemory Size: {} MB\tMax \
             Memory Used: {} MB\t",
            self.request_id,
            billed.ceil(),
            self.memory,
            self.max_memory,
        );
        if let Some(init) = self.init {
            line.push_str(&format!("Init Duration: {:.2} ms\t", init.as_secs_f64() * 1e3));
        }
        if let Some((status, error)) = self.status {
            line.push_str(&format!("Status: {status}\t"));
            if let Some(error) = error {
                line.push_str(&format!("Error Type: {error}\t"));
            }
        }
        line
    }
}

/// What a client learns from the report at the end of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) duration: Duration,
    /// The time that costs.
    pub(crate) billed: Duration,
    /// MiB that the function may use.
    pub(crate) memory: u64,
    /// MiB that it used.
    pub(crate) max_memory: u64,
    pub(crate) init: Option<Duration>,
}

impl Figures {
    /// Reads the last report of a log: a `REPORT` line, or the record in JSON that functions with that format have.
    pub(crate) fn read(log: &str) -> Option<Self> {
        let is_report =
            |line: &&str| line.starts_with("REPORT ") || line.contains(r#""type":"platform.report""#);
        let line = log.lines().rev().find(is_report)?;
        let record = line.starts_with('{').then(|| serde_json::from_str::<serde_json::Value>(line).ok());
        let field = |name: &str, unit: &str, key: &str| match &record {
            Some(record) => record.as_ref()?["record"]["metrics"][key].as_f64(),
            None => line
                .split('\t')
                .find_map(|field| field.strip_prefix(name)?.strip_suffix(unit)?.trim().parse::<f64>().ok()),
        };
        let duration =
            |name, key| Some(Duration::try_from_secs_f64(field(name, " ms", key)? / 1e3).unwrap_or_default());
        Some(Figures {
            duration: duration("Duration: ", "durationMs")?,
            billed: duration("Billed Duration: ", "billedDurationMs")?,
            memory: field("Memory Size: ", " MB", "memorySizeMB")? as u64,
            max_memory: field("Max Memory Used: ", " MB", "maxMemoryUsedMB")? as u64,
            init: duration("Init Duration: ", "initDurationMs"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_last_four_kib() {
        let mut tail = Tail::default();
        for index in 0..10_000 {
            tail.push(&format!("zeile ä {index}"));
        }
        assert!(tail.text().len() <= TAIL && tail.text().len() > TAIL - 4, "{}", tail.text().len());
        assert!(tail.text().ends_with("zeile ä 9998\nzeile ä 9999\n"));
    }

    #[test]
    fn a_report_has_the_documented_form_and_can_be_read_back() {
        let report = Report {
            request_id: "id",
            duration: Duration::from_micros(2_345_670),
            memory: 128,
            max_memory: 21,
            init: Some(Duration::from_micros(7_010)),
            status: Some(("error", Some("Runtime.ExitError"))),
        };
        let line = report.line();
        assert_eq!(
            line,
            "REPORT RequestId: id\tDuration: 2345.67 ms\tBilled Duration: 2353 ms\tMemory Size: 128 MB\tMax Memory \
             Used: 21 MB\tInit Duration: 7.01 ms\tStatus: error\tError Type: Runtime.ExitError\t"
        );
        let log = format!("START RequestId: id\n{line}\n");
        let figures = Figures {
            duration: report.duration,
            billed: Duration::from_millis(2353),
            memory: 128,
            max_memory: 21,
            init: report.init,
        };
        assert_eq!(Figures::read(&log), Some(figures));
        assert_eq!(Figures::read("REPORT something else"), None);
        let log = r#"{"time":"t","type":"platform.start","record":{"requestId":"id"}}
{"time":"t","type":"platform.report","record":{"requestId":"id","metrics":{"durationMs":2345.67,"billedDurationMs":2353,"memorySizeMB":128,"maxMemoryUsedMB":21,"initDurationMs":7.01},"status":"success"}}"#;
        assert_eq!(Figures::read(log), Some(figures));
        assert_eq!(Figures::read(&log[..log.len() - 9]), None);
    }
}
