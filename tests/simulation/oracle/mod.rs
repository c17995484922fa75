//! The oracle: holds a trace against the promises.
//!
//! It knows nothing of how they are kept. Where chance leaves a choice (a token
//! that ends while its message is under way), it allows both.

mod answers;
mod eras;
mod expiry;
mod identity;
pub(crate) mod ledger;
mod order;
mod pushes;
mod sleeps;
mod state;

use self::eras::Eras;
use self::ledger::Ledger;
use crate::scenario::Settings;
use crate::trace::Event;
use crate::world::Remains;

/// What is wrong with a trace; none if all promises are kept.
pub(crate) fn judge(settings: &Settings, trace: &[(u64, Event)], remains: &Remains) -> Vec<String> {
    let ledger = Ledger::read(settings, trace);
    let eras = Eras::of(&ledger);
    let mut wrong = Vec::new();
    answers::judge(&ledger, &eras, &mut wrong);
    identity::judge(&ledger, &mut wrong);
    expiry::judge(&ledger, &mut wrong);
    pushes::judge(&ledger, &eras, &mut wrong);
    state::judge(&ledger, &mut wrong);
    order::judge(&ledger, &mut wrong);
    for (queue, messages) in &remains.queues {
        wrong.push(format!("P1: {messages} messages are left in {queue}"));
    }
    wrong
}
