//! A real nginx or HAProxy before a terminator, configured as `docs/proxies.md` has it.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::net::TcpStream;

use crate::nodes::{port::free_port, process::Process, watchdog::Folder};
use crate::servers::certificate::{CERTIFICATE, PRIVATE_KEY};
use crate::wait::{Span, eventually};

/// A section of the page: what stands there for the proxy and for the terminator.
#[derive(Debug)]
pub struct Recipe {
    proxy: String,
    settings: Vec<(String, String)>,
}

/// A proxy. It ends with this value.
#[derive(Debug)]
pub struct Proxy {
    _process: Process,
    _folder: Folder,
    /// Where clients connect.
    pub address: SocketAddr,
}

/// Where pieces of the page are on this machine.
#[derive(Debug)]
pub struct Place {
    folder: Folder,
}

impl Place {
    /// A folder with a certificate and room for a unix socket.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let folder = Folder::new("proxied");
        for (name, text) in [
            ("cert.pem", CERTIFICATE.to_owned()),
            ("key.pem", PRIVATE_KEY.to_owned()),
            ("both.pem", [CERTIFICATE, PRIVATE_KEY].concat()),
        ] {
            fs::write(folder.join(name), text).expect("a file of our own");
        }
        Self { folder }
    }

    fn localized(&self, text: &str) -> String {
        let here = |name: &str| self.folder.join(name).to_str().expect("a path in ASCII").to_owned();
        text.replace("/etc/haproxy/app.example.com.pem", &here("both.pem"))
            .replace("/etc/ssl/app.example.com.pem", &here("cert.pem"))
            .replace("/etc/ssl/app.example.com.key", &here("key.pem"))
            .replace("/run/countersign/terminator.sock", &here("terminator.sock"))
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Recipe {
    /// The recipe of that section.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn of(section: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/proxies.md");
        let page = fs::read_to_string(path).expect("the page");
        let (_, behind) = page
            .split_once(&format!("\n## {section}\n"))
            .unwrap_or_else(|| panic!("no section {section}"));
        let behind = behind.split("\n## ").next().unwrap_or_default();
        let block = |language: &str| {
            let (_, block) = behind.split_once(&format!("```{language}\n"))?;
            Some(block.split("```").next().unwrap_or_default())
        };
        let proxy = block("nginx").or_else(|| block("haproxy")).expect("a configuration");
        let setting = |line: &str| {
            let (name, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
            (name.to_owned(), value.replace(['[', ']', '"'], ""))
        };
        Self {
            proxy: proxy.to_owned(),
            settings: block("toml").expect("settings").lines().map(setting).collect(),
        }
    }

    /// The terminator's settings.
    #[must_use]
    pub fn settings(&self, place: &Place) -> Vec<(String, String)> {
        let local = |(name, value): &(String, String)| (name.clone(), place.localized(value));
        self.settings.iter().map(local).collect()
    }

    /// Starts the proxy before a terminator, and returns when it listens.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub async fn start(&self, place: &Place, terminator: Option<SocketAddr>, admin: SocketAddr) -> Proxy {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let folder = Folder::new("proxy");
        let terminator = terminator.map_or_else(String::new, |address| address.to_string());
        let mut own = place
            .localized(&self.proxy)
            .replace("127.0.0.1:8080", &terminator)
            .replace("check port 9090", &format!("check inter 200ms port {}", admin.port()));
        for (theirs, ours) in [
            ("listen 80;", format!("listen {address};")),
            ("listen 443 ssl;", format!("listen {address} ssl;")),
            ("bind :80\n", format!("bind {address}\n")),
            ("bind :443", format!("bind {address}")),
        ] {
            own = own.replace(theirs, &ours);
        }
        let mut command = match own.contains("frontend ") {
            true => haproxy(&folder, &own),
            false => nginx(&folder, &own),
        };
        let log = fs::File::create(folder.join("log")).expect("a file for its log");
        command.stdout(log.try_clone().expect("the same file")).stderr(log);
        let mut process = Process::spawn(&mut command);
        eventually(60.s(), "the proxy listens", async || {
            let ended = process.exit_status();
            let log = || fs::read_to_string(folder.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "the proxy ended: {}\n{own}", log());
            TcpStream::connect(address).await.map(drop)
        })
        .await;
        Proxy {
            _process: process,
            _folder: folder,
            address,
        }
    }
}

/// As Debian has it around what is included in `/etc/nginx/sites-enabled`.
fn nginx(folder: &Folder, server: &str) -> Command {
    let at = folder.path().display();
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let user = if is_root { "user root;" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
        .collect();
    let text = format!(
        "{user}\nworker_processes 1;\ndaemon off;\npid {at}/pid;\nerror_log stderr;\nevents {{ worker_connections 4096; }}\n\
         http {{\naccess_log off;\n{temporary}{server}}}\n"
    );
    let mut command = Command::new(program("nginx"));
    command
        .args(["-e", "stderr", "-c"])
        .arg(written(folder, &text))
        .arg("-p")
        .arg(folder.path());
    command
}

/// As Debian has it before what one adds.
fn haproxy(folder: &Folder, sections: &str) -> Command {
    let text = format!(
        "global\n    maxconn 4096\ndefaults\n    timeout connect 5000\n    timeout client 50000\n    timeout server 50000\n\n{sections}"
    );
    let mut command = Command::new(program("haproxy"));
    command.args(["-db", "-f"]).arg(written(folder, &text));
    command
}

fn written(folder: &Folder, text: &str) -> PathBuf {
    let path = folder.join("conf");
    fs::write(&path, text).expect("a file of our own");
    path
}

/// Debian has them where users' shells do not look.
fn program(name: &str) -> PathBuf {
    let path = Path::new("/usr/sbin").join(name);
    if path.exists() { path } else { name.into() }
}
