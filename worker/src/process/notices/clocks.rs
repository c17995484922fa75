//! What time it is, told to terminators with some answers: their own clocks may be minutes off.

use shared::bus::Properties;
use shared::service::clock::Timestamp;
use shared::wire::envelope::{Clocks, ForwardedMessage};

use crate::process::Pipeline;

/// Of a connection's answers each so many tells the time, beside those that bring a grant.
const EACH: u64 = 16;

impl Pipeline {
    /// Has the answer to a request that was received then tell the time, if it brings a grant or its turn has come.
    pub(in crate::process) fn tell_time(
        &self,
        forwarded: &ForwardedMessage,
        received: Option<Timestamp>,
        brings_grant: bool,
        answer: &mut Properties,
    ) {
        let Some(asked) = received.filter(|_| brings_grant || forwarded.message_id.sequence.get() % EACH == 1) else {
            return;
        };
        let clocks = Clocks {
            asked,
            answered: self.clock.now(),
            leeway: self.rules.terms.leeway,
        };
        clocks.write(answer);
    }
}
