//! What a worker within another program needs of its settings: keys that are kept up to date.

use std::sync::Arc;

use shared::credentials::Register;
use tokio::task::JoinHandle;

use super::start::{self, StartError};
use crate::config::WorkerConfig;
use crate::token::Verifier;

/// Keeps the keys of a verifier up to date, until it is dropped.
pub struct KeyRefreshing(JoinHandle<()>);

impl Drop for KeyRefreshing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The verifier of these settings. Every key server has been asked once.
///
/// It must be called within a tokio runtime.
///
/// # Errors
/// What is wrong with the keys.
pub async fn verifier(config: &WorkerConfig) -> Result<(Arc<Verifier>, KeyRefreshing), StartError> {
    let (verifier, contents) = start::verifier(config)?;
    let refresher = start::refresher(config, contents, &verifier, &Register::default()).await?;
    Ok((verifier, KeyRefreshing(tokio::spawn(refresher.run()))))
}
