//! Types of messages that anyone may send, with no token or one that is no good: `status,ticker.*`.
//!
//! Such a message is no one's: neither its connection's grant nor a hold has to do with it, so that its answer is the
//! same before a log-in, in it and after it.

use shared::service::config::{Shown, Value};
use shared::wire::protocol::RESERVED_PREFIX;
use shared::wire::topic::Pattern;

/// The types of public messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicTypes(Vec<Pattern>);

impl PublicTypes {
    /// Whether messages of this type are public.
    pub fn mean(&self, kind: &str) -> bool {
        self.0.iter().any(|types| types.means(kind))
    }
}

impl Value for PublicTypes {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let sound = |types: &Pattern| !types.as_str().starts_with(RESERVED_PREFIX);
        let types: Option<_> = text
            .split(',')
            .map(|item| Pattern::parse(item.trim()).filter(sound))
            .collect();
        types.map(Self).ok_or_else(|| {
            "TYPE, comma separated: a type, one word of it (`ticker.*`) or all under it (`ticker.#`), none that begins with \
             `auth.`"
                .to_owned()
        })
    }

    fn show(&self) -> Shown {
        Shown::Array(
            self.0
                .iter()
                .map(|types| Shown::from(types.as_str().to_owned()))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_is_public_and_nothing_else() {
        let types = PublicTypes::parse("status, ticker.*").unwrap();
        for kind in ["status", "ticker.eur"] {
            assert!(types.mean(kind), "{kind}");
        }
        for kind in ["", "Status", "status.all", "ticker", "ticker.eur.usd"] {
            assert!(!types.mean(kind), "{kind}");
        }
        assert!(!PublicTypes::parse("").unwrap().mean("status"), "none by default");
        for wrong in [",", "a,", "a*", "auth.authenticate", "auth.#"] {
            assert!(PublicTypes::parse(wrong).is_err(), "{wrong}");
        }
    }
}
