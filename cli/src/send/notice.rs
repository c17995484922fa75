//! What a message from the server means, for people: a sentence beside the message itself.

use std::time::Duration;

use serde::Deserialize;

use crate::support::human;

/// What can stand in a message from the server, as far as it needs a word.
#[derive(Deserialize)]
struct Heard {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    deadline_ms: u64,
    #[serde(default)]
    held: Held,
    #[serde(default)]
    auth: Option<Auth>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Default, Deserialize)]
struct Held {
    inbound: u64,
    outbound: u64,
}

#[derive(Deserialize)]
struct Auth {
    subject: String,
    expires_in: u64,
    refresh_in: u64,
}

#[derive(Deserialize)]
struct Refusal {
    code: String,
}

/// A sentence for a message that does not speak for itself.
pub(super) fn of(text: &str) -> Option<String> {
    let heard: Heard = serde_json::from_str(text).ok()?;
    match (heard.kind.as_str(), &heard.auth, &heard.error) {
        ("auth.required", ..) => Some(required(&heard)),
        ("push", ..) => Some("pushed to this connection's identity".to_owned()),
        (_, _, Some(refusal)) => advice(&refusal.code).map(str::to_owned),
        (_, Some(auth), _) => Some(authenticated(auth)),
        ("auth.ok", None, _) => Some("this connection is logged out".to_owned()),
        _ => None,
    }
}

fn authenticated(auth: &Auth) -> String {
    let seconds = |seconds| human::duration(Duration::from_secs(seconds));
    format!(
        "authenticated as {} for {}; refresh the token in {}",
        auth.subject,
        seconds(auth.expires_in),
        seconds(auth.refresh_in)
    )
}

fn required(heard: &Heard) -> String {
    let left = human::duration(Duration::from_millis(heard.deadline_ms));
    let Held { inbound, outbound } = heard.held;
    let (why, until) = match heard.reason.as_deref() {
        Some("missing") => ("no token has authenticated this", "what is held waits for another"),
        Some("expiring") => ("the token is about to expire", "it is good for another"),
        Some("expired") => ("the token has expired", "what is held waits for another"),
        Some("revoked") => ("the token was revoked", "this connection is closed in"),
        _ => ("a fresh token is wanted", "until then there are"),
    };
    let held = match (inbound, outbound) {
        (0, 0) => String::new(),
        (inbound, outbound) => format!("; {inbound} from here and {outbound} for here wait"),
    };
    format!("{why}{held}; {until} {left}. Answer with auth.authenticate and a fresh token")
}

/// What to do about an error, where its own text does not say.
fn advice(code: &str) -> Option<&'static str> {
    Some(match code {
        "auth_required" => "send a token: --token with each message, or --authenticate once",
        "token_expired" => "get a fresh token",
        "auth_unavailable" | "busy" => "nothing is wrong with the message: send it again later",
        "hold_overflow" => "too much waits already: authenticate, or send less until then",
        "duplicate" => "its id was another message's: send it with an id of its own",
        "hold_expired" => "it waited for a fresh token that did not come: authenticate, and send it again",
        "identity_mismatch" => "one connection, one identity: open another connection, or send auth.logout first",
        "token_revoked" => "it was revoked before it expired: its owner must log in again",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use shared::wire::protocol::{AuthRequired, Held, Reason};

    use super::*;

    #[test]
    fn why_a_token_is_wanted_and_how_much_waits_for_it_is_told() {
        let required = |reason, inbound, outbound| {
            let message = AuthRequired {
                reason,
                deadline_ms: 299_000,
                held: Held { inbound, outbound },
            };
            of(&message.to_json()).unwrap()
        };
        let expired = required(Reason::Expired, 2, 1);
        assert!(
            expired.contains("has expired; 2 from here and 1 for here wait"),
            "{expired}"
        );
        assert!(expired.contains("4 min 59 s"), "{expired}");
        let sentences = [Reason::Missing, Reason::Expiring, Reason::Revoked].map(|reason| required(reason, 0, 0));
        assert!(
            sentences
                .iter()
                .all(|sentence| !sentence.contains("fresh token is wanted"))
        );
        assert!(sentences.iter().all(|sentence| !sentence.contains("for here")));
    }

    #[test]
    fn whoever_is_authenticated_is_told_for_how_long() {
        let auth = r#""auth":{"subject":"alice","expires_in":300,"refresh_in":240,"resume":"c.s"}"#;
        for text in [
            format!(r#"{{"type":"auth.ok","id":"1",{auth}}}"#),
            format!(r#"{{"type":"reply","id":"1","payload":1,{auth}}}"#),
        ] {
            let told = of(&text).unwrap();
            assert_eq!(told, "authenticated as alice for 5 min; refresh the token in 4 min");
        }
        assert_eq!(of(r#"{"type":"reply","id":"1","payload":1}"#), None);
        assert!(of(r#"{"type":"auth.ok","id":"1"}"#).unwrap().contains("logged out"));
    }

    #[test]
    fn what_is_no_message_needs_no_word() {
        assert_eq!(of("nonsense"), None);
        assert_eq!(of(r#"{"type":"error","error":{"code":"bad_request"}}"#), None);
    }
}
