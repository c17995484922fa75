//! What all connections may do at the moment: it follows the broker, and in the end the shutdown.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::Link;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// What connections do with what they could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// They forward it.
    Forwarding,
    /// The broker is away: they forward nothing, and TCP holds the client back.
    Waiting,
    /// The broker is away for longer than anyone should wait: they refuse it.
    Refusing,
    /// The terminator leaves: each connection goes when its turn comes, within `spread`, and all it asked is answered.
    Draining { spread: Duration },
    /// The terminator leaves now.
    Terminated,
}

/// Follows the broker until the receivers are gone or the draining begins.
pub(crate) async fn follow(mut link: watch::Receiver<Link>, phase: Arc<watch::Sender<Phase>>, patience: Duration) {
    let mut patience_ends: Option<Instant> = None;
    loop {
        let up = link.borrow_and_update().is_up();
        if up {
            patience_ends = None;
        } else if patience_ends.is_none() {
            patience_ends = Some(Instant::now() + patience);
        }
        let next = match patience_ends {
            None => Phase::Forwarding,
            Some(end) if Instant::now() < end => Phase::Waiting,
            Some(_) => Phase::Refusing,
        };
        set(&phase, next);
        let wait_until = patience_ends.filter(|_| next == Phase::Waiting);
        tokio::select! {
            biased;
            changed = link.changed() => if changed.is_err() { return },
            () = sleep_until(wait_until.unwrap_or_else(Instant::now)), if wait_until.is_some() => {}
            () = phase.closed() => return,
        }
    }
}

/// Enters a phase; from draining there is no way back but out.
pub(crate) fn set(phase: &watch::Sender<Phase>, next: Phase) {
    phase.send_if_modified(|now| {
        let leaving = matches!(now, Phase::Draining { .. } | Phase::Terminated);
        let forward = matches!(next, Phase::Draining { .. } | Phase::Terminated);
        let changed = *now != next && (!leaving || forward);
        if changed {
            *now = next;
        }
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn start() -> (watch::Sender<Link>, Arc<watch::Sender<Phase>>, watch::Receiver<Phase>) {
        let (link, follower) = watch::channel(Link::Up);
        let (sender, phase) = watch::channel(Phase::Waiting);
        let sender = Arc::new(sender);
        tokio::spawn(follow(follower, sender.clone(), PATIENCE));
        (link, sender, phase)
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_is_away_is_waited_for_and_then_told_of() {
        let (link, _sender, mut phase) = start();
        phase.wait_for(|phase| *phase == Phase::Forwarding).await.unwrap();
        let away_since = Instant::now();
        link.send_replace(Link::Away("gone".into()));
        phase.wait_for(|phase| *phase == Phase::Waiting).await.unwrap();
        phase.wait_for(|phase| *phase == Phase::Refusing).await.unwrap();
        assert_eq!(away_since.elapsed(), PATIENCE);
        link.send_replace(Link::Up);
        phase.wait_for(|phase| *phase == Phase::Forwarding).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn patience_is_not_renewed_by_a_new_reason() {
        let (link, _sender, mut phase) = start();
        phase.wait_for(|phase| *phase == Phase::Forwarding).await.unwrap();
        link.send_replace(Link::Blocked);
        phase.wait_for(|phase| *phase == Phase::Waiting).await.unwrap();
        let away_since = Instant::now();
        tokio::time::advance(PATIENCE / 2).await;
        link.send_replace(Link::Away("now gone".into()));
        phase.wait_for(|phase| *phase == Phase::Refusing).await.unwrap();
        assert_eq!(away_since.elapsed(), PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_terminator_that_drains_does_not_go_back_to_work() {
        let (link, sender, mut phase) = start();
        phase.wait_for(|phase| *phase == Phase::Forwarding).await.unwrap();
        set(&sender, Phase::Draining { spread: Duration::ZERO });
        link.send_replace(Link::Blocked);
        link.send_replace(Link::Up);
        tokio::task::yield_now().await;
        assert_eq!(*phase.borrow(), Phase::Draining { spread: Duration::ZERO });
        set(&sender, Phase::Terminated);
        assert_eq!(*phase.borrow_and_update(), Phase::Terminated);
    }
}
