//! How many connections each address has, so that none has more than its share.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How many connections each address has.
pub(crate) struct Addresses {
    most: Option<usize>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place among those of its address, given up when dropped.
pub(crate) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub(crate) fn new(most: Option<usize>) -> Self {
        Self {
            most,
            open: Mutex::default(),
        }
    }

    /// Takes a place, unless the address has as many as it may.
    pub(crate) fn enter(self: Arc<Self>, address: IpAddr) -> Option<Place> {
        let address = ip_prefix(address);
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(address).or_default();
            if self.most.is_some_and(|most| *count >= most) {
                return None;
            }
            *count += 1;
        }
        Some(Place {
            addresses: self,
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// The one who has one IPv6 address has the 2^64 of its network (RFC 6177).
pub(crate) fn ip_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_no_more_until_one_ends() {
        let addresses = Arc::new(Addresses::new(Some(2)));
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let its_neighbour: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let other: IpAddr = "192.0.2.1".parse().unwrap();
        let first = addresses.clone().enter(one).unwrap();
        let _second = addresses.clone().enter(its_neighbour).unwrap();
        assert!(addresses.clone().enter(one).is_none());
        assert!(addresses.clone().enter(other).is_some());
        drop(first);
        assert!(addresses.clone().enter(one).is_some());
    }

    #[test]
    fn an_address_without_connections_is_forgotten() {
        let addresses = Arc::new(Addresses::new(Some(2)));
        drop(addresses.clone().enter("192.0.2.1".parse().unwrap()));
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}
