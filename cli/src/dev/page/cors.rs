//! Pages of one's own that ask for a token: those of `--allowed-origins`, and for nothing else.
//!
//! By the Fetch standard (<https://fetch.spec.whatwg.org/#http-cors-protocol>), which has a browser ask first.

use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Any page, if that is written.
const ANY: &str = "*";

/// What pages of one's own may ask for.
const TOKEN: &str = "/token";

/// The pages.
#[derive(Clone, Debug)]
pub(crate) struct Cors(Vec<String>);

impl Cors {
    /// Those of these origins.
    pub(crate) const fn new(origins: Vec<String>) -> Self {
        Self(origins)
    }

    /// Whether a page of that origin may ask for that path.
    pub(super) fn allows(&self, path: &str, origin: &HeaderValue) -> bool {
        path == TOKEN
            && self
                .0
                .iter()
                .any(|one| one == ANY || one.as_bytes() == origin.as_bytes())
    }
}

/// What is answered to a browser that asks whether its page may.
pub(super) fn preflight(method: &Method) -> Option<Response> {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (method == Method::OPTIONS).then(|| (StatusCode::NO_CONTENT, headers).into_response())
}

/// With what an answer is shown to a page of that origin.
pub(super) fn shown_to(origin: &HeaderValue) -> [(HeaderName, HeaderValue); 2] {
    [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()),
        (header::VARY, HeaderValue::from_static("Origin")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_ones_own_may_ask_for_tokens_and_for_nothing_else() {
        let origin = |text: &'static str| HeaderValue::from_static(text);
        let cors = Cors::new(vec!["http://localhost:3000".to_owned()]);
        assert!(cors.allows("/token", &origin("http://localhost:3000")));
        for (path, from) in [
            ("/token", "http://localhost:3001"),
            ("/token", "https://localhost:3000"),
            ("/token", "null"),
            ("/push", "http://localhost:3000"),
            ("/token/", "http://localhost:3000"),
        ] {
            assert!(!cors.allows(path, &origin(from)), "{path} {from}");
        }
        assert!(Cors::new(vec!["*".to_owned()]).allows("/token", &origin("https://anything.example")));
        assert!(!Cors::new(Vec::new()).allows("/token", &origin("http://localhost:3000")));
    }
}
