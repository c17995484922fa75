//! Where an issuer's keys are, by its own word.
//!
//! An issuer that is a URL publishes under it a document that names its `jwks_uri`: OpenID Connect Discovery 1.0 §4, or
//! else RFC 8414 §3. Anyone who can change that document can be anyone, so it must name the very issuer, and keys of a host
//! that is the issuer's own or was allowed by name.

use std::fmt;

use bytes::Bytes;
use reqwest::Url;
use serde_json::Value;

use super::fetch::{Fetch, FetchError, Undiscovered};
use super::jwks_url::{JwksUrl, UrlError};
use crate::auth::identity::{Issuer, TENANT};
use crate::token::claims::members::Members;

/// OpenID Connect Discovery 1.0 §4: behind the issuer's path.
const OPENID: &str = "/.well-known/openid-configuration";
/// RFC 8414 §3.1: before the issuer's path.
const OAUTH: &str = "/.well-known/oauth-authorization-server";
/// Entra ID publishes under this name what it says of all tenants, with the placeholder in the issuer.
const ANY_TENANT: &str = "common";

/// Which servers are asked for keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Over plain `http` too, wherever they are (`jwks-allow-http`).
    pub allow_http: bool,
    /// Besides an issuer's own (`jwks-allow-hosts`): `host`, or `host:port`.
    pub hosts: Vec<String>,
}

/// An issuer whose keys are found by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    issuer: Issuer,
    documents: [JwksUrl; 2],
    reach: Reach,
}

/// What is shown of a text that someone else has written.
const MOST_SHOWN: usize = 200;

impl Discovery {
    /// Of that issuer.
    ///
    /// # Errors
    /// If its name is no URL that may be asked.
    pub fn of(issuer: &Issuer, reach: &Reach) -> Result<Self, UrlError> {
        let base = issuer.as_str().replace(TENANT, ANY_TENANT);
        let url = JwksUrl::parse(&base, reach.allow_http)?;
        let at = |path: String| {
            let mut url = url.as_url().clone();
            url.set_path(&path);
            url.set_query(None);
            url.set_fragment(None);
            JwksUrl::parse(url.as_str(), reach.allow_http)
        };
        let path = url.as_url().path().trim_end_matches('/');
        Ok(Self {
            issuer: issuer.clone(),
            documents: [at(format!("{path}{OPENID}"))?, at(format!("{OAUTH}{path}"))?],
            reach: reach.clone(),
        })
    }

    /// Whether that is the address of such a document.
    pub(in crate::token) fn is_at(url: &JwksUrl) -> bool {
        let path = url.as_url().path();
        path.ends_with(OPENID) || path.starts_with(OAUTH)
    }

    /// Whether that is such a document.
    pub(in crate::token) fn is_document(content: &[u8]) -> bool {
        Members::parse(content).is_some_and(|members| members.get("jwks_uri").is_some())
    }

    /// Whose keys are meant.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Whether TLS is needed on the way.
    pub(in crate::token) fn is_secure(&self) -> bool {
        self.documents.iter().any(JwksUrl::is_secure)
    }

    /// The keys, wherever they are by now.
    pub(in crate::token) async fn keys(&self, fetch: &impl Fetch) -> Result<Bytes, FetchError> {
        let uri = self.jwks_uri(&self.document(fetch).await?)?;
        let found = fetch.fetch(&uri).await;
        found.map_err(|reason| {
            let (uri, reason) = (shown(&uri.to_string()), Box::new(reason));
            Undiscovered::Keys { uri, reason }.into()
        })
    }

    /// The one document, or else the other. A server may answer what it does not have with a page (200) as well as with 404.
    async fn document(&self, fetch: &impl Fetch) -> Result<Bytes, FetchError> {
        let [openid, oauth] = &self.documents;
        let reason = match fetch.fetch(openid).await {
            Ok(document) if Members::parse(&document).is_some() => return Ok(document),
            Ok(_) => Undiscovered::NoObject.into(),
            Err(reason @ FetchError::Status(_)) => reason,
            Err(reason) => return Err(reason),
        };
        let found = fetch.fetch(oauth).await;
        found.map_err(|second| {
            let (openid, oauth) = (Box::new(reason), Box::new(second));
            Undiscovered::Document { openid, oauth }.into()
        })
    }

    fn jwks_uri(&self, document: &[u8]) -> Result<JwksUrl, Undiscovered> {
        let members = Members::parse(document).ok_or(Undiscovered::NoObject)?;
        match members.get("issuer") {
            Some(Value::String(issuer)) if *issuer == self.issuer.as_str() => {}
            Some(Value::String(other)) => return Err(Undiscovered::Issuer(format!("{:?}", shown(other)))),
            _ => return Err(Undiscovered::Issuer("nobody".to_owned())),
        }
        let uri = members
            .get("jwks_uri")
            .and_then(Value::as_str)
            .ok_or(Undiscovered::NoUri)?;
        let uri = JwksUrl::parse(uri, self.reach.allow_http).map_err(Undiscovered::Uri)?;
        let [own, _] = &self.documents;
        let host = host_of(uri.as_url());
        let is_allowed = |allowed: &String| *allowed == host || Some(allowed.as_str()) == uri.as_url().host_str();
        if host == host_of(own.as_url()) || self.reach.hosts.iter().any(is_allowed) {
            Ok(uri)
        } else {
            Err(Undiscovered::Host(shown(&host)))
        }
    }
}

/// With its port, of which another may be someone else's.
fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(MOST_SHOWN).collect()
}

/// The address that is asked first.
impl fmt::Display for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [openid, _] = &self.documents;
        openid.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(issuer: &str, hosts: &[&str]) -> Discovery {
        let reach = Reach {
            allow_http: false,
            hosts: hosts.iter().map(ToString::to_string).collect(),
        };
        Discovery::of(&Issuer::new(issuer), &reach).unwrap()
    }

    #[test]
    fn an_issuer_says_where_it_is_asked() {
        for (issuer, openid, oauth) in [
            (
                "https://a.example",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/openid-configuration",
                "https://a.example/.well-known/oauth-authorization-server",
            ),
            (
                "https://a.example:8443/realms/x",
                "https://a.example:8443/realms/x/.well-known/openid-configuration",
                "https://a.example:8443/.well-known/oauth-authorization-server/realms/x",
            ),
            (
                "https://login.example/{tenantid}/v2.0",
                "https://login.example/common/v2.0/.well-known/openid-configuration",
                "https://login.example/.well-known/oauth-authorization-server/common/v2.0",
            ),
        ] {
            let discovery = of(issuer, &[]);
            let asked = discovery.documents.each_ref().map(ToString::to_string);
            assert_eq!(asked, [openid, oauth]);
            assert!(discovery.documents.iter().all(Discovery::is_at));
        }
        for refused in [
            "http://a.example",
            "a.example",
            "countersign-dev",
            "https://u:p@a.example",
        ] {
            assert!(
                Discovery::of(&Issuer::new(refused), &Reach::default()).is_err(),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_document_that_lies_leads_nowhere() {
        let discovery = of("https://a.example/x", &["keys.example", "other.example:8443"]);
        let uri = |document: &str| discovery.jwks_uri(document.as_bytes()).map(|uri| uri.to_string());
        let with = |issuer: &str, keys: &str| uri(&format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}"}}"#));
        for keys in [
            "https://a.example/keys",
            "https://keys.example/k",
            "https://other.example:8443/k",
        ] {
            assert_eq!(with("https://a.example/x", keys).unwrap(), keys);
        }
        for (issuer, keys, why) in [
            ("https://a.example/x/", "https://a.example/keys", "https://a.example/x/"),
            ("https://a.example/X", "https://a.example/keys", "very issuer"),
            ("https://a.example/x", "https://evil.example/keys", "evil.example"),
            ("https://a.example/x", "https://a.example:444/keys", "a.example:444"),
            ("https://a.example/x", "https://other.example/k", "other.example"),
            ("https://a.example/x", "http://a.example/keys", "https"),
            ("https://a.example/x", "https://a.example@evil.example/", "user"),
            ("https://a.example/x", "file:///etc/passwd", "malformed"),
        ] {
            let told = with(issuer, keys).unwrap_err().to_string();
            assert!(told.contains(why), "{issuer} {keys}: {told}");
        }
        for document in [
            "<html>",
            "",
            "[]",
            r#"{"issuer":"https://a.example/x"}"#,
            r#"{"jwks_uri":"https://a.example/keys"}"#,
            r#"{"issuer":"https://a.example/x","issuer":"https://a.example/x","jwks_uri":"https://a.example/keys"}"#,
        ] {
            assert!(uri(document).is_err(), "{document}");
        }
    }
}
