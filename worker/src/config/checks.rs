//! What settings contradict each other in, each right in itself, and what an operator may not have meant.

use shared::service::config::{Conflict, OneOrMore};

use super::{Seal, WorkerConfig};
use crate::auth::identity::{Issuer, TENANT};
use crate::token::{Discovery, UrlError};

impl WorkerConfig {
    /// What contradicts itself.
    pub(super) fn conflicts(&self) -> Vec<Conflict> {
        let without_port = self.console && self.admin_listen.is_none();
        let conflict = || Conflict::new("console", "needs a port: set `admin-listen` too");
        without_port
            .then(conflict)
            .into_iter()
            .chain(self.broker.conflicts())
            .chain(self.seals_without_keys())
            .chain(self.store_files().conflicts(&self.store_url))
            .chain(self.strangers())
            .chain(self.lost_issuers())
            .chain(self.strange_speakers())
            .chain(self.closed_door())
            .collect()
    }

    fn seals_without_keys(&self) -> Option<Conflict> {
        let lacks = self.seal == Seal::Required && self.broker.seal_keys.is_empty();
        lacks.then(|| Conflict::new("seal", "needs keys to open with: set `seal-keys` too"))
    }

    /// Rules for the tokens of no one.
    fn strangers(&self) -> impl Iterator<Item = Conflict> + use<'_> {
        let is_known = |name: &str| self.jwt_issuer.iter().any(|one| Issuer::new(one.as_str()).covers(name));
        let unknown =
            |all: &OneOrMore<String>, name: Option<&str>| name.is_some_and(|name| !all.iter().any(|one| one == name));
        self.required_scopes.sections().filter_map(move |(issuer, audience)| {
            if issuer.is_some_and(|issuer| !is_known(issuer)) {
                Some(Conflict::new(
                    "required-scopes",
                    "has a rule for an issuer that is not in `jwt-issuer`",
                ))
            } else if unknown(&self.jwt_audience, audience) {
                Some(Conflict::new(
                    "required-scopes",
                    "has a rule for an audience that is not in `jwt-audience`",
                ))
            } else {
                None
            }
        })
    }

    /// Issuers without keys that could be found.
    fn lost_issuers(&self) -> impl Iterator<Item = Conflict> + use<'_> {
        let crowded = self.jwt_issuer.iter().filter(|name| name.matches(TENANT).count() > 1);
        let crowded = crowded.map(|_| Conflict::new("jwt-issuer", "names an issuer with more than one `{tenantid}`"));
        let keyless = self.jwt_keys.is_empty();
        let lost = self
            .issuers()
            .into_iter()
            .filter(move |_| keyless)
            .filter_map(|issuer| {
                let reason = Discovery::of(&issuer, &self.reach()).err()?;
                let name = issuer.as_str().escape_debug();
                Some(match reason {
                    UrlError::Malformed => Conflict::new(
                        "jwt-keys",
                        format!("is required: the issuer `{name}` is no URL by which its keys could be found"),
                    ),
                    other => Conflict::new(
                        "jwt-issuer",
                        format!("the issuer `{name}` cannot be asked for its keys: {other}"),
                    ),
                })
            });
        crowded.chain(lost)
    }

    /// Issuers of events, or of those whom they are about, that are no one's here.
    fn strange_speakers(&self) -> impl Iterator<Item = Conflict> + use<'_> {
        let is_known = |name: &str| self.jwt_issuer.iter().any(|one| one == name);
        let strange = self
            .provider_events_issuers
            .iter()
            .filter(move |entry| !is_known(entry.speaker()) || !is_known(entry.about()));
        strange.map(|_| Conflict::new("provider-events-issuers", "names an issuer that is not in `jwt-issuer`"))
    }

    /// A door that no one could pass, or a key to none.
    fn closed_door(&self) -> Option<Conflict> {
        let has_keys = self.api_keys.is_some() || self.api_scope.is_some();
        match (self.api_listen, has_keys) {
            (Some(_), false) => Some(Conflict::new(
                "api-listen",
                "needs keys that are accepted: set `api-keys` or `api-scope` too",
            )),
            (None, true) => Some(Conflict::new(
                if self.api_keys.is_some() {
                    "api-keys"
                } else {
                    "api-scope"
                },
                "needs a port: set `api-listen` too",
            )),
            _ => None,
        }
    }

    /// What an operator may not have meant.
    pub fn doubts(&self) -> Vec<String> {
        let several = self.jwt_issuer.iter().count() > 1;
        let shared = several && self.required_scopes.sections().any(|(issuer, _)| issuer.is_none());
        let shared = shared.then(|| {
            "required-scopes: several issuers share rules, so each of them decides which tokens meet them; put \
             `issuer=ISSUER;` before the rules of one issuer, and `issuer=ISSUER;TYPE=-` for what the tokens of another may not do"
                .to_owned()
        });
        let crowded = (usize::from(self.prefetch) < self.concurrency.saturating_mul(2)).then(|| {
            "prefetch: is less than twice `concurrency`, so that messages that wait for a handler may use it up, and logins \
             wait with them"
                .to_owned()
        });
        let narrow = self.required_scopes.narrow().map(|(types, whole)| {
            format!(
                "required-scopes: `{types}` means one word more, and leaves `{whole}` unguarded otherwise, which an application may \
                 be bound to; write `{whole}` if all of it is meant"
            )
        });
        let plain = self.jwks_allow_http.then(|| {
            "jwks-allow-http: is on, so keys may be fetched over plain http, and anyone on the network path can supply others".to_owned()
        });
        shared.into_iter().chain(narrow).chain(crowded).chain(plain).collect()
    }
}
