//! The connections of an identity.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use shared::service::clock::{Clock as _, SystemClock, Timestamp};
use worker::auth::identity::{Issuer, tag_of};
use worker::store::{Registered, Store};

use super::connection;
use super::connection_info::{self, Known};
use crate::support::print;
use crate::support::store::{IssuerArgs, StoreArgs};

pub(super) const EXAMPLES: &str = "\
Examples:
  countersign inspect identity alice
  countersign inspect identity alice --issuer https://id.example
  countersign inspect identity alice --json | jq -r '.connections[].connection'

Connections that have expired lately are listed, too; those of a terminator that died for another 30 s at most.

Exit status: 0 it has connections, 1 it has none, 2 the store could not be asked.";

/// The arguments of `inspect identity`.
#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// The subject, exactly as in the claim `sub`.
    subject: String,
    #[command(flatten)]
    issuers: IssuerArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON, an object for each issuer on a line of its own.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: IdentityArgs) -> anyhow::Result<ExitCode> {
    let store = args.store.open().await?;
    let mut none = true;
    for issuer in &args.issuers.issuer {
        let view = View::of(&*store, &args, issuer).await?;
        none &= view.connections.is_empty();
        if args.json {
            print::line(&view.to_json().to_string());
        } else {
            print::line(&view.describe(SystemClock.now()));
        }
    }
    Ok(ExitCode::from(u8::from(none)))
}

/// What is known of one identity.
struct View<'a> {
    subject: &'a str,
    issuer: &'a str,
    /// Those that live longest first.
    connections: Vec<Known>,
    held: u64,
}

impl<'a> View<'a> {
    async fn of(store: &dyn Store, args: &'a IdentityArgs, issuer: &'a str) -> anyhow::Result<Self> {
        let identity = tag_of(&Issuer::new(issuer), &args.subject);
        let mut registered = store.connections(identity).await?;
        registered.sort_by_key(|entry: &Registered| (std::cmp::Reverse(entry.until), entry.connection));
        let mut connections = Vec::new();
        for entry in registered {
            connections.push(Known::look(store, entry.connection, SystemClock.now(), args.store.jwt_leeway).await?);
        }
        Ok(Self {
            subject: &args.subject,
            issuer,
            connections,
            held: connection_info::held_writes(store, identity.into()).await?,
        })
    }

    fn to_json(&self) -> serde_json::Value {
        json!({
            "subject": self.subject,
            "issuer": self.issuer,
            "connections": self.connections.iter().map(Known::to_json).collect::<Vec<_>>(),
            "held": {"pushes": self.held},
        })
    }

    fn describe(&self, now: Timestamp) -> String {
        let (subject, issuer) = (self.subject, self.issuer);
        let count = match self.connections.len() {
            0 => "no connection".to_owned(),
            1 => "1 connection".to_owned(),
            several => format!("{several} connections"),
        };
        let mut text = format!("{subject} of {issuer}: {count}, {} pushes held for it", self.held);
        if self.connections.is_empty() && self.held == 0 {
            text.push_str("\nThe issuer must be the very claim `iss` of its tokens; --issuer says another.");
        }
        for known in &self.connections {
            text.push_str("\n\n");
            text.push_str(&connection::describe(known, now));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_found_is_told_about_the_issuer() {
        let view = View {
            subject: "alice",
            issuer: "countersign-dev",
            connections: Vec::new(),
            held: 0,
        };
        let text = view.describe(Timestamp::from_secs(0));
        assert!(
            text.starts_with("alice of countersign-dev: no connection, 0 pushes held"),
            "{text}"
        );
        assert!(text.contains("--issuer"), "{text}");
        assert_eq!(view.to_json()["held"]["pushes"], 0);
    }
}
