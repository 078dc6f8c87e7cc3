//! Renders a part of the Mandelbrot set with a parallel iterator over its rows, many rows to a cloud thread.
//!
//! Run it with `cargo run --release -p examples --bin mandelbrot`. It draws `mandelbrot.png`. With
//! `CRUCIAL_BACKEND=processes` in front the rows are rendered in processes; the image is the same, to the last bit.
//! `mandelbrot_std` is the same program with rayon.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufWriter, Write};

use crucial::{cloud_fn, iter::IntoCloudIterator};

use examples::args::Args;
use examples::clock::Clock;

const OPTIONS: &[[&str; 2]] = &[
    ["--width N", "width of the image in pixels (default 1280)"],
    ["--height N", "its height (default 800)"],
    ["--iterations N", "steps after which a point counts as one of the set (default 5,000)"],
    ["--samples N", "points along each side of a pixel, for smooth edges (default 2)"],
    ["--image FILE", "where to write the image (default mandelbrot.png)"],
];

/// The middle of the image: a spiral in the valley between the set's body and its head.
const CENTRE: [f64; 2] = [-0.743_643_887_037_151, 0.131_825_904_205_330];

/// How much of the plane the image is wide.
const WIDTH: f64 = 0.000_51;

/// Points are followed until they are this far from 0. It could be 2, but colours are smoother if it is more.
const FAR: f64 = 64.0;

type Colour = [u8; 3];

/// How many steps it takes a point to get far away, as a smooth function of the point. `None` if it doesn't.
fn escape([x, y]: [f64; 2], iterations: u32) -> Option<f64> {
    let (mut re, mut im) = (0.0, 0.0);
    for step in 0..iterations {
        let (re2, im2) = (re * re, im * im);
        if re2 + im2 > FAR * FAR {
            // How far it has gone beyond tells where between two steps it would have been at the limit.
            let beyond = ((re2 + im2).ln() / (2.0 * FAR.ln())).log2();
            return Some(f64::from(step) - beyond);
        }
        im = 2.0 * re * im + y;
        re = re2 - im2 + x;
    }
    None
}

/// The colour of a number of steps, as shares of full red, green and blue. What is in the set is black.
fn colour(steps: Option<f64>) -> [f64; 3] {
    // The logarithm spreads colours evenly: the closer to the set, the faster the numbers grow.
    let turn = |steps: f64| 4.2 * (steps + 1.0).ln();
    match steps {
        Some(steps) => [0.0, 0.6, 1.1].map(|phase| 0.5 - 0.5 * (turn(steps) - phase).cos()),
        None => [0.0; 3],
    }
}

/// Computes a row of the image: the mean colour of each pixel's samples.
#[cloud_fn]
fn render(row: usize, width: usize, height: usize, iterations: u32, samples: usize) -> Vec<Colour> {
    let scale = WIDTH / (width * samples) as f64;
    let offset = |sample: usize, size: usize| (sample as f64 + 0.5 - (size * samples) as f64 / 2.0) * scale;
    let mut pixels = Vec::new();
    for column in 0..width {
        let mut sum = [0.0; 3];
        for sample in 0..samples * samples {
            let x = CENTRE[0] + offset(column * samples + sample % samples, width);
            let y = CENTRE[1] - offset(row * samples + sample / samples, height);
            for (sum, share) in sum.iter_mut().zip(colour(escape([x, y], iterations))) {
                *sum += share;
            }
        }
        pixels.push(sum.map(|sum| (255.0 * sum / (samples * samples) as f64).round() as u8));
    }
    pixels
}

/// A number that tells images apart: two are the same, to the last bit, if theirs agree.
fn fingerprint(image: &[Vec<Colour>]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for &byte in image.iter().flatten().flatten() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

fn save(image: &[Vec<Colour>], file: File) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(BufWriter::new(file), image[0].len() as u32, image.len() as u32);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header()?;
    let mut rows = writer.stream_writer()?;
    for row in image {
        rows.write_all(row.as_flattened())?;
    }
    rows.finish()?;
    writer.finish()
}

/// Ends the program: the image can't be written.
fn fail(path: &str, error: &dyn Display) -> ! {
    eprintln!("error: can't write the image to {path}: {error}");
    std::process::exit(1);
}

#[crucial::main]
fn main() {
    let mut args = Args::from_env(OPTIONS);
    let width = args.number("--width", 1280, 1..=20_000);
    let height = args.number("--height", 800, 1..=20_000);
    let iterations = args.number("--iterations", 5_000, 1..=10_000_000);
    let samples = args.number("--samples", 2, 1..=16);
    let path = args.text("--image", "mandelbrot.png");
    args.finish();

    // Before the work, which may take long.
    let file = File::create(&path).unwrap_or_else(|error| fail(&path, &error));
    println!("{width} × {height} pixels of {samples} × {samples} points, {iterations} iterations");
    let clock = Clock::start();
    let image: Vec<_> =
        (0..height).into_cloud_iter().map(|row| render(row, width, height, iterations, samples)).collect();
    println!("done in {:.1?}", clock.total());

    println!("fingerprint {:016x}", fingerprint(&image));
    save(&image, file).unwrap_or_else(|error| fail(&path, &error));
    println!("image in {path}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_of_the_set_stay() {
        for point in [[0.0, 0.0], [-1.0, 0.0], [-2.0, 0.0], [0.25, 0.0], [0.0, 1.0]] {
            assert_eq!(escape(point, 1000), None);
        }
        assert!(escape([0.26, 0.0], 1000).is_some());
    }

    #[test]
    fn steps_are_smooth() {
        let near = |x: f64| escape([x, 0.0], 1000).unwrap();
        assert!((near(0.3) - near(0.300_001)).abs() < 1e-3);
        assert!(near(0.3) > near(0.4));
    }

    #[test]
    fn only_the_set_is_black() {
        assert_eq!(colour(None), [0.0; 3]);
        for steps in [0.0, 1.0, 10.0, 1e3, 1e6] {
            let shares = colour(Some(steps));
            assert!(
                shares.iter().all(|share| (0.0..=1.0).contains(share)) && shares.iter().sum::<f64>() > 0.0
            );
        }
    }
}
