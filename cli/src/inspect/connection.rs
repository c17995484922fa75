//! One connection.

use std::process::ExitCode;

use clap::Args;
use shared::service::clock::{Clock as _, SystemClock, Timestamp};
use shared::wire::id::ConnectionId;
use worker::store::{HeldMessage, RecordedState};

use super::connection_info::{self, Known};
use crate::support::store::StoreArgs;
use crate::support::{human, print};

pub(super) const EXAMPLES: &str = "\
Examples:
  countersign inspect connection 0f3c9a2b7d51e604.1f
  countersign inspect connection 0f3c9a2b7d51e604.1f --json | jq .held

Exit status: 0 something is known of it, 1 nothing is, 2 the store could not be asked.";

/// The arguments of `inspect connection`.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// The connection's id: logs have it, and `inspect identity` lists it.
    #[arg(value_name = "ID", value_parser = human::parse_connection)]
    connection: ConnectionId,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ConnectionArgs) -> anyhow::Result<ExitCode> {
    let store = args.store.open().await?;
    let now = SystemClock.now();
    let known = Known::look(&*store, args.connection, now, args.store.jwt_leeway).await?;
    if args.json {
        print::line(&known.to_json().to_string());
    } else {
        print::line(&describe(&known, now));
    }
    let unknown = known.state == RecordedState::Unknown && known.held_messages.is_empty() && known.held_answers == 0;
    Ok(ExitCode::from(u8::from(unknown)))
}

/// What is known of a connection, on a few lines.
pub(super) fn describe(known: &Known, now: Timestamp) -> String {
    let mut lines = vec![
        format!("connection  {}", known.connection),
        format!("state       {}", connection_info::describe(&known.state, now)),
        format!("held in     {}", known.held_messages.len()),
    ];
    lines.extend(
        known
            .held_messages
            .iter()
            .map(|held| format!("  {}", describe_held(held, now))),
    );
    lines.push(format!(
        "answers     {} held, for this connection and the one that takes over from it",
        known.held_answers
    ));
    if let Some(pushes) = known.held_pushes {
        lines.push(format!("pushes      {pushes} held for the identity, on any connection"));
    }
    if let Some(successor) = known.successor {
        lines.push(format!("taken over  by {successor}"));
    }
    lines.join("\n")
}

/// A held message without its payload, which is no one's business but the handler's.
fn describe_held(held: &HeldMessage, now: Timestamp) -> String {
    let id = held
        .id
        .as_ref()
        .map(|id| format!(" id {:?}", id.as_str()))
        .unwrap_or_default();
    let recipient = if held.owner.is_some() {
        ""
    } else {
        ", for the identity that authenticates here"
    };
    format!(
        "message {}{id}, type {:?}, {} bytes, {}{recipient}",
        held.sequence,
        held.kind,
        connection_info::bytes(held),
        human::relative(held.since, now)
    )
}

#[cfg(test)]
mod tests {
    use shared::wire::id::Sequence;

    use super::*;

    #[test]
    fn a_held_message_is_told_without_its_payload() {
        let held = HeldMessage {
            sequence: Sequence::new(3),
            id: Some(shared::wire::request_id::RequestId::text("order-7")),
            kind: "order".to_owned(),
            payload: Some(r#"{"card":"4111"}"#.to_owned()),
            token_id: None,
            session: None,
            issued_at: None,
            allowed: None,
            client: None,
            owner: None,
            since: Timestamp::from_secs(940),
            unauthenticated: false,
            deadline: None,
            trace: None,
        };
        let known = Known {
            connection: "0123456789abcdef.1f".parse().unwrap(),
            state: RecordedState::Unknown,
            held_messages: vec![held],
            held_answers: 2,
            held_pushes: None,
            successor: None,
        };
        let text = describe(&known, Timestamp::from_secs(1_000));
        let line =
            "message 3 id \"order-7\", type \"order\", 15 bytes, 1 min ago, for the identity that authenticates here";
        assert!(text.contains(line), "{text}");
        let json = known.to_json();
        assert_eq!(
            json["held"],
            serde_json::json!({"inbound": 1, "answers": 2, "pushes": null})
        );
        assert!(text.contains("answers     2 held"), "{text}");
        assert!(!format!("{text}{json}").contains("4111"));
    }
}
