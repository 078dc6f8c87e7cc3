//! Logistic regression: the weights are an object, and the workers tell it their parts of the gradient.

use std::{sync::Arc, time::Instant};

use crucial::{cloud_fn, shared, sync::Barrier};
use multiversion::multiversion;

use super::{
    Outcome, WORKERS, Work,
    data::{COLUMNS, Data, Rows},
    train,
};
use crate::Error;

/// The weight of the penalty on large weights (L2).
const PENALTY: f64 = 0.01;
/// How many examples stay in the first cache while they are used twice.
const BLOCK: usize = 32;

/// The weights, which move when all workers have told their parts of the gradient.
#[shared]
pub(crate) struct Weights {
    workers: usize,
    examples: usize,
    weights: Vec<f64>,
    /// What the workers have told in this iteration.
    gradient: Vec<f64>,
    told: usize,
    iteration: u64,
}

#[shared]
impl Weights {
    pub fn new(examples: usize, workers: usize) -> Self {
        let (weights, gradient) = (vec![0.0; COLUMNS], vec![0.0; COLUMNS]);
        Weights { workers, examples, weights, gradient, told: 0, iteration: 0 }
    }

    pub fn get(&self) -> Vec<f64> {
        self.weights.clone()
    }

    /// Adds a worker's part of the gradient, and waits for the others. Returns the moved weights.
    #[then(moved)]
    pub fn tell(&mut self, gradient: &[f64]) -> u64 {
        let iteration = self.iteration;
        self.gradient.iter_mut().zip(gradient).for_each(|(sum, part)| *sum += part);
        self.told += 1;
        if self.told == self.workers {
            // Steps become shorter.
            let step = 1.0 / ((iteration + 1) as f64).sqrt();
            for (weight, gradient) in self.weights.iter_mut().zip(&self.gradient) {
                *weight = *weight * (1.0 - step * PENALTY) - step * gradient / self.examples as f64;
            }
            self.gradient.fill(0.0);
            (self.told, self.iteration) = (0, iteration + 1);
        }
        iteration
    }

    #[when(self.iteration > iteration)]
    fn moved(&self, iteration: u64) -> Vec<f64> {
        self.weights.clone()
    }
}

/// Trains with share `i` of the examples. The result is the sum of their losses.
#[cloud_fn]
fn work(file: &str, i: usize, iterations: usize, shared: &Weights, barrier: &Barrier) -> Work {
    let rows = Rows::load(file, i, WORKERS).unwrap_or_else(|error| panic!("{file}: {error}"));
    barrier.wait();
    let start = Instant::now();
    let (mut weights, mut calls) = (shared.get(), Vec::new());
    for _ in 0..iterations {
        let (gradient, _) = gradient(rows.get(), &weights);
        let call = Instant::now();
        weights = shared.tell(&gradient);
        calls.push(call.elapsed().as_secs_f64() * 1e6);
    }
    // As MLlib, which goes through the data once more to tell it.
    let (_, loss) = gradient(rows.get(), &weights);
    Work { seconds: start.elapsed().as_secs_f64(), calls, results: vec![loss] }
}

/// Gradient and loss of examples, which begin with their labels.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn gradient(examples: &[[f64; COLUMNS + 1]], weights: &[f64]) -> ([f64; COLUMNS], f64) {
    let mut gradient = [0.0; COLUMNS];
    let mut loss = 0.0;
    for block in examples.chunks(BLOCK) {
        let mut margins = [0.0; BLOCK];
        for (row, margin) in block.iter().zip(&mut margins) {
            *margin = dot(&row[1..], weights);
        }
        // A loss is the logarithm of a number between 1 and 2, and a part of the margin. The product of these numbers
        // can't overflow: a block needs one logarithm only.
        let mut product = 1.0;
        for (row, margin) in block.iter().zip(&mut margins) {
            let exp = (-margin.abs()).exp();
            product *= 1.0 + exp;
            loss += (-*margin).max(0.0) + (1.0 - row[0]) * *margin;
            *margin = if *margin < 0.0 { exp } else { 1.0 } / (1.0 + exp) - row[0];
        }
        loss += f64::ln(product);
        for (row, factor) in block.iter().zip(&margins) {
            for (sum, x) in gradient.iter_mut().zip(&row[1..]) {
                *sum = factor.mul_add(*x, *sum);
            }
        }
    }
    (gradient, loss)
}

/// The sum of the products, as eight sums that make a vector.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] = a[i].mul_add(b[i], sums[i]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
    sums.into_iter().chain(rest).sum()
}

/// One training.
pub(super) fn run(data: &Data, iterations: usize) -> Result<Outcome, Error> {
    let weights = Arc::new(Weights::new(data.rows, WORKERS));
    let file = data.examples().display().to_string();
    let mut outcome = train(|i, barrier| {
        let (file, weights) = (file.clone(), Arc::clone(&weights));
        move || work(&file, i, iterations, &weights, &barrier)
    })?;
    let penalty = 0.5 * PENALTY * weights.get().iter().map(|x| x * x).sum::<f64>();
    outcome.results = outcome.results.iter().map(|loss| loss / data.rows as f64 + penalty).collect();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let row = |i: usize| std::array::from_fn(|column| ((i * 31 + column * 17) % 2) as f64);
        let examples: Vec<[f64; COLUMNS + 1]> = (0..BLOCK * 2 + 3).map(row).collect();
        let mut weights = vec![0.01; COLUMNS];
        let slope = gradient(&examples, &weights).0[5];
        let mut loss = |by| {
            weights[5] = 0.01 + by;
            gradient(&examples, &weights).1
        };
        let numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5;
        assert!((slope - numeric).abs() < 1e-5 * slope.abs(), "{slope} is not {numeric}");
    }
}
