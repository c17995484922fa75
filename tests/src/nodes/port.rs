//! Ports for servers that cannot bind port 0 and say which they got.

use std::{
    collections::HashSet,
    net::{Ipv4Addr, TcpListener},
    ops::Range,
    sync::Mutex,
};

/// Below the range from which systems take ports for outgoing connections (32768 and up on Linux): a server that is
/// killed and comes back finds its port still free.
const PORTS: Range<u16> = 20_000..32_000;

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A loopback port that no one listens on, and that this process was not given before.
///
/// # Panics
/// If there is none, by 1,000 tries.
#[must_use]
pub fn free_port() -> u16 {
    let mut given = GIVEN.lock().unwrap_or_else(|broken| broken.into_inner());
    let given = given.get_or_insert_default();
    (0..1_000)
        .map(|_| rand::random_range(PORTS))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok() && given.insert(*port))
        .expect("a free port on loopback")
}
