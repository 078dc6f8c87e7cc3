//! Command-line options of the form `--name value`.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

/// The options a program was started with.
///
/// Errors, and `--help`, end the program with its usage text: the examples have nothing better to do then.
#[derive(Debug)]
pub struct Args {
    options: &'static [[&'static str; 2]],
    given: Vec<Given>,
}

/// An option's name and its value, if it has one.
type Given = (String, Option<String>);

impl Args {
    /// Reads the options of this process. `options` lists those it takes, each with its
    /// meaning, for the usage text.
    #[must_use]
    pub fn from_env(options: &'static [[&'static str; 2]]) -> Self {
        match parse(std::env::args().skip(1)) {
            Ok(Some(given)) => Self { options, given },
            Ok(None) => {
                print!("{}", usage(options));
                std::process::exit(0)
            }
            Err(message) => fail(&message, options),
        }
    }

    /// Takes the whole number given for `name`, or `default`.
    pub fn number<T>(&mut self, name: &str, default: T, range: RangeInclusive<T>) -> T
    where
        T: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.take(name) else { return default };
        match text.replace('_', "").parse() {
            Ok(number) if range.contains(&number) => number,
            _ => fail(
                &format!(
                    "{name} takes a whole number from {} to {}, not \"{text}\"",
                    range.start(),
                    range.end()
                ),
                self.options,
            ),
        }
    }

    /// Takes the text given for `name`, or `default`.
    pub fn text(&mut self, name: &str, default: &str) -> String {
        self.take(name).unwrap_or_else(|| default.to_owned())
    }

    /// Ends the program if an option was given that it did not take.
    pub fn finish(self) {
        if let Some((name, _)) = self.given.first() {
            fail(&format!("unknown option {name}"), self.options);
        }
    }

    /// The last value given for `name`, as shells' users expect.
    fn take(&mut self, name: &str) -> Option<String> {
        let (_, value) = self.given.extract_if(.., |(given, _)| given == name).last()?;
        Some(value.unwrap_or_else(|| fail(&format!("{name} needs a value"), self.options)))
    }
}

/// Splits arguments into names and values; `None` if help is asked for.
fn parse(args: impl Iterator<Item = String>) -> Result<Option<Vec<Given>>, String> {
    let mut args = args.peekable();
    let mut given = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(None);
        }
        if !arg.starts_with("--") {
            return Err(format!("unexpected argument \"{arg}\""));
        }
        given.push(match arg.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (arg, args.next_if(|next| !next.starts_with("--"))),
        });
    }
    Ok(Some(given))
}

fn usage(options: &[[&str; 2]]) -> String {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_stem().unwrap_or_default().display();
    let mut text = format!("usage: {name} [OPTIONS]\n\n");
    let width = options.iter().map(|[option, _]| option.len()).max().unwrap_or(0).max("--help".len());
    for [option, meaning] in options.iter().chain(&[["--help", "show this text"]]) {
        text += &format!("  {option:width$}  {meaning}\n");
    }
    text
}

fn fail(message: &str, options: &[[&str; 2]]) -> ! {
    eprint!("error: {message}\n\n{}", usage(options));
    std::process::exit(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Option<Vec<Given>>, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn both_spellings_of_a_value() {
        let given = parse_words("--darts 5 --threads=2").unwrap().unwrap();
        assert_eq!(given, [("--darts".into(), Some("5".into())), ("--threads".into(), Some("2".into()))]);
    }

    #[test]
    fn the_last_value_counts() {
        let given = parse_words("--darts 5 --darts 6").unwrap().unwrap();
        let mut args = Args { options: &[], given };
        assert_eq!(args.number("--darts", 1, 1..=10), 6);
        assert_eq!(args.number("--threads", 8, 1..=10), 8);
        args.finish();
    }

    #[test]
    fn mistakes_are_named() {
        let given = parse_words("--darts --threads 2").unwrap().unwrap();
        assert_eq!(given, [("--darts".into(), None), ("--threads".into(), Some("2".into()))]);
        assert_eq!(parse_words("5").unwrap_err(), "unexpected argument \"5\"");
        assert!(parse_words("--help").unwrap().is_none());
    }
}
