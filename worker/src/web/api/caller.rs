//! Who asks, and whether they may: by a key of the file, or by a token of an issuer with the scope.

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use shared::credentials::{Credential, CredentialError, Credentials, Made, Place, Source};
use shared::service::clock::Clock;
use tokio::time::Instant;

use super::keys::{Keys, Right};
use super::problem::Problem;
use super::rate::Rate;
use crate::auth::snapshot::subject_of;
use crate::config::{ApiScope, WorkerConfig, has_scope};
use crate::revocation::known::{Judgement, Revoked};
use crate::token::{ClaimPath, Rejection, Verifier};

/// The keys, which may be replaced while the worker runs; none if there is no file of them.
pub(super) fn load(
    config: &WorkerConfig,
    credentials: &mut Credentials,
) -> Result<Option<Credential<Keys>>, CredentialError> {
    let Some(path) = &config.api_keys else {
        return Ok(None);
    };
    let source = Source {
        places: vec![Place::file("api-keys", path)],
        make: Box::new(|contents| {
            let content = contents.first().map(AsRef::as_ref).unwrap_or_default();
            Ok(Made {
                value: Keys::read(content)?,
                kinds: vec![("API keys", None)],
                doubt: None,
            })
        }),
    };
    credentials.load(source).map(Some)
}

/// Lets in who may.
pub(super) struct Gate {
    keys: Option<Credential<Keys>>,
    scope: Option<ApiScope>,
    scope_claims: Vec<ClaimPath>,
    verifier: Arc<Verifier>,
    revoked: Arc<Revoked>,
    clock: Arc<dyn Clock>,
    rate: Rate,
}

/// Who was let in, as the log calls them: a key by its name, an identity by its digest.
pub(super) type Caller = String;

impl Gate {
    pub(super) fn new(
        config: &WorkerConfig,
        keys: Option<Credential<Keys>>,
        verifier: Arc<Verifier>,
        revoked: Arc<Revoked>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            keys,
            scope: config.api_scope.clone(),
            scope_claims: config.jwt_scope_claims.to_vec(),
            verifier,
            revoked,
            clock,
            rate: Rate::new(config.api_requests_per_second),
        }
    }

    /// Who asks for something that needs this right.
    ///
    /// # Errors
    /// Why they may not.
    pub(super) fn pass(&self, headers: &HeaderMap, right: Right) -> Result<Caller, Problem> {
        let presented = bearer(headers)?;
        let (caller, allowed) = match self.key(presented, right) {
            Some(known) => known,
            None => self.token(presented, right)?,
        };
        self.rate.take(&caller, Instant::now()).map_err(Problem::too_many)?;
        match allowed {
            true => Ok(caller),
            false => {
                let right = right.as_str();
                Err(Problem::forbidden(format!("the key or token does not allow `{right}`")))
            }
        }
    }

    fn key(&self, presented: &str, right: Right) -> Option<(Caller, bool)> {
        let keys = self.keys.as_ref()?.current();
        let key = keys.find(presented)?;
        Some((format!("key {}", key.name), key.allows(right)))
    }

    fn token(&self, presented: &str, right: Right) -> Result<(Caller, bool), Problem> {
        let Some(scope) = &self.scope else {
            return Err(Problem::unauthorized("the key is not known", true));
        };
        let now = self.clock.now();
        let verified = self.verifier.verify(presented, now).result;
        let verified = verified.map_err(|rejection| match rejection {
            Rejection::Unavailable { .. } => Problem::unavailable(rejection.to_string()),
            Rejection::Expired | Rejection::NotYet { .. } => Problem::unauthorized(rejection.to_string(), true),
            Rejection::Invalid(_) => Problem::unauthorized(format!("the key is not known, and {rejection}"), true),
        })?;
        match self.revoked.judge(&subject_of(&verified, None), now) {
            Judgement::Good => {}
            Judgement::Revoked => return Err(Problem::unauthorized("the token was revoked", true)),
            Judgement::Unknown => {
                return Err(Problem::unavailable("it is not known yet which tokens are revoked"));
            }
        }
        let has = |scope: &str| has_scope(&verified.claims, &self.scope_claims, scope);
        let allowed = has(scope.as_str()) || has(&scope.of(right.as_str()));
        Ok((format!("identity {}", verified.identity.tag()), allowed))
    }
}

/// RFC 6750, section 2.1. The scheme is compared without case (RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().unwrap_or_default(),
        (None, _) => {
            let detail = "want a header `Authorization: Bearer KEY`";
            return Err(Problem::unauthorized(detail, false));
        }
        (Some(_), Some(_)) => return Err(Problem::unauthorized("there are two headers `Authorization`", true)),
    };
    let bearer = value
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match bearer {
        Some((_, key)) if !key.trim().is_empty() => Ok(key.trim()),
        _ => Err(Problem::unauthorized("want a header `Authorization: Bearer KEY`", true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        bearer(&headers)
            .map(str::to_owned)
            .map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn a_key_is_presented_once_and_as_a_bearer_s() {
        assert_eq!(of(&["Bearer k"]), Ok("k".to_owned()));
        assert_eq!(of(&["bearer  k "]), Ok("k".to_owned()));
        for wrong in [
            &[][..],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Basic k"],
            &["Bearer k", "Bearer k"],
        ] {
            assert_eq!(of(wrong), Err(401), "{wrong:?}");
        }
    }
}
