//! Learns to read handwritten digits with a random forest, whose training is that of an existing crate, ported: its
//! threads are cloud threads now, and the atomic counter from which they take the next tree is shared by them all.
//!
//! Run it with `cargo run --release -p examples --bin random_forest`. It prints how many digits it reads right that it
//! hasn't learned from, and shows some that it doesn't. With `CRUCIAL_BACKEND=processes` in front the trees grow in
//! processes; the forest is the same. `random_forest_std` is the same program without crucial.

// It is another crate's source: it can do more than what this program asks of it, and has names of its own style.
#[expect(dead_code, unused_imports, clippy::upper_case_acronyms, reason = "it is kept as it was published")]
mod rafor;

use rafor::prelude::*;
use rafor::{dt, rf, rf::Classifier};

use examples::args::Args;
use examples::clock::Clock;
use examples::data::unpack;

const OPTIONS: &[[&str; 2]] = &[
    ["--threads N", "threads that share the trees (default 8)"],
    ["--trees N", "trees of the forest (default 500)"],
    ["--seed N", "what chance begins with (default 42)"],
    ["--show N", "misread digits to show (default 4)"],
];

/// 1,797 digits: a line for each, with the 64 pixels from 0 to 16 and the digit that it is. `data/README.md` tells where
/// they are from.
static DIGITS: &[u8] = include_bytes!("../../../data/digits.csv.gz");

/// Images are as many pixels wide and high.
const SIZE: usize = 8;

/// Of so many digits, one is held out: it isn't learned from, but tells how well the others were.
const HOLD_OUT: usize = 4;

/// Images, one after the other, and the digits that they are of.
#[derive(Default)]
struct Digits {
    pixels: Vec<f32>,
    labels: Vec<i64>,
}

impl Digits {
    fn images(&self) -> impl Iterator<Item = &[f32]> {
        self.pixels.chunks(SIZE * SIZE)
    }
}

/// Reads the table of digits: those to learn from, and those that are held out.
fn read(table: &str) -> (Digits, Digits) {
    let (mut learn, mut held_out) = (Digits::default(), Digits::default());
    for (i, row) in table.lines().enumerate() {
        let numbers: Vec<u8> = row.split(',').map(|text| text.parse().expect("a number")).collect();
        let (label, pixels) = numbers.split_last().expect("a row isn't empty");
        let part = if i % HOLD_OUT == 0 { &mut held_out } else { &mut learn };
        part.pixels.extend(pixels.iter().map(|&pixel| f32::from(pixel)));
        part.labels.push((*label).into());
    }
    (learn, held_out)
}

/// An image as lines of text.
fn draw(image: &[f32]) -> Vec<String> {
    let shade = |&pixel: &f32| [" ", "░", "▒", "▓", "█"][(pixel / 4.0).round() as usize].repeat(2);
    image.chunks(SIZE).map(|row| row.iter().map(shade).collect()).collect()
}

/// Shows some digits that were read wrong, and what they were taken for.
fn print_misread(digits: &Digits, read: &[i64], show: usize) {
    let misread = digits.images().zip(&digits.labels).zip(read).filter(|((_, label), read)| label != read);
    for ((image, label), read) in misread.take(show) {
        println!("\na {label}, taken for a {read}");
        draw(image).iter().for_each(|line| println!("    {}", line.trim_end()));
    }
}

/// How many digits were read right.
fn count_right(digits: &Digits, read: &[i64]) -> usize {
    digits.labels.iter().zip(read).filter(|(label, read)| label == read).count()
}

/// How often each digit, by row, was taken for each, by column.
fn confusion(digits: &Digits, read: &[i64]) -> [[u32; 10]; 10] {
    let mut counts = [[0; 10]; 10];
    for (&label, &read) in digits.labels.iter().zip(read) {
        counts[label as usize][read as usize] += 1;
    }
    counts
}

/// Prints what was taken for what.
fn print_confusion(counts: &[[u32; 10]; 10]) {
    println!("\nread as  {}", (0..10).map(|digit| format!("{digit:>4}")).collect::<String>());
    for (digit, row) in counts.iter().enumerate() {
        let cell = |&count: &u32| if count == 0 { "   ·".to_owned() } else { format!("{count:>4}") };
        println!("    a {digit}  {}", row.iter().map(cell).collect::<String>());
    }
}

/// A number that tells results apart: two forests found the same probabilities, to the last bit, if theirs agree.
fn fingerprint(probabilities: &[f32]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for probability in probabilities {
        hash = (hash ^ u64::from(probability.to_bits())).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

#[crucial::main]
fn main() {
    let mut args = Args::from_env(OPTIONS);
    let threads = args.number("--threads", 8, 1..=1000);
    let trees = args.number("--trees", 500, 1..=100_000);
    let seed = args.number("--seed", 42, 0..=u64::MAX);
    let show = args.number("--show", 4, 0..=1000);
    args.finish();

    let (learn, held_out) = read(&unpack(DIGITS));
    println!("{} digits to learn from, {trees} trees, {threads} threads", learn.labels.len());
    let clock = Clock::start();
    let mut trainer = Classifier::trainer();
    trainer.with_trees(trees).with_threads(threads).with_seed(seed);
    let forest: Classifier = trainer.train(&learn.pixels, &learn.labels);
    println!("done in {:.1?}", clock.total());

    let read = forest.predict_batch(&held_out.pixels, 1);
    let right = count_right(&held_out, &read);
    print_misread(&held_out, &read, show);
    print_confusion(&confusion(&held_out, &read));
    let (digits, percent) = (read.len(), 100.0 * right as f64 / read.len() as f64);
    println!(
        "\naccuracy {percent:.2} % on {digits} digits that were held out: {} are misread",
        digits - right
    );

    let tree: dt::Classifier = dt::Classifier::trainer().with_seed(seed).train(&learn.pixels, &learn.labels);
    let alone = count_right(&held_out, &tree.predict_batch(&held_out.pixels));
    println!("one tree alone would have {:.2} %", 100.0 * alone as f64 / digits as f64);
    // What a nine and an eight have in common is no number.
    let numbers: Vec<f32> = learn.labels.iter().map(|&label| label as f32).collect();
    let mut trainer = rf::Regressor::trainer();
    trainer.with_trees(trees.div_ceil(10)).with_threads(threads).with_seed(seed);
    let regressor: rf::Regressor = trainer.train(&learn.pixels, &numbers);
    let guesses: Vec<_> =
        regressor.predict_batch(&held_out.pixels, 1).iter().map(|n| n.round() as i64).collect();
    let guessed = count_right(&held_out, &guesses);
    println!("regression, rounded, would have {:.2} %", 100.0 * guessed as f64 / digits as f64);
    println!("fingerprint {:016x}", fingerprint(&forest.proba(&held_out.pixels, 1)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_digit_is_there() {
        let (learn, held_out) = read(&unpack(DIGITS));
        assert_eq!((learn.images().count(), held_out.images().count()), (1347, 450));
        for digits in [learn, held_out] {
            assert_eq!(digits.images().count(), digits.labels.len());
            assert!((0..10).all(|digit| digits.labels.contains(&digit)));
        }
    }

    #[test]
    fn misread_digits_are_beside_the_diagonal() {
        let digits = Digits { pixels: Vec::new(), labels: vec![3, 3, 8] };
        let counts = confusion(&digits, &[3, 8, 8]);
        assert_eq!((counts[3][3], counts[3][8], counts[8][8], counts[8][3]), (1, 1, 1, 0));
        assert_eq!(count_right(&digits, &[3, 8, 8]), 2);
    }

    #[test]
    fn images_are_drawn_in_shades() {
        let image: Vec<_> = (0..64_u8).map(|i| f32::from(i % 8) * 2.0).collect();
        assert_eq!(draw(&image)[7], "  ░░░░▒▒▒▒▓▓▓▓██");
    }
}
