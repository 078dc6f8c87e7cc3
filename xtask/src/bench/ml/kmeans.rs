//! k-means: the centres are an object, and the workers tell it what they found near each.

use std::{fs, sync::Arc, time::Instant};

use crucial::{cloud_fn, shared, sync::Barrier};
use multiversion::multiversion;

use super::{
    Outcome, WORKERS, Work,
    data::{CENTRES, COLUMNS, Data, Rows},
    train,
};
use crate::Error;

/// What is told of the points that are nearest to a centre: the sums of their coordinates, and how many they are.
type Part = [f64; COLUMNS + 1];
/// Rounded up to whole vectors of the processor.
const WIDTH: usize = CENTRES.next_multiple_of(8);
/// How many points are compared with the centres at once: as many as the registers have room for.
const TILE: usize = 6;

/// The centres, which move when all workers have told what they found.
#[shared]
pub(crate) struct Centres {
    workers: usize,
    centres: Vec<f64>,
    /// What the workers have told in this iteration.
    parts: Vec<f64>,
    told: usize,
    iteration: u64,
}

#[shared]
impl Centres {
    pub fn new(centres: Vec<f64>, workers: usize) -> Self {
        Centres { workers, centres, parts: vec![0.0; CENTRES * (COLUMNS + 1)], told: 0, iteration: 0 }
    }

    pub fn get(&self) -> Vec<f64> {
        self.centres.clone()
    }

    /// Adds what a worker found, and waits for the others. Returns the moved centres.
    #[then(moved)]
    pub fn tell(&mut self, parts: &[f64]) -> u64 {
        let iteration = self.iteration;
        self.parts.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        self.told += 1;
        if self.told == self.workers {
            let parts = self.parts.as_chunks_mut::<{ COLUMNS + 1 }>().0;
            for (centre, part) in self.centres.chunks_exact_mut(COLUMNS).zip(parts) {
                let count = part[COLUMNS];
                // A centre that no point is close to stays.
                if count > 0.0 {
                    centre.iter_mut().zip(*part).for_each(|(x, sum)| *x = sum / count);
                }
                *part = [0.0; COLUMNS + 1];
            }
            (self.told, self.iteration) = (0, iteration + 1);
        }
        iteration
    }

    #[when(self.iteration > iteration)]
    fn moved(&self, iteration: u64) -> Vec<f64> {
        self.centres.clone()
    }
}

/// Trains with share `i` of the points. The results are the sums of squared distances from the nearest centres: in the
/// last iteration, and after it.
#[cloud_fn]
fn work(file: &str, i: usize, iterations: usize, shared: &Centres, barrier: &Barrier) -> Work {
    let rows = Rows::load(file, i, WORKERS).unwrap_or_else(|error| panic!("{file}: {error}"));
    barrier.wait();
    let start = Instant::now();
    let (mut centres, mut calls, mut cost) = (shared.get(), Vec::new(), 0.0);
    for _ in 0..iterations {
        let found = assign(rows.get(), &centres);
        let call = Instant::now();
        centres = shared.tell(found.parts.as_flattened());
        calls.push(call.elapsed().as_secs_f64() * 1e6);
        cost = found.distances;
    }
    let squares = squares(rows.get());
    let seconds = start.elapsed().as_secs_f64();
    // This one is only for the comparison of results.
    let after = assign(rows.get(), &centres).distances;
    Work { seconds, calls, results: vec![cost + squares, after + squares] }
}

/// What a worker found.
struct Found {
    parts: Vec<Part>,
    /// The sum of squared distances, less the squares of the points themselves, which are the same for all centres.
    distances: f64,
}

/// Finds the nearest centre of each point.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
fn assign(points: &[[f64; COLUMNS]], centres: &[f64]) -> Found {
    // |x - c|² is |x|² - 2xc + |c|², where |x|² makes no difference.
    let mut squares = [f64::INFINITY; WIDTH];
    let mut factors = vec![[0.0; WIDTH]; COLUMNS];
    for (i, centre) in centres.chunks_exact(COLUMNS).enumerate() {
        squares[i] = centre.iter().map(|x| x * x).sum();
        for (factors, x) in factors.iter_mut().zip(centre) {
            factors[i] = -2.0 * x;
        }
    }
    let mut parts = vec![[0.0; COLUMNS + 1]; CENTRES];
    let mut sum = 0.0;
    // The points of a tile come from so many places, each of which goes on to its neighbour: memory that is read in
    // straight lines comes early.
    let step = points.len().div_ceil(TILE);
    for i in 0..step {
        let tile: [usize; TILE] = std::array::from_fn(|line| line * step + i);
        let rows = tile.map(|at| &points[at.min(points.len() - 1)]);
        let mut distances = [squares; TILE];
        for (column, factors) in factors.iter().enumerate() {
            for (distances, row) in distances.iter_mut().zip(rows) {
                for (distance, factor) in distances.iter_mut().zip(factors) {
                    *distance = row[column].mul_add(*factor, *distance);
                }
            }
        }
        for ((distances, row), at) in distances.iter().zip(rows).zip(tile) {
            if at < points.len() {
                let (nearest, distance) = least(distances);
                sum += distance;
                let part = &mut parts[nearest];
                part.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                part[COLUMNS] += 1.0;
            }
        }
    }
    Found { parts, distances: sum }
}

/// The sum of the squares of all coordinates, as four sums that make a vector.
fn squares(points: &[[f64; COLUMNS]]) -> f64 {
    let mut sums = [0.0; 4];
    for four in points.as_flattened().as_chunks::<4>().0 {
        sums.iter_mut().zip(four).for_each(|(sum, x)| *sum += x * x);
    }
    sums.into_iter().sum()
}

/// The smallest distance, and where it is first.
#[inline(always)]
fn least(distances: &[f64; WIDTH]) -> (usize, f64) {
    // Halves that are compared with each other are vectors; one number after another would be a chain of comparisons.
    let mut halves = *distances;
    let mut width = WIDTH / 2;
    while width > 0 {
        for i in 0..width {
            halves[i] = if halves[i] < halves[i + width] { halves[i] } else { halves[i + width] };
        }
        width /= 2;
    }
    let equal = |mask, (i, distance): (usize, &f64)| mask | u32::from(*distance == halves[0]) << i;
    (distances.iter().enumerate().fold(0, equal).trailing_zeros() as usize, halves[0])
}

/// One training.
pub(super) fn run(data: &Data, iterations: usize) -> Result<Outcome, Error> {
    let bytes = fs::read(data.centres())?;
    let centres = bytes.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect();
    let centres = Arc::new(Centres::new(centres, WORKERS));
    let file = data.points().display().to_string();
    train(|i, barrier| {
        let (file, centres) = (file.clone(), Arc::clone(&centres));
        move || work(&file, i, iterations, &centres, &barrier)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_goes_to_the_nearest_centre() {
        let point = |i: usize| std::array::from_fn(|column| ((i * 31 + column * 17) % 23) as f64);
        let points: Vec<[f64; COLUMNS]> = (0..100).map(point).collect();
        let centres: Vec<[f64; COLUMNS]> = (0..CENTRES).map(|i| point(i * 3 + 1)).collect();
        let found = assign(&points, centres.as_flattened());

        let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let mut counts = [0.0; CENTRES];
        let mut sum = 0.0;
        for point in &points {
            let distances = centres.iter().map(|centre| distance(point, centre));
            let (nearest, least) = distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            counts[nearest] += 1.0;
            sum += least - distance(point, &[0.0; COLUMNS]);
        }
        assert_eq!(found.distances, sum, "all of these are whole numbers");
        assert_eq!(found.parts.iter().map(|part| part[COLUMNS]).collect::<Vec<_>>(), counts);
    }
}
