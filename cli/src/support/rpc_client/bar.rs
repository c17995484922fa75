//! How far a run of requests has come.

use indicatif::{ProgressBar, ProgressStyle};

/// From here on a progress bar is worth its room.
const MANY: u64 = 20;

/// A bar for `count` requests; hidden if they are few, or if no one sees it.
pub(crate) fn progress(count: Option<u64>, done: &str) -> ProgressBar {
    let (bar, style) = match count {
        Some(count) if count >= MANY => (
            ProgressBar::new(count),
            format!("{{bar:40}} {{pos}}/{{len}} {done}, {{per_sec}}, {{eta}}"),
        ),
        Some(_) => return ProgressBar::hidden(),
        None => (
            ProgressBar::no_length(),
            format!("{{spinner}} {{pos}} {done}, {{per_sec}}"),
        ),
    };
    // Without a style that parses, the bar's own will do. On what is no terminal it stays hidden.
    if let Ok(style) = ProgressStyle::with_template(&style) {
        bar.set_style(style);
    }
    bar
}
