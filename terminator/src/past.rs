//! What a connection was before it became what it is: pure.
//!
//! A message that was sent back is decided when all before it is settled, but by what the connection was when it was
//! read: what has come of later messages meanwhile is none of its business. So what an open message may still be decided
//! by is kept, until the message is settled. In the steady state that is nothing.

use std::collections::BTreeMap;

use shared::envelope::Change;
use shared::id::Sequence;

/// What stands in for the time before the first message that changed anything.
const BEFORE_ALL: Sequence = Sequence::new(0);

/// Earlier states, by the message that made them; nobody, where it has a grant no more or not yet.
#[derive(Debug, Default)]
pub(crate) struct Past(Option<Box<BTreeMap<Sequence, Option<Texts>>>>);

/// The two texts of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Texts {
    pub(crate) facts: Box<str>,
    pub(crate) principal: Box<str>,
}

impl Past {
    /// The connection was that by the message `by`, or from its beginning.
    pub(crate) fn remember(&mut self, by: Option<Sequence>, texts: Option<Texts>) {
        self.0.get_or_insert_default().insert(by.unwrap_or(BEFORE_ALL), texts);
    }

    /// The same, of a change that came too late to count for what is to come.
    pub(crate) fn remember_change(&mut self, by: Sequence, change: Change) {
        let texts = match change {
            Change::Live { grant, principal } => Some(Texts {
                facts: grant.without_news().to_facts().into(),
                principal: principal.into(),
            }),
            Change::Forgotten => None,
        };
        self.remember(Some(by), texts);
    }

    /// What the connection was when the message `sequence` was read, by which message.
    pub(crate) fn before(&self, sequence: Sequence) -> Option<(Option<Sequence>, Option<&Texts>)> {
        let (by, texts) = self.0.as_ref()?.range(..sequence).next_back()?;
        Some(((*by != BEFORE_ALL).then_some(*by), texts.as_ref()))
    }

    /// Forgets what no open message can be decided by: all before the last state that is older than the `oldest` of them.
    pub(crate) fn forget_before(&mut self, oldest: Sequence) {
        let Some(states) = self.0.as_deref_mut() else { return };
        if let Some(first) = states.range(..oldest).next_back().map(|(by, _)| *by) {
            *states = states.split_off(&first);
        }
    }

    /// Forgets all: no message is open that is older than what the connection is now.
    pub(crate) fn clear(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(name: &str) -> Option<Texts> {
        Some(Texts {
            facts: name.into(),
            principal: "{}".into(),
        })
    }

    fn at(past: &Past, sequence: u64) -> Option<String> {
        let (_, texts) = past.before(Sequence::new(sequence))?;
        Some(texts.map_or("nobody".to_owned(), |texts| texts.facts.to_string()))
    }

    #[test]
    fn a_message_is_decided_by_the_last_state_before_it() {
        let mut past = Past::default();
        past.remember(Some(Sequence::new(7)), texts("seven"));
        past.remember(None, None);
        past.remember(Some(Sequence::new(3)), texts("three"));
        let seen: Vec<_> = [1, 3, 4, 7, 8].map(|sequence| at(&past, sequence)).into();
        let expected = ["nobody", "nobody", "three", "three", "seven"].map(|name| Some(name.to_owned()));
        assert_eq!(seen, expected);
        assert_eq!(past.before(Sequence::new(1)).unwrap().0, None);
        assert_eq!(past.before(Sequence::new(4)).unwrap().0, Some(Sequence::new(3)));
    }

    #[test]
    fn what_no_open_message_is_older_than_is_forgotten() {
        let mut past = Past::default();
        for by in [2, 4, 6] {
            past.remember(Some(Sequence::new(by)), texts(&by.to_string()));
        }
        past.forget_before(Sequence::new(5));
        assert_eq!((at(&past, 4), at(&past, 5)), (None, Some("4".to_owned())));
        assert_eq!(at(&past, 9), Some("6".to_owned()));
        past.clear();
        assert_eq!(at(&past, 9), None);
    }
}
