//! What a program says on its standard output once it listens, for people and for whoever asked for port 0.
//!
//! With `log-format` `json` it is an object like every line of the log.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::telemetry;

const LISTENING: &str = "listening";

/// Where a program listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// The URL for clients.
    pub socket: Option<String>,
    /// The URL for health and metrics.
    pub admin: Option<String>,
}

impl Announcement {
    /// Writes it to standard output, as the log is written. Nobody need read it.
    pub fn tell(&self) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{}", self.line(telemetry::writes_json())).and_then(|()| out.flush());
    }

    fn line(&self, as_json: bool) -> String {
        if as_json {
            let mut object = json!({"level": "INFO", "message": LISTENING});
            for (name, url) in [("socket", &self.socket), ("admin", &self.admin)] {
                if let Some(url) = url {
                    object[name] = url.as_str().into();
                }
            }
            return object.to_string();
        }
        let words = [
            self.socket.clone(),
            self.admin.as_ref().map(|admin| format!("admin {admin}")),
        ];
        let words: Vec<_> = words.into_iter().flatten().collect();
        match words.is_empty() {
            true => "ready".to_owned(),
            false => format!("{LISTENING} on {}", words.join(" ")),
        }
    }

    /// Reads such a line, in either form.
    pub fn read(line: &str) -> Option<Self> {
        let line = line.trim_end();
        if let Ok(object) = serde_json::from_str::<Value>(line) {
            let url = |name: &str| object[name].as_str().map(str::to_owned);
            return (object["message"] == LISTENING).then(|| Self {
                socket: url("socket"),
                admin: url("admin"),
            });
        }
        if line == "ready" {
            return Some(Self::default());
        }
        let rest = line.strip_prefix(LISTENING)?.strip_prefix(" on ")?;
        let words: Vec<_> = rest.split(' ').collect();
        let starting = |scheme: &str| {
            words
                .iter()
                .find(|word| word.starts_with(scheme))
                .map(|word| (*word).to_owned())
        };
        Some(Self {
            socket: starting("ws"),
            admin: starting("http"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_read_in_either_form_and_json_is_an_object() {
        let socket = || Some("ws://127.0.0.1:1".to_owned());
        let admin = || Some("http://127.0.0.1:2".to_owned());
        for (socket, admin, text) in [
            (
                socket(),
                admin(),
                "listening on ws://127.0.0.1:1 admin http://127.0.0.1:2",
            ),
            (None, admin(), "listening on admin http://127.0.0.1:2"),
            (socket(), None, "listening on ws://127.0.0.1:1"),
            (None, None, "ready"),
        ] {
            let announcement = Announcement { socket, admin };
            assert_eq!(announcement.line(false), text);
            assert_eq!(Announcement::read(text), Some(announcement.clone()));
            let json = announcement.line(true);
            assert!(serde_json::from_str::<Value>(&json).unwrap().is_object(), "{json}");
            assert_eq!(Announcement::read(&json), Some(announcement));
        }
        for other in ["", "listening nowhere", "{\"message\":\"starting\"}"] {
            assert_eq!(Announcement::read(other), None, "{other}");
        }
    }
}
