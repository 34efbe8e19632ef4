//! Curves as SVG, and the page that holds them; nothing is fetched from elsewhere.

use std::fmt::Write;

use super::figures::{Curve, Figure};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;

/// Distinct for the common kinds of colour blindness (Okabe, Ito).
const COLOURS: [&str; 8] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"];

/// Where values lie on the page.
struct Scale {
    x: (f64, f64),
    y_max: f64,
}

impl Scale {
    fn of(curves: &[Curve]) -> Scale {
        let xs = || curves.iter().flat_map(|c| c.points.iter().map(|(n, _)| f64::from(*n)));
        let ys = curves.iter().flat_map(|c| c.points.iter().map(|(_, b)| b.mean + b.half));
        let (low, high) = (xs().fold(f64::MAX, f64::min), xs().fold(0.0, f64::max));
        let x = if low < high { (low, high) } else { (low.min(high) - 1.0, high + 1.0) };
        Scale { x, y_max: nice(ys.fold(0.0, f64::max)) }
    }

    fn x(&self, nodes: f64) -> f64 {
        LEFT + (nodes - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value.max(0.0) / self.y_max * (HEIGHT - TOP - BOTTOM)
    }
}

/// The next of 1, 1.2, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.into_iter().map(|step| step * power).find(|top| *top >= value * 0.999).unwrap_or(10.0 * power)
}

/// `text` with what XML reserves written out.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The figure as an SVG element.
pub fn svg(figure: &Figure) -> String {
    let scale = Scale::of(&figure.curves);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" font-family=\"sans-serif\" font-size=\"12\">\n",
        HEIGHT + 16.0 * figure.curves.len().div_ceil(2) as f64
    );
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"18\" font-size=\"14\">{}</text>", escaped(&figure.title));
    axes(&mut out, figure, &scale);
    let mut colours = COLOURS.iter().cycle();
    for (number, curve) in figure.curves.iter().enumerate() {
        let colour = if curve.theory { "#777777" } else { colours.next().unwrap_or(&"#000000") };
        draw(&mut out, curve, &scale, colour);
        let (x, y) = (LEFT + (number % 2) as f64 * 290.0, HEIGHT + 4.0 + 16.0 * (number / 2) as f64);
        let dash = if curve.theory { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = writeln!(
            out,
            "<path d=\"M{x} {y}h22\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/><text x=\"{}\" y=\"{}\">{}</text>",
            x + 28.0,
            y + 4.0,
            escaped(&curve.name)
        );
    }
    out.push_str("</svg>\n");
    out
}

fn axes(out: &mut String, figure: &Figure, scale: &Scale) {
    for tick in 0..=5 {
        let value = scale.y_max * f64::from(tick) / 5.0;
        let y = scale.y(value);
        let _ = writeln!(
            out,
            "<path d=\"M{LEFT} {y:.1}H{}\" stroke=\"#dddddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            (value * 1e4).round() / 1e4
        );
    }
    for tick in 0..=5 {
        let nodes = scale.x.0 + (scale.x.1 - scale.x.0) * f64::from(tick) / 5.0;
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            scale.x(nodes),
            HEIGHT - BOTTOM + 16.0,
            nodes.round()
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">nodes</text><text transform=\"translate(13 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        WIDTH - RIGHT,
        HEIGHT - BOTTOM + 32.0,
        HEIGHT / 2.0,
        escaped(&figure.y)
    );
}

fn draw(out: &mut String, curve: &Curve, scale: &Scale, colour: &str) {
    let at = |nodes: u32, value: f64| format!("{:.1} {:.1}", scale.x(f64::from(nodes)), scale.y(value));
    let line: Vec<String> = curve.points.iter().map(|(n, b)| at(*n, b.mean)).collect();
    if line.is_empty() {
        return;
    }
    if !curve.theory {
        let upper = curve.points.iter().map(|(n, b)| at(*n, b.mean + b.half));
        let lower = curve.points.iter().rev().map(|(n, b)| at(*n, b.mean - b.half));
        let band: Vec<String> = upper.chain(lower).collect();
        let _ = writeln!(out, "<path d=\"M{}Z\" fill=\"{colour}\" fill-opacity=\"0.15\"/>", band.join("L"));
        for (n, b) in &curve.points {
            let (x, y) = (scale.x(f64::from(*n)), scale.y(b.mean));
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\" fill=\"{colour}\"/>");
        }
    }
    let dash = if curve.theory { " stroke-dasharray=\"5 4\"" } else { "" };
    let _ =
        writeln!(out, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"{dash}/>", line.join("L"));
}

/// The page of all figures; `notes` are paragraphs under the heading.
pub fn page(figures: &[Figure], notes: &[String]) -> String {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Section 4, regenerated</title>\n\
         <style>body{font-family:sans-serif;max-width:680px;margin:2em auto;color:#222}svg{width:100%;margin:1em 0}</style></head><body>\n\
         <h1>Section 4, regenerated</h1>\n",
    );
    for note in notes {
        let _ = writeln!(out, "<p>{}</p>", escaped(note));
    }
    figures.iter().for_each(|figure| out.push_str(&svg(figure)));
    out.push_str("</body></html>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::super::figures::Band;
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.093, 0.1, 0.11, 0.52, 7.0, 0.0].map(nice), [0.1, 0.1, 0.12, 0.6000000000000001, 8.0, 1.0]);
    }

    #[test]
    fn a_figure_is_whole_with_one_point_or_none_and_names_are_escaped() {
        let band = Band { mean: 0.1, half: 0.02, seeds: 3 };
        let curve = |points| Curve { name: "a < b & c".to_owned(), points, theory: false };
        let figure = Figure {
            key: "fig5".to_owned(),
            title: "t".to_owned(),
            y: "y".to_owned(),
            curves: vec![curve(vec![(500, band)]), curve(Vec::new())],
        };
        let drawn = svg(&figure);
        assert!(drawn.contains("a &lt; b &amp; c") && !drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        assert_eq!(drawn.matches("<circle").count(), 1);
        let page = page(&[figure], &["1 < 2".to_owned()]);
        assert!(page.contains("1 &lt; 2") && page.ends_with("</html>\n"));
    }
}
