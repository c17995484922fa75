//! A socket is alive both ways, whatever its messages wait for.

use std::sync::Arc;

use serde_json::json;
use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::{Broker, Program, Span, Stack, eventually, token_for};

/// Messages, and a ping behind them.
async fn send_and_ping(client: &mut RawClient, ids: std::ops::Range<u32>, payload: &str) {
    let token = token_for("alice").mint();
    for id in ids {
        let message = json!({"id": id.to_string(), "type": "echo", "token": token, "payload": id});
        client.send(&RawFrame::new(opcode::TEXT, message.to_string())).await;
    }
    client.send(&RawFrame::new(opcode::PING, payload)).await;
}

/// The answers that come before the pong.
async fn until_pong(client: &mut RawClient, payload: &str) -> usize {
    let mut answers = 0;
    loop {
        let frame = client.read_frame(10.s()).await.expect("it is open");
        match frame.opcode {
            opcode::PONG => {
                assert_eq!(frame.payload, payload.as_bytes());
                return answers;
            }
            opcode::TEXT => answers += 1,
            _ => {}
        }
    }
}

async fn connections(terminator: &Program) -> f64 {
    terminator.metric("countersign_terminator_connections").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ping_is_answered_and_a_leave_is_seen_while_nothing_is_answered() {
    let broker = Arc::new(Broker::start().await);
    let stack = Stack::builder()
        .broker(&broker)
        .setting("max-in-flight", "4")
        .start()
        .await;
    let terminator = &stack.terminators()[0];
    let mut stays = RawClient::upgraded(terminator.address()).await;
    let mut leaves = RawClient::upgraded(terminator.address()).await;
    for client in [&mut stays, &mut leaves] {
        send_and_ping(client, 100..101, "authenticated").await;
        let mut answers = until_pong(client, "authenticated").await;
        while answers == 0 {
            answers += usize::from(client.read_frame(10.s()).await.expect("it is open").opcode == opcode::TEXT);
        }
    }
    broker.freeze().await;
    // More than may be in flight.
    for client in [&mut stays, &mut leaves] {
        send_and_ping(client, 0..20, "behind").await;
        assert_eq!(until_pong(client, "behind").await, 0);
    }
    leaves
        .send(&RawFrame::new(opcode::CLOSE, 1_000_u16.to_be_bytes()))
        .await;
    let frames = async {
        while let Some(frame) = leaves.read_frame(10.s()).await {
            if frame.close_code() == Some(1_000) {
                return;
            }
        }
        panic!("its close is not answered");
    };
    frames.await;
    eventually(20.s(), "it is seen that it has left", async || {
        connections(terminator).await == 1.0
    })
    .await;
    broker.thaw();
    let mut answers = 0;
    while answers < 20 {
        let frame = stays.read_frame(60.s()).await.expect("it is open");
        answers += usize::from(frame.opcode == opcode::TEXT);
    }
    assert_eq!(answers, 20);
}
