//! What a program says on its standard output once it listens, for people and for the one who asked for port 0.
//!
//! With `log-format` `json` it is an object like every line of the log.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::telemetry;

const LISTENING: &str = "listening";

/// Where a program listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// The URLs for clients.
    pub sockets: Vec<String>,
    /// The URL for health and metrics.
    pub admin: Option<String>,
}

impl Announcement {
    /// Writes it to standard output, as the log is written. No one need read it.
    pub fn tell(&self) {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "{}", self.line(telemetry::writes_json())).and_then(|()| out.flush());
    }

    fn line(&self, as_json: bool) -> String {
        if as_json {
            let mut object = json!({"level": "INFO", "message": LISTENING});
            // The first by itself, for anyone who expects one.
            for (name, url) in [("socket", self.sockets.first()), ("admin", self.admin.as_ref())] {
                if let Some(url) = url {
                    object[name] = url.as_str().into();
                }
            }
            if self.sockets.len() > 1 {
                object["sockets"] = json!(self.sockets);
            }
            return object.to_string();
        }
        let admin = self.admin.iter().map(|admin| format!("admin {admin}"));
        let words: Vec<_> = self.sockets.iter().cloned().chain(admin).collect();
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
            let several = object["sockets"].as_array().map(|urls| {
                let urls = urls.iter().filter_map(Value::as_str);
                urls.map(str::to_owned).collect()
            });
            return (object["message"] == LISTENING).then(|| Self {
                sockets: several.unwrap_or_else(|| url("socket").into_iter().collect()),
                admin: url("admin"),
            });
        }
        if line == "ready" {
            return Some(Self::default());
        }
        let rest = line.strip_prefix(LISTENING)?.strip_prefix(" on ")?;
        let words: Vec<_> = rest.split(' ').collect();
        let starting = |scheme: &str| {
            let starting = words.iter().filter(|word| word.starts_with(scheme));
            starting.map(|word| (*word).to_owned()).collect::<Vec<_>>()
        };
        Some(Self {
            sockets: starting("ws"),
            admin: starting("http").pop(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_read_in_either_form_and_json_is_an_object() {
        let socket = || vec!["ws://127.0.0.1:1".to_owned()];
        let both = || vec!["wss+unix:/run/x.sock".to_owned(), "wss://[::1]:1".to_owned()];
        let admin = || Some("http://127.0.0.1:2".to_owned());
        for (sockets, admin, text) in [
            (
                socket(),
                admin(),
                "listening on ws://127.0.0.1:1 admin http://127.0.0.1:2",
            ),
            (
                both(),
                admin(),
                "listening on wss+unix:/run/x.sock wss://[::1]:1 admin http://127.0.0.1:2",
            ),
            (vec![], admin(), "listening on admin http://127.0.0.1:2"),
            (socket(), None, "listening on ws://127.0.0.1:1"),
            (vec![], None, "ready"),
        ] {
            let announcement = Announcement { sockets, admin };
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
