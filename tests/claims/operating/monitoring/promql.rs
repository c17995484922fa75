//! As much of PromQL as tells which series an expression asks for.

use std::collections::BTreeSet;

/// One selector: `name{label="value", …}`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) metric: String,
    pub(super) matchers: Vec<Matcher>,
}

/// One condition on a label.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Matcher {
    pub(super) label: String,
    /// The values that are named: one, or the alternatives of a regular expression.
    pub(super) values: Vec<String>,
}

/// Every selector of metrics that begin with `prefix`.
pub(super) fn selectors(expression: &str, prefix: &str) -> Vec<Selector> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(prefix) {
        let begins = !rest[..start].ends_with(is_name);
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (metric, after) = rest.split_at(end);
        let matchers = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        if begins {
            found.push(Selector {
                metric: metric.to_owned(),
                matchers: matchers.map(|(inside, _)| read_matchers(inside)).unwrap_or_default(),
            });
        }
        rest = after;
    }
    found
}

/// The labels that an expression groups by.
pub(super) fn grouped_by(expression: &str) -> BTreeSet<String> {
    let groups = expression.split("by (").skip(1);
    let labels = groups
        .filter_map(|group| group.split_once(')'))
        .flat_map(|(labels, _)| labels.split(','));
    labels.map(|label| label.trim().to_owned()).collect()
}

/// No value in our expressions has a comma, a quote or a brace in it.
fn read_matchers(inside: &str) -> Vec<Matcher> {
    let matcher = |text: &str| {
        let (label, value) = text.split_once(['=', '!']).expect("a label and a value");
        let value = value.trim_start_matches(['=', '~']).trim().trim_matches('"');
        Matcher {
            label: label.trim().to_owned(),
            values: value.split('|').map(str::to_owned).collect(),
        }
    };
    inside.split(',').map(matcher).collect()
}

#[test]
fn selectors_are_found_in_any_expression() {
    let expression =
        r#"sum by (le, code) (rate(c_a_bucket{x=~"1|2", y!~"3|4", z!="5"}[5m])) > 0.2 * c_b unless not_c_c"#;
    let matcher = |label: &str, values: &[&str]| Matcher {
        label: label.to_owned(),
        values: values.iter().map(ToString::to_string).collect(),
    };
    assert_eq!(
        selectors(expression, "c_"),
        [
            Selector {
                metric: "c_a_bucket".to_owned(),
                matchers: vec![
                    matcher("x", &["1", "2"]),
                    matcher("y", &["3", "4"]),
                    matcher("z", &["5"])
                ]
            },
            Selector {
                metric: "c_b".to_owned(),
                matchers: Vec::new()
            },
        ]
    );
    assert_eq!(
        grouped_by(expression),
        BTreeSet::from(["le".to_owned(), "code".to_owned()])
    );
}
