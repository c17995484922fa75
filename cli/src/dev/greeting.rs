//! What is printed at the start: where everything is, and commands that work as they are printed.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::state::Addresses;

/// The name of this program, and of its package.
const NAME: &str = "countersign";

/// How a person has called this program, so that it can be called again.
pub(super) fn program() -> String {
    let exe = env::current_exe().unwrap_or_else(|_| PathBuf::from(NAME));
    let is_on_path = |name: &str| {
        let folders = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&folders)
            .map(|folder| folder.join(name))
            .find(|file| file.is_file());
        found.and_then(|file| file.canonicalize().ok()) == exe.canonicalize().ok()
    };
    called(&|name| env::var_os(name), &exe, is_on_path(NAME))
}

/// By `cargo run`, by its name, or by its path.
fn called(variable: &dyn Fn(&str) -> Option<OsString>, exe: &Path, is_on_path: bool) -> String {
    // Cargo says what it runs (https://doc.rust-lang.org/cargo/reference/environment-variables.html).
    let by_cargo = variable("CARGO").is_some() && variable("CARGO_PKG_NAME").is_some_and(|name| name == NAME);
    let folder = exe.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    match folder {
        Some(profile) if by_cargo => {
            let profile = match profile {
                "debug" => String::new(),
                "release" => "--release ".to_owned(),
                other => format!("--profile {other} "),
            };
            format!("cargo run --quiet {profile}--bin {NAME} --")
        }
        _ if is_on_path => NAME.to_owned(),
        _ => quoted(&exe.display().to_string()),
    }
}

/// As a shell reads it.
fn quoted(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    match path.bytes().all(plain) {
        true => path.to_owned(),
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// What a person at a terminal needs to begin with.
pub(super) fn text(Addresses { page, socket }: Addresses, program: &str) -> String {
    format!(
        "\
Countersign, all of it in this process. For development only: its key is public.

  the page       http://{page}
  the WebSocket  ws://{socket}

A message, a connection that stays open, and a token for a page of your own (allow it by --allowed-origins):

  {program} send --url ws://{socket} --token \"$({program} token mint alice)\" --payload '\"hello\"'
  {program} send --url ws://{socket} --token \"$({program} token mint alice)\" --interactive
  curl --json '{{\"subject\": \"alice\", \"expires_in_s\": 300}}' http://{page}/token

Ctrl-C ends it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_called_again_as_it_was_called() {
        let cargo = |package: &'static str| {
            move |name: &str| match name {
                "CARGO" => Some("cargo".into()),
                "CARGO_PKG_NAME" => Some(package.into()),
                _ => None,
            }
        };
        let exe = |profile: &str| PathBuf::from(format!("/src/target/{profile}/countersign"));
        for (profile, flag) in [
            ("debug", ""),
            ("release", "--release "),
            ("simulation", "--profile simulation "),
        ] {
            assert_eq!(
                called(&cargo("countersign"), &exe(profile), true),
                format!("cargo run --quiet {flag}--bin countersign --")
            );
        }
        // Its tests are run by cargo, too.
        assert_eq!(called(&cargo("tests"), &exe("debug"), true), "countersign");
        assert_eq!(
            called(&|_| None, &exe("release"), false),
            "/src/target/release/countersign"
        );
        assert_eq!(called(&|_| None, Path::new("/a b/it's"), false), r"'/a b/it'\''s'");
    }
}
