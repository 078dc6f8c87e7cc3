//! `cargo xtask lines`: how many lines of a `std` program change when it is ported.
//!
//! Programs come in pairs, `X_std.rs` and its port `X.rs`, or the folders `X_std` and `X`. Both are compared whole, but
//! without comments and blank lines, which nobody has to change for the program to work.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::Error;

/// Counts the lines that differ between each example and its std twin.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one line of JSON for each example
    #[arg(long)]
    json: bool,

    /// Fail if an example differs by more than its limit
    #[arg(long)]
    check: bool,

    /// Where the programs are
    #[arg(long, value_name = "DIR", default_value = "examples/src/bin")]
    dir: PathBuf,
}

/// How different one example is from its twin.
#[derive(Debug, PartialEq, Serialize)]
struct Difference {
    example: String,
    std_lines: usize,
    changed_lines: usize,
    /// Changed lines per hundred lines of the twin.
    percent: f64,
}

impl Difference {
    fn new(example: String, std_lines: usize, changed_lines: usize) -> Self {
        let percent = 100.0 * changed_lines as f64 / std_lines.max(1) as f64;
        // Two decimals are all that a count of lines is good for.
        Self { example, std_lines, changed_lines, percent: (percent * 100.0).round() / 100.0 }
    }
}

/// What the sum is called.
const ALL: &str = "all together";

/// The most that an example may differ.
#[derive(Debug)]
enum Limit {
    Lines(usize),
    Percent(f64),
}

impl Limit {
    fn of(example: &str) -> Self {
        match example {
            "pi" => Self::Lines(5),
            "kmeans" | ALL => Self::Percent(3.0),
            _ => Self::Percent(6.0),
        }
    }

    fn allows(&self, difference: &Difference) -> bool {
        match *self {
            Self::Lines(lines) => difference.changed_lines <= lines,
            Self::Percent(percent) => difference.percent <= percent,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lines(lines) => write!(f, "{lines} lines"),
            Self::Percent(percent) => write!(f, "{percent} %"),
        }
    }
}

/// Compares all pairs and prints the result.
pub(crate) fn run(args: &Args) -> Result<(), Error> {
    let mut differences = Vec::new();
    for (example, end) in find_pairs(&args.dir)? {
        let twin = code_of(&args.dir.join(format!("{example}_std{end}")))?;
        let port = code_of(&args.dir.join(format!("{example}{end}")))?;
        differences.push(compare(example, &twin, &port));
    }
    if differences.is_empty() {
        return Err(Error::Message(format!("no pair X.rs, X_std.rs or X, X_std in {}", args.dir.display())));
    }

    let mut out = io::stdout().lock();
    if args.json {
        for difference in &differences {
            writeln!(out, "{}", serde_json::to_string(difference).map_err(io::Error::from)?)?;
        }
    } else {
        write_table(&mut out, &differences)?;
    }
    if args.check { check(&differences) } else { Ok(()) }
}

/// All examples taken together.
fn total(differences: &[Difference]) -> Difference {
    let sum = |of: fn(&Difference) -> usize| differences.iter().map(of).sum();
    Difference::new(ALL.to_owned(), sum(|one| one.std_lines), sum(|one| one.changed_lines))
}

fn write_table(out: &mut impl Write, differences: &[Difference]) -> io::Result<()> {
    writeln!(out, "{:16} {:>9} {:>13} {:>8}   limit", "example", "std lines", "changed lines", "percent")?;
    for difference in differences.iter().chain([&total(differences)]) {
        let Difference { example, std_lines, changed_lines, percent } = difference;
        let limit = Limit::of(example);
        writeln!(out, "{example:16} {std_lines:>9} {changed_lines:>13} {percent:>8.2}   {limit}")?;
    }
    Ok(())
}

fn check(differences: &[Difference]) -> Result<(), Error> {
    let mut over = Vec::new();
    for difference in differences.iter().chain([&total(differences)]) {
        let limit = Limit::of(&difference.example);
        if !limit.allows(difference) {
            let Difference { example, changed_lines, percent, .. } = difference;
            over.push(format!(
                "{example} differs by {changed_lines} lines, {percent:.2} %; the limit is {limit}"
            ));
        }
    }
    if over.is_empty() { Ok(()) } else { Err(Error::Message(over.join("\n       "))) }
}

/// Names of the programs that are there with their twins, sorted, and what comes after the names: nothing if they are
/// folders.
fn find_pairs(dir: &Path) -> Result<Vec<(String, &'static str)>, Error> {
    let mut examples = Vec::new();
    for path in entries(dir)? {
        let end = if path.is_dir() { "" } else { ".rs" };
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(example) = name.strip_suffix(end).and_then(|name| name.strip_suffix("_std")) {
            // A twin alone would silently drop out of the comparison.
            if !dir.join(format!("{example}{end}")).exists() {
                let dir = dir.display();
                return Err(Error::Message(format!("{dir} has {name} but no {example}{end}")));
            }
            examples.push((example.to_owned(), end));
        }
    }
    examples.sort();
    Ok(examples)
}

/// What is in a folder.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |error| Error::Message(format!("can't read {}: {error}", dir.display()));
    let entries = fs::read_dir(dir).map_err(unreadable)?;
    entries.map(|entry| Ok(entry.map_err(unreadable)?.path())).collect()
}

/// The lines of each source file of a program, by its path within the program's folder.
type Code = BTreeMap<PathBuf, Vec<String>>;

fn code_of(program: &Path) -> Result<Code, Error> {
    let mut code = Code::new();
    let mut paths = vec![program.to_owned()];
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            paths.extend(entries(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path)
                .map_err(|error| Error::Message(format!("can't read {}: {error}", path.display())))?;
            let within = path.strip_prefix(program).unwrap_or(&path).to_owned();
            code.insert(within, code_lines(&source));
        }
    }
    Ok(code)
}

/// The lines of a program that are code: not blank, and not only a comment.
///
/// Block comments count as comments if they begin a line, which is where rustfmt leaves them.
fn code_lines(source: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut depth = 0_usize;
    for line in source.lines() {
        let mut rest = line.trim();
        // Inside of a block comment, or at the start of one; they nest.
        while depth > 0 || rest.starts_with("/*") {
            let end = rest.find("*/");
            match (rest.find("/*"), end) {
                (Some(start), Some(end)) if start > end => {
                    depth -= 1;
                    rest = rest[end + 2..].trim_start();
                }
                (Some(start), _) => {
                    depth += 1;
                    rest = &rest[start + 2..];
                }
                (None, Some(end)) => {
                    depth -= 1;
                    rest = rest[end + 2..].trim_start();
                }
                (None, None) => rest = "",
            }
            if rest.is_empty() {
                break;
            }
        }
        if !rest.is_empty() && !rest.starts_with("//") {
            lines.push(line.trim_end().to_owned());
        }
    }
    lines
}

fn compare(example: String, twin: &Code, port: &Code) -> Difference {
    let none = Vec::new();
    // A file that only one of them has is new, or deleted, as a whole.
    let new = port.keys().filter(|file| !twin.contains_key(*file));
    let changed_lines = twin
        .keys()
        .chain(new)
        .map(|file| changed_lines(twin.get(file).unwrap_or(&none), port.get(file).unwrap_or(&none)))
        .sum();
    let std_lines: usize = twin.values().map(Vec::len).sum();
    Difference::new(example, std_lines, changed_lines)
}

/// Lines of the twin that are replaced or deleted, or that are new in the port. A replaced line is one change,
/// not a deletion and an insertion.
fn changed_lines(twin: &[String], port: &[String]) -> usize {
    capture_diff_slices(Algorithm::Myers, twin, port)
        .into_iter()
        .map(|op| match op {
            DiffOp::Equal { .. } => 0,
            DiffOp::Delete { old_len, .. } => old_len,
            DiffOp::Insert { new_len, .. } => new_len,
            DiffOp::Replace { old_len, new_len, .. } => old_len.max(new_len),
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(twin: &str, port: &str) -> usize {
        changed_lines(&code_lines(twin), &code_lines(port))
    }

    #[test]
    fn comments_and_blank_lines_are_not_code() {
        let source = "//! About.\n\n/// Docs.\nfn f() {} // runs\n    // why\n\t\n}";
        assert_eq!(code_lines(source), ["fn f() {} // runs", "}"]);
    }

    #[test]
    fn block_comments_are_not_code() {
        assert_eq!(code_lines("/* a\n b */\nx"), ["x"]);
        assert_eq!(code_lines("/* a /* b */\n c */ y\nx"), [" c */ y", "x"]);
        assert_eq!(code_lines("/**/\n/* a */ // b\nx"), ["x"]);
        assert_eq!(code_lines("let glob = \"/*\";\nx"), ["let glob = \"/*\";", "x"]);
    }

    #[test]
    fn equal_programs_have_no_changes() {
        assert_eq!(changed("a\nb", "// c\na\n\nb"), 0);
    }

    #[test]
    fn a_replaced_line_is_one_change() {
        assert_eq!(changed("a\nb\nc", "a\nx\nc"), 1);
    }

    #[test]
    fn insertions_and_deletions_count() {
        assert_eq!(changed("a\nb", "a\nx\nb\ny"), 2);
        assert_eq!(changed("a\nx\nb\ny", "a\nb"), 2);
    }

    #[test]
    fn the_longer_side_of_a_hunk_counts() {
        assert_eq!(changed("a\nb\nz", "a\nx\ny\nz"), 2);
        assert_eq!(changed("a\nb\nc\nz", "a\nx\nz"), 2);
    }

    #[test]
    fn indentation_is_a_change() {
        assert_eq!(changed("a\nb", "a\n    b"), 1);
    }

    fn code(files: &[(&str, &str)]) -> Code {
        files.iter().map(|(path, source)| (path.into(), code_lines(source))).collect()
    }

    #[test]
    fn files_of_a_folder_are_compared_by_name() {
        let twin = code(&[("a.rs", "a\nb"), ("old.rs", "c\nd"), ("sub/a.rs", "e")]);
        let port = code(&[("a.rs", "a\nx"), ("new.rs", "c\nd\ny"), ("sub/a.rs", "e")]);
        let difference = compare("x".into(), &twin, &port);
        assert_eq!((difference.std_lines, difference.changed_lines), (5, 1 + 2 + 3));
        let same = compare("x".into(), &twin, &twin);
        assert_eq!((same.std_lines, same.changed_lines), (5, 0));
    }

    #[test]
    fn percent_is_relative_to_the_twin() {
        let difference = compare("x".into(), &code(&[("", "a\nb\nc")]), &code(&[("", "a\nb\nd")]));
        assert_eq!((difference.std_lines, difference.changed_lines), (3, 1));
        assert_eq!(
            serde_json::to_string(&difference).unwrap(),
            r#"{"example":"x","std_lines":3,"changed_lines":1,"percent":33.33}"#
        );
    }

    #[test]
    fn limits_depend_on_the_example() {
        let difference = |example: &str, lines, changed| Difference::new(example.into(), lines, changed);
        // So large that what is changed elsewhere is little of them all.
        let large = || difference("large", 10_000, 100);
        assert!(check(&[difference("pi", 50, 5), difference("kmeans", 100, 3), large()]).is_ok());
        let error = check(&[difference("pi", 200, 6), difference("kmeans", 100, 4), large()]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("pi differs by 6 lines") && error.contains("kmeans differs"), "{error}");
        assert!(check(&[difference("other", 100, 6), large()]).is_ok());
        assert!(check(&[difference("other", 100, 7), large()]).is_err());
    }

    #[test]
    fn all_together_have_a_limit() {
        let two = |changed| [5, changed].map(|changed| Difference::new("other".into(), 100, changed));
        assert!(check(&two(1)).is_ok());
        assert_eq!(
            check(&two(2)).unwrap_err().to_string(),
            "all together differs by 7 lines, 3.50 %; the limit is 3 %"
        );
    }
}
