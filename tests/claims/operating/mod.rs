//! What operators configure, read and run.

pub(crate) mod asyncapi;
pub(crate) mod audit;
pub(crate) mod documents;
pub(crate) mod explained;
pub(crate) mod forecast;
pub(crate) mod listening;
pub(crate) mod manifests;
pub(crate) mod monitoring;
pub(crate) mod operators;
pub(crate) mod printed;
pub(crate) mod rotation;
pub(crate) mod settings;
pub(crate) mod start;
pub(crate) mod structure;
pub(crate) mod vocabulary;
