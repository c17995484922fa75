//! A TCP link that can be cut: what crosses it then waits, as packets do that no one acknowledges.
//!
//! A cut that drops packets looks the same from both ends: sockets stay open, nothing arrives, and what was sent arrives
//! after the heal, unless someone has given up by then.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

use crate::nodes::port::free_port;

/// A listener may hand over one connection too many at a time: this long it is not asked again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A way to a port of this machine, by a port of its own.
#[derive(Debug)]
pub struct Link {
    port: u16,
    open: watch::Sender<bool>,
    target: watch::Sender<u16>,
    // Dropped with this value, and all connections with it.
    _tasks: JoinSet<()>,
}

impl Link {
    /// A link to anyone who listens at `target`, now or later.
    ///
    /// # Panics
    /// If no port can be had.
    pub async fn to(target: u16) -> Self {
        // Another process may take one between the look and the bind.
        let mut tries = 0..16;
        let listener = loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).await {
                Ok(listener) => break listener,
                Err(error) => assert!(tries.next().is_some(), "no port that is free: {error}"),
            }
        };
        let port = listener.local_addr().expect("it is bound").port();
        let (open, opened) = watch::channel(true);
        let (target, targeted) = watch::channel(target);
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, targeted, opened));
        Self {
            port,
            open,
            target,
            _tasks: tasks,
        }
    }

    /// Where to connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections go there from now on, as when a name or an address moves to another server.
    pub fn lead_to(&self, target: u16) {
        self.target.send_replace(target);
    }

    /// Nothing crosses from now on.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// What was held up crosses, and whatever comes after it.
    pub fn heal(&self) {
        self.open.send_replace(true);
    }
}

async fn accept(listener: TcpListener, target: watch::Receiver<u16>, open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => _ = connections.spawn(carry(stream, *target.borrow(), open.clone())),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(near: TcpStream, target: u16, mut open: watch::Receiver<bool>) {
    if open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else {
        return;
    };
    for stream in [&near, &far] {
        let _ = stream.set_nodelay(true);
    }
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    // One that breaks takes both ways along, as a reset does.
    tokio::select! {
        () = copy(near_read, far_write, open.clone()) => {}
        () = copy(far_read, near_write, open.clone()) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut open: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        // The end of a connection crosses no cut either.
        if open.wait_for(|open| *open).await.is_err() {
            return;
        }
        match read {
            Ok(length @ 1..) if to.write_all(&buffer[..length]).await.is_ok() => {}
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::Span;
    use tokio::time::timeout;

    #[tokio::test]
    async fn what_crosses_a_cut_link_waits_and_arrives_after_the_heal() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::to(listener.local_addr().unwrap().port()).await;
        let mut near = TcpStream::connect((Ipv4Addr::LOCALHOST, link.port())).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let mut byte = [0];
        near.write_all(b"1").await.unwrap();
        far.read_exact(&mut byte).await.unwrap();
        link.cut();
        near.write_all(b"2").await.unwrap();
        assert!(timeout(100.ms(), far.read_exact(&mut byte)).await.is_err(), "it is cut");
        link.heal();
        timeout(5.s(), far.read_exact(&mut byte))
            .await
            .expect("it is healed")
            .unwrap();
        assert_eq!(&byte, b"2");
        drop(near);
        assert_eq!(far.read(&mut byte).await.unwrap_or(0), 0);
    }
}
