//! TLS for a client that has none: what connects here in the clear goes on encrypted.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::servers::pki;

/// It ends with this value, and its connections with it.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Tunnel {
    /// To the server `localhost` there.
    ///
    /// # Panics
    /// If there is no port.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        Self {
            address: listener.local_addr().expect("its port"),
            task: tokio::spawn(run(listener, server)),
        }
    }

    /// Where it begins.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(listener: TcpListener, server: SocketAddr) {
    let mut open = JoinSet::new();
    while let Ok((mut plain, _)) = listener.accept().await {
        open.spawn(async move {
            let name = "localhost".try_into().expect("a name");
            let Ok(stream) = TcpStream::connect(server).await else {
                return;
            };
            let Ok(mut encrypted) = pki::connector().connect(name, stream).await else {
                return;
            };
            // Anyone who ends it, both are told.
            let _ = copy_bidirectional(&mut plain, &mut encrypted).await;
        });
        while open.try_join_next().is_some() {}
    }
}
