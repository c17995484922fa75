//! One dead letter, and what it says.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use shared::service::clock::{Clock as _, SystemClock, Timestamp};
use shared::wire::seal::{Sealer, is_sealed};

use crate::support::human;

/// As many as keep a hundred thousand letters apart, nearly always.
pub(super) const NAME_DIGITS: usize = 8;

/// A letter as a worker has written it.
#[derive(Clone, Debug, Default)]
pub(super) struct DeadLetter {
    /// Its place in the queue at the moment, from 1.
    pub(super) number: u32,
    /// What it is called as long as it lies there: of its content, so that no one drops another by mistake.
    pub(super) name: String,
    /// By which the broker knows it on this channel.
    pub(super) tag: u64,
    /// `type`: which kind of message a terminator sent.
    pub(super) kind: Option<String>,
    pub(super) message_id: Option<String>,
    /// The message's place in its connection's order, or what its injector called it.
    pub(super) correlation_id: Option<String>,
    /// Texts, numbers and flags.
    pub(super) headers: Map<String, Value>,
    pub(super) body: Vec<u8>,
}

/// What can be read of a client's message.
#[derive(Default, Deserialize)]
struct Peek {
    #[serde(rename = "type")]
    kind: Option<String>,
    id: Option<String>,
}

impl DeadLetter {
    /// Names it.
    pub(super) fn named(mut self) -> Self {
        let mut content = self.message_id.clone().unwrap_or_default().into_bytes();
        content.push(0);
        content.extend_from_slice(&self.body);
        let digest = digest(&SHA256, &content);
        self.name = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .take(NAME_DIGITS / 2)
            .collect();
        self
    }

    /// Opens what is sealed, if there is a key. Its token is taken out, as a worker would have.
    pub(super) fn opened(mut self, sealer: &Sealer) -> Self {
        let message_id = self.correlation_id.as_deref().and_then(|id| id.parse().ok());
        if let (true, Some(message_id)) = (self.is_sealed(), message_id)
            && let Ok(opened) = sealer.open(message_id, &self.body.clone().into())
        {
            self.body = worker::dead_letter::redact::body(&opened);
        }
        self
    }

    pub(super) fn is_sealed(&self) -> bool {
        is_sealed(&self.body)
    }

    /// A header, if it is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(Value::as_str)
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.headers.get(name).and_then(Value::as_u64)
    }

    fn first_seen(&self) -> Option<Timestamp> {
        self.number("first_seen").map(Timestamp::from_secs)
    }

    fn peek(&self) -> Peek {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// For programs: one JSON object. The body is in it as it stands, to the last digit of its numbers, or as a string if
    /// it is no JSON.
    pub(super) fn to_json(&self, with_body: bool) -> String {
        let peek = self.peek();
        let mut json = json!({
            "number": self.number,
            "name": self.name,
            "reason": self.text("reason"),
            "queue": self.text("queue"),
            "count": self.number("count"),
            "first_seen": self.number("first_seen"),
            "type": peek.kind,
            "id": peek.id,
            "message_id": self.message_id,
            "correlation_id": self.correlation_id,
            "bytes": self.body.len(),
        });
        if !with_body {
            return json.to_string();
        }
        json["headers"] = self.headers.clone().into();
        let body = match serde_json::from_slice::<&RawValue>(&self.body) {
            Ok(body) => body.get().to_owned(),
            Err(_) => Value::from(self.body_text()).to_string(),
        };
        let head = json.to_string();
        format!("{},\"body\":{body}}}", head.strip_suffix('}').unwrap_or(&head))
    }

    fn body_text(&self) -> String {
        if self.is_sealed() {
            return "sealed: --seal-keys opens it".to_owned();
        }
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A line of the list.
    pub(super) fn row(&self) -> String {
        let peek = self.peek();
        let seen = self.first_seen().map(|seen| human::relative(seen, SystemClock.now()));
        let id = peek.id.map(|id| format!(" {id:?}")).unwrap_or_default();
        row(&[
            &self.number.to_string(),
            &self.name,
            seen.as_deref().unwrap_or("–"),
            self.text("reason").unwrap_or("–"),
            self.text("queue").unwrap_or("–"),
            &self
                .number("count")
                .map_or_else(|| "–".to_owned(), |count| count.to_string()),
            &self.body.len().to_string(),
            &format!("{}{id}", peek.kind.as_deref().unwrap_or("–")),
        ])
    }

    /// All of it.
    pub(super) fn describe(&self) -> String {
        let mut lines = vec![format!("letter      {} (number {})", self.name, self.number)];
        if let Some(seen) = self.first_seen() {
            let ago = human::relative(seen, SystemClock.now());
            lines.push(format!("first seen  {} ({ago})", human::utc(seen)));
        }
        for (name, value) in [("message id", &self.message_id), ("correlation", &self.correlation_id)] {
            lines.extend(value.as_ref().map(|value| format!("{name:<11} {value}")));
        }
        let headers = self.headers.iter().filter(|(name, _)| *name != "first_seen");
        lines.extend(headers.map(|(name, value)| match value {
            Value::String(text) => format!("{name:<11} {text}"),
            other => format!("{name:<11} {other}"),
        }));
        lines.push(format!("body        {} bytes, without its token", self.body.len()));
        lines.push(self.body_text());
        lines.join("\n")
    }
}

/// The list's first line.
pub(super) fn heading() -> String {
    row(&[
        "#",
        "name",
        "first seen",
        "reason",
        "queue",
        "tries",
        "bytes",
        "message",
    ])
}

fn row(columns: &[&str; 8]) -> String {
    let [number, name, seen, reason, queue, tries, bytes, message] = columns;
    format!("{number:>5}  {name:<8}  {seen:<16}  {reason:<16}  {queue:<22}  {tries:>5}  {bytes:>6}  {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(body: &str) -> DeadLetter {
        DeadLetter {
            number: 1,
            message_id: Some("m".to_owned()),
            headers: Map::from_iter([
                ("reason".to_owned(), "delivery_limit".into()),
                ("queue".to_owned(), "countersign.retry".into()),
                ("count".to_owned(), 5.into()),
            ]),
            body: body.as_bytes().to_vec(),
            ..DeadLetter::default()
        }
        .named()
    }

    #[test]
    fn a_letter_keeps_its_name_and_another_has_another() {
        let name = letter("{}").name;
        assert_eq!((name.len(), &letter("{}").name), (NAME_DIGITS, &name));
        assert_ne!(letter("[]").name, name);
    }

    #[test]
    fn a_row_tells_why_and_what() {
        let row = letter(r#"{"type":"order","id":"7","payload":{}}"#).row();
        for part in ["delivery_limit", "countersign.retry", "order \"7\""] {
            assert!(row.contains(part), "{row}");
        }
    }

    #[test]
    fn a_body_is_shown_as_it_stands() {
        let shown = |body: &str| {
            let letter = letter(body);
            assert!(letter.describe().ends_with(body));
            letter.to_json(true)
        };
        assert!(shown(r#"{"n":1.000000000000000000001}"#).ends_with(r#","body":{"n":1.000000000000000000001}}"#));
        let json: Value = serde_json::from_str(&shown("non\"sense")).unwrap();
        assert_eq!(
            (&json["body"], &json["headers"]["count"]),
            (&"non\"sense".into(), &5.into())
        );
        assert!(!letter("{}").to_json(false).contains("body"));
    }
}
