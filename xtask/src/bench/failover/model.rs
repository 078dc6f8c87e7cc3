//! The model: means of handwritten digits, each an object of its own.
//!
//! It is mini-batch k-means (Sculley, 2010), where a mean also counts which digits it is made of: an image is taken for the
//! digit that is most frequent in the nearest mean.

use std::io::Read;

use crucial::shared;
use flate2::read::GzDecoder;

use crate::Error;

/// Pixels of an image.
pub(super) const PIXELS: usize = 64;
/// How many digits there are.
const DIGITS: usize = 10;

/// Real images: see `examples/data/README.md`.
const IMAGES: &[u8] = include_bytes!("../../../../examples/data/digits.csv.gz");

/// An image, and what it shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    pub(super) pixels: [f64; PIXELS],
    pub(super) digit: usize,
}

/// All images.
pub(super) fn images() -> Result<Vec<Image>, Error> {
    let mut text = String::new();
    GzDecoder::new(IMAGES).read_to_string(&mut text)?;
    let image = |line: &str| {
        let mut numbers = line.split(',').map_while(|number| number.parse::<u8>().ok());
        let mut pixels = [0.0; PIXELS];
        for pixel in &mut pixels {
            *pixel = f64::from(numbers.next()?);
        }
        let digit = usize::from(numbers.next()?);
        (digit < DIGITS).then_some(Image { pixels, digit })
    };
    let images: Option<Vec<_>> = text.lines().map(image).collect();
    images.ok_or_else(|| Error::Message("the images can't be read".to_owned()))
}

/// The mean of some images.
#[shared]
pub(crate) struct Mean {
    pixels: Vec<f64>,
    /// How often it has learned each digit.
    digits: [u64; DIGITS],
    updates: u64,
}

#[shared]
impl Mean {
    /// That of one image.
    pub fn new(pixels: Vec<f64>, digit: usize) -> Self {
        let mut digits = [0; DIGITS];
        digits[digit] = 1;
        Mean { pixels, digits, updates: 0 }
    }

    /// The mean, and the digit that is most frequent in it.
    pub fn get(&self) -> (Vec<f64>, usize) {
        let most = (0..DIGITS).max_by_key(|digit| self.digits[*digit]);
        (self.pixels.clone(), most.unwrap_or_default())
    }

    /// Moves towards an image, by the less the more it is made of.
    pub fn learn(&mut self, pixels: &[f64], digit: usize) {
        self.digits[digit] += 1;
        self.updates += 1;
        let count = self.digits.iter().sum::<u64>() as f64;
        self.pixels.iter_mut().zip(pixels).for_each(|(mean, pixel)| *mean += (pixel - *mean) / count);
    }

    /// How often it has learned.
    pub fn updates(&self) -> u64 {
        self.updates
    }
}

/// The place of the nearest mean.
pub(super) fn nearest(means: &[(Vec<f64>, usize)], image: &Image) -> usize {
    let distance =
        |mean: &[f64]| -> f64 { mean.iter().zip(&image.pixels).map(|(a, b)| (a - b) * (a - b)).sum() };
    let distances = means.iter().map(|(mean, _)| distance(mean)).enumerate();
    distances.min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_digits() {
        let images = images().unwrap();
        assert_eq!(images.len(), 1797);
        assert!(images.iter().all(|image| image.pixels.iter().all(|pixel| (0.0..=16.0).contains(pixel))));
        assert!((0..DIGITS).all(|digit| images.iter().any(|image| image.digit == digit)));
    }

    #[test]
    fn a_mean_is_one() {
        let run = crucial::run::Run::start(crucial::Config::default()).unwrap();
        let _entered = run.enter();
        let mean = Mean::new(vec![2.0; PIXELS], 7);
        mean.learn(&[4.0; PIXELS], 1);
        mean.learn(&[6.0; PIXELS], 1);
        assert_eq!(mean.get(), (vec![4.0; PIXELS], 1));
        assert_eq!(mean.updates(), 2);
        run.end();
    }

    #[test]
    fn the_nearest_is_found() {
        let means: Vec<_> = (0..5).map(|at| (vec![f64::from(at) * 3.0; PIXELS], 0)).collect();
        assert_eq!(nearest(&means, &Image { pixels: [5.0; PIXELS], digit: 0 }), 2);
    }
}
