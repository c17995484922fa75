//! Queues of a kind of which there may be more than the own setting says: what someone has put there while the number was
//! larger, or puts there who knows of a larger one, is taken, too.

use std::sync::Arc;
use std::time::Duration;

use shared::bus::{Bus, Link};
use tokio::sync::watch;
use tokio::time::sleep;

/// How often it is looked whether there is one more.
const LOOK_PERIOD: Duration = Duration::from_secs(30);

/// Tells how many queues there are, at least as many as it says already and `most` at most: those that the broker has, one
/// after the other. Looks once.
pub(crate) async fn look(bus: &Arc<dyn Bus>, name: impl Fn(u16) -> String, most: u16, wanted: &watch::Sender<u16>) {
    let mut link = bus.link();
    if link.wait_for(Link::is_up).await.is_err() {
        return;
    }
    let mut there = *wanted.borrow();
    while there < most && bus.is_there(&name(there)).await {
        there += 1;
    }
    raise(wanted, there, most);
}

/// The same, every now and then, for ever.
pub(crate) async fn keep_looking(
    bus: Arc<dyn Bus>,
    name: impl Fn(u16) -> String,
    most: u16,
    wanted: watch::Sender<u16>,
) {
    loop {
        look(&bus, &name, most, &wanted).await;
        sleep(LOOK_PERIOD).await;
    }
}

/// There are so many, if not more, but no more than `most`.
pub(crate) fn raise(wanted: &watch::Sender<u16>, count: u16, most: u16) {
    let count = count.min(most);
    wanted.send_if_modified(|known| {
        let is_news = count > *known;
        *known = count.max(*known);
        is_news
    });
}

/// Begins with each queue as soon as it is known that there is one, for ever. The first `begun` are begun with already.
pub(crate) async fn keep_up(mut wanted: watch::Receiver<u16>, mut begun: u16, begin: impl Fn(u16)) {
    loop {
        let most = *wanted.borrow_and_update();
        (begun..most).for_each(&begin);
        begun = begun.max(most);
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use shared::bus::memory::MemoryBus;
    use shared::bus::topology::Names;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_queue_is_begun_with_once_whoever_knows_of_it() {
        let names = Names::new("test");
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(&names.common()));
        let name = |shard| names.push_shard(shard).name;
        // Someone had four of them.
        let left: Vec<_> = (0..4).map(|shard| bus.consumer(names.push_shard(shard), 1)).collect();
        drop(left);
        let begun = Arc::new(Mutex::new(Vec::new()));
        let (wanted, seen) = watch::channel(2);
        let noted = begun.clone();
        let keeping = tokio::spawn(keep_up(seen, 0, move |shard| noted.lock().unwrap().push(shard)));
        tokio::task::yield_now().await;
        assert_eq!(*begun.lock().unwrap(), [0, 1]);
        raise(&wanted, 1, 16);
        look(&bus, name, 16, &wanted).await;
        raise(&wanted, 20, 6);
        drop(wanted);
        keeping.await.unwrap();
        assert_eq!(*begun.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_that_comes_later_is_found() {
        let names = Names::new("test");
        let bus: Arc<dyn Bus> = Arc::new(MemoryBus::new(&names.common()));
        let (wanted, mut seen) = watch::channel(1);
        let name = {
            let names = names.clone();
            move |shard| names.message_shard(shard).name
        };
        let looking = tokio::spawn(keep_looking(bus.clone(), name, 16, wanted));
        sleep(LOOK_PERIOD / 2).await;
        assert_eq!(*seen.borrow_and_update(), 1);
        let _there = bus.consumer(names.message_shard(1), 1);
        seen.wait_for(|count| *count == 2).await.unwrap();
        looking.abort();
    }
}
