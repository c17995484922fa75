//! A fleet is updated, and put back, one program at a time, while it works: programs of an earlier version beside these.
//!
//! `tests/upgrade/run REVISION` builds the earlier ones, and runs this.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tests::nodes::program::programs;
use tests::{Client, Load, Stack, token_for};

/// The folder of the earlier programs.
const EARLIER: &str = "COUNTERSIGN_TEST_EARLIER";

/// For all of a load on a slow machine.
const LIMIT: Duration = Duration::from_secs(180);

/// For what takes a moment.
const SOON: Duration = Duration::from_secs(30);

const CONNECTIONS: usize = 8;

/// How many messages are answered before a change, and after it.
const SOME: usize = 300;

fn load(stack: &Stack, terminator: usize) -> Load {
    Load::on([&stack.terminators()[terminator]], &token_for("alice").mint())
        .connections(CONNECTIONS)
        .messages(usize::MAX)
}

/// Two workers of the folder take over from those that there are, while messages come.
async fn replace_workers(stack: &mut Stack, folder: &Path) {
    let (last, olds) = (stack.terminators().len() - 1, stack.workers().len());
    let load = load(stack, last).start(LIMIT);
    load.until_answered(SOME).await;
    stack.programs_from(folder);
    stack.start_workers(2).await;
    load.until_answered(load.answered() + SOME).await;
    for old in olds - 2..olds {
        stack.worker(old).terminate();
        assert_eq!(stack.worker(old).wait_exit(SOON).await.code(), Some(0));
    }
    load.until_answered(load.answered() + SOME).await;
    load.enough();
    load.finish().await.assert_each_replied_once();
}

/// A terminator of the folder takes over from the one that there is, while messages come.
async fn replace_terminator(stack: &mut Stack, folder: &Path) {
    let old = stack.terminators().len() - 1;
    stack.programs_from(folder);
    stack.start_terminators(1).await;
    pushes_reach(stack, &[old, old + 1]).await;
    let load = load(stack, old).start(LIMIT);
    load.until_answered(SOME).await;
    stack.terminator(old).terminate();
    let tally = load.finish().await;
    assert_eq!(tally.broken, BTreeMap::from([(1012, CONNECTIONS)]), "{tally:?}");
    assert!(tally.refused.is_empty() && tally.answered_twice.is_empty() && tally.strayed.is_empty());
    tally.judgement.assert_sound();
    assert_eq!(stack.terminator(old).wait_exit(SOON).await.code(), Some(0));
}

/// A push reaches clients of each of these terminators, whatever version has it on its way.
async fn pushes_reach(stack: &Stack, terminators: &[usize]) {
    let token = token_for("alice").mint();
    let mut clients: Vec<Client> = Vec::new();
    for terminator in terminators {
        let mut client = stack.client_of(*terminator).await;
        assert_eq!(client.request("echo", Some(&token), json!(1)).await["type"], "reply");
        clients.push(client);
    }
    let mut backend = stack.producer().await;
    assert_eq!(backend.push_to("alice", "news").await, "delivered");
    for client in &mut clients {
        assert_eq!(client.next_of_type("push", SOON).await["payload"], "news");
    }
}

/// What an earlier version held for a client is released by this one, and the other way about.
async fn holds(stack: &Stack) {
    let mut backend = stack.producer().await;
    assert_eq!(backend.push_to("bob", "held").await, "held");
}

async fn releases(stack: &Stack) {
    let mut bob = stack.client_of(stack.terminators().len() - 1).await;
    let token = token_for("bob").mint();
    bob.request("echo", Some(&token), json!(1)).await;
    let held = bob.next_of_type("push", SOON).await;
    assert_eq!(held["payload"], "held");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the programs of an earlier version: tests/upgrade/run"]
async fn a_fleet_is_updated_and_put_back_one_program_at_a_time_and_every_message_is_answered() {
    let earlier = env::var_os(EARLIER).unwrap_or_else(|| panic!("{EARLIER} names the folder of the earlier programs"));
    let earlier = PathBuf::from(earlier);
    for workers_first in [true, false] {
        let mut stack = Stack::builder().terminators(0).workers(0).start().await;
        stack.programs_from(&earlier);
        stack.start_terminators(1).await;
        stack.start_workers(2).await;
        for folder in [programs(), &earlier] {
            holds(&stack).await;
            if workers_first {
                replace_workers(&mut stack, folder).await;
                replace_terminator(&mut stack, folder).await;
            } else {
                replace_terminator(&mut stack, folder).await;
                replace_workers(&mut stack, folder).await;
            }
            releases(&stack).await;
            load(&stack, stack.terminators().len() - 1)
                .messages(SOME)
                .run(LIMIT)
                .await
                .assert_each_replied_once();
            let logs = stack.terminators().iter().chain(stack.workers());
            let errors: Vec<_> = logs.flat_map(tests::Program::errors).collect();
            assert!(errors.is_empty(), "{errors:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_and_a_terminator_are_replaced_by_others_of_this_version() {
    let mut stack = Stack::builder().workers(2).start().await;
    holds(&stack).await;
    replace_workers(&mut stack, programs()).await;
    replace_terminator(&mut stack, programs()).await;
    releases(&stack).await;
}
