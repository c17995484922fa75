//! Asked to end, a program finishes what it has begun, within a deadline; asked twice, it ends at once.

use std::{sync::Arc, time::Duration};

use tests::peers::client::Received;
use tests::{Client, Load, Program, Span, Stack, Store, eventually, token_for};
use tokio::net::TcpStream;

use super::kills::{at_rest, in_flight};

/// For the orderly end of a program on a slow and busy machine; its own deadline comes on top.
const EXIT_LIMIT: Duration = Duration::from_secs(30);

/// How a program is asked to stop.
const WAYS: [fn(&mut Program); 2] = [Program::terminate, Program::interrupt];

/// So many clients of the first terminator, each with two messages on their way to a worker that is frozen.
async fn clients_that_wait(stack: &mut Stack, count: usize) -> Vec<(Client, [String; 2])> {
    let token = token_for("alice").mint();
    stack.worker(0).freeze().await;
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = stack.client().await;
        let ids = [
            client.ask("echo", Some(&token), 1.into()).await,
            client.ask("echo", Some(&token), 2.into()).await,
        ];
        clients.push((client, ids));
    }
    in_flight(&stack.terminators()[0], 2.0 * count as f64).await;
    clients
}

/// Waits until `/readyz` says that the program is about to end.
async fn not_ready(program: &Program) {
    eventually(10.s(), "it says that it is not ready", async || {
        let answer = program.get("/readyz").await;
        if answer.status == 503 { Ok(()) } else { Err(answer) }
    })
    .await;
}

#[tokio::test]
async fn a_terminator_that_drains_takes_nobody_new_answers_all_and_says_good_bye() {
    let mut stack = Stack::start().await;
    let waiting = clients_that_wait(&mut stack, 50).await;
    stack.terminator(0).terminate();
    not_ready(&stack.terminators()[0]).await;
    assert_eq!(stack.terminators()[0].get("/livez").await.status, 200);
    eventually(10.s(), "nobody new is taken", async || {
        TcpStream::connect(stack.terminators()[0].address()).await.is_err()
    })
    .await;
    // Until here no one was sent away: each still waits for its answers.
    in_flight(&stack.terminators()[0], 100.0).await;
    stack.worker(0).thaw();
    for (mut client, ids) in waiting {
        let answers = client.expect_close(1012, EXIT_LIMIT).await;
        let answered: Vec<_> = answers.iter().filter(|answer| answer["type"] == "reply").collect();
        assert_eq!(answered.len(), 2, "{answers:?}");
        assert!(
            ids.iter()
                .all(|id| answered.iter().any(|answer| answer["id"] == id.as_str()))
        );
    }
    let status = stack.terminator(0).wait_exit(EXIT_LIMIT).await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn who_comes_while_routing_moves_is_served() {
    let mut stack = Stack::builder().setting("drain-delay", "20s").start().await;
    let token = token_for("alice").mint();
    let mut before = stack.client().await;
    stack.terminator(0).terminate();
    not_ready(&stack.terminators()[0]).await;
    let mut newcomer = stack.client().await;
    for client in [&mut before, &mut newcomer] {
        assert_eq!(client.request("echo", Some(&token), 1.into()).await["type"], "reply");
    }
    for mut client in [before, newcomer] {
        client.expect_close(1012, EXIT_LIMIT).await;
    }
    assert_eq!(stack.terminator(0).wait_exit(EXIT_LIMIT).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminator_that_drains_under_load_closes_every_socket_in_good_order() {
    for ask in WAYS {
        let mut stack = Stack::builder().workers(2).start().await;
        let load = Load::on(stack.terminators(), &token_for("alice").mint())
            .connections(50)
            .messages(usize::MAX)
            .start(60.s());
        load.until_answered(500).await;
        ask(stack.terminator(0));
        let tally = load.finish().await;
        assert_eq!(tally.broken.get(&1012), Some(&50), "{:?}", tally.broken);
        assert!(tally.refused.is_empty() && tally.answered_twice.is_empty() && tally.strayed.is_empty());
        tally.judgement.assert_sound();
        assert_eq!(stack.terminator(0).wait_exit(EXIT_LIMIT).await.code(), Some(0));
        at_rest(&stack).await;
        // What it had forwarded was answered before it went.
        let mut handled = 0.0;
        for worker in stack.workers() {
            let metrics = worker.metrics().await;
            handled += metrics[r#"countersign_worker_messages_total{outcome="handled"}"#];
        }
        assert_eq!(handled, tally.replied as f64, "answers came too late");
    }
}

#[tokio::test]
async fn a_message_that_is_stuck_does_not_keep_a_terminator_beyond_its_deadline() {
    let mut stack = Stack::builder().setting("drain-timeout", "2s").start().await;
    let waiting = clients_that_wait(&mut stack, 5).await;
    stack.terminator(0).terminate();
    for (mut client, _) in waiting {
        assert!(client.expect_close(1012, EXIT_LIMIT).await.is_empty());
    }
    assert_eq!(stack.terminator(0).wait_exit(EXIT_LIMIT).await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_a_terminator_at_once() {
    for ask in WAYS {
        let mut stack = Stack::builder().setting("drain-timeout", "1h").start().await;
        let waiting = clients_that_wait(&mut stack, 2).await;
        ask(stack.terminator(0));
        not_ready(&stack.terminators()[0]).await;
        ask(stack.terminator(0));
        let status = stack.terminator(0).wait_exit(EXIT_LIMIT).await;
        assert_eq!(status.code(), Some(1), "it did not finish, and says so");
        for (mut client, _) in waiting {
            assert!(matches!(client.next(10.s()).await, Some(Received::Closed(_))));
        }
    }
}

#[tokio::test]
async fn a_worker_that_drains_answers_what_it_was_given() {
    for ask in WAYS {
        // Of which it is given an eighth before it is known how much is in each.
        let mut stack = Stack::builder()
            .setting("prefetch", "1024")
            .setting("order", "none")
            .start()
            .await;
        let waiting = clients_that_wait(&mut stack, 50).await;
        let queue = stack.queue().await;
        let messages = format!("{}.messages", stack.namespace());
        let confirmed = "countersign_terminator_publish_confirm_duration_seconds_count";
        eventually(10.s(), "all is given to the worker", async || {
            let confirmed = stack.terminators()[0].metric(confirmed).await;
            match (confirmed, queue.count(&messages).await) {
                (100.0, 0) => Ok(()),
                seen => Err(seen),
            }
        })
        .await;
        // It finds the signal and the messages at the same time.
        ask(stack.worker(0));
        stack.worker(0).thaw();
        assert_eq!(stack.worker(0).wait_exit(EXIT_LIMIT).await.code(), Some(0));
        for (mut client, ids) in waiting {
            for id in ids {
                assert_eq!(client.answer_to(&id, 10.s()).await["type"], "reply");
            }
        }
        // Of clients that have left a worker is told.
        stack.start_workers(1).await;
        at_rest(&stack).await;
    }
}

/// A client whose message waits in the worker for a store that is frozen.
async fn stuck_at_the_store(stack: &Stack) -> (Client, String) {
    stack.store().freeze().await;
    let mut client = stack.client().await;
    let id = client.ask("echo", Some(&token_for("alice").mint()), 1.into()).await;
    eventually(20.s(), "the worker has the message", async || {
        stack.workers()[0].metric("countersign_worker_in_flight").await == 1.0
    })
    .await;
    (client, id)
}

#[tokio::test]
async fn a_worker_that_drains_waits_for_a_store_that_is_slow() {
    let store = Arc::new(Store::start().await);
    let settings = Stack::builder().store(&store).setting("store-timeout", "3s");
    let mut stack = settings.start().await;
    let (mut client, id) = stuck_at_the_store(&stack).await;
    stack.worker(0).terminate();
    assert_eq!(client.answer_to(&id, 30.s()).await["error"]["code"], "auth_unavailable");
    assert_eq!(stack.worker(0).wait_exit(EXIT_LIMIT).await.code(), Some(0));
    store.thaw();
    stack.start_workers(1).await;
    at_rest(&stack).await;
}

#[tokio::test]
async fn what_a_worker_cannot_finish_in_time_goes_to_another() {
    let deadline = |settings: tests::stack::Builder| settings.setting("drain-timeout", "1s");
    let patient = |settings: tests::stack::Builder| settings.setting("drain-timeout", "1h");
    // By its deadline it has drained as far as it could; by a second signal it has not, and says so.
    for (limited, signals, status) in [(deadline as fn(_) -> _, 1, 0), (patient, 2, 1)] {
        let store = Arc::new(Store::start().await);
        let settings = Stack::builder().store(&store).setting("store-timeout", "1m");
        let mut stack = limited(settings).start().await;
        let (mut client, id) = stuck_at_the_store(&stack).await;
        stack.worker(0).terminate();
        if signals > 1 {
            not_ready(&stack.workers()[0]).await;
            stack.worker(0).terminate();
        }
        assert_eq!(stack.worker(0).wait_exit(EXIT_LIMIT).await.code(), Some(status));
        store.thaw();
        stack.start_workers(1).await;
        assert_eq!(client.answer_to(&id, 30.s()).await["type"], "reply");
        at_rest(&stack).await;
    }
}
