//! Drills under load: what a crowd costs, and what an honest client feels of it.
//!
//! ```sh
//! cargo build --release --workspace --bins && cargo run --release -p tests --example drills -- [NAME…]
//! ```
//!
//! Each drill has a broker, a store, a terminator and a worker of its own. First no one else does anything, then the crowd
//! does, for as long. The crowd comes from `127.0.0.2`, the honest clients from `127.0.0.1`. One line is printed for each: what the
//! processes hold at most, what is in the store and the queues, and the 99th percentile of an honest client's request,
//! of a newcomer's way from `connect` to its first answer and of a renewal, alone and beside the crowd. Whatever takes 10 s or fails counts
//! as 10 s. Where a crowd stays, each of these is the median of several spans, so that neither the moment of its coming nor what
//! else the machine does decides it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a tool for people, which has nothing better to do than to stop"
)]

mod crowd;
mod figures;
mod honest;
mod rolling;

use std::{env, sync::Arc, time::Duration};

use tests::servers::certificate::{certificate, private_key};
use tests::{Broker, Stack, Store};
use tokio::time::Instant;

use self::crowd::Crowd;
use self::figures::{Held, Watch, mebibytes, millis, p99};
use self::honest::{Felt, Honest};

/// How long an honest client is looked at, without the crowd and with it.
const SPAN: Duration = Duration::from_secs(12);

#[tokio::main]
async fn main() {
    let wanted: Vec<_> = env::args().skip(1).collect();
    // It takes minutes and has a table of its own.
    if wanted == ["rolling"] {
        return rolling::drill().await;
    }
    println!(
        "| crowd | terminator, worker MiB | store MiB | queues MiB | a request's p99 alone, beside it (ms) | a newcomer's | a renewal's | what became of it |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for crowd in Crowd::ALL {
        if wanted.is_empty() || wanted.iter().any(|name| name == crowd.name()) {
            drill(crowd).await;
        }
    }
}

async fn drill(crowd: Crowd) {
    let (broker, store) = (Arc::new(Broker::start().await), Arc::new(Store::start().await));
    let mut builder = Stack::builder()
        .broker(&broker)
        .store(&store)
        .setting("auth-timeout", "15s");
    if crowd.speaks_tls() {
        let (certificate, key) = (certificate(), private_key());
        builder = builder
            .setting("tls-cert", certificate.to_str().unwrap())
            .setting("tls-key", key.to_str().unwrap());
    }
    for (name, value) in crowd.settings() {
        builder = builder.setting(name, value);
    }
    let application = crowd.application().await;
    if let Some(application) = &application {
        builder = builder.setting("handler", &application.handler());
    }
    let stack = Arc::new(builder.start().await);
    let honest = Honest::of(&stack, crowd.speaks_tls());
    let gathered = crowd.gather(&stack).await;
    let alone = feel(&honest, crowd.spans()).await;
    let watch = Watch::begin(&stack);
    let until = Instant::now() + SPAN * crowd.spans();
    let (beside, became) = tokio::join!(feel(&honest, crowd.spans()), crowd.come(stack.clone(), gathered, until));
    let held = watch.end(&stack).await;
    print(crowd, &held, &alone, &beside, &became);
}

/// One span after the other.
async fn feel(honest: &Honest, spans: u32) -> Vec<Felt> {
    let mut felt = Vec::new();
    for _ in 0..spans {
        felt.push(honest.feel(Instant::now() + SPAN).await);
    }
    felt
}

fn print(crowd: Crowd, held: &Held, alone: &[Felt], beside: &[Felt], became: &str) {
    let median = |felt: &[Felt], of: fn(&Felt) -> &[Duration]| {
        let mut all: Vec<_> = felt.iter().map(|felt| p99(of(felt))).collect();
        all.sort_unstable();
        millis(all[all.len() / 2])
    };
    let both = |of: fn(&Felt) -> &[Duration]| format!("{}, {}", median(alone, of), median(beside, of));
    println!(
        "| {} | {}, {} | {} | {} | {} | {} | {} | {became} |",
        crowd.name(),
        mebibytes(held.terminator),
        mebibytes(held.worker),
        mebibytes(held.store),
        mebibytes(held.queues),
        both(|felt| &felt.requests),
        both(|felt| &felt.arrivals),
        both(|felt| &felt.renewals),
    );
}
