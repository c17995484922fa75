//! What is asked for, by its path: pure.

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::keys::Right;
use super::problem::Problem;

/// Where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// One push.
    Push,
    /// Several pushes in one request.
    PushBatch,
    /// A revocation.
    Revoke,
    /// The connections of an identity.
    Connections,
    /// What was decided about a connection.
    Explain,
    /// What all of this is.
    Document,
}

impl Route {
    /// All of them, in the order of the document.
    pub(super) const ALL: [Self; 6] = [
        Self::Push,
        Self::PushBatch,
        Self::Revoke,
        Self::Connections,
        Self::Explain,
        Self::Document,
    ];

    /// The path; what stands in braces is any text without a slash.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Push => "/v1/push",
            Self::PushBatch => "/v1/push/batch",
            Self::Revoke => "/v1/revoke",
            Self::Connections => "/v1/identities/{subject}/connections",
            Self::Explain => "/v1/connections/{id}/explain",
            Self::Document => "/v1/openapi.json",
        }
    }

    /// A word for it, for metrics.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::PushBatch => "push_batch",
            Self::Revoke => "revoke",
            Self::Connections => "connections",
            Self::Explain => "explain",
            Self::Document => "openapi",
        }
    }

    /// The method of the document.
    pub(super) const fn method(self) -> Method {
        match self {
            Self::Push | Self::PushBatch | Self::Revoke => Method::POST,
            Self::Connections | Self::Explain | Self::Document => Method::GET,
        }
    }

    /// Whether it takes a method: HEAD wherever it takes GET (RFC 9110, section 9.1).
    pub(super) fn takes(self, method: &Method) -> bool {
        *method == self.method() || (*method == Method::HEAD && self.method() == Method::GET)
    }

    /// All methods that it takes, as the header `Allow` has them.
    pub(super) fn allow(self) -> &'static str {
        match self.takes(&Method::HEAD) {
            true => "GET, HEAD",
            false => "POST",
        }
    }

    /// What a key must allow; none if none is needed.
    pub(super) const fn right(self) -> Option<Right> {
        match self {
            Self::Push | Self::PushBatch => Some(Right::Push),
            Self::Revoke => Some(Right::Revoke),
            Self::Connections | Self::Explain => Some(Right::Inspect),
            Self::Document => None,
        }
    }

    /// What is meant by a path, and what stands in place of the braces, still encoded.
    pub(super) fn of(path: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|route| {
            let Some((before, rest)) = route.path().split_once('{') else {
                return (route.path() == path).then_some((route, ""));
            };
            let (_, after) = rest.split_once('}')?;
            let name = path.strip_prefix(before)?.strip_suffix(after)?;
            (!name.is_empty() && !name.contains('/')).then_some((route, name))
        })
    }
}

/// What stands encoded in a path (RFC 3986, section 2.1).
pub(super) fn decoded(name: &str) -> Result<Cow<'_, str>, Problem> {
    percent_decode_str(name)
        .decode_utf8()
        .map_err(|_| Problem::bad("the path is not UTF-8"))
}

/// The parameters behind the path, each at most once, and of these names alone.
pub(super) fn query<const N: usize>(query: Option<&str>, names: [&str; N]) -> Result<[Option<String>; N], Problem> {
    let mut found = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let place = names.iter().position(|one| *one == name);
        let place = place
            .and_then(|place| found.get_mut(place))
            .ok_or_else(|| Problem::bad("the query has a parameter that is not known here"))?;
        if place.replace(value.into_owned()).is_some() {
            return Err(Problem::bad("the query has a parameter twice"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_the_methods_that_it_says_and_no_others() {
        for route in Route::ALL {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
                let is_named = route.allow().split(", ").any(|name| name == method.as_str());
                assert_eq!(route.takes(&method), is_named, "{method} {}", route.path());
            }
        }
    }

    #[test]
    fn a_path_is_known_as_a_whole_and_a_name_in_it_is_one_part() {
        for route in Route::ALL {
            let path = route.path().replace("{subject}", "a%2Fb").replace("{id}", "a%2Fb");
            assert_eq!(Route::of(&path).map(|(found, _)| found), Some(route), "{path}");
            for other in [format!("{path}/"), path.to_uppercase(), format!("/{path}")] {
                assert_eq!(Route::of(&other), None, "{other}");
            }
        }
        let (_, name) = Route::of("/v1/identities/a%2Fb%20c/connections").unwrap();
        assert_eq!(decoded(name).unwrap(), "a/b c");
        for other in [
            "",
            "/",
            "/v1",
            "/v1/identities//connections",
            "/v1/identities/a/b/connections",
        ] {
            assert_eq!(Route::of(other), None, "{other}");
        }
        assert!(decoded("%ff").is_err());
    }

    #[test]
    fn a_parameter_comes_once_and_is_known() {
        assert_eq!(
            query(Some("b=1%202&a="), ["a", "b"]).unwrap(),
            [Some(String::new()), Some("1 2".to_owned())]
        );
        assert_eq!(query(None, ["a"]).unwrap(), [None]);
        assert!(query(Some("a=1&a=2"), ["a"]).is_err());
        assert!(query(Some("c=1"), ["a"]).is_err());
        assert!(query(Some("c"), []).is_err());
    }
}
