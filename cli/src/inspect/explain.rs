//! `countersign explain`: why a message was held, refused or let go, and why a socket was closed.
//!
//! Workers note what they decide where it is out of the ordinary, for an hour.
//! What was simply handled is not in there, and neither is any token.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};
use shared::service::clock::{Clock as _, SystemClock, Timestamp};
use shared::wire::id::ConnectionId;
use shared::wire::protocol::Reason;
use worker::auth::identity::{Issuer, tag_of};
use worker::store::{Decision, RecordedState, Store};

use super::connection_info;
use crate::support::store::{IssuerArgs, StoreArgs};
use crate::support::{human, print};

pub(crate) const EXAMPLES: &str = "\
Examples:
  countersign explain 0f3c9a2b7d51e604.1f                      a connection: logs have its id, clients in auth.resume
  countersign explain 0f3c9a2b7d51e604.1f --message order-7    one message, by its own id or its sequence
  countersign explain alice                                    all connections of a subject, those of the last hour too
  countersign explain alice --json | jq -r '.decisions[] | [.what, .why] | @tsv'

The last 64 decisions of each connection are kept for an hour. What was simply handled is not noted.

Exit status: 0 there is something to tell, 1 nothing, 2 the store could not be asked.";

/// About what.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    about: AboutArgs,
    #[command(flatten)]
    issuers: IssuerArgs,
    /// Show only decisions about this message: its `id`, or its sequence number.
    #[arg(long, value_name = "ID|SEQUENCE")]
    message: Option<String>,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON, an object for each connection on a line of its own.
    #[arg(long)]
    json: bool,
}

/// A connection, or all of a subject.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AboutArgs {
    /// A connection's id, or a subject as in the claim `sub`.
    #[arg(value_name = "CONNECTION|SUBJECT")]
    about: Option<String>,
    /// A subject, whatever it looks like.
    #[arg(long)]
    subject: Option<String>,
    /// A connection's id.
    #[arg(long, value_name = "ID", value_parser = human::parse_connection)]
    connection: Option<ConnectionId>,
}

/// What is meant by them.
enum About<'a> {
    Connection(ConnectionId),
    Subject(&'a str),
}

/// What was decided about one connection.
struct Story {
    connection: ConnectionId,
    state: RecordedState,
    /// Oldest first.
    decisions: Vec<Decision>,
}

/// Runs it.
///
/// # Errors
/// If the store does not answer.
pub(crate) async fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let store = args.store.open().await?;
    let about = args.about.read();
    let connections = match about {
        About::Connection(connection) => vec![connection],
        About::Subject(subject) => args.connections(&*store, subject).await?,
    };
    if let About::Subject(subject) = about
        && connections.is_empty()
        && !args.json
    {
        print::note(&format!(
            "no connection of {} is known, of {}, not within the last hour either; if the subject is right, --issuer says \
             another issuer",
            subject,
            args.issuers.issuer.join(" or ")
        ));
    }
    let is_of_subject = matches!(about, About::Subject(_));
    let mut told = 0;
    for connection in connections {
        let story = args.story(&*store, connection).await?;
        // Of one that is gone, without a word to say of it, no one wants to hear.
        let is_gone = matches!(story.state, RecordedState::Closed { .. } | RecordedState::Unknown);
        if story.decisions.is_empty() && is_of_subject && is_gone {
            continue;
        }
        told += story.decisions.len();
        if args.json {
            print::line(&story.to_json().to_string());
        } else {
            print::line(&story.tell(SystemClock.now(), args.message.as_deref()));
        }
    }
    Ok(ExitCode::from(u8::from(told == 0)))
}

impl AboutArgs {
    fn read(&self) -> About<'_> {
        let about = self.about.as_deref().or(self.subject.as_deref()).unwrap_or_default();
        let named = self.about.as_deref().and_then(|about| about.parse().ok());
        match self.connection.or(named) {
            Some(connection) => About::Connection(connection),
            None => About::Subject(about),
        }
    }
}

impl ExplainArgs {
    async fn connections(&self, store: &dyn Store, subject: &str) -> anyhow::Result<Vec<ConnectionId>> {
        let mut connections = Vec::new();
        for issuer in &self.issuers.issuer {
            let identity = tag_of(&Issuer::new(issuer.as_str()), subject);
            let registered = store.connections(identity).await?;
            connections.extend(registered.into_iter().map(|entry| entry.connection));
            connections.extend(store.closed_lately(identity).await?);
        }
        connections.sort_unstable();
        connections.dedup();
        Ok(connections)
    }

    async fn story(&self, store: &dyn Store, connection: ConnectionId) -> anyhow::Result<Story> {
        let recorded = store.authentication(connection).await?;
        let mut decisions = store.decisions(connection).await?;
        if let Some(message) = &self.message {
            decisions.retain(|decision| is_about(decision, message));
        }
        Ok(Story {
            connection,
            state: RecordedState::of(recorded, SystemClock.now(), self.store.jwt_leeway),
            decisions,
        })
    }
}

/// Whether a decision is about the message that a person calls so.
fn is_about(decision: &Decision, message: &str) -> bool {
    let sequence = decision.sequence.map(|sequence| sequence.to_string());
    decision.id.as_deref() == Some(message) || sequence.as_deref() == Some(message)
}

impl Story {
    fn to_json(&self) -> Value {
        let decisions: Vec<Value> = self.decisions.iter().map(Decision::to_json).collect();
        json!({"connection": self.connection, "state": self.state.as_str(), "decisions": decisions})
    }

    fn tell(&self, now: Timestamp, message: Option<&str>) -> String {
        let mut lines = vec![
            format!("connection {}", self.connection),
            format!("  now: {}", connection_info::describe(&self.state, now)),
        ];
        if self.decisions.is_empty() {
            let about = message.map_or_else(String::new, |message| format!(" about message {message:?}"));
            lines.push(format!(
                "  nothing is noted{about}: nothing but ordinary handling in the last hour, or it is not known here"
            ));
        }
        lines.extend(self.decisions.iter().map(|decision| tell_decision(decision, now)));
        lines.join("\n")
    }
}

/// `14:03:07.120  2 min ago        held      message 7 "order-7"  its token has expired`.
fn tell_decision(decision: &Decision, now: Timestamp) -> String {
    let Decision {
        at,
        sequence,
        id,
        what,
        why,
    } = decision;
    let message = match (sequence, id) {
        (Some(sequence), Some(id)) => format!("message {sequence} {id:?}"),
        (Some(sequence), None) => format!("message {sequence}"),
        (None, Some(id)) => format!("message {id:?}"),
        (None, None) => "the connection".to_owned(),
    };
    let ago = human::relative(*at, now);
    let why = in_words(why);
    format!(
        "  {}  {ago:<18}  {what:<9}  {message:<24}  {why}",
        human::time_of_day(*at)
    )
}

/// The words of `auth.required` in a sentence; what else there is says it itself.
fn in_words(why: &str) -> &str {
    match why.parse() {
        Ok(Reason::Missing) => "no token authenticated it: it had none, and its connection's did not count",
        Ok(Reason::Expired) => "the token had expired",
        Ok(Reason::Expiring) => "the token was about to expire",
        Ok(Reason::Revoked) => "the token was revoked",
        Err(_) => why,
    }
}

#[cfg(test)]
mod tests {
    use shared::wire::id::Sequence;

    use super::*;

    fn held() -> Decision {
        Decision {
            at: Timestamp::from_millis(951_825_599_120),
            sequence: Some(Sequence::new(7)),
            id: Some("order-7".to_owned()),
            what: "held".to_owned(),
            why: "its token has expired".to_owned(),
        }
    }

    fn story(decisions: Vec<Decision>) -> Story {
        Story {
            connection: "0123456789abcdef.1f".parse().unwrap(),
            state: RecordedState::Unknown,
            decisions,
        }
    }

    #[test]
    fn a_decision_is_told_with_its_time_its_message_and_its_reason() {
        let text = story(vec![held()]).tell(Timestamp::from_secs(951_825_719), None);
        let last = text.lines().last().unwrap();
        for part in [
            "11:59:59.120",
            "1 min 59 s ago",
            "held",
            "message 7 \"order-7\"",
            "its token has expired",
        ] {
            assert!(last.contains(part), "{last}");
        }
        let json = story(vec![held()]).to_json();
        assert_eq!(json["decisions"][0]["sequence"], 7);
    }

    #[test]
    fn a_word_of_the_protocol_is_told_in_a_sentence() {
        assert!(in_words("missing").starts_with("no token"));
        assert_eq!(in_words("token_expired"), "token_expired");
    }

    #[test]
    fn what_looks_like_a_connection_is_one_unless_it_is_said_to_be_a_subject() {
        #[derive(clap::Parser)]
        struct CommandLine {
            #[command(flatten)]
            about: AboutArgs,
        }
        let is_connection = |flags: &[&str]| {
            let line = std::iter::once("explain").chain(flags.iter().copied());
            let about = <CommandLine as clap::Parser>::try_parse_from(line).unwrap().about;
            matches!(about.read(), About::Connection(_))
        };
        assert!(is_connection(&["0123456789abcdef.1f"]) && is_connection(&["--connection", "0123456789abcdef.1f"]));
        assert!(!is_connection(&["alice"]) && !is_connection(&["--subject", "0123456789abcdef.1f"]));
    }

    #[test]
    fn a_message_is_called_by_its_id_or_its_sequence() {
        assert!(is_about(&held(), "order-7") && is_about(&held(), "7"));
        assert!(!is_about(&held(), "order") && !is_about(&held(), "8"));
    }

    #[test]
    fn where_nothing_is_noted_that_is_said() {
        let text = story(Vec::new()).tell(Timestamp::from_secs(0), Some("x"));
        assert!(text.contains("nothing is noted about message \"x\""), "{text}");
    }
}
