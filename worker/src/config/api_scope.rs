//! The scope by which a token opens the port of backends: `countersign` for all of it, `countersign:push` for a part.

use shared::service::config::{Shown, Value};

use super::required_scopes::is_scope;

/// Its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiScope(Box<str>);

impl ApiScope {
    /// The scope for everything.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scope for one part of it.
    pub fn of(&self, part: &str) -> String {
        format!("{}:{part}", self.0)
    }
}

impl Value for ApiScope {
    fn parse(text: &str) -> Result<Self, String> {
        match is_scope(text) && text != "-" {
            true => Ok(Self(text.into())),
            false => Err("the name of a scope: `countersign`".to_owned()),
        }
    }

    fn show(&self) -> Shown {
        self.as_str().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_one_word_and_has_parts() {
        let scope = ApiScope::parse("countersign").unwrap();
        assert_eq!(
            (scope.as_str(), scope.of("push").as_str()),
            ("countersign", "countersign:push")
        );
        for wrong in ["", "-", "two words", "a\"b"] {
            assert!(ApiScope::parse(wrong).is_err(), "{wrong}");
        }
    }
}
