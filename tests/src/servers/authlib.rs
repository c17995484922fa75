//! What another library signs (Authlib from PyPI): see `tests/provider/sign.py`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::skip::skip;

/// Keys that it made, and what it signed with them.
#[derive(Debug, Deserialize)]
pub struct Authlib {
    jwks: Value,
    signed: Vec<String>,
}

/// Something to be signed.
#[derive(Debug, Serialize)]
pub struct Unsigned {
    /// By a key for this algorithm.
    pub alg: &'static str,
    /// The header member, if it has one.
    pub typ: Option<&'static str>,
    /// What it says.
    pub claims: Value,
}

impl Authlib {
    /// The algorithms for which it makes keys.
    pub const ALGORITHMS: [&str; 5] = ["RS256", "PS256", "ES256", "ES384", "EdDSA"];

    /// Makes a key for each algorithm that occurs, and signs. Nothing where there is no Python, or its package cannot be had,
    /// which is told to `.ci/run`.
    ///
    /// # Panics
    /// If it does not sign.
    #[must_use]
    pub fn sign(unsigned: &[Unsigned]) -> Option<Self> {
        if let Err(reason) = install() {
            skip("Authlib", reason);
            return None;
        }
        let mut command = Command::new(python());
        let command = command.arg(home().join("sign.py")).stdin(Stdio::piped());
        let mut python = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let asked = serde_json::to_vec(unsigned).expect("it is JSON");
        python
            .stdin
            .take()
            .expect("it has one")
            .write_all(&asked)
            .expect("it reads");
        let output = python.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{output:?}");
        Some(serde_json::from_slice(&output.stdout).expect("it says what it has signed"))
    }

    /// The public keys, as it publishes them.
    #[must_use]
    pub fn jwks(&self) -> String {
        self.jwks.to_string()
    }

    /// What it signed, in the order in which it was asked.
    #[must_use]
    pub fn signed(&self) -> &[String] {
        &self.signed
    }
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("provider")
}

fn python() -> PathBuf {
    home().join(".venv/bin/python")
}

/// Has its package, in the version that is named.
fn install() -> Result<(), &'static str> {
    let changed = |path: &str| fs::metadata(home().join(path)).and_then(|it| it.modified()).ok();
    let installed = changed(".venv/installed");
    if installed.is_some() && installed >= changed("requirements.txt") {
        return Ok(());
    }
    let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    if !done(Command::new("python3").args(["-m", "venv"]).arg(home().join(".venv"))) {
        return Err("needs Python 3.11 or newer, with venv");
    }
    let requirements = home().join("requirements.txt");
    let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
    if !done(Command::new(python()).args(pip).arg(requirements)) {
        return Err("its package cannot be fetched from PyPI");
    }
    fs::write(home().join(".venv/installed"), "").map_err(|_| "its folder cannot be written")
}
