//! An issuer whose events are about the subjects of another: `https://acme.okta.com=https://acme.okta.com/oauth2/default`.

use shared::service::config::{Shown, Value};

/// Who speaks, and about whose subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventIssuer {
    speaker: Box<str>,
    about: Box<str>,
}

impl EventIssuer {
    /// Who signs the events.
    pub fn speaker(&self) -> &str {
        &self.speaker
    }

    /// Whose subjects they are about.
    pub fn about(&self) -> &str {
        &self.about
    }
}

impl Value for EventIssuer {
    fn parse(text: &str) -> Result<Self, String> {
        let (speaker, about) = text.split_once('=').unwrap_or_default();
        let (speaker, about) = (speaker.trim(), about.trim());
        match speaker.is_empty() || about.is_empty() {
            true => Err("ISSUER=ISSUER: the issuer that signs the events, and the issuer of their subjects".to_owned()),
            false => Ok(Self {
                speaker: speaker.into(),
                about: about.into(),
            }),
        }
    }

    fn show(&self) -> Shown {
        format!("{}={}", self.speaker, self.about).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_two_issuers() {
        let entry = EventIssuer::parse(" https://a = https://a/b ").unwrap();
        assert_eq!((entry.speaker(), entry.about()), ("https://a", "https://a/b"));
        assert_eq!(entry.show(), Shown::from("https://a=https://a/b".to_owned()));
        for wrong in ["", "https://a", "=https://a", "https://a=", "="] {
            assert!(EventIssuer::parse(wrong).is_err(), "{wrong}");
        }
    }
}
