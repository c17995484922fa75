//! The ways in: what is listened to, by TCP and by unix sockets.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use shared::service::config::{Shown, Value};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::either::Either;

use super::stream::Stream;

/// How an address says that it is a unix socket.
const UNIX: &str = "unix:";
/// Anyone who is of the group may connect to a unix socket, and no one else.
const UNIX_MODE: u32 = 0o660;
/// The longest path of a unix socket (unix(7)), without the byte that ends it.
const MOST_PATH_BYTES: usize = 107;
/// How many connections may wait to be accepted; the kernel lowers it to its own limit.
const BACKLOG: i32 = 1_024;

/// Where clients are listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl Value for ListenAddress {
    fn parse(text: &str) -> Result<Self, String> {
        let wanted = || {
            "an IP address and a port, such as `127.0.0.1:8080` or `[::]:8080`, or a unix socket, such as \
             `unix:/run/countersign/terminator.sock`"
                .to_owned()
        };
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(Self::Tcp).map_err(|_| wanted());
        };
        let sound = path.starts_with('/') && path.len() <= MOST_PATH_BYTES && !path.contains(char::is_whitespace);
        sound.then(|| Self::Unix(path.into())).ok_or_else(wanted)
    }

    fn show(&self) -> Shown {
        self.to_string().into()
    }
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

/// What is listened to.
#[derive(Debug)]
pub(crate) enum Door {
    Tcp(TcpListener),
    Unix(UnixDoor),
}

/// A unix socket, whose file goes with it.
#[derive(Debug)]
pub(crate) struct UnixDoor {
    socket: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens one of several.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) async fn open(address: &ListenAddress, all: &[ListenAddress]) -> io::Result<Self> {
        match address {
            ListenAddress::Tcp(address) => tcp(*address, all).map(Self::Tcp),
            ListenAddress::Unix(path) => UnixDoor::open(path).await.map(Self::Unix),
        }
    }

    /// Where it is, if that is an address.
    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Its URL, by the scheme of WebSockets.
    pub(crate) fn url(&self, scheme: &str) -> Option<String> {
        match self {
            Self::Tcp(_) => Some(format!("{scheme}://{}", self.addr()?)),
            Self::Unix(door) => Some(format!("{scheme}+unix:{}", door.path.display())),
        }
    }

    /// The next connection, and where it is from; nothing by a unix socket.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, address) = socket.accept().await?;
                // Answers are small and must not wait for company.
                let _ = stream.set_nodelay(true);
                Ok((Either::Left(stream), Some(address.ip())))
            }
            Self::Unix(door) => {
                let (stream, _) = door.socket.accept().await?;
                Ok((Either::Right(Box::new(stream)), None))
            }
        }
    }
}

fn tcp(address: SocketAddr, all: &[ListenAddress]) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // `[::]` takes IPv4 as well, unless that has an address of its own here.
    let has_own = |other: &ListenAddress| matches!(other, ListenAddress::Tcp(other) if other.is_ipv4() && other.port() == address.port());
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && all.iter().any(has_own) {
        socket.set_only_v6(true)?;
    }
    // A port whose last connections are still closing is free.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

impl UnixDoor {
    async fn open(path: &Path) -> io::Result<Self> {
        clear(path).await?;
        let socket = UnixListener::bind(path)?;
        let door = Self {
            socket,
            path: path.to_owned(),
        };
        std::fs::set_permissions(path, PermissionsExt::from_mode(UNIX_MODE))?;
        Ok(door)
    }
}

/// Takes away the socket of a process that was killed, and nothing else.
async fn clear(path: &Path) -> io::Result<()> {
    let Ok(there) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !there.file_type().is_socket() {
        return Err(io::Error::new(
            ErrorKind::AlreadyExists,
            "a file that is no socket is there",
        ));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) => Err(error),
        Ok(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

impl Drop for UnixDoor {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_shown_alike() {
        for text in ["127.0.0.1:8080", "[::]:80", "unix:/run/countersign/terminator.sock"] {
            assert_eq!(ListenAddress::parse(text).unwrap().show(), text.into());
        }
        let long = format!("unix:/{}", "x".repeat(107));
        for wrong in ["", "8080", "unix:", "unix:socket", "unix:/a b", "/run/socket", &long] {
            let wanted = ListenAddress::parse(wrong).unwrap_err();
            assert!(
                wanted.contains("unix:/run") && wanted.contains("127.0.0.1:8080"),
                "{wrong}"
            );
        }
    }

    #[tokio::test]
    async fn both_families_of_all_addresses_share_a_port() {
        let free = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let all = ["0.0.0.0", "[::]"].map(|ip| ListenAddress::parse(&format!("{ip}:{free}")).unwrap());
        let first = Door::open(&all[0], &all).await.unwrap();
        let second = Door::open(&all[1], &all).await.unwrap();
        assert_eq!(
            [first.addr(), second.addr()].map(|addr| addr.unwrap().port()),
            [free; 2]
        );
    }

    #[tokio::test]
    async fn a_unix_socket_takes_the_place_of_a_dead_one_and_of_nothing_else() {
        let folder = std::env::temp_dir().join(format!("doors-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let address = |name: &str| ListenAddress::Unix(folder.join(name));
        let open = async |name: &str| Door::open(&address(name), &[]).await;
        let first = open("socket").await.unwrap();
        let mode = std::fs::metadata(folder.join("socket")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, UNIX_MODE);
        assert_eq!(open("socket").await.unwrap_err().kind(), ErrorKind::AddrInUse);
        drop(first);
        assert!(!folder.join("socket").exists(), "its file goes with it");
        // Of a process that was killed.
        drop(std::os::unix::net::UnixListener::bind(folder.join("socket")).unwrap());
        assert!(folder.join("socket").exists());
        open("socket").await.unwrap();
        std::fs::write(folder.join("file"), "precious").unwrap();
        assert_eq!(open("file").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(folder.join("file")).unwrap(), "precious");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
