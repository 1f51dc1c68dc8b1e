//! The report as a page: the same tables, and plots, as one file without scripts.

use std::fmt::Write;

use crate::report::{Report, number};

/// Of the plots, in pixels.
const WIDTH: f64 = 640.0;
const BAR: f64 = 18.0;
const LABEL: f64 = 330.0;

/// One bar: what it is of, how long it is, and a mark on it (an aim, a floor), if there is one.
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) value: f64,
    pub(crate) mark: Option<f64>,
}

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::from(
        "<!doctype html><meta charset=\"utf-8\"><title>Poste, measured</title>\
         <style>body{font:15px/1.4 system-ui;margin:2em auto;max-width:70em}pre{background:#f4f4f4;padding:1em;\
         white-space:pre-wrap;overflow:auto}text{font:12px system-ui}</style><h1>Poste, measured</h1>\n",
    );
    for (title, bars) in plots(report) {
        let _ = write!(page, "<h2>{}</h2>\n{}\n", escaped(&title), bars_as_svg(&bars));
    }
    let _ = write!(page, "<h2>All figures</h2>\n<pre>{}</pre>\n", escaped(&report.to_string()));
    page
}

/// What is plotted.
fn plots(report: &Report) -> Vec<(String, Vec<Bar>)> {
    let named = |title: &str, is_wanted: &dyn Fn(&str) -> bool| {
        let wanted = report.keys().iter().filter(|(name, _)| is_wanted(name));
        let bars = wanted.map(|(name, value)| Bar { label: name.clone(), value: *value, mark: crate::aims::of(name) });
        (title.to_owned(), bars.collect::<Vec<_>>())
    };
    let plots = vec![
        named("Send to delivered, and acknowledged, ms (| is the aim)", &|name| {
            (name.contains("deliver_p") || name.contains("ack_p")) && name.ends_with("_ms")
        }),
        named("Dollars for a million messages (| is the aim)", &|name| name.contains("usd_per_million")),
        named("Fan-out: table operations for one message", &|name| name.ends_with("_table_calls")),
        named("Fan-out: until all have it, ms", &|name| name.starts_with("fanout") && name.ends_with("_p50_ms")),
        named("Catching up with 10,000 messages: read units for 1,000", &|name| {
            name.starts_with("sync_") && name.ends_with("_read_units_per_1000")
        }),
        named("Single pieces: instructions", &|name| name.starts_with("instructions_")),
        named("Single pieces: microseconds", &|name| name.starts_with("piece_")),
        named("Zipped binaries, MB", &|name| name.starts_with("zip_")),
        named("CPU, s for 1,000 messages", &|name| name.starts_with("cpu_") || name.contains("_cpu_")),
    ];
    plots.into_iter().filter(|(_, bars)| !bars.is_empty()).collect()
}

/// Bars below each other, on one scale.
fn bars_as_svg(bars: &[Bar]) -> String {
    let longest = bars.iter().flat_map(|bar| [Some(bar.value), bar.mark]).flatten().fold(f64::MIN_POSITIVE, f64::max);
    let scale = |value: f64| value / longest * (WIDTH - 80.0);
    let rows: Vec<String> = (0_u32..)
        .zip(bars)
        .map(|(row, Bar { label, value, mark })| {
            let y = f64::from(row) * (BAR + 6.0);
            let (length, text) = (scale(*value), y + BAR * 0.75);
            let mark = mark.map_or_else(String::new, |mark| {
                let x = LABEL + scale(mark);
                format!(
                    "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y:.1}\" y2=\"{:.1}\" stroke=\"#f30\" stroke-width=\"3\"/>",
                    y + BAR
                )
            });
            format!(
                "<text x=\"{:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{}</text>\
                 <rect x=\"{LABEL}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"#4a78b0\"/>{mark}\
                 <text x=\"{:.1}\" y=\"{text:.1}\">{}</text>\n",
                LABEL - 6.0,
                escaped(label),
                LABEL + length + 4.0,
                number(*value),
            )
        })
        .collect();
    let height = f64::from(u32::try_from(bars.len()).unwrap_or(0)) * (BAR + 6.0);
    format!("<svg width=\"{:.0}\" height=\"{height:.0}\">{}</svg>", WIDTH + LABEL, rows.concat())
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_share_a_scale_and_labels_are_text() {
        let bar = |label: &str, value, mark| Bar { label: label.to_owned(), value, mark };
        let svg = bars_as_svg(&[bar("a<b", 1.0, None), bar("c", 2.0, Some(4.0))]);
        assert!(svg.contains("a&lt;b") && svg.contains("width=\"140.0\"") && svg.contains("width=\"280.0\""), "{svg}");
        assert!(svg.contains("x1=\"890.0\""), "{svg}");
    }
}
