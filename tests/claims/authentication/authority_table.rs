//! Each cell of the table in `docs/authority.md`, from outside: what is written there happens on a socket.
//!
//! The page's table is written by the code that decides, so here nothing of that is asked.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::tokens::token::Builder;
use tests::{Client, Span, Stack, token_for};

use super::expiry::SOON;

const STRATEGIES: [&str; 3] = ["both", "per-message", "explicit"];
const POLICIES: [&str; 3] = ["ignore", "close", "reauthenticate"];
const CONNECTIONS: [&str; 3] = ["no grant", "a grant in force", "one that has expired"];

/// The cells of the page: what becomes of a message that brings this, on such a connection, by strategy and policy.
fn page() -> BTreeMap<(String, String, &'static str, &'static str), String> {
    let page = include_str!("../../../docs/authority.md");
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("| the message brings"));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let (mut cells, mut brought) = (BTreeMap::new(), String::new());
    for row in rows {
        let columns: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [what, connections, strategies, policies @ ..] = columns.as_slice() else {
            panic!("it is no row: {row}")
        };
        if !what.is_empty() {
            brought = (*what).to_owned();
        }
        for connection in CONNECTIONS {
            let possible = match &*brought {
                "the token of the connection's grant" => connection == "a grant in force",
                earlier if earlier.contains("grant's") || earlier.starts_with("another identity's") => {
                    connection != "no grant"
                }
                _ => true,
            };
            if !possible || *connections != "any of these" && !connections.split("; ").any(|one| one == connection) {
                continue;
            }
            for strategy in STRATEGIES {
                // A token is taken with `auth.authenticate` alone: the page says so once.
                let explicit = strategy == "explicit" && brought != "no token";
                if explicit || *strategies != "any" && !strategies.contains(&format!("`{strategy}`")) {
                    continue;
                }
                for (policy, cell) in POLICIES.iter().zip(policies) {
                    let key = (brought.clone(), connection.to_owned(), strategy, *policy);
                    cells.insert(key, (*cell).to_owned());
                }
            }
        }
    }
    cells
}

fn alice(mark: &str) -> Builder<'static> {
    token_for("alice")
        .claim("mark", mark)
        .claim("roles", json!([mark, "both"]))
}

fn ago(builder: Builder<'static>, seconds: u64) -> Builder<'static> {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    builder.claim("iat", now.as_secs() - seconds)
}

/// The token that a row names, and nothing where it names none. `grant` is that of the connection.
fn token(brought: &str, grant: &str) -> Option<String> {
    let own = || alice("own");
    Some(match brought {
        "no token" => return None,
        "the token of the connection's grant" => grant.to_owned(),
        "another good one, issued later" => own().mint(),
        "a good one, issued earlier than the grant's" => ago(own(), 600).expiring_in(60.s()).mint(),
        "an expired one" => own().expired_since(60.s()).mint(),
        "another identity's good one" => token_for("bob").mint(),
        "another identity's expired one" => token_for("bob").expired_since(60.s()).mint(),
        "a revoked one, expired or not" => own().claim("jti", "revoked").mint(),
        "one that is good in a moment" => {
            let begins = std::time::SystemTime::now() + 50.s();
            let begins = begins.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
            own().claim("nbf", begins.as_secs()).mint()
        }
        "one that proves nothing" => format!("{}x", own().mint()),
        // The page tells it; keys that cannot be had are another claim's.
        "one that cannot be judged now" => return None,
        other => panic!("what is {other}?"),
    })
}

async fn cell(stack: &Stack, brought: &str, connection: &str, expected: &str) -> Result<(), String> {
    let mut client = stack.client().await;
    // What was issued a while ago and lasts is what later ones are newer than, and earlier ones older.
    let grant = ago(alice("grant"), 300);
    let grant = match connection {
        "one that has expired" => grant.expiring_in(2.s()),
        _ => grant.expiring_in(600.s()),
    };
    let text = grant.mint();
    if connection != "no grant" {
        client.authenticate(&text).await;
    }
    if connection == "one that has expired" {
        grant.expired().await;
    }
    let id = client.ask("claims", token(brought, &text).as_deref(), json!(1)).await;
    let told = match expected.split_once(", 4") {
        Some((_, code)) => {
            let code = format!("4{code}").parse().expect("a close code");
            let before = client.expect_close(code, SOON).await;
            let answer = before.iter().find(|message| message["id"] == id.as_str());
            let code_of = answer.and_then(|answer| answer["error"]["code"].as_str());
            format!("`{}`, {code}", code_of.unwrap_or("no answer"))
        }
        None if expected.starts_with("held") => {
            let reason = if connection == "no grant" && brought == "no token" {
                "missing"
            } else {
                "expired"
            };
            client.expect_required(reason, SOON).await;
            // With its claims: it does no more than they allow. Without: what the next token allows.
            client.authenticate(&alice("next").mint()).await;
            let answer = client.answer_to(&id, SOON).await;
            match answer["payload"]["roles"].as_array().map(Vec::as_slice) {
                Some([next, both]) if next == "next" && both == "both" => "held".to_owned(),
                Some([both]) if both == "both" => "held, with its claims".to_owned(),
                _ => format!("{answer}"),
            }
        }
        None => {
            let answer = client.answer_to(&id, SOON).await;
            match (answer["error"]["code"].as_str(), answer["payload"]["mark"].as_str()) {
                (Some(code), _) => format!("`{code}`"),
                (None, Some("grant")) if brought == "no token" => "by the grant".to_owned(),
                (None, Some("own" | "grant")) if is_grant_now(&mut client, &answer).await => {
                    "by its own token, which becomes the grant".to_owned()
                }
                (None, Some("own" | "grant")) => "by its own token".to_owned(),
                _ => format!("{answer}"),
            }
        }
    };
    if told == expected {
        Ok(())
    } else {
        Err(format!("{brought}, {connection}: {expected:?}, and was {told:?}"))
    }
}

/// Whether what it was handled by became the connection's: then its answer tells of that.
async fn is_grant_now(client: &mut Client, answer: &Value) -> bool {
    client.expect_nothing_shown().await;
    !answer["auth"].is_null()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_page_says_happens() {
    let cells = page();
    assert!(cells.len() > 120, "the claim has gone blind: {}", cells.len());
    for strategy in STRATEGIES {
        for policy in POLICIES {
            let stack = Stack::builder()
                .poisoned_workers(2)
                .setting("jwt-leeway", "0s")
                .setting("strategy", strategy)
                .setting("on-unauthenticated", policy)
                .setting("on-expired-push", "ignore")
                .start()
                .await;
            stack.producer().await.revoke(&json!({"jti": "revoked"})).await;
            let of_both = cells
                .iter()
                .filter(|((_, _, one, other), _)| *one == strategy && *other == policy);
            let wanted = of_both.filter(|((brought, ..), _)| brought != "one that cannot be judged now");
            let done = join_all(
                wanted.map(|((brought, connection, ..), expected)| cell(&stack, brought, connection, expected)),
            );
            let wrong: Vec<_> = done.await.into_iter().filter_map(Result::err).collect();
            assert_eq!(wrong, Vec::<String>::new(), "{strategy}, {policy}");
        }
    }
}
