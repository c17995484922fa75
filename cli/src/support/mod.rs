//! What the subcommands share: reaching broker and store, reading and printing.

pub(crate) mod broker;
pub(crate) mod dev_key;
pub(crate) mod human;
pub(crate) mod lines;
pub(crate) mod message;
pub(crate) mod print;
pub(crate) mod rpc_client;
pub(crate) mod settings_file;
pub(crate) mod store;
pub(crate) mod ws;
