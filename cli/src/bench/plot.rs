//! The curve of latency against offered load, as a picture (SVG).

use anyhow::anyhow;
use plotters::prelude::{
    BLACK, ChartBuilder, Circle, IntoDrawingArea as _, IntoLogRange as _, LineSeries, PathElement, RGBColor,
    SVGBackend, WHITE,
};

use super::offered::Point;

/// In pixels: as wide as a page of text.
const SIZE: (u32, u32) = (800, 450);
/// Of half of all answers, and of all but one in a hundred: told apart in grey, too.
const P50: RGBColor = RGBColor(0, 90, 181);
const P99: RGBColor = RGBColor(220, 110, 0);
const TITLE: &str = "Latency against offered load (open loop, from when each message was due)";

/// The text of the picture.
///
/// # Errors
/// If there is nothing to draw.
pub(crate) fn svg(points: &[Point]) -> anyhow::Result<String> {
    let mut text = String::new();
    draw(points, &mut text).map_err(|why| anyhow!("cannot draw: {why}"))?;
    Ok(text)
}

fn draw(points: &[Point], text: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let ms = |us: u64| us.max(1) as f64 / 1_000.0;
    let rightmost = points
        .iter()
        .map(|point| point.offered)
        .max()
        .ok_or("no rate was measured")?;
    let lowest = points
        .iter()
        .map(|point| ms(point.p50_us))
        .fold(f64::INFINITY, f64::min);
    let highest = points.iter().map(|point| ms(point.p99_us)).fold(lowest, f64::max);
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption(TITLE, ("sans-serif", 18))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(
            0.0..f64::from(rightmost) * 1.05,
            (lowest / 2.0..highest * 2.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc("messages per second")
        .y_desc("milliseconds")
        .x_label_formatter(&|rate| format!("{rate:.0}"))
        .y_label_formatter(&|ms| format!("{ms}"))
        .draw()?;
    for (name, color, of) in [
        ("p50", P50, (|point| point.p50_us) as fn(&Point) -> u64),
        ("p99", P99, |point| point.p99_us),
    ] {
        let line: Vec<_> = points
            .iter()
            .map(|point| (f64::from(point.offered), ms(of(point))))
            .collect();
        chart
            .draw_series(LineSeries::new(line.iter().copied(), color))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color));
        chart.draw_series(line.into_iter().map(|at| Circle::new(at, 3, color)))?;
    }
    chart
        .configure_series_labels()
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_drawn_with_both_lines_and_their_names() {
        let points = [Point::at(1_000, 2_000, 9_000), Point::at(20_000, 30_000, 400_000)];
        let picture = svg(&points).unwrap();
        assert!(
            picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"),
            "{picture}"
        );
        for part in ["p50", "p99", "messages per second", "milliseconds", "<polyline"] {
            assert!(picture.contains(part), "{part}");
        }
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(svg(&[]).is_err());
    }
}
