//! What a token must allow before a message of a type is handled: `orders.create=orders:write,admin.*=admin`.
//!
//! Every entry that means a type counts, so that one more entry never lets anybody in. Scopes are the words of the
//! claim `scope` (RFC 8693 §4.2, RFC 9068 §2.2.3) and of the claim `scp`, which some issuers write instead, each as
//! one text with spaces or as an array of texts.

use serde_json::{Map, Value as Json};
use shared::config::{Shown, Value};
use shared::protocol::RESERVED_PREFIX;

use crate::rights::SCOPES;

/// The scopes that messages need, by their type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredScopes(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    types: Types,
    /// One at least, and all of them are needed.
    scopes: Vec<Box<str>>,
}

/// Which types of messages are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Types {
    /// All.
    All,
    /// Those that begin with this text, which ends with a dot.
    Under(Box<str>),
    /// This one.
    One(Box<str>),
}

impl RequiredScopes {
    /// The first scope that messages of this type need and these claims do not have.
    pub fn lacking(&self, kind: &str, claims: &Map<String, Json>) -> Option<&str> {
        let entries = self.0.iter().filter(|entry| entry.types.mean(kind));
        let mut needed = entries.flat_map(|entry| &entry.scopes);
        needed.find(|scope| !has(claims, scope)).map(|scope| &**scope)
    }
}

impl Types {
    fn mean(&self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Under(prefix) => kind.starts_with(&**prefix),
            Self::One(one) => kind == &**one,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let plain = |text: &str| !text.is_empty() && !text.contains('*') && !text.starts_with(RESERVED_PREFIX);
        match text.strip_suffix('*') {
            Some("") => Some(Self::All),
            Some(prefix) if prefix.len() > 1 && prefix.ends_with('.') && plain(prefix) => {
                Some(Self::Under(prefix.into()))
            }
            None if plain(text) => Some(Self::One(text.into())),
            _ => None,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::All => "*".to_owned(),
            Self::Under(prefix) => format!("{prefix}*"),
            Self::One(one) => one.to_string(),
        }
    }
}

/// Whether one of the claims names the scope. A claim of another shape names none.
fn has(claims: &Map<String, Json>, scope: &str) -> bool {
    let words = |text: &str| text.split(' ').any(|word| word == scope);
    SCOPES
        .iter()
        .filter_map(|claim| claims.get(*claim))
        .any(|claim| match claim {
            Json::String(text) => words(text),
            Json::Array(items) => items.iter().any(|item| item.as_str() == Some(scope)),
            _ => false,
        })
}

/// A `scope-token` of RFC 6749 §3.3, which has neither space nor `"` nor `\`. A comma ends the entry.
fn is_scope(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.bytes().all(allowed)
}

impl Value for RequiredScopes {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = "TYPE=SCOPE, comma separated: a type, all under one (`admin.*`) or all (`*`), none that begins with \
                      `auth.`; several scopes separated by spaces";
        if text.is_empty() {
            return Ok(Self::default());
        }
        let entry = |item: &str| {
            // A scope may hold a `=`, being perhaps a URL; a type had better not.
            let (types, scopes) = item.split_once('=')?;
            let types = Types::parse(types.trim())?;
            let scopes: Vec<_> = scopes.split_ascii_whitespace().map(Box::from).collect();
            let good = !scopes.is_empty() && scopes.iter().all(|scope| is_scope(scope));
            good.then_some(Entry { types, scopes })
        };
        let entries: Option<_> = text.split(',').map(|item| entry(item.trim())).collect();
        entries.map(Self).ok_or_else(|| wanted.to_owned())
    }

    fn show(&self) -> Shown {
        let entry = |entry: &Entry| format!("{}={}", entry.types.text(), entry.scopes.join(" "));
        Shown::Array(self.0.iter().map(entry).map(Shown::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn claims(json: Json) -> Map<String, Json> {
        json.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn a_type_needs_every_scope_of_every_entry_that_means_it() {
        let required = RequiredScopes::parse("orders.create=orders:write, admin.*=admin,admin.delete=a b").unwrap();
        let all = claims(json!({"scope": "admin a b orders:write"}));
        for (kind, scope, lacking) in [
            ("orders.create", "", Some("orders:write")),
            ("orders.create", "orders:read", Some("orders:write")),
            ("orders.create", "orders:writer", Some("orders:write")),
            ("orders.create", "openid orders:write", None),
            ("orders.created", "", None),
            ("orders", "", None),
            ("admin.show", "", Some("admin")),
            ("admin.show.all", "", Some("admin")),
            ("admin", "", None),
            ("administrate", "", None),
            ("admin.delete", "admin", Some("a")),
            ("admin.delete", "admin a", Some("b")),
            ("admin.delete", "a b", Some("admin")),
        ] {
            assert_eq!(
                required.lacking(kind, &claims(json!({"scope": scope}))),
                lacking,
                "{kind} with {scope:?}"
            );
            assert_eq!(required.lacking(kind, &all), None, "{kind}");
        }
    }

    #[test]
    fn a_star_means_every_type_and_nothing_at_all_asks_for_nothing() {
        let none = claims(json!({}));
        assert_eq!(RequiredScopes::parse("*=app").unwrap().lacking("x", &none), Some("app"));
        assert_eq!(RequiredScopes::parse("").unwrap().lacking("x", &none), None);
    }

    #[test]
    fn scopes_are_read_as_the_issuers_write_them_and_nothing_else_is_one() {
        let required = RequiredScopes::parse("x=https://a.example/x?y=z").unwrap();
        let scope = "https://a.example/x?y=z";
        for good in [
            json!({"scope": format!("a {scope}")}),
            json!({"scp": ["a", scope]}),
            json!({"scp": format!("{scope} a")}),
            json!({"scope": [scope]}),
            json!({"scope": "a", "scp": [scope]}),
        ] {
            assert_eq!(required.lacking("x", &claims(good.clone())), None, "{good}");
        }
        for bad in [
            json!({}),
            json!({"scope": null}),
            json!({"scope": 1}),
            json!({"scope": {scope: true}}),
            json!({"scp": [[scope]]}),
            json!({"scp": [format!("a {scope}")]}),
            json!({"scope": format!("a\t{scope}")}),
            json!({"Scope": scope}),
            json!({"roles": [scope]}),
        ] {
            assert_eq!(required.lacking("x", &claims(bad.clone())), Some(scope), "{bad}");
        }
    }

    #[test]
    fn what_could_mean_something_else_is_refused() {
        for wrong in [
            "x",
            "x=",
            "=x",
            "x= ",
            "x=a,",
            ",x=a",
            "*.x=a",
            ".*=a",
            "a*=b",
            "a.*.b=c",
            "auth.authenticate=a",
            "auth.*=a",
            "x=\"",
            "x=é",
        ] {
            assert!(RequiredScopes::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_what_was_written() {
        let shown = RequiredScopes::parse("a.*=b  c,*=d").unwrap().show();
        assert_eq!(shown, Shown::Array(vec!["a.*=b c".into(), "*=d".into()]));
    }

    proptest! {
        #[test]
        fn one_more_entry_never_lets_anybody_in(kind: String, more in "[a-z.]{1,8}(\\*)?=[a-z]{1,3}", scope: String) {
            let claims = claims(json!({"scope": scope}));
            let few = RequiredScopes::parse("a=b,c.*=d").unwrap();
            if let Ok(many) = RequiredScopes::parse(&format!("{more},a=b,c.*=d")) {
                prop_assert!(few.lacking(&kind, &claims).is_none() || many.lacking(&kind, &claims).is_some());
            }
        }
    }
}
