//! Throughput over time, as an SVG image.

use std::fmt::Write as _;

use super::{Round, Summary, rate};

/// The image, and the part of it that the axes enclose.
const SIZE: (f64, f64) = (960.0, 440.0);
const LEFT: f64 = 80.0;
const RIGHT: f64 = 935.0;
const TOP: f64 = 70.0;
const BOTTOM: f64 = 380.0;
/// The length of time that makes one point, in seconds.
const STEP: f64 = 0.5;

const INFERENCES: &str = "#1f5fa8";
const UPDATES: &str = "#c8740a";
const CRASH: &str = "#b3202a";
const JOIN: &str = "#2d7d32";

/// Draws a round.
pub(super) fn draw(round: &Round, summary: &Summary) -> String {
    let points = |times: &[f64]| -> Vec<(f64, f64)> {
        let steps = (round.end / STEP) as usize;
        let step = |i: usize| (i as f64 * STEP, (i + 1) as f64 * STEP);
        (0..steps).map(step).map(|(from, to)| (f64::midpoint(from, to), rate(times, from, to))).collect()
    };
    let (inferences, updates) = (points(&round.inferences), points(&round.updates));
    let most = inferences.iter().chain(&updates).map(|point| point.1).fold(1.0, f64::max);
    let tick = nice(most / 5.0);
    let top = (most / tick).ceil() * tick;
    let x = |time: f64| LEFT + time / round.end * (RIGHT - LEFT);
    let y = |rate: f64| BOTTOM - rate / top * (BOTTOM - TOP);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
         font-family=\"sans-serif\" font-size=\"14\" fill=\"#222\">\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"#fff\"/>\n",
        w = SIZE.0,
        h = SIZE.1
    );
    // The grid, with what it means.
    let mut value = 0.0;
    while value <= top {
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{0:.1}\" x2=\"{RIGHT}\" y2=\"{0:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{value:.0}</text>",
            y(value),
            LEFT - 10.0,
            y(value) + 5.0
        );
        value += tick;
    }
    let seconds = nice(round.end / 10.0);
    let mut time = 0.0;
    while time <= round.end {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" y1=\"{BOTTOM}\" x2=\"{0:.1}\" y2=\"{1}\" stroke=\"#222\"/>\
             <text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\">{time:.0}</text>",
            x(time),
            BOTTOM + 5.0,
            BOTTOM + 21.0
        );
        time += seconds;
    }
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"#222\"/>\n\
         <text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">time (s)</text>\n\
         <text transform=\"translate(20 {:.1}) rotate(-90)\" text-anchor=\"middle\">calls / s</text>",
        f64::midpoint(LEFT, RIGHT),
        SIZE.1 - 14.0,
        f64::midpoint(TOP, BOTTOM),
    );
    // When nothing was served.
    let (from, to) = (x(summary.silent_from), x(summary.silent_from + summary.silence));
    let _ = writeln!(
        svg,
        "<rect x=\"{from:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{CRASH}\" fill-opacity=\"0.15\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{CRASH}\">{:.1} s without an inference</text>",
        to - from,
        BOTTOM - TOP,
        to + 6.0,
        TOP + 20.0,
        summary.silence
    );
    for (time, what, colour) in [(round.crash, "node killed", CRASH), (round.join, "empty node joins", JOIN)]
    {
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" y1=\"{1}\" x2=\"{0:.1}\" y2=\"{BOTTOM}\" stroke=\"{colour}\" stroke-width=\"1.5\" \
             stroke-dasharray=\"6 4\"/><text x=\"{0:.1}\" y=\"{2}\" text-anchor=\"middle\" fill=\"{colour}\">{what}</text>",
            x(time),
            TOP,
            TOP - 8.0
        );
    }
    // Updates come in bursts, as a trainer reads the model in between.
    for (points, colour, width) in [(&updates, UPDATES, 1.0), (&inferences, INFERENCES, 2.5)] {
        let line: Vec<_> =
            points.iter().map(|(time, rate)| format!("{:.1},{:.1}", x(*time), y(*rate))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            line.join(" ")
        );
    }
    // The legend.
    for (at, text, colour) in
        [(LEFT, "inferences / s", INFERENCES), (LEFT + 160.0, "updates of the model / s", UPDATES)]
    {
        let _ = writeln!(
            svg,
            "<line x1=\"{at}\" y1=\"25\" x2=\"{}\" y2=\"25\" stroke=\"{colour}\" stroke-width=\"3\"/>\
             <text x=\"{}\" y=\"30\">{text}</text>",
            at + 26.0,
            at + 34.0
        );
    }
    svg + "</svg>\n"
}

/// The next larger of 1, 2 and 5 times a power of ten.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|nice| *nice >= value)
        .unwrap_or(value)
}
