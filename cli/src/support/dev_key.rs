//! The development key: for development only, and never for anything else.
//!
//! Its secret stands here, in public source code, so a token that it signs
//! proves nothing. It exists so that the first message can be sent without
//! making a key first: `token mint` signs with it unless told otherwise, `dev`
//! and `bench --stack` verify with it. A worker that is started on its own knows
//! nothing of it and must be told its keys.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
#[cfg(test)]
use std::path::Path;
use std::path::PathBuf;

/// At least 32 bytes, as HS256 wants them (RFC 7518 §3.2).
pub(crate) const SECRET: &[u8] = b"for-development-only-everybody-knows-this-secret-of-countersign";

/// The `iss` of development tokens.
pub(crate) const ISSUER: &str = "countersign-dev";

/// The `aud` of development tokens.
pub(crate) const AUDIENCE: &str = "countersign";

/// The secret as a file, as `jwt-keys` wants it; gone when dropped.
pub(crate) struct SecretFile(PathBuf);

impl SecretFile {
    /// Writes a new file among the temporary ones, readable to its owner alone.
    ///
    /// # Errors
    /// The operating system's.
    pub(crate) fn create() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("countersign-dev-{:016x}.secret", rand::random::<u64>()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let file_guard = Self(path);
        file.write_all(SECRET)?;
        Ok(file_guard)
    }

    /// It as an entry of `jwt-keys`.
    pub(crate) fn entry(&self) -> String {
        format!("{}{}", worker::token::keys::source::SECRET, self.0.display())
    }

    /// Where it is.
    #[cfg(test)]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        // What cannot be removed holds nothing that is not public.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_long_enough_for_hs256() {
        const { assert!(SECRET.len() >= 32) }
    }

    #[test]
    fn the_secret_file_goes_with_its_guard() {
        let file = SecretFile::create().unwrap();
        let path = file.path().to_owned();
        assert_eq!(fs::read(&path).unwrap(), SECRET);
        drop(file);
        assert!(!path.exists());
    }
}
