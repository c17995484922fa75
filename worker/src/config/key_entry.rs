//! Where keys are, as the settings have it.

use std::fmt;
use std::path::Path;

use shared::service::config::{Shown, Value, redacted};

use crate::token::keys::source::{SECRET, shown};

/// An entry of `jwt-keys`, yet to be understood. `Debug` and `Display` show `***` for a password in a URL, and for what is
/// no file's name: it would be refused, but may well be printed before.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyEntry(String);

impl KeyEntry {
    /// The entry as it was written: for anyone who understands it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Value for KeyEntry {
    const SECRET: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        String::parse(text).map(Self)
    }

    fn show(&self) -> Shown {
        self.to_string().into()
    }
}

impl fmt::Display for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is behind the last option; one before it is an issuer's name.
        let options = |text: &str| {
            text.split_inclusive(';')
                .take_while(|option| is_option(option))
                .map(str::len)
                .sum()
        };
        let (options, location) = self.0.split_at(options(&self.0));
        if location.contains("://") {
            return write!(f, "{options}{}", redacted(location));
        }
        let (before, path) = match location.strip_prefix(SECRET) {
            Some(path) => (SECRET, path),
            None => ("", location),
        };
        write!(f, "{options}{before}{}", shown(Path::new(path)))
    }
}

fn is_option(text: &str) -> bool {
    text.ends_with(';') && (text.starts_with("issuer=") || text.starts_with("kid="))
}

impl fmt::Debug for KeyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyEntry({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_shows_all_but_a_password() {
        for (entry, shown) in [
            ("issuer=https://a@b;kid=1;/k/a.pem", "issuer=https://a@b;kid=1;/k/a.pem"),
            ("/k/a.pem", "/k/a.pem"),
            (
                "issuer=https://a;https://u:hunter2@a/keys",
                "issuer=https://a;https://u:***@a/keys",
            ),
            ("https://hunter2@a/?b=c://d", "https://***@a/?***"),
            ("k.pem", "k.pem"),
            ("hmac:secret.txt", "hmac:secret.txt"),
            ("/k/a.pem", "/k/a.pem"),
            ("S3cretS3cretS3cretS3cretS3cretS3cret", "***"),
            (
                "issuer=https://a;hmac:S3cret+S3cret/S3cret=",
                "issuer=https://a;hmac:***",
            ),
            ("/S3cret+S3cret=", "***"),
            (r#"{"kty":"oct","k":"S3cret"}"#, "***"),
        ] {
            let entry = KeyEntry::parse(entry).unwrap();
            assert_eq!(entry.to_string(), shown);
            assert_eq!(format!("{entry:?}"), format!("KeyEntry({shown})"));
        }
    }
}
