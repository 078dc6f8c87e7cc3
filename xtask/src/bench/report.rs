//! Figures, and how they are printed.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use serde::Serialize;

use crate::Error;

/// How figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Table,
    Markdown,
    Json,
}

/// What a value counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Micros,
    Millis,
    Seconds,
    PerSecond,
    Count,
    MiB,
    Bytes,
    KiBPerSecond,
    /// Of one CPU.
    Percent,
}

impl Unit {
    fn text(self) -> &'static str {
        match self {
            Unit::Micros => "us",
            Unit::Millis => "ms",
            Unit::Seconds => "s",
            Unit::PerSecond => "op/s",
            Unit::Count => "-",
            Unit::MiB => "MiB",
            Unit::Bytes => "bytes",
            Unit::KiBPerSecond => "KiB/s",
            Unit::Percent => "% of a CPU",
        }
    }
}

/// What ours is compared with.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// It ran in the same rounds.
    Measured { name: String, value: f64 },
    /// It is not installed, but there is a value from a machine of this kind.
    Noted { name: String, value: f64, install: &'static str },
    /// It was measured by others, elsewhere.
    Reported { name: String, value: f64 },
    /// It is not installed.
    Missing { name: String, install: &'static str },
    /// Nothing does the same.
    Nothing,
}

impl Peer {
    fn name(&self) -> Option<String> {
        match self {
            Peer::Measured { name, .. } | Peer::Reported { name, .. } => Some(name.clone()),
            Peer::Noted { name, install, .. } => Some(format!("{name} (noted, not run here: {install})")),
            Peer::Missing { name, install } => Some(format!("{name} (not installed: {install})")),
            Peer::Nothing => None,
        }
    }

    fn value(&self) -> Option<f64> {
        match self {
            Peer::Measured { value, .. } | Peer::Noted { value, .. } | Peer::Reported { value, .. } => {
                Some(*value)
            }
            Peer::Missing { .. } | Peer::Nothing => None,
        }
    }
}

/// What a figure ought to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// So many times better than the peer.
    Ratio(f64),
    /// Better than the peer.
    Better,
    /// A value of ours below this.
    Below(f64),
}

/// One line of a table.
#[derive(Clone, Debug)]
pub(super) struct Figure {
    pub(super) bench: &'static str,
    pub(super) case: String,
    pub(super) unit: Unit,
    pub(super) ours: f64,
    pub(super) peer: Peer,
    pub(super) rounds: u32,
    pub(super) goal: Option<Goal>,
}

/// A figure for programs.
#[derive(Debug, Serialize)]
struct Line<'a> {
    bench: &'a str,
    case: &'a str,
    unit: &'a str,
    ours: f64,
    peer: Option<String>,
    peer_value: Option<f64>,
    ratio: Option<f64>,
    rounds: u32,
}

impl Figure {
    /// How many times better than the peer.
    fn ratio(&self) -> Option<f64> {
        let peer = self.peer.value()?;
        if self.ours == 0.0 {
            return None;
        }
        Some(if self.unit == Unit::PerSecond { self.ours / peer } else { peer / self.ours })
    }

    /// Whether it is what it ought to be, if that is known.
    fn met(&self) -> Option<bool> {
        match self.goal? {
            Goal::Ratio(least) => Some(self.ratio()? >= least),
            Goal::Better => Some(self.ratio()? > 1.0),
            Goal::Below(most) => Some(self.ours < most),
        }
    }

    fn line(&self) -> Line<'_> {
        Line {
            bench: self.bench,
            case: &self.case,
            unit: self.unit.text(),
            ours: rounded(self.ours),
            peer: self.peer.name(),
            peer_value: self.peer.value().map(rounded),
            ratio: self.ratio().map(rounded),
            rounds: self.rounds,
        }
    }

    fn cells(&self) -> [String; 8] {
        let dash = || "-".to_owned();
        let goal = match self.goal {
            None => dash(),
            Some(Goal::Ratio(least)) => format!("at least {}", number(least)),
            Some(Goal::Better) => "above 1".to_owned(),
            Some(Goal::Below(most)) => format!("ours below {}", number(most)),
        };
        let met = match (self.goal, self.met()) {
            (None, _) => dash(),
            (_, None) => "unknown".to_owned(),
            (_, Some(true)) => "yes".to_owned(),
            (_, Some(false)) => "no".to_owned(),
        };
        [
            self.case.clone(),
            self.unit.text().to_owned(),
            number(self.ours),
            self.peer.name().unwrap_or_else(dash),
            self.peer.value().map_or_else(dash, number),
            self.ratio().map_or_else(dash, number),
            goal,
            met,
        ]
    }
}

const HEADS: [&str; 8] = ["case", "unit", "ours", "peer", "peer's", "ratio", "goal", "met"];
/// Which columns hold numbers.
const NUMBERS: [bool; 8] = [false, false, true, false, true, true, false, false];

/// Four digits that count: more is noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

/// A number for people: three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v >= 1000.0 => {
            let digits = format!("{value:.0}");
            let mut text = String::new();
            for (i, digit) in digits.chars().enumerate() {
                if i > 0 && (digits.len() - i).is_multiple_of(3) {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 0.1 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// Prints the figures of a benchmark.
pub(super) fn print(style: Style, name: &str, figures: &[Figure]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match style {
        Style::Json => {
            for figure in figures {
                let line = serde_json::to_string(&figure.line()).map_err(io::Error::other)?;
                writeln!(out, "{line}")?;
            }
        }
        Style::Markdown => write!(out, "### {name}\n\n{}\n", markdown(figures))?,
        Style::Table => write!(out, "\n{name}\n{}", table(figures))?,
    }
    Ok(out.flush()?)
}

fn table(figures: &[Figure]) -> String {
    let rows: Vec<_> =
        std::iter::once(HEADS.map(str::to_owned)).chain(figures.iter().map(Figure::cells)).collect();
    let widths: [usize; 8] =
        std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let width = widths[i];
            line += &if NUMBERS[i] { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

fn markdown(figures: &[Figure]) -> String {
    let line = |cells: &[String; 8]| format!("| {} |\n", cells.join(" | "));
    let rule = NUMBERS.map(|is_number| if is_number { "---:" } else { "---" }.to_owned());
    let mut text = line(&HEADS.map(str::to_owned)) + &line(&rule);
    for figure in figures {
        text += &line(&figure.cells());
    }
    text
}

/// Puts the table of a benchmark into a file, in place of the one between its marks.
pub(super) fn update(file: &Path, name: &str, caption: &str, figures: &[Figure]) -> Result<(), Error> {
    let text = fs::read_to_string(file)?;
    let (begin, end) = (format!("<!-- bench {name} -->\n"), format!("<!-- end {name} -->"));
    let found = text.split_once(&begin).and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let Some((head, tail)) = found else {
        return Err(Error::Message(format!("{} has no `{}` and `{end}`", file.display(), begin.trim())));
    };
    fs::write(file, format!("{head}{begin}{}\n\n{}{end}{tail}", caption.trim(), markdown(figures)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(unit: Unit, goal: Goal) -> Figure {
        let peer = Peer::Measured { name: "P".to_owned(), value: 8.0 };
        Figure { bench: "b", case: "c".to_owned(), unit, ours: 2.0, peer, rounds: 3, goal: Some(goal) }
    }

    #[test]
    fn a_ratio_above_one_is_good() {
        assert_eq!(figure(Unit::Micros, Goal::Better).ratio(), Some(4.0));
        assert_eq!(figure(Unit::PerSecond, Goal::Better).ratio(), Some(0.25));
        assert_eq!(figure(Unit::Micros, Goal::Ratio(4.0)).met(), Some(true));
        assert_eq!(figure(Unit::PerSecond, Goal::Better).met(), Some(false));
        assert_eq!(figure(Unit::Micros, Goal::Below(2.0)).met(), Some(false));
    }

    #[test]
    fn a_missing_peer_is_named() {
        let missing = Peer::Missing { name: "P".to_owned(), install: "get P" };
        let figure = Figure { peer: missing, ..figure(Unit::Micros, Goal::Better) };
        assert_eq!(
            serde_json::to_string(&figure.line()).unwrap(),
            r#"{"bench":"b","case":"c","unit":"us","ours":2.0,"peer":"P (not installed: get P)","peer_value":null,"ratio":null,"rounds":3}"#
        );
        assert_eq!(figure.cells()[7], "unknown");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(number(0.0), "0");
        let text: Vec<_> =
            [1_234_567.0, 1000.4, 123.4, 12.34, 1.234, 0.01234].into_iter().map(number).collect();
        assert_eq!(text, ["1,234,567", "1,000", "123", "12.3", "1.23", "0.0123"]);
        assert_eq!(rounded(123_456.0), 123_500.0);
    }
}
