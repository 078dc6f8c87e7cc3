//! Clusters the world's cities with k-means: cloud threads that share the clusters' centres, an object of our
//! own that adds up on the server what the workers find.
//!
//! Run it with `cargo run --release -p examples --bin kmeans`. It prints a table of the clusters and draws them
//! on a map, `kmeans.png`. With `CRUCIAL_BACKEND=processes` in front each worker gets a process of its own;
//! the clusters are the same, to the last bit. `kmeans_std` is the same program without crucial.

use std::cmp::Reverse;
use std::f64::consts::TAU;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crucial::{cloud_fn, shared, sync::Barrier, thread};
use examples::args::Args;
use examples::clock::Clock;

const OPTIONS: &[[&str; 2]] = &[
    ["--clusters K", "clusters to find (default 25)"],
    ["--workers N", "threads that share the cities (default 8)"],
    ["--rounds N", "rounds to stop after, even if the centres still move (default 20)"],
    ["--map FILE", "where to draw the clusters (default kmeans.png)"],
];

/// All cities by falling population: latitude and longitude in units of 10⁻⁵ degree. `data/README.md` tells
/// where they are from. They are embedded, so that they are there wherever a worker runs.
static COORDINATES: &[u8] = include_bytes!("../../data/cities.bin");

/// Name, country and population of the first of these cities, the large ones.
static LARGE_CITIES: &str = include_str!("../../data/large-cities.tsv");

/// A place, as a point of the unit sphere: in degrees, both sides of the date line would be far apart.
type Point = [f64; 3];

/// Every process that needs the cities decodes them once.
static POINTS: LazyLock<Vec<Point>> =
    LazyLock::new(|| COORDINATES.as_chunks().0.iter().map(decode_point).collect());

const EARTH_RADIUS_KM: f64 = 6371.0;

/// Centres that move less than this from one round to the next are where they belong.
const SETTLED_KM: f64 = 1.0;

fn decode_point(bytes: &[u8; 8]) -> Point {
    let [lat, lon] = [0, 4].map(|i| i32::from_le_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]));
    to_sphere(f64::from(lat) / 1e5, f64::from(lon) / 1e5)
}

fn to_sphere(lat: f64, lon: f64) -> Point {
    let (lat_sin, lat_cos) = lat.to_radians().sin_cos();
    let (lon_sin, lon_cos) = lon.to_radians().sin_cos();
    [lat_cos * lon_cos, lat_cos * lon_sin, lat_sin]
}

fn to_degrees([x, y, z]: Point) -> (f64, f64) {
    (z.atan2(length(&[x, y])).to_degrees(), y.atan2(x).to_degrees())
}

/// Not with `hypot`: a program that was linked with a new C library's does not start where that is older, as on Lambda.
fn length(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn dot(a: Point, b: Point) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

fn kilometres(a: Point, b: Point) -> f64 {
    // From the chord: the arc cosine of the dot product is inexact where points are close.
    let chord = length(&[a[0] - b[0], a[1] - b[1], a[2] - b[2]]);
    2.0 * (chord / 2.0).min(1.0).asin() * EARTH_RADIUS_KM
}

/// The farthest that any centre is from where it was.
fn movement(from: &[Point], to: &[Point]) -> f64 {
    from.iter().zip(to).map(|(&a, &b)| kilometres(a, b)).fold(0.0, f64::max)
}

/// The index of the centre that is closest to `point`.
fn nearest(centres: &[Point], point: Point) -> usize {
    let mut best = 0;
    let mut best_dot = f64::NEG_INFINITY;
    for (i, &centre) in centres.iter().enumerate() {
        let dot = dot(centre, point);
        if dot > best_dot {
            (best, best_dot) = (i, dot);
        }
    }
    best
}

/// Spreads `k` centres over the world: after the largest city, always the one farthest from those chosen.
/// Only large cities are considered, or small islands would get most of the clusters.
fn first_centres(k: usize) -> Vec<Point> {
    let candidates = &POINTS[..1000];
    let mut centres = vec![candidates[0]];
    let mut closeness: Vec<f64> = candidates.iter().map(|&point| dot(point, centres[0])).collect();
    while centres.len() < k {
        let farthest = (0..candidates.len()).min_by(|&a, &b| closeness[a].total_cmp(&closeness[b])).unwrap();
        let centre = candidates[farthest];
        centres.push(centre);
        for (closeness, &point) in closeness.iter_mut().zip(candidates) {
            *closeness = closeness.max(dot(point, centre));
        }
    }
    centres
}

/// A sum of points. Floating-point sums depend on the order of their terms, and so on which worker is first;
/// whole numbers don't. 40 binary digits after the point leave room to add 8 million cities.
type Sum = [i64; 3];

const ONE: f64 = (1_u64 << 40) as f64;

/// Finds the closest centre for each point. Returns sum and number of the points at each centre.
fn assign(points: &[Point], centres: &[Point], labels: &mut [u8]) -> (Vec<Sum>, Vec<u64>) {
    let mut sums = vec![[0; 3]; centres.len()];
    let mut counts = vec![0; centres.len()];
    for (&point, label) in points.iter().zip(labels) {
        let cluster = nearest(centres, point);
        *label = cluster as u8;
        counts[cluster] += 1;
        for (sum, coordinate) in sums[cluster].iter_mut().zip(point) {
            *sum += (coordinate * ONE) as i64;
        }
    }
    (sums, counts)
}

/// The clusters' centres, moved once all workers have told what they found.
#[shared]
struct Centroids {
    workers: usize,
    last_round: usize,
    /// Centres at the start of each round.
    rounds: Vec<Vec<Point>>,
    /// What this round's workers have found so far.
    sums: Vec<Sum>,
    counts: Vec<u64>,
    reports: usize,
}

#[shared]
impl Centroids {
    pub fn new(start: Vec<Point>, workers: usize, last_round: usize) -> Self {
        let sums = vec![[0; 3]; start.len()];
        let counts = vec![0; start.len()];
        Centroids { workers, last_round, rounds: vec![start], sums, counts, reports: 0 }
    }

    /// Adds what one worker found in its share of the points; the last worker's share ends the round.
    pub fn add(&mut self, sums: &[Sum], counts: &[u64]) {
        for (total, sum) in self.sums.as_flattened_mut().iter_mut().zip(sums.as_flattened()) {
            *total += sum;
        }
        for (total, count) in self.counts.iter_mut().zip(counts) {
            *total += count;
        }
        self.reports += 1;
        if self.reports == self.workers {
            self.end_round();
        }
    }

    /// The centres at the start of a round, or nothing if the clusters settled before it.
    pub fn centres(&self, round: usize) -> Option<Vec<Point>> {
        self.rounds.get(round).cloned()
    }

    fn end_round(&mut self) {
        let round = self.rounds.len() - 1;
        let mut centres = self.rounds[round].clone();
        for ((centre, sum), count) in centres.iter_mut().zip(&mut self.sums).zip(&mut self.counts) {
            let [x, y, z] = sum.map(|coordinate| coordinate as f64);
            let length = (x * x + y * y + z * z).sqrt();
            // A centre that no point is close to stays.
            if *count > 0 && length > 0.0 {
                *centre = [x / length, y / length, z / length];
            }
            *sum = [0; 3];
            *count = 0;
        }
        self.reports = 0;
        if round < self.last_round && movement(&self.rounds[round], &centres) >= SETTLED_KM {
            self.rounds.push(centres);
        }
    }
}

/// Worker `i` of `n` clusters its share of the points. Returns the cluster of each, and the clusters' centres.
#[cloud_fn]
fn work(i: usize, n: usize, centroids: &Centroids, barrier: &Barrier) -> (Vec<u8>, Vec<Point>) {
    let points = &POINTS[POINTS.len() * i / n..POINTS.len() * (i + 1) / n];
    let mut labels = vec![0; points.len()];
    let mut centres = Vec::new();
    let mut clock = Clock::start();
    for round in 0.. {
        let Some(moved) = centroids.centres(round) else { break };
        // Always the same worker tells, so that the lines stay in order.
        if i == 0 && round > 0 {
            let (distance, time) = (movement(&centres, &moved), clock.lap());
            println!("round {round:3}: centres moved up to {distance:6.1} km, {time:.1?}");
        }
        centres = moved;
        let (sums, counts) = assign(points, &centres, &mut labels);
        centroids.add(&sums, &counts);
        barrier.wait();
    }
    (labels, centres)
}

/// A cluster as table and map show it.
struct Summary {
    centre: Point,
    colour: Colour,
    cities: usize,
    mean_km: f64,
    largest: String,
}

/// Looks at the cities of each cluster.
fn summarise(centres: &[Point], labels: &[u8]) -> Vec<Summary> {
    let mut clusters = Vec::new();
    for (i, &centre) in centres.iter().enumerate() {
        clusters.push(Summary { centre, colour: colour(i), cities: 0, mean_km: 0.0, largest: String::new() });
    }
    for (&point, &label) in POINTS.iter().zip(labels) {
        let cluster = &mut clusters[label as usize];
        cluster.cities += 1;
        cluster.mean_km += kilometres(point, cluster.centre);
    }
    for (line, &label) in LARGE_CITIES.lines().zip(labels) {
        let cluster = &mut clusters[label as usize];
        // The first is the largest.
        if cluster.largest.is_empty()
            && let [name, country, population] = line.split('\t').collect::<Vec<_>>()[..]
        {
            let millions = population.parse::<f64>().unwrap_or_default() / 1e6;
            cluster.largest = format!("{name}, {country} ({millions:.1} million)");
        }
    }
    for cluster in &mut clusters {
        cluster.mean_km /= cluster.cities.max(1) as f64;
    }
    clusters
}

/// Prints the clusters, those with most cities first.
fn print_table(clusters: &[Summary]) {
    let mut sorted: Vec<_> = clusters.iter().collect();
    sorted.sort_by_key(|cluster| Reverse(cluster.cities));
    println!("\n cities   centre             mean distance   largest city");
    for Summary { centre, cities, mean_km, largest, .. } in sorted {
        let (lat, lon) = to_degrees(*centre);
        let north = if lat < 0.0 { 'S' } else { 'N' };
        let east = if lon < 0.0 { 'W' } else { 'E' };
        let (lat, lon) = (lat.abs(), lon.abs());
        println!("{cities:7}   {lat:4.1}° {north}  {lon:5.1}° {east}   {mean_km:10.0} km   {largest}");
    }
}

/// A number that tells results apart: two runs found the same clusters, to the last bit, if theirs agree.
fn fingerprint(centres: &[Point], labels: &[u8]) -> u64 {
    let coordinates = centres.as_flattened().iter().map(|coordinate| coordinate.to_bits());
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for value in coordinates.chain(labels.iter().map(|&label| label.into())) {
        hash = (hash ^ value).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

type Colour = [u8; 3];

/// The `i`-th of a sequence of colours that are well apart: hues go round by the golden ratio, and lightness
/// takes turns. They are mixed in the Oklab colour space, where all hues of one lightness look equally bright.
fn colour(i: usize) -> Colour {
    let (lightness, chroma) = [(0.76, 0.17), (0.88, 0.09), (0.64, 0.21)][i % 3];
    let (b, a) = (i as f64 * 0.618_034 * TAU).sin_cos();
    let (a, b) = (a * chroma, b * chroma);
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548 * b).powi(3);
    let linear = [
        4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s,
        -1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s,
        -0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701 * s,
    ];
    linear.map(|x| (255.0 * (1.055 * x.max(0.0).powf(1.0 / 2.4) - 0.055)) as u8)
}

/// An equirectangular map of the world, without the polar regions.
struct Map {
    pixels: Vec<Colour>,
}

impl Map {
    const NORTH: usize = 84;
    const SOUTH: usize = 58;
    const PIXELS_PER_DEGREE: usize = 5;
    const WIDTH: usize = 360 * Self::PIXELS_PER_DEGREE;
    const HEIGHT: usize = (Self::NORTH + Self::SOUTH) * Self::PIXELS_PER_DEGREE;

    fn new() -> Self {
        Map { pixels: vec![[0; 3]; Self::WIDTH * Self::HEIGHT] }
    }

    /// The place that is drawn at the middle of a pixel.
    fn place(x: usize, y: usize) -> Point {
        let degrees = |pixel: usize| (pixel as f64 + 0.5) / Self::PIXELS_PER_DEGREE as f64;
        to_sphere(Self::NORTH as f64 - degrees(y), degrees(x) - 180.0)
    }

    /// Colours a pixel; what is there shines through where `opacity` is below 1.
    fn blend(&mut self, x: usize, y: usize, colour: Colour, opacity: f64) {
        for (old, new) in self.pixels[y * Self::WIDTH + x].iter_mut().zip(colour) {
            *old = (f64::from(*old) * (1.0 - opacity) + f64::from(new) * opacity).round() as u8;
        }
    }

    /// Draws a disc with smooth edges around a place.
    fn disc(&mut self, place: Point, radius: f64, colour: Colour, opacity: f64) {
        let (lat, lon) = to_degrees(place);
        let scale = Self::PIXELS_PER_DEGREE as f64;
        let (x, y) = ((lon + 180.0) * scale, (Self::NORTH as f64 - lat) * scale);
        let pixels = |centre: f64, end: usize| {
            // Conversion from f64 saturates: what is off the map is cut off.
            (centre - radius - 1.0) as usize..((centre + radius + 2.0) as usize).min(end)
        };
        for row in pixels(y, Self::HEIGHT) {
            for column in pixels(x, Self::WIDTH) {
                let distance = length(&[column as f64 + 0.5 - x, row as f64 + 0.5 - y]);
                self.blend(column, row, colour, (radius + 0.5 - distance).clamp(0.0, 1.0) * opacity);
            }
        }
    }

    fn save(&self, path: &Path) -> io::Result<()> {
        let file = BufWriter::new(File::create(path)?);
        let mut encoder = png::Encoder::new(file, Self::WIDTH as u32, Self::HEIGHT as u32);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(self.pixels.as_flattened())?;
        writer.finish()?;
        Ok(())
    }
}

/// Draws the cities in their clusters' colours, and each cluster's centre.
fn draw_map(centres: &[Point], clusters: &[Summary], labels: &[u8]) -> Map {
    let mut map = Map::new();
    // A faint background shows how far each cluster reaches.
    for y in 0..Map::HEIGHT {
        for x in 0..Map::WIDTH {
            let cluster = nearest(centres, Map::place(x, y));
            map.blend(x, y, clusters[cluster].colour, 0.13);
        }
    }
    // A line every 30 degrees helps the eye.
    const STEP: usize = 30 * Map::PIXELS_PER_DEGREE;
    for x in (STEP..Map::WIDTH).step_by(STEP) {
        (0..Map::HEIGHT).for_each(|y| map.blend(x, y, [255; 3], 0.08));
    }
    for y in ((Map::NORTH - 60) * Map::PIXELS_PER_DEGREE..Map::HEIGHT).step_by(STEP) {
        (0..Map::WIDTH).for_each(|x| map.blend(x, y, [255; 3], 0.08));
    }
    for (&point, &label) in POINTS.iter().zip(labels) {
        map.disc(point, 0.65, clusters[label as usize].colour, 0.9);
    }
    for cluster in clusters {
        map.disc(cluster.centre, 8.0, [0; 3], 0.7);
        map.disc(cluster.centre, 6.5, [255; 3], 1.0);
        map.disc(cluster.centre, 4.5, cluster.colour, 1.0);
    }
    map
}

#[crucial::main]
fn main() {
    let mut args = Args::from_env(OPTIONS);
    let k = args.number("--clusters", 25, 1..=250);
    let workers = args.number("--workers", 8, 1..=1000);
    let rounds = args.number("--rounds", 20, 1..=10_000);
    let map = args.text("--map", "kmeans.png");
    args.finish();

    println!("{} cities, {k} clusters, {workers} workers", POINTS.len());
    let clock = Clock::start();
    let centroids = Arc::new(Centroids::new(first_centres(k), workers, rounds));
    let barrier = Arc::new(Barrier::new(workers));
    let mut threads = Vec::new();
    for i in 0..workers {
        let (centroids, barrier) = (Arc::clone(&centroids), Arc::clone(&barrier));
        threads.push(thread::spawn(move || work(i, workers, &centroids, &barrier)));
    }
    let (mut labels, mut centres) = (Vec::new(), Vec::new());
    for thread in threads {
        let part;
        (part, centres) = thread.join().unwrap();
        labels.extend(part);
    }
    println!("done in {:.1?}", clock.total());

    let clusters = summarise(&centres, &labels);
    print_table(&clusters);
    println!("\nfingerprint {:016x}", fingerprint(&centres, &labels));
    match draw_map(&centres, &clusters, &labels).save(Path::new(&map)) {
        Ok(()) => println!("map in {map}"),
        Err(error) => {
            eprintln!("error: can't write the map to {map}: {error}");
            std::process::exit(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_survive_the_sphere() {
        for (lat, lon) in [(0.0, 0.0), (52.5, 13.4), (-33.9, 151.2), (64.1, -21.9)] {
            let (lat_back, lon_back) = to_degrees(to_sphere(lat, lon));
            assert!((lat - lat_back).abs() < 1e-9 && (lon - lon_back).abs() < 1e-9);
        }
    }

    #[test]
    fn the_date_line_divides_nothing() {
        let fiji = to_sphere(-17.0, 179.5);
        let centres = [to_sphere(-17.0, -179.5), to_sphere(-17.0, 170.0)];
        assert_eq!(nearest(&centres, fiji), 0);
        assert!((kilometres(fiji, centres[0]) - 106.3).abs() < 0.1);
    }

    #[test]
    fn shares_add_up_to_the_whole() {
        let (points, centres) = (&POINTS[..1000], first_centres(5));
        let mut labels = vec![0; points.len()];
        let (whole, _) = assign(points, &centres, &mut labels);
        let (mut sums, _) = assign(&points[300..], &centres, &mut labels[300..]);
        let (rest, _) = assign(&points[..300], &centres, &mut labels[..300]);
        for (sum, more) in sums.as_flattened_mut().iter_mut().zip(rest.as_flattened()) {
            *sum += more;
        }
        assert_eq!(sums, whole);
    }
}
