//! What each metric means, in a sentence: its `# HELP` in Prometheus's text format.

use metrics::describe_gauge;

/// A name and a sentence a line, sorted.
const HELP: &str = include_str!("help.txt");

fn sentences() -> impl Iterator<Item = (&'static str, &'static str)> {
    HELP.lines().filter_map(|line| line.split_once(' '))
}

/// Tells the recorder all of them. It keeps them by name, whatever kind of metric that is.
pub(super) fn describe() {
    for (name, sentence) in sentences() {
        describe_gauge!(name, sentence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_sentence() {
        assert!(HELP.lines().is_sorted());
        for (name, sentence) in sentences() {
            assert!(name.contains('_') && sentence.ends_with('.'), "{name}: {sentence}");
            let others = sentences().filter(|(other, _)| *other == name);
            assert_eq!(others.count(), 1, "{name}");
        }
        assert_eq!(sentences().count(), HELP.lines().count());
    }
}
