//! Files that an argument names, as a setting of the programs does: a path, or `off`.

use std::path::PathBuf;

use shared::service::config::Value as _;

/// One, or none.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileArg(pub(crate) Option<PathBuf>);

/// Reads it.
///
/// # Errors
/// What is wanted.
pub(crate) fn parse(text: &str) -> Result<FileArg, String> {
    Option::<PathBuf>::parse(text)
        .map(FileArg)
        .map_err(|want| format!("want {want}"))
}
