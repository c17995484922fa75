//! What a person brings to `dev` of their own: an identity provider, and an application.
//!
//! Tokens of the provider count beside those of the development key, each for its own issuer. What is said here is read and
//! checked as the settings of a worker are, under their names.

use clap::Args;

use crate::support::dev_key;

/// With what an entry of `jwt-keys` says of which issuer it is.
const ISSUER: &str = "issuer=";

/// One's own.
#[derive(Clone, Debug, Args)]
pub(super) struct OwnArgs {
    /// What handles messages: echo, relay, http:URL (it posts them to an application of yours), or amqp with --amqp-url.
    #[arg(long, value_name = "HANDLER", default_value = "echo")]
    pub(super) handler: String,
    /// How long a message is remembered by its id, so that it has one effect: 24h, or off.
    #[arg(long, value_name = "DURATION", default_value = "off")]
    pub(super) idempotency_window: String,
    /// Keys of your own provider, besides the development key: files (JWKS, PEM, DER, hmac:PATH) or URLs, as in a worker's
    /// jwt-keys. An issuer that is a URL is asked for them if there are none.
    #[arg(long, value_name = "KEYS", value_delimiter = ',', requires = "jwt_issuer")]
    jwt_keys: Vec<String>,
    /// The issuer of your own provider's tokens: the claim iss.
    #[arg(long, value_name = "ISSUER", requires = "jwt_audience")]
    jwt_issuer: Option<String>,
    /// For whom they are: the claim aud.
    #[arg(long, value_name = "AUDIENCE", requires = "jwt_issuer")]
    jwt_audience: Option<String>,
}

impl OwnArgs {
    /// The setting `jwt-keys`: the development key, and one's own, each of its issuer.
    pub(super) fn keys(&self, development: &str) -> String {
        let of = |issuer: &str, entry: &str| match entry.starts_with(ISSUER) {
            true => entry.to_owned(),
            false => format!("{ISSUER}{issuer};{entry}"),
        };
        let own = self.jwt_issuer.iter().flat_map(|issuer| {
            let entries = self.jwt_keys.iter().map(|entry| entry.trim());
            entries.filter(|entry| !entry.is_empty()).map(|entry| of(issuer, entry))
        });
        let all: Vec<_> = std::iter::once(of(dev_key::ISSUER, development)).chain(own).collect();
        all.join(",")
    }

    /// The setting `jwt-issuer`.
    pub(super) fn issuers(&self) -> String {
        joined(dev_key::ISSUER, self.jwt_issuer.as_deref())
    }

    /// The setting `jwt-audience`.
    pub(super) fn audiences(&self) -> String {
        joined(dev_key::AUDIENCE, self.jwt_audience.as_deref())
    }
}

fn joined(development: &str, own: Option<&str>) -> String {
    let own = own.filter(|own| *own != development);
    let all: Vec<_> = std::iter::once(development).chain(own).collect();
    all.join(",")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        own: OwnArgs,
    }

    fn parsed(flags: &[&str]) -> Result<OwnArgs, clap::Error> {
        let line = std::iter::once("dev").chain(flags.iter().copied());
        CommandLine::try_parse_from(line).map(|line| line.own)
    }

    #[test]
    fn ones_own_keys_are_of_ones_own_issuer_beside_the_development_key() {
        let none = parsed(&[]).unwrap();
        assert_eq!(none.keys("hmac:/d"), "issuer=countersign-dev;hmac:/d");
        assert_eq!(
            (none.issuers().as_str(), none.audiences().as_str()),
            ("countersign-dev", "countersign")
        );
        let provider = ["--jwt-issuer", "https://id.example", "--jwt-audience", "chat"];
        let keys = ["--jwt-keys", "a.pem,issuer=https://id.example;kid=1;b.pem"];
        let own = parsed(&[&provider[..], &keys].concat()).unwrap();
        assert_eq!(
            own.keys("hmac:/d"),
            "issuer=countersign-dev;hmac:/d,issuer=https://id.example;a.pem,issuer=https://id.example;kid=1;b.pem"
        );
        assert_eq!(own.issuers(), "countersign-dev,https://id.example");
        assert_eq!(own.audiences(), "countersign,chat");
        assert!(parsed(&provider).is_ok(), "it is asked for its keys");
        assert!(parsed(&keys).is_err() && parsed(&provider[..2]).is_err());
    }
}
