//! Which publication costs its channel: pure.
//!
//! Something that someone else wrote may be what costs the channel (a `reply_to` that the broker rejects, a body that
//! is too large for it). So what a channel that the broker closed had not confirmed leaves one by one, each when the one
//! before it is confirmed; and what was alone under way too often when that happened is given up.

/// How often something may cost its channel, being alone there, and how often its connection, which goes for many reasons.
const MOST_CHANNELS: u32 = 2;
const MOST_CONNECTIONS: u32 = 4;

/// What is lost with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// That channel: the broker did not like what came through it.
    Channel,
    /// All of them, for the same reason.
    Protocol,
    /// All of them, for some other.
    Connection,
    /// All of them, for a reason that is no message: an operator, a node that stops, a wire that was silent.
    Outage,
    /// Nothing was lost, and nothing is heard.
    Silence,
    /// Nothing was lost, but a queue refuses that may have no leader: it is asked again.
    Refusal,
}

/// What was on the wire and not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnderWay {
    /// Nothing.
    Nothing,
    /// One publication, of that number.
    One(u64),
    /// More than one.
    Several,
}

/// That publication is given up when this has happened so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Its number.
    pub id: u64,
    /// So often.
    pub most: u32,
}

/// What is suspected of what a publisher has under way.
#[derive(Debug, Default)]
pub struct Suspicion {
    /// What the last channel had not confirmed leaves one by one.
    one_by_one: bool,
    /// How many channels were lost since something was confirmed.
    losses: u32,
}

impl Suspicion {
    /// Whether what the last channel had not confirmed leaves one by one, and nothing else leaves meanwhile.
    pub fn one_by_one(&self) -> bool {
        self.one_by_one
    }

    /// Something was confirmed.
    pub fn confirmed(&mut self) {
        self.losses = 0;
    }

    /// Nothing is left of what is to leave one by one.
    pub fn is_over(&mut self) {
        self.one_by_one = false;
    }

    /// A channel was lost. Tells who is to blame, if that is known.
    pub fn lost(&mut self, under_way: UnderWay, loss: Loss) -> Option<Blame> {
        // What is not confirmed on a silent channel may be on another.
        if matches!(loss, Loss::Outage | Loss::Silence | Loss::Refusal) {
            return None;
        }
        self.losses += 1;
        if under_way == UnderWay::Nothing {
            return None;
        }
        // A connection goes for many reasons; one that goes each time that the same leaves may go for that.
        self.one_by_one = loss != Loss::Connection || self.losses >= MOST_CHANNELS;
        let most = match loss {
            Loss::Connection => MOST_CONNECTIONS,
            _ => MOST_CHANNELS,
        };
        match under_way {
            UnderWay::One(id) => Some(Blame { id, most }),
            UnderWay::Nothing | UnderWay::Several => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_alone_is_blamed_and_several_leave_one_by_one() {
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.lost(UnderWay::Several, Loss::Channel), None);
        assert!(suspicion.one_by_one());
        assert_eq!(
            suspicion.lost(UnderWay::One(7), Loss::Channel),
            Some(Blame {
                id: 7,
                most: MOST_CHANNELS
            })
        );
        suspicion.is_over();
        assert!(!suspicion.one_by_one());
    }

    #[test]
    fn an_outage_is_nobody_s_fault_however_often() {
        let mut suspicion = Suspicion::default();
        for _ in 0..10 {
            for loss in [Loss::Outage, Loss::Silence, Loss::Refusal] {
                assert_eq!(suspicion.lost(UnderWay::One(7), loss), None);
            }
        }
        assert!(!suspicion.one_by_one());
        suspicion.lost(UnderWay::Several, Loss::Connection);
        assert!(!suspicion.one_by_one());
    }

    #[test]
    fn a_connection_that_goes_once_is_nobody_s_fault_and_nothing_under_way_is_nobody_s() {
        let mut suspicion = Suspicion::default();
        suspicion.lost(UnderWay::Several, Loss::Connection);
        assert!(!suspicion.one_by_one());
        suspicion.confirmed();
        suspicion.lost(UnderWay::Several, Loss::Connection);
        assert!(!suspicion.one_by_one());
        suspicion.lost(UnderWay::Several, Loss::Connection);
        assert!(suspicion.one_by_one(), "twice, and nothing confirmed between");
        let mut suspicion = Suspicion::default();
        assert_eq!(suspicion.lost(UnderWay::Nothing, Loss::Protocol), None);
        assert!(!suspicion.one_by_one());
    }
}
