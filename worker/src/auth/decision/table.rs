//! `docs/authority.md` says of every case what becomes of it. Its table is written by [`decide`] itself:
//! `UPDATE=1 cargo test -p worker --lib authority`.

use std::fmt::Write as _;
use std::path::Path;

use super::tests::{NOBODY, ended, good, live, on, told_in_words, verified};
use super::*;

const BEGIN: &str = "<!-- what follows is written by a test, from the code that decides -->\n";
const END: &str = "<!-- to here -->\n";

const STRATEGIES: [Strategy; 3] = [Strategy::Both, Strategy::PerMessage, Strategy::Explicit];
const POLICIES: [Policy; 3] = [Policy::Ignore, Policy::Close, Policy::Reauthenticate];

/// A name, and what it stands for.
type Named<T> = (&'static str, T);

/// What is to be said of a grant for the token that was brought.
type Beside = fn(CurrentGrant) -> CurrentGrant;

fn brought() -> Vec<Named<(Proof, Beside)>> {
    let same: Beside = |authenticated| authenticated;
    vec![
        ("no token", (Proof::None, same)),
        ("the token of the connection's grant", (good("alice", "one"), same)),
        ("another good one, issued later", (good("alice", "two"), same)),
        (
            "a good one, issued earlier than the grant's",
            (good("alice", "two"), |authenticated| CurrentGrant {
                newer: true,
                ..authenticated
            }),
        ),
        ("an expired one", (Proof::Expired(verified("alice", "past")), same)),
        ("another identity's good one", (good("bob", "two"), same)),
        (
            "another identity's expired one",
            (Proof::Expired(verified("bob", "past")), same),
        ),
        ("a revoked one, expired or not", (Proof::Revoked, same)),
        (
            "one that is good in a moment",
            (
                Proof::NotYet {
                    reason: token::Reason::NotYetValid,
                    wait: std::time::Duration::from_secs(1),
                },
                same,
            ),
        ),
        (
            "one that proves nothing",
            (Proof::Invalid(token::Reason::Signature), same),
        ),
        ("one that cannot be judged now", (Proof::Unknown, same)),
    ]
}

fn connections() -> Vec<Named<Stand>> {
    let judged = |judgement| {
        on(live().map(|authenticated| CurrentGrant {
            judgement,
            ..authenticated
        }))
    };
    vec![
        ("no grant", NOBODY),
        ("a grant in force", on(live())),
        ("one that has expired", on(ended())),
        ("one that was revoked", judged(Judgement::Revoked)),
        ("one that cannot be judged now", judged(Judgement::Unknown)),
    ]
}

/// Whether there is such a case: a good token of the grant's means that the grant is in force.
fn is_possible(brought: &str, connection: &str) -> bool {
    match brought {
        "the token of the connection's grant" => connection == "a grant in force",
        "a good one, issued earlier than the grant's" => connection != "no grant",
        "another identity's good one" | "another identity's expired one" => connection != "no grant",
        _ => true,
    }
}

fn names(all: &[Strategy], most: usize) -> String {
    if all.len() == most {
        return "any".to_owned();
    }
    let names: Vec<_> = all.iter().map(|one| format!("`{}`", one.as_str())).collect();
    names.join(", ")
}

/// Rows in which all is alike but one cell are one row, which names both.
fn merged(rows: Vec<(String, String, String, [String; 3])>) -> Vec<(String, String, String, [String; 3])> {
    let mut merged: Vec<(String, String, String, [String; 3])> = Vec::new();
    for row in rows {
        match merged
            .iter_mut()
            .find(|one| one.0 == row.0 && one.2 == row.2 && one.3 == row.3)
        {
            Some(one) => one.1 = format!("{}; {}", one.1, row.1),
            None => merged.push(row),
        }
    }
    merged
}

fn table() -> String {
    let mut text = "| the message brings | its connection has | `strategy` | `ignore` | `close` | `reauthenticate` |\n|---|---|---|---|---|---|\n".to_owned();
    let mut rows = Vec::new();
    for (what, (proof, shown)) in brought() {
        for (connection, stand) in connections().into_iter().filter(|(name, _)| is_possible(what, name)) {
            let stand = Stand {
                authenticated: stand.authenticated.map(shown),
                ..stand
            };
            let case = |strategy, policy| Case {
                purpose: Purpose::Application,
                proof: proof.clone(),
                sender: Sender::Connection(stand),
                strategy,
                elevation: Elevation::Connection,
                policy,
                public: false,
            };
            let cells = |strategy| POLICIES.map(|policy| told_in_words(&case(strategy, policy)));
            let mut left = STRATEGIES.to_vec();
            if !matches!(proof, Proof::None) {
                // The page says so once.
                assert!(
                    POLICIES
                        .iter()
                        .all(|policy| told_in_words(&case(Strategy::Explicit, *policy)) == "`bad_request`")
                );
                left.pop();
            }
            let most = left.len();
            while let Some(first) = left.first().copied() {
                let alike: Vec<_> = left.iter().copied().filter(|one| cells(*one) == cells(first)).collect();
                left.retain(|one| !alike.contains(one));
                rows.push((
                    what.to_owned(),
                    connection.to_owned(),
                    names(&alike, most),
                    cells(first),
                ));
            }
        }
    }
    let mut last = String::new();
    for (what, connection, strategy, [ignore, close, reauthenticate]) in merged(rows) {
        let shown = if what == last { "" } else { what.as_str() };
        let possible = connections().into_iter().filter(|(name, _)| is_possible(&what, name));
        let every: Vec<_> = possible.map(|(name, _)| name).collect();
        let connection = if connection == every.join("; ") {
            "any of these"
        } else {
            &connection
        };
        writeln!(
            text,
            "| {shown} | {connection} | {strategy} | {ignore} | {close} | {reauthenticate} |"
        )
        .unwrap();
        last = what;
    }
    text
}

#[test]
fn the_page_on_authority_says_what_is_decided() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/authority.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the table has a beginning");
    let (_, after) = rest.split_once(END).expect("the table has an end");
    let wanted = format!("{before}{BEGIN}\n{}\n{END}{after}", table());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &wanted).unwrap();
        return;
    }
    assert!(
        page == wanted,
        "docs/authority.md is not what is decided: UPDATE=1 cargo test -p worker --lib authority"
    );
}
