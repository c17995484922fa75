//! Which queues there are, and what to do next with one, from what is there of it. Pure.

use anyhow::bail;
use shared::bus::topology::{Limits, MOST_MESSAGE_SHARDS, MOST_PUSH_SHARDS, Names, Overflow, Queue, QueueKind};

/// What stands between the namespace and the name of a temporary queue.
const MOVED: &str = "moved";

/// What stands after the namespace in the name of the queue that a move holds, so that there is one at a time.
pub(crate) const LOCK: &str = "moving";

/// How often what is moved may be given back: a move that is killed often must not be the end of a message.
const ENDLESS_DELIVERY_LIMIT: u32 = 1_000_000;

/// The queue that should be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// There is none of that name.
    Absent,
    /// It is as this version declares it.
    Fits,
    /// It is otherwise; the broker says how.
    Differs(String),
}

/// What is on the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) queue: Presence,
    /// Whether its temporary queue is there.
    pub(super) temporary: bool,
}

/// What to do next. Each leaves the broker so that the next is found out from what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Declare the temporary queue.
    MakeTemporary,
    /// Move what is in the queue to the temporary one, and delete the queue.
    MoveOut,
    /// Declare the queue as this version has it.
    DeclareAnew,
    /// Move what is in the temporary queue to the queue, and delete the temporary one.
    MoveBack,
}

impl Seen {
    pub(super) const fn next_step(&self) -> Step {
        match (&self.queue, self.temporary) {
            (Presence::Absent | Presence::Fits, false) => Step::Nothing,
            (Presence::Differs(_), false) => Step::MakeTemporary,
            (Presence::Differs(_), true) => Step::MoveOut,
            (Presence::Absent, true) => Step::DeclareAnew,
            (Presence::Fits, true) => Step::MoveBack,
        }
    }
}

/// Every queue that outlives the programs. Those of one terminator or worker have a new name at each start.
pub(super) fn queues(names: &Names, max_deliveries: u32) -> Vec<Queue> {
    let shards = names.message_shards(MOST_MESSAGE_SHARDS).skip(1);
    names
        .common()
        .queues
        .into_iter()
        .chain(names.retries(max_deliveries))
        .chain([names.rejected()])
        .chain(shards)
        .chain((0..MOST_PUSH_SHARDS).map(|number| names.push_shard(number)))
        .collect()
}

/// Where the messages of a queue wait until it is declared anew. It has room for all of them, keeps them without a limit of time, and
/// dead-letters likewise, so that a push that may not wait is told of as always.
pub(super) fn temporary(namespace: &str, queue: &Queue) -> Queue {
    let suffix = queue.name.strip_prefix(namespace).unwrap_or(&queue.name);
    let dead_letter = match &queue.kind {
        QueueKind::Quorum(limits) => limits.dead_letter.clone(),
        QueueKind::Exclusive => None,
    };
    Queue {
        name: format!("{namespace}.{MOVED}{suffix}"),
        kind: QueueKind::Quorum(Limits {
            delivery_limit: Some(ENDLESS_DELIVERY_LIMIT),
            dead_letter,
            ..Limits::default()
        }),
        former_bindings: Vec::new(),
        ..queue.clone()
    }
}

/// Whether the new queue keeps so many messages. One that refuses what is too much says so by itself.
///
/// # Errors
/// That it would drop the oldest.
pub(super) fn fits(queue: &Queue, waiting: u32) -> anyhow::Result<()> {
    if let QueueKind::Quorum(Limits {
        max_length: Some((most, Overflow::DropHead)),
        ..
    }) = queue.kind
        && waiting > most
    {
        let name = &queue.name;
        bail!("{name} has {waiting} messages, and the new one would drop all but the newest {most}: drop some before");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("n")
    }

    #[test]
    fn each_state_that_a_killed_move_leaves_has_a_next_step_and_the_last_is_nothing() {
        let differs = || Presence::Differs("max-length".to_owned());
        let step = |queue, temporary| Seen { queue, temporary }.next_step();
        assert_eq!(step(differs(), false), Step::MakeTemporary);
        assert_eq!(step(differs(), true), Step::MoveOut);
        assert_eq!(step(Presence::Absent, true), Step::DeclareAnew);
        assert_eq!(step(Presence::Fits, true), Step::MoveBack);
        assert_eq!(step(Presence::Fits, false), Step::Nothing);
        // A queue of a setting that is not used.
        assert_eq!(step(Presence::Absent, false), Step::Nothing);
    }

    #[test]
    fn a_temporary_queue_has_room_for_all_and_the_bindings_of_its_queue() {
        let queue = names().pushes();
        let temporary = temporary("n", &queue);
        assert_eq!(temporary.name, "n.moved.pushes");
        assert_eq!(temporary.bindings, queue.bindings);
        let QueueKind::Quorum(limits) = temporary.kind else {
            panic!("a quorum queue")
        };
        assert!(limits.max_length.is_none() && limits.max_length_bytes.is_none() && !limits.single_active_consumer);
        assert!(limits.expires.is_none() && limits.message_ttl.is_none() && limits.dead_letter.is_some());
        // No injector may name it for its answers.
        assert!(!names().may_be_answered(&temporary.name));
    }

    #[test]
    fn a_queue_that_drops_its_oldest_is_not_filled_beyond_its_length() {
        let dead = names().dead();
        assert!(fits(&dead, 100_000).is_ok());
        assert!(fits(&dead, 100_001).unwrap_err().to_string().contains("100001"));
        assert!(fits(&names().messages(), u32::MAX).is_ok(), "it refuses");
    }

    #[test]
    fn every_queue_is_there_once() {
        let queues = queues(&names(), 5);
        let mut all: Vec<_> = queues.iter().map(|queue| queue.name.as_str()).collect();
        assert!(all.len() > 40 && all.contains(&"n.retry") && all.contains(&"n.messages.15"));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), queues.len());
    }
}
