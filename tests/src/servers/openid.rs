//! A certified OpenID provider that others have written (`oidc-provider` from npm), and a person at a browser of theirs:
//! see `tests/provider`.

use std::{
    env, fs,
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::nodes::process::Process;
use crate::nodes::watchdog::Folder;
use crate::servers::http;
use crate::skip::skip;
use crate::wait::{Span, eventually};

/// The oldest Node that its packages run on.
const OLDEST_NODE: u32 = 20;

/// A running provider. It ends with this value.
#[derive(Debug)]
pub struct OpenId {
    issuer: String,
    _process: Process,
    folder: Folder,
}

impl OpenId {
    /// For whom its access tokens are.
    pub const AUDIENCE: &str = "https://chat.example.com";
    /// Who logs in there, and is told of logouts.
    pub const CLIENT: &str = "chat-web";

    /// Starts one that tells of logouts at this URL; nothing where there is no Node, or its packages cannot be had, which
    /// is told to `.ci/run`.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(events_url: &str) -> Option<Self> {
        if let Err(reason) = install() {
            skip("real provider", reason);
            return None;
        }
        let folder = Folder::new("provider");
        let mut command = Command::new("node");
        command
            .arg(home().join("provider.mjs"))
            .arg(events_url)
            .stdout(File::create(folder.join("stdout")).expect("a file for stdout"))
            .stderr(File::create(folder.join("stderr")).expect("a file for stderr"));
        let mut process = Process::spawn(&mut command);
        let issuer = eventually(120.s(), "the provider says who it is", async || {
            assert!(process.exit_status().is_none(), "{}", read(&folder.join("stderr")));
            let told = read(&folder.join("stdout"));
            let line = told.strip_suffix('\n').ok_or("it does not yet")?;
            let line: Value = serde_json::from_str(line).map_err(|_| "that is no JSON")?;
            line["issuer"].as_str().map(str::to_owned).ok_or("it does not")
        })
        .await;
        Some(Self {
            issuer,
            _process: process,
            folder,
        })
    }

    /// Who it is.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Logs someone in, who gives consent, and returns their access token.
    pub async fn login(&self, subject: &str) -> String {
        self.control(&format!("login?sub={subject}"), "").await
    }

    /// Logs them out, and returns what came of telling of it.
    pub async fn logout(&self, subject: &str) -> String {
        self.control(&format!("logout?sub={subject}"), "").await
    }

    /// Has other keys from now on.
    pub async fn rotate_keys(&self) {
        self.control("rotate", "").await;
    }

    /// These claims under this `typ`, signed by its present key and the library that it signs with.
    pub async fn sign(&self, typ: &str, claims: &Value) -> String {
        self.control(&format!("sign?typ={}", typ.replace('+', "%2B")), &claims.to_string())
            .await
    }

    async fn control(&self, command: &str, body: &str) -> String {
        let address = self.issuer.trim_start_matches("http://").parse().expect("an address");
        let answer = http::post(address, &format!("/control/{command}"), &[], body.as_bytes()).await;
        let answer = answer.unwrap_or_else(|error| panic!("{command}: {error}; {}", read(&self.folder.join("stderr"))));
        assert_eq!(answer.status, 200, "{command}: {answer:?}");
        answer.body
    }
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("provider")
}

/// Has its packages as the lockfile names them.
fn install() -> Result<(), &'static str> {
    let version = Command::new("node").args(["-p", "process.versions.node"]).output();
    let major = version.ok().and_then(|output| {
        let text = String::from_utf8(output.stdout).ok()?;
        text.split('.').next()?.trim().parse::<u32>().ok()
    });
    if major.is_none_or(|major| major < OLDEST_NODE) {
        return Err("needs Node 20 or newer");
    }
    let changed = |path: &str| fs::metadata(home().join(path)).and_then(|it| it.modified()).ok();
    let installed = changed("node_modules/.package-lock.json");
    if installed.is_some() && installed >= changed("package-lock.json") {
        return Ok(());
    }
    let mut npm = Command::new("npm");
    npm.args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefer-offline",
        "--fetch-retries=1",
    ]);
    match npm.args(["--loglevel=error"]).current_dir(home()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err("its packages cannot be fetched from the npm registry"),
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
