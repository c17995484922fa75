//! The broker dies, freezes or chokes: each message is answered or refused as `busy`, none is answered twice, and
//! everything goes on by itself when the broker is back.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tests::peers::load::Running;
use tests::{Broker, Load, Program, Span, Stack, eventually, token_for};
use tokio::time::{Instant, sleep};

use super::kills::at_rest;

/// For a whole load and the harm that is done to it, on a slow and busy machine.
const LIMIT: Duration = Duration::from_secs(150);

/// From the moment that the broker works again to the moment that messages are answered again.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);

/// A stack on a broker of its own, which keeps its queues whatever befalls it from now on.
async fn with_its_own_broker(workers: usize, patience: &str) -> Stack {
    on(&Arc::new(Broker::start().await), workers, patience).await
}

async fn on(broker: &Arc<Broker>, workers: usize, patience: &str) -> Stack {
    // Anyone who is refused as `busy` asks again at once here, faster than a client may.
    let settings = Stack::builder().broker(broker).workers(workers);
    let settings = settings.setting("messages-per-second", "off");
    let stack = settings.setting("publish-timeout", patience).start().await;
    broker.settle().await;
    stack
}

/// A load, and a moment in the midst of it.
async fn busy(stack: &Stack) -> Running {
    let load = Load::on(stack.terminators(), &token_for("alice").mint())
        .connections(20)
        .messages(usize::MAX)
        .start(LIMIT);
    load.until_answered(500).await;
    load
}

/// The broker works again as of now.
async fn recovers(stack: &Stack, load: Running, harm: &str) {
    let (before, back) = (load.answered(), Instant::now());
    eventually(RECOVERY_LIMIT, "messages are answered again", async || {
        load.answered() >= before + 20
    })
    .await;
    println!("{harm}: messages were answered again after {:?}", back.elapsed());
    load.until_answered(before + 500).await;
    load.enough();
    let tally = load.finish().await;
    println!(
        "{harm}: {} sent, {} replied, {:?} refused",
        tally.sent, tally.replied, tally.refused
    );
    tally.assert_each_answered_once();
    assert!(tally.broken.is_empty(), "connections were lost: {:?}", tally.broken);
    assert!(tally.refused.keys().all(|code| code == "busy"), "{:?}", tally.refused);
    at_rest(stack).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_and_comes_back_loses_nothing() {
    let stack = with_its_own_broker(2, "30s").await;
    let load = busy(&stack).await;
    stack.broker().restart().await;
    recovers(&stack, load, "killed").await;
    for (kind, programs) in [("terminator", stack.terminators()), ("worker", stack.workers())] {
        for program in programs {
            reconnected(kind, program).await;
        }
    }
}

/// Waits until the program has counted that it is there again: messages may be answered while one of several workers
/// still waits out its back-off.
async fn reconnected(kind: &str, program: &Program) {
    let of_broker = |name: &str| format!("countersign_{kind}_broker_{name}");
    let what = format!("the {kind} has counted its reconnect, and is up");
    eventually(RECOVERY_LIMIT, &what, async || {
        let reconnects = program.metric(&of_broker("reconnects_total")).await;
        let up = program.metric(&of_broker("up")).await;
        if reconnects >= 1.0 && up == 1.0 {
            Ok(())
        } else {
            Err((reconnects, up))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_freezes_and_thaws_loses_nothing() {
    let broker = Arc::new(Broker::start().await);
    // Anyone who has no patience refuses what the broker then confirms after all, and must drop its answer.
    for patience in ["1m", "2s"] {
        let stack = on(&broker, 2, patience).await;
        let load = busy(&stack).await;
        broker.freeze().await;
        sleep(10.s()).await;
        broker.thaw();
        recovers(&stack, load, &format!("frozen, patience {patience}")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_out_of_memory_holds_everybody_up_and_loses_nothing() {
    let broker = Arc::new(Broker::start().await);
    for patience in ["1m", "2s"] {
        let mut stack = on(&broker, 2, patience).await;
        let load = busy(&stack).await;
        broker.memory_alarm(true).await;
        blames_the_broker(&stack.terminators()[0]).await;
        if patience == "2s" {
            let mut client = stack.client().await;
            let told = client.request("echo", Some(&token_for("bob").mint()), 1.into()).await;
            assert_eq!(told["error"]["code"], "busy", "{told}");
        }
        broker.memory_alarm(false).await;
        recovers(&stack, load, &format!("out of memory, patience {patience}")).await;
        stack.terminator(0).ready().await;
    }
}

#[tokio::test]
async fn programs_end_in_good_order_while_the_broker_is_away() {
    let mut stack = with_its_own_broker(1, "30s").await;
    let mut idle = stack.client().await;
    let mut asking = stack.client().await;
    let token = token_for("alice").mint();
    assert_eq!(asking.request("echo", Some(&token), 1.into()).await["payload"], 1);
    stack.broker().kill();
    blames_the_broker(&stack.terminators()[0]).await;
    asking.ask("echo", Some(&token), 2.into()).await;
    stack.terminator(0).terminate();
    stack.worker(0).terminate();
    for client in [&mut idle, &mut asking] {
        client.expect_close(1012, LIMIT).await;
    }
    assert_eq!(stack.terminator(0).wait_exit(LIMIT).await.code(), Some(0));
    assert_eq!(stack.worker(0).wait_exit(LIMIT).await.code(), Some(0));
}

/// Waits until the program is not ready, because of the broker.
async fn blames_the_broker(program: &Program) {
    eventually(20.s(), "the program says that the broker is away", async || {
        let answer = program.get("/readyz").await;
        let report: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let broker = &report["checks"]["broker"];
        let blamed = answer.status == 503 && broker.is_string() && broker != "ok";
        if blamed { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn a_broker_away_for_too_long_is_told_to_clients_who_are_served_when_it_is_back() {
    let mut stack = with_its_own_broker(1, "2s").await;
    let token = token_for("alice").mint();
    let mut client = stack.client().await;
    assert_eq!(client.request("echo", Some(&token), 1.into()).await["payload"], 1);

    stack.broker().kill();
    let busy = client.request("echo", Some(&token), 2.into()).await;
    assert_eq!(busy["error"]["code"], "busy", "{busy}");
    assert_eq!(busy["error"]["temporary"], true, "{busy}");
    // From now on no one's patience is tried: ten in a row take less than two of them would, had they to wait.
    let started = Instant::now();
    for number in 0..10 {
        let busy = client.request("echo", Some(&token), number.into()).await;
        assert_eq!(busy["error"]["code"], "busy", "{busy}");
    }
    assert!(started.elapsed() < 4.s(), "refused after {:?}", started.elapsed());
    let mut newcomer = stack.client().await;
    assert_eq!(
        newcomer.request("echo", Some(&token), 3.into()).await["error"]["code"],
        "busy"
    );
    blames_the_broker(&stack.terminators()[0]).await;
    blames_the_broker(&stack.workers()[0]).await;

    stack.broker().restart().await;
    for client in [&mut client, &mut newcomer] {
        eventually(RECOVERY_LIMIT, "the same connection is served", async || {
            let answer = client.request("echo", Some(&token), 4.into()).await;
            if answer["type"] == "reply" { Ok(()) } else { Err(answer) }
        })
        .await;
    }
    stack.terminator(0).ready().await;
    stack.worker(0).ready().await;
    at_rest(&stack).await;
}

#[tokio::test]
async fn programs_that_start_before_the_broker_are_ready_when_it_is() {
    let broker = Arc::new(Broker::start().await);
    let mut stack = Stack::builder().broker(&broker).terminators(0).workers(0).start().await;
    broker.kill();
    stack.spawn_terminators(1);
    stack.spawn_workers(1);
    for program in stack.terminators().iter().chain(stack.workers()) {
        eventually(30.s(), "it says where it listens", async || program.is_listening()).await;
        blames_the_broker(program).await;
        assert_eq!(program.get("/livez").await.status, 200);
    }
    // A client who comes too early waits, and is served.
    let mut client = stack.client().await;
    let id = client.ask("echo", Some(&token_for("alice").mint()), 1.into()).await;
    broker.restart().await;
    assert_eq!(client.answer_to(&id, 30.s()).await["payload"], 1);
    stack.terminator(0).ready().await;
    stack.worker(0).ready().await;
}
