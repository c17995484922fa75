//! P11: what a connection sends is handled and answered in the order in which it was sent, and what one channel pushes
//! arrives in the order in which it was pushed.

use super::{LAST_MS, Reading};

/// The last message of a connection of which something is known, and where in the order it is.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Place<'h>(Option<(usize, &'h str)>);

impl<'h> Place<'h> {
    /// Goes on to the message there. Which one was before it, though it was sent later?
    fn advance(&mut self, place: usize, id: &'h str) -> Option<&'h str> {
        match self.0 {
            Some((last, later)) if place < last => Some(later),
            _ => {
                self.0 = Some((place, id));
                None
            }
        }
    }
}

impl<'h> Reading<'h> {
    /// A reply to `id` was heard, be it by the connection that asked or by one that has its key.
    pub(super) fn replied(&mut self, asker: &'h str, id: &'h str) {
        let Some(one) = self.connections.get_mut(asker).filter(|one| one.ordered) else {
            return;
        };
        let place = one.places.get(id).copied();
        if let Some(later) = place.and_then(|place| one.replied.advance(place, id)) {
            self.breaks("P11", format!("{id} of {asker} is answered after {later}"));
        }
    }

    /// An application handles `id`. Only the first time counts, and nothing that was refused already.
    pub(super) fn handled(&mut self, connection: &'h str, id: &'h str) {
        let Some(one) = self.connections.get_mut(connection).filter(|one| one.ordered) else {
            return;
        };
        let place = one.places.get(id).copied();
        let Some(place) = place.filter(|_| one.open.contains_key(id) && one.handled_once.insert(id)) else {
            return;
        };
        if let Some(later) = one.handled.advance(place, id) {
            self.breaks("P11", format!("{id} of {connection} is handled after {later}"));
        }
    }

    /// Of pushes that came while a connection was open: what was on its way to an earlier one is held, and may be late. A push
    /// may be heard before its confirm is noted, so that this is known only in the end.
    pub(super) fn pushes_in_order(&mut self) {
        let mut broken = Vec::new();
        for (name, one) in &self.connections {
            let known = one.pushes_in_order.iter().filter_map(|id| {
                let push = self.pushes.get(id)?;
                (one.opened_ms + LAST_MS < push.at_ms).then_some((push.place, *id))
            });
            let known: Vec<_> = known.collect();
            for pair in known.windows(2) {
                if let [((channel, later), before), ((same, earlier), id)] = pair
                    && channel == same
                    && earlier < later
                {
                    broken.push(format!("{name} hears the push {id} after {before}"));
                }
            }
        }
        broken.sort();
        broken.into_iter().for_each(|how| self.breaks("P11", how));
    }
}
