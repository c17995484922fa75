//! Clocks that jump in mid-run: a terminator's is turned, forward or back, and all machines sleep, while time goes on.
//!
//! A worker's clock is what all is judged by, so that it cannot be wrong here.

use std::sync::Arc;
use std::time::Duration;

use testkit::rng::Rng;
use tokio::time::sleep;

use crate::scenario::Scenario;
use crate::trace::Event;
use crate::world::World;

/// The furthest that a clock is turned. What is turned forward by more than a token lives ends it, and is asked for a fresh one.
const FAR_S: u64 = 300;

/// What happens to a clock.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Jump {
    /// That terminator's is wrong by so many seconds from now on. What its processes wait for goes on as before.
    Turned { which: usize, ahead_s: i64 },
    /// All machines sleep for so long, as when a host is suspended: what is waited for does not come nearer meanwhile.
    Asleep(Duration),
}

impl Jump {
    /// Each so long after the one before.
    pub(crate) fn some(rng: &mut Rng) -> Vec<(Duration, Self)> {
        let many = if rng.chance(30) { rng.between(1, 4) } else { 0 };
        (0..many)
            .map(|_| (Duration::from_millis(rng.between(0, 10_000)), Self::of(rng)))
            .collect()
    }

    fn of(rng: &mut Rng) -> Self {
        if rng.chance(30) {
            return Self::Asleep(Duration::from_millis(rng.between(500, 300_000)));
        }
        let by_s = i64::try_from(rng.between(1, FAR_S)).expect("it is small");
        let ahead_s = match rng.between(1, 3) {
            1 => by_s,
            2 => -by_s,
            _ => 0,
        };
        let which = usize::from(rng.chance(50));
        Self::Turned { which, ahead_s }
    }

    /// For how long machines sleep in all of them.
    pub(crate) fn asleep(all: &[(Duration, Self)]) -> Duration {
        let asleep = all.iter().map(|(_, jump)| match jump {
            Self::Asleep(time) => *time,
            Self::Turned { .. } => Duration::ZERO,
        });
        asleep.sum()
    }
}

impl Scenario {
    /// Clocks jump in it.
    pub(crate) fn jump(&mut self, jumps: Vec<(Duration, Jump)>) {
        // What is on its way while the machines sleep must not be too old when they wake.
        self.settings.hold_ttl += Jump::asleep(&jumps);
        self.jumps = jumps;
    }
}

/// Whatever happens to clocks, one after the other.
pub(crate) async fn jump(world: Arc<World>, jumps: Vec<(Duration, Jump)>) {
    for (after, jump) in jumps {
        sleep(after).await;
        match jump {
            Jump::Turned { which, ahead_s } => {
                world.trace.note(Event::Turned(jump));
                world.clocks[which].turn(ahead_s);
            }
            Jump::Asleep(time) => {
                world.clock.slept(time);
                let ms = u64::try_from(time.as_millis()).expect("it is short");
                world.trace.note(Event::Slept { ms });
            }
        }
    }
}
