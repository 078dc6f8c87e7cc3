//! Timing.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// The median. Of an even number of values, the mean of the two in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// The median duration of a call in microseconds, after a tenth as many calls that don't count.
pub(super) fn p50<E>(calls: usize, mut call: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    for _ in 0..calls / 10 {
        call()?;
    }
    let mut micros = Vec::with_capacity(calls);
    for _ in 0..calls {
        let start = Instant::now();
        call()?;
        micros.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&micros))
}

/// The mean duration of a call in microseconds, for calls that are too short for a clock each.
pub(super) fn mean(calls: usize, mut call: impl FnMut()) -> f64 {
    for _ in 0..calls / 10 {
        call();
    }
    let start = Instant::now();
    for _ in 0..calls {
        call();
    }
    start.elapsed().as_secs_f64() * 1e6 / calls as f64
}

/// Tells clients when to stop, and measures how many calls they made in a second.
#[derive(Debug, Default)]
pub(super) struct Gate {
    stop: AtomicBool,
}

impl Gate {
    pub(super) fn is_open(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    pub(super) fn close(&self) {
        self.stop.store(true, Relaxed);
    }
}

/// Calls in a second.
pub(super) fn rate(calls: u64, time: Duration) -> f64 {
    calls as f64 / time.as_secs_f64()
}

/// A quick generator (xorshift): the choice of an object must not cost what a call costs.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(client: usize) -> Self {
        Random(client as u64 * 7919 + 1)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
