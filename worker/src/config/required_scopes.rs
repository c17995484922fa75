//! What a token must allow before a message of a type is handled: `orders.create=orders:write,admin.#=admin`.
//!
//! Every entry that means a type counts, so that one more entry never lets anyone in. Scopes are the words of the
//! claims that `jwt-scope-claims` names: `scope` (RFC 8693 §4.2, RFC 9068 §2.2.3) and `scp`, which some issuers write
//! instead, or wherever roles stand, each as one text with spaces or as an array of texts. An entry may be for the tokens of one issuer, or of one audience, alone:
//! `issuer=https://partner.example;admin.#=-`, where `-` is a scope that no token has.

use serde_json::{Map, Value as Json};
use shared::service::config::{Shown, Value};
use shared::wire::protocol::RESERVED_PREFIX;
use shared::wire::topic::Pattern;

use crate::auth::identity::Issuer;
use crate::token::ClaimPath;
use crate::token::claims::audience::is_for;

/// Before an entry, whose tokens it is for.
const ISSUER: &str = "issuer=";
const AUDIENCE: &str = "aud=";

/// The scope that no token has.
const NOBODY: &str = "-";

/// Where in a token's claims stands for whom it is and what it allows.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The audiences that are accepted.
    pub audiences: Vec<String>,
    /// The claims that may name them.
    pub audience_claims: Vec<String>,
    /// The claims that name scopes.
    pub scope_claims: Vec<ClaimPath>,
}

/// The scopes that messages need, by their type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequiredScopes(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Whose tokens it is for, if not for all.
    issuer: Option<Box<str>>,
    /// Meant for whom, if not for all.
    audience: Option<Box<str>>,
    types: Pattern,
    /// One at least, and all of them are needed.
    scopes: Vec<Box<str>>,
}

impl RequiredScopes {
    /// The first scope that messages of this type need and these claims, of a token of that issuer, do not have.
    ///
    /// A token that is meant for several of the audiences that are accepted may what it may by one of them.
    pub fn lacking(&self, kind: &str, issuer: &Issuer, claims: &Map<String, Json>, reading: &Reading) -> Option<&str> {
        let meant = || self.0.iter().filter(|entry| entry.means(kind, issuer));
        let scopes = &reading.scope_claims;
        if meant().all(|entry| entry.audience.is_none()) {
            return first_lacking(meant(), claims, scopes);
        }
        let by_one = |audience: &&String| {
            let of_it = |entry: &&Entry| entry.audience.as_deref().is_none_or(|one| one == audience.as_str());
            first_lacking(meant().filter(of_it), claims, scopes)
        };
        let is_own = |audience: &&String| is_for(claims, &reading.audience_claims, audience);
        let own: Vec<_> = reading.audiences.iter().filter(is_own).collect();
        if own.is_empty() {
            // It may no more than what each of them may.
            return first_lacking(meant(), claims, scopes);
        }
        let mut lacking = own.iter().map(by_one);
        let first = lacking.next()??;
        lacking.all(|lacking| lacking.is_some()).then_some(first)
    }

    /// Of each entry that is for one issuer or audience, which.
    pub(super) fn sections(&self) -> impl Iterator<Item = (Option<&str>, Option<&str>)> {
        self.0
            .iter()
            .map(|entry| (entry.issuer.as_deref(), entry.audience.as_deref()))
    }

    /// The patterns of entries that leave some types out that begin like theirs, and that no other entry means: each with the
    /// pattern that would mean them.
    pub(super) fn narrow(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().filter_map(|entry| {
            let whole = entry.types.whole()?;
            let covered = self.0.iter().any(|other| other.types.as_str() == whole);
            (!covered).then(|| (entry.types.as_str(), whole))
        })
    }
}

fn first_lacking<'e>(
    entries: impl Iterator<Item = &'e Entry>,
    claims: &Map<String, Json>,
    paths: &[ClaimPath],
) -> Option<&'e str> {
    let mut needed = entries.flat_map(|entry| &entry.scopes);
    needed.find(|scope| !has(claims, paths, scope)).map(|scope| &**scope)
}

impl Entry {
    fn means(&self, kind: &str, issuer: &Issuer) -> bool {
        self.issuer
            .as_deref()
            .is_none_or(|one| Issuer::new(one).covers(issuer.as_str()))
            && self.types.means(kind)
    }

    fn parse(item: &str) -> Option<Self> {
        let (issuer, rest) = section(item, ISSUER)?;
        let (audience, rest) = section(rest, AUDIENCE)?;
        // A scope may hold a `=`, being perhaps a URL; a type should not.
        let (types, scopes) = rest.split_once('=')?;
        let types = Pattern::parse(types.trim()).filter(|types| !types.as_str().starts_with(RESERVED_PREFIX))?;
        let scopes: Vec<_> = scopes.split_ascii_whitespace().map(Box::from).collect();
        let good = !scopes.is_empty() && scopes.iter().all(|scope| is_scope(scope));
        good.then_some(Self {
            issuer,
            audience,
            types,
            scopes,
        })
    }

    fn text(&self) -> String {
        let section = |name, value: &Option<Box<str>>| match value {
            Some(value) => format!("{name}{value};"),
            None => String::new(),
        };
        format!(
            "{}{}{}={}",
            section(ISSUER, &self.issuer),
            section(AUDIENCE, &self.audience),
            self.types.as_str(),
            self.scopes.join(" ")
        )
    }
}

/// What stands behind `name` and before the next semicolon, and the rest; none if it is empty.
fn section<'t>(text: &'t str, name: &str) -> Option<(Option<Box<str>>, &'t str)> {
    let Some(rest) = text.strip_prefix(name) else {
        return Some((None, text));
    };
    let (value, rest) = rest.split_once(';')?;
    let value = value.trim();
    (!value.is_empty()).then(|| (Some(value.into()), rest.trim()))
}

/// The scopes that these claims name. A claim of another shape names none.
pub(crate) fn scopes_in<'c>(claims: &'c Map<String, Json>, paths: &'c [ClaimPath]) -> impl Iterator<Item = &'c str> {
    paths.iter().filter_map(|path| path.find(claims)).flat_map(|claim| {
        let words = claim.as_str().into_iter().flat_map(|text| text.split(' '));
        let items = claim.as_array().into_iter().flatten().filter_map(Json::as_str);
        words.chain(items)
    })
}

/// Whether one of the claims names the scope.
pub(crate) fn has(claims: &Map<String, Json>, paths: &[ClaimPath], scope: &str) -> bool {
    scope != NOBODY && scopes_in(claims, paths).any(|one| one == scope)
}

/// A `scope-token` of RFC 6749 §3.3, which has neither space nor `"` nor `\`. A comma ends the entry.
pub(super) fn is_scope(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    !text.is_empty() && text.bytes().all(allowed)
}

impl Value for RequiredScopes {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = "TYPE=SCOPE, comma separated: a type, all under one (`admin.#`) or all (`#`), none that begins with \
                      `auth.`; several scopes separated by spaces, `-` for nobody; before it, if it is for some tokens only, \
                      `issuer=ISSUER;` or `aud=AUDIENCE;`";
        if text.is_empty() {
            return Ok(Self::default());
        }
        let entries: Option<_> = text.split(',').map(|item| Entry::parse(item.trim())).collect();
        entries.map(Self).ok_or_else(|| wanted.to_owned())
    }

    fn show(&self) -> Shown {
        Shown::Array(self.0.iter().map(Entry::text).map(Shown::from).collect())
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

    fn reading() -> Reading {
        Reading {
            audiences: vec!["api".to_owned(), "chat".to_owned()],
            audience_claims: vec!["aud".to_owned()],
            scope_claims: ["scope", "scp"].into_iter().filter_map(ClaimPath::new).collect(),
        }
    }

    /// Of a token of our only issuer.
    fn lacking<'r>(required: &'r RequiredScopes, kind: &str, claims: &Map<String, Json>) -> Option<&'r str> {
        required.lacking(kind, &Issuer::new("i"), claims, &reading())
    }

    #[test]
    fn a_type_needs_every_scope_of_every_entry_that_means_it() {
        let required = RequiredScopes::parse("orders.create=orders:write, admin.#=admin,admin.delete=a b").unwrap();
        let all = claims(json!({"scope": "admin a b orders:write"}));
        for (kind, scope, expected) in [
            ("orders.create", "", Some("orders:write")),
            ("orders.create", "orders:read", Some("orders:write")),
            ("orders.create", "orders:writer", Some("orders:write")),
            ("orders.create", "openid orders:write", None),
            ("orders.created", "", None),
            ("orders", "", None),
            ("admin.show", "", Some("admin")),
            ("admin.show.all", "", Some("admin")),
            ("admin", "", Some("admin")),
            ("administrate", "", None),
            ("admin.delete", "admin", Some("a")),
            ("admin.delete", "admin a", Some("b")),
            ("admin.delete", "a b", Some("admin")),
        ] {
            assert_eq!(
                lacking(&required, kind, &claims(json!({"scope": scope}))),
                expected,
                "{kind} with {scope:?}"
            );
            assert_eq!(lacking(&required, kind, &all), None, "{kind}");
        }
    }

    #[test]
    fn a_hash_means_every_type_and_nothing_at_all_asks_for_nothing() {
        let none = claims(json!({}));
        let all = RequiredScopes::parse("#=app").unwrap();
        assert_eq!(
            (lacking(&all, "x", &none), lacking(&all, "x.y", &none)),
            (Some("app"), Some("app"))
        );
        assert_eq!(lacking(&RequiredScopes::parse("").unwrap(), "x", &none), None);
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
            assert_eq!(lacking(&required, "x", &claims(good.clone())), None, "{good}");
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
            assert_eq!(lacking(&required, "x", &claims(bad.clone())), Some(scope), "{bad}");
        }
    }

    #[test]
    fn an_entry_may_be_for_the_tokens_of_one_issuer_alone() {
        let required = RequiredScopes::parse("issuer=https://partner;admin.#=-,admin.#=admin").unwrap();
        let admin = claims(json!({"scope": "admin -"}));
        let of = |issuer: &str| required.lacking("admin.x", &Issuer::new(issuer), &admin, &reading());
        assert_eq!((of("https://partner"), of("https://own")), (Some("-"), None));
    }

    #[test]
    fn an_entry_may_be_for_one_audience_alone() {
        let required = RequiredScopes::parse("aud=chat;admin.#=-,aud=api;admin.#=admin").unwrap();
        for (aud, scope, expected) in [
            (json!("chat"), "admin", Some("-")),
            (json!("api"), "admin", None),
            (json!("api"), "", Some("admin")),
            (json!(["chat", "api"]), "admin", None),
            (json!(["chat", "api"]), "", Some("admin")),
            (json!(["chat", "another's"]), "admin", Some("-")),
            (json!("another's"), "admin", Some("-")),
            (json!(null), "admin", Some("-")),
        ] {
            let claims = claims(json!({"aud": aud, "scope": scope}));
            assert_eq!(lacking(&required, "admin.x", &claims), expected, "{claims:?}");
            assert_eq!(lacking(&required, "other", &claims), None, "{claims:?}");
        }
    }

    #[test]
    fn scopes_stand_where_the_settings_say_and_nowhere_else() {
        let required = RequiredScopes::parse("aud=chat;x=editor").unwrap();
        let reading = Reading {
            audience_claims: vec!["azp".to_owned()],
            scope_claims: ["roles", "realm_access.roles"]
                .into_iter()
                .filter_map(ClaimPath::new)
                .collect(),
            ..reading()
        };
        let lacking = |json: Json| required.lacking("x", &Issuer::new("i"), &claims(json), &reading);
        assert_eq!(lacking(json!({"azp": "chat", "roles": ["editor"]})), None);
        assert_eq!(
            lacking(json!({"azp": "chat", "realm_access": {"roles": ["editor"]}})),
            None
        );
        assert_eq!(lacking(json!({"azp": "chat", "scope": "editor"})), Some("editor"));
        assert_eq!(
            lacking(json!({"azp": "chat", "resource_access": {"roles": ["editor"]}})),
            Some("editor")
        );
        assert_eq!(lacking(json!({"azp": "api"})), None);
        assert_eq!(
            lacking(json!({"aud": "api"})),
            Some("editor"),
            "`aud` says nothing here"
        );
    }

    #[test]
    fn a_pattern_that_leaves_something_out_is_known() {
        let narrow = |text| -> Vec<(String, String)> {
            let required = RequiredScopes::parse(text).unwrap();
            required.narrow().map(|(one, whole)| (one.to_owned(), whole)).collect()
        };
        assert_eq!(narrow("admin.*=a,b=c"), [("admin.*".to_owned(), "admin.#".to_owned())]);
        assert!(narrow("admin.#=a,admin.*=b").is_empty());
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
            "a*=b",
            "a.b#=c",
            "issuer=;a=b",
            "issuer=i",
            "aud=;a=b",
            "aud=a;=b",
            "auth.authenticate=a",
            "auth.*=a",
            "auth.#=a",
            "x=\"",
            "x=é",
        ] {
            assert!(RequiredScopes::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_what_was_written() {
        let shown = RequiredScopes::parse("a.*=b  c,#=d, issuer=https://p ; aud=chat;x=-")
            .unwrap()
            .show();
        assert_eq!(
            shown,
            Shown::Array(vec![
                "a.*=b c".into(),
                "#=d".into(),
                "issuer=https://p;aud=chat;x=-".into()
            ])
        );
    }

    proptest! {
        #[test]
        fn one_more_entry_never_lets_anybody_in(kind: String, more in "((issuer=[ij]|aud=(api|chat));)?[a-z]{1,3}(\\.[#*])?=[a-z]{1,3}", scope: String) {
            let claims = claims(json!({"scope": scope}));
            let few = RequiredScopes::parse("a=b,c.#=d").unwrap();
            if let Ok(many) = RequiredScopes::parse(&format!("{more},a=b,c.#=d")) {
                prop_assert!(lacking(&few, &kind, &claims).is_none() || lacking(&many, &kind, &claims).is_some());
            }
        }
    }
}
