//! Nothing that this machine has on its disk becomes a secret without being named one.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::Algorithm;

use super::signer::load;

/// Where machines keep certificates, pages, archives, programs, and keys of all forms.
const FOLDERS: [&str; 7] = [
    "/etc",
    "/usr/share/ca-certificates",
    "/usr/share/doc",
    "/usr/share",
    "/usr/lib",
    "/usr/bin",
    concat!(env!("CARGO_MANIFEST_DIR"), "/.."),
];

/// From each of them.
const MOST_FILES: usize = 800;
/// Longer ones are cut: a reader that is wrong is so at the beginning.
const MOST_BYTES: usize = 32 * 1_024;
/// A machine with fewer shows nothing.
const LEAST_FILES: usize = 2_000;

/// Files of a folder and those below, without links, in no order, so many at most.
fn files(folder: &Path, most: usize) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && entry.file_name() != "target" => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
            if found.len() >= most {
                return found;
            }
        }
    }
    found
}

#[test]
fn no_file_of_this_machine_becomes_a_secret_that_is_not_named_one() {
    let (mut seen, mut keys) = (0, 0);
    for folder in FOLDERS {
        for path in files(Path::new(folder), MOST_FILES) {
            let Ok(mut content) = fs::read(&path) else { continue };
            content.truncate(MOST_BYTES);
            // Whole, half written, and as an editor leaves it.
            let half = content[..content.len() / 2].to_vec();
            let trimmed = content.trim_ascii().to_vec();
            for content in [content, half, trimmed] {
                seen += 1;
                let named_in_a_set = content.windows(5).any(|part| part == b"\"oct\"");
                // As long as secrets are: the others take their time.
                let is_prose = content.len() < 1_024
                    && str::from_utf8(&content).is_ok_and(|text| text.trim().contains(char::is_whitespace));
                assert!(
                    !is_prose || load("hmac:file", content.clone()).is_err(),
                    "{} can be named a secret",
                    path.display()
                );
                let encoded = STANDARD.encode(&content);
                let Ok(loaded) = load("file", content) else { continue };
                // Keys in base64 are as public as the files.
                assert!(
                    load("hmac:file", encoded.into_bytes()).is_err(),
                    "{} can be named a secret in base64",
                    path.display()
                );
                keys += 1;
                for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                    assert!(
                        named_in_a_set || loaded.candidates(None, algorithm).is_err(),
                        "{} is a secret",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(
        seen >= LEAST_FILES,
        "only {seen} contents were read: the test has gone blind"
    );
    // The certificates of the CAs, at least where there are any.
    assert!(
        keys > 0 || !Path::new("/usr/share/ca-certificates").exists(),
        "nothing was a key"
    );
}
