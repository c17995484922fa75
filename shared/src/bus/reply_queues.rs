//! Into which queues an answer may go because someone else says so.
//!
//! Anyone who may inject names the queue for the answer, and workers may write into any. So there is a list.

use regex::RegexSet;

use crate::service::config::{Shown, Value};

/// Patterns of names of queues (<https://docs.rs/regex>): one that matches anywhere in a name allows it.
#[derive(Clone, Debug)]
pub struct ReplyQueues(RegexSet);

impl ReplyQueues {
    /// Whether a queue of that name is allowed.
    pub fn allow(&self, queue: &str) -> bool {
        self.0.is_match(queue)
    }
}

impl PartialEq for ReplyQueues {
    fn eq(&self, other: &Self) -> bool {
        self.0.patterns() == other.0.patterns()
    }
}

impl Eq for ReplyQueues {}

impl Value for ReplyQueues {
    fn parse(text: &str) -> Result<Self, String> {
        let patterns = text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
        let set = RegexSet::new(patterns);
        set.map(Self)
            .map_err(|_| "regular expressions, comma separated, such as `^reports\\.`".to_owned())
    }

    fn show(&self) -> Shown {
        Shown::Array(
            self.0
                .patterns()
                .iter()
                .map(|pattern| pattern.as_str().into())
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_allowed_that_a_pattern_matches_and_no_other() {
        let queues = ReplyQueues::parse(r"^amq\.gen-, ^reports\.").unwrap();
        for (queue, allowed) in [
            ("amq.gen-JzTY20BRgKO-HjmUJj0wLg", true),
            ("reports.daily", true),
            ("my.reports.daily", false),
            ("reports", false),
            ("", false),
        ] {
            assert_eq!(queues.allow(queue), allowed, "{queue}");
        }
        assert!(!ReplyQueues::parse("").unwrap().allow("anything"));
        assert!(ReplyQueues::parse("(").is_err());
        assert_eq!(
            queues.show(),
            Shown::Array(vec![r"^amq\.gen-".into(), r"^reports\.".into()])
        );
    }
}
