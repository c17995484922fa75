//! Authenticates every message by its own token, handles it, answers.
//!
//! A worker trusts nothing that a message says about its sender but the token
//! it carries. [`token`] turns the text of a JWT into a verdict, and it is the
//! only place where an [`identity`] comes into being.

pub mod identity;
pub mod token;
