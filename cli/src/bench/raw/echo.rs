//! The other process of the raw path: publishes what it gets.

use std::process::ExitCode;

use clap::Args;

use super::connect;
use super::pipe::{Contiguous, Inlet, Outlet};
use crate::support::{lines, print};

/// The arguments of `raw-echo`: the broker, and the queues that it echoes between.
#[derive(Debug, Args)]
pub(crate) struct RawEchoArgs {
    /// The broker, in the environment because it may hold a password.
    #[arg(long, env = "COUNTERSIGN_AMQP_URL", hide_env_values = true)]
    pub(crate) amqp_url: String,
    /// Where the requests are.
    #[arg(long)]
    pub(crate) request: String,
    /// Where the answers go.
    #[arg(long)]
    pub(crate) answer: String,
    /// How many may be on their way.
    #[arg(long)]
    pub(crate) prefetch: u16,
}

/// Echoes until standard input ends, which it does with the one who started this.
///
/// # Errors
/// If the broker is lost.
pub(crate) async fn run(args: RawEchoArgs) -> anyhow::Result<ExitCode> {
    let outgoing = connect(&args.amqp_url, "countersign raw echo out").await?;
    let incoming = connect(&args.amqp_url, "countersign raw echo in").await?;
    let outlet = Outlet::open(outgoing, &args.answer, None).await?;
    let inlet = Inlet::open(incoming, &args.request, args.prefetch).await?;
    let mut parent = lines::read("-".as_ref())?;
    print::line("ready");
    tokio::select! {
        failed = echo(inlet, outlet) => failed.map(|()| ExitCode::SUCCESS),
        _ = parent.recv() => Ok(ExitCode::SUCCESS),
    }
}

async fn echo(mut inlet: Inlet, mut outlet: Outlet) -> anyhow::Result<()> {
    let (mut deliveries, mut confirmed) = (Vec::new(), Vec::new());
    let mut done = Contiguous::default();
    loop {
        tokio::select! {
            taken = inlet.burst(&mut deliveries) => taken?,
            told = outlet.confirmed(&mut confirmed) => told?,
        }
        for delivery in deliveries.drain(..) {
            let correlation = delivery.properties.correlation_id().clone().unwrap_or_default();
            outlet.publish(delivery.delivery_tag, correlation, delivery.data);
        }
        confirmed.drain(..).for_each(|tag| done.finish(tag));
        if let Some(tag) = done.advance() {
            inlet.ack_up_to(tag).await?;
        }
    }
}
