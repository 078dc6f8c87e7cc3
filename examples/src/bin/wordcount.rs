//! Counts the words of a text: cloud threads that each count in parts of it, and merge what they find into one map.
//!
//! Run it with `cargo run --release -p examples --bin wordcount`. It counts the words of Jane Austen's novels, or
//! those of a file of your own: `-- --text FILE`. With `CRUCIAL_BACKEND=processes` in front they are counted in
//! processes; the counts are the same. `wordcount_std` is the same program without crucial.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs;

use crucial::{cloud_fn, collections, iter::IntoCloudIterator, shared};

use examples::args::Args;
use examples::clock::Clock;
use examples::data::unpack;

const OPTIONS: &[[&str; 2]] = &[
    ["--text FILE", "the text, in UTF-8 (default: six novels by Jane Austen)"],
    ["--part KIB", "size of the parts that are counted at once (default 128)"],
    ["--letters N", "count words of at least so many letters (default 1)"],
    ["--top N", "words to show (default 20)"],
];

/// Jane Austen's six novels; `data/README.md` tells where they are from.
static NOVELS: &[u8] = include_bytes!("../../data/novels.txt.gz");

/// What all threads have found so far.
type Counts = collections::HashMap<String, u64>;

/// Words of more letters are in one row with those of as many.
const LONGEST: usize = 16;

/// Adds to the count of a word.
#[shared]
fn add(count: &mut u64, more: u64) {
    *count += more;
}

/// Cuts a text into parts of about `size` bytes, between words.
fn parts(text: &str, size: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let space = rest.char_indices().find(|&(i, c)| i >= size && c.is_whitespace());
        let (part, after) = rest.split_at(space.map_or(rest.len(), |(i, _)| i));
        parts.push(part);
        rest = after;
    }
    parts
}

/// The words of a text in lower case. An apostrophe belongs to a word that goes on after it: "don't".
fn words(text: &str) -> impl Iterator<Item = String> {
    let is_apostrophe = |c| matches!(c, '\'' | '’');
    text.split(move |c: char| !c.is_alphabetic() && !is_apostrophe(c))
        .map(move |word| word.trim_matches(is_apostrophe))
        .filter(|word| !word.is_empty())
        .map(|word| word.to_lowercase().replace('’', "'"))
}

/// Counts the words of a part, and adds what it found to what others have.
#[cloud_fn]
fn count(part: &str, letters: usize, counts: &Counts) {
    let mut found = HashMap::new();
    for word in words(part) {
        if word.chars().count() >= letters {
            add(found.entry(word).or_default(), 1);
        }
    }
    counts.merge_all(found, add);
}

/// Reads the text, or ends the program if it can't.
fn read(path: &str) -> Cow<'static, str> {
    if path.is_empty() {
        return unpack(NOVELS).into();
    }
    match fs::read_to_string(path) {
        Ok(text) => text.into(),
        Err(error) => {
            eprintln!("error: can't read {path}: {error}");
            std::process::exit(1);
        }
    }
}

/// A number with its digits in groups of three.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints the most frequent words.
fn print_table(sorted: &[(String, u64)], total: u64) {
    println!("\n rank     count   of 1,000   word");
    for (i, (word, count)) in sorted.iter().enumerate() {
        let share = 1000.0 * *count as f64 / total as f64;
        println!("{:5} {:>9}   {share:8.2}   {word}", i + 1, grouped(*count));
    }
}

/// Prints how long the words of the text are.
fn print_lengths(sorted: &[(String, u64)], total: u64) {
    let (mut lengths, mut letters) = ([0; LONGEST + 1], 0);
    for (word, count) in sorted {
        let length = word.chars().count();
        lengths[length.min(LONGEST)] += count;
        letters += length as u64 * count;
    }
    println!("\n letters   of 1,000   mean: {:.2} letters", letters as f64 / total as f64);
    let most = lengths.into_iter().max().unwrap_or(0);
    for (length, count) in lengths.into_iter().enumerate().filter(|(_, count)| *count > 0) {
        let more = if length == LONGEST { "+" } else { " " };
        let share = 1000.0 * count as f64 / total as f64;
        println!("{length:7}{more}   {share:8.2}   {}", bar(50.0 * count as f64 / most as f64));
    }
}

/// A bar of so many characters, to an eighth of one.
fn bar(length: f64) -> String {
    let eighths = (8.0 * length).round() as usize;
    let end = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + end
}

/// A number that tells results apart: two runs counted the same if theirs agree.
fn fingerprint(sorted: &[(String, u64)]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for (word, count) in sorted {
        for byte in word.bytes().chain(count.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}

#[crucial::main]
fn main() {
    let mut args = Args::from_env(OPTIONS);
    let path = args.text("--text", "");
    let size = args.number("--part", 128, 1..=1024) * 1024;
    let letters = args.number("--letters", 1, 1..=100);
    let top = args.number("--top", 20, 0..=1_000_000);
    args.finish();

    let text = read(&path);
    let parts = parts(&text, size);
    println!("{} bytes in {} parts", grouped(text.len() as u64), parts.len());
    let clock = Clock::start();
    let counts = Counts::default();
    parts.into_cloud_iter().progress("counting").for_each(|part| count(part, letters, &counts));
    let counts = counts.to_map();
    println!("done in {:.1?}", clock.total());

    if counts.is_empty() {
        eprintln!("error: no word has {letters} letters or more");
        std::process::exit(1);
    }
    let mut sorted: Vec<_> = counts.into_iter().collect();
    sorted.sort_by(|(a, m), (b, n)| (Reverse(m), a).cmp(&(Reverse(n), b)));
    let total = sorted.iter().map(|(_, count)| count).sum();
    let once = sorted.iter().filter(|(_, count)| *count == 1).count() as u64;
    let distinct = grouped(sorted.len() as u64);
    println!("{} words, {distinct} distinct, {} of which occur once", grouped(total), grouped(once));
    print_lengths(&sorted, total);
    print_table(&sorted[..top.min(sorted.len())], total);
    println!("\nfingerprint {:016x}", fingerprint(&sorted));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_between_what_is_no_letter() {
        let text = "\"I don't know,\" said she--_really_; 'twas the CHILDREN’S nurse's 2 naïve dogs'.";
        let found: Vec<_> = words(text).collect();
        let expected = "i don't know said she really twas the children's nurse's naïve dogs";
        assert_eq!(found.join(" "), expected);
    }

    #[test]
    fn parts_add_up_to_the_whole() {
        assert!(parts("", 1).is_empty());
        let text = "It was — as £20,000 go — a large sum. ".repeat(20);
        for size in [1, 7, 100, 10_000] {
            let parts = parts(&text, size);
            assert_eq!(parts.concat(), text);
            let words = parts.into_iter().flat_map(words);
            assert!(words.eq(super::words(&text)));
        }
    }

    #[test]
    fn bars_have_parts() {
        assert_eq!([0.0, 0.06, 0.125, 1.0, 2.5].map(bar), ["", "", "▏", "█", "██▌"]);
    }

    #[test]
    fn digits_are_in_threes() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped).join(" "), "0 999 1,000 1,234,567");
    }
}
