//! Measures P4: how long after its end the last thing was written to a socket.
//!
//! ```sh
//! cargo run --release -p tests --example lateness -- --connections 1000
//! ```
//!
//! A thousand connections expire in the same second under a flood of pushes, then as many are revoked; each with broker
//! and store up, with the broker frozen across the moment, and with the store frozen (for a revocation, which needs both
//! to be acknowledged: from then on). What is printed is arrival at the
//! client less the end of the grant (or the acknowledgement of the revocation): the client's own delay is in it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a tool for people, which has nothing better to do than to stop"
)]

use std::{
    env,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, stream};
use serde_json::json;
use tests::{Broker, Producer, Push, Span, Stack, Store, lateness::Reader, token_for, wait::until};

/// From the first connection to the expiry: time to open all of them.
const LIFE: Duration = Duration::from_secs(20);
/// The flood begins so long before the end, and goes on for as long after it.
const FLOOD: Duration = Duration::from_secs(4);
/// How many subjects share the connections: each push is written to so many sockets.
const SUBJECTS: usize = 20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Expiry,
    Revocation,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Weather {
    AllUp,
    BrokerFrozen,
    StoreFrozen,
}

#[tokio::main]
async fn main() {
    let count = env::args()
        .skip_while(|argument| argument != "--connections")
        .nth(1)
        .map_or(1_000, |count| count.parse().expect("--connections takes a number"));
    println!("| end of | while | connections | pushes in time | late | latest | closed |");
    println!("|---|---|---|---|---|---|---|");
    for end in [End::Expiry, End::Revocation] {
        for weather in [Weather::AllUp, Weather::BrokerFrozen, Weather::StoreFrozen] {
            measure(count, end, weather).await;
        }
    }
}

async fn measure(count: usize, end: End, weather: Weather) {
    let (broker, store) = (Arc::new(Broker::start().await), Arc::new(Store::start().await));
    let stack = Stack::builder()
        .workers(2)
        .broker(&broker)
        .store(&store)
        .setting("jwt-leeway", "0s")
        .setting("max-connections-per-ip", "off")
        .setting("hold-max-messages", "10000")
        .setting("hold-max-bytes", "64MiB")
        .start()
        .await;
    let life = if end == End::Expiry {
        LIFE
    } else {
        Duration::from_secs(300)
    };
    let tokens: Vec<_> = (0..SUBJECTS)
        .map(|number| token_for(&format!("subject-{number}")).expiring_in(life))
        .collect();
    let expiry = tokens[0].expires_at();
    let tokens: Vec<_> = tokens.iter().map(|token| token.mint()).collect();
    let readers: Vec<_> = stream::iter(0..count)
        .map(|number| {
            let (stack, token) = (&stack, &tokens[number % SUBJECTS]);
            async move {
                let mut client = stack.client().await;
                client.authenticate(token).await;
                Reader::start(client)
            }
        })
        .buffer_unordered(50)
        .collect()
        .await;
    let moment = if end == End::Expiry {
        expiry
    } else {
        SystemTime::now() + FLOOD
    };
    assert!(
        SystemTime::now() + FLOOD / 2 < moment,
        "too few seconds to open {count} connections"
    );
    let flooding = tokio::spawn(flood(stack.producer().await, moment + FLOOD));
    let over = match end {
        End::Expiry => expire(moment, weather, &broker, &store).await,
        End::Revocation => revoke(moment, weather, stack.producer().await, &broker, &store).await,
    };
    until(over + FLOOD + 2.s()).await;
    flooding.abort();
    let (mut in_time, mut late, mut latest, mut closed) = (0, 0, Duration::ZERO, 0);
    for reader in readers {
        let (_, seen) = reader.stop().await;
        in_time += seen.in_time(over);
        late += seen.pushes.len() - seen.in_time(over);
        latest = latest.max(seen.lateness(over));
        closed += usize::from(seen.closed.is_some());
    }
    println!("| {end:?} | {weather:?} | {count} | {in_time} | {late} | {latest:?} | {closed} |");
}

async fn flood(mut backend: Producer, end: SystemTime) {
    let mut number = 0;
    until(end - 2 * FLOOD).await;
    while SystemTime::now() < end {
        let subject = format!("subject-{}", number % SUBJECTS);
        backend.send(&Push::to(&subject, number)).await;
        number += 1;
    }
}

async fn expire(moment: SystemTime, weather: Weather, broker: &Broker, store: &Store) -> SystemTime {
    until(moment - 1.s()).await;
    weather.begins(broker, store).await;
    until(moment + 1.s()).await;
    weather.ends(broker, store);
    moment
}

async fn revoke(
    moment: SystemTime,
    weather: Weather,
    mut operator: Producer,
    broker: &Broker,
    store: &Store,
) -> SystemTime {
    until(moment).await;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    operator.revoke(&json!({"issued_before": now.as_secs() + 1})).await;
    let acknowledged = SystemTime::now();
    weather.begins(broker, store).await;
    until(acknowledged + 2.s()).await;
    weather.ends(broker, store);
    acknowledged
}

impl Weather {
    async fn begins(self, broker: &Broker, store: &Store) {
        match self {
            Self::AllUp => {}
            Self::BrokerFrozen => broker.freeze().await,
            Self::StoreFrozen => store.freeze().await,
        }
    }

    fn ends(self, broker: &Broker, store: &Store) {
        match self {
            Self::AllUp => {}
            Self::BrokerFrozen => broker.thaw(),
            Self::StoreFrozen => store.thaw(),
        }
    }
}
