//! Those who take more than they need.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use tests::peers::raw::{RawClient, RawFrame, opcode};
use tests::servers::upstream::{Asked, Said};
use tests::{Client, Push, Stack, Upstream, token_for};
use tokio::{
    io::AsyncReadExt,
    net::TcpSocket,
    time::{Instant, interval, sleep, sleep_until, timeout, timeout_at},
};

const CROWD: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Idle connections a second, as in the attack that kept others out for half a minute.
const IDLE_PER_SECOND: u32 = 1_300;
/// Connections that never say who they are: as many as once filled the store.
const STRANGERS: usize = 219;
/// Clients that come back at the same moment.
const RETURNING: usize = 2_000;
/// Clients that read nothing of what is pushed to them: each more than the kernel keeps for a socket.
const SLOW_READERS: usize = 40;
const PUSHED_BYTES: usize = 60_000;
/// Connections of one identity.
const OF_ONE: usize = 8_000;
/// Clients that ask an application that hangs, and how many users they are of.
const ASKING: usize = 200;
const ASKERS: usize = 20;
/// How many connect at a time where that is not the drill.
const AT_A_TIME: usize = 50;

/// Between two messages of a stranger, and two pushes to slow readers.
const BETWEEN_FRAMES: Duration = Duration::from_millis(5);
const BETWEEN_PUSHES: Duration = Duration::from_millis(100);

/// What they do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// They connect and say nothing.
    SlowHandshakes,
    /// The same where TLS is spoken.
    SlowTlsHandshakes,
    /// They send without ever saying who they are.
    Strangers,
    /// They have all lost their connection, and come back at the same moment.
    Returning,
    /// They are pushed to, and read nothing.
    SlowReaders,
    /// They are all the same one, who is pushed to, revoked and gone.
    OfOneIdentity,
    /// They ask for what hangs in the application.
    Hanging,
}

impl Crowd {
    pub(crate) const ALL: [Self; 7] = [
        Self::SlowHandshakes,
        Self::SlowTlsHandshakes,
        Self::Strangers,
        Self::Returning,
        Self::SlowReaders,
        Self::OfOneIdentity,
        Self::Hanging,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SlowHandshakes => "slow-handshakes",
            Self::SlowTlsHandshakes => "slow-tls-handshakes",
            Self::Strangers => "strangers",
            Self::Returning => "returning",
            Self::SlowReaders => "slow-readers",
            Self::OfOneIdentity => "of-one-identity",
            Self::Hanging => "hanging",
        }
    }

    /// For how many spans it is looked at. Who waits for what hangs stays for as long as that.
    pub(crate) const fn spans(self) -> u32 {
        match self {
            Self::Hanging => 3,
            _ => 1,
        }
    }

    pub(crate) fn speaks_tls(self) -> bool {
        self == Self::SlowTlsHandshakes
    }

    /// Those that a deployment would have where so many come from one address and are welcome.
    pub(crate) const fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::SlowHandshakes | Self::SlowTlsHandshakes | Self::Strangers | Self::SlowReaders => &[],
            Self::Returning | Self::OfOneIdentity => &[
                ("max-connections-per-ip", "off"),
                ("max-handshakes-per-ip", "off"),
                ("handshakes-per-second-per-ip", "off"),
            ],
            Self::Hanging => &[
                ("max-connections-per-ip", "off"),
                ("max-handshakes-per-ip", "off"),
                ("handshakes-per-second-per-ip", "off"),
                // No one is told `busy` before it is over.
                ("handler-timeout", "2m"),
            ],
        }
    }

    /// What is asked about all messages, if not what the worker has itself.
    pub(crate) async fn application(self) -> Option<Upstream> {
        let hangs = |asked: &Asked| match asked.kind() {
            "hang" => Said::Nothing,
            _ => Said::status(200, "1"),
        };
        match self {
            Self::Hanging => Some(Upstream::start(hangs).await),
            _ => None,
        }
    }

    /// Those who are there before they do any harm.
    pub(crate) async fn gather(self, stack: &Arc<Stack>) -> Vec<Client> {
        match self {
            Self::Returning => crowd_of(stack, RETURNING, |number| format!("returning-{number}")).await,
            Self::OfOneIdentity => crowd_of(stack, OF_ONE, |_| "one".to_owned()).await,
            Self::Hanging => crowd_of(stack, ASKING, |number| format!("user-{}", number % ASKERS)).await,
            Self::SlowHandshakes | Self::SlowTlsHandshakes | Self::Strangers | Self::SlowReaders => Vec::new(),
        }
    }

    /// Does what it does until then. Tells what became of it.
    pub(crate) async fn come(self, stack: Arc<Stack>, gathered: Vec<Client>, until: Instant) -> String {
        let address = stack.terminators()[0].address();
        match self {
            Self::SlowHandshakes | Self::SlowTlsHandshakes => say_nothing(address, until).await,
            Self::Strangers => never_say_who(address, until).await,
            Self::Returning => come_back(&stack, gathered, until).await,
            Self::SlowReaders => read_nothing(&stack, until).await,
            Self::OfOneIdentity => be_one(&stack, gathered, until).await,
            Self::Hanging => ask_what_hangs(&stack, gathered, until).await,
        }
        .unwrap_or_default()
            + &refusals(&stack).await
    }
}

/// How many handshakes were refused, and sockets closed.
async fn refusals(stack: &Stack) -> String {
    let metrics = stack.terminators()[0].metrics().await;
    let counted = |prefix: &str| {
        metrics
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, count)| count)
            .sum::<f64>()
    };
    let refused = counted("countersign_terminator_handshakes_refused_total");
    let closed = counted("countersign_terminator_connections_closed_total{code=\"4");
    format!("{refused} handshakes refused, {closed} sockets closed")
}

async fn connect(address: SocketAddr) -> Option<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind(SocketAddr::new(CROWD, 0)).ok()?;
    timeout(Duration::from_secs(5), socket.connect(address))
        .await
        .ok()?
        .ok()
}

async fn say_nothing(address: SocketAddr, until: Instant) -> Option<String> {
    let mut ticks = interval(Duration::from_secs(1) / IDLE_PER_SECOND);
    while Instant::now() < until {
        ticks.tick().await;
        tokio::spawn(async move {
            let mut stream = connect(address).await?;
            // Until it is told to go.
            let mut told = Vec::new();
            let _ = timeout_at(until, stream.read_to_end(&mut told)).await;
            Some(())
        });
    }
    None
}

async fn never_say_who(address: SocketAddr, until: Instant) -> Option<String> {
    let message = json!({"type": "echo", "payload": "p".repeat(60_000)});
    let frame = Arc::new(RawFrame::new(opcode::TEXT, message.to_string()).bytes());
    let strangers = (0..STRANGERS).map(|_| {
        let frame = frame.clone();
        tokio::spawn(async move {
            while Instant::now() < until {
                let Some(mut client) = upgraded(address).await else {
                    continue;
                };
                let sending = async {
                    // It has no end of its own: a socket that is closed takes what is written for a while.
                    for _ in 0..1_000 {
                        client.write(&*frame).await;
                        sleep(BETWEEN_FRAMES).await;
                    }
                };
                let _ = timeout_at(until, timeout(Duration::from_secs(5), sending)).await;
            }
        })
    });
    join_all(strangers).await;
    None
}

/// Shakes hands, unless that is refused.
async fn upgraded(address: SocketAddr) -> Option<RawClient> {
    let upgrading = tokio::spawn(async move { RawClient::connect_from(CROWD, address).await.upgrade().await });
    upgrading.await.ok()
}

async fn crowd_of(stack: &Arc<Stack>, count: usize, subject: impl Fn(usize) -> String) -> Vec<Client> {
    let terminator = &stack.terminators()[0];
    stream::iter(0..count)
        .map(|number| {
            let token = token_for(&subject(number)).mint();
            async move {
                let mut client = Client::to(terminator).from("127.0.0.2").open().await.ok()?;
                client.authenticate(&token).await;
                Some(client)
            }
        })
        .buffer_unordered(AT_A_TIME)
        .filter_map(async |client| client)
        .collect()
        .await
}

async fn come_back(stack: &Arc<Stack>, gone: Vec<Client>, until: Instant) -> Option<String> {
    let count = gone.len();
    drop(gone);
    let begun = Instant::now();
    let coming = (0..count).map(|number| {
        let (stack, token) = (stack.clone(), token_for(&format!("returning-{number}")).mint());
        tokio::spawn(async move {
            let mut client = Client::to(&stack.terminators()[0])
                .from("127.0.0.2")
                .open()
                .await
                .ok()?;
            client.authenticate(&token).await;
            Some(client)
        })
    });
    let back = join_all(coming).await;
    let there = back.iter().filter(|client| matches!(client, Ok(Some(_)))).count();
    let took = begun.elapsed();
    sleep_until(until).await;
    Some(format!(
        "{there} of {count} were back within {:.1} s; ",
        took.as_secs_f64()
    ))
}

async fn read_nothing(stack: &Arc<Stack>, until: Instant) -> Option<String> {
    let address = stack.terminators()[0].address();
    let message = json!({"type": "auth.authenticate", "token": token_for("slow").mint()});
    let frame = RawFrame::new(opcode::TEXT, message.to_string());
    let mut readers = Vec::new();
    for _ in 0..SLOW_READERS {
        let mut client = RawClient::upgraded_with_receive_buffer(address, 4_096).await;
        client.send(&frame).await;
        client.read_frame(Duration::from_secs(10)).await?;
        readers.push(client);
    }
    let mut backend = stack.producer().await;
    let mut pushed = 0;
    while Instant::now() < until {
        backend.burst(&[Push::to("slow", "p".repeat(PUSHED_BYTES))]).await;
        pushed += 1;
        sleep(BETWEEN_PUSHES).await;
    }
    Some(format!("{pushed} pushes to {SLOW_READERS}; "))
}

async fn be_one(stack: &Arc<Stack>, crowd: Vec<Client>, until: Instant) -> Option<String> {
    let there = crowd.len();
    let mut backend = stack.producer().await;
    let begun = Instant::now();
    for number in 0..5 {
        backend.push_to("one", number).await;
    }
    let pushed = begun.elapsed();
    let begun = Instant::now();
    backend.revoke(&json!({"subject": "one"})).await;
    drop(crowd);
    let revoked = begun.elapsed();
    sleep_until(until).await;
    Some(format!(
        "5 pushes to {there} took {:.1} s, a revocation {:.1} s; ",
        pushed.as_secs_f64(),
        revoked.as_secs_f64()
    ))
}

/// Each asks as often as it may, and waits.
async fn ask_what_hangs(stack: &Stack, mut crowd: Vec<Client>, until: Instant) -> Option<String> {
    let there = crowd.len();
    for client in &mut crowd {
        for _ in 0..2 {
            client.ask("hang", None, Value::Null).await;
        }
    }
    sleep_until(until).await;
    let waiting = stack.workers()[0].metric("countersign_worker_waiting_for_place").await;
    Some(format!(
        "{there} asked twice, {waiting} waited for a place in the end; "
    ))
}
