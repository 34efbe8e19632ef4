//! The page's drawings: curves with bands over a number or over names, with marks for what happened. Plain SVG that
//! takes its colours from the page, for dark and light.

use std::fmt::Write;

/// The drawing, in pixels of its own.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const BOTTOM: f64 = 44.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 16.0;
/// Colours that the page's style defines: `.c0` to `.c5`.
const COLOURS: usize = 6;

/// One value with what it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// What.
    pub y: f64,
    /// At least.
    pub low: f64,
    /// At most.
    pub high: f64,
}

impl Point {
    /// A value without a band.
    pub fn exact(x: f64, y: f64) -> Point {
        Point { x, y, low: y, high: y }
    }
}

/// One line of a drawing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Curve {
    /// For the legend; empty: none.
    pub name: String,
    /// From left to right.
    pub points: Vec<Point>,
    /// Drawn dashed: theory, not measured.
    pub dashed: bool,
}

/// A drawing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// Under the x axis.
    pub x_label: String,
    /// The lines.
    pub curves: Vec<Curve>,
    /// Names instead of numbers on the x axis, at 0, 1, 2, ...
    pub names: Vec<String>,
    /// From where to where something lasted, and what it was; the same twice: a moment.
    pub marks: Vec<(f64, f64, String)>,
    /// Whether values are shares, marked in per cent.
    pub share: bool,
    /// The values that must be in sight besides those of the curves.
    pub y_in_sight: Vec<f64>,
    /// Whether each point is marked: few points, each of which counts.
    pub dots: bool,
}

impl Plot {
    /// The drawing as SVG; empty without a single finite point.
    pub fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points).filter(|point| point.y.is_finite());
        if points().next().is_none() {
            return String::new();
        }
        let bound = |values: &mut dyn Iterator<Item = f64>| {
            let fold = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
            values.filter(|value| value.is_finite()).fold((f64::INFINITY, f64::NEG_INFINITY), fold)
        };
        let x = match self.names.len() {
            0 => bound(&mut points().map(|point| point.x)),
            count => (-0.5, count as f64 - 0.5),
        };
        let y = bound(&mut points().flat_map(|p| [p.y, p.low, p.high]).chain(self.y_in_sight.iter().copied()));
        let mut drawing = Drawing { body: String::new(), x: widened(x), y: widened(y) };
        drawing.axes(self);
        for (from, to, what) in &self.marks {
            drawing.mark(*from, *to, what);
        }
        for (number, curve) in self.curves.iter().enumerate() {
            drawing.curve(curve, number % COLOURS, self.dots);
        }
        drawing.legend(&self.curves);
        format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">{}</svg>", drawing.body)
    }
}

fn widened((low, high): (f64, f64)) -> (f64, f64) {
    if high > low { (low, high) } else { (low - 0.5, low + 0.5) }
}

struct Drawing {
    body: String,
    x: (f64, f64),
    y: (f64, f64),
}

impl Drawing {
    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        // String's Write cannot fail.
        let _ = self.body.write_fmt(what);
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let part = |value: f64, (low, high): (f64, f64)| ((value - low) / (high - low)).clamp(0.0, 1.0);
        let (wide, high) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        (LEFT + wide * part(x, self.x), HEIGHT - BOTTOM - high * part(y, self.y))
    }

    fn axes(&mut self, plot: &Plot) {
        let (right, base) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for value in steps(self.y) {
            let at = self.at(self.x.0, value).1;
            let text = if plot.share { format!("{} %", number(value * 100.0)) } else { number(value) };
            self.put(format_args!("<path class=\"axis\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
            let (x, y) = (LEFT - 6.0, at + 4.0);
            self.put(format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{text}</text>"));
        }
        self.put(format_args!("<path class=\"axis\" fill=\"none\" d=\"M{LEFT} {TOP}V{base}H{right}\"/>"));
        let marks: Vec<(f64, String)> = match plot.names.as_slice() {
            [] => steps(self.x).into_iter().map(|value| (value, number(value))).collect(),
            names => names.iter().enumerate().map(|(at, name)| (at as f64, escaped(name))).collect(),
        };
        for (value, text) in marks {
            let (x, y) = (self.at(value, self.y.0).0, base + 16.0);
            self.put(format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{text}</text>"));
        }
        let (x, y, label) = ((LEFT + right) / 2.0, HEIGHT - 8.0, escaped(&plot.x_label));
        self.put(format_args!("<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{label}</text>"));
    }

    fn mark(&mut self, from: f64, to: f64, what: &str) {
        let (left, right) = (self.at(from, 0.0).0, self.at(to, 0.0).0);
        let (wide, high, what) = ((right - left).max(2.0), HEIGHT - TOP - BOTTOM, escaped(what));
        self.put(format_args!(
            "<rect class=\"mark\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{wide:.1}\" height=\"{high}\"><title>{what}</title></rect>"
        ));
    }

    fn curve(&mut self, curve: &Curve, colour: usize, dots: bool) {
        let points: Vec<&Point> = curve.points.iter().filter(|point| point.y.is_finite()).collect();
        let place = |(x, y): (f64, f64)| format!("{x:.1},{y:.1}");
        let banded = points.iter().filter(|p| p.low.is_finite() && p.high.is_finite() && p.high > p.low).count() > 1;
        if banded {
            let above = points.iter().map(|p| place(self.at(p.x, if p.high.is_finite() { p.high } else { p.y })));
            let below = points.iter().rev().map(|p| place(self.at(p.x, if p.low.is_finite() { p.low } else { p.y })));
            let all: Vec<String> = above.chain(below).collect();
            self.put(format_args!("<polygon class=\"band c{colour}\" points=\"{}\"/>", all.join(" ")));
        }
        let places: Vec<String> = points.iter().map(|p| place(self.at(p.x, p.y))).collect();
        let dash = if curve.dashed { " dashed" } else { "" };
        self.put(format_args!("<polyline class=\"curve c{colour}{dash}\" points=\"{}\"/>", places.join(" ")));
        if dots {
            for p in points {
                let ((x, y), value) = (self.at(p.x, p.y), number(p.y));
                self.put(format_args!(
                    "<circle class=\"dot c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"><title>{value}</title></circle>"
                ));
            }
        }
    }

    fn legend(&mut self, curves: &[Curve]) {
        for (number, curve) in curves.iter().enumerate().filter(|(_, curve)| !curve.name.is_empty()) {
            let (x, y) = (LEFT + 12.0 + 170.0 * (number % 4) as f64, TOP + 10.0 + 15.0 * (number / 4) as f64);
            let (to, text_x, text_y, colour) = (x + 16.0, x + 21.0, y + 4.0, number % COLOURS);
            let (dash, name) = (if curve.dashed { " dashed" } else { "" }, escaped(&curve.name));
            self.put(format_args!("<path class=\"curve c{colour}{dash}\" d=\"M{x} {y}H{to}\"/>"));
            self.put(format_args!("<text x=\"{text_x}\" y=\"{text_y}\">{name}</text>"));
        }
    }
}

/// Round values between the ends: three to eight.
fn steps((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let decade = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * decade).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * decade);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|number| number as f64 * step).collect()
}

/// A number in a few characters.
pub fn number(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 1e6 => return format!("{:.1} M", value / 1e6),
        size if size >= 10_000.0 => return format!("{:.0} k", value / 1e3),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    };
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Text for a page.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_marked_at_round_values() {
        assert_eq!(steps((0.0, 1.0)), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(steps((3.0, 180.0)), [50.0, 100.0, 150.0]);
        assert!((3..=8).contains(&steps((0.9991, 0.9997)).len()));
        assert_eq!([0.6000000000000001, 12_345.0, 0.0, -0.000001].map(number), ["0.6", "12 k", "0", "0"]);
    }

    #[test]
    fn values_outside_of_numbers_draw_nothing_wrong() {
        let point = |x, y| Point { x, y, low: f64::NEG_INFINITY, high: f64::INFINITY };
        let curve = Curve { points: vec![point(0.0, 1.0), point(1.0, f64::NAN), point(2.0, 3.0)], ..Curve::default() };
        let svg = Plot { curves: vec![curve], ..Plot::default() }.svg();
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("polygon"), "{svg}");
        assert_eq!(Plot::default().svg(), "");
    }

    #[test]
    fn names_and_marks_are_escaped() {
        let curve = Curve { name: "<a>".to_owned(), points: vec![Point::exact(0.0, 1.0)], dashed: true };
        let plot = Plot {
            curves: vec![curve],
            names: vec!["x & y".to_owned()],
            marks: vec![(0.0, 0.0, "\"kill\"".to_owned())],
            ..Plot::default()
        };
        let svg = plot.svg();
        assert!(svg.contains("&lt;a&gt;") && svg.contains("x &amp; y") && svg.contains("&quot;kill&quot;"), "{svg}");
    }

    #[test]
    fn a_band_is_drawn_between_low_and_high() {
        let point = |x: f64| Point { x, y: 0.5, low: 0.0, high: 1.0 };
        let curve = Curve { points: vec![point(0.0), point(1.0)], ..Curve::default() };
        let svg = Plot { curves: vec![curve], ..Plot::default() }.svg();
        let (top, base, right) = (TOP, HEIGHT - BOTTOM, WIDTH - RIGHT);
        let corners = format!("{LEFT:.1},{top:.1} {right:.1},{top:.1} {right:.1},{base:.1} {LEFT:.1},{base:.1}");
        assert!(svg.contains(&corners), "{svg}");
    }
}
