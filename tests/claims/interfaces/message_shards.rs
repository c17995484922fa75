//! Clients' messages in several queues: spread over them by connection, and none lost when their number changes.

use serde_json::json;
use tests::{Client, Span, Stack, eventually, token_for};

const SHARDS: u16 = 3;
const CLIENTS: usize = 6;

/// The queues by their names, the first of which is where all messages wait if there is only one.
fn queues(stack: &Stack) -> Vec<String> {
    let others = (1..SHARDS).map(|shard| format!("messages.{shard}"));
    let all = std::iter::once("messages".to_owned()).chain(others);
    all.map(|suffix| format!("{}.{suffix}", stack.namespace())).collect()
}

/// What waits in each.
async fn waiting(stack: &Stack) -> Vec<u32> {
    let looked = stack.queue().await;
    let mut counts = Vec::new();
    for queue in queues(stack) {
        counts.push(looked.count(&queue).await);
    }
    counts
}

async fn clients(stack: &Stack) -> Vec<Client> {
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = stack.client().await;
        // Authenticated, so that the first message is not all that is under way.
        client.authenticate(&token_for(&format!("user{number}")).mint()).await;
        clients.push(client);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_wait_in_as_many_queues_as_there_are_to_be_and_workers_that_know_of_fewer_take_from_all() {
    let mut stack = Stack::builder()
        .setting("message-shards", &SHARDS.to_string())
        // The broker counts AMQP messages.
        .setting("batch", "off")
        .start()
        .await;
    let mut clients = clients(&stack).await;
    stack.worker(0).kill();
    stack.worker(0).wait_exit(30.s()).await;
    let mut asked = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        asked.push(client.ask("echo", None, json!(number)).await);
    }
    let share = u32::try_from(CLIENTS).expect("a few") / u32::from(SHARDS);
    // Besides, what the worker had answered and not yet acknowledged comes again.
    eventually(30.s(), "each queue has its share", async || {
        let counts = waiting(&stack).await;
        let has_share = counts.iter().all(|count| *count >= share);
        if has_share { Ok(()) } else { Err(counts) }
    })
    .await;
    // As an operator lowers it on the workers first, which is the wrong way round.
    stack.set_for_workers("message-shards", "1");
    stack.start_workers(1).await;
    for (number, (client, id)) in clients.iter_mut().zip(&asked).enumerate() {
        let reply = client.answer_to(id, 60.s()).await;
        assert_eq!((&reply["type"], &reply["payload"]), (&json!("reply"), &json!(number)));
    }
    for (number, client) in clients.iter_mut().enumerate() {
        let reply = client.request("echo", None, json!(number)).await;
        assert_eq!(reply["payload"], number);
        client.expect_nothing_shown().await;
    }
    assert_eq!(waiting(&stack).await, [0; SHARDS as usize]);
}
