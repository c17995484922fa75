//! Reading a file that someone else writes: it may be half of one, a folder, a pipe, or a disk's worth.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;

/// The largest file that is read: 1 MiB, as much as 1,000 keys of RSA-4096 take as a JWKS.
pub const MOST_BYTES: usize = 1_024 * 1_024;

/// Why a file has nothing for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileFault {
    /// It is not there, or not ours to read.
    #[error("cannot be read: {}", why_unreadable(*.0))]
    Unreadable(io::ErrorKind),
    /// It is a folder, or a pipe whose reader would wait for ever.
    #[error("is not a regular file")]
    NotAFile,
    /// No one needs that much.
    #[error("is larger than {MOST_BYTES} bytes")]
    TooLarge,
    /// What was looked for in it is not there, or wrong.
    #[error("{0}")]
    Content(String),
}

/// The operating system's word for why a file cannot be read, in words that a person would use.
pub fn why_unreadable(kind: io::ErrorKind) -> String {
    match kind {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        other => other.to_string(),
    }
}

/// What is in a file.
///
/// # Errors
/// Why it cannot be had.
pub fn read(path: &Path) -> Result<Bytes, FileFault> {
    let unreadable = |error: io::Error| FileFault::Unreadable(error.kind());
    // To open a pipe is to wait for anyone who writes into it.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(FileFault::NotAFile);
    }
    let mut content = Vec::new();
    let limit = MOST_BYTES as u64 + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut content));
    read.map_err(unreadable)?;
    if content.len() > MOST_BYTES {
        Err(FileFault::TooLarge)
    } else {
        Ok(content.into())
    }
}

/// A file's name as it may be printed: `***` if it is no name of one, since it may be a secret that someone wrote in place of
/// the file that holds it.
pub fn shown(path: &Path) -> String {
    let in_a_folder = path
        .parent()
        .is_some_and(|folder| !folder.as_os_str().is_empty() && folder.is_dir());
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-/\\: ".contains(byte);
    let plain_name = path.as_os_str().as_encoded_bytes().iter().all(plain);
    let is_name = path.exists() || in_a_folder && plain_name || path.extension().is_some_and(is_of_keys);
    if is_name {
        path.display().to_string()
    } else {
        "***".to_owned()
    }
}

/// What files of keys are called.
fn is_of_keys(extension: &OsStr) -> bool {
    let known = [
        "pem", "der", "crt", "cer", "key", "pub", "json", "jwk", "jwks", "txt", "secret", "toml",
    ];
    known.iter().any(|one| extension.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = std::env::temp_dir().join(format!("credentials-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let pipe = folder.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        assert_eq!(read(&pipe), Err(FileFault::NotAFile));
        assert_eq!(read(&folder), Err(FileFault::NotAFile));
        assert_eq!(
            read(&folder.join("none")),
            Err(FileFault::Unreadable(io::ErrorKind::NotFound))
        );
        let fault = read(&folder.join("none")).unwrap_err();
        assert_eq!(fault.to_string(), "cannot be read: there is no such file");
        let large = folder.join("large");
        File::create(&large).unwrap().set_len(100 << 20).unwrap();
        assert_eq!(read(&large), Err(FileFault::TooLarge));
        fs::write(folder.join("small"), "s").unwrap();
        assert_eq!(read(&folder.join("small")), Ok(Bytes::from_static(b"s")));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_password_in_place_of_a_path_is_not_printed() {
        assert_eq!(shown(Path::new("hunter2!")), "***");
        assert_eq!(shown(Path::new("/etc/hostname")), "/etc/hostname");
        assert_eq!(shown(Path::new("/nowhere/tls.pem")), "/nowhere/tls.pem");
    }
}
