//! Learns to tell spam from other mail with logistic regression, in threads of this process: the `std` twin of
//! `logistic_regression`.
//!
//! Run it with `cargo run --release -p examples --bin logistic_regression_std`. It prints how the loss falls, how well
//! mails are told apart that it hasn't learned from, and which words give spam away.

use std::sync::{Arc, Barrier, LazyLock, Mutex};
use std::thread;

use examples::args::Args;
use examples::clock::Clock;
use examples::data::unpack;

const OPTIONS: &[[&str; 2]] = &[
    ["--workers N", "threads that share the mails (default 8)"],
    ["--iterations N", "steps of gradient descent (default 1,000)"],
    ["--words N", "words to show for spam and for other mail (default 8)"],
];

/// How often each of 57 words and characters is in each of 4,601 mails, and whether they are spam. `data/README.md`
/// tells where they are from.
static MAILS: &[u8] = include_bytes!("../../data/spambase.csv.gz");

/// How far a step goes against the gradient.
const RATE: f64 = 0.5;

/// Draws weights towards 0, so that rare words don't get huge ones.
const DECAY: f64 = 1e-4;

/// Every so many mails, one is held out: it isn't learned from, but tells how well the others were.
const HOLD_OUT: usize = 5;

/// Every so many iterations the loss is printed.
const TELL: usize = 100;

struct Mail {
    features: Vec<f64>,
    spam: bool,
}

struct Mails {
    names: Vec<String>,
    learn: Vec<Mail>,
    held_out: Vec<Mail>,
}

/// Every process that needs the mails reads them once.
static DATA: LazyLock<Mails> = LazyLock::new(|| read(&unpack(MAILS)));

/// Reads the table of mails, whose last column tells what is spam.
fn read(table: &str) -> Mails {
    let (names, rows) = table.split_once('\n').expect("a line of names comes first");
    let names: Vec<_> = names.split(',').map(str::to_owned).collect();
    let (mut learn, mut held_out) = (Vec::new(), Vec::new());
    for (i, row) in rows.lines().enumerate() {
        let mut features: Vec<f64> = row.split(',').map(|text| text.parse().expect("a number")).collect();
        let spam = features.pop() == Some(1.0);
        // That a word is there at all says more than how often it is there.
        features.iter_mut().for_each(|x| *x = (*x + 0.1).ln());
        let part = if i % HOLD_OUT == 0 { &mut held_out } else { &mut learn };
        part.push(Mail { features, spam });
    }
    standardise(&mut learn, &mut held_out);
    Mails { names, learn, held_out }
}

/// Scales each feature so that its mean over the mails to learn from is 0, and its standard deviation 1.
fn standardise(learn: &mut [Mail], held_out: &mut [Mail]) {
    let mails = learn.len() as f64;
    for feature in 0..learn[0].features.len() {
        let mean = learn.iter().map(|mail| mail.features[feature]).sum::<f64>() / mails;
        let squares: f64 = learn.iter().map(|mail| (mail.features[feature] - mean).powi(2)).sum();
        let deviation = (squares / mails).sqrt();
        for mail in learn.iter_mut().chain(held_out.iter_mut()) {
            mail.features[feature] = (mail.features[feature] - mean) / deviation;
        }
    }
}

/// How likely it is that a mail is spam. The last weight belongs to no feature: it is that of every mail.
fn probability(weights: &[f64], mail: &Mail) -> f64 {
    let (bias, weights) = weights.split_last().expect("there are weights");
    let sum: f64 = weights.iter().zip(&mail.features).map(|(weight, x)| weight * x).sum();
    1.0 / (1.0 + (-sum - bias).exp())
}

/// Floating-point sums depend on the order of their terms, and so on which worker is first; whole numbers don't.
/// With 40 binary digits after the point there is room for sums up to 8 million.
const ONE: f64 = (1_u64 << 40) as f64;

/// The gradient of the loss over some mails, and the loss: sums over the mails.
fn gradient(weights: &[f64], mails: &[Mail]) -> (Vec<i64>, i64) {
    let mut gradient = vec![0; weights.len()];
    let mut loss = 0;
    for mail in mails {
        let probability = probability(weights, mail);
        let error = probability - f64::from(u8::from(mail.spam));
        for (sum, x) in gradient.iter_mut().zip(mail.features.iter().chain(&[1.0])) {
            *sum += (error * x * ONE) as i64;
        }
        // Never the logarithm of 0, however sure and wrong the model is.
        loss -= ((1.0 - error.abs()).max(1e-15).ln() * ONE) as i64;
    }
    (gradient, loss)
}

/// The model, which makes a step once all workers have told what they found.
struct Model {
    workers: usize,
    mails: usize,
    weights: Vec<f64>,
    /// The mean loss before the last step.
    loss: f64,
    /// What this step's workers have found so far.
    gradient: Vec<i64>,
    losses: i64,
    reports: usize,
}

impl Model {
    pub fn new(features: usize, mails: usize, workers: usize) -> Self {
        let (weights, gradient) = (vec![0.0; features + 1], vec![0; features + 1]);
        Model { workers, mails, weights, loss: f64::INFINITY, gradient, losses: 0, reports: 0 }
    }

    /// The weights, and the mean loss before the last step.
    pub fn state(&self) -> (Vec<f64>, f64) {
        (self.weights.clone(), self.loss)
    }

    /// Adds what one worker found in its share of the mails; the last worker's share makes the step.
    pub fn add(&mut self, gradient: &[i64], loss: i64) {
        for (sum, share) in self.gradient.iter_mut().zip(gradient) {
            *sum += share;
        }
        self.losses += loss;
        self.reports += 1;
        if self.reports == self.workers {
            self.step();
        }
    }

    fn step(&mut self) {
        let total = ONE * self.mails as f64;
        for (weight, sum) in self.weights.iter_mut().zip(&mut self.gradient) {
            *weight -= RATE * (*sum as f64 / total + DECAY * *weight);
            *sum = 0;
        }
        self.loss = self.losses as f64 / total;
        (self.losses, self.reports) = (0, 0);
    }
}

/// Worker `i` of `n` finds the gradient over its share of the mails, again and again. Returns the weights at the end.
fn work(i: usize, n: usize, iterations: usize, model: &Mutex<Model>, barrier: &Barrier) -> Vec<f64> {
    let mails = &DATA.learn;
    let mails = &mails[mails.len() * i / n..mails.len() * (i + 1) / n];
    let mut clock = Clock::start();
    for iteration in 0.. {
        let (weights, loss) = model.lock().unwrap().state();
        // Always the same worker tells, so that the lines stay in order.
        if i == 0 && iteration > 0 && (iteration % TELL == 0 || iteration == iterations) {
            println!("iteration {iteration:5}: loss {loss:.6}, {:.1?}", clock.lap());
        }
        if iteration == iterations {
            return weights;
        }
        let (gradient, loss) = gradient(&weights, mails);
        model.lock().unwrap().add(&gradient, loss);
        barrier.wait();
    }
    unreachable!("it returns after the last iteration")
}

/// Prints how well the model tells the mails apart that were held out.
fn print_quality(weights: &[f64], mails: &[Mail]) {
    // Good mails and spam, and of each how many were taken for the other.
    let (mut all, mut wrong) = ([0; 2], [0; 2]);
    for mail in mails {
        let taken_for_spam = probability(weights, mail) > 0.5;
        all[usize::from(mail.spam)] += 1;
        wrong[usize::from(mail.spam)] += usize::from(taken_for_spam != mail.spam);
    }
    let right = 100.0 * (1.0 - (wrong[0] + wrong[1]) as f64 / mails.len() as f64);
    println!("\naccuracy {right:.2} % on {} mails that were held out:", mails.len());
    println!("{:5} of {:5} good mails were taken for spam", wrong[0], all[0]);
    println!("{:5} of {:5} spam mails were taken for good ones", wrong[1], all[1]);
}

/// Prints the words and characters that say most.
fn print_words(weights: &[f64], names: &[String], words: usize) {
    let mut sorted: Vec<_> = names.iter().zip(weights).take(weights.len() - 1).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(a.1));
    println!("\n for spam                            for other mail");
    for (spam, good) in sorted.iter().zip(sorted.iter().rev()).take(words) {
        println!(" {:26} {:+.2}    {:26} {:+.2}", spam.0, spam.1, good.0, good.1);
    }
}

/// A number that tells results apart: two runs found the same model, to the last bit, if theirs agree.
fn fingerprint(weights: &[f64]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for weight in weights {
        hash = (hash ^ weight.to_bits()).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

fn main() {
    let mut args = Args::from_env(OPTIONS);
    let workers = args.number("--workers", 8, 1..=1000);
    let iterations = args.number("--iterations", 1000, 1..=1_000_000);
    let words = args.number("--words", 8, 0..=57);
    args.finish();

    let Mails { names, learn, held_out } = &*DATA;
    println!("{} mails to learn from, {iterations} iterations, {workers} workers", learn.len());
    let clock = Clock::start();
    let model = Arc::new(Mutex::new(Model::new(learn[0].features.len(), learn.len(), workers)));
    let barrier = Arc::new(Barrier::new(workers));
    let mut threads = Vec::new();
    for i in 0..workers {
        let (model, barrier) = (Arc::clone(&model), Arc::clone(&barrier));
        threads.push(thread::spawn(move || work(i, workers, iterations, &model, &barrier)));
    }
    let mut weights = Vec::new();
    for thread in threads {
        weights = thread.join().unwrap();
    }
    println!("done in {:.1?}", clock.total());

    print_quality(&weights, held_out);
    print_words(&weights, names, words);
    println!("\nfingerprint {:016x}", fingerprint(&weights));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_standardised() {
        for feature in 0..57 {
            let values = || DATA.learn.iter().map(|mail| mail.features[feature]);
            let mails = DATA.learn.len() as f64;
            assert!((values().sum::<f64>() / mails).abs() < 1e-9);
            assert!((values().map(|x| x * x).sum::<f64>() / mails - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let weights: Vec<_> = (0..58).map(|i| f64::from(i) / 100.0 - 0.2).collect();
        let (whole, loss) = gradient(&weights, &DATA.learn);
        let (low, high) = DATA.learn.split_at(1234);
        let ((low, loss_low), (high, loss_high)) = (gradient(&weights, low), gradient(&weights, high));
        assert_eq!(loss_low + loss_high, loss);
        assert!(low.iter().zip(&high).map(|(a, b)| a + b).eq(whole));
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let (mut weights, mails) = (vec![0.1; 58], &DATA.learn[..500]);
        let (gradient_at, before) = gradient(&weights, mails);
        weights[3] += 1e-6;
        let slope = (gradient(&weights, mails).1 - before) as f64 / 1e-6;
        assert!((slope / gradient_at[3] as f64 - 1.0).abs() < 1e-4, "{slope}");
    }
}
