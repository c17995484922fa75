//! Which slow readers are closed when too much is kept for all.

use tokio::time::Instant;

use super::registry::Registry;

/// Half of all, in the unit in which shares are told: millionths.
const HALF: usize = 500_000;

/// Has slow readers give way, if too much is kept: those for whom more is kept than for each if all had as much of the
/// half that is to be left.
pub(crate) fn relieve(registry: &Registry, now: Instant) {
    let total = &registry.common().around.load;
    if !total.is_above(3) {
        return;
    }
    let mut holders = 0;
    let mut stalled = Vec::new();
    for peer in registry.all() {
        let (load, is_stalled) = peer.look(|session| (session.load(), session.is_stalled(now)));
        holders += usize::from(load.texts > 0);
        if is_stalled {
            stalled.push((total.share(load), peer));
        }
    }
    let fair = HALF / holders.max(1);
    stalled.sort_by_key(|(share, _)| std::cmp::Reverse(*share));
    for (_, peer) in stalled.into_iter().take_while(|(share, _)| *share > fair) {
        if !total.is_above(2) {
            return;
        }
        peer.notify(|session, _| session.give_way());
    }
}
