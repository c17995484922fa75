//! Keys and tokens.

pub mod auth;
pub mod key;
pub mod token;
