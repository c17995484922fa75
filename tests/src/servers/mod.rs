//! What the programs speak to: key servers, providers, applications, collectors.

pub mod app;
pub mod authlib;
pub mod certificate;
pub mod collector;
pub mod http;
pub mod key_server;
pub mod openid;
/// Two CAs, and what they have signed.
pub mod pki;
/// An identity provider, as claims want it.
pub mod provider;
pub mod proxy;
pub mod tunnel;
pub mod upstream;
