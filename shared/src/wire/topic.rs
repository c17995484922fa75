//! Names with words between dots, and patterns of them: those of AMQP 0-9-1 §3.1.3.3, wherever a type of messages is meant.
//!
//! `*` is one word, `#` any number of them, none included: `admin.#` means `admin`, `admin.users` and
//! `admin.users.delete`, `admin.*` the second of them alone, and `#` every name.

/// Whether the words of a name are those of a pattern.
pub fn matches(pattern: &str, name: &str) -> bool {
    let name: Vec<_> = name.split('.').collect();
    // Before how many words of the name the pattern so far may end.
    let mut ends = vec![false; name.len() + 1];
    ends[0] = true;
    for word in pattern.split('.') {
        let mut next = vec![false; ends.len()];
        for at in 0..ends.len() {
            next[at] = match word {
                "#" => ends[..=at].contains(&true),
                _ => at > 0 && ends[at - 1] && (word == "*" || word == name[at - 1]),
            };
        }
        ends = next;
    }
    ends.last() == Some(&true)
}

/// A pattern that someone has written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// The pattern of that text; none if a wildcard in it is no word of its own, which would mean a star or a hash.
    pub fn parse(text: &str) -> Option<Self> {
        let sound = |word: &str| word == "*" || word == "#" || !word.contains(['*', '#']);
        (!text.is_empty() && text.split('.').all(sound)).then(|| Self(text.into()))
    }

    /// Whether it means that name.
    pub fn means(&self, name: &str) -> bool {
        match self.0.strip_suffix(".#") {
            _ if &*self.0 == "#" => true,
            _ if self.is_exact() => *self.0 == *name,
            // The usual one: all under a name, and the name itself.
            Some(prefix) if !prefix.contains(['*', '#']) => name
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
            _ => matches(&self.0, name),
        }
    }

    /// Whether it means one name alone.
    pub fn is_exact(&self) -> bool {
        !self.0.contains(['*', '#'])
    }

    /// The pattern of all that begins like it, if it leaves some of that out: `admin.#` of `admin.*`.
    pub fn whole(&self) -> Option<String> {
        let start = self
            .0
            .strip_suffix('*')
            .filter(|start| start.is_empty() || start.ends_with('.'))?;
        Some(format!("{start}#"))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_one_word_and_a_hash_is_any_number() {
        for (pattern, name, means) in [
            ("admin.#", "admin", true),
            ("admin.#", "admin.users", true),
            ("admin.#", "admin.users.delete", true),
            ("admin.#", "administrate", false),
            ("admin.#", "admin.", true),
            ("admin.*", "admin", false),
            ("admin.*", "admin.users", true),
            ("admin.*", "admin.users.delete", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("#", "a.b", true),
            ("#.delete", "delete", true),
            ("#.delete", "a.b.delete", true),
            ("a.#.z", "a.z", true),
            ("a.#.z", "a.b.c.z", true),
            ("a.*.z", "a.z", false),
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().means(name), means, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_means_names_by_their_words() {
        for (pattern, name, expected) in [
            ("orders.create", "orders.create", true),
            ("orders.create", "orders.created", false),
            ("orders.*", "orders.create", true),
            ("orders.*", "orders", false),
            ("orders.*", "orders.create.now", false),
            ("orders.#", "orders", true),
            ("orders.#", "orders.create.now", true),
            ("#.now", "orders.create.now", true),
            ("#.now", "now", true),
            ("*.*", "a", false),
            ("#", "", true),
            ("#.#.b", "a.b", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_wildcard_within_a_word_is_a_mistake() {
        for wrong in ["", "a*", "*a", "a.b*", "a#.b", "##", "a.**"] {
            assert_eq!(Pattern::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_a_pattern_leaves_out_is_known() {
        let whole = |text| Pattern::parse(text).unwrap().whole();
        assert_eq!(whole("admin.*").as_deref(), Some("admin.#"));
        assert_eq!(whole("*").as_deref(), Some("#"));
        assert_eq!((whole("admin.#"), whole("admin"), whole("*.x")), (None, None, None));
    }

    proptest! {
        #[test]
        fn the_quick_way_says_what_the_rule_says(pattern in "(a|b|\\*|#)(\\.(a|b|\\*|#)){0,3}", name in "(a|b)(\\.(a|b)){0,3}") {
            prop_assert_eq!(Pattern::parse(&pattern).unwrap().means(&name), matches(&pattern, &name));
        }
    }
}
