//! What happens to messages without valid authentication: one policy for all, and others for some types.
//!
//! `reauthenticate,typing=ignore`: no one wants a notice that someone typed five minutes ago.

use shared::service::config::{Shown, Value};
use shared::wire::grant::Policy;
use shared::wire::protocol::RESERVED_PREFIX;
use shared::wire::topic::Pattern;

/// A policy for every type of message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policies {
    other: Policy,
    /// In the order in which they were written.
    by_type: Vec<(Pattern, Policy)>,
}

impl Policies {
    /// The same for all types.
    pub const fn all(policy: Policy) -> Self {
        Self {
            other: policy,
            by_type: Vec::new(),
        }
    }

    /// That for messages of this type: its own, or else that of the first pattern that means it.
    pub fn of(&self, kind: &str) -> Policy {
        let meant = |exact| {
            let mut entries = self.by_type.iter().filter(move |(types, _)| types.is_exact() == exact);
            entries.find(|(types, _)| types.means(kind)).map(|(_, policy)| *policy)
        };
        meant(true).or_else(|| meant(false)).unwrap_or(self.other)
    }
}

impl Value for Policies {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || {
            "one policy (`ignore`, `close` or `reauthenticate`) and, comma separated, any number of TYPE=POLICY, each \
             type (or all under one: `admin.#`) once and none that begins with `auth.`"
                .to_owned()
        };
        let (mut other, mut by_type) = (None, Vec::<(Pattern, Policy)>::new());
        for item in text.split(',').map(str::trim) {
            // A type may hold a `=`, a policy does not.
            let (kind, policy) = item
                .rsplit_once('=')
                .map_or((None, item), |(kind, policy)| (Some(kind.trim()), policy.trim()));
            let policy = Policy::parse(policy).map_err(|_| wanted())?;
            let twice = match kind {
                None => other.replace(policy).is_some(),
                Some(kind) if kind.starts_with(RESERVED_PREFIX) => return Err(wanted()),
                Some(kind) => {
                    let types = Pattern::parse(kind).ok_or_else(wanted)?;
                    let twice = by_type.iter().any(|(one, _)| *one == types);
                    by_type.push((types, policy));
                    twice
                }
            };
            if twice {
                return Err(wanted());
            }
        }
        let other = other.ok_or_else(wanted)?;
        Ok(Self { other, by_type })
    }

    fn show(&self) -> Shown {
        let typed = self
            .by_type
            .iter()
            .map(|(types, policy)| format!("{}={}", types.as_str(), policy.as_str()));
        let all = std::iter::once(self.other.as_str().to_owned()).chain(typed);
        Shown::Array(all.map(Shown::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_has_its_own_policy_or_that_of_all_others() {
        let policies = Policies::parse("typing=ignore, reauthenticate ,a=b=close").unwrap();
        assert_eq!(policies.of("typing"), Policy::Ignore);
        assert_eq!(policies.of("a=b"), Policy::Close);
        assert_eq!(policies.of("anything"), Policy::Reauthenticate);
        let policies = Policies::parse("ignore,admin.#=close,admin.show=ignore,admin.*=reauthenticate").unwrap();
        let of = ["admin", "admin.show", "admin.users", "admins"].map(|kind| policies.of(kind));
        assert_eq!(of, [Policy::Close, Policy::Ignore, Policy::Close, Policy::Ignore]);
    }

    #[test]
    fn there_is_one_policy_for_all_and_each_type_stands_once() {
        for wrong in [
            "",
            "typing=ignore",
            "ignore,close",
            "ignore,a=close,a=ignore",
            "ignore,=close",
            "ignore,a*=close",
            "ignore,a=perhaps",
            "never",
            "ignore,",
            "ignore,auth.authenticate=close",
        ] {
            assert!(Policies::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        let policies = Policies::parse("close,typing=ignore,b=reauthenticate").unwrap();
        let Shown::Array(items) = policies.show() else {
            panic!("it is a list")
        };
        let items: Vec<_> = items.iter().filter_map(Shown::as_str).collect();
        assert_eq!(Policies::parse(&items.join(",")), Ok(policies));
    }
}
